"""The people and covariates of a regression, as an orthonormal basis and what of the trait is left of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from careloop import InputError

Trait = Literal["quantitative", "binary"]
COLLINEAR = 1e-5  # share of a covariate's length that is left beside the others, below which it says nothing new


@dataclass(frozen=True)
class Design:
    """`people` are rows of the source's samples, in the order of `trait` (n,), and of `basis` (n, k).

    `basis` is an orthonormal basis of the intercept and covariates, float64; a binary trait is 1 for cases and 0.
    `dropped` says of each covariate that adds nothing why.
    """

    people: NDArray[np.int64]
    trait: NDArray[np.float64]
    basis: NDArray[np.float64]
    kind: Trait
    dropped: Mapping[str, str]


def make_design(
    people: NDArray[np.int64],
    trait: NDArray[np.float64],
    covariates: Mapping[str, NDArray[np.float64]],
    *,
    kind: Trait,
) -> Design:
    """A design of an intercept and covariates (n,) each.

    Raises:
        InputError: the trait is constant, or there are no more people than covariates.
    """
    if len(people) <= len(covariates) + 2:
        raise InputError(
            f"a regression needs more people than covariates; {len(people):,} have the trait and all of "
            f"{len(covariates)} covariates; give fewer covariates, or check that ids are those of the genotypes"
        )
    if np.ptp(trait) == 0:
        raise InputError(f"the trait has one value among the {len(people):,} people analysed, so nothing can be tested")
    columns, dropped = [np.full(len(people), len(people) ** -0.5)], {}
    for name, values in covariates.items():
        centred = values - values.mean()
        column = _left(centred, columns)
        if np.linalg.norm(column) <= COLLINEAR * np.linalg.norm(centred):
            dropped[name] = "is constant" if np.ptp(values) == 0 else "follows from the covariates before it"
        else:
            columns.append(column / np.linalg.norm(column))
    return Design(people, trait, np.column_stack(columns), kind, dropped)


def _left(column: NDArray[np.float64], basis: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """What of a column is orthogonal to a basis; taken out twice, since once leaves rounding errors."""
    for _ in range(2):
        for one in basis:
            column = column - one * (one @ column)
    return column
