"""What a comparison found of each record, kept small, and written into the files' INFO."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import replace
from enum import IntEnum
from pathlib import Path

from careloop.genome.files.variant_file import VariantFile
from careloop.genome.files.variant_writing import write_variants
from careloop.genome.variant import Record

# GA4GH's names (benchmarking-tools, doc/ref-impl/intermediate.md), there in FORMAT; `pm` and BG are careloop's own.
_LINES = (
    '##INFO=<ID=BD,Number=1,Type=String,Description="Decision: TP, FN (truth), FP (calls), N (not assessed)">',
    '##INFO=<ID=BK,Number=1,Type=String,Description="Kind of match: gm genotype, pm all but phase, am alleles only">',
    '##INFO=<ID=BG,Number=1,Type=Integer,Description="Records of both files with this number match one another">',
)
NAMES = ("truth.vcf.gz", "calls.vcf.gz")
_WRONG = ("FN", "FP")
NO_GROUP = -1


class Verdict(IntEnum):
    """What is known of a record; NOTHING where the sample has no variant there."""

    NOTHING = 0
    MATCHED = 1
    PHASE_ERROR = 2
    GENOTYPE_ERROR = 3
    UNMATCHED = 4
    NOT_ASSESSED = 5


_KIND = {Verdict.MATCHED: "gm", Verdict.PHASE_ERROR: "pm", Verdict.GENOTYPE_ERROR: "am"}


class Verdicts:
    """The verdict and the match's number of each record of one file, in the file's order: five bytes a record."""

    def __init__(self) -> None:
        self._verdicts = array("B")
        self._groups = array("i")

    def add(self) -> int:
        """Make room for one more record, and return its place."""
        self._verdicts.append(Verdict.NOTHING)
        self._groups.append(NO_GROUP)
        return len(self._verdicts) - 1

    def set(self, place: int, verdict: Verdict, group: int = NO_GROUP) -> None:
        """Note what is known of a record."""
        self._verdicts[place] = verdict
        self._groups[place] = group

    def info(self, place: int, side: int) -> dict[str, str | int]:
        """The INFO values of a record."""
        verdict = Verdict(self._verdicts[place])
        if verdict == Verdict.NOTHING:
            return {}
        decision = {Verdict.MATCHED: "TP", Verdict.NOT_ASSESSED: "N"}.get(verdict, _WRONG[side])
        found: dict[str, str | int] = {"BD": decision}
        if verdict in _KIND:
            found["BK"] = _KIND[verdict]
        if self._groups[place] != NO_GROUP:
            found["BG"] = self._groups[place]
        return found


def write_verdicts(
    folder: Path, files: tuple[VariantFile, VariantFile], verdicts: tuple[Verdicts, Verdicts]
) -> tuple[Path, Path]:
    """Write both files anew with their records' verdicts, as truth.vcf.gz and calls.vcf.gz with index."""
    folder.mkdir(parents=True, exist_ok=True)
    outs = (folder / NAMES[0], folder / NAMES[1])
    for side, (file, out) in enumerate(zip(files, outs, strict=True)):
        write_variants(out, file.header.with_lines(*_LINES), _annotated(file, verdicts[side], side))
    return outs


def _annotated(file: VariantFile, verdicts: Verdicts, side: int) -> Iterator[Record]:
    for place, record in enumerate(file.records()):
        found = verdicts.info(place, side)
        yield replace(record, info={**record.info, **found}) if found else record
