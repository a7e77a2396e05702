"""A simulated hospital whose record is right, and faults planted in it at stated rates, with what was planted where.

The distributions are skewed, rounded as laboratories print them, mixed of the well and the ill, and repeat themselves
within patients; none of them was used to set the detectors' constants, which tests of their own do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from careloop.record import conform

DAY, MINUTE = 86_400_000_000, 60_000_000  # microseconds
FIRST, DAYS = 1_420_070_400_000_000, 1800  # 1 January 2015, and so many days of record
Values = Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]
Wrong = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Test:
    """A laboratory test: its values from (generator, patient's standard normal, visit's), and how it is mixed up."""

    code: str
    unit: str
    decimals: int
    values: Values
    wrong: Wrong | None
    wrong_decimals: int = 1


def _log(middle: float, own: float, visit: float) -> Values:
    """Log-normal: standard deviations of the logarithm between patients and between a patient's visits."""
    return lambda rng, p, v: middle * np.exp(own * p + visit * v)


def _plain(middle: float, own: float, visit: float) -> Values:
    return lambda rng, p, v: middle + own * p + visit * v


def _ill(well: Values, share: float, times: float) -> Values:
    """A share of patients, the same at every visit, has so many times the value."""
    return lambda rng, p, v: well(rng, p, v) * np.where(rng.random((len(p), 1)) < share, times, 1.0)


def _acute(well: Values, share: float, log_times: float) -> Values:
    """At a share of visits the value is multiplied, log-normally."""
    return lambda rng, p, v: (
        well(rng, p, v) * np.where(rng.random(v.shape) < share, np.exp(rng.normal(log_times, 0.5, v.shape)), 1.0)
    )


# Factors as conversion tables print them, not careloop's own.
TESTS = (
    Test("LOINC//2345-7", "mg/dL", 0, _ill(_log(98, 0.16, 0.14), 0.12, 1.8), lambda v: v / 18.02),
    Test("LOINC//2160-0", "mg/dL", 2, _ill(_log(0.9, 0.24, 0.10), 0.07, 3.5), lambda v: v * 88.4, 0),
    Test("LOINC//2093-3", "mg/dL", 0, _plain(195, 38, 16), lambda v: v / 38.67),
    Test("LOINC//2571-8", "mg/dL", 0, _log(125, 0.45, 0.22), lambda v: v / 88.57, 2),
    Test("LOINC//3084-1", "mg/dL", 1, _log(5.6, 0.22, 0.10), lambda v: v * 59.48, 0),
    # Its two units lie less than two spreads apart, which no detector here tells: not among what is planted.
    Test("LOINC//3094-0", "mg/dL", 0, _ill(_log(14, 0.28, 0.18), 0.07, 3.0), None),
    Test("LOINC//718-7", "g/dL", 1, _plain(13.6, 1.4, 0.7), lambda v: v * 10, 0),
    Test("LOINC//1751-7", "g/dL", 1, _plain(4.1, 0.32, 0.2), lambda v: v * 10, 0),
    Test("LOINC//17861-6", "mg/dL", 1, _plain(9.4, 0.35, 0.25), lambda v: v / 4.008, 2),
    Test("LOINC//1975-2", "mg/dL", 1, _log(0.6, 0.42, 0.22), lambda v: v * 17.1, 0),
    Test("LOINC//8310-5", "Cel", 1, _plain(36.9, 0.2, 0.45), lambda v: v * 1.8 + 32),
    Test("LOINC//29463-7", "kg", 1, _plain(79, 15, 1.6), lambda v: v * 2.2046),
    Test("LOINC//8302-2", "cm", 0, _plain(171, 9.5, 0.7), lambda v: v / 2.54),
    Test("LOINC//4548-4", "%", 1, _ill(_log(5.5, 0.07, 0.04), 0.12, 1.4), lambda v: (v - 2.152) / 0.09148, 0),
    # Without a mix-up: heavily skewed, narrow, and counted.
    Test("LOINC//1988-5", "mg/L", 1, _acute(_log(2.2, 0.7, 0.4), 0.12, 3.2), None),
    Test("LOINC//1742-6", "U/L", 0, _acute(_log(24, 0.45, 0.25), 0.05, 2.0), None),
    Test("LOINC//2823-3", "mmol/L", 1, _plain(4.2, 0.25, 0.3), None),
    Test("LOINC//777-3", "10*3/uL", 0, _log(245, 0.25, 0.12), None),
)
SENTINELS = (999.0, -1.0)


@dataclass(frozen=True)
class Rates:
    """Shares of the events a fault can befall: of values, or of events of patients of whom it can be said."""

    unit_mixup: float = 0.08
    sentinel: float = 0.015
    before_birth: float = 0.01
    after_death: float = 0.03
    known_early: float = 0.01
    before_order: float = 0.02


NOTHING = Rates(0, 0, 0, 0, 0, 0)


def hospital(seed: int, *, patients: int = 600, visits: int = 6) -> pl.DataFrame:
    """The right record, one event a row with columns of EVENTS; a fifth of the patients die after their last visit."""
    rng = np.random.default_rng(seed)
    # Two visits of a patient are at least eight days apart.
    days = np.sort(rng.integers(0, DAYS - 200 - 8 * visits, (patients, visits)), axis=1) + 8 * np.arange(visits)
    at = FIRST + days * DAY + rng.integers(420, 1080, (patients, visits)) * MINUTE
    subject = np.arange(patients) + 1
    parts = [_people(rng, subject, at)]
    for test in TESTS:
        value = test.values(rng, rng.normal(size=(patients, 1)), rng.normal(size=(patients, visits)))
        value = np.maximum(np.round(value, test.decimals), 10.0**-test.decimals)
        there = rng.random((patients, visits)) < 0.9
        when = (at + rng.integers(0, 90, at.shape) * MINUTE)[there]
        of = np.broadcast_to(subject[:, None], at.shape)[there]
        answers = _events(of, when, test.code, known=when + rng.integers(20, 1500, when.shape) * MINUTE)
        answers = answers.with_columns(numeric_value=pl.Series(value[there], dtype=pl.Float32), unit=pl.lit(test.unit))
        orders = _events(of, when - rng.integers(30, 6000, when.shape) * MINUTE, f"ORDER//{test.code}")
        parts += [answers, orders]
    for code, text in (("ICD10CM//I10", None), ("RXNORM//6809", "reported"), ("ICD10CM//E11.9", None)):
        there = rng.random(at.shape) < 0.4
        of = np.broadcast_to(subject[:, None], at.shape)[there]
        parts.append(_events(of, at[there], code).with_columns(text_value=pl.lit(text, dtype=pl.String)))
    events = pl.concat(parts, how="diagonal").with_columns(source=pl.format("HIS//events/{}", pl.int_range(pl.len())))
    return conform(events.with_columns(pl.col("time", "known_time").cast(pl.Datetime("us", "UTC"))))


def planted(right: pl.DataFrame, seed: int, rates: Rates) -> tuple[pl.DataFrame, dict[str, set[str]]]:
    """The record with faults, one an event at most, and the sources of the events of each."""
    rng = np.random.default_rng(seed)
    coded = pl.col("numeric_value").is_not_null()
    free, truth, events = right, {}, right
    wrong = {test.code: test for test in TESTS if test.wrong is not None}
    life = right.filter(pl.col("code") == "MEDS_BIRTH").select("subject_id", birth="time").join(
        right.filter(pl.col("code") == "MEDS_DEATH").select("subject_id", death="time"), on="subject_id", how="left"
    )  # fmt: skip
    lived = ~pl.col("code").str.starts_with("MEDS") & pl.col("time").is_not_null()
    ordered = ~pl.col("code").str.starts_with("ORDER//")
    can: Mapping[str, pl.Expr] = {
        "unit_mixup": pl.col("code").is_in(list(wrong)),
        "sentinel": coded,
        "before_birth": lived & ordered,
        "after_death": lived & ordered & pl.col("subject_id").is_in(life.drop_nulls("death")["subject_id"].implode()),
        "known_early": coded,
        "before_order": coded,
    }
    for fault, possible in can.items():
        open_ = free.filter(possible)
        chosen = open_.filter(pl.Series(rng.random(open_.height) < getattr(rates, fault), dtype=pl.Boolean))
        free = free.join(chosen.select("source"), on="source", how="anti", maintain_order="left")
        truth[fault] = set(chosen["source"])
        new = _faulty(chosen.join(life, on="subject_id", maintain_order="left"), fault, wrong, rng).select(
            right.columns
        )
        events = pl.concat([events.join(chosen.select("source"), on="source", how="anti"), new])
    return conform(events), truth


def _faulty(rows: pl.DataFrame, fault: str, wrong: Mapping[str, Test], rng: np.random.Generator) -> pl.DataFrame:
    n = rows.height
    apart = pl.Series(rng.integers(2 * DAY, 900 * DAY, n), dtype=pl.Int64).cast(pl.Duration("us"))
    if fault == "unit_mixup":
        values = [
            round(float(test.wrong(np.float64(value))), test.wrong_decimals)  # type: ignore[misc]
            for code, value in rows.select("code", "numeric_value").iter_rows()
            for test in [wrong[code]]
        ]
        return rows.with_columns(numeric_value=pl.Series(values, dtype=pl.Float32))
    if fault == "sentinel":
        values = rng.choice(SENTINELS, n)
        return rows.with_columns(numeric_value=pl.Series(values, dtype=pl.Float32))
    if fault == "known_early":
        return rows.with_columns(known_time=pl.col("time") - apart / 100)
    rows = rows.with_columns(lag=pl.col("known_time") - pl.col("time"))
    moved = {"before_birth": pl.col("birth") - apart, "after_death": pl.col("death") + apart / 2}
    # A result before its order, which was written up to four days before it: by five days to a month.
    time = moved.get(fault, pl.col("time") - (apart / 36 + pl.duration(days=6)))
    return rows.with_columns(time=time).with_columns(known_time=pl.col("time") + pl.col("lag"))


def _people(rng: np.random.Generator, subject: np.ndarray, at: np.ndarray) -> pl.DataFrame:
    birth = FIRST - rng.integers(25 * 365, 85 * 365, len(subject)) * DAY
    dies = rng.random(len(subject)) < 0.2
    death = at.max(axis=1) + rng.integers(1, 150, len(subject)) * DAY
    sexes = pl.DataFrame(
        {"subject_id": subject, "code": np.where(rng.random(len(subject)) < 0.5, "GENDER//F", "GENDER//M")}
    )
    return pl.concat(
        [_events(subject, birth, "MEDS_BIRTH"), _events(subject[dies], death[dies], "MEDS_DEATH"), sexes],
        how="diagonal",
    )


def _events(subject: np.ndarray, time: np.ndarray, code: str, *, known: np.ndarray | None = None) -> pl.DataFrame:
    known = time if known is None else known
    return pl.DataFrame({"subject_id": subject, "time": time, "known_time": known}).with_columns(code=pl.lit(code))
