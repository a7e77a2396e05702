"""Two whole runs for the tests of the top floors (ACTG 175, simulated patients without treatments), and the command."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
import yaml

if TYPE_CHECKING:
    from careloop.record import Record
    from careloop.study import Study

DAY_0 = datetime(2020, 1, 1, tzinfo=UTC)
SIMULATED_PATIENTS = 300
SIMULATED_STUDY: dict[str, Any] = {
    "name": "simulated",
    "cohort": {
        "index": {"code": "INDEX"},
        "eligibility": {
            "age_years": {"min": 30},
            "require": [{"codes": ["LAB//a"], "window_days": [-400, 0]}],
            "exclude": [{"codes": ["DX//excluding"]}],
        },
        "outcome": {"codes": ["OUTCOME"], "horizon_days": 365, "competing": ["MEDS_DEATH"], "censoring": ["END"]},
    },
    "features": {"windows_days": [60, "all"], "value": ["last", "mean", "slope"], "min_subjects": 5},
    "models": [{"kind": "logistic_regression"}],
    "evaluation": {"resamples": 100, "subgroups": [{"feature": "SEX"}, {"feature": "age_years", "cut_points": [50]}]},
}


@dataclass(frozen=True)
class Loop:
    """A finished run: its study, the record as it was before the run, and what the run folder heard of each stage."""

    study: Study
    study_file: Path
    record: Record
    run: Path
    states: list[tuple[str, str]]

    def again(self, run: Path, *, study: Study | None = None, record: Record | None = None) -> Loop:
        """Run the same, or another study, on the same or another record, into the folder `run`."""
        study, record, states = study or self.study, record or self.record, []
        study.run(record, run, notify=lambda stage, state: states.append((stage, state)))
        return Loop(study, self.study_file, record, run, states)

    @property
    def ran(self) -> list[str]:
        """The stages that were not skipped."""
        return [stage for stage, state in self.states if state == "done"]

    @property
    def unchanged(self) -> list[str]:
        """The stages that were skipped."""
        return [stage for stage, state in self.states if state == "unchanged"]


def write_study(content: dict[str, Any], path: Path) -> Path:
    """Write a study file."""
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def run_loop(study_file: Path, record: Record, run: Path) -> Loop:
    """Run a study file on a record."""
    from careloop.study import Study

    return Loop(Study.read(study_file), study_file, record, run, []).again(run)


@pytest.fixture
def careloop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process: exit code, standard output, standard error."""
    from careloop.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["careloop", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        left, code = capsys.readouterr(), stop.value.code
        return (1, left.out, code) if isinstance(code, str) else (code or 0, left.out, left.err)

    return run


@pytest.fixture(scope="session")
def threshold_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a segmentation model that calls a voxel of a CT bright above 0 HU."""
    spec = importlib.util.spec_from_file_location("threshold_model", Path(__file__).with_name("threshold_model.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written: Path = module.write_threshold_model(tmp_path_factory.mktemp("models") / "bright")
    return written


@pytest.fixture(scope="session")
def actg175_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged study with three of its models, subgroups, and fewer resamples."""
    from careloop.study import example_study

    content = yaml.safe_load(example_study("actg175").read_text(encoding="utf-8"))
    content["models"] = [{"kind": kind} for kind in ("logistic_regression", "lightgbm", "cox")]
    subgroups = [{"feature": "GENDER//M"}, {"feature": "age_years", "cut_points": [35]}]
    content["evaluation"] = {"resamples": 100, "subgroups": subgroups}
    return write_study(content, tmp_path_factory.mktemp("study") / "actg175.yaml")


@pytest.fixture(scope="session")
def actg175(actg175_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Loop:
    """The whole loop on ACTG 175. Only events that careloop itself writes may be added to its record."""
    pytest.importorskip("lifelines")
    from careloop.ingest import example_record

    folder = tmp_path_factory.mktemp("actg175")
    return run_loop(actg175_study, example_record("actg175", folder / "record"), folder / "run")


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    """A study of simulated patients with neither treatments nor plan."""
    from careloop.record import Record

    folder = tmp_path_factory.mktemp("simulated")
    record = Record.create(folder / "record", shards=1).append(simulated_events(), key="simulated")
    return run_loop(write_study(SIMULATED_STUDY, folder / "study.yaml"), record, folder / "run")


def simulated_events() -> pl.DataFrame:
    """Births, sex, laboratory values before and after an index event, and an outcome whose risk follows LAB//a."""
    random = np.random.default_rng(175)
    rows: list[dict[str, Any]] = []
    for subject in range(SIMULATED_PATIENTS):
        index = DAY_0 + timedelta(days=int(random.integers(0, 700)))

        def add(code: str, days: float, *, late_days: float = 0, at: datetime = index, **more: Any) -> None:
            time = at + timedelta(days=days)
            rows.append({"code": code, "time": time, "known_time": time + timedelta(days=late_days), **more})

        first = len(rows)
        level = random.normal(10, 2)
        add("MEDS_BIRTH", -365.25 * random.uniform(25, 80))
        rows.append({"code": "SEX", "text_value": "female" if random.random() < 0.5 else "male"})
        for days in random.uniform(-500, 300, 6):
            value = level + random.normal(0, 1)
            add("LAB//a", float(days), late_days=random.uniform(0, 30), numeric_value=value, unit="mmol/L")
        for days in random.uniform(-500, 300, 3):
            add("LAB//b", float(days), numeric_value=random.normal(5, 1), unit="g/L")
        for code, share in (("DX//common", 0.4), ("DX//excluding", 0.1)):
            if random.random() < share:
                add(code, float(random.uniform(-300, 300)), late_days=random.uniform(0, 60))
        add("INDEX", -1, late_days=1)  # known a day after it happened: the prediction time
        event = random.exponential(900) / np.exp(0.4 * (level - 10))
        end = random.uniform(200, 900)
        if event < end:
            add("OUTCOME", float(event))
        add("MEDS_DEATH" if random.random() < 0.1 else "END", float(end))
        for row in rows[first:]:
            row["subject_id"] = subject
    return pl.DataFrame(rows, infer_schema_length=None)
