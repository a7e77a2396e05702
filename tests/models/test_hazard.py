"""The boosted hazard on simulations with known truth; cumulative incidence in closed form and by Aalen-Johansen."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import AalenJohansenFitter, KaplanMeierFitter
from sksurv.datasets import load_whas500
from sksurv.metrics import concordance_index_censored
from sksurv.preprocessing import OneHotEncoder

from careloop import InputError
from careloop.models import BoostedHazard, CoxPH, cumulative_incidence, survival_at, survival_target
from careloop.models.hazard import period_bounds, person_periods


def simulated(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Constant hazard 0.1 or 0.4 by the first column's sign, censoring at rate 0.1; also the hazards."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(rows, 3))
    hazard = np.where(X[:, 0] > 0, 0.4, 0.1)
    death, censored = random.exponential(1 / hazard), random.exponential(10, rows)
    return X, survival_target(death <= censored, np.minimum(death, censored)), hazard


def test_known_survival_is_found() -> None:
    X, y, hazard = simulated(2500)
    model = BoostedHazard().fit(X, y)
    times = np.array([0.5, 1.0, 2.0, 4.0])
    found = survival_at(model, X, times)
    for group in (0.1, 0.4):
        assert found[hazard == group].mean(axis=0) == pytest.approx(np.exp(-group * times), abs=0.03)
    assert np.sqrt(((found - np.exp(-np.outer(hazard, times))) ** 2).mean()) < 0.05


def test_without_signal_it_is_kaplan_meier() -> None:
    _, y, _ = simulated(2000)
    model = BoostedHazard(num_leaves=20, max_rounds=300).fit(np.zeros((len(y), 1)), y)
    times = np.quantile(y["time"], [0.1, 0.3, 0.5, 0.7, 0.9])
    peer = KaplanMeierFitter().fit(y["time"], y["event"]).survival_function_at_times(times).to_numpy()
    assert survival_at(model, np.zeros((1, 1)), times)[0] == pytest.approx(peer, abs=0.02)


def test_curves_fall_and_are_deterministic() -> None:
    frame, y = load_whas500()
    X = OneHotEncoder().fit_transform(frame).to_numpy(float)
    first = BoostedHazard().fit(X, y)
    curves = first.predict_survival_function(X)
    assert curves.shape == (len(X), len(first.unique_times_))
    assert ((curves > 0) & (curves <= 1)).all()
    assert (np.diff(curves, axis=1) <= 0).all()
    one, two = (BoostedHazard(max_rounds=5, threads=threads).fit(X, y) for threads in (1, 2))
    assert np.array_equal(one.predict_survival_function(X), two.predict_survival_function(X))
    assert concordance_index_censored(y["fstat"], y["lenfol"], first.predict(X))[0] > 0.77


def test_missing_values_and_sparse_matrices() -> None:
    X, y, _ = simulated(300)
    sparse = scipy.sparse.csr_matrix(np.where(X > 0, X, 0))
    dense = BoostedHazard(max_rounds=30).fit(sparse.toarray(), y)
    curves = dense.predict_survival_function(sparse.toarray())
    from_sparse = BoostedHazard(max_rounds=30).fit(sparse, y)
    assert from_sparse.predict_survival_function(sparse) == pytest.approx(curves)
    X[::3, 0] = np.nan
    assert np.isfinite(BoostedHazard(max_rounds=30).fit(X, y).predict(X)).all()


@settings(max_examples=50, deadline=None)
@given(
    times=st.lists(st.floats(0, 100).map(lambda t: round(t, 3)), min_size=1, max_size=30),
    events=st.lists(st.booleans(), min_size=30, max_size=30),
    periods=st.integers(1, 12),
)
def test_person_periods_hold_every_event_and_all_follow_up(times, events, periods: int) -> None:
    time, event = np.array(times), np.array(events[: len(times)])
    event[0] = True
    cuts = period_bounds(time[event], periods)
    person, period, label, weight = person_periods(event, time, cuts)
    assert len(cuts) <= periods + 1
    assert (np.diff(cuts) > 0).all()
    assert label.sum() == event.sum()
    assert set(person[label]) == set(np.flatnonzero(event))
    followed = np.bincount(person[~label], weights=(weight * np.diff(cuts)[period])[~label], minlength=len(time))
    assert followed[~event] == pytest.approx(np.minimum(time[~event], cuts[-1]))


def test_cumulative_incidence_of_constant_hazards() -> None:
    """Two constant hazards a and b: F1(t) = a / (a + b) (1 - exp(-(a + b) t))."""
    random = np.random.default_rng(0)
    causes = random.exponential([1 / 0.2, 1 / 0.1], size=(6000, 2))
    end = np.minimum(causes.min(axis=1), random.exponential(20, 6000))
    cause = np.where(causes.min(axis=1) <= end, causes.argmin(axis=1) + 1, 0)
    X = random.normal(size=(6000, 1))
    first, second = (CoxPH().fit(X, survival_target(cause == c, end)) for c in (1, 2))
    times = np.array([0.0, 1.0, 3.0, 8.0])
    X = X[:20]
    found = cumulative_incidence(first, second, X, times)
    assert found.mean(axis=0) == pytest.approx(0.2 / 0.3 * (1 - np.exp(-0.3 * times)), abs=0.02)
    other = cumulative_incidence(second, first, X, times)
    both = survival_at(first, X, times) * survival_at(second, X, times)
    assert found + other + both == pytest.approx(np.ones_like(found))


def test_cumulative_incidence_as_aalen_johansen() -> None:
    random = np.random.default_rng(1)
    end, cause = np.round(random.exponential(5, 800), 2) + 0.01, random.integers(0, 3, 800)
    X = np.zeros((800, 1))
    first, second = (CoxPH().fit(X, survival_target(cause == c, end)) for c in (1, 2))
    times = np.array([1.0, 3.0, 6.0])
    peer = AalenJohansenFitter(calculate_variance=False, seed=0).fit(end, cause, event_of_interest=1)
    steps = peer.cumulative_density_["CIF_1"]
    expected = [steps[steps.index <= t].iloc[-1] for t in times]
    assert cumulative_incidence(first, second, X[:1], times)[0] == pytest.approx(expected, abs=2e-3)


def test_state_gives_the_same_predictions() -> None:
    X, y, _ = simulated(300)
    model = BoostedHazard(max_rounds=20).fit(X, y)
    plain, arrays = model.get_state()
    again = BoostedHazard.from_state(json.loads(json.dumps(plain)), arrays)
    assert np.array_equal(again.predict_survival_function(X), model.predict_survival_function(X))
    with pytest.raises(InputError, match="at least one period"):
        BoostedHazard(periods=0).fit(X, y)
