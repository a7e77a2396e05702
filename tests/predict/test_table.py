"""New patients from CSV and JSON: events or one row a patient; every mistake is named by row and column."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from careloop import InputError
from careloop.predict import predict, read_patients

Write = Callable[[str, str], Path]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def value(found: Any, name: str, row: int = 0) -> float:
    return float(found.matrix.values[row, found.matrix.names.index(name)])


def test_plain_names_stand_for_one_measurement(world: Any, write: Write) -> None:
    path = write("new.csv", "subject_id,age,CD4 count,SEX,TRANSFUSION\n5,40,210,male,1\n6,50,,female,0\n")
    found = read_patients(path, world.package(), prediction_time=NOW)
    assert found.matrix.keys["subject_id"].to_list() == [5, 6]
    assert found.absent == ()
    assert value(found, "age_years") == 40
    assert value(found, "LOINC//24467-3|all|last") == 210
    assert value(found, "LOINC//24467-3|all|mean") == 210
    assert value(found, "LOINC//24467-3|all|present") == 1
    assert np.isnan(value(found, "LOINC//24467-3|all|last", 1))
    assert value(found, "LOINC//24467-3|all|present", 1) == 0
    assert (value(found, "static|SEX=male"), value(found, "static|SEX=female")) == (1, 0)
    assert value(found, "TRANSFUSION|all|present") == 1
    assert value(found, "TRANSFUSION|all|present", 1) == 0


def test_a_wide_row_and_the_same_facts_as_events_give_the_same_features(world: Any, write: Write) -> None:
    wide = read_patients(
        write("w.csv", "subject_id,age,24467-3,SEX,TRANSFUSION\n1,40,210,male,0\n"),
        world.package(),
        prediction_time=NOW,
    )
    birth = (NOW.timestamp() - 40 * 365.25 * 86400) * 1e6
    rows = [
        {"subject_id": 1, "time": datetime.fromtimestamp(birth / 1e6, UTC).isoformat(), "code": "MEDS_BIRTH"},
        {"subject_id": 1, "time": NOW.isoformat(), "code": "LOINC//24467-3", "numeric_value": 210, "unit": "/uL"},
        {"subject_id": 1, "time": None, "code": "SEX", "text_value": "male"},
    ]
    long = read_patients(write("l.json", json.dumps(rows)), world.package(), prediction_time=NOW)
    np.testing.assert_allclose(wide.matrix.values, long.matrix.values, rtol=1e-6)
    assert predict(world.package(), long.matrix, record_version=0)["abstained"].to_list() == [False]


def test_events_after_the_prediction_time_do_not_count(world: Any, write: Write) -> None:
    rows = ["1,2025-01-01,LOINC//24467-3,210,/uL", "1,2026-06-01,LOINC//24467-3,900,/uL"]
    text = "\n".join(["subject_id,time,code,numeric_value,unit", *rows])
    found = read_patients(write("e.csv", text), world.package(), prediction_time=NOW)
    assert value(found, "LOINC//24467-3|all|max") == 210
    latest = read_patients(write("e.csv", text), world.package())
    assert latest.matrix.keys["prediction_time"].to_list() == [datetime(2026, 6, 1, tzinfo=UTC)]


def test_feature_names_are_taken_as_they_are(world: Any, write: Write) -> None:
    rows = [{"age_years": 33, "LOINC//24467-3|all|last": 450.5, "LOINC//24467-3|all|mean": None}]
    found = read_patients(write("p.json", json.dumps(rows)), world.package(), prediction_time=NOW)
    assert value(found, "LOINC//24467-3|all|last") == 450.5
    assert found.matrix.keys.row(0) == (1, NOW)


@pytest.mark.parametrize(("unit", "got"), [("", "none"), ("10*9/L", r"10\*9/L")])
def test_a_number_in_another_unit_is_not_left_out_silently(unit: str, got: str, world: Any, write: Write) -> None:
    text = f"subject_id,time,code,numeric_value,unit\n1,2025-01-01,X,1,\n1,2025-01-01,LOINC//24467-3,210,{unit}\n"
    with pytest.raises(InputError, match=rf"row 2: the model reads LOINC//24467-3 in unit /uL, got {got} \(1 such"):
        read_patients(write("e.csv", text), world.package())


def test_an_empty_cell_is_not_measured_for_a_number_and_unknown_for_yes_or_no(world: Any, write: Write) -> None:
    found = read_patients(write("p.csv", "age,24467-3,SEX,TRANSFUSION\n40,,,\n"), world.package(), prediction_time=NOW)
    assert value(found, "LOINC//24467-3|all|present") == 0
    assert np.isnan(value(found, "static|SEX=male"))
    assert np.isnan(value(found, "TRANSFUSION|all|present"))


def test_what_is_not_given_is_counted(world: Any, write: Write) -> None:
    found = read_patients(write("p.csv", "age\n40\n"), world.package(), prediction_time=NOW)
    assert len(found.absent) == len(found.matrix.names) - 1
    assert np.isnan(found.matrix.values).sum() == len(found.absent)
    (reason,) = predict(world.package(), found.matrix, record_version=0)["abstained_reason"]
    assert "of the features are missing" in reason
    assert found.note.startswith(f"{len(found.absent)} of {len(found.matrix.names)} features were not given")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("age,CD4 cuont\n40,200\n", r"column 'CD4 cuont' is no feature of the model; did you mean CD4 count"),
        ("age,zzzzzz\n40,200\n", r"the model reads "),
        ("age\n40\nforty\n", r"row 2, column 'age': the value must be a number"),
        ("age\ninf\n", r"row 1, column 'age': the value must be a number"),
        ("age\n1e300\n", r"row 1, column 'age': the value must be a number"),
        ("TRANSFUSION\nmaybe\n", r"row 1, column 'TRANSFUSION': the value must be 0 or 1"),
        ("SEX\nmael\n", r"row 1, column 'SEX': the value must be one of female, male"),
        ("subject_id,age\n1,40\n1,41\n", r"row 1: the patient occurs more than once at one prediction time"),
        ("subject_id,age\nP1,40\n", r"row 1: subject_id must be a 64-bit integer"),
        ("age,prediction_time\n40,yesterday\n", r"row 1"),
        ("age\n", r"has no rows"),
    ],
)
def test_mistakes_are_named(text: str, message: str, world: Any, write: Write) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_patients(write("p.csv", text), world.package(), prediction_time=NOW)
    assert "forty" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.json", "{", "not a readable json"),
        ("p.json", '{"age": 40}', "must hold a list of objects"),
        ("p.json", '[{"age": [40]}]', "nested value"),
        ("p.xlsx", "age", r"must be a \.csv or \.json"),
        ("p.csv", "", "not a readable csv"),
        ("p.csv", "subject_id,code,time\n1,A,\n", "facts without a time only"),
    ],
)
def test_unreadable_files_are_refused(name: str, text: str, message: str, world: Any, write: Write) -> None:
    with pytest.raises(InputError, match=message):
        read_patients(write(name, text), world.package())


def test_a_missing_file_is_named(world: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_patients(tmp_path / "none.csv", world.package())
