"""Whole cohorts: ACTG 175's published numbers, the flow, order independence, and errors that name the remedy."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import Any

import polars as pl
import pytest

from careloop import InputError
from careloop.cohort import CohortSection, label_outcomes, select_cohort
from careloop.ingest.examples import actg175_events
from careloop.record import Record

ARMS = {"zidovudine": 532, "zidovudine+didanosine": 522, "zidovudine+zalcitabine": 524, "didanosine": 561}


def section(**changes: Any) -> CohortSection:
    outcome = {"codes": ["OUT"], "horizon_days": 30, **changes.pop("outcome", {})}
    return CohortSection.model_validate({"index": {"code": "INDEX"}, "outcome": outcome, **changes})


def people(count: int = 40) -> list[tuple[Any, ...]]:
    """Simulated people, of whom every other has the outcome on day 10, with two arms and two sites."""
    rows: list[tuple[Any, ...]] = []
    for subject in range(count):
        rows += [(subject, -400, "VISIT"), (subject, 0, "INDEX"), (subject, 60, "VISIT")]
        rows += [(subject, 0, f"ARM//{'AB'[subject // 2 % 2]}"), (subject, None, f"SITE//{'XY'[subject // 2 % 2]}")]
        rows += [(subject, 10, "OUT")] if subject % 2 else []
    return rows


def actg175() -> CohortSection:
    code = "LOINC//24467-3"
    gain = {"name": "gain", "code": code, "at_days": 140, "within_days": 14, "change_from_baseline_code": code}
    arms = {name: f"ACTG175//ARM//{name}" for name in ARMS}
    return CohortSection.model_validate(
        {
            "index": {"code": "ACTG175//RANDOMISED"},
            "outcome": {"codes": "ACTG175//EVENT", "horizon_days": 730, "censoring": ["ACTG175//END_OF_FOLLOW_UP"]},
            "measures": [gain],
            "treatment": {"arms": arms},
        }
    )


def test_actg175_has_its_published_numbers(record_of: Callable[..., Record]) -> None:
    """2,139 people, 521 events, arms of 532, 522, 524 and 561; each row equals the data set's own."""
    published = pl.read_csv(str(resources.files("lifelines.datasets") / "ACTG175.csv"))
    cohort = select_cohort(record_of(actg175_events(), shards=4), actg175())
    rows = cohort.rows
    assert (rows.height, rows["event"].sum()) == (2139, 521)
    assert dict(rows["treatment"].value_counts().rows()) == ARMS
    assert {step.name.removeprefix("arm "): step.kept for step in cohort.flow if step.name.startswith("arm")} == ARMS
    assert sorted(rows["follow_up_days"]) == sorted(published["days"].cast(pl.Float64))
    gain = published["cd420"] - published["cd40"]
    assert rows["measure_gain"].mean() == pytest.approx(gain.mean())
    early = published.filter(pl.col("cens") == 1, pl.col("days") <= 730).height
    free = published.filter((pl.col("days") > 730) | ((pl.col("days") == 730) & (pl.col("cens") == 0))).height
    counts = dict(rows["boolean_value"].value_counts().rows())
    assert (counts[True], counts[False], counts[None]) == (early, free, 2139 - early - free)


def test_flow_tells_where_everybody_went(record_of: Callable[..., Record]) -> None:
    rows = people()
    rows += [(100, 0, "VISIT")]  # no index event
    rows += [(101, 0, "INDEX"), (101, 0, "ARM//A")]  # no history
    rows += [(102, -400, "VISIT"), (102, 0, "INDEX"), (102, 0, "ARM//A"), (102, -5, "MEDS_DEATH")]
    rows += [(103, -400, "VISIT"), (103, 0, "INDEX"), (103, 0, "ARM//A"), (103, -5, "OUT", None, 5)]
    rows += [(104, -400, "VISIT"), (104, 0, "INDEX")]  # no arm
    rows += [(105, -400, "VISIT"), (105, 0, "INDEX"), (105, 0, "ARM//A"), (105, 0, "ARM//B")]
    rows += [(106, -400, "VISIT"), (106, -30, "DRUG"), (106, 0, "INDEX"), (106, 0, "ARM//B")]
    drug = {"code": "DRUG", "window_days": [-90, 0], "name": "recent DRUG"}
    study = section(
        eligibility={"history_days": 365, "exclude": [drug]},
        treatment={"arms": {"a": "ARM//A", "b": "ARM//B"}},
    )
    flow = select_cohort(record_of(rows), study).flow
    chain = [step for step in flow if step.kind == "chain"]
    assert [(step.name, step.kept, step.dropped) for step in chain] == [
        ("subjects in the record", 47, 0),
        ("with index event INDEX", 46, 1),
        ("365 days or more of record before the prediction time", 45, 1),
        ("no recent DRUG", 44, 1),
        ("alive at the prediction time", 43, 1),
        ("outcome-free at the prediction time", 42, 1),
        ("treated with a known arm", 41, 1),
        ("treated in one arm only", 40, 1),
    ]
    assert next(step.reason for step in chain if step.name.startswith("outcome-free")) == "prevalent outcome"
    branches = [step for step in flow if step.kind == "branch"]
    assert sum(step.kept for step in branches if step.reason == "by treatment") == 40
    assert sum(step.kept for step in branches if step.reason == "split by subject") == 40


def test_neither_order_of_rows_nor_number_of_shards_matters(
    record_of: Callable[..., Record], events_of: Callable[..., pl.DataFrame]
) -> None:
    events = events_of(people())
    first = select_cohort(record_of(events, shards=1), section())
    shuffled = select_cohort(record_of(events.sample(fraction=1, shuffle=True, seed=1), shards=7), section())
    assert first.rows.equals(shuffled.rows)
    assert first.flow == shuffled.flow
    assert first.rows.select("subject_id", "prediction_time").is_sorted(["subject_id", "prediction_time"])


def test_labelling_the_cohort_again_gives_its_own_labels(record_of: Callable[..., Record]) -> None:
    record = record_of(people())
    rows = select_cohort(record, section()).rows
    assert label_outcomes(record, rows, section()).equals(rows.drop("split", "treatment"))


def test_whole_sites_are_held_out(record_of: Callable[..., Record]) -> None:
    split = {"by": "site", "site_code": "SITE//*", "held_out_sites": ["Y"]}
    rows = select_cohort(record_of(people()), section(split=split)).rows
    held_out = set(rows.filter(pl.col("split") == "held_out")["subject_id"])
    assert held_out == {subject for subject in range(40) if subject // 2 % 2}


def test_calendar_split_drops_a_subject_s_rows_in_a_later_period(record_of: Callable[..., Record]) -> None:
    rows = people() + [(s, 100 if s % 4 < 2 else 200, "INDEX") for s in range(0, 40, 2)]
    rows += [(s, d, c) for s in range(40, 60) for d, c in ((70 + s, "INDEX"), (75 + s, "OUT"), (130 + s, "VISIT"))]
    rows += [(s, d, c) for s in range(60, 80) for d, c in ((120 + s, "INDEX"), (220 + s, "VISIT"))]
    split = {"by": "calendar", "boundaries": ["2020-03-01", "2020-06-25"]}
    cohort = select_cohort(record_of(rows), section(index={"code": "INDEX", "which": "every"}, split=split))
    assert cohort.rows.group_by("subject_id").agg(pl.col("split").n_unique())["split"].max() == 1
    step = next(step for step in cohort.flow if step.name.startswith("in the split of"))
    assert (step.kept, step.dropped, step.rows) == (80, 0, 80)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"index": {"code": "INDX"}},
            r"cohort\.index\.codes: no event in the record has code INDX; did you mean INDEX",
        ),
        ({"outcome": {"codes": ["ICD//*"]}}, r"cohort\.outcome\.codes: .* ICD//\*"),
        ({"eligibility": {"exclude": [{"code": "DRUG"}]}}, r"cohort\.eligibility\.exclude\[0\]\.codes: .*DRUG"),
        ({"outcome": {"horizon_days": 5}}, r"of 40 prediction times, none has OUT within .* 5 \(20 have it later\)"),
        ({"eligibility": {"require": [{"code": "OUT"}]}}, "nobody is left after the step 'has OUT'"),
        ({"eligibility": {"age_years": {"min": 18}}}, "nobody is left after the step 'date of birth known'"),
        ({"treatment": {"arms": {"a": "ARM//A", "b": "ARM//B"}, "minimum_per_arm": 21}}, r"arms\.a: 20 .* least is 21"),
        (
            {"split": {"by": "site", "site_code": "SITE//*", "held_out_sites": ["Z"]}},
            r"held_out_sites: no subject of the cohort is at Z; sites are X, Y",
        ),
        (
            {"split": {"by": "calendar", "boundaries": ["2030-01-01", "2031-01-01"]}},
            r"no subject falls in tuning \(40 subjects in all\); change boundaries",
        ),
    ],
)
def test_bad_studies_get_one_line_with_place_and_remedy(
    record_of: Callable[..., Record], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        select_cohort(record_of(people()), section(**changes))
    assert "\n" not in str(error.value)


def test_one_class_only_is_refused(record_of: Callable[..., Record]) -> None:
    rows = [row for row in people() if row[0] % 2]
    with pytest.raises(InputError, match=r"all 20 whose label is known .* one class only"):
        select_cohort(record_of(rows), section())


@pytest.mark.parametrize(
    ("birth", "enters"),
    [("2002-01-01", True), ("2002-01-02", False), ("1939-01-02", True), ("1939-01-01", False), ("2020-01-02", False)],
)
def test_age_is_in_completed_years_both_ends_included(
    record_of: Callable[..., Record], events_of: Callable[..., pl.DataFrame], birth: str, enters: bool
) -> None:
    rows = [*people(), (99, 0, "INDEX"), (99, 60, "VISIT"), *((s, -10000, "MEDS_BIRTH") for s in range(40))]
    born = events_of([(99, -1, "MEDS_BIRTH")]).with_columns(
        time=pl.lit(birth).str.to_datetime("%Y-%m-%d", time_unit="us", time_zone="UTC")
    )
    events = pl.concat([events_of(rows), born])
    study = section(eligibility={"age_years": {"min": 18, "max": 80}})
    assert (99 in select_cohort(record_of(events), study).rows["subject_id"]) == enters


def rich_section() -> CohortSection:
    return section(
        eligibility={"history_days": 365},
        treatment={"arms": {"a": "ARM//A", "b": "ARM//B"}, "minimum_per_arm": 5},
        measures=[{"name": "later", "code": "VISIT", "at_days": 60, "within_days": 5}],
        split={"by": "site", "site_code": "SITE//*", "held_out_sites": ["X"]},
    )


@pytest.mark.parametrize("on", ["here:1", "local:2", "ray:2"])
def test_worker_processes_and_ray_give_the_same_cohort(record_of: Callable[..., Record], on: str) -> None:
    if on.startswith("ray"):
        pytest.importorskip("ray")
    record = record_of(people(), shards=3)
    here, there = select_cohort(record, rich_section()), select_cohort(record, rich_section(), on=on)
    assert here.rows.height == 40
    assert there.rows.equals(here.rows)
    assert there.flow == here.flow
    with pytest.raises(InputError, match="did you mean INDEX"):
        select_cohort(record, section(index={"code": "INDEKS"}), on=on)
