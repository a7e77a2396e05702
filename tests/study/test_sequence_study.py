"""A study with pre-training and models over event sequences: whole, repeatable, as of the prediction time, usable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from click.testing import CliRunner
from markupsafe import escape

from careloop import InputError
from careloop.features.timelines import Timelines
from careloop.record import Record
from careloop.study import Study

pytest.importorskip("torch")
SMALL = {"width": 16, "layers": 1, "heads": 2, "max_epochs": 2, "device": "cpu"}
MODELS: list[dict[str, Any]] = [
    {"kind": "gru", "parameters": SMALL, "beside": "static"},
    {
        "kind": "transformer",
        "name": "pretrained",
        "start": "pretrained",
        "parameters": {"max_epochs": 2, "device": "cpu"},
    },
    {"kind": "gru", "name": "tuned", "parameters": {**SMALL, "members": 2}, "tuning": {"trials": 2, "folds": 2}},
    {"kind": "temporal_cnn", "name": "labels", "parameters": {**SMALL, "target": "label"}, "beside": "all"},
]
PRETRAINING = {"size": "tiny", "max_epochs": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def sequences(simulated: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The simulated patients' study with three models over event sequences."""
    settings = yaml.safe_load(simulated.study_file.read_text(encoding="utf-8"))
    settings |= {
        "models": MODELS,
        "pretraining": PRETRAINING,
        "timelines": {"min_subjects": 5},
        "primary_model": "pretrained",
    }
    settings["evaluation"] = {"resamples": 100}
    folder = tmp_path_factory.mktemp("sequences")
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    record = Record.create(folder / "record", shards=2).append(simulated.record.events().collect(), key="simulated")
    return simulated.again(folder / "run", study=Study.read(file), record=record)


def test_all_models_stand_beside_the_references_on_the_same_rows(sequences: Any) -> None:
    predictions = pl.read_parquet(sequences.run / "predictions.parquet")
    rows = {name: set(part["subject_id"]) for (name,), part in predictions.group_by("model")}
    assert set(rows) == {"logistic_regression", "lightgbm", "gru", "pretrained", "tuned", "labels"}
    assert len(set(map(frozenset, rows.values()))) == 1
    evaluation = json.loads((sequences.run / "evaluation.json").read_text(encoding="utf-8"))
    assert {c["first"] for c in evaluation["comparisons"]} | {c["second"] for c in evaluation["comparisons"]} == set(
        rows
    )
    assert evaluation["models"]["gru"]["survival"] is not None
    assert evaluation["models"]["labels"]["survival"] is None
    assert (sequences.run / "report.html").is_file()


def test_nothing_runs_again_and_training_leaves_no_workspace(sequences: Any) -> None:
    states: list[tuple[str, str]] = []
    sequences.study.run(sequences.record, sequences.run, notify=lambda stage, state: states.append((stage, state)))
    assert {state for _, state in states} == {"unchanged"}
    assert not any((sequences.run / ".training").iterdir())


def test_nobody_held_out_was_seen_in_pre_training(sequences: Any) -> None:
    seen = pl.read_parquet(sequences.run / "pretrained" / "subjects.parquet")["subject_id"]
    cohort = pl.read_parquet(sequences.run / "cohort.parquet")
    assert not set(seen) & set(cohort.filter(pl.col("split") != "train")["subject_id"])
    assert set(cohort.filter(pl.col("split") == "train")["subject_id"]) < set(seen)


def test_packages_predict_from_the_record_what_the_run_predicted(sequences: Any) -> None:
    from careloop.predict import predict, record_patients
    from careloop.train import open_package

    held_out = pl.read_parquet(sequences.run / "predictions.parquet")
    facts = Record.open(sequences.record.path, version=1)
    for name in ("gru", "pretrained", "labels"):
        package = open_package(sequences.run / "models" / name)
        row = held_out.filter(pl.col("model") == name).row(0, named=True)
        matrix = record_patients(facts, package, subjects=[row["subject_id"]], prediction_time=row["prediction_time"])
        risk = predict(package, matrix, record_version=1)["predicted_boolean_probability"][0]
        assert risk == pytest.approx(row["predicted_boolean_probability"], rel=1e-5)


def test_a_file_of_events_is_read_and_one_of_features_is_refused(sequences: Any, tmp_path: Path) -> None:
    from careloop.predict import predict, read_patients
    from careloop.train import open_package

    package = open_package(sequences.run / "models" / "pretrained")
    (tmp_path / "events.csv").write_text(
        "subject_id,time,code,numeric_value,unit\n1,1960-01-01T00:00:00Z,MEDS_BIRTH,,\n"
        "1,2020-01-01T00:00:00Z,LAB//a,5,mmol/L\n1,2020-02-01T00:00:00Z,INDEX,,\n",
        encoding="utf-8",
    )
    found = predict(package, read_patients(tmp_path / "events.csv", package).matrix, record_version=0)
    assert 0 < found["predicted_boolean_probability"][0] < 1
    (tmp_path / "wide.csv").write_text("age_years\n60\n", encoding="utf-8")
    with pytest.raises(InputError, match="pretrained reads event sequences"):
        predict(package, read_patients(tmp_path / "wide.csv", package).matrix, record_version=0)


def test_patients_are_explained_by_events_whose_shares_add_up(sequences: Any) -> None:
    from careloop.predict import explain
    from careloop.study.folder import RunFolder
    from careloop.study.stages import feature_matrix
    from careloop.train import open_package

    matrix = feature_matrix(RunFolder.reopen(sequences.run), "held_out")
    for name in ("gru", "pretrained"):
        found = explain(open_package(sequences.run / "models" / name), matrix, 3)
        total = sum(factor.share for factor in found.factors)
        assert found.reference_risk + total == pytest.approx(found.risk, abs=0.01)
    patients = json.loads((sequences.run / "patients.json").read_text(encoding="utf-8"))
    assert all(patient["events"] for patient in patients)
    check = json.loads((sequences.run / "explanation.json").read_text(encoding="utf-8"))
    assert check["rows"] > 0
    assert str(escape(check["text"])) in (sequences.run / "report.html").read_text(encoding="utf-8")


def test_timelines_show_nothing_that_was_not_known(sequences: Any) -> None:
    timelines = Timelines.open(sequences.run / "timelines")
    rows = timelines.sequences.take(np.arange(len(timelines)))
    assert (rows.time <= np.repeat(rows.at, rows.lengths)).all()


def test_pretraining_alone_and_what_run_then_finds(sequences: Any, tmp_path: Path) -> None:
    from careloop.cli import cli

    file = tmp_path / "study.yaml"
    file.write_text((sequences.run / "study.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    arguments = [
        "pretrain",
        str(file),
        "--record",
        str(sequences.record.path),
        "--out",
        str(tmp_path / "run"),
        "--json",
    ]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert shown["subjects"] > 0
    assert len(shown["validation_loss"]) == 2
    again = CliRunner().invoke(cli, arguments)
    assert "pretraining: unchanged" in again.stderr


def test_training_that_was_left_with_other_inputs_is_removed(tmp_path: Path) -> None:
    from careloop.study.folder import RunFolder
    from careloop.study.sequence_stages import training_workspace

    run = RunFolder.begin(tmp_path / "run")
    names = [f"model gru-{'a' * 16}", f"model gru-{'b' * 16}", f"model gru-b-{'a' * 16}", f"pretraining-{'a' * 16}"]
    for name in names:
        (run.path / ".training" / name).mkdir(parents=True)
    found = training_workspace(run, "model gru", "b" * 64)
    assert sorted(path.name for path in found.parent.iterdir()) == sorted(names[1:])
    assert found.name == names[1]


def test_study_files_that_contradict_themselves_are_refused(sequences: Any) -> None:
    whole = sequences.study.model_dump(mode="json", exclude_none=True)
    with pytest.raises(ValueError, match="pretrained starts pretrained; add a pretraining section"):
        Study.model_validate({name: part for name, part in whole.items() if name != "pretraining"})
    with pytest.raises(ValueError, match="start and beside are for models of event sequences"):
        Study.model_validate({**whole, "models": [{"kind": "lightgbm", "beside": "all"}], "primary_model": "lightgbm"})
    with pytest.raises(ValueError, match="start: pretrained is for transformer"):
        Study.model_validate({**whole, "models": [{"kind": "gru", "start": "pretrained"}], "primary_model": "gru"})
