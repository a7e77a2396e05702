"""Plants SNVs and indels with phased genotypes in a stretch of a reference: a simulated person's haplotypes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from careloop import InputError
from careloop.genome.simulate.repeats import Repeat, find_repeats
from careloop.genome.variant import Record, SampleCall

SAMPLE = "simulated"
TRANSITION = {"A": "G", "G": "A", "C": "T", "T": "C"}
TRANSITION_SHARE = 0.67  # two transitions to a transversion, as in human genomes
LONGER_INDEL = 0.6  # chance that an indel is yet one base (or one repeat unit: half of this) longer
LONGEST_INDEL = 40
TANDEM_COPY_SHARE = 0.5  # of insertions outside repeats that double the bases beside them, the rest being random bases
CLEARANCE = 3  # bases kept free between two variants, so that each has one written form


@dataclass(frozen=True, slots=True)
class Planting:
    """How many variants, how many of them in repeats (`find_repeats`), and how many heterozygous.

    `two_alternatives` is the share of heterozygous indels in repeats whose other haplotype has another indel (1|2).
    """

    snvs: int = 2000
    indels: int = 350
    repeat_share: float = 1 / 3
    heterozygous_share: float = 0.6
    two_alternatives: float = 0.05


def plant_variants(
    sequence: str, contig: str, *, start: int = 0, plan: Planting | None = None, seed: int = 0
) -> list[Record]:
    """Variants of a simulated person in `sequence` (upper case, at 0-based `start` of `contig`), left-aligned.

    Records are by start; each has the sample "simulated" with a phased genotype. Raises InputError where they have no
    room.
    """
    plan = plan or Planting()
    draw = np.random.default_rng(seed)
    planter = _Planter(sequence, find_repeats(sequence), draw)
    planted = []
    for kind, count in ((planter.snv, plan.snvs), (planter.indel, plan.indels)):
        in_repeats = round(count * plan.repeat_share)
        for number in range(count):
            planted.append(_placed(kind, repeat=number < in_repeats, plan=plan, planter=planter))
    planted.sort(key=lambda variant: variant[0])
    return [
        Record(contig, start + at, start + at + len(ref), ref, alts, samples={SAMPLE: SampleCall(alleles, phased=True)})
        for at, ref, alts, alleles in planted
    ]


def haplotypes_of(sequence: str, records: Sequence[Record], *, start: int = 0) -> tuple[str, str]:
    """The two haplotypes of `sequence` (at `start`) with the phased genotypes of `records` applied."""
    made = []
    for copy in (0, 1):
        parts, at = [], 0
        for record in records:
            allele = record.samples[SAMPLE].alleles[copy]
            if allele:
                parts += [sequence[at : record.start - start], record.alts[allele - 1]]
                at = record.end - start
        made.append("".join([*parts, sequence[at:]]))
    return made[0], made[1]


def left_aligned(sequence: str, at: int, ref: str, alt: str) -> tuple[int, str, str]:
    """An indel moved to its leftmost place in `sequence` (Tan et al. 2015, Bioinformatics 31:2202)."""
    while at > 0 and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
        if not ref or not alt:
            at -= 1
            ref, alt = sequence[at] + ref, sequence[at] + alt
    while len(ref) > 1 and len(alt) > 1 and ref[0] == alt[0]:
        ref, alt, at = ref[1:], alt[1:], at + 1
    return at, ref, alt


class _Planter:
    """Draws variants of one sequence and remembers which bases are taken."""

    def __init__(self, sequence: str, repeats: list[Repeat], draw: np.random.Generator) -> None:
        self.sequence, self.repeats, self.draw = sequence, repeats, draw
        self.taken = np.zeros(len(sequence), dtype=bool)
        self.repetitive = np.zeros(len(sequence), dtype=bool)
        for repeat in repeats:
            self.repetitive[repeat.start : repeat.end] = True

    def place(self, repeat: Repeat | None) -> int:
        if repeat is not None:
            return int(self.draw.integers(repeat.start, repeat.end))
        while True:
            at = int(self.draw.integers(1, len(self.sequence) - LONGEST_INDEL - 1))
            if not self.repetitive[at]:
                return at

    def snv(self, repeat: Repeat | None) -> tuple[int, str, str]:
        at = self.place(repeat)
        ref = self.sequence[at]
        alt = TRANSITION.get(ref, "")
        if self.draw.random() > TRANSITION_SHARE:
            alt = str(self.draw.choice([base for base in "ACGT" if base not in (ref, alt)]))
        return at, ref, alt

    def indel(self, repeat: Repeat | None) -> tuple[int, str, str]:
        if repeat is not None:
            anchor, unit, longer = max(repeat.start - 1, 0), repeat.unit, LONGER_INDEL / 2
        else:
            anchor, unit, longer = self.place(None), 1, LONGER_INDEL
        length = unit * min(int(self.draw.geometric(1 - longer)), LONGEST_INDEL // unit)
        if repeat is not None:
            length = min(length, (repeat.end - repeat.start) // unit * unit)
        before = self.sequence[anchor]
        if self.draw.random() < 0.5:
            return left_aligned(self.sequence, anchor, self.sequence[anchor : anchor + length + 1], before)
        added = self.sequence[anchor + 1 : anchor + 1 + length]
        if repeat is None and self.draw.random() > TANDEM_COPY_SHARE:
            added = "".join(self.draw.choice(list("ACGT"), size=length))
        return left_aligned(self.sequence, anchor, before, before + added)

    def reach(self, at: int, ref: str, alt: str) -> int:
        """The first base after every place in which the variant could be written."""
        end = at + len(ref)
        unit = abs(len(alt) - len(ref))
        if unit:
            longer = ref if len(ref) > len(alt) else alt
            moved = longer[1:]
            while end < len(self.sequence) and self.sequence[end] == moved[0]:
                moved, end = moved[1:] + moved[0], end + 1
        return end

    def take(self, at: int, end: int) -> bool:
        low, high = max(at - CLEARANCE, 0), end + CLEARANCE
        if self.taken[low:high].any() or "N" in self.sequence[low:high]:
            return False
        self.taken[at:end] = True
        return True


def _placed(kind, *, repeat: bool, plan: Planting, planter: _Planter):  # type: ignore[no-untyped-def]
    """One variant of `kind` where nothing else is: (offset, ref, alts, phased alleles)."""
    draw = planter.draw
    for _ in range(1000):
        chosen = planter.repeats[int(draw.integers(len(planter.repeats)))] if repeat else None
        at, ref, alt = kind(chosen)
        if ref == alt or not planter.take(at, planter.reach(at, ref, alt)):
            continue
        if draw.random() >= plan.heterozygous_share:
            return at, ref, (alt,), (1, 1)
        copy = int(draw.integers(2))
        if chosen is not None and len(ref) != len(alt) and draw.random() < plan.two_alternatives:
            ref, alts = _with_second_allele(planter.sequence, at, ref, alt, unit=chosen.unit)
            return at, ref, alts, (1, 2) if copy else (2, 1)
        return at, ref, (alt,), (1, 0) if copy == 0 else (0, 1)
    raise InputError(
        f"Variants keep {CLEARANCE} bases apart: {len(planter.sequence):,} bases have no room for more of them"
    )


def _with_second_allele(sequence: str, at: int, ref: str, alt: str, *, unit: int) -> tuple[str, tuple[str, str]]:
    """A second allele of a repeat: one unit more than the reference, or two where `alt` is that already."""
    extra = sequence[at + 1 : at + 1 + unit]
    longer = ref[0] + extra + ref[1:]
    if longer == alt:
        longer = ref[0] + extra + extra + ref[1:]
    return ref, (alt, longer)
