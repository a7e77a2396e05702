"""What if: coherent features, the closed form of a linear model, trees' direction, smallest changes, outsiders."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from careloop import InputError
from careloop.features import Column, FeatureMatrix, Recipe
from careloop.predict.altered import FeatureRow
from careloop.predict.counterfactual import (
    NOT_AN_EFFECT,
    Lab,
    Values,
    smallest_change,
    what_if,
    what_if_typical,
)
from careloop.train import ModelSection, Package, TrainingData, train_model

HB, CREATININE, HEIGHT = "LOINC//718-7", "LOINC//2160-0", "HEIGHT"
ROWS, WEEK = 900, 7.0
AGGREGATIONS = ("last", "min", "max", "mean", "first", "slope", "count", "present")
COLUMNS = [
    *((f"{HB}|{window}|{aggregation}", HB, aggregation) for window in ("7d", "all") for aggregation in AGGREGATIONS),
    (f"{CREATININE}|all|last", CREATININE, "last"),
    (f"{CREATININE}|all|present", CREATININE, "present"),
    (f"static|{HEIGHT}", HEIGHT, "value"),
    ("age_years", "MEDS_BIRTH", "age"),
]


def column(name: str, code: str, aggregation: str, values: np.ndarray) -> Column:
    kind: Any = {HEIGHT: "static_value", "MEDS_BIRTH": "age"}.get(code, "value")
    low, median, high = np.nanquantile(values, [0.001, 0.5, 0.999]).tolist()
    window = WEEK if "|7d|" in name else None
    words = {HB: "Hemoglobin", CREATININE: "Creatinine"}.get(code, "")
    return Column(
        name, kind, code, aggregation, window, "g/dL", description=words, median=median, low=low, high=high,
        minimum=float(np.nanmin(values)), maximum=float(np.nanmax(values)),
    )  # fmt: skip


def features(random: np.random.Generator) -> np.ndarray:
    """Three hemoglobins a patient, the last within a week of half of them; a tenth have none; creatinine of most."""
    values = np.full((ROWS, len(COLUMNS)), np.nan)
    level = random.normal(13, 2, (ROWS, 1)) + random.normal(0, 0.5, (ROWS, 3))
    for start, rows in ((0, random.random(ROWS) < 0.5), (8, random.random(ROWS) < 0.9)):
        found = np.column_stack(
            [level[:, 2], level.min(1), level.max(1), level.mean(1), level[:, 0], level[:, 2] - level[:, 0]]
        )
        values[rows, start : start + 6] = found[rows]
        values[:, start + 6], values[:, start + 7] = np.where(rows, 3.0, 0.0), rows
    values[np.isnan(values[:, 8])] = np.where(np.arange(len(COLUMNS)) % 8 >= 6, 0.0, np.nan)  # none ever: none lately
    values[:, 16] = np.where(random.random(ROWS) < 0.95, np.exp(random.normal(0, 0.8, ROWS)), np.nan)
    values[:, 17] = ~np.isnan(values[:, 16])
    values[:, 18], values[:, 19] = random.normal(170, 9, ROWS), random.uniform(20, 80, ROWS)
    return values.astype(np.float32)


@pytest.fixture(scope="module")
def ward() -> Callable[..., Any]:
    """Packages on simulated patients whose risk rises as hemoglobin falls and creatinine rises."""
    random = np.random.default_rng(7)
    values = features(random)
    names = tuple(name for name, _, _ in COLUMNS)
    hb, creatinine = np.nan_to_num(values[:, 8], nan=13), np.nan_to_num(values[:, 16], nan=1)
    log_odds = -1 - 0.6 * (hb - 13) + 0.8 * np.log(creatinine) + 0.02 * (values[:, 19] - 50)
    event = random.random(ROWS) < 1 / (1 + np.exp(-log_odds))
    rows = pl.DataFrame(
        {
            "subject_id": np.arange(ROWS),
            "prediction_time": pl.Series([datetime(2020, 1, 1, tzinfo=UTC)] * ROWS, dtype=pl.Datetime("us", "UTC")),
            "split": np.repeat(["train", "tuning", "held_out"], [600, 200, 100]),
            "follow_up_days": np.where(event, 30.0, 400.0),
            "event": event.astype(np.int8),
        }
    )
    recipe = Recipe(tuple(column(*c, values[:600, j]) for j, c in enumerate(COLUMNS)))
    matrix = FeatureMatrix(rows.select("subject_id", "prediction_time"), names, values)
    data = TrainingData(rows, matrix, recipe, 365.0, 1, outcome="transfusion")
    packages: dict[str, Package] = {}

    def make(kind: str = "logistic_regression", **parameters: object) -> Any:
        if kind not in packages:
            packages[kind] = train_model(ModelSection(kind=kind, parameters=parameters), data)
        return SimpleNamespace(package=packages[kind], matrix=matrix)

    return make


def patient(ward: Any, row: int, **changes: float) -> FeatureRow:
    """One patient, with some features (`c3` is column 3) set beforehand."""
    found = FeatureRow.of(ward.package, ward.matrix, row)
    values = found.values.copy()
    for name, value in changes.items():
        values[int(name[1:])] = value
    return dataclasses.replace(found, values=values)


def rows_where(ward: Any, condition: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return np.flatnonzero(condition(ward.matrix.values))


def test_all_features_of_a_code_change_together_and_counts_stay(ward: Any) -> None:
    row = int(rows_where(ward(), lambda v: ~np.isnan(v[:, 0]) & ~np.isnan(v[:, 8]))[0])
    before = ward().matrix.values[row]
    after = FeatureRow.of(ward().package, ward().matrix, row).altered({HB: 14.0})
    expected = np.array([*[14.0] * 5, 0.0, 3.0, 1.0] * 2, dtype=np.float32)
    assert after[:16].tolist() == expected.tolist()
    np.testing.assert_array_equal(after[16:], before[16:])


def test_a_window_without_a_value_stays_without(ward: Any) -> None:
    row = int(rows_where(ward(), lambda v: np.isnan(v[:, 0]) & ~np.isnan(v[:, 8]))[0])
    after = FeatureRow.of(ward().package, ward().matrix, row).altered({HB: 14.0})
    assert np.isnan(after[:6]).all()
    assert after[6:8].tolist() == [0.0, 0.0]
    assert after[8:14].tolist() == [14.0] * 5 + [0.0]


def test_a_lab_taken_away_looks_like_one_never_measured(ward: Any) -> None:
    never, some = (int(rows_where(ward(), lambda v, f=f: f(v[:, 8]))[0]) for f in (np.isnan, np.isfinite))
    gone = FeatureRow.of(ward().package, ward().matrix, some).altered({HB: None})
    np.testing.assert_array_equal(gone[:16], ward().matrix.values[never, :16])
    found = what_if(FeatureRow.of(ward().package, ward().matrix, some), {HB: None})
    assert found.changes[0].after is None
    assert "Hemoglobin not measured instead of " in found.text


def test_a_lab_never_measured_is_given_one_measurement(ward: Any) -> None:
    never = int(rows_where(ward(), lambda v: np.isnan(v[:, 8]))[0])
    after = FeatureRow.of(ward().package, ward().matrix, never).altered({HB: 9.0})
    for start in (0, 8):
        assert after[start : start + 5].tolist() == [9.0] * 5
        assert np.isnan(after[start + 5])
        assert after[start + 6 : start + 8].tolist() == [1.0, 1.0]
    assert "instead of none" in what_if(FeatureRow.of(ward().package, ward().matrix, never), {HB: 9.0}).text


def test_a_linear_model_changes_by_its_coefficients(ward: Any) -> None:
    """The change of the log-odds is the sum of coefficient x change of the standardised features, by hand."""
    found = ward()
    package, preprocessing = found.package, found.package.preprocessing
    row = int(rows_where(found, lambda v: np.isfinite(v[:, [0, 8, 16]]).all(axis=1))[3])
    before = found.matrix.values[row].astype(float)
    after = before.copy()
    after[[0, 1, 2, 3, 4, 8, 9, 10, 11, 12]], after[[5, 13]] = 11.5, 0.0
    ready = [np.where(preprocessing.logged, np.log1p(np.maximum(v, 0)), v) for v in (before, after)]
    step = (ready[1] - ready[0]) / preprocessing.scale * package.estimators[0].coef_[0, : len(before)]
    raw = package.uncalibrated_risk(found.matrix)[row]
    log_odds = np.log(raw / (1 - raw)) + step.sum()
    expected = package.recalibration.apply(np.array([1 / (1 + np.exp(-log_odds))]))[0]
    answer = what_if(FeatureRow.of(package, found.matrix, row), {"718-7": 11.5})
    assert answer.changed_risk == pytest.approx(expected, abs=1e-6)
    assert answer.risk == pytest.approx(package.risk(found.matrix)[row])
    assert answer.difference == pytest.approx(answer.changed_risk - answer.risk)


KINDS = [
    ("logistic_regression", {}),
    ("lightgbm", {}),
    ("cox", {}),
    ("fully_connected", {"hidden": (8,), "max_epochs": 5}),
    ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 30, "min_samples_leaf": 20}),
]


@pytest.mark.parametrize(("kind", "parameters"), KINDS, ids=[kind for kind, _ in KINDS])
def test_any_model_has_a_lower_risk_with_more_hemoglobin(kind: str, parameters: dict, ward: Any) -> None:
    found = ward(kind, **parameters)
    for row in rows_where(found, lambda v: np.isfinite(v[:, 8]) & (v[:, 10] < 11))[:4]:
        answer = what_if(FeatureRow.of(found.package, found.matrix, int(row)), {HB: 15.0})
        assert answer.outside is None
        assert answer.difference < -0.01
        assert "the model's risk would fall from" in answer.text


def test_a_value_unlike_any_patient_is_flagged_not_answered(ward: Any) -> None:
    answer = what_if(patient(ward(), 3), {HB: 90.0})
    assert "Hemoglobin" in answer.outside
    assert "the model cannot be asked" in answer.text
    assert f"{answer.changed_risk:.1%}" not in answer.text


def test_typical_values_come_by_the_size_of_their_change(ward: Any) -> None:
    row = int(rows_where(ward(), lambda v: np.isfinite(v[:, [8, 16]]).all(axis=1) & (v[:, 8] < 11))[0])
    found = what_if_typical(patient(ward(), row))
    assert {f.changes[0].code for f in found} == {HB, CREATININE}  # height has no time, age is no lab
    assert [abs(f.difference) for f in found] == sorted((abs(f.difference) for f in found), reverse=True)
    medians = {c.code: c.median for c in ward().package.recipe.columns if c.name.endswith("all|last")}
    assert all(f.changes[0].after == medians[f.changes[0].code] for f in found)
    assert "(the training median)" in found[0].text
    only = what_if_typical(patient(ward(), row), among=["Creatinine"])
    assert [f.changes[0].code for f in only] == [CREATININE]


def test_labs_are_named_by_code_last_part_or_words(ward: Any) -> None:
    answers = [what_if(patient(ward(), 3), {name: 12.0}) for name in (HB, "718-7", "hemoglobin")]
    assert len({answer.changed_risk for answer in answers}) == 1
    with pytest.raises(InputError, match="reads no numbers of 'Haemoglobin'; did you mean Hemoglobin"):
        what_if(patient(ward(), 3), {"Haemoglobin": 12.0})
    with pytest.raises(InputError, match="reads no numbers of 'age'"):
        what_if(patient(ward(), 3), {"age": 12.0})
    with pytest.raises(InputError, match="must be a finite number"):
        what_if(patient(ward(), 3), {HB: float("nan")})
    with pytest.raises(InputError, match="at least one code"):
        what_if(patient(ward(), 3), {})
    with pytest.raises(InputError, match="rows 0 to 899"):
        FeatureRow.of(ward().package, ward().matrix, 900)


@dataclass(frozen=True)
class Linear:
    """A patient whose risk is a logistic function of labs, with a region outside: what `Patient` asks for."""

    labs: Mapping[str, Lab]
    weights: Mapping[str, float]
    intercept: float
    threshold: float = 0.5
    forbidden: tuple[float, float] = (np.inf, np.inf)

    def risks(self, variants: Sequence[Values]) -> np.ndarray:
        values = [{c: v.get(c, lab.value) for c, lab in self.labs.items()} for v in variants]
        scores = [self.intercept + sum(self.weights[c] * (x or 0.0) for c, x in v.items()) for v in values]
        return 1 / (1 + np.exp(-np.array(scores)))

    def outside(self, variants: Sequence[Values]) -> list[str | None]:
        low, high = self.forbidden
        return ["never seen" if any(low < (x or 0) < high for x in v.values()) else None for v in variants]


def lab(code: str, value: float, *, spread: float = 1.0, low: float = -10.0, high: float = 10.0) -> Lab:
    return Lab(code, code, " u", value, 0.0, low, high, spread)


@given(a=st.floats(0.5, 3), b=st.floats(0.5, 3), spread=st.floats(0.2, 5), x=st.floats(-2, 2), excess=st.floats(0.1, 3))
def test_the_smallest_change_is_the_closed_form(a: float, b: float, spread: float, x: float, excess: float) -> None:
    """With score a A + b B + c, A must fall by score / a and B by score / b: the fewest standard deviations win."""
    labs = {"A": lab("A", x), "B": lab("B", 0.0, spread=spread)}
    found = smallest_change(Linear(labs, {"A": a, "B": b}, intercept=excess - a * x))
    needed = {"A": excess / a, "B": excess / b / spread}
    step = {"A": 0.2, "B": 0.2 / spread}
    assert found.found is not None
    code = found.found.changes[0].code
    assert needed[code] - 1e-3 <= found.deviations <= min(needed[c] + step[c] for c in "AB") + 1e-3
    assert found.found.changed_risk < 0.5
    assert found.text.startswith("Smallest single change that brings the risk below the threshold of 50.0%: ")


def test_no_single_change_or_none_needed_is_said() -> None:
    labs = {"A": lab("A", 1.0, low=0.0, high=2.0)}
    stuck = smallest_change(Linear(labs, {"A": 0.1}, intercept=3.0))
    assert (stuck.found, stuck.deviations, stuck.tried) == (None, None, 1)
    assert stuck.text.startswith("No single change does: ")
    low = smallest_change(Linear(labs, {"A": 0.1}, intercept=-3.0))
    assert low.found is None
    assert low.text.endswith("below the threshold of 50.0% already.")


def test_the_search_passes_over_patients_never_seen() -> None:
    labs = {"A": lab("A", 5.0)}
    free = smallest_change(Linear(labs, {"A": 1.0}, intercept=-4.0))
    assert free.found.changes[0].after == pytest.approx(3.8)
    held = smallest_change(Linear(labs, {"A": 1.0}, intercept=-4.0, forbidden=(1.0, 4.5)))
    assert held.found.changes[0].after == pytest.approx(1.0)
    assert held.found.outside is None


def test_the_sentence_says_that_it_is_no_effect() -> None:
    assert NOT_AN_EFFECT.startswith("This describes the model, not the effect of treating.")
