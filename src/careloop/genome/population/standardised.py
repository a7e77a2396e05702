"""Genotypes standardised for principal components: each variant has mean 0 and, in equilibrium, variance 1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from careloop.genome.genotypes.blocks import blocks
from careloop.genome.genotypes.source import GenotypeSource


@dataclass(frozen=True)
class Standardised:
    """Some variants (`rows` of `source.variants`, ascending) of some people (`samples`, None for all)."""

    source: GenotypeSource
    rows: NDArray[np.int64]
    samples: NDArray[np.int64] | None = None

    @property
    def people(self) -> int:
        """How many people there are."""
        return self.source.samples.height if self.samples is None else len(self.samples)

    def blocks(
        self, frequencies: NDArray[np.float64] | None = None
    ) -> Iterator[tuple[slice, NDArray[np.float32], NDArray[np.float64]]]:
        """Yield which of `rows`, (copies - 2p) / sqrt(2p(1-p)) of these as (variants, people), and their p.

        p is the frequency of `alt`: `frequencies` of `rows`, or that of these people. A missing genotype becomes 0,
        the mean; a variant that does not vary is 0 throughout (Patterson et al., PLoS Genet 2006;2:e190).
        """
        done = 0
        for block in blocks(self.source, variants=self.rows, samples=self.samples, kind="dosages"):
            part = slice(done, done + block.rows.size)
            values = np.ascontiguousarray(block.values)
            known = frequencies[part] if frequencies is not None else alternative_frequencies(values)
            standardise(values, known)
            yield part, values, known
            done = part.stop


def alternative_frequencies(dosages: NDArray[np.float32]) -> NDArray[np.float64]:
    """The frequency of `alt` by dosages (variants, people) with NaN where missing: (variants,), 0 where all are."""
    missing = np.isnan(dosages)
    if missing.any():
        called = np.maximum(dosages.shape[1] - missing.sum(axis=1), 1)
        return np.nansum(dosages, axis=1, dtype=np.float64) / (2 * called)
    return dosages.mean(axis=1, dtype=np.float64) / 2


def standardise(dosages: NDArray[np.float32], frequencies: NDArray[np.float64]) -> None:
    """Standardise dosages (variants, people) where they are; NaN becomes 0."""
    scale = scales(frequencies)
    dosages -= (2 * frequencies).astype(np.float32)[:, None]
    dosages *= scale.astype(np.float32)[:, None]
    np.nan_to_num(dosages, copy=False, nan=0.0)


def scales(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / sqrt(2p(1-p)), and 0 where the variant does not vary."""
    spread = np.sqrt(np.maximum(2 * frequencies * (1 - frequencies), 0))
    varies = spread > 1e-6
    return np.where(varies, 1 / np.where(varies, spread, 1), 0.0)
