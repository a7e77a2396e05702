"""Unit mix-ups: values a meaningful factor away from their code's distribution, and from the patient's other values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from careloop.clean.faults.separation import (
    LEAST,
    Alternative,
    Component,
    Histogram,
    components,
    density,
    normal_density,
    spread_within,
    to_log,
)
from careloop.clean.faults.units import Conversion, analytes, conversion
from careloop.clean.findings import FINDINGS, findings, together
from careloop.clean.sketch import BIN, Sketch, is_measured, site, with_band

RULE = "unit_mixup"
CORRECTED, FLAGGED = 0.99, 0.5  # posterior probability from which a value is corrected, or pointed out
# Units by which a quantity may be recorded without saying so; those of another dimension fall away by themselves.
UNITS = (
    "g/dL", "g/L", "mg/dL", "mg/L", "ug/dL", "ug/L", "ng/dL", "ng/L", "mmol/L", "umol/L", "nmol/L", "pmol/L", "meq/L",
    "mg/g", "mg/mmol", "mmol/mol", "%", "1", "kg", "g", "[lb_av]", "[oz_av]", "m", "cm", "mm", "[in_i]", "[ft_i]",
    "Cel", "[degF]", "K", "mm[Hg]", "kPa", "cm[H2O]", "10*9/L", "10*6/uL", "/uL", "U/L", "ukat/L", "nkat/L",
    "m[IU]/L", "u[IU]/L", "s", "min", "h", "d", "mo", "a", "mL/min", "mL/s",
)  # fmt: skip
SLIPS = (10.0, 100.0, 1000.0)
NEAREST, FARTHEST = 0.15, 4.5  # decades: closer factors cannot be told from scatter, farther ones are no slip
RECENT = 5  # earlier values of a patient whose median says where the next one is expected
AFTERWARDS = 3  # later values that may still show that one was mixed up
JUMPING = 0.05  # weight of a value that is drawn from all patients' instead: this one has changed


@dataclass(frozen=True)
class Mixture:
    """The distribution of one code and unit (and age band), with the parts that were recorded otherwise.

    `base` is the density of log10 of the true values, `within` the spread of one patient's values in log10 (None where
    patients have but one), `shares` the share of each part by site.
    """

    code: str
    unit: str
    band: int
    base: Histogram
    within: float | None
    parts: tuple[Component, ...]
    shares: tuple[Mapping[str, float], ...]


def alternatives(code: str, unit: str) -> list[Alternative]:
    """Return the ways in which a value of `unit` may have been recorded, each conversion once, units first."""
    found: list[Alternative] = []
    pairs = [(name, conversion(unit, name, analytes().get(code)), True) for name in UNITS]
    for factor in SLIPS:
        pairs += [(f"{factor:g} times", Conversion(factor), False), (f"1/{factor:g}", Conversion(1 / factor), False)]
    for name, converts, is_unit in pairs:
        if converts is None or converts.scale <= 0:
            continue
        if not converts.offset and not NEAREST <= abs(math.log10(converts.scale)) <= FARTHEST:
            continue
        if any(_alike(converts, other.to_recorded) for other in found):
            continue
        found.append(Alternative(name, converts, is_unit))
    return found


def find_mixtures(
    whole: Sketch, canonical: Mapping[str, str], table: pl.DataFrame, sentinels: pl.DataFrame
) -> list[Mixture]:
    """Return the codes whose values are a mixture of units.

    Args:
        whole: the sketch of the whole record, before cleaning.
        canonical: the unit of each code; values without a unit are taken to be in it.
        table: conversions of units as written (`unit_table`).
        sentinels: code, unit and value of sentinels, which belong to no distribution.
    """
    levels = _converted(_without_sentinels(whole.levels.filter(pl.col("sign") > 0), sentinels), canonical, table)
    pairs = _labelled(whole.pairs, canonical, table)
    mixtures = []
    ratios = {
        key: Histogram.of(rows["bin"].to_numpy(), rows["count"].to_numpy(), offset=-0.5)
        for key, rows in pairs.partition_by("code", "into", as_dict=True).items()
    }
    for (code, unit, band), rows in levels.partition_by("code", "into", "band", as_dict=True).items():
        if rows["count"].sum() >= LEAST:
            mixture = _mixture(code, unit, band, rows, ratios.get((code, unit)))
            mixtures += [mixture] if mixture else []
    return sorted(mixtures, key=lambda mixture: (mixture.code, mixture.unit, mixture.band))


def find_mixups(events: pl.DataFrame, mixtures: Sequence[Mixture], canonical: Mapping[str, str]) -> pl.DataFrame:
    """Return findings of rule `unit_mixup`: values corrected where the posterior is clear, else flagged.

    A value is judged by the distribution of all (population constants) and by the same patient's values known before;
    what only later values show is flagged from when they became known, and never changed.
    """
    if not mixtures:
        return FINDINGS.to_frame()
    codes = sorted({mixture.code for mixture in mixtures})
    rows = events.filter(pl.col("code").is_in(codes) & is_measured() & (pl.col("numeric_value") > 0))
    units = pl.col("code").replace_strict(canonical, default=None, return_dtype=pl.String())
    rows = rows.with_columns(site=_site(), into=pl.coalesce("unit", units))
    rows = with_band(rows, events).with_columns(x=pl.col("numeric_value").cast(pl.Float64()).log10())
    rows = rows.sort("subject_id", "known_time", "time", "row")
    parts = []
    for mixture in mixtures:
        judged = rows.filter(code=mixture.code, into=mixture.unit, band=mixture.band)
        parts.append(_judge(judged, mixture))
    return together(parts)


def _alike(a: Conversion, b: Conversion) -> bool:
    return abs(a.scale / b.scale - 1) < 1e-6 and abs(a.offset - b.offset) < 1e-6


def _site() -> pl.Expr:
    # Values that came without a unit are a group of their own: there the unit is most often another one.
    return pl.when(pl.col("unit").is_null()).then(site() + "//no unit").otherwise(site())


def _without_sentinels(levels: pl.DataFrame, sentinels: pl.DataFrame) -> pl.DataFrame:
    points = sentinels.select("code", "unit", low="value", high="value")
    return levels.join(points, on=["code", "unit", "low", "high"], how="anti", nulls_equal=True)


def _labelled(rows: pl.DataFrame, canonical: Mapping[str, str], table: pl.DataFrame) -> pl.DataFrame:
    """Add the unit that values have after conversion (`into`), and `scale` and `offset`."""
    units = pl.col("code").replace_strict(canonical, default=None, return_dtype=pl.String())
    rows = rows.join(table.filter(pl.col("scale").is_not_null()), on=["code", "unit"], how="left")
    return rows.with_columns(into=pl.coalesce("into", "unit", units)).filter(pl.col("into").is_not_null())


def _converted(levels: pl.DataFrame, canonical: Mapping[str, str], table: pl.DataFrame) -> pl.DataFrame:
    rows = _labelled(levels, canonical, table)
    value = (10.0 ** ((pl.col("bin") + 0.5) * BIN)) * pl.col("scale") + pl.col("offset")
    moved = pl.when(pl.col("scale").is_not_null()).then((value.log10() / BIN).floor()).otherwise(pl.col("bin"))
    site_name = pl.when(pl.col("unit").is_null()).then(pl.col("site") + "//no unit").otherwise("site")
    rows = rows.with_columns(site=site_name, bin=moved).filter(pl.col("bin").is_finite())
    rows = rows.with_columns(pl.col("bin").cast(pl.Int32()))
    return rows.group_by("code", "into", "band", "site", "bin").agg(pl.col("count").sum()).sort(pl.all())


def _mixture(code: str, unit: str, band: int, rows: pl.DataFrame, ratios: Histogram | None) -> Mixture | None:
    levels = Histogram.of(rows["bin"].to_numpy(), rows["count"].to_numpy())
    parts = components(levels, ratios, alternatives(code, unit))
    if not parts:
        return None
    by_site = {
        str(name): Histogram.of(part["bin"].to_numpy(), part["count"].to_numpy())
        for (name,), part in rows.partition_by("site", as_dict=True).items()
    }
    shares = [{name: _share(histogram, part) for name, histogram in by_site.items()} for part in parts]
    within = None if ratios is None or ratios.total < LEAST else spread_within(ratios)
    sure = tuple(_by_site(part, share, by_site) for part, share in zip(parts, shares, strict=True))
    return Mixture(code, unit, band, density(levels, parts), within, sure, tuple(shares))


def _share(levels: Histogram, part: Component) -> float:
    """The component's share at one site, drawn to the whole record's where the site has few values."""
    if math.isnan(part.border):
        return part.share
    there = levels.counts[(levels.at > part.border) == part.high_side].sum()
    return float((there + 2 * part.share) / (levels.total + 2))


def _by_site(part: Component, shares: Mapping[str, float], by_site: Mapping[str, Histogram]) -> Component:
    """A component that is all of one site's values and none of another's is that site's unit, whatever patients do."""
    large = [share for name, share in shares.items() if by_site[name].total >= LEAST / 4]
    explains = len(large) > 1 and max(large) > 0.9 and min(large) < 0.1
    return replace(part, is_sure=True) if explains else part


def _judge(rows: pl.DataFrame, mixture: Mixture) -> pl.DataFrame:
    if rows.is_empty():
        return FINDINGS.to_frame()
    x, sites = rows["x"].to_numpy(), rows["site"].to_list()
    earlier = _others(rows)
    likelihood, prior = [_likelihood(x, earlier, mixture)], [np.ones(len(x))]
    for part, shares in zip(mixture.parts, mixture.shares, strict=True):
        back = part.alternative.to_recorded.inverse
        true = to_log(back, x)
        # Density of the recorded logarithm: of the true one, times how much closer together the conversion puts them.
        slope = 10.0**x * back.scale / 10.0**true
        likelihood.append(np.nan_to_num(slope * _likelihood(true, earlier, mixture)))
        prior.append(np.array([shares.get(name, part.share) for name in sites]))
    prior[0] = np.clip(1 - sum(prior[1:]), 1e-3, 1)
    weight = np.stack(prior) * np.stack(likelihood)
    posterior = weight / weight.sum(axis=0)
    best = posterior[1:].argmax(axis=0)
    judged = [_found(rows, part, best == i, posterior[i + 1]) for i, part in enumerate(mixture.parts)]
    return together([*judged, *_judge_later(rows, mixture, weight, posterior[0] > 1 - FLAGGED)])


def _judge_later(rows: pl.DataFrame, mixture: Mixture, weight: np.ndarray, undecided: np.ndarray) -> list[pl.DataFrame]:
    """Findings of values that only the subject's later ones show to be mixed up, each from the first that does so.

    The next few values are taken one by one, so that a note, once known, does not depend on what comes after it.
    """
    if mixture.within is None:
        return []
    x, found = rows["x"].to_numpy(), []
    true = [x, *(to_log(part.alternative.to_recorded.inverse, x) for part in mixture.parts)]
    for count in range(1, AFTERWARDS + 1):
        later = _others(rows.reverse(), count).reverse()
        beside = [np.nan_to_num(_compared(values, later, mixture), nan=1.0) for values in true]
        afterwards = weight * np.stack(beside)
        afterwards = afterwards / afterwards.sum(axis=0)
        enough = later["count"].to_numpy() >= count
        shown = undecided & enough & (afterwards[0] <= 1 - FLAGGED)
        likeliest = afterwards[1:].argmax(axis=0)
        found += [_found_later(rows, later, part, shown & (likeliest == i)) for i, part in enumerate(mixture.parts)]
        undecided = undecided & ~shown
    return found


def _others(rows: pl.DataFrame, most: int = RECENT) -> pl.DataFrame:
    """The `most` values of a subject in the rows before: `middle`, `count`, `until`: the last time one was known.

    The middle is the lower of two middle values: between them lies neither what was measured nor what was recorded.
    """
    others = pl.col("x").shift(1).rolling_quantile(0.5, "lower", most, min_samples=1).over("subject_id")
    known = pl.col("known_time").dt.epoch("us").shift(1).rolling_max(most, min_samples=1).over("subject_id")
    count = pl.int_range(pl.len()).over("subject_id").clip(upper_bound=most)
    return rows.select(middle=others, count=count, until=known.cast(rows.schema["known_time"]))


def _compared(true: np.ndarray, others: pl.DataFrame, mixture: Mixture) -> np.ndarray:
    """How much likelier a value is beside the same subject's others than in all patients; 1 where there are none."""
    alone = others["count"].to_numpy() == 0
    return np.where(alone, 1.0, _likelihood(true, others, mixture) / _at(mixture.base, true))


def _likelihood(true: np.ndarray, others: pl.DataFrame, mixture: Mixture) -> np.ndarray:
    """Density of the true value, given all patients' and what this patient's other recorded values were (`_others`)."""
    population = _at(mixture.base, true)
    if mixture.within is None:
        return population
    expected = others["middle"].fill_null(np.nan).to_numpy()
    count = np.maximum(others["count"].to_numpy(), 1)
    spread = mixture.within * np.sqrt(1 + 1 / count)
    near = (1 - JUMPING) * normal_density(true - expected, scale=spread) + JUMPING * population
    # The other values may be mixed up themselves: then the patient is where the conversion back puts them.
    clear = _at(mixture.base, expected)
    total, weighted = clear.copy(), near * clear
    for part in mixture.parts:
        back = to_log(part.alternative.to_recorded.inverse, expected)
        # The median of three or more is wrong only where most of them are.
        weight = np.where(count >= 3, 3 * part.share**2, part.share) * np.nan_to_num(_at(mixture.base, back))
        there = (1 - JUMPING) * normal_density(true - back, scale=spread) + JUMPING * population
        total += weight
        weighted += np.nan_to_num(there) * weight
    return np.where(np.isnan(expected), population, weighted / np.maximum(total, 1e-300))


def _at(base: Histogram, x: np.ndarray) -> np.ndarray:
    place = np.floor(np.nan_to_num(x, nan=-1e6) / BIN - base.first).astype(np.int64)
    inside = (place >= 0) & (place < len(base.counts))
    return np.where(inside, base.counts[np.clip(place, 0, len(base.counts) - 1)], 1e-12)


def _found(rows: pl.DataFrame, part: Component, chosen: np.ndarray, posterior: np.ndarray) -> pl.DataFrame:
    back = part.alternative.to_recorded.inverse
    after = pl.col("numeric_value").cast(pl.Float64()) * back.scale + back.offset
    able = chosen & (posterior >= CORRECTED) & part.is_sure
    flagged = chosen & (posterior >= FLAGGED) & ~able
    rows = rows.select("row", after_numeric_value=after.cast(pl.Float32()))
    return together(
        [
            findings(rows.filter(pl.Series(able)), RULE, "changed"),
            findings(rows.filter(pl.Series(flagged)), RULE, "flagged"),
        ]
    )


def _found_later(rows: pl.DataFrame, later: pl.DataFrame, part: Component, chosen: np.ndarray) -> pl.DataFrame:
    """Values that only the subject's later ones show to be mixed up: flagged from when those were known.

    They keep their number, which must not change by what nobody knew at their time.
    """
    back = part.alternative.to_recorded.inverse
    after = pl.col("numeric_value").cast(pl.Float64()) * back.scale + back.offset
    rows = rows.select("row", after_numeric_value=after.cast(pl.Float32())).with_columns(evident_time=later["until"])
    return findings(rows.filter(pl.Series(chosen)), RULE, "flagged")
