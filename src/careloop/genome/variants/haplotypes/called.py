"""What a record says of the two chromosomes of one sample, as stretches of the reference replaced by bases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple
from zlib import crc32

from careloop.genome.variant import ANY_OTHER, SPANNING, Record, SampleCall
from careloop.genome.variants.alleles import reach, trim
from careloop.genome.variants.sequence import ContigWindow

Kind = Literal["snp", "indel"]
Filters = Literal["passed", "all"]  # whether records that failed a filter are left out
# Why a record is not assessed: a match cannot be told from these.
NO_CALL, SYMBOLIC, MISMATCH, TOO_LONG, PLOIDY, FILTERED, NOT_IN_REFERENCE = (
    "no-call",
    "symbolic or breakend allele",
    "REF is not the reference's base",
    "allele too long",
    "more than two chromosomes",
    "filtered",
    "contig is not in the reference",
)
MOST_BASES = 1_000  # of an allele; longer ones are structural variants, which other rules compare (vcfeval's limit)
_BASES = frozenset("ACGTN")


class Allele(NamedTuple):
    """Bases put in place of the reference from `start` to before `end`, trimmed: an insertion has start = end."""

    start: int
    end: int
    bases: str


Pair = tuple[Allele | None, Allele | None]


@dataclass(slots=True)
class Called:
    """A record that has a variant in the sample: the alleles of its chromosomes, None where it is the reference.

    `side` is the set it is of (0 truth, 1 calls), `index` its place among the set's records, `start` where it is
    written. `first` and `last` bound what it could interact with: its alleles, wherever a repeat lets them be written.
    `phase` names the phase set of a phased heterozygote.
    """

    side: int
    index: int
    start: int
    haplotypes: Pair
    first: int
    last: int
    kind: Kind
    phase: str | None
    score: float | None

    @property
    def alleles(self) -> list[Allele]:
        """The distinct alternative alleles."""
        return list(dict.fromkeys(allele for allele in self.haplotypes if allele))

    @property
    def genotype(self) -> Pair:
        """The alleles of both chromosomes in an order of their own: phase apart, the same for the same variant."""
        first, second = self.haplotypes
        return (second, first) if first is None or (second is not None and second < first) else (first, second)

    @property
    def span(self) -> tuple[int, int]:
        """First base and base after the last of what is replaced; of an insertion both are the base after it."""
        found = self.alleles
        return min(allele.start for allele in found), max(allele.end for allele in found)

    @property
    def weight(self) -> int:
        """A number of its own, the same in either set: settles which of two equally large matches is taken."""
        return crc32(repr(self.genotype).encode())


@dataclass(frozen=True, slots=True)
class Reader:
    """How one set's records are understood: its `side`, the sample, the score (QUAL or a FORMAT field), the filters."""

    side: int
    sample: str
    score: str = "QUAL"
    filters: Filters = "passed"


def called(record: Record, index: int, reader: Reader, window: ContigWindow) -> Called | str | None:
    """A record's variant in one sample; None where it has none (reference), or why it cannot be assessed.

    A chromosome that an upstream deletion spans (`*`) has nothing of this record. One allele alone (X and Y of males)
    counts as two alike, as vcfeval has it.
    """
    if record.filters and reader.filters == "passed" and not record.passed:
        return FILTERED
    call = record.samples[reader.sample]
    numbers = call.alleles
    if not numbers or None in numbers:
        return NO_CALL
    if not any(numbers):
        return None
    if len(numbers) > 2:
        return PLOIDY
    ref = record.ref.upper()
    texts = {number: record.alts[number - 1].upper() for number in numbers if number}
    if (wrong := _wrong(record.start, ref, texts, window)) is not None:
        return wrong
    texts = {number: text for number, text in texts.items() if text != SPANNING and text != ref}
    if not texts:
        return None
    alleles, first, last = _trimmed(record.start, ref, texts, window)
    one, other = alleles.get(numbers[0] or 0), alleles.get(numbers[-1] or 0)
    phase = None if not call.phased or one == other else str("" if call.phase_set is None else call.phase_set)
    kind: Kind = "snp" if all(len(text) == len(ref) for text in texts.values()) else "indel"
    score = _score(record, call, reader.score)
    return Called(reader.side, index, record.start, (one, other), first, last, kind, phase, score)


def _wrong(start: int, ref: str, texts: Mapping[int, str], window: ContigWindow) -> str | None:
    """Why alleles cannot be assessed, if so."""
    for text in texts.values():
        if text in ANY_OTHER:
            return NO_CALL
        if not _BASES.issuperset(text) and text != SPANNING:
            return SYMBOLIC
        if len(text) > MOST_BASES:
            return TOO_LONG
    if not _BASES.issuperset(ref):
        return SYMBOLIC
    if len(ref) > MOST_BASES:
        return TOO_LONG
    return None if window.agrees(start, ref) else MISMATCH


def _trimmed(
    start: int, ref: str, texts: Mapping[int, str], window: ContigWindow
) -> tuple[dict[int, Allele], int, int]:
    """A record's alternative alleles by number, trimmed each by itself, and the stretch that they reach over."""
    alleles: dict[int, Allele] = {}
    first, last = start, start
    for number, text in texts.items():
        at, a, b = start, ref, text
        if len(ref) > 1 or len(text) > 1:
            at, (a, b) = trim(start, (ref, text))
        alleles[number] = Allele(at, at + len(a), b)
        if len(a) == len(b):
            low, high = at - 1, at + len(a) + 1
        else:
            low, high = reach(window.fetch, at, a, b)
            # Two indels make up for one another over as many bases as they are long.
            change = abs(len(a) - len(b))
            low, high = low - change, high + change
        first, last = min(first, low), max(last, high)
    return alleles, first, last


def _score(record: Record, call: SampleCall, score: str) -> float | None:
    value = record.quality if score == "QUAL" else call.fields.get(score)
    if isinstance(value, (tuple, list)):
        value = value[0] if value else None
    return float(value) if isinstance(value, (int, float)) else None
