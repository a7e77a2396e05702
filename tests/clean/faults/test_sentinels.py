"""Sentinels planted in simulated values are found; answers, bounds and rounded values are none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from careloop.clean.faults.sentinels import find_sentinel_values, find_sentinels, is_usual
from careloop.clean.sketch import merge, sketch

RATE = 0.01
VALUES = (999.0, 9999.0, -1.0, -9.0, -999.0, 99999.0, 0.0, 99.9)
# Inside of what the code measures (a glucose of 99.9, a marker rounded to 0) nothing tells a sentinel from a value.
INSIDE = {
    99.9: {"glucose", "cholesterol", "weight", "platelets", "crp", "local"},
    0.0: {"creatinine", "bilirubin", "crp", "tsh", "local"},
}


def found_in(events: pl.DataFrame) -> pl.DataFrame:
    whole = merge(sketch(events.filter(pl.col("subject_id") % 2 == shard)) for shard in (0, 1))
    return find_sentinels(events, find_sentinel_values(whole.levels))


@pytest.mark.parametrize("value", VALUES)
def test_planted_sentinels_are_removed(value: float, labs: dict, lab_events: Callable[..., pl.DataFrame]) -> None:
    for seed, (name, lab) in enumerate(labs.items()):
        events = lab_events(lab.code, lab.unit, lab.values(np.random.default_rng(seed), 600, 5))
        bad = np.random.default_rng(seed + 9).random(events.height) < RATE
        planted = np.where(bad, value, events["numeric_value"].to_numpy()).astype(np.float32)
        found = found_in(events.with_columns(numeric_value=pl.Series(planted)))
        if name in INSIDE.get(value, ()):
            assert found.is_empty(), name
            continue
        removed = found.filter(action="removed")["row"].to_numpy()
        assert bad[removed].sum() / bad.sum() >= 0.95, name
        assert bad[found["row"].to_numpy()].mean() >= 0.95, name


def test_several_sentinels_at_once(labs: dict, lab_events: Callable[..., pl.DataFrame]) -> None:
    lab = labs["sodium"]
    events = lab_events(lab.code, lab.unit, lab.values(np.random.default_rng(1), 600, 5))
    value = events["numeric_value"].to_numpy().copy()
    value[:30], value[30:60], value[60:80] = 999, -1, 9999
    found = found_in(events.with_columns(numeric_value=pl.Series(value)))
    assert set(found["row"]) == set(range(80))


def test_another_repeated_number_far_outside_is_only_flagged(
    labs: dict, lab_events: Callable[..., pl.DataFrame]
) -> None:
    lab = labs["sodium"]
    events = lab_events(lab.code, lab.unit, lab.values(np.random.default_rng(1), 600, 5))
    value = events["numeric_value"].to_numpy().copy()
    value[:30] = 1234
    found = found_in(events.with_columns(numeric_value=pl.Series(value)))
    assert found["action"].unique().to_list() == ["flagged"]
    assert set(found["row"]) == set(range(30))


def test_answers_bounds_and_doses_are_no_sentinels(lab_events: Callable[..., pl.DataFrame]) -> None:
    rng = np.random.default_rng(2)
    yes_no = lab_events("LAB//smoker", None, (rng.random((500, 2)) < 0.4) * 1.0)
    score = lab_events("LAB//karnofsky", "{score}", np.round(np.minimum(100, rng.normal(95, 9, (500, 2))), -1))
    assert found_in(yes_no).is_empty()
    assert found_in(score).is_empty()
    lab = lab_events("LAB//x", "mg/L", np.exp(rng.normal(0, 0.2, (500, 2))))
    bound = lab.with_columns(
        numeric_value=pl.when(pl.col("row") < 40).then(pl.lit(999.0)).otherwise("numeric_value").cast(pl.Float32),
        text_value=pl.when(pl.col("row") < 40).then(pl.lit(">")),
    )
    assert found_in(bound).is_empty()
    dose = bound.with_columns(code=pl.lit("RXNORM//1"), text_value=pl.lit(None, dtype=pl.String))
    assert found_in(dose).is_empty()


@pytest.mark.parametrize(
    ("value", "usual"),
    [(999, True), (99.9, True), (9999, True), (-1, True), (-9, True), (0, True), (888, True), (-99, True), (9.99, True),
     (100, False), (1, False), (12, False), (11, False), (5.5, False), (140, False), (-5, False)],
)  # fmt: skip
def test_what_people_write_for_not_measured(value: float, usual: bool) -> None:
    assert is_usual(float(np.float32(value))) == usual
