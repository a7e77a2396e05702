"""The whole evaluation: its JSON, its comparisons, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest

from careloop import InputError
from careloop.evaluate import LabelSets, Outcomes, Predictions, Threshold, compare, evaluate_all, evaluate_predictions

STATED = Threshold(0.4, "stated in the test")
BAND = {"x", "value", "low", "high"}


@pytest.fixture(scope="module")
def evaluation(simulated):
    probability, _, seen = simulated
    rows = np.arange(600)
    probability, seen = probability[rows], seen.take(rows)
    days = np.linspace(1, 6, 12)
    incidence = 1 - (1 - probability[:, None]) ** (days / 6)
    sets = np.column_stack([probability < 0.7, probability > 0.2])
    models = {
        "survival": Predictions(probability, STATED, incidence, days, LabelSets(0.9, sets)),
        "noisy": Predictions(np.clip(probability + np.sin(rows) * 0.2, 0, 1), Threshold(0.37, "elsewhere")),
        "again": Predictions(probability, STATED, incidence, days),
    }
    return evaluate_all(models, seen, subgroups={"sex": np.where(rows % 2, "F", "M")}, resamples=150, seed=1)


def test_json_has_the_documented_layout(evaluation) -> None:
    result = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert set(result) == {"outcome", "threshold", "bootstrap", "models", "comparisons"}
    assert set(result["outcome"]) == {"horizon_days", "rows", "uncensored", "prevalence", "incidence", "at_risk"}
    assert result["threshold"]["noisy"] == {"value": 0.37, "rule": "elsewhere"}
    model = result["models"]["survival"]
    assert set(model) == {
        "threshold", "figures", "decision", "calibration", "roc", "pr", "net_benefit", "risk_groups", "subgroups",
        "survival", "conformal", "fairness",
    }  # fmt: skip
    assert set(model["figures"]["auroc"]) == {"value", "low", "high", "reason"}
    assert set(model["net_benefit"]["model"]) == BAND
    assert set(model["calibration"]["curve"]) == BAND
    assert set(model["subgroups"][0]) == {"variable", "group", "rows", "figures"}
    assert set(model["risk_groups"][0]) == {"name", "n", "lowest", "highest", "incidence", "at_risk"}
    assert result["models"]["noisy"]["survival"] is None
    assert result["models"]["noisy"]["conformal"] is None
    assert set(model["conformal"]) == {"level", "figures", "subgroups"}
    assert set(model["conformal"]["subgroups"][0]) == {"variable", "group", "rows", "figures"}
    assert set(model["conformal"]["subgroups"][0]["figures"]) == set(model["conformal"]["figures"]) == {
        "coverage", "coverage_event", "coverage_event_free", "mean_size", "single", "empty", "several",
    }  # fmt: skip
    assert set(model["fairness"]) == {"gaps", "margins", "too_few", "rule", "words"}
    assert set(model["fairness"]["gaps"][0]) == {
        "variable", "group", "figure", "first", "others", "value", "others_value", "difference", "margin", "p",
        "adjusted_p", "flagged", "words",
    }  # fmt: skip
    assert set(model["fairness"]["gaps"][0]["first"]) == {"name", "n", "events", "prevalence"}
    assert [(c["first"], c["second"]) for c in result["comparisons"]] == [
        ("survival", "noisy"), ("survival", "again"), ("noisy", "again"),
    ]  # fmt: skip
    assert set(result["comparisons"][0]["differences"]) == {"auroc", "auprc", "brier", "net_benefit"}
    assert {"harrell_c", "uno_c", "integrated_brier"} < set(result["comparisons"][1]["differences"])


def test_floats_are_not_rounded(evaluation) -> None:
    figure = evaluation.models["survival"].figures["auroc"]
    assert (
        json.loads(json.dumps(evaluation.to_json()))["models"]["survival"]["figures"]["auroc"]["value"] == figure.value
    )


def test_every_main_figure_has_an_interval_around_its_value(evaluation) -> None:
    model = evaluation.models["survival"]
    figures = {**model.figures, **model.decision, "slope": model.calibration.slope, "uno": model.survival.uno_c}
    for name, figure in figures.items():
        assert figure.low < figure.value < figure.high, name


def test_equal_models_differ_by_exactly_nothing(evaluation) -> None:
    for difference in evaluation.comparisons[1].differences.values():
        assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def test_comparison_is_the_difference_and_narrower_than_unpaired(evaluation, simulated) -> None:
    first, second = (evaluation.models[name].figures["auroc"] for name in ("survival", "noisy"))
    paired = evaluation.comparisons[0].differences["auroc"]
    assert paired.value == pytest.approx(first.value - second.value)
    assert paired.high - paired.low < np.hypot(first.high - first.low, second.high - second.low)
    rows = np.arange(600)
    probability = simulated[0][rows]
    noisy = np.clip(probability + np.sin(rows) * 0.2, 0, 1)
    alone = compare(probability, noisy, simulated[2].take(rows), threshold=STATED, resamples=150, seed=1)
    assert alone.differences["auroc"] == paired
    assert alone.net_benefit_threshold == 0.4


def test_same_seed_same_numbers(evaluation, simulated) -> None:
    rows = np.arange(600)
    again = evaluate_predictions(simulated[0][rows], simulated[2].take(rows), threshold=STATED, resamples=150, seed=1)
    assert again.figures == evaluation.models["survival"].figures
    other = evaluate_predictions(simulated[0][rows], simulated[2].take(rows), threshold=STATED, resamples=150, seed=2)
    assert other.figures["auroc"].value == again.figures["auroc"].value
    assert other.figures["auroc"].low != again.figures["auroc"].low


def test_outcome_summary_is_the_incidence_at_the_horizon(evaluation) -> None:
    outcome = evaluation.outcome
    assert outcome.incidence.value[-1] == pytest.approx(outcome.prevalence.value)
    assert outcome.rows.events + outcome.rows.event_free + outcome.rows.censored == outcome.rows.n == 600
    assert 0 < outcome.uncensored < 1


def test_few_events_give_values_with_reasons(binary) -> None:
    label = np.arange(40) < 4
    result = evaluate_predictions(np.linspace(0.9, 0.1, 40), binary(label), threshold=STATED, resamples=50)
    assert result.figures["auroc"].value == 1
    assert result.figures["auroc"].low is None
    assert "4 subjects with and 36 without the event" in result.figures["auroc"].reason


@pytest.mark.parametrize(
    ("days", "event", "rule"),
    [
        ([9.0] * 6, [0] * 6, "needs rows with and without the outcome by day 5: got 0 with, 6 without, 0 censored"),
        ([1.0] * 6, [1] * 6, "got 6 with, 0 without"),
        ([1.0, 2.0, 3.0, 4.0, 4.0, 4.0], [1, 1, 0, 0, 0, 0], "horizon_days must lie within the follow-up"),
    ],
)
def test_outcomes_that_cannot_be_evaluated_are_refused(days: list[float], event: list[int], rule: str) -> None:
    outcomes = Outcomes(np.arange(6), np.array(days), np.array(event), 5.0)
    with pytest.raises(InputError, match=rule):
        evaluate_predictions(np.linspace(0.1, 0.9, 6), outcomes, threshold=STATED)


def test_no_model_is_refused(simulated) -> None:
    with pytest.raises(InputError, match="at least one model"):
        evaluate_all({}, simulated[1])
