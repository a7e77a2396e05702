"""Subgroups and label sets through a whole run: one promise in models, predictions.parquet and evaluation.json."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from careloop.study import RunFolder, packages


def evaluation(loop: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((loop.run / "evaluation.json").read_text())
    return found


def test_subgroups_of_a_run_add_up(actg175: Any) -> None:
    found = evaluation(actg175)
    for model in found["models"].values():
        for variable, names in {"GENDER//M": {"yes", "no"}, "age_years": {"below 35", "35 and above"}}.items():
            for subgroups in (model["subgroups"], model["conformal"]["subgroups"]):
                parts = [part for part in subgroups if part["variable"] == variable]
                assert {part["group"] for part in parts} == names
                for count in ("n", "events", "censored"):
                    assert sum(part["rows"][count] for part in parts) == found["outcome"]["rows"][count]


@pytest.mark.parametrize("which", ["actg175", "simulated"])
def test_predictions_hold_the_sets_that_are_evaluated(request: pytest.FixtureRequest, which: str) -> None:
    loop = request.getfixturevalue(which)
    predictions = pl.read_parquet(loop.run / "predictions.parquet")
    assert predictions.schema["conformal_set"] == pl.List(pl.Boolean)
    assert (predictions["conformal_set"].is_null() == predictions["abstained"]).all()
    for name, model in evaluation(loop)["models"].items():
        sets = predictions.filter(pl.col("model") == name, ~pl.col("abstained"))["conformal_set"]
        share = sets.list.len().mean() * len(sets)
        abstained = predictions.filter(pl.col("model") == name)["abstained"].sum()
        total = model["conformal"]["figures"]["mean_size"]["value"] * (len(sets) + abstained)
        assert share - 1e-9 <= total <= share + 2 * abstained + 1e-9
        assert model["conformal"]["level"] == 0.9


def test_every_combination_of_subgroups_has_its_rule(actg175: Any) -> None:
    for package in packages(actg175.study, RunFolder.reopen(actg175.run)):
        assert package.conformal is not None
        assert [grouping.feature for grouping in package.conformal.groupings] == ["GENDER//M", "age_years"]
        assert len(package.conformal.thresholds.groups) == 4
