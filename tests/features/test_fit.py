"""What training rows justify, what they must not be influenced by, and errors that say what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.features import Column, FeaturesSection, Recipe, extract, fit_features, fit_recipe
from careloop.features import matrix as matrix_module
from careloop.features import recipe as recipe_module
from careloop.record import Record

Row = dict[str, Any]
MakeRecord = Callable[..., Record]
MakeKeys = Callable[..., pl.DataFrame]
ANY = FeaturesSection(min_subjects=1)


def lab(subject: int, time: float, value: float, unit: str | None = "mg/dL", code: str = "LAB//A") -> Row:
    return {"subject_id": subject, "time": time, "code": code, "numeric_value": value, "unit": unit}


@pytest.fixture
def ward(make_record: MakeRecord) -> Record:
    """Twelve subjects: a lab each day, a diagnosis for six, sex and height for all, a rare code for one."""
    random = np.random.default_rng(0)
    rows: list[Row] = []
    for subject in range(12):
        rows += [lab(subject, day, float(random.normal(10, 2))) for day in range(subject % 5 + 1)]
        rows += [{"subject_id": subject, "time": 2, "code": "DX//B"}] if subject % 2 else []
        rows += [{"subject_id": subject, "code": "SEX", "text_value": "F" if subject % 3 else "M"}]
        rows += [{"subject_id": subject, "code": "HEIGHT", "numeric_value": 160 + subject, "unit": "cm"}]
        rows += [{"subject_id": subject, "time": -365.25 * (30 + subject), "code": "MEDS_BIRTH"}]
        rows += [{"subject_id": subject, "time": 9, "known_time": 20 + subject, "code": "CAUSE"}]
        rows += [{"subject_id": subject, "time": 3, "code": "CARELOOP//PREDICTION//x", "numeric_value": subject / 10}]
    return make_record([*rows, {"subject_id": 0, "time": 1, "code": "RARE"}])


@pytest.fixture
def ward_keys(make_keys: MakeKeys) -> pl.DataFrame:
    return make_keys(*((subject, 10) for subject in range(12)))


def test_medians_ranges_and_missing_shares_are_those_of_numpy(ward: Record, ward_keys: pl.DataFrame) -> None:
    recipe = fit_recipe(ward, ward_keys, ANY)
    values = extract(ward, ward_keys, recipe).values
    for column, cells in zip(recipe.columns, values.T, strict=True):
        known = cells[~np.isnan(cells)].astype(np.float64)
        expected = [*np.quantile(known, [0.001, 0.5, 0.999]), known.min(), known.max(), np.isnan(cells).mean()]
        got = [column.low, column.median, column.high, column.minimum, column.maximum, column.missing_share]
        np.testing.assert_allclose(np.array(got, dtype=float), expected, rtol=1e-6)


def test_columns_and_their_descriptions(ward: Record, ward_keys: pl.DataFrame) -> None:
    ward = ward.describe_codes(pl.DataFrame({"code": ["LAB//A"], "description": ["Creatinine"]}))
    section = FeaturesSection(windows_days=(7, "all"), value=("last", "slope"), min_subjects=2)
    described = {column.name: column.description for column in fit_recipe(ward, ward_keys, section).columns}
    assert {name for name, words in described.items() if words == "Creatinine"} == {
        "LAB//A|7d|last",
        "LAB//A|all|last",
        "LAB//A|all|slope",
        "LAB//A|7d|present",
    }
    others = {"age_years", "static|HEIGHT", "static|SEX=F", "static|SEX=M", "DX//B|all|time_since", "DX//B|all|count"}
    assert others <= {name for name, words in described.items() if words == ""}


def test_a_recipe_survives_json(ward: Record, ward_keys: pl.DataFrame) -> None:
    recipe = fit_recipe(ward, ward_keys, ANY)
    assert Recipe.from_json(recipe.to_json()) == recipe
    newer = recipe.to_json().replace('"format": 1', '"format": 2')
    with pytest.raises(InputError, match="reads format 1, got 2; install a newer careloop"):
        Recipe.from_json(newer)
    for broken in ("", "[]", "{}", '{"format": 1, "columns": [{"nam": 1}]}'):
        with pytest.raises(InputError, match="not a careloop recipe"):
            Recipe.from_json(broken)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(5, 8), st.integers(0, 9), st.floats(-5, 5), st.sampled_from(["mg/dL", "g/L"])),
        max_size=30,
    )
)
def test_held_out_subjects_change_nothing(
    make_record: MakeRecord, make_keys: MakeKeys, held: list[tuple[int, int, float, str]]
) -> None:
    rows = [lab(s, t, s * t) for s in range(5) for t in range(s + 1)]
    keys = [(s, 9) for s in range(9)]
    alone = fit_recipe(make_record(rows), make_keys(*keys[:5]), ANY)
    record = make_record([*rows, *(lab(s, t, v, unit, code=f"LAB//{t % 3}") for s, t, v, unit in held)])
    split = make_keys(*keys, splits=["train"] * 5 + ["tuning", "tuning", "held_out", "held_out"])
    assert fit_recipe(record, split, ANY) == alone


def test_facts_known_after_the_prediction_time_change_nothing(make_record: MakeRecord, make_keys: MakeKeys) -> None:
    rows = [lab(s, t, s * t) for s in range(5) for t in range(s + 1)]
    late = [{**lab(s, 3, 99.0, "g/L", code), "known_time": 9.5} for s in range(5) for code in ("LAB//A", "LAB//B")]
    keys = make_keys(*((s, 9) for s in range(5)))
    assert fit_recipe(make_record(rows + late), keys, ANY) == fit_recipe(make_record(rows), keys, ANY)


def test_the_most_common_unit_of_training_rows_counts_and_a_note_says_so(
    make_record: MakeRecord, make_keys: MakeKeys
) -> None:
    rows = [lab(s, t, 1.0 + s) for s in range(4) for t in range(3)] + [lab(s, 5, 88.4, "umol/L") for s in range(3)]
    record, keys = make_record(rows), make_keys(*((s, 9) for s in range(4)))
    recipe = fit_recipe(record, keys, ANY)
    assert {column.unit for column in recipe.columns} == {"mg/dL"}
    assert max(column.maximum or 0 for column in recipe.columns if column.aggregation == "max") == 4
    assert "LAB//A: 3 training numbers of 15 are left out, their unit is not mg/dL; convert them before" in recipe.notes


def test_rare_codes_are_left_out_unless_named(ward: Record, ward_keys: pl.DataFrame) -> None:
    codes = {column.code for column in fit_recipe(ward, ward_keys, FeaturesSection(min_subjects=2)).columns}
    assert "RARE" not in codes
    assert "DX//B" in codes
    named = FeaturesSection(min_subjects=2, codes=("RARE", "DX*"))
    assert {c.code for c in fit_recipe(ward, ward_keys, named).columns if c.kind == "code"} == {"RARE", "DX//B"}


def test_own_events_and_excluded_codes_are_never_features(ward: Record, ward_keys: pl.DataFrame) -> None:
    section = FeaturesSection(min_subjects=1, exclude_codes=("SEX",))
    codes = {column.code for column in fit_recipe(ward, ward_keys, section, exclude_codes=["DX//*"]).columns}
    assert codes == {"MEDS_BIRTH", "HEIGHT", "LAB//A", "RARE"}


def test_an_unseen_category_gives_zeros(make_record: MakeRecord, make_keys: MakeKeys) -> None:
    texts = ["A", "A", "B", "B", "C"]
    rows = [{"subject_id": s, "code": "SITE", "text_value": text} for s, text in enumerate(texts)]
    record, keys = make_record(rows), make_keys(*((s, 9) for s in range(5)), splits=["train"] * 4 + ["held_out"])
    matrix = extract(record, keys, fit_recipe(record, keys, ANY))
    assert matrix.names == ("static|SITE=A", "static|SITE=B")
    assert matrix.values.tolist() == [[1, 0], [1, 0], [0, 1], [0, 1], [0, 0]]


def test_a_wide_code_space_is_sparse_without_time_since(make_record: MakeRecord, make_keys: MakeKeys) -> None:
    rows = [{"subject_id": s, "time": 0, "code": f"DX//{c}"} for s in range(6) for c in range(s)]
    record, keys = make_record(rows), make_keys(*((s, 9) for s in range(6)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe_module, "WIDE_COLUMNS", 5)
        recipe = fit_recipe(record, keys, ANY)
        assert recipe.layout == "sparse"
        assert extract(record, keys, recipe).is_sparse
    assert "time_since" not in {column.aggregation for column in recipe.columns}
    assert any(note.startswith("time_since is left out") for note in recipe.notes)


def test_the_layout_rule() -> None:
    counts = [Column(str(i), "code", str(i), "count") for i in range(recipe_module.WIDE_COLUMNS + 1)]
    times = [Column(str(i), "code", str(i), "time_since") for i in range(recipe_module.WIDE_COLUMNS + 1)]
    assert Recipe(tuple(counts)).layout == "sparse"
    assert Recipe(tuple(counts[1:])).layout == "dense"
    assert Recipe(tuple(counts + times)).layout == "dense"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"codes": ["LAB//a"]}, r"features.codes: no training row has LAB//a; did you mean LAB//A"),
        ({"codes": ["ZZZZ*"]}, r"no training row has ZZZZ\*; check its spelling"),
        (
            {"codes": ["CAUSE"]},
            r"CAUSE is never known at the prediction time, only later \(earliest after 10.0 days, median 15.5\)",
        ),
        ({"codes": ["SEX"]}, r"features.codes: SEX is a static fact in this record; name it in features.static"),
        ({"static": ["DX//B"]}, r"features.static: DX//B is a timed fact in this record; name it in features.codes"),
        ({"codes": ["TREAT"]}, r"features.codes: TREAT is excluded"),
        ({"min_subjects": 13}, r"no column is left .* 13 training subjects have; lower features.min_subjects"),
    ],
)
def test_what_cannot_be_a_feature_stops_with_its_name(
    ward: Record, ward_keys: pl.DataFrame, section: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        fit_recipe(ward, ward_keys, FeaturesSection.model_validate(section), exclude_codes=["TREAT"])


def test_no_training_rows_is_refused(ward: Record, ward_keys: pl.DataFrame) -> None:
    with pytest.raises(InputError, match="no training rows"):
        fit_recipe(ward, ward_keys.with_columns(split=pl.lit("held_out")), ANY)


@pytest.mark.parametrize("layout", ["dense", "sparse"])
@pytest.mark.parametrize("on", ["local:2", "ray:2"])
def test_worker_processes_and_ray_give_the_same_features(
    ward: Record, ward_keys: pl.DataFrame, monkeypatch: pytest.MonkeyPatch, on: str, layout: str
) -> None:
    if on.startswith("ray"):
        pytest.importorskip("ray")
    section = FeaturesSection(value=("last",), missingness="present", min_subjects=1)
    if layout == "sparse":
        monkeypatch.setattr(recipe_module, "WIDE_COLUMNS", 0)
        monkeypatch.setattr(matrix_module, "WIDE_COLUMNS", 0)
        section = FeaturesSection(value=("last",), windows_days=(1, 2, 5, 9, 20, "all"), min_subjects=1)
    recipe, matrix = fit_features(ward, ward_keys, section)
    assert (matrix.keys.height, recipe.layout) == (12, layout)
    there = fit_features(ward, ward_keys, section, on=on)
    again = extract(ward, ward_keys, recipe, on=on)
    assert there[0] == recipe == fit_recipe(ward, ward_keys, section, on=on)
    for other in (there[1], again):
        assert (other.names, other.is_sparse) == (matrix.names, matrix.is_sparse)
        cells = [m.values.toarray() if m.is_sparse else m.values for m in (matrix, other)]
        assert cells[0].tobytes() == cells[1].tobytes()
