"""From a record to an emulated trial: days, confounders as of each interval, and nothing known later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.cohort import CohortSection, select_cohort
from careloop.features import FeaturesSection, Recipe, fit_recipe
from careloop.plan.trial.definition import TrialSection, check_trial
from careloop.plan.trial.emulate import Grid, TrialData, emulate_trial
from careloop.plan.trial.estimate import estimate_trial
from careloop.record import Record

DAY_0 = datetime(2020, 1, 1, tzinfo=UTC)
Row = tuple[int, float, str, float | None]  # subject, day, code, number
FEATURES = FeaturesSection(
    windows_days=("all",), value=("last",), codes=("LAB",), age="none", missingness="none", min_subjects=1
)
COHORT = CohortSection.model_validate(
    {
        "index": {"code": "INDEX"},
        "outcome": {"codes": "OUTCOME", "horizon_days": 180, "competing": "MEDS_DEATH", "censoring": "END"},
    }
)
SECTION = TrialSection.model_validate(
    {
        "strategies": {"never": {"never": "DRUG"}, "start": {"start": "DRUG", "within_days": 60}},
        "resamples": 50,
    }
)


def events(rows: list[Row], *, known_after: float = 0.0) -> pl.DataFrame:
    table = {
        "subject_id": [row[0] for row in rows],
        "time": [DAY_0 + timedelta(days=row[1]) for row in rows],
        "known_time": [DAY_0 + timedelta(days=row[1] + known_after) for row in rows],
        "code": [row[2] for row in rows],
        "numeric_value": pl.Series([row[3] for row in rows], dtype=pl.Float32),
    }
    return pl.DataFrame(table)


@pytest.fixture(scope="module")
def record_of() -> Iterator[Callable[..., Record]]:
    with TemporaryDirectory() as folder:
        names = count()

        def make(*batches: pl.DataFrame) -> Record:
            record = Record.create(Path(folder) / str(next(names)), shards=1)
            for number, batch in enumerate(batches):
                record = record.append(batch, key=str(number))
            return record

        yield make


SMALL: list[Row] = [
    *((subject, 0, "INDEX", None) for subject in range(6)),
    *((subject, day, "LAB", 10 * subject + day / 30) for subject in range(6) for day in (-10, 20, 45, 100)),
    (0, 40, "DRUG", None),
    (0, 90, "STOP", None),
    (1, 0, "DRUG", None),
    (2, -5, "DRUG", None),
    (3, 70, "OUTCOME", None),
    (4, 100, "END", None),
    *((subject, 190, "LAST", None) for subject in (0, 1, 2, 5)),
]


@pytest.fixture(scope="module")
def small(record_of: Callable[..., Record]) -> tuple[Record, pl.DataFrame]:
    """The small record, and its rows as a cohort without splits (six patients are too few for one)."""
    record = record_of(events(SMALL))
    follow_up, event = [190.0, 190.0, 190.0, 70.0, 100.0, 190.0], [0, 0, 0, 1, 0, 0]
    keys = {"subject_id": range(6), "prediction_time": pl.Series([DAY_0] * 6, dtype=pl.Datetime("us", "UTC"))}
    return record, pl.DataFrame(keys | {"follow_up_days": follow_up, "event": event})


def emulate(small: tuple[Record, pl.DataFrame], section: TrialSection = SECTION, **more: Any) -> TrialData:
    record, rows = small
    return emulate_trial(record, rows, section, **{"features": FEATURES, "horizon_days": 180.0} | more)


def test_days_and_prevalent_users_by_hand(small: tuple[Record, pl.DataFrame]) -> None:
    data = emulate(small)
    assert data.subjects.tolist() == [0, 1, 3, 4, 5]
    assert (data.eligible, data.prevalent) == (6, 1)
    assert data.days["DRUG"].tolist() == [40.0, 0.0, np.inf, np.inf, np.inf]


def test_stops_count_from_the_start(small: tuple[Record, pl.DataFrame]) -> None:
    strategies = {"never": {"never": "DRUG"}, "stay": {"start": "DRUG", "within_days": 60, "not_stopping": "STOP"}}
    data = emulate(small, TrialSection.model_validate({"strategies": strategies, "previous": "keep"}))
    assert data.prevalent == 0
    assert data.stops["stay"].tolist() == [90.0, np.inf, np.inf, np.inf, np.inf, np.inf]


def test_confounders_are_those_of_each_interval(small: tuple[Record, pl.DataFrame]) -> None:
    data = emulate(small)
    last = data.row == 4  # subject 5
    assert data.interval[last].tolist() == [0, 1, 2, 3, 4, 5]
    days = np.array([-10, 20, 45, 45, 100, 100])
    assert np.allclose(data.values[last, 0], 50 + days / 30)
    assert data.interval[data.row == 2].tolist() == [0, 1, 2]  # subject 3 has the outcome on day 70
    assert data.names == ("LAB|all|last",)


def test_treatments_are_no_confounders(small: tuple[Record, pl.DataFrame]) -> None:
    wide = FEATURES.model_copy(update={"codes": "all"})
    assert not any("DRUG" in name for name in emulate(small, features=wide).names)
    record, rows = small
    later = rows.with_columns(prediction_time=pl.col("prediction_time") + pl.duration(days=150))
    recipe = fit_recipe(record, later, wide)
    assert any("DRUG" in name for name in recipe.names)
    assert not any("DRUG" in name for name in emulate(small, features=recipe).names)


def test_a_code_that_does_not_occur_is_told(small: tuple[Record, pl.DataFrame]) -> None:
    section = TrialSection.model_validate({"strategies": {"a": {"never": "DRUG"}, "b": {"start": "DRUGG"}}})
    with pytest.raises(InputError, match=r"strategies.b.start: no event in the record has code DRUGG"):
        emulate(small, section)


def test_intervals_end_at_the_horizon() -> None:
    grid = Grid.of(30.0, 100.0)
    assert np.allclose(grid.starts, [0, 30, 60, 90])
    assert np.allclose(grid.lengths, [1, 1, 1, 1 / 3])
    assert grid.interval_of(np.array([0.0, 30.0, 30.1, 100.0, 500.0])).tolist() == [0, 0, 1, 3, 3]


@pytest.fixture(scope="module")
def recipe(small: tuple[Record, pl.DataFrame]) -> Recipe:
    """Columns that every fact moves."""
    return fit_recipe(*small, FEATURES.model_copy(update={"value": ("last", "mean", "count")}))


@settings(max_examples=6, deadline=None)
@given(
    facts=st.lists(
        st.tuples(st.integers(0, 5), st.floats(-50, 170), st.floats(-1e3, 1e3, width=32)), min_size=1, max_size=6
    ),
    known_after=st.floats(0, 100),
)
def test_facts_known_later_change_no_earlier_interval(
    small: tuple[Record, pl.DataFrame],
    record_of: Callable[..., Record],
    recipe: Recipe,
    facts: list[tuple[int, float, float]],
    known_after: float,
) -> None:
    before = emulate(small, features=recipe)
    added = events([(subject, day, "LAB", value) for subject, day, value in facts], known_after=known_after)
    record = record_of(events(SMALL), added)
    after = emulate((record, small[1]), features=recipe)
    first = {subject: min(day for s, day, _ in facts if s == subject) + known_after for subject, _, _ in facts}
    known = np.array([first.get(subject, np.inf) for subject in before.subjects])[before.row]
    earlier = before.grid.starts[before.interval] < known - 1e-6
    assert np.array_equal(before.values[earlier], after.values[earlier])
    assert np.array_equal(before.row, after.row)


def test_a_trial_from_a_record(simulate: Callable[..., Any], record_of: Callable[..., Record]) -> None:
    """The record's answer is that of the arrays it was made from."""
    simulated = simulate(900, 4)
    rows: list[Row] = []
    for i, severity in enumerate(simulated.severity):
        rows.append((i, 0, "INDEX", None))
        rows += [(i, 30 * k, "LAB", value) for k, value in enumerate(severity) if np.isfinite(value)]
        if np.isfinite(simulated.start[i]):
            rows.append((i, simulated.start[i], "DRUG", None))
        rows.append((i, simulated.follow_up_days[i], ("END", "OUTCOME", "MEDS_DEATH")[simulated.event[i]], None))
    record = record_of(events(rows))
    check_trial(SECTION, COHORT)
    cohort = select_cohort(record, COHORT)
    data = emulate_trial(record, cohort.rows.drop("split"), SECTION, features=FEATURES, horizon_days=180.0)
    direct = simulated.data()
    assert np.allclose(data.days["DRUG"], direct.days["DRUG"], atol=1e-9)
    assert np.array_equal(data.interval, direct.interval)
    assert np.allclose(data.values, direct.values, atol=1e-5)
    found, expected = (estimate_trial(each, SECTION).emulated.contrasts[0] for each in (data, direct))
    assert found.risk_difference.value == pytest.approx(expected.risk_difference.value, abs=1e-4)
    assert found.hazard_ratio.low == pytest.approx(expected.hazard_ratio.low, abs=1e-3)
    learning = emulate_trial(record, cohort.rows, SECTION, features=FEATURES, horizon_days=180.0)
    assert len(learning) == cohort.rows.filter(pl.col("split") != "held_out").height
