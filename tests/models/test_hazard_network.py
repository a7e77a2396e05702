"""The hazard network on simulations with known truth, beside closed forms, Kaplan-Meier, Cox and boosting."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter
from sklearn.base import clone
from sksurv.metrics import concordance_index_censored

from careloop import InputError
from careloop.models import BoostedHazard, CoxPH, HazardNetwork, survival_at, survival_target
from careloop.models.hazard_layers import EncodedColumns, HazardLayers, fit_encoding, hazard_loss
from careloop.models.hazard_network import marginal_log_hazard, outcome_folds, period_targets

QUICK = {"members": 2, "max_epochs": 3, "device": "cpu"}


def simulated(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Constant hazard 0.1 or 0.4 by whether two columns have one sign, censoring at rate 0.1; also the hazards."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(rows, 3))
    hazard = np.where(X[:, 0] * X[:, 1] > 0, 0.4, 0.1)
    death, censored = random.exponential(1 / hazard), random.exponential(10, rows)
    return X, survival_target(death <= censored, np.minimum(death, censored)), hazard


def test_known_survival_is_found_where_effects_do_not_add_up() -> None:
    X, y, hazard = simulated(1500)
    times = np.array([0.5, 1.0, 2.0, 4.0])
    truth = np.exp(-np.outer(hazard, times))
    model = HazardNetwork(members=2, device="cpu").fit(X, y)
    errors = {
        name: float(np.sqrt(((survival_at(fitted, X, times) - truth) ** 2).mean()))
        for name, fitted in {
            "network": model,
            "boosted": BoostedHazard(max_rounds=120, folds=2).fit(X, y),
            "cox": CoxPH().fit(X, y),
            "additive": HazardNetwork(hidden=(), members=1, max_epochs=20, device="cpu").fit(X, y),
        }.items()
    }
    assert errors["network"] < 0.1
    assert errors["network"] < errors["boosted"] + 0.02
    assert min(errors["cox"], errors["additive"]) > 0.12
    found = survival_at(model, X, times)
    for group in (0.1, 0.4):
        assert found[hazard == group].mean(axis=0) == pytest.approx(np.exp(-group * times), abs=0.1)


def test_proportional_effects_are_cox_s() -> None:
    random = np.random.default_rng(3)
    X = random.normal(size=(1200, 4))
    death, censored = random.exponential(np.exp(-X @ [0.8, -0.5, 0.3, 0.0])), random.exponential(2, 1200)
    y = survival_target(death <= censored, np.minimum(death, censored))
    network, cox = HazardNetwork(members=2, device="cpu").fit(X[:900], y[:900]), CoxPH().fit(X[:900], y[:900])
    times, test = np.quantile(y["time"], [0.2, 0.4, 0.6, 0.8]), X[900:]
    apart = survival_at(network, test, times) - survival_at(cox, test, times)
    assert np.sqrt((apart**2).mean()) < 0.05
    risks = [model.predict(test) for model in (network, cox)]
    c = [concordance_index_censored(y["event"][900:], y["time"][900:], risk)[0] for risk in risks]
    assert c[0] > c[1] - 0.02


def test_without_columns_to_tell_people_apart_it_is_kaplan_meier() -> None:
    _, y, _ = simulated(1500)
    X = np.zeros((len(y), 1))
    model = HazardNetwork(**{**QUICK, "learning_rate": 1e-4}).fit(X, y)
    times = model.cuts_[1:-1]  # at the last event the step to 0 is a period's partial weights' to share
    peer = KaplanMeierFitter().fit(y["time"], y["event"]).survival_function_at_times(times).to_numpy()
    assert survival_at(model, X[:1], times)[0] == pytest.approx(peer, abs=0.01)


@settings(max_examples=30, deadline=None)
@given(
    times=st.lists(st.integers(1, 6), min_size=2, max_size=25),
    events=st.lists(st.booleans(), min_size=25, max_size=25),
)
def test_the_marginal_hazard_s_loss_is_the_closed_form_and_the_smallest(times, events) -> None:
    """At events d and observed person-periods r the likelihood is d log h + (r - d) log(1 - h); its maximum h = d / r.

    With every time its own period, and so nobody censored inside one, h are Kaplan-Meier's steps.
    """
    time, event = np.array(times, dtype=float), np.array(events[: len(times)])
    event[0] = True
    cuts = np.arange(0.0, time[event].max() + 1)
    label, weight = period_targets(event, time, cuts)
    log_hazard = marginal_log_hazard(label, weight)
    d, r = label.sum(axis=0), weight.sum(axis=0)
    share = np.clip(d / r, 1e-6, 1 - 1e-6)
    expected = -(d * np.log(share) + (r - d) * np.log1p(-share)).sum() / len(time)
    outputs = np.tile(log_hazard, (len(time), 1))

    def loss(at: np.ndarray) -> float:
        return float(hazard_loss(torch.tensor(at), torch.tensor(label), torch.tensor(weight)))

    assert loss(outputs) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    for step in (-0.1, 0.1):
        assert loss(outputs + step * (np.arange(len(cuts) - 1) == 0)) >= loss(outputs) - 1e-6
    curve = np.exp(-np.cumsum(np.exp(log_hazard)))
    peer = KaplanMeierFitter().fit(time, event).survival_function_at_times(cuts[1:]).to_numpy()
    assert curve == pytest.approx(peer, abs=1e-4)


def test_part_of_a_period_costs_that_part_of_its_hazard() -> None:
    """-log S(t) of a piecewise constant hazard, for a person censored at any time t within a period."""
    cuts, rates = np.array([0.0, 1.0, 3.0, 4.0]), np.array([0.2, 0.5, 0.1])
    time = np.array([0.3, 1.0, 2.5, 3.2, 9.0])
    label, weight = period_targets(np.zeros(5, dtype=bool), time, cuts)
    outputs = torch.tensor(np.tile(np.log(rates * np.diff(cuts)), (5, 1)))
    exact = [0.2 * 0.3, 0.2, 0.2 + 0.5 * 1.5, 1.2 + 0.1 * 0.2, 1.3]
    for i, expected in enumerate(exact):
        rows = (outputs[[i]], torch.tensor(label[[i]]), torch.tensor(weight[[i]]))
        assert float(hazard_loss(*rows)) == pytest.approx(expected, rel=1e-5)


def test_an_event_costs_the_period_s_probability_of_it() -> None:
    outputs = torch.tensor([[-1.0, 0.3]], dtype=torch.float64)
    found = float(hazard_loss(outputs, torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 1.0]])))
    assert found == pytest.approx(np.exp(-1.0) - np.log(1 - np.exp(-np.exp(0.3))))


def test_rows_that_nobody_sees_in_a_period_do_not_move_its_hazard() -> None:
    """A period after everybody's censoring has no gradient: only follow-up is learnt from."""
    label, weight = period_targets(np.zeros(3, dtype=bool), np.array([0.5, 1.0, 1.5]), np.array([0.0, 1.0, 2.0, 3.0]))
    outputs = torch.zeros(3, 3, requires_grad=True)
    hazard_loss(outputs, torch.tensor(label), torch.tensor(weight)).backward()
    assert outputs.grad is not None
    assert outputs.grad[:, 2].abs().max() == 0
    assert (outputs.grad[0, 0] / outputs.grad[1, 0]).item() == pytest.approx(0.5)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), bins=st.integers(1, 12))
def test_a_column_s_bins_rise_from_its_least_to_its_largest_value(seed: int, bins: int) -> None:
    random = np.random.default_rng(seed)
    matrix = np.column_stack(
        [random.normal(size=60), random.integers(0, 4, 60), np.full(60, 7.0), np.arange(60) % 2 == 0]
    ).astype(np.float32)
    encoding = fit_encoding(matrix, bins)
    assert set(encoding.owner) <= {0, 1}  # one value, or two, need no bins
    terms = EncodedColumns(encoding)(torch.from_numpy(matrix)).numpy()
    assert terms.shape == (60, encoding.terms)
    assert terms.mean(axis=0)[4:] == pytest.approx(0, abs=1e-4)
    assert (terms[:, 2] == 0).all()
    for column in (0, 1):
        order = np.argsort(matrix[:, column], kind="stable")
        own = terms[:, 4:][:, encoding.owner == column]
        assert (np.diff(own[order], axis=0) >= -1e-6).all()
        total = own.sum(axis=1)
        assert np.ptp(total) == pytest.approx((encoding.owner == column).sum(), abs=1e-3)
    far = EncodedColumns(encoding)(torch.full((1, 4), 1e9)).numpy()
    assert np.abs(far).max() <= 3


def test_it_starts_from_the_marginal_hazard() -> None:
    X, _, _ = simulated(200)
    matrix = X.astype(np.float32)
    network = HazardLayers(fit_encoding(matrix, 5), np.log([0.1, 0.2]), hidden=(4,), dropout=0.1, main_effects="none")
    assert network.eval()(torch.from_numpy(matrix)).exp().detach().numpy() == pytest.approx(
        np.tile([0.1, 0.2], (200, 1))
    )


def test_curves_fall_and_seeds_decide() -> None:
    X, y, _ = simulated(300)
    model = HazardNetwork(**QUICK).fit(X, y)
    curves = model.predict_survival_function(X)
    assert curves.shape == (300, len(model.unique_times_))
    assert ((curves > 0) & (curves <= 1)).all()
    assert (np.diff(curves, axis=1) <= 0).all()
    assert np.array_equal(clone(model).fit(X, y).predict(X), model.predict(X))
    other = clone(model).set_params(seed=1).fit(X, y)
    assert other.predict(X) != pytest.approx(model.predict(X))
    cumulative = -np.log(survival_at(model, X, model.cuts_[1:]))
    assert np.exp(model.predict(X)) == pytest.approx(cumulative.mean(axis=1), rel=1e-6)


def test_members_that_disagree_are_calibrated_together() -> None:
    """The mean of their hazards: the mean of their logs would expect fewer events than any mixture of them."""
    X, y, _ = simulated(200)
    model = HazardNetwork(**QUICK).fit(X, y)
    with torch.no_grad():
        for network, shift in zip(model.networks_, (-1.0, 1.0), strict=True):
            network.correction += shift
    single = []
    for network in model.networks_:
        alone = HazardNetwork.from_state(*model.get_state())
        alone.networks_ = (network,)
        single.append(-np.log(alone.predict_survival_function(X)))
    assert -np.log(model.predict_survival_function(X)) == pytest.approx(np.mean(single, axis=0), rel=1e-4)


def test_scales_of_columns_do_not_matter() -> None:
    X, y, _ = simulated(300)
    plain = HazardNetwork(**QUICK).fit(X, y).predict(X)
    scaled = X * [1e3, 1e-3, 1.0] + [5.0, 0.0, -2.0]
    assert HazardNetwork(**QUICK).fit(scaled, y).predict(scaled) == pytest.approx(plain, abs=2e-2)


def test_state_gives_the_same_predictions_bit_for_bit() -> None:
    X, y, _ = simulated(300)
    model = HazardNetwork(**QUICK, hidden=(8, 4)).fit(X, y)
    plain, arrays = model.get_state()
    again = HazardNetwork.from_state(json.loads(json.dumps(plain)), {k: v.copy() for k, v in arrays.items()})
    assert np.array_equal(again.predict_survival_function(X), model.predict_survival_function(X))
    assert again.get_params()["hidden"] == [8, 4]
    assert len(again.networks_) == 2


def test_validation_rows_end_training_and_are_not_learnt() -> None:
    X, y, _ = simulated(400)
    model = HazardNetwork(**{**QUICK, "max_epochs": 60, "patience": 3}).fit(
        X[:300], y[:300], validation=(X[300:], y[300:])
    )
    for epochs in model.epochs_:
        losses = [epoch.validation_loss for epoch in epochs]
        assert len(epochs) < 60
        assert len(epochs) - 1 - int(np.argmin(losses)) == 3
    late = survival_target(np.ones(100, dtype=bool), np.full(100, 1e6))
    free = survival_target(np.zeros(100, dtype=bool), np.full(100, 1e6))
    first, second = (HazardNetwork(**QUICK).fit(X[:300], y[:300], validation=(X[300:], held)) for held in (late, free))
    assert first.epochs_ == second.epochs_  # an event after the last period is survival of all of them


def test_members_stop_on_folds_with_the_same_share_of_events() -> None:
    event = np.arange(103) % 4 == 0
    fold = outcome_folds(event, 5, seed=0)
    for outcome in (True, False):
        counts = np.bincount(fold[event == outcome], minlength=5)
        assert np.ptp(counts) <= 1
    assert not np.array_equal(fold, outcome_folds(event, 5, seed=1))


@pytest.mark.parametrize("rows", [2, 6])
def test_a_handful_of_rows_is_enough(rows: int) -> None:
    X, y, _ = simulated(rows)
    y["event"][0] = True
    assert np.isfinite(HazardNetwork(**QUICK).fit(X, y).predict(X)).all()


@pytest.mark.parametrize(
    ("parameters", "change", "message"),
    [
        ({}, lambda X, y: (np.where(X > 1, np.nan, X), y), "NaN.*Impute"),
        ({}, lambda X, y: (X, survival_target(np.zeros(len(y)), y["time"])), "at least one event"),
        ({"periods": 0}, lambda X, y: (X, y), "at least one period"),
        ({"members": 0}, lambda X, y: (X, y), "members must be at least 1; got 0"),
        ({"bins": 0}, lambda X, y: (X, y), "bins must be at least 1"),
        ({"weight_decay": -0.1}, lambda X, y: (X, y), "weight_decay must be at least 0"),
        ({"hidden": (8, 0)}, lambda X, y: (X, y), r"hidden holds.*\[8, 0\]"),
        ({"dropout": 1.0}, lambda X, y: (X, y), "dropout must be at least 0 and below 1"),
        ({"main_effects": "linear"}, lambda X, y: (X, y), "one of additive, none; got 'linear'"),
    ],
)
def test_bad_input_is_named(parameters, change, message: str) -> None:
    X, y = change(*simulated(60)[:2])
    with pytest.raises(InputError, match=message) as error:
        HazardNetwork(**{**QUICK, **parameters}).fit(X, y)
    assert "\n" not in str(error.value)


def test_other_columns_and_a_horizon_of_zero_are_named() -> None:
    X, y, _ = simulated(60)
    model = HazardNetwork(**QUICK).fit(X, y)
    with pytest.raises(InputError, match="3 features"):
        model.predict(X[:, :2])
    with pytest.raises(InputError, match="horizon above 0; got 0"):
        model.log_cumulative_hazard(0.0)
