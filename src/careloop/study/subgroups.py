"""The groups of rows in which a study evaluates its models too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from careloop import InputError
from careloop.evaluate import SubgroupSection
from careloop.features import FeatureMatrix


def subgroups(sections: Sequence[SubgroupSection], matrix: FeatureMatrix) -> dict[str, np.ndarray]:
    """Each variable's group of every row (n,), from the columns of the feature or static code that it names.

    Raises InputError for a feature that the study does not have.
    """
    return {section.feature: _groups(section, matrix) for section in sections}


def _groups(section: SubgroupSection, matrix: FeatureMatrix) -> np.ndarray:
    from careloop.evaluate.subgroups import cut_groups

    categories = [name for name in matrix.names if name.startswith(f"static|{section.feature}=")]
    if categories:
        chosen = np.asarray(matrix.select(categories).values)
        named = np.array([name.split("=", 1)[1] for name in categories] + ["other"], dtype=object)
        return np.asarray(named[np.where(chosen.any(axis=1), chosen.argmax(axis=1), len(categories))])
    name = section.feature if section.feature in matrix.names else f"static|{section.feature}"
    if name not in matrix.names:
        raise InputError(
            f"evaluation.subgroups: {section.feature} is no feature of this study; features.parquet has the names, "
            f"such as {matrix.names[0]}"
        )
    values = np.asarray(matrix.select([name]).values)[:, 0]
    if section.cut_points:
        return cut_groups(values, section.cut_points)
    is_indicator = set(np.unique(values)) <= {0.0, 1.0}
    return np.where(values > 0, "yes", "no") if is_indicator else values
