"""People of a genotype file placed among a reference panel's groups, as one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop.genome.genotypes.source import GenotypeSource
from careloop.genome.population.ancestry.groups import LIKE_NONE_BELOW, Groups, fit_groups, place_among
from careloop.genome.population.ancestry.panel import Panel
from careloop.genome.population.ancestry.projection import Projection, project

Progress = Callable[[str, int, int], None]
FEW_SHARED = 0.5  # of a panel's variants: a file with fewer is told so


@dataclass(frozen=True)
class Placement:
    """People among a panel's groups.

    `table`, a row a person: sample_id, nearest (group), like_none (whether it is like none of them), p_value (chance
    that a member of the likeliest group lies as far out), variants (used), probability_GROUP, mixture_GROUP where
    components suffice, PC1, PC2 and so on, on the scale of `panel.people`.
    """

    table: pl.DataFrame
    projection: Projection
    groups: Groups
    notes: tuple[str, ...]


def place(
    source: GenotypeSource,
    panel: Panel,
    *,
    samples: NDArray[np.int64] | None = None,
    progress: Progress | None = None,
) -> Placement:
    """Project people on a panel and say which of its groups they are like, with probabilities, or that it is none.

    A group here is how genotypes are alike; it is no statement on anybody's identity.

    Raises:
        InputError: too few variants in common with the panel, or too few people in its groups.
    """
    groups = fit_groups(panel.scores, panel.people["group"].to_list())
    found = project(source, panel, samples=samples, progress=progress)
    places = place_among(groups, found.corrected)
    nearest = places.nearest
    rows = np.arange(nearest.size)
    columns = {f"probability_{name}": places.probabilities[:, number] for number, name in enumerate(groups.names)}
    if places.mixtures is not None:
        columns |= {f"mixture_{name}": places.mixtures[:, number] for number, name in enumerate(groups.names)}
    table = pl.DataFrame(
        {
            "sample_id": found.sample_ids,
            "nearest": [groups.names[number] for number in nearest],
            "like_none": places.like_none,
            "p_value": places.p_values[rows, nearest],
            "variants": found.variants,
            **columns,
        }
    )
    components = found.table().drop("sample_id")
    table = table.hstack(components).with_columns(pl.selectors.float().fill_nan(None))
    return Placement(table, found, groups, _notes(panel, found, groups, places.like_none))


def _notes(panel: Panel, found: Projection, groups: Groups, like_none: NDArray[np.bool_]) -> tuple[str, ...]:
    total, shared = panel.variants.height, found.shared.first.size
    notes = [f"{shared:,} of the panel's {total:,} variants are in the file, matched by {found.shared.by}"]
    if shared < FEW_SHARED * total:
        notes.append("fewer than half of the panel's variants: places are less certain than the probabilities say")
    if groups.too_small:
        notes.append(f"groups with too few people, left out: {', '.join(groups.too_small)}")
    if like_none.any():
        notes.append(f"{int(like_none.sum()):,} people are like no group (chance under {LIKE_NONE_BELOW:g} in each)")
    return tuple(notes)
