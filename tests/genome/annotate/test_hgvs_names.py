"""HGVS names: applied to the sequence by an independent reader they give the changed sequence again."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from careloop.genome.annotate.consequence import coding_change
from careloop.genome.annotate.effects import change_of, effects_of
from careloop.genome.annotate.hgvs_dna import genomic_name, transcript_name
from careloop.genome.annotate.hgvs_protein import THREE_LETTERS, protein_name
from careloop.genome.annotate.transcript import Transcript

NUMBER = re.compile(r"(-|\*)?(\d+)([+-]\d+)?")
NAME = re.compile(
    r"([gcnm])\.([^_A-Zdi]+?)(?:_([^_A-Zdi]+?))?(?:([ACGTN])>([ACGTN])|(delins|del|dup|inv|ins)([ACGTN]*))$"
)
PAIRS = dict(zip("ACGTN", "TGCAN", strict=True))
CODONS = {
    "F": "TTT TTC", "L": "TTA TTG CTT CTC CTA CTG", "I": "ATT ATC ATA", "M": "ATG", "V": "GTT GTC GTA GTG",
    "S": "TCT TCC TCA TCG AGT AGC", "P": "CCT CCC CCA CCG", "T": "ACT ACC ACA ACG", "A": "GCT GCC GCA GCG",
    "Y": "TAT TAC", "*": "TAA TAG TGA", "H": "CAT CAC", "Q": "CAA CAG", "N": "AAT AAC", "K": "AAA AAG", "D": "GAT GAC",
    "E": "GAA GAG", "C": "TGT TGC", "W": "TGG", "R": "CGT CGC CGA CGG AGA AGG", "G": "GGT GGC GGA GGG",
}  # fmt: skip
AMINO = {codon: residue for residue, codons in CODONS.items() for codon in codons.split()}


def turned(bases: str) -> str:
    return "".join(PAIRS[base] for base in reversed(bases))


def numbers_of(transcript: Transcript) -> Callable[[str], int]:
    """Read a number of `c.` or `n.` as a genomic base, by listing all bases of the exons."""
    exonic = [at for start, end in transcript.exons for at in range(start, end)][:: transcript.strand]
    coded = {at for start, end in transcript.cds for at in range(start, end)}
    before = next((i for i, at in enumerate(exonic) if at in coded), 0)

    def genomic(text: str) -> int:
        side, number, beside = NUMBER.fullmatch(text).groups()  # type: ignore[union-attr]
        index = {None: before + int(number) - 1, "-": before - int(number), "*": before + len(coded) + int(number) - 1}
        return exonic[index[side]] + int(beside or 0) * transcript.strand

    return genomic


def applied(name: str, sequence: str, genomic: Callable[[str], int], strand: int) -> str:
    """The genome with a named change made in it."""
    match = NAME.fullmatch(name)
    assert match, name
    _, first, last, ref, alt, kind, bases = match.groups()
    ends = sorted(genomic(text) for text in (first, last or first))
    start, end = ends[0], ends[1] + 1
    inside = sequence[start:end]
    given = alt or bases
    new = given if strand > 0 else turned(given)
    if kind == "ins":
        assert end - start == 2
        return sequence[: start + 1] + new + sequence[start + 1 :]
    if ref:
        assert inside == (ref if strand > 0 else turned(ref))
    result = {None: new, "del": "", "dup": inside * 2, "inv": turned(inside), "delins": new}[kind]
    return sequence[:start] + result + sequence[end:]


def translated(bases: str) -> str:
    residues = ""
    for at in range(0, len(bases) - 2, 3):
        residues += AMINO.get(bases[at : at + 3], "X")
        if residues[-1] == "*":
            break
    return residues


def test_names_on_transcripts_and_genome_give_the_changed_sequence_again(gene_world: Any) -> None:
    kinds = set()
    checked = 0
    for variant in gene_world.variants:
        change = change_of(variant)
        want = gene_world.sequence[: change.start] + change.alt + gene_world.sequence[change.end :]
        name = genomic_name(change, "1", gene_world.fetch)
        assert applied(name.split(":")[1], gene_world.sequence, lambda text: int(text) - 1, 1) == want, name
        for transcript in gene_world.genes.near("1", change.start, change.end):
            name = transcript_name(change, transcript, gene_world.fetch)
            if not name:
                continue
            made = applied(name, gene_world.sequence, numbers_of(transcript), transcript.strand)
            assert made == want, (variant, name)
            kinds |= set(re.findall(r">|delins|del|dup|inv|ins", name))
            checked += 1
    assert kinds == {">", "delins", "del", "dup", "inv", "ins"}
    assert checked > 1000


def test_indels_are_named_at_their_most_3_prime_place(gene_world: Any) -> None:
    """Moving the named bases one further on the transcript's strand gives another sequence."""
    for variant in gene_world.variants:
        change = change_of(variant)
        for effect in effects_of(variant, gene_world.genes, gene_world.sequences, gene_world.fetch):
            match = re.fullmatch(r"[cn]\.([^_a-z]+)(?:_([^_a-z]+))?(del|dup)", effect.hgvs_c)
            if not match or effect.transcript is None:
                continue
            genomic, strand = numbers_of(effect.transcript), effect.transcript.strand
            ends = sorted(genomic(text) for text in (match[1], match[2] or match[1]))
            first, behind = (ends[0], ends[1] + 1) if strand > 0 else (ends[1], ends[0] - 1)
            assert gene_world.sequence[first] != gene_world.sequence[behind], (variant, effect.hgvs_c, change)


def protein_from(name: str, before: str) -> tuple[str, bool]:
    """The protein that a `p.` name describes, and whether it is told to its end."""
    one = {three: letter for letter, three in THREE_LETTERS.items()}
    letters = lambda text: "".join(one[text[i : i + 3]] for i in range(0, len(text), 3))  # noqa: E731
    text = name.removeprefix("p.(").removesuffix(")")
    if text == "=" or text.endswith("="):
        return before, True
    match = re.fullmatch(r"([A-Z][a-z]{2})(\d+)(?:_([A-Z][a-z]{2})(\d+))?(.*)", text)
    assert match, name
    first, last, rest = int(match[2]) - 1, int(match[4] or match[2]) - 1, match[5]
    assert before[first] == one[match[1]]
    assert before[last] == one[match[3] or match[1]], name
    if rest == "del":
        return before[:first] + before[last + 1 :], True
    if rest == "dup":
        return before[: last + 1] + before[first:], True
    for kind in ("delins", "ins"):
        if rest.startswith(kind):
            new = letters(rest.removeprefix(kind))
            made = before[: first + (kind == "ins")] + new + before[last + (kind == "delins") :]
            return (made[: made.index("*") + 1], True) if "*" in made else (made, True)
    found = re.fullmatch(r"([A-Z][a-z]{2})(?:(fs|ext)Ter(\d+|\?))?", rest)
    assert found, name
    made = before[:first] + one[found[1]]
    if not found[2]:
        return (made, True) if one[found[1]] == "*" else (made + before[first + 1 :], True)
    return made, False


def test_protein_names_agree_with_translating_the_changed_sequence(gene_world: Any) -> None:
    kinds: set[str] = set()
    for variant in gene_world.variants:
        change = change_of(variant)
        for transcript in gene_world.genes.near("1", change.start, change.end):
            coding = coding_change(change, transcript, gene_world.sequences)
            if coding is None:
                continue
            name = protein_name(coding)
            spliced = gene_world.sequences.of(transcript).bases
            mutated = spliced[: coding.start] + coding.alt + spliced[coding.end :]
            before, after = (translated(bases[transcript.cds_start :]) for bases in (spliced, mutated))
            coded = spliced[transcript.cds_start :]
            if len(mutated) != len(spliced) and mutated.endswith(coded):
                assert name == "p.(=)", (variant, name)  # only the leader is another
                continue
            if name == "p.(Met1?)":
                assert mutated[transcript.cds_start :][:3] != "ATG"
                continue
            made, whole = protein_from(name, before)
            if whole:
                assert made == after, (variant, name)
            else:
                assert after.startswith(made), (variant, name)
                count = name.rsplit("Ter", 1)[1].removesuffix(")")
                told = len(after) - len(made) + ("fs" in name)
                assert count == (str(told) if after.endswith("*") else "?"), (variant, name)
            kinds |= set(re.findall(r"=|fs|ext|delins|del|dup|ins", name)) or {"sub"}
    assert kinds == {"=", "fs", "ext", "delins", "del", "dup", "ins", "sub"}
