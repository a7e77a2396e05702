"""A study with a target trial, from the record to the report: immortal time is gone, and the trial is shown."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from careloop import InputError
from careloop.record import Record
from careloop.study import RunFolder, Study

DAY_0 = datetime(2020, 1, 1, tzinfo=UTC)
STUDY: dict[str, Any] = {
    "name": "trial",
    "cohort": {
        "index": {"code": "INDEX"},
        "outcome": {"codes": ["OUTCOME"], "horizon_days": 180, "censoring": ["END"]},
    },
    "features": {"windows_days": ["all"], "value": ["last"], "codes": ["LAB"], "age": "none", "missingness": "none"},
    "models": [{"kind": "logistic_regression"}],
    "evaluation": {"resamples": 100},
    "trial": {
        "strategies": {"never": {"never": "DRUG"}, "start": {"start": "DRUG", "within_days": 60}},
        "resamples": 50,
    },
}


def simulated() -> pl.DataFrame:
    """A drug without any effect, started by the sicker some day in the first 60 unless the outcome comes first."""
    random = np.random.default_rng(5)
    rows: list[dict[str, Any]] = []
    for subject in range(900):
        level = random.normal()

        def add(code: str, day: float, subject: int = subject, **more: Any) -> None:
            rows.append({"subject_id": subject, "time": DAY_0 + timedelta(days=day), "code": code, **more})

        add("LAB", -1, numeric_value=level)
        add("INDEX", 0)
        outcome = random.exponential(250 * np.exp(-0.8 * level))
        start = random.uniform(0.5, 60) if random.random() < 1 / (1 + np.exp(-level)) else np.inf
        if start < outcome:
            add("DRUG", start) if np.isfinite(start) else None
        add("OUTCOME", outcome) if outcome < 300 else add("END", 300)
    return pl.DataFrame(rows, infer_schema_length=None)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Record, RunFolder]:
    folder = tmp_path_factory.mktemp("trial")
    record = Record.create(folder / "record", shards=2).append(simulated(), key="simulated")
    study = Study.model_validate(STUDY)
    return study, record, study.run(record, folder / "run")


def test_the_trial_undoes_immortal_time(ran: tuple[Study, Record, RunFolder]) -> None:
    trial = json.loads((ran[2].path / "trial.json").read_text())
    (emulated,) = trial["emulated"]["contrasts"]
    assert (emulated["strategy"], emulated["versus"]) == ("start", "never")
    found = emulated["risk_difference"]
    assert found["low"] < 0.0 < found["high"]  # the truth: no effect
    naive = next(a for a in trial["naive"] if a["analysis"] == "as treated")["contrasts"][0]["risk_difference"]
    assert abs(naive["value"]) > abs(found["value"])
    assert {flow["strategy"] for flow in trial["flow"]} == {"never", "start"}


def test_the_report_shows_the_trial_and_the_second_run_does_nothing(ran: tuple[Study, Record, RunFolder]) -> None:
    study, record, run = ran
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "The target trial" in page
    assert "immortal time" in page
    heard: list[tuple[str, str]] = []
    study.run(record, run.path, notify=lambda stage, state: heard.append((stage, state)))
    assert {state for _, state in heard} == {"unchanged"}


def test_a_trial_and_arms_do_not_go_together(ran: tuple[Study, Record, RunFolder], tmp_path: Path) -> None:
    arms = {"arms": {"drug": "DRUG", "lab": "LAB"}, "window_days": [0, 60]}
    content = {**STUDY, "cohort": {**STUDY["cohort"], "treatment": arms}}
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(InputError, match=r"got cohort\.treatment"):
        Study.read(file)
