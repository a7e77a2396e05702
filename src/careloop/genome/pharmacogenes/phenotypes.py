"""From a gene's result as a laboratory writes it (diplotype, activity score, phenotype) to CPIC's phenotype.

What is not in CPIC's tables, an unknown allele, a missing second allele or copy number, is Indeterminate: never normal.

The tables `pgx_alleles.csv` (alleles with function and activity score), `pgx_phenotypes.csv` (phenotype of two
functions) and `pgx_scores.csv` (phenotype of a summed activity score) are CPIC's (CC0), from pypgx 0.27.0 (MIT);
benchmarks/pgx_tables.py makes them and compares the phenotypes with pypgx's own. Activity scores: Caudle et al., Clin
Transl Sci 2020 (CYP2D6); Amstutz et al., Clin Pharmacol Ther 2018 (DPYD); Theken et al., 2020 (CYP2C9).
"""

from __future__ import annotations

import csv
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TABLES = Path(__file__).parent / "tables"
INDETERMINATE = "Indeterminate"
CONFLICT = "Conflicting results"
NOT_INDICATED = "Testing not indicated"  # somebody decided that the test is not needed for this patient
HLA = ("HLA-A", "HLA-B")
POSITIVE, NEGATIVE = "positive", "negative"
# Results of genes with one copy: males' X chromosome as pypgx writes it; mitochondrial DNA counts as two alike.
_ONE_COPY = {"G6PD": "MALE", "MT-RNR1": None}
_BY_BASE = ("VKORC1", "IFNL3")  # genes of one variant, whose genotype is also written as two bases
# Other names of alleles than those that the table itself gives in brackets; VKORC1 on either strand of rs9923231.
_OTHER_NAMES = {
    "G6PD": {"a-": "A- 202A_376G", "wild type": "B (reference)", "y": "MALE"},
    "DPYD": {"*1": "Reference", "hapb3": "c.1129-5923C>G, c.1236G>A (HapB3)"},
    "VKORC1": {"g": "Reference", "c": "Reference", "a": "rs9923231", "t": "rs9923231"}
    | {"-1639g": "Reference", "-1639a": "rs9923231"},
    "IFNL3": {"c": "Reference", "t": "rs12979860"},
}
_WORDS = {"metaboliser": "metabolizer", "extensive": "normal", "ultra rapid": "ultrarapid", "genotype": " "}
_SHORT = {
    "pm": "poor", "im": "intermediate", "nm": "normal", "em": "normal", "rm": "rapid", "um": "ultrarapid",
    "urm": "ultrarapid",
}  # fmt: skip
_CARRIER = {"positive": POSITIVE, "detected": POSITIVE, "present": POSITIVE, "carrier": POSITIVE} | {
    "negative": NEGATIVE, "not detected": NEGATIVE, "absent": NEGATIVE, "non carrier": NEGATIVE,
}  # fmt: skip
_WAIVED = {"testing not indicated", "test not indicated", "not indicated", "testing not needed"}
_SCORE = re.compile(r"(?:activity\s+score|as)\s*[:=]?\s*(\d+(?:\.\d+)?)", re.IGNORECASE)
_COPIES = re.compile(r"(.+?)\s*[xX×]\s*(?:(\d+)|(?:≥|>=)\s*(\d+)|(N))")
# `B*57:01:01G`, the old `B*570101`, or one field only; then the letter of expression (N: not expressed).
_HLA_ALLELE = re.compile(
    r"(?:HLA-)?(?P<locus>[AB])?\*?"
    r"(?:(\d{2,3}):(\d{2,3})(?::\d{2,3})*|(\d\d)(\d\d)(?:\d\d){0,2}|(\d{2,3}))(?P<expressed>[A-Z]?)",
    re.IGNORECASE,
)
STRAND_JOIN = " + "  # between the variants of one strand, for genes whose variants have an activity each (DPYD)
MANY_COPIES = (2, math.inf)  # `xN`: a duplication whose number of copies was not told


@dataclass(frozen=True)
class Genotype:
    """What is known of one gene of one patient.

    `phenotype` is CPIC's term, `Indeterminate`, `Conflicting results` or `Testing not indicated`; `score` the activity
    score where the gene has one and it is known; `recorded` the result as it was written; `alleles` the two HLA alleles
    (two fields, such as `57:01`) of an HLA gene, whose phenotype is asked allele by allele (`carrier`).
    """

    gene: str
    phenotype: str
    recorded: str
    score: float | None = None
    alleles: tuple[str, ...] = ()

    @property
    def results(self) -> tuple[str, ...]:
        """The names under which rules may know this result, the most specific first."""
        scored = () if self.score is None else (f"{self.phenotype} score {self.score:g}",)
        return (*scored, self.phenotype)


def genotype(gene: str, recorded: str) -> Genotype:
    """Read one result: a phenotype in words, an activity score (`AS 1.5`) or a diplotype.

    Diplotypes: `*1/*4`, `*1|*4`, `CYP2D6 *4/*10x2`, `(*36+*10)/*41`, alternatives as `*1/*3A or *3B/*3C`, which count
    only if all give the same phenotype. Phenotypes: CPIC's terms, `PM`, `poor metaboliser`, `extensive metabolizer`.
    The order of the two alleles does not matter. `gene` may be one HLA allele (`HLA-B*57:01`: positive, negative).
    """
    gene, text = _gene_name(gene), " ".join(recorded.split())
    words = _words(gene, text)
    if words in _WAIVED:
        return Genotype(gene, NOT_INDICATED, text)
    if gene.startswith(HLA):
        return _hla(gene, text, words)
    if words in _terms(gene):
        return Genotype(gene, _terms(gene)[words], text)
    if scored := _SCORE.fullmatch(_without_gene(gene, text)):
        return of_score(gene, float(scored[1]), recorded=text)
    found = {_of_diplotype(gene, one) for one in re.split(r"\s*;\s*|\s+or\s+", _without_gene(gene, text))}
    phenotypes, scores = {phenotype for phenotype, _ in found}, {score for _, score in found}
    phenotype = phenotypes.pop() if len(phenotypes) == 1 else INDETERMINATE
    return Genotype(gene, phenotype, text, score=scores.pop() if len(scores) == 1 else None)


def of_score(gene: str, score: float, *, recorded: str = "") -> Genotype:
    """The phenotype of a recorded activity score; Indeterminate for a gene without scores or one outside its range."""
    phenotype = _scored(gene, score, score)
    known = None if phenotype == INDETERMINATE else score
    return Genotype(gene, phenotype, recorded or f"activity score {score:g}", score=known)


def carrier(target: str, genotypes: Mapping[str, Genotype]) -> Genotype | None:
    """Whether an HLA allele such as `HLA-B*57:01` is carried, from its own test or from the typing of the gene.

    Positive if one typed allele is the target, to the two fields that guidelines use; negative only if both alleles are
    typed that far and neither is; else Indeterminate. A null allele (`*57:01N`) is not expressed: it settles nothing.
    None where nothing is known of the gene.
    """
    gene, _, wanted = target.partition("*")
    own, typed = genotypes.get(target), genotypes.get(gene)
    if typed is not None and typed.phenotype == INDETERMINATE:
        typed = Genotype(target, _carried(wanted, typed.alleles), typed.recorded)
    if own is None or typed is None or own.phenotype == typed.phenotype:
        return own or typed
    if {own.phenotype, typed.phenotype} == {POSITIVE, NEGATIVE}:
        return Genotype(target, CONFLICT, f"{own.recorded}, {typed.recorded}")
    return next((each for each in (own, typed) if each.phenotype in (POSITIVE, NEGATIVE)), own)


def _carried(wanted: str, alleles: tuple[str, ...]) -> str:
    if wanted in alleles:
        return POSITIVE
    open_ = any(":" not in allele and wanted.startswith(allele) for allele in alleles)
    return NEGATIVE if len(alleles) == 2 and not open_ else INDETERMINATE


def _gene_name(gene: str) -> str:
    gene = gene.strip().upper()
    two_fields = _two_fields(gene, gene) if gene.startswith(HLA) else ""
    return f"{gene[:5]}*{two_fields}" if ":" in two_fields else gene


def _two_fields(gene: str, text: str) -> str:
    """An HLA allele to two fields (`57:01`), to one where no more was typed, else empty."""
    found = _HLA_ALLELE.fullmatch(text.strip())
    if not found or found["expressed"].upper() == "N" or (found["locus"] or gene[4]).upper() != gene[4]:
        return ""
    return ":".join(filter(None, found.group(2, 3, 4, 5, 6)))


def _without_gene(gene: str, text: str) -> str:
    return re.sub(rf"\b{re.escape(gene)}\b\s*:?\s*", "", text, flags=re.IGNORECASE).strip()


def _words(gene: str, text: str) -> str:
    """A phenotype in words, in one spelling."""
    words = " ".join(re.split(r"[\s_-]+", _without_gene(gene, text).lower()))
    for word, usual in _WORDS.items():
        words = words.replace(word, usual)
    if words in _SHORT and any(term.endswith("metabolizer") for term in _terms(gene)):
        words = f"{_SHORT[words]} metabolizer"
    return " ".join(words.split())


@cache
def _terms(gene: str) -> dict[str, str]:
    """CPIC's phenotypes of the gene by their words in lower case, with and without the gene's name."""
    names = {row["phenotype"] for name in ("phenotypes", "scores") for row in table(name) if row["gene"] == gene}
    spelled = {" ".join(re.split(r"[\s-]+", name.lower())): name for name in names}
    bare = {_without_gene(gene, words): name for words, name in spelled.items()}
    return {**bare, **spelled, "indeterminate": bare.get("indeterminate", INDETERMINATE)}


def _of_diplotype(gene: str, text: str) -> tuple[str, float | None]:
    """Phenotype and activity score of one diplotype; Indeterminate where it does not name two known alleles."""
    strands = [re.sub(r"^[(\[](.*)[)\]]$", r"\1", strand.strip()) for strand in re.split(r"[/|]", text)]
    bases = strands[0].removeprefix("-1639").strip()
    if len(strands) == 1 and gene in _BY_BASE and re.fullmatch(r"[ACGT]{2}", bases):
        strands = list(bases)
    if len(strands) == 1 and gene in _ONE_COPY:
        strands.append(_ONE_COPY[gene] or strands[0])
    if len(strands) != 2:
        return INDETERMINATE, None
    if any(row["gene"] == gene for row in table("scores")):
        return _by_score(gene, strands)
    first, second = sorted(_alleles(gene).get(_resolve(gene, strand), ("", ""))[0] for strand in strands)
    return _pairs().get((gene, first, second), INDETERMINATE), None


def _by_score(gene: str, strands: list[str]) -> tuple[str, float | None]:
    low = high = 0.0
    for strand in strands:
        if gene == "DPYD" and STRAND_JOIN in strand:
            strand = _least_active(gene, strand.split(STRAND_JOIN))
        for part in strand.split("+") if gene == "CYP2D6" else [strand]:
            name, (fewest, most) = _copies(part.strip())
            score = _alleles(gene).get(_resolve(gene, name), ("", ""))[1]
            if not score:
                return INDETERMINATE, None
            low += float(score) * fewest
            high += float(score) * most if float(score) else 0.0
    phenotype = _scored(gene, low, high)
    return phenotype, low if low == high and phenotype != INDETERMINATE else None


def _least_active(gene: str, names: list[str]) -> str:
    """The variant that decides a strand's activity (Amstutz et al. 2018); empty where one has no known activity."""
    scores = {name: _alleles(gene).get(_resolve(gene, name), ("", ""))[1] for name in names}
    return min(names, key=lambda name: float(scores[name])) if all(scores.values()) else ""


def _copies(text: str) -> tuple[str, tuple[float, float]]:
    """Allele and the fewest and most copies of it on the strand: `*10x2`, `*1x≥3`, `*1xN`."""
    found = _COPIES.fullmatch(text)
    if not found:
        return text, (1, 1)
    if found[2]:
        return found[1], (int(found[2]), int(found[2]))
    return found[1], (int(found[3]), math.inf) if found[3] else MANY_COPIES


def _scored(gene: str, low: float, high: float) -> str:
    """The phenotype that holds for all scores from `low` to `high`."""
    for row in table("scores"):
        below = float(row["below"] or math.inf)
        inside = high < below or high == below == math.inf
        if row["gene"] == gene and float(row["at_least"]) <= low and inside:
            return row["phenotype"]
    return INDETERMINATE


def _resolve(gene: str, name: str) -> str:
    """The table's name of an allele: as written, by another name, or its core allele (`*4.001`, PharmVar) by name."""
    known, name = _alleles(gene), name.strip()
    starred = f"*{name}" if name[:1].isdigit() else name
    for candidate in (name, starred, starred.upper(), re.sub(r"\.\d{3}$", "", starred)):
        if candidate in known:
            return candidate
    return _other_names(gene).get(name.lower(), "")


@cache
def _alleles(gene: str) -> dict[str, tuple[str, str]]:
    """(function class, activity score or empty) of the gene's alleles."""
    return {row["allele"]: (row["function"], row["score"]) for row in table("alleles") if row["gene"] == gene}


@cache
def _other_names(gene: str) -> dict[str, str]:
    """Names in lower case, from the table's `c.1905+1G>A (*2A)` and `Telti, Kobe`; one that two share is nobody's."""
    found = defaultdict(set)
    for name in _alleles(gene):
        split = re.fullmatch(r"(.+) \((.+)\)", name)
        for whole in (name, *(split.groups() if split else ())):
            for part in (whole, *whole.split(", ")):
                found[part.lower()].add(name)
    names = {other: owners.pop() for other, owners in found.items() if len(owners) == 1}
    reference = {word: "Reference" for word in ("ref", "wild type", "wt") if "Reference" in _alleles(gene)}
    return {**reference, **names, **_OTHER_NAMES.get(gene, {})}


@cache
def _pairs() -> dict[tuple[str, str, str], str]:
    return {(row["gene"], row["function"], row["other_function"]): row["phenotype"] for row in table("phenotypes")}


def _hla(gene: str, text: str, words: str) -> Genotype:
    """A carrier result of one allele, or the typing of the whole gene."""
    if "*" in gene:
        return Genotype(gene, _CARRIER.get(words.removeprefix("allele "), INDETERMINATE), text)
    alleles = tuple(_two_fields(gene, part) for part in re.split(r"[/|,;]", text))
    return Genotype(gene, INDETERMINATE, text, alleles=alleles)


@cache
def table(name: str) -> tuple[dict[str, str], ...]:
    """The rows of `pgx_NAME.csv`."""
    with (TABLES / f"pgx_{name}.csv").open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))
