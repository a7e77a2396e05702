"""New people put among a reference panel's by its principal components, without the shrinkage of a plain projection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop.genome.genotypes.blocks import blocks
from careloop.genome.genotypes.rows import sample_numbers
from careloop.genome.genotypes.source import GenotypeSource
from careloop.genome.population.ancestry.panel import Panel
from careloop.genome.population.components import with_components
from careloop.genome.population.shared_variants import SharedVariants, require_shared, shared_variants
from careloop.genome.population.standardised import scales

Progress = Callable[[str, int, int], None]
FEWEST_SHARED = 500  # variants with the panel, under which people cannot be placed
_LEAST_SEEN = 0.02  # of a component's loadings, squared and summed up: with less, noise is blown up


@dataclass(frozen=True)
class Projection:
    """Where people lie on a panel's components, on the scale of its people's scores.

    `simple`: (people, count) by the loadings alone, drawn in towards 0; `corrected`: the same without that shrinkage.
    `variants`: (people,) that were called and used; `shared`: those of the panel (the second table) in the file.
    """

    sample_ids: pl.Series
    simple: NDArray[np.float64]
    corrected: NDArray[np.float64]
    variants: NDArray[np.int64]
    shared: SharedVariants

    def table(self) -> pl.DataFrame:
        """`corrected` as a table: sample_id, PC1, PC2 and so on."""
        return with_components(self.sample_ids, self.corrected)


def project(
    source: GenotypeSource,
    panel: Panel,
    *,
    samples: NDArray[np.int64] | None = None,
    progress: Progress | None = None,
) -> Projection:
    """Project people (`samples`, rows; all by default) on a panel.

    Variants that a person or the file lacks are left out of that person's least squares (as smartpca's lsqproject), so
    that gaps do not draw people towards the middle. Then the shrinkage is taken back by OADP (Zhang et al.,
    Bioinformatics 2020;36:3439; Prive et al., Bioinformatics 2020;36:4449).

    Raises:
        InputError: fewer than 500 variants in common, different assemblies, or the file cannot be read to its end.
    """
    shared = shared_variants(source.variants, panel.variants, builds=(source.build, panel.build))
    require_shared(shared, (source.path, source.path.with_name("the reference panel")), least=FEWEST_SHARED)
    picked = sample_numbers(samples, source.samples.height)
    people = source.samples.height if picked is None else picked.size
    sums = _Sums(people, panel.count)
    done = 0
    for block in blocks(source, variants=shared.first, samples=picked, kind="dosages"):
        part = slice(done, done + block.rows.size)
        places = shared.second[part]
        values = np.where(shared.swapped[part][:, None], 2 - block.values, block.values)
        sums.add(values, panel.frequencies[places], panel.loadings[places])
        done = part.stop
        if progress:
            progress("projecting people", done, shared.first.size)
    simple = sums.solved()
    lengths = sums.squares * panel.loadings.shape[0] / np.maximum(sums.called, 1)
    ids = source.samples["sample_id"]
    ids = ids if picked is None else ids.gather(picked)
    return Projection(ids, simple, unshrunk(simple, lengths, panel.singular_values), sums.called, shared)


class _Sums:
    """What a person's least squares needs, summed up over called variants."""

    def __init__(self, people: int, count: int) -> None:
        self.products = np.zeros((people, count))
        self.gram = np.zeros((people, count * count))
        self.squares = np.zeros(people)
        self.called = np.zeros(people, np.int64)

    def add(
        self, dosages: NDArray[np.float32], frequencies: NDArray[np.float64], loadings: NDArray[np.float32]
    ) -> None:
        """Take in more variants: dosages (variants, people), the panel's frequencies and loadings of these."""
        called = ~np.isnan(dosages)
        standard = np.where(called, (dosages - 2 * frequencies[:, None]) * scales(frequencies)[:, None], 0)
        self.products += standard.T @ loadings
        self.squares += np.einsum("ij,ij->j", standard, standard)
        self.called += called.sum(axis=0)
        outer = (loadings[:, :, None].astype(np.float64) * loadings[:, None, :]).reshape(len(loadings), -1)
        self.gram += called.T.astype(np.float64) @ outer

    def solved(self) -> NDArray[np.float64]:
        """Each person's scores: (people, count); NaN where too little is called to tell."""
        count = self.products.shape[1]
        gram = self.gram.reshape(-1, count, count)
        found = np.full(self.products.shape, np.nan)
        enough = np.linalg.eigvalsh(gram)[:, 0] > _LEAST_SEEN
        found[enough] = np.linalg.solve(gram[enough], self.products[enough][:, :, None])[:, :, 0]
        return found


def unshrunk(
    simple: NDArray[np.float64], lengths: NDArray[np.float64], singular_values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Take the shrinkage out of projected scores (people, count): OADP with the panel's `singular_values` (count,).

    `lengths` (people,) are the squared lengths of the people's standardised genotypes. Each person is added to the
    reference as one more row, in the space of the components and the person's own rest, decomposed anew, and the
    reference is turned and scaled back onto itself, which brings the person to where a joint analysis would.
    """
    people, count = simple.shape
    known = np.isfinite(simple).all(axis=1)
    products = np.zeros((int(known.sum()), count + 1, count + 1))
    products[:, range(count), range(count)] = singular_values**2
    products[:, count, :count] = products[:, :count, count] = simple[known] * singular_values
    products[:, count, count] = lengths[known]
    vectors = np.linalg.eigh(products)[1][:, :, :0:-1]  # the largest first, without the last
    left, stretch, right = np.linalg.svd(vectors[:, :count])
    turn = left @ right  # of the reference onto its new place
    scale = stretch.sum(axis=1) / (stretch**2).sum(axis=1)
    found = np.full((people, count), np.nan)
    turned = np.einsum("nk,nlk->nl", vectors[:, count], turn)
    found[known] = scale[:, None] * turned * singular_values
    return found
