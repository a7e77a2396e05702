"""All parts together, from rows and from the record."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from careloop import InputError
from careloop.cohort import CohortSection
from careloop.features import FeatureMatrix
from careloop.outcome.events import labelled_predictions
from careloop.outcome.stream.follow import follow, last_fact
from careloop.outcome.stream.watch import Inputs, watch_models
from careloop.predict import prediction_events
from careloop.record import Record

START = datetime(2020, 1, 1, tzinfo=UTC)


def _inputs(rows: pl.DataFrame) -> Inputs:
    """Two laboratory values; the second is higher from row 700 on."""
    random = np.random.default_rng(0)
    keys = rows.select("subject_id", "prediction_time")
    values = random.normal(size=(rows.height, 2))
    values[700:, 1] += 3
    reference = FeatureMatrix(keys.head(300), ("hb", "crea"), random.normal(size=(300, 2)).astype(np.float32))
    return Inputs(reference, FeatureMatrix(keys, ("hb", "crea"), values.astype(np.float32)))


def test_a_drifted_stream_is_told_in_all_parts(stream, after_all) -> None:
    rows = stream(1500, 3, drift=lambda x: x + 1.2 * (np.arange(len(x)) >= 600))
    found = follow(rows, horizon_days=30.0, as_of=after_all(rows), inputs=_inputs(rows))
    (verdict,) = found.streams
    assert {each.kind for each in verdict.evidence if each.alarm} >= {"level", "input"}
    assert "more outcomes than predicted" in verdict.words
    assert "crea: values higher than before" in verdict.words
    assert sum(each.alpha for each in verdict.evidence) == pytest.approx(0.05)
    assert found.borne_out[0].answer == "not borne out"
    assert found.suggestions[0].test.advice == "intercept"
    assert found.suggestions[0].beside.brier_difference.high < 0
    content = json.loads(json.dumps(found.to_json()))
    assert content["streams"][0]["alarm"] == verdict.first_alarm.kind
    path = next(e for e in content["streams"][0]["evidence"] if e["kind"] == "level")
    assert len(path["times"]) == len(path["log10"]) == len(path["points"]) <= 501
    assert path["log10"][path["points"].index(path["alarm_row"])] >= path["line"]


def test_a_right_model_is_left_alone_and_told_how_many_patients_are_needed(stream) -> None:
    rows = stream(480, 4)
    found = follow(rows, horizon_days=30.0, as_of=rows["prediction_time"].max())
    assert "no alarm after 300 predictions whose outcome is known, 180 are still waited for" in found.words[0]
    assert found.borne_out[0].answer == "cannot tell yet"
    assert f"about {found.borne_out[0].still_needed} more patients" in found.words[1]


def test_inputs_are_watched_before_any_outcome_is_known(stream) -> None:
    rows = stream(800, 5)
    as_of = rows["prediction_time"].min()
    (verdict,) = watch_models(rows, horizon_days=30.0, as_of=as_of, inputs=_inputs(rows))
    assert verdict.entered == 0
    assert verdict.first_alarm.feature == "crea"
    assert verdict.first_alarm.alarm_row > 700


def test_inputs_with_other_columns_are_refused(stream) -> None:
    inputs = _inputs(stream(800, 6))
    with pytest.raises(InputError, match="columns of the reference in the same order"):
        Inputs(inputs.reference, inputs.stream.select(["crea", "hb"]))


def test_the_record_is_followed_up_to_its_last_fact(tmp_path: Path) -> None:
    subjects = range(1, 121)
    section = CohortSection.model_validate(
        {"index": {"code": "VISIT//INDEX"}, "outcome": {"codes": ["OUTCOME"], "horizon_days": 100}}
    )
    made = [START + timedelta(days=s) for s in subjects]
    facts = [(s, time, "VISIT//INDEX") for s, time in zip(subjects, made, strict=True)]
    facts += [(s, START + timedelta(days=150), "VISIT//LAST") for s in subjects]
    facts += [(s, time + timedelta(days=40), "OUTCOME") for s, time in zip(subjects, made, strict=True) if s % 4 == 0]
    table = pl.DataFrame(facts, schema=["subject_id", "time", "code"], orient="row")
    record = Record.create(tmp_path / "record", shards=2).append(
        table.filter(pl.col("time") <= START + timedelta(days=150)), key="facts"
    )
    with pytest.raises(InputError, match="a verdict needs predictions"):
        labelled_predictions(record, section)
    record = record.append(prediction_events(_predictions(made), horizon_days=100), key="p", origin="careloop")
    found = follow(labelled_predictions(record, section), horizon_days=100, as_of=last_fact(record))
    assert found.as_of == "2020-05-30T00:00:00"
    (verdict,) = found.streams
    # Predictions of days 1 to 50 have had their 100 days by day 150.
    assert (verdict.entered, verdict.waiting) == (50, 70)
    assert [m.known for m in found.months[0].months] == [True, False, False, False]
    assert found.months[0].months[0].verdict.events == 7


def _predictions(made: list[datetime]) -> pl.DataFrame:
    n = len(made)
    return pl.DataFrame(
        {
            "subject_id": range(1, n + 1),
            "prediction_time": pl.Series(made, dtype=pl.Datetime("us", "UTC")),
            "boolean_value": pl.Series([None] * n, dtype=pl.Boolean),
            "predicted_boolean_value": [False] * n,
            "predicted_boolean_probability": [0.25] * n,
            "model": "cox",
            "model_version": "7",
            "low": 0.1,
            "high": 0.4,
            "abstained": False,
            "abstained_reason": pl.Series([None] * n, dtype=pl.String),
            "record_version": 1,
            "conformal_set": [[False]] * n,
        }
    )
