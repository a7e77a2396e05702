"""Discrimination and net benefit against scikit-learn, R's riskRegression and pROC, closed forms and a simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from careloop import InputError
from careloop.evaluate import Outcomes, Threshold, compare, evaluate_predictions, horizon_weights, youden_threshold
from careloop.evaluate.discrimination import (
    CURVE_POINTS,
    NET_BENEFIT_THRESHOLDS,
    DiscriminationStatistic,
    Ranking,
    roc_and_pr,
)

STATED = Threshold(0.5, "stated in the test")
tied_predictions = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9, 1.0]), st.booleans(), st.sampled_from([0.0, 0.5, 1.0, 2.0])),
    min_size=4,
    max_size=40,
)


def figures(probability: np.ndarray, outcomes: Outcomes, threshold: float = 0.5) -> dict[str, np.ndarray]:
    weight = horizon_weights(outcomes.follow_up_days, outcomes.event, outcomes.horizon_days)[None]
    statistic = DiscriminationStatistic.of(probability, outcomes, threshold=threshold)
    with np.errstate(invalid="ignore"):
        return {name: value[0] for name, value in statistic(np.ones_like(weight), weight).items()}


@given(tied_predictions)
@settings(max_examples=150, deadline=None)
def test_weighted_figures_equal_scikit_learns(rows: list[tuple[float, bool, float]]) -> None:
    probability, label, weight = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    if not (weight[label == 1].sum() and weight[label == 0].sum()):
        return
    outcomes = Outcomes(np.arange(len(label)), np.where(label, 1.0, 9.0), label, 5.0)
    statistic = DiscriminationStatistic.of(probability, outcomes, threshold=0.5)
    with np.errstate(invalid="ignore"):
        found = {name: value[0] for name, value in statistic(weight[None], weight[None]).items()}
    called = probability >= 0.5
    args = {"sample_weight": weight}
    expected = {
        "auroc": metrics.roc_auc_score(label, probability, **args),
        "auprc": metrics.average_precision_score(label, probability, **args),
        "accuracy": metrics.accuracy_score(label, called, **args),
        "recall": metrics.recall_score(label, called, **args),
        "specificity": metrics.recall_score(1 - label, ~called, **args),
        "f1": metrics.f1_score(label, called, **args),
        "prevalence": np.average(label, weights=weight),
    }
    if weight[called].sum():
        expected["precision"] = metrics.precision_score(label, called, **args)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


def test_curves_are_scikit_learns_and_are_thinned(simulated) -> None:
    probability, full, _ = simulated
    probability, label = probability[:150].round(3), full.label[:150]
    roc, pr = roc_and_pr(Ranking.of(probability, label), np.ones(150))
    false_positive, recall, _ = metrics.roc_curve(label, probability, drop_intermediate=False)
    assert roc.x == pytest.approx(false_positive)
    assert roc.y == pytest.approx(recall)
    precision, recall, cuts = metrics.precision_recall_curve(label, probability)
    assert pr.y == pytest.approx(precision[:-1][::-1])
    assert pr.x == pytest.approx(recall[:-1][::-1])
    assert pr.threshold == pytest.approx(cuts[::-1])
    many, _ = roc_and_pr(Ranking.of(simulated[0], full.label), np.ones(len(full)))
    assert len(many.x) == CURVE_POINTS
    assert (many.x[0], many.y[0], many.x[-1], many.y[-1]) == (0, 0, 1, 1)


def test_censoring_weights_recover_what_full_follow_up_shows(simulated) -> None:
    """More than a third of the rows are censored; dropping them or calling them negative would be plainly wrong."""
    probability, full, seen = simulated
    assert (~seen.known).mean() > 0.3
    truth, weighted = figures(probability, full), figures(probability, seen)
    for name, tolerance in (
        ("auroc", 0.02),
        ("auprc", 0.03),
        ("prevalence", 0.02),
        ("recall", 0.03),
        ("precision", 0.03),
    ):
        assert weighted[name] == pytest.approx(truth[name], abs=tolerance), name
    assert seen.label[seen.known].mean() > truth["prevalence"] + 0.05
    assert seen.label.mean() < truth["prevalence"] - 0.05


def test_auroc_and_paired_difference_are_riskregressions(mgus2) -> None:
    """R riskRegression 2022.11.28 Score(times = 120, cause = 1, cens.model = "km") of two models with competing death.

    The AUROC must agree; its standard errors come from influence functions, ours from resampling, so limits are near.
    """
    predictions, months, event = mgus2
    outcomes = Outcomes(np.arange(len(months)), months, event, 120.0)
    result = evaluate_predictions(predictions["p"], outcomes, threshold=STATED)
    assert result.figures["auroc"].value == pytest.approx(0.634230353316, abs=1e-11)
    assert result.figures["auroc"].low == pytest.approx(0.572747651481, abs=0.012)
    assert result.figures["auroc"].high == pytest.approx(0.695713055151, abs=0.012)
    difference = compare(predictions["p"], predictions["q"], outcomes, threshold=STATED).differences
    assert difference["auroc"].value == pytest.approx(0.0588581583018, abs=1e-11)
    assert difference["auroc"].low == pytest.approx(0.0188965645272, abs=0.006)
    assert difference["auroc"].high == pytest.approx(0.0988197520765, abs=0.006)
    assert difference["brier"].value == pytest.approx(-0.000625473629362, abs=1e-12)
    assert difference["brier"].low == pytest.approx(-0.001101164153284, abs=1.5e-4)
    assert difference["brier"].high == pytest.approx(-0.000149783105440, abs=1.5e-4)


def test_interval_of_auroc_is_near_delongs(birthwt, binary) -> None:
    """R pROC 1.18.0 on MASS' birthwt: AUC 0.693937419, ci.auc(method = "delong") 0.614677589 to 0.773197248."""
    probability, label = birthwt
    found = evaluate_predictions(probability, binary(label), threshold=STATED).figures["auroc"]
    assert found.value == pytest.approx(0.693937419, abs=1e-9)
    assert found.low == pytest.approx(0.614677589, abs=0.012)
    assert found.high == pytest.approx(0.773197248, abs=0.012)


def test_net_benefit_by_hand(binary) -> None:
    """At 0.2 one false positive costs a quarter of a true one: of 10 rows, 3 true and 2 false are called."""
    probability = np.array([0.9, 0.8, 0.3, 0.25, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1])
    label = np.array([1, 1, 1, 0, 0, 1, 0, 0, 0, 0])
    found = figures(probability, binary(label), threshold=0.2)
    assert found["net_benefit"] == pytest.approx(3 / 10 - 2 / 10 * 0.25)
    at = NET_BENEFIT_THRESHOLDS.tolist().index(0.2)
    assert found["net_benefit_curve"][at] == pytest.approx(found["net_benefit"])
    assert found["treat_all_curve"][at] == pytest.approx(4 / 10 - 6 / 10 * 0.25)


def test_net_benefit_of_a_perfect_model_is_the_prevalence(binary) -> None:
    label = np.arange(50) < 20
    found = figures(label.astype(float), binary(label))
    assert found["net_benefit_curve"] == pytest.approx(np.full(99, 0.4))


def test_youden_threshold_is_the_best_of_the_roc_curve(birthwt, binary) -> None:
    probability, label = birthwt
    false_positive, recall, cuts = metrics.roc_curve(label, probability)
    best = np.argmax(recall - false_positive)
    chosen = youden_threshold(probability, binary(label))
    assert cuts[best] >= chosen.value > max(probability[probability < cuts[best]], default=0)
    called = probability >= chosen.value
    assert called[label == 1].mean() - called[label == 0].mean() == pytest.approx((recall - false_positive)[best])
    assert "tuning rows" in chosen.rule


def test_broken_rules_are_named(binary) -> None:
    label = np.arange(20) < 8
    with pytest.raises(InputError, match="between 0 and 1, both excluded: got 1"):
        Threshold(1.0, "x")
    with pytest.raises(InputError, match="one value a row: got shape \\(3,\\) for 20 rows"):
        evaluate_predictions(np.ones(3), binary(label), threshold=STATED)
    with pytest.raises(InputError, match="between 0 and 1: 1 rows do not, first row 4"):
        evaluate_predictions(np.where(np.arange(20) == 4, np.nan, 0.5), binary(label), threshold=STATED)
    with pytest.raises(InputError, match="needs both classes among the tuning rows"):
        youden_threshold(np.full(20, 0.5), binary(np.zeros(20, dtype=bool)))
