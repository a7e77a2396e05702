"""Unit mix-ups planted in simulated values are found and corrected; values that only look alike are left alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from careloop.clean.faults.mixups import Mixture, alternatives, find_mixtures, find_mixups
from careloop.clean.faults.sentinels import SENTINELS
from careloop.clean.faults.units import canonical_units, unit_table
from careloop.clean.sketch import merge, sketch

RATE = 0.08
# What each laboratory may record instead, from published factors and not from careloop's tables.
WRONG: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "glucose": lambda v: v / 18.016,
    "creatinine": lambda v: v * 88.42,
    "cholesterol": lambda v: v / 38.67,
    "bilirubin": lambda v: v * 17.1,
    "sodium": lambda v: v * 10,
    "temperature": lambda v: v * 1.8 + 32,
    "weight": lambda v: v * 2.20462,
    "height": lambda v: v / 2.54,
    "hemoglobin": lambda v: v * 10,
    "a1c": lambda v: 10.93 * (v - 2.15),
    "hematocrit": lambda v: v / 100,
    "platelets": lambda v: v * 1000,
    "tsh": lambda v: v * 1000,
    "calcium": lambda v: v / 4.008,
    "local": lambda v: v * 100,
}
# Both units' values overlap: a patient's first value can be told by the later ones only, and is then flagged.
OVERLAPPING = ("weight", "bilirubin")


def judge(events: pl.DataFrame) -> tuple[list[Mixture], pl.DataFrame]:
    """The mixtures and findings of events taken as two shards of a record."""
    whole = merge(sketch(events.filter(pl.col("subject_id") % 2 == shard)) for shard in (0, 1))
    canonical = canonical_units(whole.units)
    table = unit_table(whole.units, canonical)
    mixtures = find_mixtures(whole, canonical, table, SENTINELS.to_frame())
    return mixtures, find_mixups(events, mixtures, canonical)


def planted(
    events: pl.DataFrame, wrong: Callable[[np.ndarray], np.ndarray], *, seed: int, rate: float = RATE
) -> tuple[pl.DataFrame, np.ndarray]:
    """The events with a share recorded otherwise, and which."""
    bad = np.random.default_rng(seed).random(events.height) < rate
    value = events["numeric_value"].to_numpy().astype(float)
    recorded = np.where(bad, wrong(value), value).astype(np.float32)
    return events.with_columns(numeric_value=pl.Series(recorded)), bad


def rates(rows: pl.Series, bad: np.ndarray) -> tuple[float, float]:
    """Recall and precision."""
    hit = bad[rows.to_numpy()].sum()
    return float(hit / bad.sum()), float(hit / max(len(rows), 1))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", WRONG)
def test_planted_mixups_are_found(name: str, seed: int, labs: dict, lab_events: Callable[..., pl.DataFrame]) -> None:
    lab = labs[name]
    clean = lab_events(lab.code, lab.unit, lab.values(np.random.default_rng(seed), 800, 5), seed=seed)
    events, bad = planted(clean, WRONG[name], seed=seed + 50)
    _, found = judge(events)
    recall, precision = rates(found["row"], bad)
    assert recall >= 0.95
    assert precision >= 0.95
    changed = found.filter(action="changed")
    recall, precision = rates(changed["row"], bad)
    assert precision >= 0.99
    assert recall >= (0.55 if name in OVERLAPPING else 0.93)
    truth = clean["numeric_value"].to_numpy()[changed["row"].to_numpy()]
    right = bad[changed["row"].to_numpy()]
    assert changed["after_numeric_value"].to_numpy()[right] == pytest.approx(truth[right], rel=2e-3)


def test_what_only_later_values_show_is_flagged_from_then_on(
    labs: dict, lab_events: Callable[..., pl.DataFrame]
) -> None:
    """A first weight in pounds is told by the next ones; a note about it, once known, stays whatever comes later."""
    lab = labs["weight"]
    clean = lab_events(lab.code, lab.unit, lab.values(np.random.default_rng(12), 800, 5))
    events, bad = planted(clean, WRONG["weight"], seed=13)
    mixtures, found = judge(events)
    late = found.filter(pl.col("evident_time").is_not_null())
    assert late["action"].unique().to_list() == ["flagged"]
    own = late.join(events.select("row", "known_time"), on="row")
    assert (own["evident_time"] > own["known_time"]).all()
    assert bad[late["row"].to_numpy()].mean() >= 0.95
    canonical = canonical_units(sketch(events).units)
    for share in (0.3, 0.6):
        cut = events["known_time"].quantile(share, "nearest")
        then = find_mixups(events.filter(pl.col("known_time") <= cut), mixtures, canonical)
        known = pl.coalesce("evident_time", pl.col("known_time"))
        now = found.join(events.select("row", "known_time"), on="row").filter(known <= cut).drop("known_time")
        assert then.sort("row").equals(now.select(then.columns).sort("row"))


@pytest.mark.parametrize("rate", [0.01, 0.02, 0.3])
def test_rare_and_frequent_mixups(rate: float, labs: dict, lab_events: Callable[..., pl.DataFrame]) -> None:
    lab = labs["glucose"]
    clean = lab_events(lab.code, lab.unit, lab.values(np.random.default_rng(4), 800, 5))
    events, bad = planted(clean, WRONG["glucose"], seed=5, rate=rate)
    recall, precision = rates(judge(events)[1]["row"], bad)
    assert recall >= 0.95
    assert precision >= 0.95


@pytest.mark.parametrize("name", ["glucose", "creatinine", "a1c", "temperature"])
def test_separate_units_are_told_without_any_repeated_value(
    name: str, labs: dict, lab_events: Callable[..., pl.DataFrame]
) -> None:
    lab = labs[name]
    clean = lab_events(lab.code, lab.unit, lab.values(np.random.default_rng(6), 4000, 1))
    events, bad = planted(clean, WRONG[name], seed=7)
    _, found = judge(events)
    recall, precision = rates(found["row"], bad)
    assert recall >= 0.95
    assert precision >= 0.95
    assert rates(found.filter(action="changed")["row"], bad)[1] >= 0.99


def test_values_without_a_unit_are_a_group_of_their_own(labs: dict, lab_events: Callable[..., pl.DataFrame]) -> None:
    """All values without a unit are mmol/L here: they are corrected as a whole, the others not at all."""
    lab = labs["glucose"]
    events = lab_events(lab.code, lab.unit, lab.values(np.random.default_rng(8), 800, 5))
    bare = pl.col("subject_id") % 10 == 0
    events = events.with_columns(
        unit=pl.when(~bare).then("unit"),
        numeric_value=pl.when(bare).then(pl.col("numeric_value") / 18.016).otherwise("numeric_value"),
    )
    mixtures, found = judge(events)
    assert (
        mixtures[0].shares[0]["LAB//no unit" if "LAB//no unit" in mixtures[0].shares[0] else "LAB//LOINC//no unit"]
        > 0.95
    )
    recall, precision = rates(found.filter(action="changed")["row"], events["unit"].is_null().to_numpy())
    assert recall >= 0.95
    assert precision >= 0.99


def populations() -> dict[str, tuple[str, str, np.ndarray]]:
    """Patients whose values have two modes, or tails, without any mix-up."""
    rng = np.random.default_rng(11)
    n, each = 800, 5
    own = {s: np.exp(rng.normal(0, s, (n, 1))) for s in (0.1, 0.25, 0.35, 0.5, 0.8)}
    visit = {s: np.exp(rng.normal(0, s, (n, each))) for s in (0.12, 0.15, 0.25, 0.3)}
    ill = rng.random((n, 1)) < 0.08
    acute = rng.random((n, each)) < 0.1
    return {
        "dialysis": ("LOINC//2160-0", "mg/dL", np.where(ill, 8, 0.95) * own[0.25] * visit[0.12]),
        "a disease exactly ten times": ("LOINC//2160-0", "mg/dL", np.where(ill, 9.5, 0.95) * own[0.25] * visit[0.12]),
        "diabetes": ("LOINC//2345-7", "mg/dL", np.where(ill, 220, 95) * own[0.1] * visit[0.15]),
        "menopause": ("LAB//fsh", "[IU]/L", np.where(rng.random((n, 1)) < 0.5, 6, 65) * own[0.35] * visit[0.25]),
        "inflammation": (
            "LOINC//1988-5", "mg/L",
            own[0.8] * visit[0.3] * np.where(acute, np.exp(rng.normal(3, 0.8, (n, each))), 1),
        ),
        "infarction": (
            "LOINC//89579-7", "ng/L",
            5 * own[0.5] * visit[0.3] * np.where(acute, np.exp(rng.normal(4.6, 1, (n, each))), 1),
        ),
        "heavy tails": ("LOINC//2571-8", "mg/dL", np.exp(4.9 + 0.4 * rng.standard_t(2, (n, each)))),
        "children and adults": (
            "LOINC//8302-2", "cm",
            np.where(rng.random((n, 1)) < 0.4, rng.uniform(50, 160, (n, 1)), rng.normal(170, 9, (n, 1)))
            * visit[0.12] ** 0.05,
        ),
        "rounded counts": ("LOINC//711-2", "10*3/uL", np.round(np.exp(rng.normal(-2, 0.7, (n, each))), 1)),
        "viral load": ("LAB//copies", "{copies}/mL", np.exp(rng.uniform(3, 16, (n, each)))),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(populations()))
def test_disease_is_not_corrected(name: str, lab_events: Callable[..., pl.DataFrame]) -> None:
    code, unit, values = populations()[name]
    _, found = judge(lab_events(code, unit, values))
    assert found.filter(action="changed").is_empty()


@pytest.mark.parametrize("seed", range(4))
def test_no_finding_in_values_without_mixups(seed: int, labs: dict, lab_events: Callable[..., pl.DataFrame]) -> None:
    for lab in labs.values():
        values = lab.values(np.random.default_rng(seed), 400, 5)
        mixtures, found = judge(lab_events(lab.code, lab.unit, values))
        assert mixtures == []
        assert found.is_empty()


def test_alternatives_are_units_of_the_quantity_and_slips() -> None:
    names = {option.name: option for option in alternatives("LOINC//2345-7", "mg/dL")}
    assert names["mmol/L"].to_recorded.scale == pytest.approx(1 / 18.016, rel=1e-3)
    assert {"g/L", "mg/L"} <= names.keys()
    assert not {"kg", "%", "mg/dL", "mm[Hg]"} & names.keys()
    scales = [round(np.log10(option.to_recorded.scale), 6) for option in names.values()]
    assert len(scales) == len(set(scales))
