"""Select a study's cohort from a record, shard by shard, with the count of subjects at every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from typing import Literal

import polars as pl
import polars.selectors as cs

from careloop import InputError
from careloop.cohort.definition import CohortSection, Outcome, Split, Treatment
from careloop.cohort.eligibility import entry_rules, index_times
from careloop.cohort.labels import KEY, Facts, label_rows, read_facts, treatment_arms
from careloop.cohort.split import assign_split, keep_first_split, sites
from careloop.record import Record
from careloop.record.schema import BIRTH, DEATH
from careloop.record.shards import HERE, each_shard

SPLITS = ("train", "tuning", "held_out")
SUGGESTIONS = 3


@dataclass(frozen=True)
class FlowStep:
    """One box of the cohort's flow diagram; `chain` steps follow each other, `branch` steps divide the last of them."""

    name: str
    kept: int
    """subjects that remain"""
    dropped: int
    """subjects that left at this step"""
    reason: str
    """why they left, or what divides the branch"""
    rows: int
    """prediction times that remain; more than `kept` where subjects have several"""
    kind: Literal["chain", "branch"] = "chain"


@dataclass(frozen=True)
class Cohort:
    """A study's rows, one each prediction time, and how they came about.

    `rows`, sorted by subject_id and prediction_time: subject_id Int64, prediction_time Datetime(us, UTC), split String
    (train, tuning, held_out), boolean_value Boolean (null where censored before the horizon), follow_up_days Float64,
    event Int8 (0 censored, 1 outcome, 2 competing event), treatment String (null without arms), measure_NAME Float64.
    """

    rows: pl.DataFrame
    flow: tuple[FlowStep, ...]


def select_cohort(record: Record, section: CohortSection, *, on: str = HERE) -> Cohort:
    """Select who enters and when, and label what happened to them.

    The index event and the eligibility rules see only what was known by the prediction time; labels, treatment arms
    and previous outcomes are read from the uncut record, shard by shard, `on` as `each_shard` has it.

    Raises:
        InputError: a code of the section is not in the record; nobody is left; nobody has the outcome within the
            horizon, or everybody has; an arm is too small; a split is empty.

    """
    shards = list(each_shard(record, partial(_select, section=section), on=on))
    _check_codes(section, set().union(*(shard.codes for shard in shards)))
    rows, divided = _divide(pl.concat([shard.rows for shard in shards]).sort(KEY), section.split)
    flow = (*_sum_flow([shard.flow for shard in shards]), *divided)
    _check_left(flow)
    if section.split.by == "site":
        _check_sites(shards, section.split)
    if section.treatment:
        _check_arms(rows, section.treatment)
    _check_outcome(rows, section.outcome)
    _check_splits(rows, section.split)
    columns = [*KEY, "split", "boolean_value", "follow_up_days", "event", "treatment", cs.starts_with("measure_")]
    return Cohort(rows.select(columns), (*flow, *_branches(rows, section)))


@dataclass(frozen=True)
class Shard:
    """What one shard gives: labelled rows (with `site` where the split asks for it), its flow, and its codes."""

    rows: pl.DataFrame
    flow: list[FlowStep]
    codes: frozenset[str]


def _select(record: Record, shard: int, *, section: CohortSection) -> Shard:
    return select_shard(record.events(shard), section)


def select_shard(events: pl.LazyFrame, section: CohortSection) -> Shard:
    """Walk one shard's subjects through every step, then label those who are left."""
    facts = read_facts(events, section)
    flow = [_step("subjects in the record", "", facts.spans, facts.spans)]
    keys = index_times(facts, section.index)
    flow.append(_step(f"with index event {' or '.join(section.index.codes)}", "no index event", facts.spans, keys))
    for rule in entry_rules(section):
        kept = rule.keep(facts, keys)
        flow.append(_step(rule.name, rule.reason, keys, kept))
        keys = kept
    keys = keys.sort(KEY)
    rows = label_rows(facts, keys, section)
    return Shard(_add_arm_and_site(facts, rows, section), flow, facts.codes)


def _add_arm_and_site(facts: Facts, rows: pl.DataFrame, section: CohortSection) -> pl.DataFrame:
    if section.treatment:
        rows = rows.join(treatment_arms(facts, rows.select(KEY), section.treatment), on=KEY, how="left")
    else:
        rows = rows.with_columns(treatment=pl.lit(None, pl.String))
    if section.split.site_code:
        rows = rows.join(sites(facts, rows.select(KEY), section.split.site_code), on=KEY, how="left")
    return rows


def _step(name: str, reason: str, before: pl.DataFrame, after: pl.DataFrame) -> FlowStep:
    kept = after["subject_id"].n_unique()
    return FlowStep(name, kept, before["subject_id"].n_unique() - kept, reason, after.height)


def _sum_flow(flows: Sequence[Sequence[FlowStep]]) -> list[FlowStep]:
    """Add up the shards' steps; a subject is in one shard only."""
    return [
        replace(
            same[0],
            kept=sum(step.kept for step in same),
            dropped=sum(step.dropped for step in same),
            rows=sum(step.rows for step in same),
        )
        for same in zip(*flows, strict=True)
    ]


def _divide(rows: pl.DataFrame, split: Split) -> tuple[pl.DataFrame, list[FlowStep]]:
    """Add `split`; by site or calendar a subject's later rows may lie elsewhere, and leave at a step of their own."""
    rows = assign_split(rows, split)
    if split.by == "subject":
        return rows, []
    kept = keep_first_split(rows)
    reason = "later prediction times in another split"
    return kept, [_step("in the split of the subject's first prediction time", reason, rows, kept)]


def _branches(rows: pl.DataFrame, section: CohortSection) -> list[FlowStep]:
    """How the rows that remain are divided by arm and by split."""
    parts = [(f"arm {name}", "by treatment", pl.col("treatment") == name) for name in _arms(section)]
    parts += [(name, f"split by {section.split.by}", pl.col("split") == name) for name in SPLITS]
    counted = [(name, reason, rows.filter(mine)) for name, reason, mine in parts]
    return [FlowStep(name, p["subject_id"].n_unique(), 0, reason, p.height, "branch") for name, reason, p in counted]


def _arms(section: CohortSection) -> list[str]:
    return list(section.treatment.arms) if section.treatment else []


def _check_codes(section: CohortSection, known: set[str]) -> None:
    """A misspelt code would otherwise pass as one that nobody has."""
    for field, code in section.named_codes():
        if code in (BIRTH, DEATH) or _occurs(code, known):
            continue
        close = get_close_matches(code.removesuffix("*"), sorted(known), n=SUGGESTIONS)
        remedy = f"did you mean {' or '.join(close)}?" if close else "see the record's codes with `careloop check`"
        raise InputError(f"cohort.{field}: no event in the record has code {code}; {remedy}")


def _occurs(code: str, known: set[str]) -> bool:
    return any(other.startswith(code[:-1]) for other in known) if code.endswith("*") else code in known


def _check_left(flow: Sequence[FlowStep]) -> None:
    for step in flow:
        if step.kept == 0:
            lost = f"all {step.dropped} that were left dropped out: {step.reason}" if step.dropped else "it is empty"
            raise InputError(f"cohort: nobody is left after the step '{step.name}' ({lost}); loosen this rule")


def _check_sites(shards: Sequence[Shard], split: Split) -> None:
    known = set().union(*(shard.rows["site"] for shard in shards))
    for site in split.held_out_sites:
        if site not in known:
            close = get_close_matches(site, sorted(known), n=SUGGESTIONS) or sorted(known)[:SUGGESTIONS]
            raise InputError(
                f"cohort.split.held_out_sites: no subject of the cohort is at {site}; sites are {', '.join(close)}"
            )


def _check_arms(rows: pl.DataFrame, treatment: Treatment) -> None:
    for name, codes in treatment.arms.items():
        count = rows.filter(pl.col("treatment") == name)["subject_id"].n_unique()
        if count < treatment.minimum_per_arm:
            raise InputError(
                f"cohort.treatment.arms.{name}: {count} subjects have {' or '.join(codes)} in window_days "
                f"{list(treatment.window_days)}, the least is {treatment.minimum_per_arm}; widen the window, merge or "
                f"drop the arm, or lower minimum_per_arm"
            )


def _check_outcome(rows: pl.DataFrame, outcome: Outcome) -> None:
    """Both classes must be among the known labels, or there is nothing to learn."""
    label, codes = rows["boolean_value"], " or ".join(outcome.codes)
    where = f"cohort.outcome.codes: of {rows.height} prediction times"
    if not label.any():
        later = rows.filter(pl.col("event") == 1).height
        raise InputError(
            f"{where}, none has {codes} within horizon_days {outcome.horizon_days:g} ({later} have it later); "
            f"lengthen the horizon or check the codes"
        )
    if label.drop_nulls().all():
        raise InputError(
            f"{where}, all {label.sum()} whose label is known have {codes} within horizon_days "
            f"{outcome.horizon_days:g}, so there is one class only; shorten the horizon or check the codes"
        )


def _check_splits(rows: pl.DataFrame, split: Split) -> None:
    for name in SPLITS:
        part = rows.filter(pl.col("split") == name)
        if part.is_empty() and not (name == "tuning" and split.tuning == 0):
            remedy = {"subject": "its fraction", "site": "held_out_sites", "calendar": "boundaries"}[split.by]
            raise InputError(
                f"cohort.split: no subject falls in {name} ({rows['subject_id'].n_unique()} subjects in all); "
                f"change {remedy} or enlarge the cohort"
            )
        if name == "train" and part["boolean_value"].drop_nulls().n_unique() < 2:
            raise InputError(
                "cohort.split: the known labels in train are of one class only; change split.seed or split.boundaries, "
                "change outcome.horizon_days or enlarge the cohort"
            )
