"""Values of plans and options on held-out patients against simulated truth; what cannot be told is not told."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from careloop.outcome.treatment.value import PLAN, judge_plan
from careloop.plan import make_plan
from careloop.plan.policy.off_policy import CARE_AS_GIVEN


def _held(rows: pl.DataFrame) -> np.ndarray:
    return (rows["split"] == "held_out").to_numpy()


def _covers(estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


@pytest.fixture(scope="module")
def good_drug(study_rows, section):
    rows, matrix, risk = study_rows(3000, 0, effect=-1.0)
    plan = make_plan(rows, matrix, section, horizon_days=365)
    return rows, matrix, risk, plan, judge_plan(rows, matrix, plan, who="held-out")[0]


def test_values_of_plan_options_and_care_given_are_the_true_ones(good_drug) -> None:
    rows, _, risk, plan, verdict = good_drug
    held = _held(rows)
    assert plan.policy.decision == "best_single"
    assert (verdict.patients, verdict.recommended) == (1000, 1000)
    assert _covers(verdict.plan.mean, risk[held, 1].mean())
    assert _covers(verdict.options[0].mean, risk[held, 0].mean())
    assert _covers(verdict.given.mean, risk[held].mean())
    assert verdict.given.effective_sample == 1000
    assert _covers(verdict.plan.snips, risk[held, 1].mean())
    assert verdict.given.snips.value == pytest.approx(verdict.given.mean.value)
    assert verdict.plan.effective_sample == pytest.approx((held & (rows["treatment"] == "drug").to_numpy()).sum())


def test_a_clear_gain_is_called_better_and_the_same_choice_is_not_compared(good_drug) -> None:
    rows, _, risk, _, verdict = good_drug
    held = _held(rows)
    assert [comparison.against for comparison in verdict.comparisons] == [CARE_AS_GIVEN, "control"]
    against_control = verdict.comparisons[1]
    assert _covers(against_control.difference, (risk[held, 1] - risk[held, 0]).mean())
    assert against_control.distinguishable
    assert against_control.words.endswith("better")
    assert "On 1000 held-out patients, following the plan would have made the risk of the outcome" in verdict.words


def test_held_out_outcomes_move_the_verdict_but_not_the_models(good_drug) -> None:
    rows, matrix, _, plan, verdict = good_drug
    harmed = rows.with_columns(
        event=pl.when((pl.col("split") == "held_out") & (pl.col("treatment") == "drug"))
        .then(pl.lit(1, pl.Int8))
        .otherwise("event"),
    )
    worse = judge_plan(harmed, matrix, plan, who="held-out")[0]
    assert worse.plan.mean.value > verdict.plan.mean.value + 0.1
    assert worse.options[0].mean.value == pytest.approx(verdict.options[0].mean.value, abs=1e-12)


def test_no_recommendation_means_nothing_to_follow(study_rows, section) -> None:
    rows, matrix, risk = study_rows(600, 1)
    plan = make_plan(rows, matrix, section, horizon_days=365)
    verdict = judge_plan(rows, matrix, plan, who="held-out")[0]
    assert plan.policy.decision == "abstain"
    assert verdict.recommended == 0
    assert verdict.comparisons == ()
    assert verdict.plan.mean == verdict.given.mean
    assert verdict.plan.choice == PLAN
    assert _covers(verdict.given.mean, risk[_held(rows)].mean())
    assert verdict.tied is None
    assert "The plan recommended no single option to these 200 held-out patients, so there is nothing" in verdict.words


def test_tied_options_are_judged_against_those_that_did_worse(good_drug, section) -> None:
    rows, matrix, risk, *_ = good_drug
    brand = pl.when(pl.col("subject_id") // 3 % 2 == 0).then(pl.lit("drug A")).otherwise(pl.lit("drug B"))
    rows = rows.with_columns(treatment=pl.when(pl.col("treatment") == "drug").then(brand).otherwise("treatment"))
    plan = make_plan(rows, matrix, section, horizon_days=365)
    assert plan.policy.decision == "abstain"
    assert plan.policy.worse == ("control",)
    verdict = judge_plan(rows, matrix, plan, who="held-out")[0]
    held = risk[_held(rows)]
    assert set(verdict.tied.choice.split(" or ")) == {"drug A", "drug B"}
    assert _covers(verdict.tied.mean, held[:, 1].mean())
    (against,) = verdict.comparisons
    assert against.against == "control"
    assert _covers(against.difference, (held[:, 1] - held[:, 0]).mean())
    assert against.words.endswith("better")
    assert "could not tell" in verdict.words


def test_an_individual_plan_is_valued_as_such(study_rows, section) -> None:
    rows, matrix, risk = study_rows(4500, 2, interaction=1.5)
    plan = make_plan(rows, matrix, section, horizon_days=365)
    assert plan.policy.decision == "individual"
    verdict = judge_plan(rows, matrix, plan, who="held-out")[0]
    keys = (
        rows.filter(_held(rows))
        .select("subject_id")
        .join(plan.table.filter("recommended").select("subject_id", "option"), on="subject_id", how="left")
    )
    held = risk[_held(rows)]
    option = keys["option"]
    as_given = held[np.arange(1500), (rows.filter(_held(rows))["treatment"] == "drug").to_numpy().astype(int)]
    truth = np.select([(option == "control").fill_null(False), (option == "drug").fill_null(False)], held.T, as_given)
    assert _covers(verdict.plan.mean, truth.mean())
    assert truth.mean() < held.mean(axis=0).min()


def test_an_option_hardly_given_to_held_out_patients_has_no_value(good_drug) -> None:
    rows, matrix, _, plan, _ = good_drug
    few = pl.when((pl.col("split") == "held_out") & (pl.col("subject_id") > 30)).then(pl.lit("drug"))
    verdict = judge_plan(rows.with_columns(treatment=few.otherwise("treatment")), matrix, plan, who="held-out")[0]
    assert verdict.options[0].mean.value is None
    assert "were given it, fewer than 10" in verdict.options[0].mean.reason
    assert verdict.options[1].mean.value is not None
    assert "nothing can be said" in verdict.comparisons[-1].words


def test_nothing_is_said_of_a_plan_by_which_few_were_treated(good_drug) -> None:
    rows, matrix, _, plan, _ = good_drug
    few = rows.with_columns(
        treatment=pl.when((pl.col("split") != "held_out") | (pl.col("subject_id") < 240)).then("treatment")
    )
    verdict = judge_plan(few, matrix, plan, who="held-out")[0]
    assert verdict.plan.effective_sample < 50 < verdict.patients
    expected = f"an effective {verdict.plan.effective_sample:.0f} patients were treated so, fewer than 50"
    assert (verdict.plan.mean.value, verdict.plan.mean.reason) == (None, expected)
    assert verdict.plan.snips.value is None
    assert verdict.given.mean.value is not None
    assert verdict.comparisons[0].difference.value is None
    assert verdict.words.startswith(f"What following the plan would have done cannot be told: {expected}.")


def test_patients_of_no_arm_are_left_out(good_drug) -> None:
    rows, matrix, _, plan, _ = good_drug
    none = pl.when(pl.col("subject_id") % 6 == 2).then(None).otherwise("treatment")
    assert judge_plan(rows.with_columns(treatment=none), matrix, plan, who="held-out")[0].patients == 500
