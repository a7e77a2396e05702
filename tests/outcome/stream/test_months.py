"""Months of the prediction against direct computation, and months that are not over yet."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom
from sklearn.metrics import brier_score_loss, roc_auc_score

from careloop.outcome.stream.months import judge_months, months_json, months_table

AS_OF = datetime(2023, 5, 10, tzinfo=UTC)


@pytest.fixture(scope="module")
def months(stream):
    rows = stream(900, 0)
    return rows, judge_months(rows, horizon_days=30.0, as_of=AS_OF)


def test_a_months_figures_are_those_of_its_predictions(months) -> None:
    rows, (of_model,) = months
    february = rows.filter(pl.col("prediction_time").dt.month() == 2)
    label = ((february["event"] == 1) & (february["follow_up_days"] <= 30)).to_numpy()
    risk = february["predicted_boolean_probability"].to_numpy()
    found = of_model.months[1]
    assert (found.month, found.known, found.known_from) == ("2023-02", True, "2023-03-31")
    verdict = found.verdict
    assert (verdict.rows, verdict.events, verdict.censored) == (len(risk), label.sum(), 0)
    assert verdict.observed_expected.value == pytest.approx(label.sum() / risk.sum())
    assert verdict.brier.value == pytest.approx(brier_score_loss(label, risk))
    assert verdict.auroc.value == pytest.approx(roc_auc_score(label, risk))
    for figure in (verdict.observed_expected, verdict.intercept, verdict.slope, verdict.auroc, verdict.brier):
        assert figure.low < figure.value < figure.high


def test_a_month_is_not_known_before_the_horizon_of_its_last_day(months) -> None:
    _, (of_model,) = months
    assert [m.known for m in of_model.months] == [True, True, True, False, False]
    april = of_model.months[3]
    assert april.verdict.observed_expected.value is None
    assert april.limits is None
    assert april.verdict.observed.reason == "the outcomes of 2023-04 are known from 2023-05-31"
    assert april.verdict.rows == 180


def test_limits_are_those_of_a_binomial_where_risks_are_equal(stream) -> None:
    rows = stream(180, 1).with_columns(predicted_boolean_probability=0.2)
    (of_model,) = judge_months(rows, horizon_days=30.0, as_of=AS_OF)
    n = of_model.months[0].verdict.rows
    assert of_model.months[0].limits == pytest.approx(binom.ppf([0.025, 0.975], n, 0.2) / (0.2 * n))


def test_loss_widens_the_limits_and_is_weighted_for(stream) -> None:
    whole, lossy = (
        judge_months(stream(186, 5, loss=loss), horizon_days=30.0, as_of=AS_OF)[0].months[0] for loss in (0.0, 0.5)
    )
    assert lossy.verdict.censored > 40
    assert np.diff(lossy.limits) > np.diff(whole.limits)


def test_versions_stand_apart_and_serialise(stream) -> None:
    rows = stream(372, 2).with_columns(model_version=pl.when(pl.col("subject_id") < 100).then(pl.lit("1")))
    both = judge_months(rows, horizon_days=30.0, as_of=AS_OF)
    assert [(m.model_version, len(m.months)) for m in both] == [("", 3), ("1", 1)]
    table = months_table(both)
    assert table.height == 4
    assert table["rows"].sum() == 372
    assert {"observed_expected_low", "auroc", "note"} <= set(table.columns)
    content = json.loads(json.dumps(months_json(both)))
    assert set(content[0]["months"][0]["observed_expected"]) == {"value", "low", "high", "reason"}


@pytest.mark.parametrize(
    ("a_day", "names"), [(1.0, ["2023-01", "2023-02"]), (0.4, ["2023-Q1", "2023-Q2"]), (0.1, ["2023"])]
)
def test_periods_are_longer_where_predictions_are_few(a_day: float, names: list[str]) -> None:
    made = [datetime(2023, 1, 1, tzinfo=UTC) + timedelta(days=i / a_day) for i in range(int(360 * a_day))]
    rows = pl.DataFrame(
        {
            "subject_id": range(len(made)),
            "prediction_time": pl.Series(made, dtype=pl.Datetime("us", "UTC")),
            "model": "cox",
            "model_version": "1",
            "predicted_boolean_probability": 0.3,
            "abstained": False,
            "follow_up_days": 30.0,
            "event": pl.Series([i % 3 == 0 for i in range(len(made))]).cast(pl.Int8),
        }
    )
    (of_model,) = judge_months(rows, horizon_days=30, as_of=datetime(2024, 6, 1, tzinfo=UTC))
    assert [m.month for m in of_model.months][: len(names)] == names
    assert sum(m.verdict.rows for m in of_model.months) == len(made)
    assert of_model.months[-1].known_from in {"2024-01-31"}
