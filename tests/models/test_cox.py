"""Cox regression against R's published results, scikit-survival, lifelines and the likelihood by definition."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import CoxPHFitter
from lifelines.datasets import load_lung, load_rossi
from sksurv.datasets import load_veterans_lung_cancer, load_whas500
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.preprocessing import OneHotEncoder

from careloop import InputError
from careloop.models import CoxPH, survival_at, survival_target


def rossi() -> tuple[np.ndarray, np.ndarray]:
    frame = load_rossi()
    X = frame[["fin", "age", "race", "wexp", "mar", "paro", "prio"]].to_numpy(float)
    return X, survival_target(frame["arrest"], frame["week"])


def test_rossi_as_in_r() -> None:
    """Fox and Weisberg, "An R Companion to Applied Regression", appendix on Cox regression; Efron's ties."""
    X, y = rossi()
    model = CoxPH(l2=0).fit(X, y)
    assert model.coef_ == pytest.approx([-0.37942, -0.05744, 0.31390, -0.14980, -0.43370, -0.08487, 0.09150], abs=6e-6)
    errors = np.sqrt(np.diag(model.covariance_))
    assert errors == pytest.approx([0.19138, 0.02200, 0.30799, 0.21222, 0.38187, 0.19576, 0.02865], abs=6e-6)
    null = CoxPH(l2=1e9).fit(X, y)
    assert 2 * (model.log_likelihood_ - null.log_likelihood_) == pytest.approx(33.27, abs=0.005)


def test_lung_as_in_r() -> None:
    """R's summary(coxph(Surv(time, status) ~ age + sex + ph.ecog, lung)), 227 rows with all three."""
    frame = load_lung().dropna(subset=["ph.ecog"])
    event = frame["status"] == frame["status"].max()
    model = CoxPH(l2=0).fit(frame[["age", "sex", "ph.ecog"]].to_numpy(float), survival_target(event, frame["time"]))
    assert model.coef_ == pytest.approx([0.011067, -0.552612, 0.463728], abs=6e-7)
    assert np.sqrt(np.diag(model.covariance_)) == pytest.approx([0.009267, 0.167739, 0.113577], abs=6e-7)


@pytest.mark.parametrize("load", [load_veterans_lung_cancer, load_whas500])
def test_coefficients_as_in_scikit_survival(load) -> None:
    frame, y = load()
    X = OneHotEncoder().fit_transform(frame).to_numpy(float)
    peer = CoxPHSurvivalAnalysis(ties="efron", n_iter=100, tol=1e-12).fit(X, y)
    assert CoxPH(l2=0).fit(X, y).coef_ == pytest.approx(peer.coef_, abs=1e-8)


def test_survival_as_in_scikit_survival_without_ties() -> None:
    X, y = rossi()
    y["time"] += np.random.default_rng(0).uniform(0, 0.5, len(y))
    peer = CoxPHSurvivalAnalysis(ties="efron", n_iter=100, tol=1e-12).fit(X, y)
    curves = survival_at(CoxPH(l2=0).fit(X, y), X, peer.unique_times_)
    assert curves == pytest.approx(peer.predict_survival_function(X, return_array=True), abs=1e-8)


def test_lifelines_agrees() -> None:
    frame = load_rossi()
    peer = CoxPHFitter().fit(frame, "week", "arrest")
    X, y = rossi()
    model = CoxPH(l2=0).fit(X, y)
    assert model.log_likelihood_ == pytest.approx(peer.log_likelihood_, abs=1e-6)
    assert model.predict(X) == pytest.approx(peer.predict_log_partial_hazard(frame).to_numpy(), abs=1e-5)


def by_definition(X, event, time, beta) -> tuple[float, dict[float, float]]:
    """Efron's log partial likelihood and baseline increments, term by term."""
    value, increments = 0.0, {}
    for t in np.unique(time[event]):
        risk = np.exp(X @ beta)
        at_risk, dying = time >= t, (time == t) & event
        value += (X[dying] @ beta).sum()
        shares = np.arange(dying.sum()) / dying.sum()
        totals = risk[at_risk].sum() - shares * risk[dying].sum()
        value -= np.log(totals).sum()
        increments[t] = (1 / totals).sum()
    return value, increments


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), ties=st.integers(2, 12), rows=st.integers(8, 60))
def test_maximum_and_baseline_by_definition(seed: int, ties: int, rows: int) -> None:
    """No small change of the coefficients gains penalised likelihood, whatever the ties; the baseline is Efron's."""
    random = np.random.default_rng(seed)
    X, time = random.normal(size=(rows, 2)), random.integers(0, ties, rows).astype(float)
    event = random.random(rows) < 0.7
    event[0] = True
    l2 = 0.01
    model = CoxPH(l2=l2).fit(X, survival_target(event, time))
    spread, centred = X.std(axis=0), X - X.mean(axis=0)

    def penalised(beta: np.ndarray) -> float:
        return by_definition(centred, event, time, beta)[0] - 0.5 * l2 * event.sum() * ((beta * spread) ** 2).sum()

    best, increments = penalised(model.coef_), by_definition(centred, event, time, model.coef_)[1]
    assert model.log_likelihood_ == pytest.approx(by_definition(centred, event, time, model.coef_)[0])
    for step in 1e-3 * random.normal(size=(8, 2)):
        assert penalised(model.coef_ + step) <= best + 1e-9
    assert model.unique_times_ == pytest.approx(list(increments))
    assert model.baseline_survival_ == pytest.approx(np.exp(-np.cumsum(list(increments.values()))))


def test_separated_collinear_and_constant_columns_converge() -> None:
    random = np.random.default_rng(1)
    time = random.exponential(size=80)
    event = random.random(80) < 0.6
    one = random.normal(size=80)
    X = np.column_stack([event, one, one, np.full(80, 3.3)]).astype(float)  # the first column is the event itself
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = CoxPH().fit(X, survival_target(event, time))
        plain = CoxPH(l2=0).fit(X[:, 1:], survival_target(event, time))
    assert np.isfinite(model.coef_).all()
    assert model.coef_[1] == pytest.approx(model.coef_[2], abs=1e-6)
    assert model.coef_[3] == pytest.approx(0, abs=1e-12)
    assert plain.coef_[:2].sum() == pytest.approx(CoxPH(l2=0).fit(one[:, None], survival_target(event, time)).coef_[0])


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100))
def test_units_do_not_matter(scale: float, shift: float) -> None:
    X, y = rossi()
    model, other = CoxPH(l2=0.1).fit(X, y), CoxPH(l2=0.1).fit(X * scale + shift, y)
    assert other.coef_ * scale == pytest.approx(model.coef_, abs=1e-5)
    assert other.predict(X * scale + shift) == pytest.approx(model.predict(X), abs=1e-4)


def test_state_gives_the_same_predictions() -> None:
    X, y = rossi()
    model = CoxPH(l2=0.01).fit(X, y)
    plain, arrays = model.get_state()
    again = CoxPH.from_state(json.loads(json.dumps(plain)), arrays)
    assert again.get_params() == model.get_params()
    assert np.array_equal(again.predict_survival_function(X), model.predict_survival_function(X))
    with pytest.raises(InputError, match="features"):
        again.predict(X[:, :3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y: (np.where(X > 40, np.nan, X), y), "NaN.*Impute"),
        (lambda X, y: (X, y[:-1]), "one length"),
        (lambda X, y: (X, survival_target(np.zeros(len(y)), y["time"])), "at least one event"),
        (lambda X, y: (X, survival_target(y["event"], -y["time"])), "not negative"),
        (lambda X, y: (X, y["time"]), "structured array"),
    ],
)
def test_bad_input_is_named(change, message: str) -> None:
    X, y = change(*rossi())
    with pytest.raises(InputError, match=message) as error:
        CoxPH().fit(X, y)
    assert "\n" not in str(error.value)
