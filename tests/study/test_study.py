"""The whole loop on ACTG 175: complete, repeatable to the byte, resumable after a kill, and careful with bad input."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from careloop import InputError
from careloop.record import Record
from careloop.study import RunFolder, Study
from careloop.study.stages import write_json

# DESIGN.md, "Contracts between rooms", and the files that the report is made from.
FILES = {
    "study.yaml", "record.json", "cohort.parquet", "flow.json", "features.parquet", "recipe.json", "evaluation.json",
    "predictions.parquet", "plan.parquet", "effects.json", "safety.parquet", "patients.json", "outcome.json",
    "written.json", "report.html",
}  # fmt: skip
STAGES = [
    "study", "cohort", "features", "model logistic_regression", "model lightgbm", "model cox", "predictions",
    "evaluation", "plan", "patients", "outcome", "written back", "report",
]  # fmt: skip
MODELS = ["logistic_regression", "lightgbm", "cox"]
PREDICTION = "CARELOOP//PREDICTION//*"


def changed(study: Study, **sections: Any) -> Study:
    """The study with other sections; None removes one."""
    content = {**study.model_dump(mode="json", exclude_none=True), **sections}
    return Study.model_validate({name: section for name, section in content.items() if section is not None})


def with_cohort(study: Study, part: str, **values: Any) -> Study:
    """The study with some values of one part of its cohort section replaced."""
    cohort = study.model_dump(mode="json", exclude_none=True)["cohort"]
    return changed(study, cohort={**cohort, part: {**cohort.get(part, {}), **values}})


def copied(loop: Any, folder: Path) -> tuple[Record, Path]:
    """Copies of the record and the run folder that a test may change."""
    shutil.copytree(loop.record.path, folder / "record")
    shutil.copytree(loop.run, folder / "run")
    return Record.open(folder / "record"), folder / "run"


def content(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def counted(record: Record, codes: str) -> int:
    return int(record.events(codes=[codes]).select(pl.len()).collect().item())


# --- a finished run


def test_run_folder_is_complete(actg175: Any) -> None:
    assert actg175.ran == STAGES
    assert {entry.name for entry in actg175.run.iterdir()} == FILES | {"models", "tuning", ".stages"}
    assert {entry.name for entry in (actg175.run / "models").iterdir()} == set(MODELS)
    for model in MODELS:
        assert {"package.json", "README.md"} <= {file.name for file in (actg175.run / "models" / model).iterdir()}


def test_study_file_in_the_run_folder_is_the_same_study(actg175: Any) -> None:
    assert Study.read(actg175.run / "study.yaml") == actg175.study
    assert content(actg175.run / "record.json")["version"] == actg175.record.version == 1


def test_every_model_predicts_every_held_out_row_once(actg175: Any) -> None:
    cohort, predictions = (pl.read_parquet(actg175.run / f"{name}.parquet") for name in ("cohort", "predictions"))
    held_out = cohort.filter(pl.col("split") == "held_out")
    keys = ["subject_id", "prediction_time"]
    for model in MODELS:
        rows = predictions.filter(pl.col("model") == model)
        assert rows.select(*keys, "boolean_value").equals(held_out.select(*keys, "boolean_value"))
    assert predictions.height == len(MODELS) * held_out.height
    assert predictions["predicted_boolean_probability"].is_between(0, 1).all()
    inside = pl.col("predicted_boolean_probability").is_between(pl.col("low") - 1e-9, pl.col("high") + 1e-9)
    assert predictions.select(inside.mean()).item() > 0.9


def test_arms_are_no_features_and_nothing_after_day_0_is(actg175: Any) -> None:
    features = pl.read_parquet(actg175.run / "features.parquet")
    for code in ("ACTG175//ARM", "ACTG175//EVENT", "ACTG175//END_OF_FOLLOW_UP", "CARELOOP//"):
        assert not [name for name in features.columns if code in name]
    assert [name for name in features.columns if "LOINC//24467-3" in name]


def test_json_files_are_strict_and_nan_is_refused(actg175: Any, tmp_path: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    for file in actg175.run.glob("*.json"):
        json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "nan.json", {"value": float("nan")})


def test_adjusted_effects_agree_with_the_randomised_arms(actg175: Any) -> None:
    effects = content(actg175.run / "effects.json")
    for goal in effects["goals"]:
        for contrast in goal["contrasts"]:
            adjusted, plain = contrast["adjusted"], contrast["plain"]
            assert adjusted["low"] <= plain["value"] <= adjusted["high"]
            assert plain["low"] <= adjusted["value"] <= plain["high"]
    cohort = pl.read_parquet(actg175.run / "cohort.parquet").filter(pl.col("split") != "held_out")
    gains = dict(cohort.group_by("treatment").agg(pl.col("measure_cd4_gain_20_weeks").mean()).iter_rows())
    for option in effects["goals"][1]["options"]:
        assert option["plain"]["value"] == pytest.approx(gains[option["option"]], abs=1e-6)


# --- events written back


def test_what_the_study_found_is_in_the_record_once(actg175: Any) -> None:
    record = Record.open(actg175.record.path)
    predictions = pl.read_parquet(actg175.run / "predictions.parquet")
    plan, cohort = (pl.read_parquet(actg175.run / f"{name}.parquet") for name in ("plan", "cohort"))
    held_out = cohort.filter(pl.col("split") == "held_out")
    known = held_out["boolean_value"].drop_nulls().len()
    options = plan.join(held_out, on=["subject_id", "prediction_time"], how="semi").height
    assert counted(record, PREDICTION) == predictions.height
    assert counted(record, "CARELOOP//PLAN//actg175//*") == options == 4 * held_out.height
    assert counted(record, "CARELOOP//DECISION//actg175") == held_out.height
    assert counted(record, "CARELOOP//VERDICT//*") == known
    events = content(actg175.run / "written.json")["events"]
    assert counted(record, "CARELOOP//*") == sum(events.values())


def test_second_run_changes_nothing_though_the_record_has_new_events(actg175: Any, tmp_path: Path) -> None:
    record, run = copied(actg175, tmp_path)
    assert record.version > record.facts_version == actg175.record.version
    before = {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()}
    second = actg175.again(run, record=record)
    assert second.unchanged == STAGES
    assert not second.ran
    assert {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()} == before
    assert Record.open(record.path).version == record.version


def test_write_back_killed_before_it_was_noted_is_not_doubled(actg175: Any, tmp_path: Path) -> None:
    record, run = copied(actg175, tmp_path)
    (run / ".stages" / "written back.json").unlink()
    assert actg175.again(run, record=record).ran == ["written back"]
    assert Record.open(record.path).version == record.version


def test_another_plan_leaves_the_predictions_in_the_record_once(simulated: Any, tmp_path: Path) -> None:
    record, run = copied(simulated, tmp_path)
    count = counted(record, PREDICTION)
    other = changed(
        simulated.study, primary_model="lightgbm", models=[{"kind": "logistic_regression"}, {"kind": "lightgbm"}]
    )
    simulated.again(run, study=other, record=record)
    newest = Record.open(record.path)
    sources = newest.events(codes=[PREDICTION]).select("source").collect()["source"]
    assert len(sources) == 2 * count
    assert sources.is_unique().all()


# --- what is run again, and what is not


def test_other_resamples_run_the_evaluation_again_and_the_report(actg175: Any, tmp_path: Path) -> None:
    record, run = copied(actg175, tmp_path)
    other = changed(actg175.study, evaluation={**actg175.study.evaluation.model_dump(), "resamples": 120})
    second = actg175.again(run, study=other, record=record)
    assert second.ran == ["study", "evaluation", "report"]
    assert content(run / "evaluation.json")["bootstrap"]["resamples"] == 120
    assert "120 bootstrap resamples" in (run / "report.html").read_text(encoding="utf-8")


def test_another_horizon_reaches_the_models_though_no_label_changes(simulated: Any, tmp_path: Path) -> None:
    record, run = copied(simulated, tmp_path)
    horizon = simulated.study.cohort.outcome.horizon_days + 1e-6
    simulated.again(run, study=with_cohort(simulated.study, "outcome", horizon_days=horizon), record=record)
    package = content(run / "models" / "logistic_regression" / "package.json")
    assert package["package"]["facts"]["horizon_days"] == horizon
    assert content(run / "evaluation.json")["outcome"]["horizon_days"] == horizon
    assert content(run / "outcome.json")["horizon_days"] == horizon


def test_a_plan_that_the_study_no_longer_has_leaves_the_run(actg175: Any, tmp_path: Path) -> None:
    record, run = copied(actg175, tmp_path)
    actg175.again(run, study=changed(actg175.study, plan=None), record=record)
    assert not (run / "plan.parquet").exists()
    assert not (run / "effects.json").exists()
    assert content(run / "outcome.json")["plan"] == []
    assert all(patient["options"] == [] for patient in content(run / "patients.json"))
    assert 'id="plan"' not in (run / "report.html").read_text(encoding="utf-8")


def test_new_facts_are_a_new_version_and_run_everything_again(simulated: Any, tmp_path: Path) -> None:
    record, run = copied(simulated, tmp_path)
    fact = {"subject_id": 0, "time": datetime(2019, 1, 1, tzinfo=UTC), "code": "LAB//a", "numeric_value": 9.0}
    newer = record.append(pl.DataFrame([fact]), key="one more")
    second = simulated.again(run, record=newer)
    assert not second.unchanged
    assert content(run / "record.json")["version"] == newer.facts_version == newer.version


def test_a_table_damaged_in_the_run_folder_is_made_again(simulated: Any, tmp_path: Path) -> None:
    record, run = copied(simulated, tmp_path)
    whole = (run / "predictions.parquet").read_bytes()
    (run / "predictions.parquet").write_bytes(whole[:200])
    assert simulated.again(run, record=record).ran == ["predictions"]
    assert (run / "predictions.parquet").read_bytes() == whole


# --- the same numbers


def test_killed_run_goes_on_and_gives_the_same_bytes(actg175: Any, tmp_path: Path) -> None:
    run, first_model = tmp_path / "run", tmp_path / "run" / ".stages" / "model logistic_regression.json"
    command = [sys.executable, "-c", "from careloop.cli import main; main()", "run", str(actg175.study_file)]
    command += ["--record", str(actg175.record.path), "--out", str(run)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not first_model.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert first_model.exists()
    assert not (run / "report.html").exists()
    version = Record.open(actg175.record.path).version
    resumed = actg175.again(run)
    assert resumed.unchanged[:4] == STAGES[:4]
    assert resumed.ran == STAGES[len(resumed.unchanged) :]
    for name in sorted(FILES - {"written.json"}):
        assert (run / name).read_bytes() == (actg175.run / name).read_bytes(), name
    assert Record.open(actg175.record.path).version == version  # the same events again: nothing is added


def test_same_study_on_a_copy_of_the_record_gives_the_same_bytes(simulated: Any, tmp_path: Path) -> None:
    record, _ = copied(simulated, tmp_path)
    other = simulated.again(tmp_path / "other", record=record)
    assert other.ran == simulated.ran
    for name in ("cohort.parquet", "features.parquet", "predictions.parquet", "evaluation.json", "report.html"):
        assert (other.run / name).read_bytes() == (simulated.run / name).read_bytes(), name


# --- bad input


def test_cohort_and_features_of_worker_processes_are_the_same_files(simulated: Any, tmp_path: Path) -> None:
    """Were a byte different, the models that rest on them would be trained again."""
    run = tmp_path / "run"
    shutil.copytree(simulated.run, run)
    for stage in ("cohort", "features"):
        (run / ".stages" / f"{stage}.json").unlink()
    heard: list[tuple[str, str]] = []
    simulated.study.run(simulated.record, run, on="local:2", notify=lambda *what: heard.append(what))
    assert [stage for stage, state in heard if state == "done"] == ["cohort", "features"]
    with pytest.raises(InputError, match="on: work is done here, local, ray"):
        simulated.study.run(simulated.record, tmp_path / "other", on="elsewhere")


def test_a_code_known_only_after_the_index_time_stops_by_name(actg175: Any, tmp_path: Path) -> None:
    record, _ = copied(actg175, tmp_path)
    people = record.events(codes=["ACTG175//RANDOMISED"]).select("subject_id", "time").collect()
    drawn_before, known_after = timedelta(days=-1), timedelta(days=56)
    late = people.select(
        "subject_id",
        time=pl.col("time") + drawn_before,
        known_time=pl.col("time") + known_after,
        code=pl.lit("HIV_RNA"),
    )
    record = record.append(late.with_columns(numeric_value=4.5), key="HIV RNA, reported after eight weeks")
    study = changed(actg175.study, features={**actg175.study.features.model_dump(), "codes": ["HIV_RNA"]})
    with pytest.raises(InputError, match=r"HIV_RNA is never known at the prediction time.*after 56\.0 days.*remove it"):
        study.run(record, tmp_path / "new")
    all_codes = changed(actg175.study, plan=None, models=[{"kind": "logistic_regression"}])
    all_codes.run(record, tmp_path / "new")
    assert not [name for name in pl.read_parquet(tmp_path / "new" / "features.parquet").columns if "HIV_RNA" in name]


@pytest.mark.parametrize(
    ("part", "values", "told"),
    [
        ("outcome", {"horizon_days": 1}, r"cohort\.outcome\.codes: .* none has ACTG175//EVENT .*lengthen the horizon"),
        ("outcome", {"codes": ["ACTG175//EVENTT"]}, r"cohort\.outcome\.codes: .* did you mean ACTG175//EVENT"),
        ("outcome", {"horizon_days": 2000}, r"cohort\.outcome\.codes: .* one class only; shorten the horizon"),
        ("treatment", {"minimum_per_arm": 520}, r"cohort\.treatment\.arms\.zidovudine\+didanosine: 5\d\d .*is 520"),
        ("eligibility", {"age_years": {"min": 90}}, r"nobody is left after the step 'age 90 years.*loosen this rule"),
    ],
)
def test_a_cohort_that_cannot_be_studied_stops(
    actg175: Any, tmp_path: Path, part: str, values: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told) as caught:
        with_cohort(actg175.study, part, **values).run(actg175.record, tmp_path / "run")
    assert "\n" not in str(caught.value)
    RunFolder.reopen(tmp_path / "run")  # what is finished stays


@pytest.mark.parametrize(
    ("line", "wrong", "told"),
    [
        ("horizon_days: 730", "horizon_days: -730", "cohort.outcome.horizon_days: input should be greater than 0"),
        (
            "horizon_days: 730",
            "horizon_day: 730",
            "cohort.outcome.horizon_day: is not a known key; did you mean horizon",
        ),
        (
            "held_out: 0.2",
            "held_out: 0.3",
            "cohort.split: train + tuning + held_out must sum to 1, got 0.6 + 0.2 + 0.3",
        ),
        (
            "kind: lightgbm",
            "kind: lightgmb",
            "models.1.kind: 'lightgmb' is neither one of logistic_regression, lightgbm",
        ),
        ("assignment: randomised", "assignment: random", "plan.assignment: input should be 'randomised' or 'observed'"),
        ("name: actg175", "name: ACTG 175", "name: string should match pattern"),
        ("windows_days: [all]", "windows_days: [-30]", "features.windows_days: a window looks back a positive number"),
    ],
)
def test_a_mistake_in_the_study_file_is_told_with_its_line(tmp_path: Path, line: str, wrong: str, told: str) -> None:
    from careloop.study import example_study

    text = example_study("actg175").read_text(encoding="utf-8")
    assert text.count(line) == 1
    (tmp_path / "study.yaml").write_text(text.replace(line, wrong))
    number = next(n for n, written in enumerate(text.splitlines(), start=1) if line in written)
    with pytest.raises(InputError) as caught:
        Study.read(tmp_path / "study.yaml")
    assert told in str(caught.value)
    assert f"study.yaml, line {number}: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sections_that_contradict_each_other_are_refused(actg175: Any) -> None:
    with pytest.raises(ValueError, match="primary_model must be one of logistic_regression, lightgbm, cox, got rf"):
        changed(actg175.study, primary_model="rf")
    with pytest.raises(ValueError, match="two models are called cox"):
        changed(actg175.study, models=[{"kind": "cox"}, {"kind": "cox"}])
    cohort = {k: v for k, v in actg175.study.model_dump(mode="json")["cohort"].items() if k != "treatment"}
    with pytest.raises(ValueError, match=r"plan compares treatments, but cohort\.treatment names none"):
        changed(actg175.study, cohort=cohort)


def test_a_network_never_stands_alone(actg175: Any) -> None:
    alone = changed(actg175.study, models=[{"kind": "fully_connected"}])
    assert [model.name for model in alone.all_models] == ["logistic_regression", "lightgbm", "fully_connected"]
    assert alone.primary == "fully_connected"


def test_a_record_cut_off_or_of_a_newer_format_stops(simulated: Any, tmp_path: Path) -> None:
    record, _ = copied(simulated, tmp_path)
    settings = content(record.path / "record.json")
    (record.path / "record.json").write_text(json.dumps({**settings, "format_version": settings["format_version"] + 1}))
    with pytest.raises(InputError, match=r"record: format 3 is newer than 2; upgrade careloop"):
        Record.open(record.path)
    (record.path / "record.json").write_text(json.dumps(settings))
    data = max((record.path / "events").rglob("*.parquet"), key=lambda file: file.stat().st_size)
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(InputError, match=rf"{data.name} has 1000 bytes instead of \d+; restore this file"):
        simulated.again(tmp_path / "new", record=Record.open(record.path))
