"""The main figures of a run, as plain values and as the text that ends a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from careloop.report.summary import main_figures, summary, table


@pytest.fixture(scope="module")
def figures(actg175: Any) -> dict[str, Any]:
    return main_figures(actg175.run)


def shown(text: str) -> str:
    """The text without the lines of its tables."""
    return " ".join(text.translate(dict.fromkeys(map(ord, "│┃┏┓└┘┴┬┼├┤─━┡┩╇┳"), " ")).split())


def test_figures_are_those_of_the_files_with_their_intervals(actg175: Any, figures: dict[str, Any]) -> None:
    evaluation = json.loads((actg175.run / "evaluation.json").read_text())
    assert set(figures["models"]) == set(evaluation["models"])
    for name, model in figures["models"].items():
        assert model["auroc"] == evaluation["models"][name]["figures"]["auroc"]
        assert model["auroc"]["low"] <= model["auroc"]["value"] <= model["auroc"]["high"]
    assert "harrell_c" in figures["models"]["cox"]
    assert "harrell_c" not in figures["models"]["lightgbm"]
    assert figures["rows"] == evaluation["outcome"]["rows"]
    assert figures["record_version"] == 1
    assert figures["not_for_clinical_use"] is True
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_paths_are_absolute_and_there(figures: dict[str, Any]) -> None:
    assert Path(figures["run"]).is_absolute()
    assert Path(figures["report"]).is_file()


def test_text_ends_with_the_report_and_the_warning(actg175: Any, figures: dict[str, Any]) -> None:
    text = summary(figures)
    lines = text.splitlines()
    assert lines[-2] == f"Report: {(actg175.run / 'report.html').resolve()}"
    assert lines[-1] == "Research software, not for clinical use."
    for model in ("logistic_regression", "lightgbm", "cox"):
        auroc = figures["models"][model]["auroc"]
        assert f"{model} {auroc['value']:.2f} [{auroc['low']:.2f}, {auroc['high']:.2f}]" in shown(text)
    for sentence in figures["verdict"]:
        assert f"- {sentence}" in lines
    for patient in figures["patients"]:
        assert patient["name"] in text


def test_effects_stand_beside_the_plain_differences(figures: dict[str, Any]) -> None:
    text = summary(figures)
    for goal, contrasts in figures["effects"].items():
        assert f"Effects on {goal}" in text
        for contrast in contrasts:
            both = " ".join(
                f"{e['value']:+.3g} [{e['low']:+.3g}, {e['high']:+.3g}]"
                for e in (contrast["adjusted"], contrast["plain"])
            )
            assert f"{contrast['option']} {contrast['versus']} {both}" in shown(text)


def test_a_run_without_a_plan_has_no_effects(simulated: Any) -> None:
    figures = main_figures(simulated.run)
    assert figures["effects"] is None
    assert figures["decision"] is None
    assert "Effects on" not in summary(figures)


def test_figures_that_cannot_be_given_are_said_to_be(simulated: Any, tmp_path: Path) -> None:
    shutil.copytree(simulated.run, tmp_path / "run")
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    model = evaluation["models"]["logistic_regression"]
    model["figures"]["auroc"] = {"value": None, "low": None, "high": None, "reason": "one class"}
    model["figures"]["auprc"].update(value=0.25, low=None, high=None)
    (tmp_path / "run" / "evaluation.json").write_text(json.dumps(evaluation))
    assert "logistic_regression not estimable 0.25 " in shown(summary(main_figures(tmp_path / "run")))


def test_table_shows_every_cell_and_nothing_for_none() -> None:
    text = table(["step", "kept"], [("first [x] :heart: [/]", 12), ("second", None)], title="Flow [y]")
    assert shown(text) == "Flow [y] step kept first [x] :heart: [/] 12 second"
