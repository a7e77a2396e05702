"""How many samples have each genotype of a variant, block by block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from careloop.genome.genotypes.blocks import Kind, blocks
from careloop.genome.genotypes.formats.plink1 import CODES, Plink1
from careloop.genome.genotypes.nearest_call import nearest_call
from careloop.genome.genotypes.source import MISSING, GenotypeSource

Progress = Callable[[str, int, int], None]
COUNTED = (0, 1, 2, MISSING)  # the columns of counts
_FIELD_BITS = 21  # three counts in a 64-bit number: up to two million samples
_BYTES_AT_ONCE = 2**19  # more leaves the processor's cache


@dataclass(frozen=True)
class GenotypeCounts:
    """What was counted of each variant.

    `samples`: (variants, 4) with 0, 1, 2 copies of `alt` and without a call. `dosages`: (variants,) summed up, over the
    `known` ones (variants,), which are more than the calls where dosages lie between two.
    """

    samples: NDArray[np.int64]
    dosages: NDArray[np.float64]
    known: NDArray[np.int64]


def genotype_counts(
    source: GenotypeSource,
    variants: NDArray[np.int64],
    samples: NDArray[np.int64] | None = None,
    *,
    progress: Progress | None = None,
) -> GenotypeCounts:
    """Count the genotypes of some variants, block by block.

    `variants` are rows of `source.variants`, ascending; `samples` rows of `source.samples`, None for all.
    """
    people = np.arange(source.samples.height) if samples is None else np.unique(samples)
    as_asked = samples is None or people.size == samples.size  # nobody twice
    if isinstance(source, Plink1) and as_asked and source.samples.height < 2**_FIELD_BITS:
        return _of_calls(_packed_counts(source, variants, people, progress))
    kind: Kind = "genotypes" if source.hard_calls else "dosages"
    counts = np.zeros((variants.size, len(COUNTED)), np.int64)
    dosages, known, done = np.zeros(variants.size), np.zeros(variants.size, np.int64), 0
    for block in blocks(source, variants=variants, samples=samples, kind=kind):
        part = slice(done, done + block.rows.size)
        if source.hard_calls:
            counts[part] = _call_counts(block.values)
        else:
            counts[part] = _call_counts(nearest_call(block.values))
            dosages[part] = np.nansum(block.values, axis=1, dtype=np.float64)
            known[part] = np.count_nonzero(~np.isnan(block.values), axis=1)
        done = part.stop
        if progress:
            progress("counting genotypes", done, variants.size)
    return _of_calls(counts) if source.hard_calls else GenotypeCounts(counts, dosages, known)


def _of_calls(counts: NDArray[np.int64]) -> GenotypeCounts:
    return GenotypeCounts(counts, (counts[:, 1] + 2 * counts[:, 2]).astype(np.float64), counts[:, :3].sum(axis=1))


def _call_counts(calls: NDArray[np.int8]) -> NDArray[np.int64]:
    return np.stack([np.count_nonzero(calls == value, axis=1) for value in COUNTED], axis=1)


def _packed_counts(
    source: Plink1, variants: NDArray[np.int64], people: NDArray[np.int64], progress: Progress | None
) -> NDArray[np.int64]:
    """The same from the file's two-bit bytes, four genotypes looked up at once."""
    others = _bits_of_others(source.samples.height, people)
    counts = np.zeros((variants.size, len(COUNTED)), np.int64)
    step = max(1, _BYTES_AT_ONCE // others.size)
    looked_up = np.empty((step, others.size), np.uint64)
    for at in range(0, variants.size, step):
        packed = source.packed(variants[at : at + step]) | others
        sums = np.take(_of_four(), packed, out=looked_up[: len(packed)], mode="clip").sum(axis=1)  # fastest with `out`
        for column, shift in ((1, 0), (2, _FIELD_BITS), (3, 2 * _FIELD_BITS)):
            counts[at : at + step, column] = (sums >> np.uint64(shift)) & np.uint64(2**_FIELD_BITS - 1)
        if progress:
            progress("counting genotypes", min(at + step, variants.size), variants.size)
    counts[:, 0] = people.size - counts[:, 1:].sum(axis=1)
    return counts


def _bits_of_others(samples: int, people: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Bits that turn everyone but some people, and what stands behind the last sample, into no copies: (bytes,)."""
    bits = np.full((-(-samples // 4), 4), CODES.index(0), np.uint8)
    bits.ravel()[people] = 0
    return np.bitwise_or.reduce(bits << np.array([0, 2, 4, 6], np.uint8), axis=1)


@cache
def _of_four() -> NDArray[np.uint64]:
    """What each byte adds to the counts of 1 copy, 2 copies and missing, side by side in one number: (256,)."""
    values = np.arange(256)
    fields = {1: 1, 2: 1 << _FIELD_BITS, MISSING: 1 << 2 * _FIELD_BITS, 0: 0}
    worth = np.array([fields[code] for code in CODES], np.uint64)
    return worth[np.stack([(values >> shift) & 3 for shift in (0, 2, 4, 6)])].sum(axis=0)
