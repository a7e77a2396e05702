"""Cohort selection equals a slow reading of the contract, event by event in plain Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop.cohort import CohortSection
from careloop.cohort.eligibility import eligibility_rules, index_times
from careloop.cohort.labels import read_facts
from careloop.cohort.select import select_shard

DAY_0 = datetime(2020, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
CODES = (
    "INDEX", "OUT//1", "OUT//2", "OTHER", "CENSOR", "LAB", "ARM//A", "ARM//B", "MEDS_DEATH", "VISIT",
    "CARELOOP//PREDICTION//m",
)  # fmt: skip


@dataclass(frozen=True)
class Event:
    subject: int
    time: datetime | None
    known: datetime | None
    code: str
    value: float | None

    def row(self) -> tuple[Any, ...]:
        if self.time is None or self.known is None:
            return (self.subject, None, self.code, self.value)
        return (self.subject, (self.time - DAY_0) / DAY, self.code, self.value, (self.known - DAY_0) / DAY)


def has(event: Event, codes: Any) -> bool:
    wanted = [codes] if isinstance(codes, str) else codes
    return any(event.code.startswith(c[:-1]) if c.endswith("*") else event.code == c for c in wanted)


def known_by(events: list[Event], t: datetime) -> list[Event]:
    return [e for e in events if e.known is None or e.known <= t]


def index_days(events: list[Event], index: dict[str, Any]) -> list[datetime]:
    times = sorted({e.known for e in events if has(e, index["code"]) and e.known})
    if not times or index["which"] == "first":
        return times[:1]
    if index["which"] == "last":
        return times[-1:]
    if index.get("every_days"):
        stretches = {}
        for t in times:
            stretches.setdefault((t - times[0]) // (index["every_days"] * DAY), t)
        return list(stretches.values())
    return times


def birthday(birth: datetime, years: int) -> datetime:
    try:
        return birth.replace(year=birth.year + years)
    except ValueError:  # 29 February
        return birth.replace(year=birth.year + years, day=28)


def births(events: list[Event], t: datetime) -> list[datetime]:
    return [e.time for e in known_by(events, t) if e.code == "MEDS_BIRTH" and e.time and e.time <= t]


def meets(events: list[Event], t: datetime, criterion: dict[str, Any]) -> bool:
    count = 0
    for e in known_by(events, t):
        window, value = criterion.get("window_days"), criterion.get("value")
        inside = window is None or (e.time is not None and window[0] * DAY <= e.time - t <= window[1] * DAY)
        fits = value is None or (e.value is not None and value["min"] <= e.value <= value["max"])
        count += has(e, criterion["codes"]) and inside and fits
    return count >= criterion["at_least"]


def eligible(events: list[Event], t: datetime, rules: dict[str, Any]) -> list[bool]:
    """One answer for each step, in order."""
    answers = []
    if "age_years" in rules:
        born = births(events, t)
        answers.append(bool(born))
        youngest, oldest = rules["age_years"]["min"], rules["age_years"]["max"]
        answers.append(bool(born) and birthday(min(born), youngest) <= t < birthday(min(born), oldest + 1))
    if rules["history_days"]:
        counted = [e for e in known_by(events, t) if e.code != "MEDS_BIRTH" and not e.code.startswith("CARELOOP//")]
        seen = [e.known for e in counted if e.known]
        answers.append(bool(seen) and t - min(seen) >= rules["history_days"] * DAY)
    answers += [meets(events, t, c) for c in rules["require"]]
    answers += [not meets(events, t, c) for c in rules["exclude"]]
    return answers


def before(events: list[Event], t: datetime, codes: Any) -> bool:
    return any(e.time is None or e.time <= t or (e.known is not None and e.known <= t) for e in events if has(e, codes))


def label(events: list[Event], t: datetime, outcome: dict[str, Any]) -> tuple[bool | None, float, int]:
    """Walk through the future in order of time; at one time outcome before competing before censoring."""
    named = [*outcome["codes"], *outcome["competing"]]
    stops = [*outcome["censoring"]] + ([] if "MEDS_DEATH" in named else ["MEDS_DEATH"])
    future = []
    for e in events:
        for rank, codes in ((0, outcome["codes"]), (1, outcome["competing"]), (2, stops)):
            if e.time and e.time > t and has(e, codes):
                future.append((e.time, rank))
    ends = [e.time for e in events if e.time and not e.code.startswith("CARELOOP//")]
    last = max([t, *ends])
    when, rank = min([*future, (last, 2)])
    days = (when - t) / DAY
    if rank == 0:
        return days <= outcome["horizon_days"], days, 1
    if rank == 1:
        return False, days, 2
    return (False if days >= outcome["horizon_days"] else None), days, 0


def measure(events: list[Event], t: datetime, m: dict[str, Any]) -> float | None:
    found = []
    for e in events:
        if e.code == m["code"] and e.value is not None and e.time and e.known and e.time > t:
            off = abs((e.time - t) / DAY - m["at_days"])
            if off <= m["within_days"]:
                found.append((off, e.time, -(e.known - t), e.value))
    past = [e for e in known_by(events, t) if e.code == m["code"] and e.value is not None]
    if not found or not past:
        return None
    floor = datetime(1, 1, 1, tzinfo=UTC)
    baseline = max(past, key=lambda e: (e.time or floor, e.known or floor, -(e.value or 0)))
    return min(found)[3] - (baseline.value or 0)


def arms(events: list[Event], t: datetime, treatment: dict[str, Any]) -> set[str]:
    first, last = treatment["window_days"]
    inside = [e for e in events if e.time and first * DAY <= e.time - t <= last * DAY]
    return {name for name, code in treatment["arms"].items() for e in inside if e.code == code}


def reference(events: list[Event], section: dict[str, Any]) -> tuple[list[tuple[Any, ...]], list[int]]:
    """Rows of the cohort, and the number of rows after each step from the index event on."""
    rows, answers = [], []
    for subject in sorted({e.subject for e in events}):
        mine = [e for e in events if e.subject == subject]
        for t in index_days(mine, section["index"]):
            passed = eligible(mine, t, section["eligibility"])
            passed.append(not any(e.code == "MEDS_DEATH" and before([e], t, e.code) for e in mine))
            outcome = section["outcome"]
            passed.append(outcome["previous"] == "keep" or not before(mine, t, outcome["codes"]))
            given = arms(mine, t, section["treatment"])
            passed += [len(given) > 0, len(given) < 2]
            answers.append(passed)
            if all(passed):
                value, days, event = label(mine, t, outcome)
                change = measure(mine, t, section["measures"][0])
                rows.append((subject, t, value, days, event, next(iter(given)), change))
    steps = len(answers[0]) if answers else 0
    counts = [len(answers), *(sum(all(a[: i + 1]) for a in answers) for i in range(steps))]
    return rows, counts


days = st.integers(-3, 40)
delays = st.sampled_from([0, 0, 0, -2, 1, 5])


def event(subject: int, codes: tuple[str, ...], when: st.SearchStrategy[int] = days) -> st.SearchStrategy[Event]:
    def make(code: str, day: int, delay: int, value: float | None) -> Event:
        time = DAY_0 + day * DAY
        return Event(subject, time, time + delay * DAY, code, value)

    return st.builds(make, st.sampled_from(codes), when, delays, st.sampled_from([1.0, 2.0, 3.0, None]))


def static(subject: int) -> st.SearchStrategy[Event]:
    return st.builds(lambda code: Event(subject, None, None, code, 2.0), st.sampled_from(("LAB", "VISIT", "OUT//2")))


@st.composite
def birth(draw: st.DrawFn, subject: int) -> Event:
    """Between 15 and 20 years before; 29 February, and a birth that becomes known late, among them."""
    day = draw(st.dates(date(2000, 1, 1), date(2004, 12, 31)) | st.just(date(2004, 2, 29)))
    time = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return Event(subject, time, draw(st.sampled_from([time, time, DAY_0 + 12 * DAY])), "MEDS_BIRTH", None)


def one_subject(subject: int) -> st.SearchStrategy[list[Event]]:
    """Most have an index event, an arm and a birth, so that most examples end with rows."""
    parts = (
        st.lists(event(subject, ("INDEX",), st.integers(3, 15)), min_size=1, max_size=3),
        st.lists(event(subject, ("ARM//A",), st.integers(3, 15)), min_size=1, max_size=2),
        st.lists(event(subject, CODES), max_size=4),
        st.lists(event(subject, ("OUT//1", "OUT//2", "OTHER"), st.integers(15, 40)), max_size=2),
        st.lists(event(subject, ("LAB",)), min_size=2, max_size=6),
        st.lists(birth(subject), min_size=1, max_size=2),
        st.lists(static(subject), max_size=1),
    )
    return st.tuples(*parts).map(lambda lists: [e for part in lists for e in part])


histories = st.tuples(one_subject(1), one_subject(2), one_subject(3)).map(
    lambda lists: [e for part in lists for e in part]
)

criteria = st.builds(
    lambda code, at_least, window, value: {
        "codes": [code],
        "at_least": at_least,
        **({"window_days": sorted(window)} if window else {}),
        **({"value": {"min": min(value), "max": max(value)}} if value else {}),
    },
    st.sampled_from(["LAB", "VISIT", "OUT//*", "CARELOOP//*"]),
    st.integers(1, 2),
    st.none() | st.tuples(st.integers(-20, 0), st.integers(-20, 0)),
    st.none() | st.tuples(st.integers(1, 3), st.integers(1, 3)),
)

rules = st.builds(
    lambda ages, history, require, exclude: {
        "history_days": history,
        "require": require,
        "exclude": exclude,
        **({"age_years": {"min": min(ages), "max": max(ages)}} if ages else {}),
    },
    st.sampled_from([None, None, (0, 60), (16, 80), (15, 17)]),
    st.sampled_from([0, 0, 1, 5]),
    st.just([]) | st.lists(criteria, max_size=1),
    st.just([]) | st.lists(criteria, max_size=1),
)

sections = st.fixed_dictionaries(
    {
        "index": st.sampled_from(
            [
                {"code": "INDEX", "which": "first"},
                {"code": "INDEX", "which": "last"},
                {"code": "INDEX", "which": "every"},
                {"code": "INDEX", "which": "every", "every_days": 7},
            ]
        ),
        "eligibility": rules,
        "outcome": st.fixed_dictionaries(
            {
                "codes": st.sampled_from([["OUT//*"], ["OUT//1"], ["OUT//1", "MEDS_DEATH"]]),
                "horizon_days": st.integers(1, 30),
                "competing": st.sampled_from([[], ["OTHER"]]),
                "censoring": st.sampled_from([[], ["CENSOR"]]),
                "previous": st.sampled_from(["exclude", "keep"]),
            }
        ),
        "measures": st.fixed_dictionaries(
            {
                "name": st.just("lab"),
                "code": st.just("LAB"),
                "at_days": st.integers(1, 20),
                "within_days": st.integers(0, 15),
                "change_from_baseline_code": st.just("LAB"),
            }
        ).map(lambda one: [one]),
        "treatment": st.tuples(st.integers(-20, -5), st.integers(0, 20)).map(
            lambda window: {"arms": {"a": "ARM//A", "b": "ARM//B"}, "window_days": window}
        ),
    }
)


@settings(max_examples=80, deadline=None)
@given(events=histories, section=sections, death_competes=st.booleans())
def test_rows_and_counts_equal_the_reference(
    events_of: Callable[..., pl.DataFrame], events: list[Event], section: dict[str, Any], death_competes: bool
) -> None:
    if death_competes and "MEDS_DEATH" not in section["outcome"]["codes"]:
        section["outcome"]["competing"] = [*section["outcome"]["competing"], "MEDS_DEATH"]
    expected, counts = reference(events, section)
    frame = events_of([e.row() for e in events])
    got = select_shard(frame.lazy(), CohortSection.model_validate(section))
    columns = ["subject_id", "prediction_time", "boolean_value", "follow_up_days", "event", "treatment", "measure_lab"]
    assert got.rows.select(columns).rows() == expected
    assert [step.rows for step in got.flow[1:]] == counts


@settings(max_examples=40, deadline=None)
@given(past=histories, later=histories, section=sections, day=st.integers(5, 20), extra=criteria)
def test_what_becomes_known_later_never_changes_who_was_eligible(
    events_of: Callable[..., pl.DataFrame],
    past: list[Event],
    later: list[Event],
    section: dict[str, Any],
    day: int,
    extra: dict[str, Any],
) -> None:
    """All but `last`, which is documented to look ahead."""
    if section["index"]["which"] == "last":
        section["index"]["which"] = "every"
    rules_given = section["eligibility"]
    rules_given["exclude"] = [*rules_given["exclude"], extra]
    t = DAY_0 + day * DAY
    rules_of = CohortSection.model_validate(section)
    first = [e for e in past if e.known is None or e.known <= t]
    unseen = [e for e in later if e.known is not None and e.known > t]

    def eligible_by_then(events: list[Event]) -> list[tuple[Any, ...]]:
        facts = read_facts(events_of([e.row() for e in events]).lazy(), rules_of)
        keys = index_times(facts, rules_of.index)
        for rule in eligibility_rules(rules_of.eligibility):
            keys = rule.keep(facts, keys)
        return keys.filter(pl.col("prediction_time") <= t).sort("subject_id", "prediction_time").rows()

    assert eligible_by_then(first) == eligible_by_then([*first, *unseen])
