"""The command line: light to start, one JSON object, exit codes 0, 1 and 2, errors of one line, and every command."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from careloop import __version__
from careloop.cli import main
from careloop.record import Record

HEAVY = {
    "polars", "numpy", "scipy", "pandas", "pyarrow", "deltalake", "pydantic", "yaml", "sklearn", "lightgbm", "torch",
    "transformers", "keras", "matplotlib", "optuna", "shap", "skops", "rich",
}  # fmt: skip
CD4 = "LOINC//24467-3"


@dataclass(frozen=True)
class Result:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on standard output, as strict JSON."""
        assert self.code == 0, self.err
        found = json.loads(self.out, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
        assert isinstance(found, dict)
        return found

    @property
    def error(self) -> str:
        """The message of a failed command: one line, nothing on standard output."""
        assert self.code == 1
        assert self.out == ""
        assert "Traceback" not in self.err
        lines = [line for line in self.err.splitlines() if line.startswith("careloop: ")]
        assert self.err.splitlines()[-1:] == lines
        return lines[0].removeprefix("careloop: ")


Careloop = Callable[..., Result]


@pytest.fixture
def careloop(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Careloop:
    """Run a command in this process, as the interpreter would end it."""

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["careloop", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        left, code = capsys.readouterr(), stop.value.code
        if isinstance(code, str):  # Python prints it on standard error and exits with 1
            return Result(1, left.out, f"{left.err}{code}\n")
        return Result(code or 0, left.out, left.err)

    return run


@pytest.fixture
def held_out(actg175: Any) -> dict[str, Any]:
    """The first prediction of the primary model."""
    table = pl.read_parquet(actg175.run / "predictions.parquet").filter(pl.col("model") == "logistic_regression")
    return table.row(0, named=True)


def in_a_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from careloop.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# --- starting, usage, errors


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom careloop.cli import main\nsys.argv = ['careloop', '--help']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    print('code', stop.code, file=sys.stderr)\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.startswith("code 0\n")
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert "click" in loaded
    assert not HEAVY & loaded
    own = {name for name in done.stderr.split() if name.startswith("careloop")}
    assert all(name == "careloop" or name.startswith("careloop.cli") for name in own)
    for command in ("demo", "ingest", "run", "cohort", "features", "predict", "explain", "plan", "outcome", "export"):
        assert f"\n  {command} " in done.stdout
    assert "not for clinical use" in " ".join(done.stdout.split())


def test_version_and_help_of_every_command(careloop: Careloop) -> None:
    from careloop.cli import cli

    assert careloop("--version").out.strip().endswith(__version__)
    for command in cli.commands:
        shown = careloop(command, "--help")
        assert (shown.code, shown.err) == (0, "")
        assert "Usage:" in shown.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "COMMAND [ARGS]..."),
        (["runn"], "No such command 'runn'"),
        (["run", "study.yaml"], "Missing option '--record'"),
        (["demo", "--example", "mimic"], "'mimic' is not one of 'actg175', 'nafld'"),
        (["ingest", "actg175", "file.csv", "--record", "r"], "an example takes no PATHS"),
        (["ingest", "meds", "--record", "r"], "give the PATHS to read"),
    ],
)
def test_wrong_usage_exits_with_2(
    careloop: Careloop, arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = careloop(*arguments)
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert not list(tmp_path.iterdir())


def test_an_error_is_one_line_and_its_traceback_comes_with_debug(tmp_path: Path) -> None:
    arguments = ["run", tmp_path / "none.yaml", "--record", tmp_path / "r", "--out", tmp_path / "o", "--json"]
    plain, debug = in_a_process(*arguments), in_a_process(*arguments, "--debug")
    assert plain.returncode == debug.returncode == 1
    assert plain.stdout == debug.stdout == ""
    assert plain.stderr == (
        f"careloop: study file {tmp_path}/none.yaml does not exist; `careloop new {tmp_path}/none.yaml` writes one to "
        "start from\n"
    )
    assert "Traceback" in debug.stderr
    assert debug.stderr.rstrip().endswith(plain.stderr.removeprefix("careloop: ").rstrip())


def test_an_unforeseen_error_is_one_line_too(
    careloop: Careloop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(name: str) -> Path:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("careloop.study.example_study", fail)
    told = careloop("new", tmp_path / "study.yaml").error
    assert told == "unexpected RuntimeError: first line second line; add --debug for the traceback"


def test_stopping_by_hand_says_that_the_same_command_goes_on(
    careloop: Careloop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stop(name: str) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr("careloop.study.example_study", stop)
    assert "what is finished is kept" in careloop("new", tmp_path / "study.yaml").error


# --- from a study file to a run


def test_new_writes_a_study_that_can_be_read_and_replaces_none(careloop: Careloop, tmp_path: Path) -> None:
    from careloop.study import Study

    for example in ("actg175", "nafld"):
        assert f"Wrote {tmp_path}" in careloop("new", tmp_path / example, "--example", example).out
        assert Study.read(tmp_path / example).name == example
        assert (tmp_path / example).read_text().startswith("# ")
    assert "exists already; choose another name" in careloop("new", tmp_path / "nafld").error


def test_a_finished_run_prints_one_json_object_and_its_stages_go_to_standard_error(actg175: Any) -> None:
    done = in_a_process("run", actg175.study_file, "--record", actg175.record.path, "--out", actg175.run, "--json")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    figures = json.loads(done.stdout)
    assert Path(figures["run"]) == actg175.run.resolve()
    assert set(figures["models"]) == {"logistic_regression", "lightgbm", "cox"}
    assert figures["not_for_clinical_use"] is True
    *stages, last = done.stderr.splitlines()
    assert "report: unchanged" in stages
    assert all(line.endswith(": unchanged") for line in stages)
    assert re.fullmatch(r"finished in \d+\.\d s", last)


def test_a_run_ends_with_its_table_and_the_report(careloop: Careloop, simulated: Any) -> None:
    done = careloop("run", simulated.study_file, "--record", simulated.record.path, "--out", simulated.run)
    assert done.code == 0
    assert "logistic_regression" in done.out
    assert done.out.splitlines()[-2:] == [
        f"Report: {(simulated.run / 'report.html').resolve()}",
        "Research software, not for clinical use.",
    ]


def test_demo_goes_from_the_data_to_the_report(
    careloop: Careloop, actg175: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(actg175.record.path, tmp_path / "record")
    shutil.copytree(actg175.run, tmp_path / "run")
    monkeypatch.setattr("careloop.study.example_study", lambda name: actg175.study_file)
    figures = careloop("demo", "--out", tmp_path, "--json").json
    assert figures["report"] == str((tmp_path / "run" / "report.html").resolve())
    assert len(figures["patients"]) == 3


def test_cohort_shows_every_step(careloop: Careloop, actg175: Any, tmp_path: Path) -> None:
    arguments = ["cohort", actg175.study_file, "--record", actg175.record.path]
    shown = careloop(*arguments, "--out", tmp_path / "rows.parquet", "--json").json
    assert shown["rows"] == 2113
    assert shown["flow"] == json.loads((actg175.run / "flow.json").read_text())
    assert pl.read_parquet(tmp_path / "rows.parquet").equals(pl.read_parquet(actg175.run / "cohort.parquet"))
    text = careloop(*arguments).out
    assert "age outside the range" in text
    assert text.endswith("2113 rows\n")


def test_cohort_takes_an_aces_task(careloop: Careloop, actg175: Any, tmp_path: Path) -> None:
    task = {
        "predicates": {"randomised": {"code": "ACTG175//RANDOMISED"}, "event": {"code": "ACTG175//EVENT"}},
        "trigger": "randomised",
        "windows": {
            "target": {
                "start": "trigger", "end": "start + 365d", "start_inclusive": False, "end_inclusive": True,
                "index_timestamp": "start", "label": "event",
            }
        },
    }  # fmt: skip
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task, sort_keys=False))
    arguments = ["cohort", tmp_path / "task.yaml", "--record", actg175.record.path, "--out", tmp_path / "rows.parquet"]
    assert careloop(*arguments, "--json").json == {"rows": 2139, "flow": []}
    cohort = pl.read_parquet(actg175.run / "cohort.parquet").select("subject_id", "event", "follow_up_days")
    both = cohort.join(pl.read_parquet(tmp_path / "rows.parquet"), on="subject_id")
    assert both.height == 2113
    happened = (pl.col("event") == 1) & (pl.col("follow_up_days") <= 365)
    assert both.select((happened == (pl.col("boolean_value").cast(pl.Int64) > 0)).all()).item()


def test_features_are_those_of_the_run(careloop: Careloop, actg175: Any, tmp_path: Path) -> None:
    arguments = ["features", actg175.study_file, "--record", actg175.record.path, "--out", tmp_path / "f.parquet"]
    shown = careloop(*arguments, "--json").json
    written = pl.read_parquet(tmp_path / "f.parquet")
    assert written.equals(pl.read_parquet(actg175.run / "features.parquet"))
    assert shown["rows"] == written.height
    assert set(shown["features"]) < set(written.columns)


# --- predictions


def test_predict_from_the_record_equals_the_run(careloop: Careloop, actg175: Any, held_out: dict[str, Any]) -> None:
    package = actg175.run / "models" / "logistic_regression"
    arguments = ["--record", actg175.record.path, "--subject", held_out["subject_id"], "--at", "1992-01-01"]
    shown = careloop("predict", package, *arguments, "--json").json
    assert shown["version"] == held_out["model_version"]
    (row,) = shown["predictions"]
    assert row["subject_id"] == held_out["subject_id"]
    for name in ("predicted_boolean_probability", "low", "high", "abstained"):
        assert row[name] == held_out[name]
    text = " ".join(careloop("predict", package, *arguments).out.split())  # titles break where tables are narrow
    assert f"logistic_regression {held_out['model_version']}" in text
    assert text.endswith("Research software, not for clinical use.")


def test_predict_from_a_csv(careloop: Careloop, actg175: Any, tmp_path: Path) -> None:
    package = actg175.run / "models" / "logistic_regression"
    (tmp_path / "patients.csv").write_text(f"subject_id,age,{CD4}\n1,35,100\n2,35,600\n")
    arguments = ["--patients", tmp_path / "patients.csv", "--out", tmp_path / "p.parquet", "--json"]
    shown = careloop("predict", package, *arguments).json
    low_cd4, high_cd4 = (row["predicted_boolean_probability"] for row in shown["predictions"])
    assert low_cd4 > high_cd4
    assert "features were not given and count as missing" in shown["note"]
    assert pl.read_parquet(tmp_path / "p.parquet")["predicted_boolean_probability"].to_list() == [low_cd4, high_cd4]


def test_predictions_are_written_back_once(careloop: Careloop, simulated: Any, tmp_path: Path) -> None:
    shutil.copytree(simulated.record.path, tmp_path / "record")
    package, before = simulated.run / "models" / "logistic_regression", Record.open(tmp_path / "record")
    arguments = ["predict", package, "--record", tmp_path / "record", "--subject", 0, "--at", "2020-06-01"]
    for _ in range(2):
        assert careloop(*arguments, "--write-back").code == 0
    after = Record.open(tmp_path / "record")
    assert after.version == before.version + 1
    assert after.facts_version == before.facts_version
    assert "--write-back goes with --record" in (done := careloop("predict", package, "--write-back")).err
    assert done.code == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "subject_id,CD4 cells count\n1,90\n",
            "column 'CD4 cells count' is no feature of the model; did you mean CD4 cell",
        ),
        ("subject_id,age\n1,35\n1,36\n", "row 1: the patient occurs more than once at one prediction time"),
        ("subject_id,prediction_time,age\n1,1720-01-01,35\n", "time must lie between 1850 and 2150"),
        ("subject_id,age\n1,old\n", "row 1, column 'age': the value must be a number"),
        ("subject_id,age\n", "has no rows: give one row a patient"),
        (f"subject_id,time,code,numeric_value,unit\n1,2020-01-01,{CD4},4,mmol/L\n", f"the model reads {CD4} in unit"),
    ],
)
def test_bad_patients_are_told_in_one_line(
    careloop: Careloop, actg175: Any, tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "patients.csv").write_text(text)
    package = actg175.run / "models" / "logistic_regression"
    assert told in careloop("predict", package, "--patients", tmp_path / "patients.csv").error


def test_predict_wants_one_source_of_patients(careloop: Careloop, actg175: Any) -> None:
    package = actg175.run / "models" / "cox"
    assert "give either --patients FILE or --record DIR" in careloop("predict", package).err
    told = careloop("predict", package, "--record", actg175.record.path, "--subject", 1).error
    assert "holds no facts about subject 1; check the subject_id" in told


def test_a_package_that_is_newer_damaged_or_none_is_refused(careloop: Careloop, actg175: Any, tmp_path: Path) -> None:
    package = tmp_path / "package"
    shutil.copytree(actg175.run / "models" / "lightgbm", package)
    document = json.loads((package / "package.json").read_text())
    (package / "package.json").write_text(json.dumps({**document, "format_version": 99}))
    arguments = ["--record", actg175.record.path]
    assert "has format 99, written by careloop" in (told := careloop("predict", package, *arguments).error)
    assert told.endswith("upgrade careloop")
    (package / "package.json").write_text(json.dumps(document))
    (package / "model.txt").write_bytes((package / "model.txt").read_bytes()[:100])
    assert "model.txt is truncated or damaged" in careloop("explain", package, *arguments).error
    assert "give one's folder, such as RUN/models/NAME" in careloop("predict", actg175.run, *arguments).error


@pytest.mark.parametrize("model", ["logistic_regression", "lightgbm", "cox"])
def test_explain_adds_up_in_numbers_and_says_so_in_words(
    careloop: Careloop, actg175: Any, held_out: dict[str, Any], model: str
) -> None:
    package = actg175.run / "models" / model
    patient = ["--record", actg175.record.path, "--subject", held_out["subject_id"], "--at", "1992-01-01"]
    (found,) = careloop("explain", package, *patient, "--json").json["explanations"]
    shares = [factor["share"] for factor in found["factors"]]
    assert all(isinstance(share, float) for share in shares)
    assert found["reference_risk"] + sum(shares) == pytest.approx(found["risk"], abs=1e-6)
    text = careloop("explain", package, *patient).out
    assert f"Subject {held_out['subject_id']}" in text
    assert f"{model}, version {found['model_version']}. Not for clinical use." in text


@pytest.mark.parametrize("command", ["predict", "explain", "plan"])
def test_json_with_predictions_is_marked_not_for_clinical_use(
    careloop: Careloop, actg175: Any, held_out: dict[str, Any], command: str
) -> None:
    package = actg175.run / "models" / "cox"
    patient = ["--subject", held_out["subject_id"], "--json"]
    source = [actg175.run] if command == "plan" else [package, "--record", actg175.record.path]
    assert careloop(command, *source, *patient).json["not_for_clinical_use"] is True


# --- plan, outcome, ingest, export


def test_plan_ranks_the_options_of_a_subject(careloop: Careloop, actg175: Any, held_out: dict[str, Any]) -> None:
    shown = careloop("plan", actg175.run, "--subject", held_out["subject_id"], "--json").json
    assert shown["policy"] == json.loads((actg175.run / "effects.json").read_text())["policy"]
    options = shown["options_by_subject"]
    assert len(options) == 4
    assert {option["subject_id"] for option in options} == {held_out["subject_id"]}
    text = careloop("plan", actg175.run, "--subject", held_out["subject_id"]).out
    assert all(option["option"] in text for option in options)
    assert all(sentence in text for sentence in shown["words"])


def test_plan_needs_a_run_with_treatments(careloop: Careloop, simulated: Any, tmp_path: Path) -> None:
    assert "has no plan; add cohort.treatment and plan" in careloop("plan", simulated.run).error
    assert "is no run folder; give the folder that careloop run wrote" in careloop("plan", tmp_path).error


def test_outcome_judges_what_the_record_holds(careloop: Careloop, actg175: Any) -> None:
    verdict = careloop("outcome", actg175.run, "--record", actg175.record.path, "--json").json
    assert {part["model"] for part in verdict["predictions"]} == {"logistic_regression", "lightgbm", "cox"}
    (own,) = json.loads((actg175.run / "outcome.json").read_text())["predictions"]
    (same,) = [part for part in verdict["predictions"] if part["model"] == own["model"]]
    assert (same["rows"], same["events"], same["censored"]) == (own["rows"], own["events"], own["censored"])
    assert same["observed"] == own["observed"]
    assert same["auroc"]["value"] == pytest.approx(own["auroc"]["value"], abs=1e-3)  # the record keeps 32 bits
    text = careloop("outcome", actg175.run, "--record", actg175.record.path).out
    assert text == "".join(f"- {sentence}\n" for sentence in verdict["words"])


def test_outcome_without_predictions_says_what_is_missing(careloop: Careloop, actg175: Any, tmp_path: Path) -> None:
    careloop("ingest", "actg175", "--record", tmp_path / "record")
    told = careloop("outcome", actg175.run, "--record", tmp_path / "record").error
    assert "needs predictions for 730 days in the record, got none; predict and write them back first" in told


def test_ingest_and_export_go_round(careloop: Careloop, tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("subject_id,time,code,numeric_value\n7,2020-01-01,LAB,1.5\n8,,SEX//F,\n")
    record = tmp_path / "record"
    first = careloop("ingest", "events", tmp_path / "events.csv", "--record", record, "--json").json
    again = careloop("ingest", "events", tmp_path / "events.csv", "--record", record, "--json").json
    assert (first["rows_read"], first["rows_kept"], first["events_added"], first["record_version"]) == (2, 2, 2, 1)
    assert (again["events_added"], again["record_version"], again["delivered_before"]) == (0, 1, True)
    assert careloop("export", "meds", "--record", record, "--out", tmp_path / "meds").code == 0
    assert careloop("ingest", "meds", tmp_path / "meds", "--record", tmp_path / "back").code == 0
    events = [Record.open(path).events().collect().drop("source") for path in (record, tmp_path / "back")]
    assert events[0].sort("subject_id").equals(events[1].sort("subject_id"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("subject_id,time,code,valu\n1,2020-01-01,A,1\n", "events.csv: unknown column valu; rename or drop it"),
        ("subject_id,time,code\n1,2020-01-01,A\n2,3020-01-01,A\n", "events.csv, row 2: time must lie between 1850"),
    ],
)
def test_ingest_names_file_and_row(careloop: Careloop, tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "events.csv").write_text(text)
    assert told in careloop("ingest", "events", tmp_path / "events.csv", "--record", tmp_path / "record").error


def test_a_study_of_what_the_record_does_not_hold_is_told_in_one_line(
    careloop: Careloop, simulated: Any, actg175: Any, tmp_path: Path
) -> None:
    arguments = ["--record", simulated.record.path, "--out", tmp_path / "run", "--json"]
    told = careloop("run", actg175.study_file, *arguments).error
    assert told.startswith("cohort.index.codes: no event in the record has code ACTG175//RANDOMISED")
    told = careloop("run", actg175.study_file, "--record", tmp_path, "--out", tmp_path / "run").error
    assert "is no record (no record.json); check the path, or ingest data to make one" in told
