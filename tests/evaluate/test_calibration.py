"""Calibration against R's glm and Hmisc, closed forms, and simulations of known miscalibration."""

from __future__ import annotations

import numpy as np
import pytest

from careloop.evaluate import Outcomes, Threshold, aalen_johansen, evaluate_predictions, horizon_weights
from careloop.evaluate.calibration import ModerateStatistic, Spline, WeakStatistic, expit, logit, weighted_logistic

STATED = Threshold(0.5, "stated in the test")


def test_recalibration_is_rs(birthwt, binary) -> None:
    """R 4.2.2 on MASS' birthwt: glm(low ~ offset(qlogis(p))), glm(low ~ qlogis(p)), rms 6.5-0 val.prob's Brier score.

    Limits of the slope are confint.default's (Wald), ours percentiles, so they agree roughly.
    """
    probability, label = birthwt
    result = evaluate_predictions(probability, binary(label), threshold=STATED)
    assert result.calibration.intercept.value == pytest.approx(-0.634586949507, abs=1e-9)
    assert result.calibration.slope.value == pytest.approx(1.09789561653, abs=1e-9)
    assert result.calibration.slope.low == pytest.approx(0.562834689847, abs=0.12)
    assert result.calibration.slope.high == pytest.approx(1.6329565432, abs=0.2)
    assert result.figures["brier"].value == pytest.approx(0.212433045996481, abs=1e-12)
    observed = label.mean()
    assert result.calibration.observed_expected.value == pytest.approx(observed / probability.mean())
    assert result.figures["scaled_brier"].value == pytest.approx(1 - 0.212433045996481 / (observed * (1 - observed)))


def test_smooth_curve_is_rs(birthwt, binary) -> None:
    """R's glm(low ~ rcspline.eval(qlogis(p), knots, inclx = TRUE)), knots at the same quantiles: mean |fitted - p|."""
    probability, label = birthwt
    statistic = ModerateStatistic.of(probability, binary(label))
    ones = np.ones((1, len(label)))
    assert statistic(ones, ones)["ici"][0] == pytest.approx(0.135099063353, abs=1e-9)
    assert statistic.spline.words == "logistic restricted cubic spline of the logit, 4 knots"


def test_spline_terms_are_rs() -> None:
    """R Hmisc 4.8-0: rcspline.eval(x, c(-1.6, -0.4, 0.4, 1.6), inclx = TRUE, norm = 2)."""
    x = np.array([-2.5, -1, -0.2, 0.4, 1.1, 2.7])
    first = [0, 0.02109375, 0.26796875, 0.78125, 1.83284505208, 4.8125]
    second = [0, 0, 0.00078125, 0.05, 0.273763020833, 1.015625]
    design = Spline(centre=0.0, scale=1.0, knots=(-1.6, -0.4, 0.4, 1.6)).design(x)
    assert design == pytest.approx(np.column_stack([np.ones(6), x, first, second]))


def test_weights_are_copies_and_separation_has_no_estimate() -> None:
    generator = np.random.default_rng(1)
    x = np.column_stack([np.ones(80), generator.normal(size=80)])
    label = (generator.random(80) < expit(x[:, 1])).astype(float)
    copies = generator.integers(0, 3, 80)
    again = np.repeat(np.arange(80), copies)
    weighted = weighted_logistic(x, label, np.vstack([copies, np.full(80, np.nan)]).astype(float))
    assert weighted[0] == pytest.approx(
        weighted_logistic(x[again], label[again], np.ones((1, len(again))))[0], abs=1e-8
    )
    assert np.isnan(weighted[1]).all()
    separated = weighted_logistic(x, (x[:, 1] > 0).astype(float), np.ones((1, 80)))
    assert np.isnan(separated).all()


def test_known_miscalibration_is_found_under_censoring() -> None:
    """Predictions twice too far from even odds, on the logit scale: the slope is 1/2 and the curve is known."""
    generator = np.random.default_rng(8)
    truth = expit(generator.normal(-0.5, 1, 20_000))
    label = generator.random(20_000) < truth
    days, end = np.where(label, generator.uniform(0, 5, 20_000), 10.0), generator.uniform(0, 12, 20_000)
    event = np.where(days <= end, 1, 0) * label
    outcomes = Outcomes(np.arange(20_000), np.minimum(days, end), event, 5.0)
    probability = expit(2 * logit(truth))
    result = evaluate_predictions(probability, outcomes, threshold=STATED, resamples=100).calibration
    assert result.slope.value == pytest.approx(0.5, abs=0.02)
    assert result.slope.low < 0.5 < result.slope.high
    assert result.ici.value == pytest.approx(np.abs(probability - truth).mean(), abs=0.01)
    curve, grid = np.array(result.curve.value), np.array(result.curve.x)
    assert np.abs(curve - expit(logit(grid) / 2)).max() < 0.03
    inside = (np.array(result.curve.low) <= expit(logit(grid) / 2)) & (
        expit(logit(grid) / 2) <= np.array(result.curve.high)
    )
    assert inside.mean() > 0.8


def test_perfect_calibration_is_seen_as_such() -> None:
    generator = np.random.default_rng(2)
    probability = generator.uniform(0.05, 0.6, 20_000)
    label = (generator.random(20_000) < probability).astype(int)
    outcomes = Outcomes(np.arange(20_000), np.where(label, 1.0, 9.0), label, 5.0)
    weak = WeakStatistic.of(probability, outcomes)(np.ones((1, 20_000)), np.ones((1, 20_000)))
    assert weak["intercept"][0] == pytest.approx(0, abs=0.05)
    assert weak["slope"][0] == pytest.approx(1, abs=0.07)
    assert weak["observed_expected"][0] == pytest.approx(1, abs=0.03)
    assert ModerateStatistic.of(probability, outcomes)(np.ones((1, 20_000)), np.ones((1, 20_000)))["ici"][0] < 0.012


def test_deciles_and_histogram_count_every_row_once(simulated) -> None:
    probability, full, seen = simulated
    result = evaluate_predictions(probability, full, threshold=STATED, resamples=20).calibration
    assert [group.n for group in result.deciles] == [400] * 10
    order = np.argsort(probability)
    assert [g.observed.value for g in result.deciles] == pytest.approx(full.label[order].reshape(10, 400).mean(axis=1))
    assert [g.mean_predicted for g in result.deciles] == pytest.approx(probability[order].reshape(10, 400).mean(axis=1))
    histogram = evaluate_predictions(probability, seen, threshold=STATED, resamples=20).calibration.histogram
    assert sum(histogram.n) == 4000
    assert sum(histogram.events) + sum(histogram.event_free) == seen.known.sum()


def test_ici_is_the_mean_distance_over_all_rows_under_censoring(simulated) -> None:
    probability, _, seen = simulated
    weight = horizon_weights(seen.follow_up_days, seen.event, seen.horizon_days)[None]
    design = ModerateStatistic.of(probability, seen).design
    smooth = expit(design @ weighted_logistic(design, seen.label, weight)[0])
    found = evaluate_predictions(probability, seen, threshold=STATED, resamples=20).calibration.ici
    assert found.value == pytest.approx(np.abs(smooth - probability).mean(), abs=1e-9)


def test_observed_to_expected_compares_all_rows_under_censoring(simulated) -> None:
    probability, _, seen = simulated
    times, incidence = aalen_johansen(seen.follow_up_days, seen.event)
    observed = incidence[np.searchsorted(times, seen.horizon_days, side="right") - 1]
    found = evaluate_predictions(probability, seen, threshold=STATED, resamples=20).calibration.observed_expected
    assert found.value == pytest.approx(observed / probability.mean())


def test_equal_and_certain_predictions_are_survived(binary) -> None:
    label = np.arange(60) % 3 == 0
    flat = evaluate_predictions(np.full(60, 0.3), binary(label), threshold=STATED, resamples=50)
    assert flat.calibration.slope.value is None
    assert flat.calibration.slope.reason
    assert flat.calibration.ici.value == pytest.approx(1 / 3 - 0.3, abs=1e-6)
    assert len(flat.calibration.deciles) == 1
    assert "too few distinct predictions" in flat.calibration.smoother
    certain = evaluate_predictions(label.astype(float), binary(label), threshold=STATED, resamples=50)
    assert certain.figures["brier"].value == 0
    assert certain.calibration.slope.value is None
