"""The same model in subgroups of the evaluated rows: discrimination, calibration and error rates in each."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from careloop import InputError
from careloop.evaluate.calibration import WeakStatistic
from careloop.evaluate.censoring import Outcomes
from careloop.evaluate.discrimination import DiscriminationStatistic, Threshold
from careloop.evaluate.estimate import Estimate, Statistic, Support, estimate, replicate

# More groups than this in one variable are an uncut number or an identifier.
MOST_GROUPS = 20
MISSING = "missing"
FIGURES = (
    "auroc", "brier", "observed_expected", "intercept", "slope",
    "prevalence", "recall", "specificity", "precision", "called_positive",
)  # fmt: skip


@dataclass(frozen=True)
class Subgroup:
    """One model in one group of a variable; censoring weights and resamples are those of the group alone."""

    variable: str
    group: str
    rows: Support
    figures: Mapping[str, Estimate]


def evaluate_subgroups(
    probability: np.ndarray,
    outcomes: Outcomes,
    groups: Mapping[str, np.ndarray],
    *,
    threshold: Threshold,
    resamples: int,
    seed: int,
) -> tuple[Subgroup, ...]:
    """`FIGURES` of every group of every variable, variables as given, groups in natural order, missing last.

    `groups` maps a variable to each row's group (n,). Raises InputError where it has another length or too many groups.
    """
    result = []
    for variable, values in groups.items():
        names = group_names(variable, values, len(outcomes))
        for group in ordered(names):
            rows = names == group
            chosen = outcomes.take(rows)
            statistics: dict[str, Statistic] = {
                "discrimination": DiscriminationStatistic.of(probability[rows], chosen, threshold=threshold.value),
                "weak": WeakStatistic.of(probability[rows], chosen),
            }
            replicates = replicate(chosen, statistics, resamples=resamples, seed=seed)
            found, support = replicates["discrimination"] | replicates["weak"], Support.of(chosen)
            figures = {name: estimate(found[name], support) for name in FIGURES}
            result.append(Subgroup(variable, group, support, figures))
    return tuple(result)


def cut_groups(values: np.ndarray, cut_points: Sequence[float]) -> np.ndarray:
    """Groups (n,) of a number between increasing `cut_points`, each including its lower border; NaN is missing."""
    values, borders = np.asarray(values, dtype=np.float64), [f"{point:g}" for point in cut_points]
    if not borders:
        raise InputError("cut_groups needs at least one cut point: got none")
    between = [f"{low} to below {high}" for low, high in itertools.pairwise(borders)]
    names = np.array([f"below {borders[0]}", *between, f"{borders[-1]} and above", MISSING], dtype=object)
    place = np.searchsorted(np.asarray(cut_points), values, side="right")
    return names[np.where(np.isnan(values), len(names) - 1, place)]


def group_names(variable: str, values: np.ndarray, n: int) -> np.ndarray:
    """Each row's group as text; errors as `evaluate_subgroups`."""
    values = np.asarray(values)
    if values.shape != (n,):
        raise InputError(f"subgroup {variable!r} must have one value a row: got shape {values.shape} for {n} rows")
    names = np.array([_name(value) for value in values.tolist()], dtype=object)
    groups = len(set(names.tolist()))
    if groups > MOST_GROUPS:
        raise InputError(
            f"subgroup {variable!r} has {groups} groups, more than {MOST_GROUPS}: give cut_points that divide it"
        )
    return names


def ordered(names: np.ndarray) -> list[str]:
    """The different groups among `names`, in natural order, missing last."""
    return sorted(set(names.tolist()), key=_natural)


def _name(value: object) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return MISSING
    return f"{value:g}" if isinstance(value, float) else str(value)


def _natural(name: str) -> tuple[bool, list[float], str]:
    """Sort key: by the numbers in the name, then by the name; missing comes last."""
    return name == MISSING, [float(number) for number in re.findall(r"-?\d+\.?\d*", name)], name
