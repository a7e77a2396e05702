"""Sketches of a record's distributions: small tables a shard that add up, from which population constants are drawn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from careloop.clean.faults.units import analytes, ucum
from careloop.clean.privacy.persons import age_years, known_by_then, with_persons
from careloop.record import CARELOOP

BIN = 0.01  # decades: bins of 2.3 %, finer than any two units that are confused
# A dose is what somebody chose, a bound ("<5") is no value: neither has a distribution to judge values by.
DRUGS = ("RXNORM", "ATC", "NDC", "CVX", "STOPPED")
GIVEN = ("ordered", "dispensed", "administered", "reported")
BOUNDS = ("<", "<=", ">", ">=")
# Body sizes are judged among people of like age: an infant's length in cm is an adult's height in inches.
GROWING = ("kg", "g", "[lb_av]", "[oz_av]", "cm", "m", "mm", "[in_i]", "[ft_i]")
BANDS_YEARS = (2, 18)
MAX_SITES = 100
LEVEL = ["code", "unit", "site", "band", "sign", "bin"]
PAIR = ["code", "unit", "bin"]


@dataclass(frozen=True)
class Sketch:
    """Counts that add up over shards; bounded by what is distinct, not by the number of events.

    `levels`: code, unit (as written), site, band (of age: 0, 1, 2; 2 where it does not matter), sign, bin
    (floor(log10|value| / BIN)), count, and the lowest and highest value of the bin.
    `pairs`: a subject's successive values of one code and unit: code, unit, bin (of log10 of their ratio, rounded),
    count, and how many were exactly equal. `months`: month (first day) and count of dated events.
    """

    levels: pl.DataFrame
    pairs: pl.DataFrame
    months: pl.DataFrame

    @property
    def units(self) -> pl.DataFrame:
        """code, unit and count."""
        return self.levels.group_by("code", "unit").agg(pl.col("count").sum())


def sketch(events: pl.DataFrame) -> Sketch:
    """Sketch the events (columns of `EVENTS`) of one shard."""
    rows = events.filter(is_measured()).with_columns(site=site(), value=pl.col("numeric_value").cast(pl.Float64()))
    rows = rows.with_columns(sign=pl.col("value").sign().cast(pl.Int8()), bin=level_bin(pl.col("value")))
    rows = rows.select("subject_id", "time", "known_time", "code", "unit", "site", "sign", "bin", "value")
    rows = with_band(rows, events)
    levels = (
        _few_sites(rows)
        .group_by(LEVEL)
        .agg(count=pl.len().cast(pl.Int64()), low=pl.col("value").min(), high=pl.col("value").max())
    )
    months = events.filter(pl.col("time").is_not_null() & ~pl.col("code").str.starts_with(CARELOOP))
    months = months.group_by(month=pl.col("time").dt.truncate("1mo")).agg(count=pl.len().cast(pl.Int64()))
    return Sketch(levels, _pairs(rows), months)


def merge(sketches: Iterable[Sketch]) -> Sketch:
    """Add sketches up, one after the other, so that only the sum and one more are in memory."""
    total: Sketch | None = None
    for part in sketches:
        total = part if total is None else _add(total, part)
    if total is None:
        raise ValueError("no sketches to merge")
    return Sketch(total.levels.sort(LEVEL), total.pairs.sort(PAIR), total.months.sort("month"))


def is_measured() -> pl.Expr:
    """True for numbers that were measured: neither doses nor bounds, nor careloop's own."""
    vocabulary = pl.col("code").str.splitn("//", 2).struct.field("field_0")
    text = pl.col("text_value")
    return (
        pl.col("numeric_value").is_not_null()
        & pl.col("time").is_not_null()
        & ~vocabulary.is_in(["CARELOOP", *DRUGS])
        & ~text.is_in([*GIVEN, *BOUNDS]).fill_null(False)
    )


def site() -> pl.Expr:
    """The system an event came from, as its source begins: `CSV//labs.csv` of `CSV//labs.csv//7`; else empty."""
    system = pl.col("source").str.extract(r"^([^/:=]+)(?://|:)", 1)
    part = pl.col("source").str.extract(r"^[^/:=]+//([^/:=]+)//", 1)
    return (system + pl.coalesce(pl.lit("//") + part, pl.lit(""))).fill_null("")


def level_bin(value: pl.Expr) -> pl.Expr:
    """The bin of a value, whatever its sign; 0 for zero."""
    return pl.when(value != 0).then((value.abs().log10() / BIN).floor()).otherwise(0).cast(pl.Int32())


def with_band(rows: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Add `band` of age, by the birth known by then, for codes that measure a body's size; 2 for all others."""
    pairs = rows.select("code", "unit").unique()
    sized = {code for code, analyte in analytes().items() if analyte.unit in GROWING}
    is_sized = [code in sized or (unit is not None and ucum(unit) in GROWING) for code, unit in pairs.iter_rows()]
    pairs = pairs.with_columns(is_sized=pl.Series(is_sized, dtype=pl.Boolean))
    rows = rows.join(pairs, on=["code", "unit"], how="left", nulls_equal=True, maintain_order="left")
    if not any(is_sized):
        return rows.drop("is_sized").with_columns(band=pl.lit(2, dtype=pl.Int8()))
    names = rows.drop("is_sized").columns
    rows = with_persons(rows, events)
    age = pl.when(known_by_then("birth") & pl.col("is_sized")).then(age_years())
    band = pl.when(age < BANDS_YEARS[0]).then(0).when(age < BANDS_YEARS[1]).then(1).otherwise(2)
    return rows.with_columns(band=band.cast(pl.Int8())).select(*names, "band")


def _pairs(rows: pl.DataFrame) -> pl.DataFrame:
    key = ["subject_id", "code", "unit"]
    rows = rows.filter(pl.col("sign") != 0).sort([*key, "time"], maintain_order=True)
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(1)) for name in [*key, "sign"])
    ratio = (pl.col("value") / pl.col("value").shift(1)).abs().log10()
    rows = rows.with_columns(ratio=pl.when(same).then(ratio)).filter(pl.col("ratio").is_not_null())
    rows = rows.with_columns(bin=(pl.col("ratio") / BIN).round().cast(pl.Int32()))
    return rows.group_by(PAIR).agg(count=pl.len().cast(pl.Int64()), equal=(pl.col("ratio") == 0).sum().cast(pl.Int64()))


def _add(a: Sketch, b: Sketch) -> Sketch:
    levels = (
        _few_sites(pl.concat([a.levels, b.levels]))
        .group_by(LEVEL)
        .agg(pl.col("count").sum(), pl.col("low").min(), pl.col("high").max())
    )
    pairs = pl.concat([a.pairs, b.pairs]).group_by(PAIR).agg(pl.col("count").sum(), pl.col("equal").sum())
    months = pl.concat([a.months, b.months]).group_by("month").agg(pl.col("count").sum())
    return Sketch(levels, pairs, months)


def _few_sites(rows: pl.DataFrame) -> pl.DataFrame:
    # So many names are no systems but rows: one distribution for all of them.
    return rows if rows["site"].n_unique() <= MAX_SITES else rows.with_columns(site=pl.lit(""))
