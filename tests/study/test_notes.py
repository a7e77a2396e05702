"""A study whose models read notes through a text encoder: whole, explained, and never without that very encoder."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from click.testing import CliRunner

from careloop import InputError
from careloop.features.timelines.notes import FOLDER_VARIABLE
from careloop.record import Record
from careloop.study import Study

pytest.importorskip("torch")
pytest.importorskip("transformers")
SMALL = {"width": 16, "layers": 1, "heads": 2, "tokens": 256, "learning_rate": 0.01, "dropout": 0.0, "device": "cpu"}


def _module(path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module
    specification.loader.exec_module(module)
    return module


small = _module(Path(__file__).parents[1] / "small_encoder.py")


@dataclass(frozen=True)
class NotesStudy:
    """A finished run, its record and its encoder."""

    study: Study
    record: Record
    run: Path
    encoder: Path
    subject: int

    def command(self, *arguments: str) -> dict[str, Any]:
        """What a command on the GRU prints about one held-out patient."""
        from careloop.cli import cli

        patient = ["--record", str(self.record.path), "--subject", str(self.subject), "--json"]
        result = CliRunner().invoke(cli, [arguments[0], str(self.run / "models" / "gru"), *patient, *arguments[1:]])
        if result.exception:
            raise result.exception
        return json.loads(result.stdout)


def notes_of(events: pl.DataFrame) -> pl.DataFrame:
    """A note on the day before each index event; it says of nine in ten whether they have the outcome in time."""
    random = np.random.default_rng(9)
    index, outcome = (events.filter(code=code).select("subject_id", "time") for code in ("INDEX", "OUTCOME"))
    joined = index.join(outcome, on="subject_id", how="left", suffix="_outcome").sort("subject_id")
    ill = (joined["time_outcome"] - joined["time"]).dt.total_days().fill_null(9999) < 365
    fever = [is_ill == (random.random() < 0.9) for is_ill in ill]
    texts = [" . ".join([small.written_note(random, fever=f, words=6) for _ in range(6)]) for f in fever]
    return joined.select("subject_id", "time").with_columns(
        time=pl.col("time") - pl.duration(days=1), code=pl.lit("NOTE//visit"), text_value=pl.Series(texts)
    )


@pytest.fixture(scope="module")
def noted(simulated: Any, tmp_path_factory: pytest.TempPathFactory) -> NotesStudy:
    """The simulated patients with notes, read by a GRU and by a Transformer that was pre-trained."""
    folder = tmp_path_factory.mktemp("notes")
    encoder = small.write_encoder(folder / "small-bert")
    content = yaml.safe_load(simulated.study_file.read_text(encoding="utf-8"))
    content |= {
        "models": [
            {"kind": "gru", "parameters": {**SMALL, "max_epochs": 12}},
            {"kind": "transformer", "start": "pretrained", "parameters": {"max_epochs": 1, "device": "cpu"}},
        ],
        "pretraining": {"size": "tiny", "max_epochs": 1, "device": "cpu"},
        "timelines": {"text_encoder": str(encoder)},
        "evaluation": {"resamples": 100},
    }
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    events = simulated.record.events().collect()
    record = Record.create(folder / "record", shards=2).append(events, key="simulated")
    record = record.append(notes_of(events), key="notes")
    study = Study.read(file)
    study.run(record, folder / "run")
    held_out = pl.read_parquet(folder / "run" / "predictions.parquet")
    return NotesStudy(study, record, folder / "run", encoder, int(held_out["subject_id"][0]))


def test_notes_are_learnt_from_and_stay_in_the_run_folder(noted: NotesStudy) -> None:
    figures = json.loads((noted.run / "evaluation.json").read_text(encoding="utf-8"))["models"]
    auroc = {name: figures[name]["figures"]["auroc"]["value"] for name in ("gru", "logistic_regression")}
    assert auroc["gru"] > auroc["logistic_regression"] + 0.05
    assert list((noted.run / "timelines").glob("*.notes.npy"))
    for package in ("gru", "transformer"):
        files = [file.name for file in (noted.run / "models" / package).iterdir()]
        assert not [name for name in files if "note" in name or "bert" in name]
        card = (noted.run / "models" / package / "README.md").read_text(encoding="utf-8")
        assert "Notes are read through the text encoder `small-bert`" in card
    assert "text encoder" not in (noted.run / "models" / "lightgbm" / "README.md").read_text(encoding="utf-8")


def test_commands_predict_and_explain_through_the_encoder(noted: NotesStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    at = pl.read_parquet(noted.run / "predictions.parquet").filter(model="gru").row(0, named=True)
    when = f"{at['prediction_time']:%Y-%m-%dT%H:%M:%S}"
    predicted = noted.command("predict", "--at", when)["predictions"][0]
    assert predicted["predicted_boolean_probability"] == pytest.approx(at["predicted_boolean_probability"], rel=1e-5)
    explained = noted.command("explain", "--at", when)["explanations"][0]
    shares = {event["code"]: event["share"] for event in explained["events"]}
    assert shares["NOTE//visit"] == max(shares.values(), key=abs)


def test_no_other_encoder_takes_its_place(noted: NotesStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = noted.command("predict")["predictions"]
    moved = shutil.copytree(noted.encoder, tmp_path / "moved")
    monkeypatch.setenv(FOLDER_VARIABLE, str(small.write_encoder(tmp_path / "other", seed=1)))
    with pytest.raises(InputError, match=rf"text encoder small-bert .*holds another one .*set {FOLDER_VARIABLE}"):
        noted.command("predict")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=rf"no folder .*nowhere: set {FOLDER_VARIABLE}"):
        noted.command("explain")
    monkeypatch.setenv(FOLDER_VARIABLE, str(moved))
    assert noted.command("predict")["predictions"] == before


def test_timelines_are_made_again_for_another_encoder_in_the_same_folder(noted: NotesStudy, tmp_path: Path) -> None:
    shutil.copytree(noted.run, tmp_path / "run")
    states: list[tuple[str, str]] = []

    def stages() -> dict[str, str]:
        states.clear()
        noted.study.run(noted.record, tmp_path / "run", notify=lambda stage, state: states.append((stage, state)))
        return dict(states)

    assert set(stages().values()) == {"unchanged"}
    shutil.copytree(noted.encoder, tmp_path / "kept")
    small.write_encoder(noted.encoder, seed=1)
    try:
        again = stages()
    finally:
        shutil.copytree(tmp_path / "kept", noted.encoder, dirs_exist_ok=True)
    assert again["features"] == again["model lightgbm"] == "unchanged"
    assert again["pretraining"] == again["timelines"] == again["model gru"] == "done"
    assert [state for stage, state in states if stage == "timelines" and state.startswith("notes ")]
