"""Subgroups are the evaluation of their rows alone, in a natural order."""

from __future__ import annotations

import numpy as np
import pytest

from careloop import InputError
from careloop.evaluate import Threshold, cut_groups, evaluate_predictions
from careloop.evaluate.subgroups import evaluate_subgroups

STATED = Threshold(0.4, "stated in the test")


def test_numbers_are_cut_with_the_lower_border_included() -> None:
    values = np.array([39.9, 40, 64.9, 65, 120, np.nan])
    assert cut_groups(values, [40, 65]).tolist() == [
        "below 40", "40 to below 65", "40 to below 65", "65 and above", "65 and above", "missing",
    ]  # fmt: skip
    with pytest.raises(InputError, match="at least one cut point"):
        cut_groups(values, [])


def test_a_subgroup_is_its_rows_evaluated_alone(simulated) -> None:
    probability, _, seen = simulated
    sex = np.where(np.arange(len(seen)) % 3 == 0, "F", "M")
    found = evaluate_subgroups(probability, seen, {"sex": sex}, threshold=STATED, resamples=60, seed=4)
    assert [(group.variable, group.group) for group in found] == [("sex", "F"), ("sex", "M")]
    rows = sex == "M"
    alone = evaluate_predictions(probability[rows], seen.take(rows), threshold=STATED, resamples=60, seed=4)
    for name, value in found[1].figures.items():
        where = alone.figures.get(name) or alone.decision.get(name) or getattr(alone.calibration, name)
        assert value == where, name
    assert sum(group.rows.n for group in found) == len(seen)


def test_groups_come_in_natural_order_and_missing_last(simulated) -> None:
    probability, _, seen = simulated
    number = np.where(np.arange(4000) % 7 == 0, np.nan, np.arange(4000) % 150)
    site = np.array([None, 2.0, 10.0, 9.0] * 1000)
    groups = {"age": cut_groups(number, [30, 100]), "site": site}
    found = evaluate_subgroups(probability, seen, groups, threshold=STATED, resamples=5, seed=0)
    assert [group.group for group in found] == [
        "below 30", "30 to below 100", "100 and above", "missing", "2", "9", "10", "missing",
    ]  # fmt: skip


def test_a_small_group_gets_reasons_not_intervals(simulated) -> None:
    probability, _, seen = simulated
    group = np.where(np.arange(4000) < 8, "rare", "usual")
    rare = evaluate_subgroups(probability, seen, {"g": group}, threshold=STATED, resamples=20, seed=0)[0]
    assert rare.rows.n == 8
    assert all(figure.low is None and figure.reason for figure in rare.figures.values())


def test_broken_rules_are_named(simulated) -> None:
    probability, _, seen = simulated
    with pytest.raises(InputError, match="'age' has 4000 groups, more than 20: give cut_points"):
        evaluate_subgroups(probability, seen, {"age": np.arange(4000)}, threshold=STATED, resamples=5, seed=0)
    with pytest.raises(InputError, match="'age' must have one value a row"):
        evaluate_subgroups(probability, seen, {"age": np.arange(3)}, threshold=STATED, resamples=5, seed=0)
