"""Survival figures against R's survival, pec and riskRegression, scikit-survival, and pairs counted one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sksurv.metrics import concordance_index_censored, concordance_index_ipcw, integrated_brier_score

from careloop import InputError
from careloop.evaluate import Outcomes, aalen_johansen, evaluate_survival, harrell_c, uno_c
from careloop.evaluate.survival import risk_groups


def outcomes(days: np.ndarray, event: np.ndarray, horizon_days: float) -> Outcomes:
    return Outcomes(np.arange(len(days)), days, event, horizon_days)


def test_concordance_is_rs(lung) -> None:
    """R survival 3.5-3 concordance(Surv(time, status) ~ risk, reverse = TRUE), then timewt = "n/G2" with ymax.

    The first is also what summary(coxph()) of these data prints everywhere: Concordance = 0.637.
    """
    risk, days, event = lung
    assert harrell_c(risk, days, event) == pytest.approx(0.637135493, abs=1e-9)
    for horizon, expected in ((365, 0.633096748425), (700, 0.628408157279), (9999, 0.626148295214)):
        assert uno_c(risk, outcomes(days, event, horizon)) == pytest.approx(expected, abs=1e-11)


def test_brier_score_and_auroc_are_rs(lung) -> None:
    """R pec 2022.05.04 and riskRegression 2022.11.28 agree with each other on these; day 300 is left out.

    On it a patient is censored, who for us is still followed then, for them no more.
    """
    risk, days, event = lung
    at = np.array([50.0, 100, 150, 200, 250, 350, 400, 450, 500])
    incidence = 1 - np.exp(-np.exp(risk)[:, None] * 0.0015 * at)
    result = evaluate_survival(incidence, at, outcomes(days, event, 500.0), resamples=50)
    expected = [
        0.0482052955042, 0.1151074479957, 0.1574501830519, 0.1968695560751, 0.2150306304563,
        0.2298345846163, 0.2239643679776, 0.2152346824564, 0.2000148848987,
    ]  # fmt: skip
    assert result.brier_curve.value == pytest.approx(expected, abs=1e-12)
    assert result.brier.value == pytest.approx(expected[-1])
    assert result.auroc.value == pytest.approx(0.643141461618, abs=1e-11)
    assert result.harrell_c.value == pytest.approx(harrell_c(risk, days, event))
    assert result.uno_c.value == pytest.approx(uno_c(risk, outcomes(days, event, 500.0)))


def test_competing_risks_are_rs(mgus2) -> None:
    """R pec 2022.05.04 cindex(eval.times = c(120, 240)) and riskRegression Score's Brier, months made distinct."""
    predictions, months, event = mgus2
    months = months + np.arange(1, len(months) + 1) / 1e4
    for horizon, expected in ((120, 0.636762840641), (240, 0.683027836003)):
        assert uno_c(predictions["p"], outcomes(months, event, horizon)) == pytest.approx(expected, abs=1e-11)
    at = np.arange(24.5, 241, 24)
    incidence = np.minimum(1, np.outer(predictions["p"], at / 120))
    result = evaluate_survival(incidence, at, outcomes(months, event, 240.5), resamples=10)
    expected = [
        0.0168721485654, 0.0267970219370, 0.0382051639918, 0.0509273485104, 0.0604763475877,
        0.0679544974249, 0.0767312252874, 0.0818385347737, 0.0850485238606, 0.0882906385984,
    ]  # fmt: skip
    assert result.brier_curve.value == pytest.approx(expected, abs=1e-12)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2), st.integers(0, 4)), min_size=2, max_size=30),
)
@settings(max_examples=200, deadline=None)
def test_harrells_c_counts_every_comparable_pair(rows: list[tuple[int, int, int]]) -> None:
    concordant = comparable = 0.0
    for (day, event, risk), (other_day, other_event, other_risk) in itertools.permutations(rows, 2):
        outlasts = other_day > day or (other_day == day and other_event != 1) or other_event == 2
        if event == 1 and outlasts:
            comparable += 1
            concordant += 0.5 if risk == other_risk else float(risk > other_risk)
    days, event, risk = (np.array(column) for column in zip(*rows, strict=True))
    found = harrell_c(risk, days, event)
    if comparable:
        assert found == pytest.approx(concordant / comparable)
    else:
        assert np.isnan(found)


def test_figures_are_scikit_survivals_where_no_days_are_tied() -> None:
    generator = np.random.default_rng(4)
    score = generator.normal(size=400)
    days, end = generator.exponential(8 / np.exp(score)), generator.uniform(0, 12, 400)
    event, days = (days <= end).astype(int), np.minimum(days, end)
    y = np.array(list(zip(event == 1, days, strict=True)), dtype=[("event", bool), ("days", float)])
    assert harrell_c(score, days, event) == pytest.approx(concordance_index_censored(event == 1, days, score)[0])
    assert uno_c(score, outcomes(days, event, 6.0)) == pytest.approx(concordance_index_ipcw(y, y, score, tau=6.0)[0])
    at = np.linspace(0.5, 5.9, 30)
    incidence = 1 - np.exp(-np.exp(score)[:, None] * at / 8)
    found = evaluate_survival(incidence, at, outcomes(days, event, 6.0), resamples=50)
    assert found.integrated_brier.value == pytest.approx(integrated_brier_score(y, y, 1 - incidence, at))
    assert found.integrated_brier.low < found.integrated_brier.value < found.integrated_brier.high


def test_risk_groups_show_the_aalen_johansen_curve_of_each_third(mgus2) -> None:
    predictions, months, event = mgus2
    groups = risk_groups(predictions["p"], outcomes(months, event, 240.0), resamples=50)
    assert [group.name for group in groups] == ["lowest third", "middle third", "highest third"]
    assert sum(group.n for group in groups) == len(months)
    for group in groups:
        rows = (predictions["p"] >= group.lowest) & (predictions["p"] <= group.highest)
        times, incidence = aalen_johansen(months[rows], event[rows])
        expected = np.append(0.0, incidence)[np.searchsorted(times, group.incidence.x, side="right")]
        assert group.incidence.value == pytest.approx(expected)
        assert group.at_risk[0] == group.n
    last = [group.incidence.value[-1] for group in groups]
    assert last[0] < last[2]


def test_days_to_which_nobody_is_followed_have_no_incidence() -> None:
    days, event = np.array([1.0, 2, 3, 4] * 15), np.array([1, 0, 1, 0] * 15)
    group = risk_groups(np.full(60, 0.2), outcomes(days, event, 8.0), resamples=20)[0]
    assert group.name == "group 1 of 1"
    beyond = np.array(group.incidence.x) > 4
    assert [value is None for value in group.incidence.value] == beyond.tolist()


def test_broken_rules_are_named() -> None:
    known = outcomes(np.array([1.0, 5.0]), np.array([1, 0]), 4.0)
    with pytest.raises(InputError, match="one column a day, days increasing: got \\(2, 3\\)"):
        evaluate_survival(np.zeros((2, 3)), np.array([1.0, 2.0]), known)
    with pytest.raises(InputError, match="at least two within the horizon of 4: got 1"):
        evaluate_survival(np.zeros((2, 2)), np.array([1.0, 9.0]), known)
