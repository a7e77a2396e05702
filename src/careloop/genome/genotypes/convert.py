"""Genotypes of any format as PLINK 1 files, of chosen variants and people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.genotypes.blocks import blocks
from careloop.genome.genotypes.quality.select_variants import VariantFilter, select_variants
from careloop.genome.genotypes.source import MISSING, GenotypeSource
from careloop.genome.genotypes.write_bed import write_bed

Progress = Callable[[str, int, int], None]
_EVERY_VARIANT = VariantFilter()


@dataclass(frozen=True)
class ConvertSummary:
    """What was written: the .bed, numbers of variants and people, missing genotypes, variants left out by reason.

    `from_dosages`: whether genotypes are calls near to dosages, so that dosages without one near became missing.
    """

    bed: Path
    variants: int
    samples: int
    missing: int
    left_out: dict[str, int]
    from_dosages: bool


def convert(
    source: GenotypeSource,
    out: Path,
    *,
    wanted: VariantFilter = _EVERY_VARIANT,
    samples: NDArray[np.int64] | None = None,
    progress: Progress | None = None,
) -> ConvertSummary:
    """Write OUT.bed, .bim and .fam, whole or not at all; `samples` are rows of `source.samples`, all by default.

    Raises:
        InputError: no variant or sample is left, or the source cannot be read to its end.
    """
    selected = select_variants(source, wanted, samples=samples, progress=progress)
    people = source.samples if samples is None else source.samples[samples]
    if not selected.rows.size or not people.height:
        raise InputError(f"{source.path}: no variant or no sample is left to write; ask for more")
    done = missing = 0

    def read() -> Iterator[NDArray[np.int8]]:
        nonlocal done, missing
        for block in blocks(source, variants=selected.rows, samples=samples):
            missing += int(np.count_nonzero(block.values == MISSING))
            yield block.values
            done += block.rows.size
            if progress:
                progress("writing genotypes", done, selected.rows.size)

    bed = write_bed(out, people, source.variants[selected.rows], read())
    return ConvertSummary(bed, selected.rows.size, people.height, missing, selected.left_out, not source.hard_calls)
