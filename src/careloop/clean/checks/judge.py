"""From a whole record's counts to pass or fail of each check, of its codes, kinds and feeds; and the overview."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from careloop.clean.checks.codes import KINDS, facts_of
from careloop.clean.checks.definitions import CHECKS, Check
from careloop.clean.checks.results import (
    AgeCount,
    Cell,
    CheckResult,
    CodeCount,
    Example,
    Overview,
    Part,
    Status,
    YearCount,
)
from careloop.clean.checks.tally import EXAMPLES, Tally
from careloop.clean.checks.volume import Feed

MAX_PARTS = 200  # codes listed a check; the report says how many more there are
FREQUENT = 30
# Last digits of integers are spread evenly once values vary by more than half a ten.
LEAST_SPREAD = 5.0
LEAST_INTEGERS = 0.9  # of a code's values
ALL_TENS = 0.99  # a scale that has only tens (Karnofsky) is not rounded
NAMED = 3
RARE = "rare codes together"
STATUS_ORDER = {"fail": 0, "pass": 1, "not applicable": 2}


@dataclass(frozen=True)
class Judging:
    """What judging needs beside the counts: descriptions of codes, notes by check and part, thresholds, fewest rows."""

    descriptions: Mapping[str, str]
    notes: Mapping[tuple[str, str], str]
    thresholds: Mapping[str, float]
    minimum_rows: int

    def status(self, check: Check, checked: int, violated: int) -> Status:
        """Fail above the threshold; too few rows are not judged, except where one violation is one too many."""
        threshold = self.thresholds.get(check.id, check.threshold)
        if checked < (self.minimum_rows if threshold > 0 else 1):
            return "not applicable"
        return "fail" if violated > threshold * checked else "pass"


def derived_counts(tally: Tally, judging: Judging) -> pl.DataFrame:
    """Return counts of the checks that follow from what all shards say together, with the columns of `Tally.counts`."""
    return pl.concat([_digits(tally), _undescribed(tally, judging)])


def judge(tally: Tally, feeds: Sequence[Feed], judging: Judging) -> tuple[list[CheckResult], list[Cell]]:
    """Return all checks' results, failures first, and the pass rates by subcategory and kind of facts."""
    counts = tally.counts
    results, cells = [], []
    for check in CHECKS:
        rows = counts.filter(check=check.id)
        if check.counted == "patients":
            result, judged = _by_patient(check, tally, judging)
        elif check.by == "feed":
            result, judged = _by_feed(check, feeds, judging)
        else:
            result, judged = _by_rows(check, rows, tally, judging)
        results.append(result)
        cells += [(check, kind, status) for kind, status in judged]
    results.sort(key=_severity)
    return results, _cells(cells)


def overview(tally: Tally, feeds: Sequence[Feed], judging: Judging, *, own_events: int) -> Overview:
    """Return what is in the record."""
    events, patients, first, last = tally.totals.row(0)
    clock = tally.clock.filter(pl.col("kind") != "persons").with_columns(hour=pl.col("minute") // 60)
    by_hour = {(day, hour): n for day, hour, n in clock.group_by("weekday", "hour").agg(pl.col("events").sum()).rows()}
    return Overview(
        patients=patients,
        events=events,
        own_events=own_events,
        codes=tally.values["code"].n_unique(),
        first=first,
        last=last,
        years=tuple(YearCount(*row) for row in tally.years.rows()),
        ages=tuple(AgeCount(*row) for row in tally.ages.sort("sex", "age", nulls_last=True).rows()),
        frequent=_frequent(tally, judging),
        feeds=tuple(feeds),
        clock=tuple(tuple(by_hour.get((day, hour), 0) for hour in range(24)) for day in range(1, 8)),
    )


def _by_rows(
    check: Check, rows: pl.DataFrame, tally: Tally, judging: Judging
) -> tuple[CheckResult, list[tuple[str, Status]]]:
    checked, violated = (int(rows[name].sum()) for name in ("checked", "violated"))
    patients = dict(tally.patients.rows()).get(check.id, 0 if not violated else None)
    key = {"code": "code", "kind": "kind"}.get(check.by)
    kinds = rows.group_by("kind").agg(pl.col("checked", "violated").sum()).sort("kind")
    by_kind = [(kind, judging.status(check, c, v)) for kind, c, v in kinds.rows()]
    shown = _examples(check, tally)
    if key is None:
        status = judging.status(check, checked, violated)
        whole = tuple(
            sorted((e for es in shown.values() for e in es), key=lambda e: (e.time is None, str(e.time), e.code))[
                :EXAMPLES
            ]
        )
        parts = _parts(check, rows, shown, judging, "code") if check.id in {"vocabulary_known"} else ([], [])
        return _result(check, judging, (checked, violated, patients), status, whole, parts=parts[0]), by_kind
    parts_all, judged = _parts(check, rows, shown, judging, key)
    status = _worst([status for _, status in judged])
    whole = tuple(example for part in parts_all for example in part.examples)[:EXAMPLES]
    result = _result(check, judging, (checked, violated, patients), status, whole, parts=parts_all, judged=judged)
    return result, (judged if key == "code" else by_kind)


def _parts(
    check: Check, rows: pl.DataFrame, shown: Mapping[str, list[Example]], judging: Judging, key: str
) -> tuple[list[Part], list[tuple[str, Status]]]:
    """Return the parts with violations, worst first, and kind and status of every part that was asked."""
    threshold = judging.thresholds.get(check.id, check.threshold)
    by = (
        rows.group_by(key)
        .agg(pl.col("checked", "violated", "patients").sum(), at=pl.col("kind").sort_by("checked", "kind").last())
        .sort(key)
    )
    parts, judged = [], []
    if key == "code" and threshold > 0:
        few = by.filter(pl.col("checked") < judging.minimum_rows)
        by = by.filter(pl.col("checked") >= judging.minimum_rows)
        if few.height:
            pooled = few.select(pl.col("checked", "violated", "patients").sum())
            # Patients of several codes may be the same ones, so their sum says nothing.
            row = (RARE, *pooled.row(0)[:2], None, "other")
            by_rows = [*by.rows(), row]
        else:
            by_rows = by.rows()
    else:
        by_rows = by.rows()
    for name, checked, violated, patients, kind in by_rows:
        status = judging.status(check, checked, violated)
        judged.append((kind, status))
        if violated:
            examples = _of_part(name, key, rows, shown)
            parts.append(
                Part(
                    name,
                    judging.descriptions.get(name),
                    checked,
                    violated,
                    None if key == "kind" else patients or None,
                    status,
                    judging.notes.get((check.id, name), "") or _codes_of(name, key, rows),
                    tuple(examples),
                )
            )
    parts.sort(key=lambda part: (STATUS_ORDER[part.status], -part.violated, part.name))
    return parts, judged


def _codes_of(name: str, key: str, rows: pl.DataFrame) -> str:
    """The codes with most violations of a kind of facts."""
    if key != "kind":
        return ""
    bad = rows.filter(pl.col("kind") == name, pl.col("violated") > 0).group_by("code").agg(pl.col("violated").sum())
    codes = bad.sort(-pl.col("violated"), "code")["code"].to_list()
    return ("mostly " if len(codes) > NAMED else "") + ", ".join(codes[:NAMED])


def _of_part(name: str, key: str, rows: pl.DataFrame, shown: Mapping[str, list[Example]]) -> list[Example]:
    if key == "code":
        return shown.get(name, [])
    codes = rows.filter(pl.col("kind") == name, pl.col("violated") > 0).sort(-pl.col("violated"), "code")["code"]
    ranked = [(place, i, example) for i, code in enumerate(codes) for place, example in enumerate(shown.get(code, []))]
    return [example for *_, example in sorted(ranked, key=lambda item: item[:2])][:EXAMPLES]


def _by_patient(check: Check, tally: Tally, judging: Judging) -> tuple[CheckResult, list[tuple[str, Status]]]:
    found = tally.subjects.filter(check=check.id)
    checked, violated = found.select("checked", "violated").row(0) if found.height else (0, 0)
    status = judging.status(check, checked, violated)
    whole = tuple(_examples(check, tally).get("", []))
    return _result(check, judging, (checked, violated, violated), status, whole), [("persons", status)]


def _by_feed(check: Check, feeds: Sequence[Feed], judging: Judging) -> tuple[CheckResult, list[tuple[str, Status]]]:
    parts, judged = [], []
    for feed in feeds:
        low = sum(drop.months for drop in feed.drops)
        status = judging.status(check, feed.judged, low)
        judged.append((_kind_of(feed.vocabulary), status))
        if low:
            note = "; ".join(
                f"{_span(drop.first, drop.last)}: {drop.level:,.0f} a month, usually {drop.usual:,.0f}"
                for drop in feed.drops
            )
            parts.append(Part(feed.title, None, feed.judged, low, None, status, note, ()))
    parts.sort(key=lambda part: (STATUS_ORDER[part.status], -part.violated, part.name))
    total = (sum(feed.judged for feed in feeds), sum(part.violated for part in parts), None)
    status = _worst([status for _, status in judged])
    return _result(check, judging, total, status, (), parts=parts, judged=judged), judged


def _result(
    check: Check,
    judging: Judging,
    counts: tuple[int, int, int | None],
    status: Status,
    examples: tuple[Example, ...],
    *,
    parts: Sequence[Part] = (),
    judged: Sequence[tuple[str, Status]] = (),
) -> CheckResult:
    checked, violated, patients = counts
    reason = ""
    if status == "not applicable":
        unit = check.counted
        reason = f"no {unit} to check" if not checked else f"too few {unit}: {checked} of {judging.minimum_rows} needed"
    return CheckResult(
        check=check,
        threshold=judging.thresholds.get(check.id, check.threshold),
        checked=checked,
        violated=violated,
        patients=patients,
        status=status,
        reason=reason,
        examples=examples,
        parts=tuple(parts[:MAX_PARTS]),
        parts_checked=sum(status != "not applicable" for _, status in judged),
        parts_failed=sum(status == "fail" for _, status in judged),
        parts_left_out=max(len(parts) - MAX_PARTS, 0),
    )


def _worst(statuses: Iterable[Status]) -> Status:
    return min(statuses, key=STATUS_ORDER.__getitem__, default="not applicable")


def _severity(result: CheckResult) -> tuple[Any, ...]:
    worst = max([part.share or 0.0 for part in result.parts if part.status == "fail"], default=result.share or 0.0)
    order = [check.id for check in CHECKS].index(result.check.id)
    return (
        STATUS_ORDER[result.status],
        result.check.urgency if result.status == "fail" else 0,
        -worst * (result.status == "fail"),
        order,
    )


def _cells(judged: Sequence[tuple[Check, str, Status]]) -> list[Cell]:
    table: dict[tuple[str, str, str], list[int]] = {}
    for check, kind, status in judged:
        passed, asked = table.setdefault((check.category, check.subcategory, kind), [0, 0])
        if status != "not applicable":
            table[check.category, check.subcategory, kind] = [passed + (status == "pass"), asked + 1]
    order: list[tuple[str, ...]] = list(dict.fromkeys((check.category, check.subcategory) for check in CHECKS))
    return [
        Cell(*key, *counts)
        for key, counts in sorted(table.items(), key=lambda item: (order.index(item[0][:2]), KINDS.index(item[0][2])))
    ]


def _examples(check: Check, tally: Tally) -> dict[str, list[Example]]:
    """Examples by code, in order of time; text only where the check is about text that is a number."""
    rows = tally.examples.filter(check=check.id).sort("code", "time", "known_time", "source", "order")
    shown: dict[str, list[Example]] = {}
    for row in rows.iter_rows(named=True):
        value = row["text_value"] if check.id == "number_as_text" else row["numeric_value"]
        example = Example(row["code"], row["time"], row["known_time"], value, row["unit"], row["source"])
        shown.setdefault(row["code"], []).append(example)
    return shown


def _digits(tally: Tally) -> pl.DataFrame:
    """Estimated numbers of values rounded to tens: if a share p is, p + (1 - p) / 10 of all end in 0."""
    n = pl.col("integers")
    spread = (pl.col("squares").cast(pl.Float64) / n - (pl.col("total") / n) ** 2).sqrt()
    rows = tally.values.filter(
        (n >= LEAST_INTEGERS * pl.col("numeric")) & (n > 0) & (spread >= LEAST_SPREAD) & (pl.col("tens") < ALL_TENS * n)
    )
    rounded = ((pl.col("tens") - n / 10) / 0.9).clip(0).round().cast(pl.Int64)
    return _as_counts(rows.select("code", "kind", checked=n, violated=rounded), "digit_preference")


def _undescribed(tally: Tally, judging: Judging) -> pl.DataFrame:
    coded = [code for code in tally.values["code"].unique() if facts_of(code).standard is not None]
    rows = tally.values.filter(pl.col("code").is_in(coded))
    described = pl.col("code").is_in(list(judging.descriptions))
    counts = rows.select("code", "kind", checked="events", violated=pl.when(described).then(0).otherwise("events"))
    return _as_counts(counts, "code_described")


def _as_counts(rows: pl.DataFrame, check: str) -> pl.DataFrame:
    return rows.select(
        pl.lit(check).alias("check"),
        "code",
        "kind",
        pl.col("checked").cast(pl.Int64),
        pl.col("violated").cast(pl.Int64),
        # Estimated numbers and numbers of codes have no patients.
        pl.lit(None, dtype=pl.Int64).alias("patients"),
    )


def _frequent(tally: Tally, judging: Judging) -> tuple[CodeCount, ...]:
    rows = tally.values.group_by("code").agg(
        pl.col("kind").sort_by("events", "kind").last(), pl.col("events", "patients", "numeric", "yes_or_no").sum()
    )
    units = tally.units.group_by("code", "unit").agg(pl.col("events").sum()).sort("code", -pl.col("events"), "unit")
    found = []
    for row in rows.sort(-pl.col("events"), "code").head(FREQUENT).iter_rows(named=True):
        named = [(unit, n) for _, unit, n in units.filter(code=row["code"]).rows()]
        found.append(
            CodeCount(
                row["code"],
                judging.descriptions.get(row["code"]),
                row["kind"],
                row["events"],
                row["patients"],
                row["numeric"],
                tuple((unit, n) for unit, n in named if unit is not None),
                # Answers of 0 or 1 need no unit.
                0 if row["yes_or_no"] == row["numeric"] else sum(n for unit, n in named if unit is None),
            )
        )
    return tuple(found)


def _kind_of(vocabulary: str) -> str:
    return facts_of(f"{vocabulary}//0").kind


def _span(first: Any, last: Any) -> str:
    return f"{first:%Y-%m}" if first == last else f"{first:%Y-%m} to {last:%Y-%m}"
