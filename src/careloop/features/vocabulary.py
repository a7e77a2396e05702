"""Which codes, units and categories training rows know, and all columns that these allow."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl

from careloop import InputError
from careloop.features.definition import FeaturesSection
from careloop.features.extract import of_shard, of_subjects, shards_of
from careloop.features.matrix import KEYS
from careloop.features.recipe import Column, is_wide, window_name
from careloop.features.windows import MICROSECONDS_A_DAY
from careloop.record import Record, history
from careloop.record.schema import BIRTH, CARELOOP, DEATH, code_matches
from careloop.record.shards import HERE, each_shard

NEVER = (BIRTH, DEATH, f"{CARELOOP}*")


@dataclass(frozen=True)
class Survey:
    """What training rows know by their prediction times: counts by code.

    `timed`: code, subjects, number_subjects; `units`: is_static, code, unit, numbers; `static`: code, text_value,
    subjects, number_subjects, text_subjects. Counts are of training subjects, only `numbers` is of rows.
    """

    timed: pl.DataFrame
    units: pl.DataFrame
    static: pl.DataFrame


def vocabulary(
    record: Record, train: pl.DataFrame, section: FeaturesSection, exclude_codes: Sequence[str], *, on: str = HERE
) -> tuple[list[Column], list[str]]:
    """All columns that what training rows know allows, and notes on what was left out."""
    train = train.select(KEYS)
    survey = _survey(record, train, on)
    excluded = (*NEVER, *section.exclude_codes, *exclude_codes)
    _check_named(record, train, section, survey, excluded)
    notes: list[str] = []
    columns = _candidates(survey, section, excluded, notes)
    return _described(columns, record.code_metadata()), notes


def _survey(record: Record, train: pl.DataFrame, on: str) -> Survey:
    # What is known by a subject's last prediction time is what any of its rows know.
    last = train.group_by("subject_id").agg(pl.col("prediction_time").max())
    parts = each_shard(record, partial(_survey_shard, last=last), on=on, shards=shards_of(record, last))
    return Survey(*(_added_up(pl.concat(frames)) for frames in zip(*parts, strict=True)))


def _survey_shard(record: Record, shard: int, *, last: pl.DataFrame) -> list[pl.DataFrame]:
    members = of_shard(record, shard, last)
    known = history(of_subjects(record.events(shard), members), members)
    timed = known.filter(pl.col("time") <= pl.col("prediction_time"))
    return pl.collect_all(_counts(timed, known.filter(pl.col("time").is_null())))


def _counts(timed: pl.LazyFrame, static: pl.LazyFrame) -> list[pl.LazyFrame]:
    number = pl.col("numeric_value").is_finite()
    subjects = pl.col("subject_id").n_unique().alias("subjects")
    with_number = pl.col("subject_id").filter(number).n_unique().alias("number_subjects")
    with_text = pl.col("subject_id").filter(pl.col("text_value").is_not_null()).n_unique().alias("text_subjects")
    units = [
        rows.filter(number).group_by("code", "unit").agg(pl.len().alias("numbers")).with_columns(is_static=is_static)
        for rows, is_static in ((timed, pl.lit(False)), (static, pl.lit(True)))
    ]
    return [
        timed.group_by("code").agg(subjects, with_number),
        pl.concat(units),
        static.group_by("code", "text_value").agg(subjects, with_number, with_text),
    ]


def _added_up(counts: pl.DataFrame) -> pl.DataFrame:
    by = [name for name in counts.columns if counts.schema[name] in (pl.String, pl.Boolean)]
    return counts.group_by(by).agg(pl.all().sum()).sort(by, nulls_last=True)


def named_codes(codes: Iterable[str] | str) -> list[str]:
    """The codes that a section names; none where it says `all`."""
    return [] if isinstance(codes, str) else list(codes)


def _check_named(
    record: Record, train: pl.DataFrame, section: FeaturesSection, survey: Survey, excluded: Sequence[str]
) -> None:
    """Stop at a code that the section names and that is excluded or that no training row knows."""
    for place, names, known in (
        ("codes", named_codes(section.codes), survey.timed),
        ("static", named_codes(section.static), survey.static),
    ):
        for name in names:
            if pl.select(code=pl.lit(name)).filter(code_matches(excluded)).height:
                raise InputError(
                    f"features.{place}: {name} is excluded (by exclude_codes, as a treatment, or as one of {NEVER});"
                    " name it in one place only"
                )
            if known.filter(code_matches([name])).is_empty():
                raise InputError(f"features.{place}: {_why_unknown(record, train, name, survey)}")


def _why_unknown(record: Record, train: pl.DataFrame, name: str, survey: Survey) -> str:
    """Why no training row knows a code: it is of the other kind, becomes known later, or is misspelt."""
    for kind, place, known in (("timed", "codes", survey.timed), ("static", "static", survey.static)):
        if known.filter(code_matches([name])).height:
            return f"{name} is a {kind} fact in this record; name it in features.{place}"
    # The one look past the prediction time: whether and when the code becomes known, no value of it.
    events = record.events(codes=[name]).select("subject_id", "known_time").join(train.lazy(), on="subject_id")
    wait = (pl.col("known_time") - pl.col("prediction_time")).dt.total_microseconds() / MICROSECONDS_A_DAY
    later = events.with_columns(days=wait).filter(pl.col("days") > 0)
    first = later.group_by(KEYS).agg(pl.col("days").min()).collect()["days"]
    if len(first):
        earliest, median = np.quantile(first.to_numpy(), [0, 0.5])
        return (
            f"{name} is never known at the prediction time, only later (earliest after {earliest:.1f} days, median"
            f" {median:.1f}); remove it from the features, or move the index event"
        )
    close = difflib.get_close_matches(name, sorted({*survey.timed["code"], *survey.static["code"]}), n=3)
    hint = f"did you mean {', '.join(close)}?" if close else "check its spelling against the record's codes"
    return f"no training row has {name}; {hint}"


def _candidates(survey: Survey, section: FeaturesSection, excluded: Sequence[str], notes: list[str]) -> list[Column]:
    """All columns that the vocabulary allows: first those that are NaN where absent, then those that are 0."""
    columns = [Column("age_years", "age", BIRTH, "age", unit="a")] if section.age == "years" else []
    columns += _static_columns(survey, section, excluded, notes)
    columns += _timed_columns(survey, section, excluded, notes)
    if is_wide(columns):
        columns = [column for column in columns if column.aggregation != "time_since"]
        notes.append("time_since is left out: the code space is wide, and CSR would have to store every absence of it")
    return sorted(columns, key=lambda column: column.absent == 0)


def _static_columns(
    survey: Survey, section: FeaturesSection, excluded: Sequence[str], notes: list[str]
) -> Iterator[Column]:
    """One column for a code's numbers, one for each category of its texts, a 0/1 column for a code with neither."""
    facts = _allowed(survey.static, section.static, excluded)
    units = survey.units.filter("is_static")
    totals = facts.group_by("code", maintain_order=True).agg(
        pl.col("subjects", "number_subjects", "text_subjects").sum()
    )
    for code, subjects, numbers, texts in totals.iter_rows():
        least = 1 if code in named_codes(section.static) else section.min_subjects
        if numbers >= least:
            yield Column(f"static|{code}", "static_value", code, "value", unit=_unit(units, code, notes))
        for text in facts.filter(pl.col("code") == code, pl.col("text_subjects") >= least)["text_value"]:
            yield Column(f"static|{code}={text}", "static_category", code, "category", category=text)
        if numbers == texts == 0 and subjects >= least:
            yield Column(f"static|{code}", "static_present", code, "present")


def _timed_columns(
    survey: Survey, section: FeaturesSection, excluded: Sequence[str], notes: list[str]
) -> Iterator[Column]:
    """The columns of each code: aggregations of its numbers where enough subjects have any, else of the code."""
    units = survey.units.filter(~pl.col("is_static"))
    for code, subjects, numbers in _allowed(survey.timed, section.codes, excluded).iter_rows():
        least = 1 if code in named_codes(section.codes) else section.min_subjects
        if numbers >= least:
            yield from _value_columns(code, _unit(units, code, notes), section)
        elif subjects >= least:
            yield from _code_columns(code, section)


def _value_columns(code: str, unit: str | None, section: FeaturesSection) -> Iterator[Column]:
    aggregations = [*section.value, *(["present"] if section.missingness == "present" else [])]
    for window in section.windows_days:
        for aggregation in aggregations:
            name = f"{code}|{window_name(window)}|{aggregation}"
            yield Column(name, "value", code, aggregation, None if window == "all" else window, unit)


def _code_columns(code: str, section: FeaturesSection) -> Iterator[Column]:
    longest = max(section.windows_days, key=lambda window: float("inf") if window == "all" else window)
    for window in section.windows_days:
        for aggregation in section.code:
            if aggregation != "time_since" or window == longest:
                name = f"{code}|{window_name(window)}|{aggregation}"
                yield Column(name, "code", code, aggregation, None if window == "all" else window)


def _allowed(counts: pl.DataFrame, codes: tuple[str, ...] | str, excluded: Sequence[str]) -> pl.DataFrame:
    chosen = counts if isinstance(codes, str) else counts.filter(code_matches(codes))
    return chosen.filter(~code_matches(excluded))


def _unit(units: pl.DataFrame, code: str, notes: list[str]) -> str | None:
    """The unit that most of a code's numbers have; a note says how many numbers have another one."""
    rows = units.filter(pl.col("code") == code).sort("numbers", "unit", descending=[True, False], nulls_last=True)
    unit, numbers = rows["unit"][0], rows["numbers"].to_list()
    others = sum(numbers[1:])
    if others:
        notes.append(
            f"{code}: {others} training numbers of {sum(numbers)} are left out, their unit is not"
            f" {unit or 'empty'}; convert them before"
        )
    return unit


def _described(columns: Sequence[Column], codes: pl.DataFrame) -> list[Column]:
    text = dict(codes.select("code", "description").iter_rows())
    return [dataclasses.replace(column, description=text.get(column.code) or "") for column in columns]
