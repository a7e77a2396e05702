"""What a study needs, on ACTG 175: counts, Riley's floors, learning curves and networks."""

from __future__ import annotations

import json
import math
from pathlib import Path

import polars as pl
import pytest

from careloop.cohort import select_cohort
from careloop.evaluate import to_json
from careloop.evaluate.sample_size import binary_sample_size, max_r2_binary, r2_from_c_statistic
from careloop.models.sequence.resources import SIZES
from careloop.record import Record
from careloop.study import Study, example_study
from careloop.study.estimate import StudyEstimate, estimate_study


@pytest.fixture(scope="module")
def study() -> Study:
    return Study.read(example_study("actg175"))


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    pytest.importorskip("lifelines")
    from careloop.ingest import example_record

    return example_record("actg175", tmp_path_factory.mktemp("estimate") / "record")


@pytest.fixture(scope="module")
def found(study: Study, record: Record) -> StudyEstimate:
    return estimate_study(study, record, epochs=3)


def test_counts_are_those_of_the_cohort(found: StudyEstimate, study: Study, record: Record) -> None:
    rows = select_cohort(record, study.cohort).rows
    assert [counted.split for counted in found.counts] == ["train", "tuning", "held_out", "all"]
    everyone, training = found.counts[-1], found.counts[0]
    horizon = study.cohort.outcome.horizon_days
    ill = rows.filter((pl.col("event") == 1) & (pl.col("follow_up_days") <= horizon))
    assert (everyone.rows, everyone.subjects, everyone.events) == (rows.height, rows.height, ill.height)
    years = rows["follow_up_days"].clip(upper_bound=horizon) / 365.25
    assert everyone.mean_follow_up_years == pytest.approx(years.mean())
    assert everyone.rate_per_year == pytest.approx(ill.height / years.sum())
    train = rows.filter(pl.col("split") == "train")
    assert training.rows == train.height
    # Above the plain share of events, since some are censored before the horizon.
    assert training.risk is not None
    assert training.events / training.rows < training.risk < 1.1 * training.events / training.rows


def test_floors_are_rileys_for_the_training_rows(found: StudyEstimate) -> None:
    risk, logistic = found.counts[0].risk, found.curves[0].curve
    assert risk is not None
    assert logistic is not None
    fixed, measured, survival = found.floors
    assert fixed.size == binary_sample_size(found.parameters, risk, 0.15 * max_r2_binary(risk))
    reached = 1 - logistic.seen[-1][1]
    assert measured.size == binary_sample_size(found.parameters, risk, r2_from_c_statistic(reached, risk))
    assert f"AUROC {reached:.2f} as logistic_regression" in measured.assumption
    assert survival.size.kind == "time_to_event"
    for floor in found.floors:
        assert floor.parameters_allowed < found.parameters  # 1,252 patients are too few for 17 parameters
        assert floor.size.n > found.counts[0].subjects
    assert found.parameters == found.features == 17


def test_curves_are_of_the_two_reference_models(found: StudyEstimate) -> None:
    assert [curve.model for curve in found.curves] == ["logistic_regression", "lightgbm"]
    for one in found.curves:
        assert one.curve is not None
        assert [ahead.n for ahead in one.curve.predictions] == [1252, 2504, 5008]
        assert 0.6 < 1 - one.curve.seen[-1][1] < 0.85
        assert one.words


def test_networks_are_sized_for_the_records_events(found: StudyEstimate, record: Record) -> None:
    timed = record.events().filter(pl.col("time").is_not_null()).collect()
    assert found.work.tokens == timed.height
    assert found.work.vocabulary == timed["code"].n_unique() + 4
    assert found.work.epochs == 3
    mates = timed.join(timed.group_by("subject_id").len(), on="subject_id")["len"]
    assert mates.max() < 512
    assert found.work.context == math.ceil(mates.mean())
    assert [network.size for network in found.networks] == list(SIZES)
    assert len(found.assumptions) == 3


def test_the_estimate_is_plain_json_and_names_no_patient(found: StudyEstimate) -> None:
    text = json.dumps(to_json(found), allow_nan=False)
    assert "subject_id" not in text


def test_a_study_without_references_gets_them_with_their_defaults(study: Study, record: Record, tmp_path: Path) -> None:
    from careloop.study.estimate import _references

    content = study.model_dump(mode="json", exclude_none=True)
    content["models"] = [{"kind": "cox"}, {"kind": "lightgbm", "name": "trees", "tuning": {"trials": 3}}]
    sections = _references(Study.model_validate(content))
    assert [(section.kind, section.name, section.tuning) for section in sections] == [
        ("logistic_regression", "logistic_regression", None),
        ("lightgbm", "trees", None),
    ]
