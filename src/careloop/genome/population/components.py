"""Principal components of many people's genotypes: exact for some, by block Lanczos over the file for many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.files.contigs import CHROMOSOMES, canonical_contig
from careloop.genome.genotypes.rows import row_numbers, sample_numbers
from careloop.genome.genotypes.source import GenotypeSource
from careloop.genome.population.eigenvectors import leading_eigenvectors
from careloop.genome.population.standardised import Standardised

Progress = Callable[[str, int, int], None]
AUTOSOMES = frozenset(CHROMOSOMES[:22])
EXACT_PEOPLE = 1_000  # up to which the whole relationship matrix is made and decomposed
_NAME = "principal components"


@dataclass(frozen=True)
class Components:
    """Principal components of people (`sample_ids`) over variants (the `variants` table, with `frequencies` of alt).

    `vectors`: (people, count) of unit norm, as plink2's .eigenvec. `eigenvalues`: (count,) of the relationship matrix
    ZZ'/M, M the variants that vary, as plink2's .eigenval. `loadings`: (variants, count) of unit norm. `share`:
    (count,) of the whole variance. `scores` = Z times loadings is what new people are projected to. The variant of the
    largest loading has a positive one, so that signs are the same from run to run. `rounds`: passes over the file.
    """

    sample_ids: pl.Series
    variants: pl.DataFrame
    vectors: NDArray[np.float64]
    eigenvalues: NDArray[np.float64]
    loadings: NDArray[np.float32]
    frequencies: NDArray[np.float64]
    share: NDArray[np.float64]
    rounds: int

    @property
    def count(self) -> int:
        """How many components there are."""
        return self.eigenvalues.size

    @property
    def singular_values(self) -> NDArray[np.float64]:
        """Of the standardised genotypes: (count,)."""
        varying = np.count_nonzero((self.frequencies > 0) & (self.frequencies < 1))
        return np.sqrt(np.maximum(self.eigenvalues, 0) * varying)

    @property
    def scores(self) -> NDArray[np.float64]:
        """Where each person lies: (people, count)."""
        return self.vectors * self.singular_values

    def table(self) -> pl.DataFrame:
        """`vectors` as a table: sample_id, PC1, PC2 and so on."""
        return with_components(self.sample_ids, self.vectors)


def with_components(sample_ids: pl.Series, values: NDArray[np.float64]) -> pl.DataFrame:
    """A table of sample_id, PC1, PC2 and so on, of values (people, count)."""
    columns = {f"PC{number + 1}": column for number, column in enumerate(values.T)}
    return pl.DataFrame({"sample_id": sample_ids, **columns})


def principal_components(
    source: GenotypeSource,
    *,
    count: int = 10,
    variants: NDArray[np.int64] | None = None,
    samples: NDArray[np.int64] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Components:
    """Principal components of standardised genotypes; a missing genotype counts as its variant's mean.

    `variants` are rows of `source.variants` (by default all of autosomes), `samples` rows of `source.samples`. Choose
    variants by `variants_for_components` first: neighbours in linkage disequilibrium make components of their own, and
    so do families. With up to 1,000 people the result is exact to rounding; with more, eigenvectors have residuals
    within 1e-3 of their eigenvalues, by a few passes over the file.

    Raises:
        InputError: fewer people or varying variants than components, or the file cannot be read to its end.
    """
    rows = autosomal_rows(source) if variants is None else row_numbers(variants, source.variants.height)
    data = Standardised(source, rows, sample_numbers(samples, source.samples.height))
    if count < 1 or count >= data.people or count > rows.size:
        raise InputError(
            f"{source.path}: {count} components need more people and variants; there are {data.people:,} and "
            f"{rows.size:,}"
        )
    if data.people <= EXACT_PEOPLE:
        values, vectors, total, rounds = _exact(data, count, progress)
    else:
        values, vectors, total, rounds = _iterated(data, count, seed, progress)
    if values[-1] <= 1e-9 * max(total, 1e-9):
        raise InputError(
            f"{source.path}: the genotypes vary in fewer than {count} directions; ask for fewer components"
        )
    loadings, frequencies = _loadings(data, values, vectors, progress)
    signs = np.sign(loadings[np.abs(loadings).argmax(axis=0), np.arange(count)])
    varying = np.count_nonzero((frequencies > 0) & (frequencies < 1))
    ids = source.samples["sample_id"]
    return Components(
        ids if data.samples is None else ids.gather(data.samples),
        source.variants[rows],
        vectors * signs,
        values / varying,
        loadings * signs.astype(np.float32),
        frequencies,
        values / total,
        rounds + 1,
    )


def autosomal_rows(source: GenotypeSource) -> NDArray[np.int64]:
    """Rows of the variants on chromosomes 1 to 22, whichever way they are named."""
    contigs = source.variants["contig"]
    names = [name for name in contigs.unique().to_list() if canonical_contig(name) in AUTOSOMES]
    return np.flatnonzero(contigs.is_in(names).to_numpy()).astype(np.int64)


_Found = tuple[NDArray[np.float64], NDArray[np.float64], float, int]  # eigenvalues of ZZ', vectors, trace, passes


def _exact(data: Standardised, count: int, progress: Progress | None) -> _Found:
    from scipy.linalg import eigh

    products = np.zeros((data.people, data.people))
    for part, values, _ in data.blocks():
        products += values.T @ values
        _tell(progress, part.stop, data.rows.size)
    first = data.people - count
    values, vectors = eigh(products, subset_by_index=(first, data.people - 1), check_finite=False)
    return values[::-1], vectors[:, ::-1], float(np.trace(products)), 1


def _iterated(data: Standardised, count: int, seed: int, progress: Progress | None) -> _Found:
    total, passes = 0.0, 0

    def multiply(columns: NDArray[np.float32]) -> NDArray[np.float64]:
        nonlocal total, passes
        product = np.zeros(columns.shape)
        for part, values, _ in data.blocks():
            product += values.T @ (values @ columns)
            if not passes:
                total += float(np.einsum("ij,ij->", values, values, dtype=np.float64))
            _tell(progress, part.stop, data.rows.size, f", pass {passes + 1}")
        passes += 1
        return product

    found = leading_eigenvectors(multiply, data.people, count, seed=seed)
    return found.values, found.vectors, total, passes


def _loadings(
    data: Standardised, values: NDArray[np.float64], vectors: NDArray[np.float64], progress: Progress | None
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Loadings of unit norm (variants, count), and the variants' frequencies of `alt`."""
    loadings = np.empty((data.rows.size, values.size), np.float32)
    frequencies = np.empty(data.rows.size)
    scaled = (vectors / np.sqrt(values)).astype(np.float32)
    for part, standardised, known in data.blocks():
        loadings[part], frequencies[part] = standardised @ scaled, known
        _tell(progress, part.stop, data.rows.size, ", loadings")
    return loadings, frequencies


def _tell(progress: Progress | None, done: int, total: int, what: str = "") -> None:
    if progress:
        progress(f"{_NAME}{what}", done, total)
