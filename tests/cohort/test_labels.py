"""Labels at the borders: ties, the horizon's end, censoring rules, later records, and MEDS's label schema."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from meds import LabelSchema

from careloop import InputError
from careloop.cohort import CohortSection, label_outcomes, meds_labels
from careloop.record import Record

DAY_0 = datetime(2020, 1, 1, tzinfo=UTC)
KEYS = pl.DataFrame(
    {"subject_id": [1], "prediction_time": [DAY_0]},
    schema={"subject_id": pl.Int64, "prediction_time": pl.Datetime("us", "UTC")},
)


def section(**changes: Any) -> CohortSection:
    outcome = {"codes": ["OUT"], "horizon_days": 30, **changes.pop("outcome", {})}
    return CohortSection.model_validate({"index": {"code": "INDEX"}, "outcome": outcome, **changes})


@pytest.mark.parametrize(
    ("rows", "outcome", "expected"),
    [
        # outcome, competing and censoring at one time: in this order
        ([(1, 5, "OUT"), (1, 5, "MEDS_DEATH")], {"competing": ["MEDS_DEATH"]}, (True, 5.0, 1)),
        ([(1, 5, "OUT"), (1, 5, "MEDS_DEATH")], {}, (True, 5.0, 1)),
        ([(1, 5, "OUT"), (1, 5, "MOVED")], {"censoring": ["MOVED"]}, (True, 5.0, 1)),
        ([(1, 5, "OTHER"), (1, 5, "MOVED")], {"competing": ["OTHER"], "censoring": ["MOVED"]}, (False, 5.0, 2)),
        # whichever comes first
        ([(1, 4, "MEDS_DEATH"), (1, 5, "OUT")], {"competing": ["MEDS_DEATH"]}, (False, 4.0, 2)),
        ([(1, 4, "MEDS_DEATH"), (1, 5, "OUT")], {}, (None, 4.0, 0)),
        ([(1, 4, "MOVED"), (1, 5, "OUT")], {"censoring": ["MOVED"]}, (None, 4.0, 0)),
        ([(1, 4, "OUT"), (1, 6, "OUT")], {}, (True, 4.0, 1)),
        # the horizon's last moment belongs to it, for the outcome and for having been followed
        ([(1, 30, "OUT")], {}, (True, 30.0, 1)),
        ([(1, 30.5, "OUT")], {}, (False, 30.5, 1)),
        ([(1, 30, "VISIT")], {}, (False, 30.0, 0)),
        ([(1, 29.5, "VISIT")], {}, (None, 29.5, 0)),
        ([(1, 20, "MEDS_DEATH"), (1, 40, "VISIT")], {"competing": ["MEDS_DEATH"]}, (False, 20.0, 2)),
        # at the prediction time itself is not after it; careloop's own events are no follow-up
        ([(1, 0, "OUT"), (1, 10, "VISIT")], {}, (None, 10.0, 0)),
        ([(1, 0, "INDEX"), (1, 40, "CARELOOP//PREDICTION//m")], {}, (None, 0.0, 0)),
        ([(1, -9, "VISIT")], {}, (None, 0.0, 0)),
        # an explicit censoring code that never comes: the last event ends follow-up
        ([(1, 12, "VISIT")], {"censoring": ["MOVED"]}, (None, 12.0, 0)),
        ([(1, None, "OUT"), (1, 12, "VISIT")], {}, (None, 12.0, 0)),
    ],
)
def test_the_first_event_after_the_prediction_time_decides(
    record_of: Callable[..., Record], rows: list[tuple[Any, ...]], outcome: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    labels = label_outcomes(record_of(rows), KEYS, section(outcome=outcome))
    assert labels.select("boolean_value", "follow_up_days", "event").row(0) == expected


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(1, 138, "CD4", 300), (1, 145, "CD4", 400)], 300.0),  # the nearer
        ([(1, 137, "CD4", 300), (1, 143, "CD4", 400)], 300.0),  # of two as near, the earlier
        ([(1, 140, "CD4", 300, 141), (1, 140, "CD4", 350, 150)], 350.0),  # a correction became known later
        ([(1, 130, "CD4", 300)], 300.0),
        ([(1, 129, "CD4", 300)], None),
        ([(1, 140, "CD4", None), (1, 149, "CD4", 200)], 200.0),
    ],
)
def test_a_measure_is_the_value_nearest_to_its_day(
    record_of: Callable[..., Record], rows: list[tuple[Any, ...]], expected: float | None
) -> None:
    measure = {"name": "cd4", "code": "CD4", "at_days": 140, "within_days": 10}
    assert label_outcomes(record_of(rows), KEYS, section(measures=[measure]))["measure_cd4"].item() == expected


def test_change_from_baseline_takes_the_last_value_known_at_the_prediction_time(
    record_of: Callable[..., Record],
) -> None:
    measure = {"name": "gain", "code": "CD4", "at_days": 140, "within_days": 10, "change_from_baseline_code": "CD4"}
    rows = [(1, None, "CD4", 100), (1, -9, "CD4", 250), (1, -1, "CD4", 280, 3), (1, 140, "CD4", 300)]
    assert label_outcomes(record_of(rows), KEYS, section(measures=[measure]))["measure_gain"].item() == 50.0


def test_a_later_record_turns_a_censored_label_into_a_known_one(
    record_of: Callable[..., Record], events_of: Callable[..., pl.DataFrame]
) -> None:
    record = record_of([(1, 0, "INDEX"), (1, 10, "VISIT")])
    assert label_outcomes(record, KEYS, section()).row(0)[2:] == (None, 10.0, 0)
    later = record.append(events_of([(1, 25, "OUT")]), key="later")
    assert label_outcomes(later, KEYS, section()).row(0)[2:] == (True, 25.0, 1)


def test_repeated_and_unknown_subjects_are_refused(record_of: Callable[..., Record]) -> None:
    record = record_of([(1, 0, "INDEX")])
    with pytest.raises(InputError, match="occurs twice"):
        label_outcomes(record, pl.concat([KEYS, KEYS]), section())
    unknown = KEYS.with_columns(subject_id=pl.lit(7, pl.Int64))
    with pytest.raises(InputError, match="1 of the subjects to label have no event"):
        label_outcomes(record, unknown, section())


def test_known_labels_meet_the_meds_label_schema(record_of: Callable[..., Record]) -> None:
    keys = pl.concat([KEYS, KEYS.with_columns(pl.col("prediction_time") + timedelta(days=20))])
    labels = label_outcomes(record_of([(1, 25, "OUT"), (1, 21, "VISIT")]), keys, section())
    table = meds_labels(labels).to_arrow()
    LabelSchema.validate(table)
    assert table.column("boolean_value").to_pylist() == [True, True]
    assert table.column("prediction_time").to_pylist()[1] == datetime(2020, 1, 21)
