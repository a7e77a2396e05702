"""Plans end to end: ACTG 175 against the plain difference between its arms, the table, JSON, and bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import lifelines
import numpy as np
import polars as pl
import pytest
from lifelines import KaplanMeierFitter

from careloop import InputError
from careloop.features import FeatureMatrix
from careloop.plan import Plan, PlanSection, decision_events, make_plan, plan_events
from careloop.record import EVENTS

ARMS = ("zidovudine", "zidovudine+didanosine", "zidovudine+zalcitabine", "didanosine")
COVARIATES = (
    "age",
    "wtkg",
    "hemo",
    "homo",
    "drugs",
    "karnof",
    "oprior",
    "preanti",
    "race",
    "gender",
    "symptom",
    "cd40",
)
KEYS = ["subject_id", "prediction_time"]
TIME = pl.lit(datetime(1992, 1, 1, tzinfo=UTC)).cast(pl.Datetime("us", "UTC"))
CD4 = {"measure": "cd4", "better": "higher"}
OUTCOME = {"event": "outcome"}


@pytest.fixture(scope="module")
def actg() -> tuple[pl.DataFrame, FeatureMatrix]:
    table = pl.read_csv(Path(lifelines.__file__).parent / "datasets" / "ACTG175.csv").sort("pidnum")
    rows = table.select(
        subject_id=pl.col("pidnum"),
        prediction_time=TIME,
        split=pl.when(pl.int_range(pl.len()) % 5 == 4).then(pl.lit("held_out")).otherwise(pl.lit("train")),
        follow_up_days=pl.col("days").cast(pl.Float64),
        event=pl.col("cens").cast(pl.Int8),
        treatment=pl.col("arms").replace_strict(dict(enumerate(ARMS)), return_dtype=pl.String),
        measure_cd4=(pl.col("cd420") - pl.col("cd40")).cast(pl.Float64),
    )
    values = table.select(COVARIATES).to_numpy().astype(np.float32)
    return rows, FeatureMatrix(rows.select(KEYS), COVARIATES, values)


@pytest.fixture(scope="module")
def plan(actg: tuple[pl.DataFrame, FeatureMatrix]) -> Plan:
    section = PlanSection(assignment="randomised", goals=[CD4, OUTCOME])
    return make_plan(*actg, section, horizon_days=730, options=ARMS)


def test_actg175_effects_agree_with_the_plain_difference_between_randomised_arms(
    actg: tuple[pl.DataFrame, FeatureMatrix], plan: Plan
) -> None:
    """Neither differs from the other by as much as half its interval, and the plain ones are Kaplan-Meier and means."""
    rows = actg[0].filter(pl.col("split") != "held_out")
    for goal in plan.goals:
        for contrast in (*goal.contrasts, *goal.pairs):
            half = (contrast.plain.high - contrast.plain.low) / 2
            assert abs(contrast.adjusted.value - contrast.plain.value) < half / 2
            assert contrast.adjusted.low < contrast.plain.value < contrast.adjusted.high
    for option, effect in zip(ARMS, plan.goals[0].options, strict=True):
        assert effect.plain.value == pytest.approx(rows.filter(treatment=option)["measure_cd4"].mean())
    for option, effect in zip(ARMS, plan.goals[1].options, strict=True):
        arm = rows.filter(treatment=option)
        curve = KaplanMeierFitter().fit(arm["follow_up_days"].to_numpy(), arm["event"].to_numpy())
        assert effect.plain.value == pytest.approx(1 - curve.predict(730))


def test_actg175_advises_the_best_arm_for_all_on_cd4_and_nobody_on_the_event(
    actg: tuple[pl.DataFrame, FeatureMatrix], plan: Plan
) -> None:
    assert plan.policy.decision == "best_single"
    assert plan.policy.best == "zidovudine+didanosine"
    assert plan.policy.gain.low <= 0
    assert plan.table.filter("recommended")["option"].unique().to_list() == ["zidovudine+didanosine"]
    assert "is best on average and recommended for everybody" in plan.words[-1]
    section = PlanSection(assignment="randomised", goals=[OUTCOME])
    by_event = make_plan(*actg, section, horizon_days=730, options=ARMS)
    assert by_event.policy.decision == "abstain"
    assert by_event.table["abstained"].all()
    assert "zidovudine+didanosine cannot be told from zidovudine+zalcitabine or didanosine" in by_event.words[-1]
    assert by_event.words[-1].endswith("; zidovudine did worse than zidovudine+didanosine.")


def test_table_ranks_every_option_of_every_row(actg: tuple[pl.DataFrame, FeatureMatrix], plan: Plan) -> None:
    table = plan.table
    assert table.height == 4 * actg[0].height
    assert table.schema == {
        "subject_id": pl.Int64,
        "prediction_time": pl.Datetime("us", "UTC"),
        "option": pl.String,
        "rank": pl.Int32,
        "expected": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "difference": pl.Float64,
        "difference_low": pl.Float64,
        "difference_high": pl.Float64,
        "recommended": pl.Boolean,
        "abstained": pl.Boolean,
        "reason": pl.String,
    }
    ranks = table.group_by(KEYS).agg(pl.col("rank").sort())["rank"].unique().to_list()
    assert ranks == [[1, 2, 3, 4]]
    assert (table["low"] < table["expected"]).all()
    assert (table["expected"] < table["high"]).all()
    assert table.filter(pl.col("rank") == 1)["recommended"].all()


def test_a_plan_is_read_back_from_its_json_and_table(plan: Plan) -> None:
    content = json.loads(json.dumps(plan.to_json()))
    again = Plan.from_json(content, plan.table)
    assert again.to_json() == plan.to_json()
    assert again.policy == plan.policy
    assert again.section == plan.section


def test_the_same_input_gives_the_same_plan(simulate: Callable[..., object]) -> None:
    data = simulate(500, 0, confounding=0.5)
    first, second = (make_plan(data.rows(), data.matrix(), PlanSection(folds=2), horizon_days=365) for _ in range(2))
    assert first.to_json() == second.to_json()
    assert first.table.equals(second.table)


def test_held_out_outcomes_and_treatments_do_not_touch_the_plan(simulate: Callable[..., object]) -> None:
    data = simulate(500, 0, confounding=0.5)
    rows, section = data.rows(held_out=150), PlanSection(folds=2)
    held_out = pl.col("split") == "held_out"
    changed = rows.with_columns(
        event=pl.when(held_out).then(pl.lit(1, pl.Int8)).otherwise("event"),
        follow_up_days=pl.when(held_out).then(1.0).otherwise("follow_up_days"),
        treatment=pl.when(held_out).then(None).otherwise("treatment"),
    )
    plans = [
        make_plan(r, data.matrix(), section, horizon_days=365, options=("control", "drug")) for r in (rows, changed)
    ]
    assert plans[0].table.equals(plans[1].table)
    assert plans[0].to_json() == plans[1].to_json()


def test_individual_choice_in_a_trial_where_options_suit_different_patients(simulate: Callable[..., object]) -> None:
    data = simulate(1500, 2, interaction=1.0)
    section = PlanSection(assignment="randomised", goals=[{"measure": "score", "better": "higher"}])
    plan = make_plan(data.rows(), data.matrix(), section, horizon_days=365)
    assert plan.policy.decision == "individual"
    chosen = plan.table.filter("recommended").sort("subject_id")
    truly_better = np.where(8 - 20 * data.covariates[:, 2] > 0, "drug", "control")
    agreed = chosen.with_columns(better=pl.Series(truly_better)[chosen["subject_id"]])
    assert (agreed["option"] == agreed["better"]).mean() > 0.85
    assert "its lower limit above zero" in plan.words[-1]


def test_patients_without_like_ones_get_no_advice(simulate: Callable[..., object]) -> None:
    data = simulate(3000, 4, confounding=1.2)
    section = PlanSection(goals=[{"measure": "score", "better": "higher"}])
    plan = make_plan(data.rows(), data.matrix(), section, horizon_days=365)
    drug = plan.table.filter(option="drug").sort("subject_id")
    rare = data.propensity[:, 1] < 0.05
    assert plan.policy.best == "drug"
    assert drug.filter(pl.Series(rare))["abstained"].mean() > 0.9
    assert drug.filter(pl.Series(rare) & drug["abstained"])["reason"].unique().to_list() == [
        "too few comparable patients were given drug"
    ]
    assert drug.filter(pl.Series(data.propensity[:, 1] > 0.2))["recommended"].all()


def test_events_say_what_was_planned_and_what_was_done(plan: Plan, actg: tuple[pl.DataFrame, FeatureMatrix]) -> None:
    events = plan_events(plan, name="actg175")
    assert events.schema == EVENTS
    assert events.height == plan.table.height
    first = events.filter(code="CARELOOP//PLAN//actg175//zidovudine+didanosine").row(0, named=True)
    row = plan.table.filter(subject_id=first["subject_id"], option="zidovudine+didanosine").row(0, named=True)
    assert first["numeric_value"] == pytest.approx(row["expected"], rel=1e-6)
    detail = json.loads(first["text_value"])
    assert (detail["rank"], detail["recommended"]) == (1, True)
    decisions = decision_events(actg[0], name="actg175")
    counts = decisions["text_value"].value_counts().sort("text_value")
    assert counts["count"].to_list() == [561, 532, 522, 524]
    assert json.loads(counts["text_value"][1]) == {"action": "observed", "chosen": "zidovudine"}
    assert decisions["code"].unique().to_list() == ["CARELOOP//DECISION//actg175"]


def _fails(data, section: PlanSection, message: str, **changes: object) -> None:
    rows = data.rows().with_columns(**changes)
    with pytest.raises(InputError, match=message):
        make_plan(rows, data.matrix(), section, horizon_days=365)


def test_bad_input_names_place_and_remedy(simulate: Callable[..., object]) -> None:
    data = simulate(200, 0)
    few = pl.when(pl.col("subject_id") < 5).then(pl.lit("drug")).otherwise(pl.lit("control"))
    _fails(data, PlanSection(), r"minimum_per_arm = 20 .* arm 'drug' has 5; drop it", treatment=few)
    _fails(data, PlanSection(), "at least two arms, got 1", treatment=pl.lit("drug"))
    _fails(data, PlanSection(), "at least two arms, got 0", treatment=pl.lit(None, pl.String))
    _fails(data, PlanSection(reference="placebo"), "one of the arms control, drug; got 'placebo'")
    goals = [{"measure": "cd4", "better": "higher"}]
    _fails(data, PlanSection(goals=goals), r"measure 'cd4', which the cohort does not have \(it has: score\)")
    short = (
        pl.when(pl.col("treatment") == "drug").then(pl.col("follow_up_days").clip(0, 100)).otherwise("follow_up_days")
    )
    _fails(
        data, PlanSection(), "in 'drug' all follow-up ends by day 100", follow_up_days=short, event=pl.lit(0, pl.Int8)
    )
    with pytest.raises(InputError, match="in the cohort's order"):
        make_plan(data.rows()[::-1], data.matrix(), PlanSection(), horizon_days=365)
    with pytest.raises(InputError, match="arm 'placebo' has 0"):
        make_plan(data.rows(), data.matrix(), PlanSection(), horizon_days=365, options=("control", "drug", "placebo"))


def test_a_patients_difference_to_the_reference_has_an_interval_of_its_own(plan: Plan) -> None:
    """Shared slopes: the errors of two options of one patient go together, so the difference is better known."""
    rows = plan.table.filter(pl.col("difference").is_not_null())
    wide = rows.with_columns(reference=pl.col("expected").filter(pl.col("option") == plan.reference).first().over(KEYS))
    assert (wide["difference"] - (wide["expected"] - wide["reference"])).abs().max() < 1e-9
    own = rows.filter(pl.col("option") == plan.reference)
    assert own.select(pl.col("difference", "difference_low", "difference_high").abs().max()).row(0) == (0.0, 0.0, 0.0)
    others = rows.filter(pl.col("option") != plan.reference)
    assert (
        (others["difference_low"] < others["difference"]) & (others["difference"] < others["difference_high"])
    ).all()
