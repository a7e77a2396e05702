"""The verdict as a whole: JSON, errors, events, and predictions in the record judged as later events arrive."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from careloop import InputError
from careloop.cohort import CohortSection
from careloop.outcome import recorded_predictions, verdict_events, verify, verify_record
from careloop.plan import make_plan
from careloop.predict import prediction_events
from careloop.record import EVENTS, Record

START = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def verdict(study_rows, predictions_of, section):
    rows, matrix, risk = study_rows(900, 0, effect=-1.0)
    plan = make_plan(rows, matrix, section, horizon_days=365)
    predictions = predictions_of(rows, risk[:, 0])
    return verify(predictions, rows, horizon_days=365, plan=plan, matrix=matrix)


def test_the_verdict_is_about_held_out_rows_and_serialises(verdict) -> None:
    content = json.loads(json.dumps(verdict.to_json()))
    assert content["predictions"][0]["patients"] == 300
    assert content["plan"][0]["patients"] == 300
    assert set(content) == {"horizon_days", "predictions", "plan", "words"}
    assert set(content["plan"][0]["plan"]) == {"choice", "mean", "snips", "effective_sample"}
    assert len(content["words"]) == 2
    assert verdict.patients.height == 300


def test_verdict_events_are_the_known_outcomes_at_the_time_they_became_known(verdict) -> None:
    events = verdict_events(verdict, name="trial")
    known = verdict.patients.filter(pl.col("boolean_value").is_not_null())
    assert events.schema == EVENTS
    assert 0 < known.height == events.height < verdict.patients.height
    assert events["code"].unique().to_list() == ["CARELOOP//VERDICT//trial//model"]
    row = known.filter("boolean_value").row(0, named=True)
    event = events.filter(subject_id=row["subject_id"]).row(0, named=True)
    assert event["numeric_value"] == 1
    assert event["time"] == row["prediction_time"] + timedelta(days=row["known_days"])
    detail = json.loads(event["text_value"])
    assert (detail["recommended"], detail["given"]) == (row["recommended"], row["given"])
    assert detail["predicted"] == pytest.approx(row["predicted"])
    free = events.filter(numeric_value=0)
    assert (free["time"] == START + timedelta(days=365)).all()


def test_missing_parts_are_named(study_rows, predictions_of, section) -> None:
    rows, matrix, risk = study_rows(300, 1)
    training = rows.filter(pl.col("split") == "train")
    with pytest.raises(InputError, match="predict for the held-out rows first"):
        verify(predictions_of(training, risk[: training.height, 0]), rows, horizon_days=365)
    plan = make_plan(rows, matrix, section, horizon_days=365)
    with pytest.raises(InputError, match="pass matrix"):
        verify(predictions_of(rows, risk[:, 0]), rows, horizon_days=365, plan=plan)


def _facts(subjects: range, *, until: int) -> pl.DataFrame:
    """Visits to day `until`; every fourth subject has the outcome on day 200."""
    rows = [(s, START, "VISIT//INDEX") for s in subjects]
    rows += [(s, START + timedelta(days=until), "VISIT//LAST") for s in subjects]
    rows += [(s, START + timedelta(days=200), "OUTCOME") for s in subjects if s % 4 == 0 and until >= 200]
    return pl.DataFrame(rows, schema=["subject_id", "time", "code"], orient="row")


def _predictions(subjects: range) -> pl.DataFrame:
    n = len(subjects)
    return pl.DataFrame(
        {
            "subject_id": subjects,
            "prediction_time": pl.Series([START] * n, dtype=pl.Datetime("us", "UTC")),
            "boolean_value": pl.Series([None] * n, dtype=pl.Boolean),
            "predicted_boolean_value": [False] * n,
            "predicted_boolean_probability": [0.35 if s % 4 == 0 else 0.22 + 0.002 * (s % 7) for s in subjects],
            "model": "cox",
            "model_version": "7",
            "low": 0.1,
            "high": 0.4,
            "abstained": [s == 1 for s in subjects],
            "abstained_reason": pl.Series([None] * n, dtype=pl.String),
            "record_version": 1,
            "conformal_set": [[False]] * n,
        }
    )


def test_recorded_predictions_are_judged_when_later_events_arrive(tmp_path: Path) -> None:
    subjects = range(1, 121)
    section = CohortSection.model_validate(
        {"index": {"code": "VISIT//INDEX"}, "outcome": {"codes": ["OUTCOME"], "horizon_days": 365}}
    )
    record = Record.create(tmp_path / "record", shards=2).append(_facts(subjects, until=100), key="first")
    with pytest.raises(InputError, match="predict and write them back first"):
        verify_record(record, section)
    for horizon_days in (365, 30):  # those for another horizon are left alone
        events = prediction_events(_predictions(subjects), horizon_days=horizon_days)
        record = record.append(events, key=f"predictions {horizon_days}", origin="careloop")
    early = verify_record(record, section)
    assert "no verdict yet on 119 later patients" in early.words[0]
    assert verdict_events(early, name="trial").is_empty()

    later = record.append(_facts(subjects, until=400), key="second")
    verdict = verify_record(later, section)
    (judged,) = verdict.predictions
    assert (judged.model, judged.model_version, judged.rows, judged.abstained, judged.events) == (
        "cox",
        "7",
        119,
        1,
        30,
    )
    assert judged.observed.value == pytest.approx(30 / 119)
    assert judged.auroc.value == 1.0
    assert "was right on average" in judged.words
    written = later.append(verdict_events(verdict, name="trial"), key="verdict", origin="careloop")
    assert written.facts_version == later.facts_version
    assert recorded_predictions(written, horizon_days=365).equals(recorded_predictions(record, horizon_days=365))
    assert verify_record(written, section).to_json() == verdict.to_json()
