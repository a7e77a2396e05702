"""Scores summed up over variants: blocks of genotypes times what copies add, in one pass for all scores.

Missing genotypes add what is expected at the variant's frequency, as plink2 --score does; X, Y and MT are counted as
there: males' X twice, Y and MT as one copy, Y of males alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop.genome.files.contigs import canonical_contig
from careloop.genome.genotypes.source import GenotypeSource
from careloop.genome.risk.scores.summing.called import called

Progress = Callable[[str, int, int], None]
Missing = Literal["mean", "none"]
Copies = Literal["autosome", "X", "Y", "MT"]
WORKERS = 2
_BLOCK_VALUES = 2**18  # in a block: larger ones leave the cache, and memory is asked for anew for each of them


@dataclass(frozen=True)
class Sums:
    """The sums of scores, and what they are of: (scores, samples) each.

    `variants` of a score that were called, `possible` ones that the person could have; the same in `alleles` (one a
    variant on Y and MT).
    """

    sums: NDArray[np.float64]
    variants: NDArray[np.int64]
    possible: NDArray[np.int64]
    alleles: NDArray[np.int64]
    possible_alleles: NDArray[np.int64]


@dataclass(frozen=True)
class _Terms:
    """Terms of all scores: `rows` (variants,) ascending; `add` (3, variants, scores) by copies; `counts` likewise."""

    rows: NDArray[np.int64]
    add: NDArray[np.float64]
    counts: NDArray[np.bool_]

    def of(self, chosen: NDArray[np.bool_]) -> _Terms:
        return _Terms(self.rows[chosen], self.add[:, chosen], self.counts[chosen])


@dataclass(frozen=True)
class _People:
    """Who has how many alleles on a kind of chromosome: (samples,) each.

    `takes_part`: has the chromosome; `alleles` of a person; `tallied`: founders, whose alleles make the frequency.
    """

    takes_part: NDArray[np.float32]
    alleles: NDArray[np.float32]
    tallied: NDArray[np.float32]
    scale: float  # of what copies add, where both copies of a homozygous genotype are one


def sum_scores(
    source: GenotypeSource,
    terms: Sequence[pl.DataFrame],
    *,
    missing: Missing = "mean",
    frequencies: NDArray[np.float64] | None = None,
    progress: Progress | None = None,
) -> Sums:
    """Sum up scores whose `terms` have the columns of TERMS; all in one pass over the genotypes.

    `frequencies` of `alt` (all variants of the source,), NaN where not known; those that are not known are counted
    among founders (people without parents in the file, or everyone where there is none).
    """
    from threadpoolctl import threadpool_limits

    joined = _joined(terms)
    samples = source.samples.height
    shape = (len(terms), samples)
    total = Sums(np.zeros(shape), *(np.zeros(shape, np.int64) for _ in range(4)))
    kinds = _kinds(source.variants["contig"], joined.rows)
    done = count(1)
    for kind in get_args(Copies):
        part = joined.of(kinds == kind)
        if not part.rows.size:
            continue
        people = _people(source.samples, kind)
        adder = _Adder(source, part, people, missing, frequencies)
        blocks = adder.blocks()

        def share(
            start: int, adder: _Adder = adder, blocks: list[slice] = blocks
        ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            sums, absent = np.zeros((len(terms), samples)), np.zeros((len(terms), samples))
            for block in blocks[start::WORKERS]:
                adder.add(block, sums, absent)
                if progress:
                    progress("scoring", min(next(done) * adder.step, joined.rows.size), joined.rows.size)
            return sums, absent

        # Two threads of ours are enough: BLAS's own would wait for each other at matrices as small as a block's.
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(WORKERS, thread_name_prefix="scores") as pool:
            shares = list(pool.map(share, range(min(WORKERS, len(blocks)))))
        sums, absent = (np.sum([one[which] for one in shares], axis=0) for which in (0, 1))
        total.sums[:] += (adder.constant[:, None] + sums) * people.takes_part * people.scale
        _count(total, part.counts.sum(axis=0)[:, None], absent, people)
    return total


def _count(total: Sums, variants: NDArray[np.int64], absent: NDArray[np.float64], people: _People) -> None:
    """Count variants and alleles of one kind of chromosome, called and possible."""
    possible = (variants * people.takes_part).astype(np.int64)
    seen = np.rint((variants - absent) * people.takes_part).astype(np.int64)
    alleles = people.alleles.astype(np.int64)
    for counter, added in ((total.possible, possible), (total.variants, seen)):
        counter[:] += added
    for counter, added in ((total.possible_alleles, possible), (total.alleles, seen)):
        counter[:] += added * alleles


def _joined(terms: Sequence[pl.DataFrame]) -> _Terms:
    """All scores' terms by variant; a variant that a score has not adds nothing there."""
    rows = np.unique(np.concatenate([np.zeros(0, np.int64), *(one["variant"].to_numpy() for one in terms)]))
    add, counts = np.zeros((3, rows.size, len(terms))), np.zeros((rows.size, len(terms)), np.bool_)
    for score, one in enumerate(terms):
        at = np.searchsorted(rows, one["variant"].to_numpy())
        for copies in range(3):
            np.add.at(add[copies, :, score], at, one[f"add_{copies}"].to_numpy())
        np.logical_or.at(counts[:, score], at, one["counts"].to_numpy())
    return _Terms(rows, add, counts)


def _kinds(contigs: pl.Series, rows: NDArray[np.int64]) -> NDArray[np.str_]:
    plain = {name: canonical_contig(name) for name in contigs.unique().drop_nulls()}
    special = {name: kind for name, kind in plain.items() if kind in ("X", "Y", "MT")}
    found = contigs.gather(rows).replace_strict(special, default="autosome", return_dtype=pl.String)
    return found.to_numpy().astype(np.str_)


def _people(samples: pl.DataFrame, kind: str) -> _People:
    everyone = np.ones(samples.height, np.float32)
    founders = (samples["father_id"].is_null() & samples["mother_id"].is_null()).to_numpy().astype(np.float32)
    founders = founders if founders.any() else everyone
    male = (samples["sex"] == "male").fill_null(value=False).to_numpy().astype(np.float32)
    if kind == "autosome":
        return _People(everyone, 2 * everyone, 2 * founders, 1.0)
    if kind == "X":  # a male's two-fold copy adds as two, but is one allele of the frequency
        return _People(everyone, 2 * everyone, founders * (2 - male), 1.0)
    part = male if kind == "Y" else everyone
    return _People(part, part, founders * part, 0.5)


class _Adder:
    """Adds up blocks of one kind of chromosome."""

    def __init__(
        self,
        source: GenotypeSource,
        terms: _Terms,
        people: _People,
        missing: Missing,
        frequencies: NDArray[np.float64] | None,
    ) -> None:
        self._source, self._terms, self._people, self._missing = source, terms, people, missing
        self._frequencies = None if frequencies is None else frequencies[terms.rows]
        self._slope = terms.add[1] - terms.add[0]  # what the first copy adds, and how much more the second does
        self._bend = terms.add[2] - 2 * terms.add[1] + terms.add[0]
        self._bend[np.abs(self._bend) < 1e-12 * np.abs(terms.add[1])] = 0
        self.constant: NDArray[np.float64] = terms.add[0].sum(axis=0)
        self.step = max(1, _BLOCK_VALUES // source.samples.height)

    def blocks(self) -> list[slice]:
        """The parts that are worked on at once."""
        return [slice(at, at + self.step) for at in range(0, self._terms.rows.size, self.step)]

    def add(self, block: slice, sums: NDArray[np.float64], absent: NDArray[np.float64]) -> None:
        """Add a block to `sums` and its missing variants to `absent`, both (scores, samples)."""
        values, missing = called(self._source, self._terms.rows[block])
        bend = self._bend[block]
        sums += self._slope[block].T.astype(np.float32) @ values
        bent = bend.any(axis=1)
        if bent.any():
            sums += bend[bent].T.astype(np.float32) @ np.maximum(values[bent] - 1, 0)
        if missing is None:
            return
        counts = self._terms.counts[block].astype(np.float32)
        expected = self._expected(block, values, missing)
        both = np.concatenate([expected, counts], axis=1).T.astype(np.float32) @ missing
        sums += both[: len(sums)]
        absent += both[len(sums) :]

    def _expected(self, block: slice, values: NDArray[np.float32], missing: NDArray[np.float32]) -> NDArray[np.float64]:
        """What a missing genotype adds beyond the constant: (variants, scores)."""
        if self._missing == "none":
            return -self._terms.add[0][block]
        tallied = self._people.tallied
        alternative = values @ (tallied / 2)
        alleles = tallied.sum(dtype=np.float64) - missing @ tallied
        with np.errstate(invalid="ignore"):
            frequency = np.where(alleles > 0, alternative / alleles, 0.0)
        if self._frequencies is not None:
            given = self._frequencies[block]
            frequency = np.where(np.isnan(given), frequency, given)
        return 2 * frequency[:, None] * self._slope[block] + frequency[:, None] ** 2 * self._bend[block]
