"""Predictions: the contract's columns, abstention, and events that go back into the record."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from careloop import InputError
from careloop.features import FeatureMatrix, extract
from careloop.predict import PREDICTIONS, predict, prediction_events
from careloop.train import ModelSection, train_model


def test_columns_types_and_values(world: Any) -> None:
    package = world.package()
    found = predict(package, world.matrix, record_version=7)
    assert found.schema == PREDICTIONS
    assert found.select("subject_id", "prediction_time").equals(world.matrix.keys)
    risk = found["predicted_boolean_probability"]
    np.testing.assert_array_equal(risk, package.risk(world.matrix))
    assert ((found["low"] <= risk) & (risk <= found["high"])).all()
    assert found["boolean_value"].null_count() == found.height
    assert found["model_version"].unique().to_list() == [package.version]
    assert found["record_version"].unique().to_list() == [7]
    kept = found.filter(~pl.col("abstained"))
    assert (kept["predicted_boolean_value"] == (kept["predicted_boolean_probability"] >= package.threshold)).all()


def test_a_prediction_does_not_depend_on_the_rows_beside_it(world: Any) -> None:
    whole = predict(world.package("lightgbm"), world.matrix, record_version=1)
    part = predict(
        world.package("lightgbm"), world.matrix.filter(np.arange(world.matrix.keys.height) % 7 == 3), record_version=1
    )
    joined = part.join(whole, on="subject_id", suffix="_whole")
    assert (joined["predicted_boolean_probability"] == joined["predicted_boolean_probability_whole"]).all()
    assert (joined["low"] == joined["low_whole"]).all()


def test_label_sets_rule_out_what_few_tuning_rows_of_that_label_look_like(world: Any, tmp_path: Any) -> None:
    package = train_model(ModelSection(kind="logistic_regression", calibration="none"), world.data)
    found = predict(package, world.matrix, record_version=7).filter(~pl.col("abstained"))
    found.write_parquet(tmp_path / "predictions.parquet")
    assert pl.read_parquet(tmp_path / "predictions.parquet").equals(found)
    limits, risk = package.conformal.thresholds.overall, found["predicted_boolean_probability"]
    for value, possible in ((False, risk <= limits[0]), (True, 1 - risk <= limits[1])):
        assert (found["conformal_set"].list.contains(value) == possible).all()
    assert set(map(tuple, found["conformal_set"].to_list())) >= {(False,), (True,), (False, True)}
    assert found.sort(risk)["conformal_set"][0].to_list() == [False]


def test_intervals_of_a_package_calibrated_by_venn_abers_are_its_pair(world: Any) -> None:
    package = train_model(ModelSection(kind="logistic_regression", calibration="venn_abers"), world.data)
    found = predict(package, world.matrix, record_version=7)
    low, high = (found[name].to_numpy() for name in ("low", "high"))
    np.testing.assert_allclose(found["predicted_boolean_probability"].to_numpy(), high / (1 - low + high))
    assert (low < high).all()


def test_an_abstained_row_has_a_reason_and_no_decision(world: Any) -> None:
    values = world.matrix.values[:2].copy()
    values[1, world.matrix.names.index("age_years")] = 150
    found = predict(world.package(), FeatureMatrix(world.matrix.keys[:2], world.matrix.names, values), record_version=1)
    assert found["abstained"].to_list() == [False, True]
    assert found["abstained_reason"][0] is None
    assert found["abstained_reason"][1].startswith("age is 150 years")
    assert found["predicted_boolean_value"][1] is None
    assert found["conformal_set"].is_null().to_list() == [False, True]
    assert found["predicted_boolean_probability"][1] is not None


def test_events_say_what_was_predicted_and_go_into_the_record_once(world: Any) -> None:
    found = predict(world.package(), world.matrix, record_version=1)
    events = prediction_events(found, horizon_days=365)
    record = world.record.append(events, key="predictions 1", origin="careloop")
    again = record.append(events, key="predictions 1", origin="careloop")
    written = again.events(codes=["CARELOOP//PREDICTION//*"]).collect()
    assert written.height == found.height
    assert written["code"].unique().to_list() == ["CARELOOP//PREDICTION//logistic_regression"]
    first = written.sort("subject_id").row(0, named=True)
    expected = found.sort("subject_id").row(0, named=True)
    assert first["numeric_value"] == pytest.approx(expected["predicted_boolean_probability"], abs=1e-6)
    details = json.loads(first["text_value"])
    assert details["version"] == expected["model_version"]
    assert (details["low"], details["high"]) == (expected["low"], expected["high"])
    assert details["horizon_days"] == 365
    assert details["abstained"] is expected["abstained"]
    assert details["set"] == expected["conformal_set"]
    assert written["source"].n_unique() == written.height
    assert again.facts_version == world.record.facts_version
    # What careloop wrote changes no feature, so no later prediction either.
    later = extract(again, world.matrix.keys, world.data.recipe)
    np.testing.assert_array_equal(later.values, world.matrix.values)


def test_predictions_must_be_whole(world: Any) -> None:
    found = predict(world.package(), world.matrix, record_version=1)
    with pytest.raises(InputError, match="lack column 'low'"):
        prediction_events(found.drop("low"), horizon_days=365)


def test_predicting_twice_gives_the_same_bytes(world: Any, tmp_path: Any) -> None:
    for name in ("one", "two"):
        predict(replace(world.package()), world.matrix, record_version=1).write_parquet(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_importing_the_room_loads_nothing_heavy() -> None:
    heavy = ["torch", "optuna", "skops", "matplotlib", "lightgbm", "shap"]
    code = f"import sys, careloop.predict; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
