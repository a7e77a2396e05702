"""Time travel: results known before they could be or before their order, events outside of life or the calendar."""

from __future__ import annotations

import polars as pl

from careloop.clean.findings import findings, together
from careloop.clean.privacy.persons import with_persons
from careloop.clean.sketch import DRUGS, is_measured
from careloop.record import BIRTH, CARELOOP, DEATH

KNOWN_EARLY, BEFORE_ORDER, OFF_CALENDAR = "known_early", "before_order", "off_calendar"
BEFORE_BIRTH, AFTER_DEATH = "before_birth", "after_death"
# Times are often dates: the same day, in whatever time zone, is no contradiction.
DAY = pl.duration(days=1)
# What is about somebody else, or about a time that a patient does not live in.
OTHERS = ("FAMILY", "CARELOOP", "MEDS_BIRTH", "MEDS_DEATH")
# After death there are still reports, codes and the end of a visit; nobody is measured, medicated or admitted.
ENDS = ("VISIT_END", "DOCUMENT", "REPORT", "SPECIMEN", "IMAGING", "RESOLVED", "STOPPED")
GAP_MONTHS = 24  # without any event: what lies beyond it, with few events, is not on the record's calendar
FEW = 0.001
ORDER = "ORDER//"
MONTH = pl.duration(days=31)


def calendar(months: pl.DataFrame) -> tuple[pl.Expr, pl.Expr] | None:
    """Return the first and the last moment of the record's calendar, from a sketch's months; None without any.

    The calendar is what is left when, from either end, months are taken away that a gap of two years divides from the
    rest and that hold fewer than one in a thousand events: slips of the century, 1900-01-01, 2099-12-31.
    """
    rows = months.sort("month")
    dates, counts = rows["month"].to_list(), rows["count"].to_list()
    if not dates:
        return None
    total, first, last = sum(counts), 0, len(dates) - 1
    running = 0
    for i in range(len(dates) - 1):
        running += counts[i]
        if running > FEW * total:
            break
        if _months_between(dates[i], dates[i + 1]) > GAP_MONTHS:
            first = i + 1
    running = 0
    for i in range(len(dates) - 1, 0, -1):
        running += counts[i]
        if running > FEW * total:
            break
        if _months_between(dates[i - 1], dates[i]) > GAP_MONTHS:
            last = i - 1
    return pl.lit(dates[first]), pl.lit(dates[last]).dt.offset_by("1mo")


def find_known_early(events: pl.DataFrame) -> pl.DataFrame:
    """Measured values known before they were measured: known_time becomes time. A death foretold is flagged.

    A date without time of day stands for all of its day. Plans (orders, appointments) are rightly known before.
    """
    rows = events.filter(pl.col("known_time") < pl.col("time"))
    same_day = (pl.col("time").dt.time() == pl.time(0)) & (pl.col("known_time").dt.date() == pl.col("time").dt.date())
    rows = rows.filter(~same_day)
    values = rows.filter(is_measured() & ~_in(("VISIT_START", *DRUGS)))
    deaths = rows.filter(pl.col("code") == DEATH)
    changed = values.select("row", after_known_time="time", evident_time="time")
    return together([findings(changed, KNOWN_EARLY, "changed"), findings(deaths.select("row"), KNOWN_EARLY, "flagged")])


def find_outside_life(events: pl.DataFrame) -> pl.DataFrame:
    """Events more than a day before the birth or after the death of their subject, flagged from when both are known.

    Nothing says which of the two times is wrong, so neither is changed. Where day and month change places and the
    contradiction goes away, the swapped time is noted as `after_time`: a suggestion.
    """
    rows = events.filter(pl.col("time").is_not_null() & ~_in(OTHERS))
    rows = with_persons(rows.select("row", "subject_id", "time", "known_time", "code"), events)
    swapped = swap_day_and_month(pl.col("time"))
    early = rows.filter(pl.col("time") < pl.col("birth") - DAY).with_columns(
        evident_time=pl.max_horizontal("known_time", "birth_known"),
        after_time=pl.when((swapped >= pl.col("birth")) & (swapped <= pl.col("known_time"))).then(swapped),
    )
    late = rows.filter((pl.col("time") > pl.col("death") + DAY) & ~_in(ENDS)).with_columns(
        evident_time=pl.max_horizontal("known_time", "death_known"),
        after_time=pl.when((swapped <= pl.col("death")) & (swapped >= pl.col("birth"))).then(swapped),
    )
    columns = ("row", "evident_time", "after_time")
    return together(
        [
            findings(early.select(columns), BEFORE_BIRTH, "flagged"),
            findings(late.select(columns), AFTER_DEATH, "flagged"),
        ]
    )


def find_before_order(events: pl.DataFrame) -> pl.DataFrame:
    """Results and administrations more than a day before the order of the same code that they answer: flagged.

    An order is `ORDER//<code>`, or has the code itself and the text `ordered`. Events name no order of theirs, so this
    is asked only where a subject has had at least as many orders of a code as answers to them. The first answer within
    a month of an order is its own; found is another answer, where an order within the next 90 days has none of its own,
    from when that month is over. Orders are often written after an urgent dose or test, hence a day is allowed.
    """
    key = ["subject_id", "code"]
    rows = _orders_and_answers(events).with_columns(number=pl.col("is_order").cum_sum().over(key))
    order = [*key, "number"]
    since = pl.col("at") - pl.col("at").first().over(order)
    rows = rows.with_columns(
        fits=~pl.col("is_order") & (pl.col("number") > 0) & (pl.int_range(pl.len()).over(order) == 1) & (since <= MONTH)
    )
    # Of several answers that are nobody's, the last is nearest to the order that has none.
    left = rows.filter(~pl.col("is_order") & ~pl.col("fits")).unique(order, keep="last", maintain_order=True)
    enough = pl.col("number") * 2 >= pl.int_range(1, pl.len() + 1).over(key)
    spare = rows.filter(~pl.col("fits").any().over(order) & pl.col("is_order") & enough)
    evident = pl.max_horizontal("known_time", pl.col("time") + MONTH)
    spare = spare.select(*key, "time", order="row", evident_time=evident).sort("time", "order")
    late = left.select(*key, "time", "row").sort("time", "row")
    late = late.join_asof(spare, on="time", by=key, strategy="forward", tolerance="90d", check_sortedness=False)
    late = late.drop_nulls("order").unique("order", keep="last", maintain_order=True).sort("row")
    return findings(late.select("row", "evident_time"), BEFORE_ORDER, "flagged")


def _orders_and_answers(events: pl.DataFrame) -> pl.DataFrame:
    """Orders and what answers them, in order of `at`: an answer's is a day later, so that it may come before."""
    answers = pl.col("text_value").is_in(["administered", "dispensed"]).fill_null(False) | is_measured()
    rows = events.filter(pl.col("time").is_not_null() & ~_in(OTHERS)).with_columns(is_order=is_order())
    ordered = rows.filter("is_order").select(pl.col("code").str.strip_prefix(ORDER)).to_series().unique()
    rows = rows.filter(pl.col("is_order") | (pl.col("code").is_in(ordered.implode()) & answers))
    rows = rows.with_columns(pl.col("code").str.strip_prefix(ORDER))
    rows = rows.with_columns(at=pl.col("time") + pl.when("is_order").then(pl.duration()).otherwise(DAY))
    return rows.sort("subject_id", "code", "at", "row")


def find_off_calendar(events: pl.DataFrame, months: pl.DataFrame) -> pl.DataFrame:
    """Events in a time from which the record has hardly any (`calendar`): far future, 1900-01-01."""
    span = calendar(months)
    if span is None:
        return together([])
    outside = (pl.col("time") < span[0]) | (pl.col("time") >= span[1])
    # Old people's births lie alone before the calendar, rightly.
    born = (pl.col("code") == BIRTH) & (pl.col("time") < span[1])
    rows = events.filter(outside & ~born & ~pl.col("code").str.starts_with(CARELOOP))
    return findings(rows.select("row"), OFF_CALENDAR, "flagged")


def is_order() -> pl.Expr:
    """True for orders: of tests by their code's role, of drugs by their text."""
    return pl.col("code").str.starts_with(ORDER) | pl.col("text_value").eq_missing("ordered")


def swap_day_and_month(time: pl.Expr) -> pl.Expr:
    """The time with day and month exchanged; null where that is no date or the same one."""
    day, month = time.dt.day(), time.dt.month()
    possible = (day <= 12) & (day != month)
    date = pl.date(time.dt.year(), pl.when(possible).then(day).otherwise(1), pl.when(possible).then(month).otherwise(1))
    clock = (time - time.dt.truncate("1d")).cast(pl.Duration("us"))
    swapped = date.cast(pl.Datetime("us")).dt.replace_time_zone("UTC") + clock
    return pl.when(possible).then(swapped)


def _in(vocabularies: tuple[str, ...]) -> pl.Expr:
    return pl.col("code").str.splitn("//", 2).struct.field("field_0").is_in(vocabularies)


def _months_between(first: object, second: object) -> int:
    a, b = pl.Series([first]).dt, pl.Series([second]).dt
    return int((b.year()[0] - a.year()[0]) * 12 + b.month()[0] - a.month()[0])
