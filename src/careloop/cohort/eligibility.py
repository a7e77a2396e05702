"""Who enters and when: the index event, and the eligibility rules, read only through the as-of gate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from careloop.cohort.definition import AgeRange, CohortSection, Criterion, Eligibility, IndexEvent, Outcome, Treatment
from careloop.cohort.labels import DAYS_AFTER, KEY, MICROSECONDS_PER_DAY, Facts, treatment_arms
from careloop.cohort.split import sites
from careloop.record import history
from careloop.record.schema import BIRTH, DEATH, code_matches

Keep = Callable[[Facts, pl.DataFrame], pl.DataFrame]


@dataclass(frozen=True)
class Rule:
    """One step of the cohort flow: what those who stay have in common, why the others leave, and how to tell."""

    name: str
    reason: str
    keep: Keep


def index_times(facts: Facts, index: IndexEvent) -> pl.DataFrame:
    """Prediction times: the times at which index events became known, as (subject_id, prediction_time) rows.

    An index event is known at its own known_time, so nothing later is read; only `which: last` looks ahead.
    """
    found = facts.events.filter(code_matches(index.codes), pl.col("known_time").is_not_null())
    times = found.select("subject_id", prediction_time="known_time").unique()
    if index.which == "first":
        times = times.group_by("subject_id").agg(pl.col("prediction_time").min())
    elif index.which == "last":
        times = times.group_by("subject_id").agg(pl.col("prediction_time").max())
    elif index.every_days:
        first = pl.col("prediction_time").min().over("subject_id")
        since_first = (pl.col("prediction_time") - first).dt.total_microseconds() / MICROSECONDS_PER_DAY
        stretch = (since_first / index.every_days).floor().alias("stretch")
        times = times.group_by("subject_id", stretch).agg(pl.col("prediction_time").min()).select(KEY)
    return times.sort(KEY)


def entry_rules(section: CohortSection) -> list[Rule]:
    """Every rule of the section, in the order in which they are applied."""
    rules = [*eligibility_rules(section.eligibility), *_outcome_rules(section.outcome)]
    if section.treatment:
        rules += _arm_rules(section.treatment)
    if section.split.site_code:
        code = section.split.site_code
        rules.append(Rule("site known", f"no {code} known", lambda facts, keys: _same(keys, sites(facts, keys, code))))
    return rules


def eligibility_rules(eligibility: Eligibility) -> list[Rule]:
    """The rules that see only what was known at the prediction time."""
    rules: list[Rule] = []
    if eligibility.age_years:
        age = eligibility.age_years
        rules.append(Rule("date of birth known", f"no {BIRTH} known", _birth_known))
        rules.append(Rule(_age_name(age), "age outside the range", lambda facts, keys: _of_age(facts, keys, age)))
    if eligibility.history_days:
        days = eligibility.history_days
        name = f"{days:g} days or more of record before the prediction time"
        rules.append(Rule(name, "record too short", lambda facts, keys: _observed(facts, keys, days)))
    rules += [_criterion_rule(criterion, "required") for criterion in eligibility.require]
    rules += [_criterion_rule(criterion, "excluded") for criterion in eligibility.exclude]
    return rules


def _birth_known(facts: Facts, keys: pl.DataFrame) -> pl.DataFrame:
    return keys.join(_births(facts, keys), on=KEY, how="semi")


def _of_age(facts: Facts, keys: pl.DataFrame, age: AgeRange) -> pl.DataFrame:
    """Completed years by the calendar; born on 29 February counts as a year older on 28 February of common years."""
    birth, now = pl.col("birth"), pl.col("prediction_time")
    young_enough = pl.lit(True) if age.max is None else now < birth.dt.offset_by(f"{age.max + 1}y")
    old_enough = pl.lit(True) if age.min is None else now >= birth.dt.offset_by(f"{age.min}y")
    of_age = _births(facts, keys).filter(young_enough, old_enough)
    return keys.join(of_age, on=KEY, how="semi")


def _births(facts: Facts, keys: pl.DataFrame) -> pl.DataFrame:
    """Earliest birth known at each prediction time; one dated after it is no birth."""
    known = history(facts.events.lazy().filter(pl.col("code") == BIRTH), keys)
    born = known.filter(pl.col("time") <= pl.col("prediction_time"))
    return born.group_by(KEY).agg(birth=pl.col("time").min()).collect()


def _observed(facts: Facts, keys: pl.DataFrame, days: float) -> pl.DataFrame:
    """`first_known` is a subject's earliest known_time; as an event of that time it goes through the gate."""
    first = facts.spans.lazy().select("subject_id", time="first_known", known_time="first_known")
    long_enough = history(first.drop_nulls(), keys).filter(days <= -DAYS_AFTER)
    return keys.join(long_enough.select(KEY).collect(), on=KEY, how="semi")


def _criterion_rule(criterion: Criterion, kind: str) -> Rule:
    described = criterion.name or _criterion_name(criterion)
    if kind == "required":
        return Rule(f"has {described}", f"without {described}", lambda facts, keys: _meeting(facts, keys, criterion))

    def without(facts: Facts, keys: pl.DataFrame) -> pl.DataFrame:
        return keys.join(_meeting(facts, keys, criterion), on=KEY, how="anti")

    return Rule(f"no {described}", f"with {described}", without)


def _meeting(facts: Facts, keys: pl.DataFrame, criterion: Criterion) -> pl.DataFrame:
    counted = history(facts.events.lazy().filter(code_matches(criterion.codes)), keys)
    if criterion.window_days:
        counted = counted.filter(DAYS_AFTER.is_between(*criterion.window_days))
    if criterion.value:
        counted = counted.filter(_in_range(criterion.value.min, criterion.value.max))
    met = counted.group_by(KEY).len().filter(pl.col("len") >= criterion.at_least)
    return keys.join(met.select(KEY).collect(), on=KEY, how="semi")


def _in_range(low: float | None, high: float | None) -> pl.Expr:
    """Compared in 32 bits, as values are stored: 0.1 stated must equal 0.1 stored."""
    value = pl.col("numeric_value")
    found = value.is_not_null()
    if low is not None:
        found &= value >= pl.lit(low, dtype=pl.Float32)
    if high is not None:
        found &= value <= pl.lit(high, dtype=pl.Float32)
    return found


def _outcome_rules(outcome: Outcome) -> list[Rule]:
    """These look beyond the gate: a death or outcome dated before the prediction time counts, however late known."""
    alive = Rule(
        "alive at the prediction time",
        "died at or before the prediction time",
        lambda facts, keys: _without_earlier(facts, keys, (DEATH,)),
    )
    if outcome.previous == "keep":
        return [alive, Rule("previous outcome allowed", "none", lambda facts, keys: keys)]
    free = Rule(
        "outcome-free at the prediction time",
        "prevalent outcome",
        lambda facts, keys: _without_earlier(facts, keys, outcome.codes),
    )
    return [alive, free]


def _without_earlier(facts: Facts, keys: pl.DataFrame, codes: tuple[str, ...]) -> pl.DataFrame:
    """Rows before the subject's first event with one of the codes, dated or known; an undated one is always before."""
    events = facts.events.filter(code_matches(codes))
    first = events.group_by("subject_id").agg(
        first=pl.min_horizontal("time", "known_time").min(), undated=pl.col("time").is_null().any()
    )
    earlier = pl.col("undated") | (pl.col("first") <= pl.col("prediction_time"))
    return keys.join(keys.join(first, on="subject_id").filter(earlier), on=KEY, how="anti")


def _arm_rules(treatment: Treatment) -> list[Rule]:
    def treated(facts: Facts, keys: pl.DataFrame) -> pl.DataFrame:
        return _same(keys, treatment_arms(facts, keys, treatment))

    def in_one_arm(facts: Facts, keys: pl.DataFrame) -> pl.DataFrame:
        arms = treatment_arms(facts, keys, treatment)
        return keys.join(arms.filter(arms.select(KEY).is_duplicated()), on=KEY, how="anti")

    return [
        Rule("treated with a known arm", "treated in none of the arms", treated),
        Rule("treated in one arm only", "treated in more than one arm", in_one_arm),
    ]


def _same(keys: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    return keys.join(found, on=KEY, how="semi")


def _age_name(age: AgeRange) -> str:
    if age.max is None:
        return f"age {age.min} years or older"
    return f"age {age.max} years or younger" if age.min is None else f"age {age.min} to {age.max} years"


def _criterion_name(criterion: Criterion) -> str:
    """In plain words: `2 or more LOINC//2160-0 with value 1.5 or more from 365 to 0 days before`."""
    words = [] if criterion.at_least == 1 else [f"{criterion.at_least} or more"]
    words.append(" or ".join(criterion.codes))
    value = criterion.value
    if value:
        low = "" if value.min is None else f"{value.min:g} or more"
        high = "" if value.max is None else f"{value.max:g} or less"
        words.append("with value " + " and ".join(part for part in (low, high) if part))
    if criterion.window_days:
        start, end = (abs(day) for day in criterion.window_days)
        words.append(f"from {start:g} to {end:g} days before" if end else f"in the last {start:g} days")
    return " ".join(words)
