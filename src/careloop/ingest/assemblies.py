"""Human reference assemblies, and how a file's contig lengths and words tell which one it is on."""

from __future__ import annotations

# GenBank GCA_000001405.1, GCA_000001405.15 and GCA_009914755.4. No length stands in two assemblies.
ASSEMBLIES: dict[str, dict[str, int]] = {
    "GRCh37": {
        "1": 249250621, "2": 243199373, "3": 198022430, "4": 191154276, "5": 180915260, "6": 171115067, "7": 159138663,
        "8": 146364022, "9": 141213431, "10": 135534747, "11": 135006516, "12": 133851895, "13": 115169878,
        "14": 107349540, "15": 102531392, "16": 90354753, "17": 81195210, "18": 78077248, "19": 59128983,
        "20": 63025520, "21": 48129895, "22": 51304566, "X": 155270560, "Y": 59373566,
    },
    "GRCh38": {
        "1": 248956422, "2": 242193529, "3": 198295559, "4": 190214555, "5": 181538259, "6": 170805979, "7": 159345973,
        "8": 145138636, "9": 138394717, "10": 133797422, "11": 135086622, "12": 133275309, "13": 114364328,
        "14": 107043718, "15": 101991189, "16": 90338345, "17": 83257441, "18": 80373285, "19": 58617616,
        "20": 64444167, "21": 46709983, "22": 50818468, "X": 156040895, "Y": 57227415,
    },
    "T2T-CHM13v2.0": {
        "1": 248387328, "2": 242696752, "3": 201105948, "4": 193574945, "5": 182045439, "6": 172126628, "7": 160567428,
        "8": 146259331, "9": 150617247, "10": 134758134, "11": 135127769, "12": 133324548, "13": 113566686,
        "14": 101161492, "15": 99753195, "16": 96330374, "17": 84276897, "18": 80542538, "19": 61707364,
        "20": 66210255, "21": 45090682, "22": 51324926, "X": 154259566, "Y": 62460029,
    },
}  # fmt: skip
_BY_LENGTH = {(name, size): build for build, sizes in ASSEMBLIES.items() for name, size in sizes.items()}
_WORDS = {
    "GRCh37": ("grch37", "hg19", "b37", "hs37"),
    "GRCh38": ("grch38", "hg38", "b38", "hs38"),
    "T2T-CHM13v2.0": ("chm13", "t2t", "hs1."),
}


def build_of_length(chromosome: str, length: int) -> str | None:
    """The assembly whose chromosome (`1` ... `22`, `X`, `Y`, without `chr`) has this length in bases, or None."""
    return _BY_LENGTH.get((chromosome, length))


def builds_in_words(text: str) -> list[str]:
    """The assemblies that a reference's name or path mentions (`hs37d5.fa`, `GRCh38_full_analysis_set`)."""
    return [build for build, words in _WORDS.items() if any(word in text.lower() for word in words)]
