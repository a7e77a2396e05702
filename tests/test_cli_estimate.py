"""The command estimate: Riley's examples without a record, and a whole study as tables, JSON and a picture."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from careloop.cli import main
from careloop.study import example_study

Run = Callable[..., tuple[int, str, str]]
BINARY = ["--type", "binary", "--parameters", 24, "--prevalence", 0.174]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["careloop", "estimate", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        left, code = capsys.readouterr(), stop.value.code
        return (1, left.out, code) if isinstance(code, str) else (code or 0, left.out, left.err)

    return call


@pytest.mark.parametrize(
    ("arguments", "n"),
    [
        ([*BINARY, "--r2", 0.288], 662),
        ([*BINARY, "--c-statistic", 0.89], 660),
        (["--type", "binary", "--parameters", 30, "--prevalence", 0.05, "--r2", 0.05], 5249),
        (
            ["--type", "time-to-event", "--parameters", 30, "--rate", 0.065, "--timepoint", 2, "--mean-follow-up", 2.07,
             "--r2", 0.051],
            5143,
        ),
        (["--type", "continuous", "--parameters", 25, "--r2", 0.2, "--mean", 1.9, "--sd", 0.6], 918),
    ],
)  # fmt: skip
def test_published_examples(run: Run, arguments: list[Any], n: int) -> None:
    code, out, _ = run(*arguments, "--json")
    assert code == 0
    content = json.loads(out)
    assert content["n"] == n
    assert max(criterion["n"] for criterion in content["criteria"]) == n
    code, out, _ = run(*arguments)
    assert code == 0
    assert f"{n:,} patients" in out


def test_without_an_r2_fifteen_percent_of_the_largest_is_assumed(run: Run) -> None:
    assumed, stated = (json.loads(run(*BINARY, *more, "--json")[1]) for more in ([], ["--nagelkerke-r2", 0.15]))
    assert assumed == stated
    assert assumed["r2"] == pytest.approx(0.15 * assumed["max_r2"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either STUDY with --record, or --type"),
        (["study.yaml", *BINARY], "give either STUDY with --record, or --type"),
        (["study.yaml"], "STUDY needs --record"),
        (["study.yaml", "--record", "record", "--r2", 0.2], "--r2 does not go with STUDY"),
        ([*BINARY, "--epochs", 3], "--epochs does not go with --type binary"),
        (["--type", "binary", "--parameters", 24], "--type binary needs --prevalence"),
        (["study.yaml", "--record", "record", "--plot", "a.txt"], "--plot draws .png, .svg, .pdf files, got a.txt"),
        ([*BINARY, "--rate", 0.1], "--rate does not go with --type binary"),
        ([*BINARY, "--r2", 0.1, "--c-statistic", 0.7], "give one of --r2 and --c-statistic"),
        (["--type", "continuous", "--parameters", 5, "--mean", 1, "--sd", 1], "--type continuous needs --r2"),
    ],
)
def test_wrong_usage(run: Run, arguments: list[Any], message: str) -> None:
    code, out, error = run(*arguments)
    assert code == 2
    assert not out
    assert message in error


def test_a_value_out_of_range_is_one_line(run: Run) -> None:
    code, out, error = run(*BINARY, "--r2", 0.7)
    assert code == 1
    assert not out
    assert error == "careloop: r2 must be above 0 and below 0.6032, got 0.7"


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("lifelines")
    from careloop.ingest import example_record

    return example_record("actg175", tmp_path_factory.mktemp("cli") / "record").path


def test_a_study_as_tables_and_a_picture(run: Run, record: Path, tmp_path: Path) -> None:
    picture = tmp_path / "curves.png"
    code, out, _ = run(example_study("actg175"), "--record", record, "--plot", picture)
    assert code == 0
    for words in (
        "Minimum sample size (Riley et al.) for 17 parameters of 17 candidate features",
        "1,252",
        "Learning curve of logistic_regression:",
        "With 2 times the patients (2,504), AUROC about 0.",
        "Learning curve of lightgbm:",
        "Transformers on 26,376 events of 21 codes, 10 epochs",
        "30% of it reached",
        f"Wrote {picture}.",
    ):
        assert words in out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_study_as_one_json_object(run: Run, record: Path, tmp_path: Path) -> None:
    code, out, _ = run(example_study("actg175"), "--record", record, "--json")
    assert code == 0
    content = json.loads(out)
    assert {"counts", "floors", "curves", "networks", "assumptions", "work", "plot"} <= content.keys()
    assert content["plot"] is None
