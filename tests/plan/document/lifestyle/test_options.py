"""Lifestyle options on a simulated record whose risk is known in closed form, and on the NAFLD cohort."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from careloop.evaluate import Estimate
from careloop.features import FeatureMatrix, FeaturesSection, extract, fit_recipe
from careloop.plan.document.lifestyle import CAVEAT, EffectEstimate, LifestyleOption, lifestyle_options, shipped_factors
from careloop.record import Record
from careloop.train import ModelSection, Package, TrainingData, train_model

AT = datetime(2020, 1, 1, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")
PEOPLE, HORIZON = 900, 365.0
BMI, WEIGHT, PRESSURE, CHOLESTEROL, SMOKES = (
    "LOINC//39156-5", "LOINC//29463-7", "LOINC//8480-6", "LOINC//2093-3", "ICD10CM//F17.210",
)  # fmt: skip


def trained(events: pl.DataFrame, rows: pl.DataFrame, folder: Path, **section: Any) -> tuple[Package, FeatureMatrix]:
    """A package fitted on the events of the rows, and the matrix of all rows."""
    record = Record.create(folder / "record", shards=1).append(events, key="1")
    training = rows.filter(pl.col("split") == "train").select("subject_id", "prediction_time")
    recipe = fit_recipe(record, training, FeaturesSection(windows_days=("all",), value=("last",), min_subjects=20))
    matrix = extract(record, rows.select("subject_id", "prediction_time"), recipe)
    data = TrainingData(rows, matrix, recipe, HORIZON, record.facts_version, outcome="death")
    return train_model(ModelSection(**{"kind": "logistic_regression", **section}), data), matrix


def simulated() -> tuple[pl.DataFrame, pl.DataFrame]:
    """People whose risk rises with BMI and smoking, falls with blood pressure, and ignores cholesterol."""
    random = np.random.default_rng(6)
    bmi, height = random.normal(28, 4, PEOPLE), random.normal(1.7, 0.08, PEOPLE)
    pressure, cholesterol = random.normal(140, 18, PEOPLE), random.normal(5.4, 1, PEOPLE)
    smokes = random.random(PEOPLE) < 0.3
    logit = -0.8 + 0.15 * (bmi - 28) + 1.2 * smokes - 0.03 * (pressure - 140)
    event = random.random(PEOPLE) < 1 / (1 + np.exp(-logit))
    person = pl.DataFrame({"subject_id": np.arange(PEOPLE), "bmi": bmi, "weight": bmi * height**2})
    person = person.with_columns(pressure=pressure, cholesterol=cholesterol, smokes=smokes)
    parts = [
        person.select("subject_id", code=pl.lit(code), numeric_value=pl.col(name).cast(pl.Float32), unit=pl.lit(unit))
        for code, name, unit in (
            (BMI, "bmi", "kg/m2"), (WEIGHT, "weight", "kg"), (PRESSURE, "pressure", "mm[Hg]"),
            (CHOLESTEROL, "cholesterol", "mmol/L"),  # under the code of mg/dL
        )
    ]  # fmt: skip
    parts.append(person.filter("smokes").select("subject_id", code=pl.lit(SMOKES)))
    events = pl.concat(parts, how="diagonal").with_columns(time=pl.lit(AT - timedelta(days=1)).cast(TIME))
    rows = pl.DataFrame(
        {
            "subject_id": np.arange(PEOPLE),
            "prediction_time": pl.Series([AT] * PEOPLE, dtype=TIME),
            "split": np.array(["train"] * 600 + ["tuning"] * 200 + ["held_out"] * 100),
            "boolean_value": event,
            "follow_up_days": np.where(event, 100.0, 400.0),
            "event": event.astype(np.int8),
        }
    )
    return events, rows


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Package, FeatureMatrix]:
    return trained(*simulated(), tmp_path_factory.mktemp("lifestyle"))


def person(world: tuple[Package, FeatureMatrix], **where: Any) -> int:
    """The first row with BMI, pressure and smoking within the limits."""
    package, matrix = world
    values = {c.code: matrix.values[:, j] for j, c in enumerate(package.recipe.columns) if c.aggregation == "last"}
    smokes = matrix.values[:, package.recipe.names.index(f"{SMOKES}|all|present")] > 0
    limits = {BMI: where.get("bmi", (0, 99)), PRESSURE: where.get("pressure", (0, 999))}
    fits = np.logical_and.reduce([(values[c] > low) & (values[c] < high) for c, (low, high) in limits.items()])
    return int(np.flatnonzero(fits & (smokes == where.get("smokes", False)))[0])


def by_factor(options: tuple[LifestyleOption, ...]) -> dict[str, LifestyleOption]:
    return {option.factor: option for option in options}


def test_only_what_the_model_reads_is_asked(world: tuple[Package, FeatureMatrix]) -> None:
    options = by_factor(lifestyle_options(*world, 0))
    assert set(options) == {"weight", "systolic_blood_pressure", "total_cholesterol", "smoking"}


def test_a_heavy_smoker_has_two_options_by_the_models_own_risk(world: tuple[Package, FeatureMatrix]) -> None:
    package, matrix = world
    row = person(world, bmi=(29, 33), pressure=(120, 138), smokes=True)
    options = by_factor(lifestyle_options(package, matrix, row))
    assert [options[name].status for name in ("weight", "smoking")] == ["lower", "lower"]
    weight, smoking = options["weight"], options["smoking"]
    place = {name: j for j, name in enumerate(matrix.names)}
    lean, free = matrix.values[row].copy(), matrix.values[row].copy()
    ratio = 24.9 / lean[place[f"{BMI}|all|last"]]
    lean[place[f"{BMI}|all|last"]], lean[place[f"{WEIGHT}|all|last"]] = 24.9, lean[place[f"{WEIGHT}|all|last"]] * ratio
    for name in (n for n in matrix.names if n.startswith(SMOKES)):
        free[place[name]] = np.nan if name.endswith("time_since") else 0.0
    keys = matrix.keys[[row, row, row]]
    by_hand = package.risk(FeatureMatrix(keys, matrix.names, np.array([matrix.values[row], lean, free])))
    assert weight.risk.value == pytest.approx(by_hand[0])
    assert weight.changed is not None
    assert smoking.changed is not None
    assert (weight.changed.value, smoking.changed.value) == pytest.approx((by_hand[1], by_hand[2]), rel=1e-5)
    for changed in (weight.changed, smoking.changed):
        assert changed.low is not None
        assert changed.high is not None
        assert changed.low < changed.high
    assert smoking.is_fact
    assert (smoking.before, smoking.target) == (1.0, 0.0)
    assert (weight.unit, weight.target, weight.is_fact) == ("kg/m2", 24.9, False)


def test_the_largest_fall_comes_first(world: tuple[Package, FeatureMatrix]) -> None:
    options = lifestyle_options(*world, person(world, bmi=(29, 33), pressure=(120, 138), smokes=True))
    falls = [(o.changed.value or 0) - (o.risk.value or 0) for o in options if o.is_offered and o.changed]
    assert falls == sorted(falls)
    assert all(fall < 0 for fall in falls)


def test_a_value_that_the_model_takes_for_protective_is_not_offered(world: tuple[Package, FeatureMatrix]) -> None:
    """Reverse causation: here the risk falls with blood pressure, so lowering it is not offered on the model's word."""
    options = by_factor(lifestyle_options(*world, person(world, pressure=(150, 165))))
    assert options["systolic_blood_pressure"].status == "not_lower"
    assert not options["systolic_blood_pressure"].is_offered


def test_what_is_at_target_or_in_another_unit_is_told(world: tuple[Package, FeatureMatrix]) -> None:
    options = by_factor(lifestyle_options(*world, person(world, bmi=(20, 24.5), pressure=(100, 135))))
    assert {name: option.status for name, option in options.items()} == {
        "weight": "at_target",
        "systolic_blood_pressure": "at_target",
        "smoking": "at_target",
        "total_cholesterol": "other_unit",
    }


def test_what_is_not_recorded_is_unknown_rather_than_fine(world: tuple[Package, FeatureMatrix]) -> None:
    package, matrix = world
    values = np.array(matrix.values[[0]])
    values[:, [j for j, name in enumerate(matrix.names) if name.startswith(BMI)]] = np.nan
    option = by_factor(lifestyle_options(package, FeatureMatrix(matrix.keys[[0]], matrix.names, values)))["weight"]
    assert (option.status, option.before) == ("unknown", None)


def test_a_target_that_training_patients_never_had_is_outside(world: tuple[Package, FeatureMatrix]) -> None:
    weight = next(factor for factor in shipped_factors().factors if factor.name == "weight")
    code = {BMI: weight.codes[BMI].model_copy(update={"target": 12.0})}
    option = lifestyle_options(
        *world, person(world, bmi=(30, 34)), factors=[weight.model_copy(update={"codes": code})]
    )[0]
    assert option.status == "outside"
    assert option.changed is None
    assert option.detail


def test_a_model_in_steps_must_fall_all_the_way(tmp_path: Path) -> None:
    """A risk that rises in between is found even where the target's own is lower."""
    events, rows = simulated()
    bmi = events.filter(pl.col("code") == BMI).sort("subject_id")["numeric_value"].to_numpy()
    bump = (bmi > 26) & (bmi < 28.5)
    random = np.random.default_rng(0)
    event = random.random(PEOPLE) < np.where(bump, 0.85, np.where(bmi > 28.5, 0.45, 0.15))
    columns = {"boolean_value": event, "event": event.astype(np.int8), "follow_up_days": np.where(event, 100.0, 400.0)}
    bumpy = rows.with_columns(**{name: pl.Series(values) for name, values in columns.items()})
    package, matrix = trained(events.filter(pl.col("code") == BMI), bumpy, tmp_path, kind="lightgbm")
    row = int(np.flatnonzero((bmi > 30) & (bmi < 31))[0])
    option = lifestyle_options(package, matrix, row)[0]
    assert option.changed is not None
    assert (option.changed.value or 1) < (option.risk.value or 0)
    assert option.status == "unsteady"


def test_an_effect_estimate_takes_the_models_place(world: tuple[Package, FeatureMatrix]) -> None:
    row = person(world, bmi=(29, 33), pressure=(150, 165), smokes=True)
    told = EffectEstimate("systolic_blood_pressure", Estimate(0.9, 0.85, 0.95), "A trial")
    option = by_factor(lifestyle_options(*world, row, effects=[told]))["systolic_blood_pressure"]
    assert option.changed is not None
    risk = option.risk.value or 0
    assert (option.changed.value, option.changed.low, option.changed.high) == pytest.approx(
        (0.9 * risk, 0.85 * risk, 0.95 * risk)
    )
    assert (option.basis, option.source, option.status) == ("effect", "A trial", "lower")
    unclear = replace(told, relative_risk=Estimate(0.9, 0.7, 1.1))
    assert by_factor(lifestyle_options(*world, row, effects=[unclear]))["systolic_blood_pressure"].status == "not_lower"


def test_a_model_without_such_features_has_no_options(tmp_path: Path) -> None:
    """As on flchain, which has age, sex, creatinine and light chains only."""
    events, rows = simulated()
    creatinine = events.filter(pl.col("code") == PRESSURE).with_columns(code=pl.lit("LOINC//2160-0"))
    package, matrix = trained(creatinine, rows, tmp_path)
    assert lifestyle_options(package, matrix) == ()


def test_higher_is_better_for_activity(tmp_path: Path) -> None:
    events, rows = simulated()
    minutes = events.filter(pl.col("code") == PRESSURE).with_columns(
        code=pl.lit("LOINC//82290-8"), unit=pl.lit("min/wk"), numeric_value=pl.col("numeric_value") - 20
    )
    package, matrix = trained(minutes, rows, tmp_path)  # the risk falls with it
    column = matrix.values[:, 0]
    low = lifestyle_options(package, matrix, int(np.flatnonzero(column < 130)[0]))[0]
    high = lifestyle_options(package, matrix, int(np.flatnonzero(column > 151)[0]))[0]
    assert (low.factor, low.status, high.status) == ("activity", "lower", "at_target")


def test_on_the_nafld_cohort(tmp_path: Path) -> None:
    """1,200 people of the NAFLD cohort: smoking, weight and blood pressure are read; the guard holds for each."""
    from careloop.ingest.examples import nafld_events

    events = nafld_events().filter(pl.col("subject_id") % 14 == 0)
    ends = events.filter(pl.col("code").is_in(["MEDS_DEATH", "NAFLD//END_OF_FOLLOW_UP"]))
    index = events.filter(pl.col("code") == "NAFLD//INDEX").select("subject_id", prediction_time="time")
    rows = index.join(ends.select("subject_id", "time", "code"), on="subject_id").sort("subject_id")
    days = (pl.col("time") - pl.col("prediction_time")).dt.total_days().cast(pl.Float64)
    rows = rows.with_columns(follow_up_days=days, event=(pl.col("code") == "MEDS_DEATH").cast(pl.Int8))
    rows = rows.filter(pl.col("follow_up_days") > 0).with_columns(
        boolean_value=pl.when(pl.col("follow_up_days") >= HORIZON).then(False).when(pl.col("event") == 1).then(True),
        split=pl.when(pl.col("subject_id") % 5 == 0).then(pl.lit("tuning")).otherwise(pl.lit("train")),
    )
    package, matrix = trained(events, rows, tmp_path, kind="cox")
    found = [option for row in range(40) for option in lifestyle_options(package, matrix, row)]
    assert {option.factor for option in found} == {"smoking", "weight", "systolic_blood_pressure"}
    assert {option.status for option in found} >= {"unknown", "at_target"}
    for option in found:
        assert not option.is_offered or (option.changed.value or 1) < (option.risk.value or 0)  # type: ignore[union-attr]


def test_the_caveat_says_what_it_is_not() -> None:
    assert "not what changing it would do" in CAVEAT
