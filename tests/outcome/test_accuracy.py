"""Predictions known to be right, too low, too high or too extreme are called so; too early is called too early."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from careloop.outcome.accuracy import judge_predictions

WHO = "held-out"


def _judge(rows: pl.DataFrame, predictions: pl.DataFrame, horizon_days: float = 365.0):
    keys = ["subject_id", "prediction_time"]
    return judge_predictions(predictions.join(rows, on=keys), horizon_days=horizon_days, who=WHO)


def _given(risk: np.ndarray, rows: pl.DataFrame) -> np.ndarray:
    return risk[np.arange(rows.height), (rows["treatment"] == "drug").to_numpy().astype(int)]


def test_true_risks_are_found_right_on_average(study_rows, predictions_of) -> None:
    rows, _, risk = study_rows(3000, 0)
    truth = _given(risk, rows)
    (verdict,) = _judge(rows, predictions_of(rows, truth))
    assert verdict.observed_expected.low < 1 < verdict.observed_expected.high
    assert verdict.slope.low < 1 < verdict.slope.high
    assert verdict.observed.value == pytest.approx(truth.mean(), abs=0.03)
    assert verdict.predicted == pytest.approx(truth.mean())
    assert (
        "on 3000 held-out patients the predicted risk within 365 days was right on average (observed" in verdict.words
    )
    assert "no sign that high or low risks were wrong" in verdict.words
    assert verdict.events + verdict.censored + (rows["boolean_value"].eq_missing(False)).sum() == 3000


@pytest.mark.parametrize(("factor", "words"), [(0.6, "was too low on average"), (1.3, "was too high on average")])
def test_risks_that_are_off_on_average_are_called_so(factor: float, words: str, study_rows, predictions_of) -> None:
    rows, _, risk = study_rows(3000, 1)
    (verdict,) = _judge(rows, predictions_of(rows, np.clip(_given(risk, rows) * factor, 0, 1)))
    assert words in verdict.words


@pytest.mark.parametrize(
    ("stretch", "words"),
    [(2.0, "high risks were predicted too high and low ones too low"), (0.5, "differed more between patients")],
)
def test_risks_that_are_too_extreme_or_too_alike_are_called_so(
    stretch: float, words: str, study_rows, predictions_of
) -> None:
    rows, _, risk = study_rows(3000, 2)
    log_odds = np.log(_given(risk, rows) / (1 - _given(risk, rows)))
    centred = log_odds.mean() + stretch * (log_odds - log_odds.mean())
    (verdict,) = _judge(rows, predictions_of(rows, 1 / (1 + np.exp(-centred))))
    assert words in verdict.words


def test_a_verdict_that_is_too_early_says_why(study_rows, predictions_of) -> None:
    rows, _, risk = study_rows(200, 3)
    (verdict,) = _judge(rows, predictions_of(rows, risk[:, 0]), horizon_days=2000.0)
    assert verdict.observed.value is None
    assert verdict.words == (
        "model (1): no verdict yet on 200 held-out patients, because nobody has been followed for 2000 days yet."
    )


def test_few_events_give_a_figure_without_an_interval_and_no_judgement(study_rows, predictions_of) -> None:
    rows, _, risk = study_rows(12, 4)
    (verdict,) = _judge(rows, predictions_of(rows, risk[:, 0]))
    assert verdict.observed.value is not None
    assert verdict.observed.low is None
    assert "cannot be called right or wrong" in verdict.words


def test_abstained_predictions_are_counted_apart_and_models_judged_one_by_one(study_rows, predictions_of) -> None:
    rows, _, risk = study_rows(600, 5)
    abstained = predictions_of(rows, _given(risk, rows), "b").with_columns(abstained=pl.col("subject_id") < 100)
    verdicts = _judge(rows, pl.concat([abstained, predictions_of(rows, risk[:, 0], "a")]))
    assert [(v.model, v.rows, v.abstained) for v in verdicts] == [("a", 600, 0), ("b", 500, 100)]
    assert "abstained from 100 further predictions" in verdicts[1].words
    all_abstained = _judge(rows, abstained.with_columns(abstained=True))[0]
    assert "because the model abstained from all of them" in all_abstained.words


def test_predictions_without_information_are_not_praised(study_rows, predictions_of) -> None:
    rows, _, _ = study_rows(300, 6)
    (verdict,) = _judge(rows, predictions_of(rows, np.random.default_rng(0).uniform(0.25, 0.35, 300)))
    assert "whether high and low risks were told apart at all cannot be said" in verdict.words
