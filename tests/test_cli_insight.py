"""The commands what-if and similar as typed: one JSON object, sentences, exit codes and errors of one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from careloop.predict.counterfactual import NOT_AN_EFFECT
from careloop.predict.similar import NOT_FITTED_TO

Careloop = Callable[..., tuple[int, str, str]]


@pytest.fixture
def asked(simulated: Any) -> tuple[Any, list[object]]:
    """The packaged model, and the options that ask about a held-out patient with a high risk, as the study saw them."""
    ranked = pl.read_parquet(simulated.run / "predictions.parquet").sort("predicted_boolean_probability")
    row = ranked.row(-3, named=True)
    options = ["--record", simulated.record.path, "--subject", row["subject_id"]]
    return row, [*options, "--at", f"{row['prediction_time']:%Y-%m-%dT%H:%M:%S}"]


def test_what_if_answers_in_numbers_and_words(careloop: Careloop, simulated: Any, asked: Any) -> None:
    row, options = asked
    package = simulated.run / "models" / "logistic_regression"
    code, out, _ = careloop("what-if", package, *options, "--set", "LAB//a=8", "--json")
    assert code == 0
    (patient,) = json.loads(out)["patients"]
    assert patient["subject_id"] == row["subject_id"]
    (answer,) = patient["what_if"]
    assert answer["risk"] == pytest.approx(row["predicted_boolean_probability"], abs=1e-3)
    assert answer["changed_risk"] < answer["risk"]  # the risk follows LAB//a
    assert (answer["changes"][0]["code"], answer["changes"][0]["after"]) == ("LAB//a", 8.0)
    text = careloop("what-if", package, *options, "--set", "a=8")[1]
    assert answer["text"] in text
    assert NOT_AN_EFFECT in text
    assert "not for clinical use" in text


def test_without_values_labs_are_typical_and_the_smallest_change_is_searched(
    careloop: Careloop, simulated: Any, asked: Any
) -> None:
    package = simulated.run / "models" / "logistic_regression"
    (patient,) = json.loads(careloop("what-if", package, *asked[1], "--json")[1])["patients"]
    assert {a["changes"][0]["code"] for a in patient["what_if"]} <= {"LAB//a", "LAB//b"}
    smallest = patient["smallest_change"]
    assert smallest["risk"] >= smallest["threshold"]
    assert smallest["found"]["changed_risk"] < smallest["threshold"]
    (other,) = json.loads(careloop("what-if", package, *asked[1], "--among", "LAB//b", "--json")[1])["patients"]
    assert {a["changes"][0]["code"] for a in other["what_if"]} == {"LAB//b"}


def test_similar_patients_are_tuning_patients_and_never_the_patient(
    careloop: Careloop, simulated: Any, asked: Any
) -> None:
    row, options = asked
    code, out, _ = careloop("similar", simulated.run, *options, "--count", 5, "--json")
    assert code == 0
    (found,) = json.loads(out)["patients"]
    cohort = pl.read_parquet(simulated.run / "cohort.parquet")
    tuning = set(cohort.filter(pl.col("split") == "tuning")["subject_id"])
    assert {n["subject_id"] for n in found["neighbours"]} <= tuning - {row["subject_id"]}
    assert len(found["neighbours"]) == 5
    assert 0 <= found["share"]["low"] <= found["share"]["value"] <= found["share"]["high"] <= 1
    text = careloop("similar", simulated.run, "--model", "logistic_regression", *options, "--count", 5)[1]
    assert found["text"] in text
    assert NOT_FITTED_TO in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--set", "LAB//a"], 2, "--set takes CODE=VALUE"),
        (["--set", "LAB//a=much"], 2, "--set takes CODE=VALUE"),
        (["--set", "LAB//q=3"], 1, "reads no numbers of 'LAB//q'; did you mean LAB//"),
    ],
)
def test_wrong_values_are_explained(
    careloop: Careloop, simulated: Any, asked: Any, arguments: list[str], code: int, message: str
) -> None:
    package = simulated.run / "models" / "logistic_regression"
    found, out, err = careloop("what-if", package, *asked[1], *arguments)
    assert (found, out) == (code, "")
    assert message in err
    assert careloop("what-if", package)[0] == 2
    assert "is no run folder" in careloop("similar", package, *asked[1])[2]
