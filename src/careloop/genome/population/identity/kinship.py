"""Relatives within a genotype file: KING-robust kinship of all pairs, as plink2 --make-king, and what it says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.genotypes.blocks import blocks
from careloop.genome.genotypes.rows import row_numbers
from careloop.genome.genotypes.source import MISSING, GenotypeSource
from careloop.genome.population.components import autosomal_rows
from careloop.genome.population.identity.pair_counts import PairCounts

Progress = Callable[[str, int, int], None]
SAME_PERSON, FIRST_DEGREE, SECOND_DEGREE, THIRD_DEGREE = 0.354, 0.177, 0.0884, 0.0442  # 2^-1.5, 2^-2.5, ... as KING
PARENT_CHILD_OPPOSITE = 0.1  # of what unrelated people have; siblings have 0.25, a parent and child 0 but for errors
RELATIONS = ("same person or twins", "parent and child", "siblings", "second degree", "third degree", "unrelated")
_PEOPLE_AT_ONCE = 2_500  # pairs of so many times so many are counted in one pass over the file: 125 MB
PAIRS = pl.Schema(
    {
        "sample_id_1": pl.String(),
        "sample_id_2": pl.String(),
        "variants": pl.Int64(),  # that both have called
        "both_het": pl.Float64(),  # shares of these
        "ibs0": pl.Float64(),
        "kinship": pl.Float64(),
        "relation": pl.String(),
    }
)


@dataclass(frozen=True)
class Relatedness:
    """Pairs of at least some kinship (the columns of `PAIRS`), the closest first, over `variants` variants.

    `expected_ibs0` is the share of variants at which two unrelated people are opposite homozygotes, by frequencies.
    """

    pairs: pl.DataFrame
    variants: int
    expected_ibs0: float


def relatedness(
    source: GenotypeSource,
    *,
    min_kinship: float = THIRD_DEGREE,
    variants: NDArray[np.int64] | None = None,
    samples: NDArray[np.int64] | None = None,
    progress: Progress | None = None,
) -> Relatedness:
    """Find all pairs of people of at least `min_kinship`, over `variants` (rows; all of autosomes by default).

    Each pair is judged by its own genotypes alone: populations may be mixed, and variants need not be pruned. Of the
    first degree, a parent and child share an allele everywhere, siblings do not.

    Raises:
        InputError: no variant, or the file cannot be read to its end.
    """
    rows = autosomal_rows(source) if variants is None else row_numbers(variants, source.variants.height)
    if not rows.size:
        raise InputError(f"{source.path}: kinship needs variants of autosomes; there are none")
    people = np.arange(source.samples.height, dtype=np.int64) if samples is None else np.asarray(samples, np.int64)
    expected = _expected_ibs0(source, rows, people)
    parts = [people[at : at + _PEOPLE_AT_ONCE] for at in range(0, people.size, _PEOPLE_AT_ONCE)]
    tables = []
    squares = [(first, second) for first in range(len(parts)) for second in range(first, len(parts))]
    for number, (first, second) in enumerate(squares):
        counts = PairCounts(parts[first].size, parts[second].size)
        for done, one, other in _blocks_of(source, rows, parts[first], None if first == second else parts[second]):
            counts.add(one, other)
            if progress:
                progress("kinship", number * rows.size + done, len(squares) * rows.size)
        tables.append(_pairs(source, (parts[first], parts[second]), counts, min_kinship))
    pairs = pl.concat(tables).with_columns(
        pl.struct("kinship", "ibs0")
        .map_elements(lambda pair: relation(pair["kinship"], pair["ibs0"], expected), return_dtype=pl.String)
        .alias("relation")
    )
    return Relatedness(pairs.sort("kinship", descending=True, maintain_order=True), rows.size, expected)


def relation(kinship: float, ibs0: float, expected_ibs0: float) -> str:
    """What a pair's kinship and share of opposite homozygotes say, one of `RELATIONS`."""
    if kinship > SAME_PERSON:
        return RELATIONS[0]
    if kinship > FIRST_DEGREE:
        return RELATIONS[1] if ibs0 < PARENT_CHILD_OPPOSITE * expected_ibs0 else RELATIONS[2]
    return next(
        (name for name, at in zip(RELATIONS[3:], (SECOND_DEGREE, THIRD_DEGREE), strict=False) if kinship > at),
        RELATIONS[-1],
    )


def unrelated(people: Iterable[str], pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Who is left when, of each pair, one goes: the one with most relatives first, as few as that finds."""
    relatives: dict[str, set[str]] = defaultdict(set)
    for one, other in pairs:
        relatives[one].add(other)
        relatives[other].add(one)
    gone = set()
    while relatives:
        most = max(relatives, key=lambda one: (len(relatives[one]), one))
        gone.add(most)
        for other in relatives.pop(most):
            relatives[other].discard(most)
            if not relatives[other]:
                del relatives[other]
    return [one for one in people if one not in gone]


def _blocks_of(
    source: GenotypeSource, rows: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64] | None
) -> Iterator[tuple[int, NDArray[np.int8], NDArray[np.int8]]]:
    """Yield how many variants are done, and the genotypes of both sets of people; the same array twice for one set."""
    done = 0
    together = first if second is None else np.concatenate([first, second])
    for block in blocks(source, variants=rows, samples=together):
        done += block.rows.size
        one = block.values[:, : first.size]
        yield done, one, one if second is None else block.values[:, first.size :]


def _expected_ibs0(source: GenotypeSource, rows: NDArray[np.int64], people: NDArray[np.int64]) -> float:
    total, done = 0.0, 0
    for block in blocks(source, variants=rows, samples=people):
        called = np.count_nonzero(block.values != MISSING, axis=1)
        copies = block.values.sum(axis=1, dtype=np.int64) - MISSING * (people.size - called)
        frequency = copies[called > 0] / (2 * called[called > 0])
        total += float((2 * (frequency * (1 - frequency)) ** 2).sum())
        done += int(np.count_nonzero(called))
    return total / max(done, 1)


def _pairs(
    source: GenotypeSource, people: tuple[NDArray[np.int64], NDArray[np.int64]], counts: PairCounts, least: float
) -> pl.DataFrame:
    found = counts.kinship
    if people[0] is people[1]:
        found[np.tril_indices(found.shape[0])] = np.nan
    one, other = np.nonzero(found >= least)
    ids = source.samples["sample_id"]
    called = counts.called[one, other].astype(np.float64)
    return pl.DataFrame(
        {
            "sample_id_1": ids.gather(people[0][one]),
            "sample_id_2": ids.gather(people[1][other]),
            "variants": called.astype(np.int64),
            "both_het": counts.both_het[one, other] / called,
            "ibs0": counts.opposite[one, other] / called,
            "kinship": found[one, other],
            "relation": [""] * one.size,
        },
        schema=PAIRS,
    )
