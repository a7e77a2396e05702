"""Generated cases whose truth is known by construction: the same two chromosomes spelled otherwise, or nearly so."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from careloop.genome.files.variant_file import open_variants
from careloop.genome.variants.compare import CompareOptions, compare

CASES = 50
SPACE = 1_000  # bases between two cases
WINDOW = 60  # bases of the reference that a case changes
Edit = tuple[int, str, str]  # start, ref, alt
Row = tuple[int, str, str, str]


def planted(rng: random.Random, ref: str) -> str:
    """A chromosome: the reference with a few changes, an indel among them more often than not."""
    out, at = "", 0
    for place in sorted(rng.sample(range(5, len(ref) - 12, 6), rng.randint(1, 4))):
        out += ref[at:place]
        kind = rng.choice(["snv", "mnp", "insertion", "deletion", "repeat"])
        at = place + {"snv": 1, "mnp": rng.randint(2, 3), "deletion": rng.randint(1, 5)}.get(kind, 0)
        if kind in ("snv", "mnp"):
            out += "".join(rng.choice("ACGT".replace(base, "")) for base in ref[place:at])
        elif kind == "insertion":
            out += "".join(rng.choices("ACGT", k=rng.randint(1, 5)))
        elif kind == "repeat":
            out += ref[place : place + rng.randint(1, 4)]  # a duplication: a shiftable insertion
    return out + ref[at:]


def spelled(rng: random.Random, ref: str, sequence: str) -> list[Edit]:
    """One of many alignments of a chromosome to the reference, its changes joined at random into larger ones.

    Costs and ties are drawn: an SNV may become an insertion and a deletion, an indel go anywhere in its repeat.
    """
    change, gap = rng.choice([1, 1, 3]), rng.choice([1, 2])
    cost = [[0] * (len(sequence) + 1) for _ in range(len(ref) + 1)]
    for i, j in product(range(len(ref) + 1), range(len(sequence) + 1)):
        if i or j:
            cost[i][j] = min(c for c, _ in steps(cost, ref, sequence, i, j, change, gap))
    i, j = len(ref), len(sequence)
    pieces: list[Edit] = []
    while i or j:
        best = cost[i][j]
        before_i, before_j = rng.choice([to for c, to in steps(cost, ref, sequence, i, j, change, gap) if c == best])
        if ref[before_i:i] != sequence[before_j:j]:
            pieces.append((before_i, ref[before_i:i], sequence[before_j:j]))
        i, j = before_i, before_j
    return joined(rng, ref, pieces[::-1])


def steps(cost, ref: str, sequence: str, i: int, j: int, change: int, gap: int) -> Iterator[tuple[int, tuple]]:
    if i and j:
        yield cost[i - 1][j - 1] + change * (ref[i - 1] != sequence[j - 1]), (i - 1, j - 1)
    if i:
        yield cost[i - 1][j] + gap, (i - 1, j)
    if j:
        yield cost[i][j - 1] + gap, (i, j - 1)


def joined(rng: random.Random, ref: str, pieces: list[Edit]) -> list[Edit]:
    """Touching gaps made one, and neighbours made one complex change with some probability."""
    distance = rng.choice([0, 0, 3, WINDOW])
    out: list[Edit] = []
    for start, old, new in pieces:
        if out:
            before, before_old, before_new = out[-1]
            end = before + len(before_old)
            touching = end == start and not (len(old) == len(new) and len(before_old) == len(before_new))
            if touching or start - end < distance:
                between = ref[end:start]
                out[-1] = (before, before_old + between + old, before_new + between + new)
                continue
        out.append((start, old, new))
    return out


def anchored(rng: random.Random, ref: str, edit: Edit) -> Edit:
    """An edit as a VCF record: none empty, and sometimes with bases that need not be there."""
    start, old, new = edit
    left = rng.choice([0, 0, 1, 3]) or (not (old and new))
    right = rng.choice([0, 0, 0, 2])
    end = start + len(old)
    return start - left, ref[start - left : end + right], ref[start - left : start] + new + ref[end : end + right]


@dataclass
class Spelling:
    """Records of one case; `phased` keeps what is on one chromosome together."""

    rows: list[Row]

    @classmethod
    def of(cls, rng: random.Random, ref: str, pair: tuple[str, str]) -> Spelling:
        phased = rng.random() < 0.5
        first = spelled(rng, ref, pair[0])
        second = list(first) if pair[0] == pair[1] else spelled(rng, ref, pair[1])
        where: dict[Edit, list[int]] = defaultdict(list)
        for side, edits in enumerate((first, second)):
            for edit in edits:
                where[edit].append(side)
        rows, alone = [], {}
        for edit, sides in where.items():
            start, old, new = anchored(rng, ref, edit)
            if len(sides) == 2 and rng.random() < 0.6:
                rows.append((start, old, new, "1|1" if phased else "1/1"))
                continue
            for side in sides:
                other = alone.pop((start, old, 1 - side), None)
                if other and other != new:  # two alleles of one place in one record
                    alts = (other, new) if side else (new, other)
                    rows.append((start, old, ",".join(alts), "1|2" if phased else "2/1"))
                elif other:
                    rows.append((start, old, new, "1|1"))
                else:
                    alone[start, old, side] = new
        for (start, old, side), new in alone.items():
            rows.append((start, old, new, ("0|1" if side else "1|0") if phased else rng.choice(["0/1", "1/0"])))
        return cls(sorted(rows))

    def pairs(self, ref: str) -> set[tuple[str, str]]:
        """Every pair of chromosomes that the records allow, as the sorted sequences."""
        free = [index for index, row in enumerate(self.rows) if "/" in row[3] and len(set(row[3].split("/"))) > 1]
        found = set()
        for flips in product((0, 1), repeat=len(free)):
            flipped = {index for index, flip in zip(free, flips, strict=True) if flip}
            pair = [self._applied(ref, side, flipped) for side in (0, 1)]
            if None not in pair:
                found.add(tuple(sorted(pair)))
        return found

    def _applied(self, ref: str, side: int, flipped: set[int]) -> str | None:
        edits = []
        for index, (start, old, alts, genotype) in enumerate(self.rows):
            allele = int(genotype[0::2][side ^ (index in flipped)])
            if allele:
                edits.append(trimmed(start, old, alts.split(",")[allele - 1]))
        out, at, inserted = "", 0, None
        for start, old, new in sorted(edits, key=lambda edit: (edit[0], len(edit[1]))):
            if start < at or (not old and start == inserted):  # overlapping, or two insertions of unknown order
                return None
            inserted = start if not old else inserted
            out, at = out + ref[at:start] + new, start + len(old)
        return out + ref[at:]


def trimmed(start: int, old: str, new: str) -> Edit:
    while old and new and old[0] == new[0]:
        start, old, new = start + 1, old[1:], new[1:]
    while old and new and old[-1] == new[-1]:
        old, new = old[:-1], new[:-1]
    return start, old, new


def equal_cases(seed: int, make_bases: Callable[..., str]) -> Iterator[tuple[str, Spelling, Spelling]]:
    """References of one case each with two spellings of the same pair, different and both able to give it."""
    rng = random.Random(seed)
    while True:
        ref = make_bases(rng, WINDOW)
        first, second = planted(rng, ref), planted(rng, ref)
        pair = rng.choice([(first, first), (first, ref), (first, second)])
        one, other = Spelling.of(rng, ref, pair), Spelling.of(rng, ref, pair)
        wanted = tuple(sorted(pair))
        few = len(one.rows) < 9 and len(other.rows) < 9
        if few and one.rows != other.rows and wanted in one.pairs(ref) and wanted in other.pairs(ref):
            yield ref, one, other


def different_cases(seed: int, make_bases: Callable[..., str]) -> Iterator[tuple[str, Spelling, Spelling]]:
    """The same with one thing changed, so that no phasing of either gives a pair of the other."""
    rng = random.Random(seed)
    for ref, one, other in equal_cases(seed + 1, make_bases):
        rows = list(other.rows)
        index = rng.randrange(len(rows))
        start, old, alts, genotype = rows[index]
        kind = rng.choice(["base", "length", "genotype", "phase"])
        if kind == "base":
            place = rng.randrange(len(alts))
            new = rng.choice("ACGT".replace(alts[place], ""))
            alts = alts[:place] + new + alts[place + 1 :] if alts[place] != "," else alts
        elif kind == "length":
            alts = alts + rng.choice("ACGT")
        elif kind == "genotype":
            genotype = {"0/1": "1/1", "1/0": "1/1", "1/1": "0/1", "1|1": "0|1"}.get(genotype, "1|1")
        else:
            genotype = genotype[::-1] if "|" in genotype else genotype
        rows[index] = (start, old, alts, genotype)
        changed = Spelling(rows)
        pairs = changed.pairs(ref)
        if old not in alts.split(",") and pairs and not one.pairs(ref) & pairs:
            yield ref, one, changed


def placed(cases: list[tuple[str, Spelling, Spelling]]) -> tuple[str, list[Row], list[Row]]:
    """All cases on one contig, with random bases between them."""
    rng = random.Random(99)
    contig, truth, calls = "", [], []
    for ref, one, other in cases:
        contig += "".join(rng.choices("ACGT", k=SPACE))
        truth += [(len(contig) + start, *rest) for start, *rest in one.rows]
        calls += [(len(contig) + start, *rest) for start, *rest in other.rows]
        contig += ref
    return contig + "".join(rng.choices("ACGT", k=SPACE)), truth, calls


def verdicts(path: Path) -> list[list[str]]:
    """The decisions of each case's records."""
    found: list[list[str]] = [[] for _ in range(CASES)]
    for record in open_variants(path).records():
        found[(record.start - SPACE + 50) // (SPACE + WINDOW)].append(record.info["BD"])
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_other_spellings_of_the_same_two_chromosomes_match(seed, bases, write_fasta, write_vcf, tmp_path: Path) -> None:
    cases = [case for case, _ in zip(equal_cases(seed, bases), range(CASES), strict=False)]
    contig, truth, calls = placed(cases)
    sizes = {"20": len(contig)}
    out = tmp_path / "out"
    found = compare(
        write_vcf("t.vcf", truth, contigs=sizes),
        write_vcf("c.vcf", calls, contigs=sizes),
        write_fasta({"20": contig}),
        options=CompareOptions(out=out),
    )
    assert found.too_complex == 0
    for case, t, c in zip(cases, verdicts(out / "truth.vcf.gz"), verdicts(out / "calls.vcf.gz"), strict=True):
        assert set(t) == {"TP"}, (case, t, c)
        assert set(c) == {"TP"}, (case, t, c)
    assert found.counts["all"].truth_matched == len(truth)
    assert found.counts["all"].f1 == 1


@pytest.mark.parametrize("seed", [1, 2])
def test_lookalikes_do_not_match(seed, bases, write_fasta, write_vcf, tmp_path: Path) -> None:
    cases = [case for case, _ in zip(different_cases(seed, bases), range(CASES), strict=False)]
    contig, truth, calls = placed(cases)
    sizes = {"20": len(contig)}
    out = tmp_path / "out"
    compare(
        write_vcf("t.vcf", truth, contigs=sizes),
        write_vcf("c.vcf", calls, contigs=sizes),
        write_fasta({"20": contig}),
        options=CompareOptions(out=out),
    )
    for case, t, c in zip(cases, verdicts(out / "truth.vcf.gz"), verdicts(out / "calls.vcf.gz"), strict=True):
        assert {"FN", "FP"} & {*t, *c}, (case, t, c)
