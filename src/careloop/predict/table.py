"""New patients from a CSV or JSON file: long events, or a wide table with one row a patient."""

from __future__ import annotations

import difflib
import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from careloop import InputError
from careloop.features import Column, FeatureMatrix
from careloop.features.words import code_words
from careloop.predict.recorded import record_patients
from careloop.record import Record, conform, read_events
from careloop.train import Package

TIME = pl.Datetime("us", "UTC")
KEYS = ("subject_id", "prediction_time")
NOT_GIVEN = {"", "na", "nan", "null", "none"}
YES, NO = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}
# Aggregations that one measurement, made at the prediction time, determines; a slope needs two.
OF_ONE_VALUE = {"first", "last", "min", "max", "mean", "value"}


@dataclass(frozen=True, eq=False)
class NewPatients:
    """Feature rows of new patients and the names of the features that the file gave nothing for."""

    matrix: FeatureMatrix
    absent: tuple[str, ...]

    @property
    def note(self) -> str:
        """What was missing, in words."""
        total = len(self.matrix.names)
        if not self.absent:
            return f"all {total} features were given"
        named = ", ".join(self.absent[:5]) + (", …" if len(self.absent) > 5 else "")
        return f"{len(self.absent)} of {total} features were not given and count as missing: {named}"


def read_patients(path: Path, package: Package, *, prediction_time: datetime | None = None) -> NewPatients:
    """Feature rows from a `.csv` or `.json` file (a list of objects).

    With a `code` column the file holds events, read as the record's reader reads them; each patient's prediction time
    is `prediction_time`, else when their last event became known. Otherwise each row is a patient: columns are features
    by their name in the package, or plain names (a code, its last part, or its description) whose value stands for one
    measurement at the prediction time; features of columns not given are unknown, not "no". `subject_id` (else 1, 2,
    ...) and `prediction_time` (else now) may be given.

    InputError for an unknown column (with close matches), a value that is no number (row and column), patients twice.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a .csv or .json file of patients")
    frame = read_text(path)
    if "code" in frame.columns:
        return from_events(read_events(path), package, prediction_time)
    return from_table(frame, package, prediction_time or datetime.now(UTC), where=str(path))


def read_text(path: Path) -> pl.DataFrame:
    """The file's table with every value as text."""
    try:
        if path.suffix.lower() == ".csv":
            return pl.read_csv(path, infer_schema=False)
        if path.suffix.lower() != ".json":
            raise InputError(f"{path} must be a .csv or .json file")
        rows = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            raise InputError(f"{path} must hold a list of objects, one a patient or one an event")
        names = list(dict.fromkeys(name for row in rows for name in row))
        return pl.DataFrame(
            {name: [as_text(row.get(name), path) for row in rows] for name in names},
            schema=dict.fromkeys(names, pl.String),
        )
    except (pl.exceptions.PolarsError, ValueError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a readable {path.suffix[1:]} file (empty, cut off or malformed)") from None


def as_text(value: Any, path: Path) -> str | None:
    """A JSON value as text; nested values are refused."""
    if isinstance(value, list | dict):
        raise InputError(f"{path} holds a nested value; each patient or event is a flat object")
    return None if value is None else str(value)


def from_events(events: pl.DataFrame, package: Package, prediction_time: datetime | None) -> NewPatients:
    """Features of the events' subjects through a record of their own, so that the as-of gate holds here too."""
    check_units(events, package.recipe.columns)
    with tempfile.TemporaryDirectory() as folder:
        record = Record.create(Path(folder) / "record", shards=1).append(events, key="new patients")
        matrix = record_patients(record, package, prediction_time=prediction_time)
    given = set(events["code"].unique())
    absent = tuple(c.name for c in package.recipe.columns if c.kind != "age" and c.code not in given)
    return NewPatients(matrix, absent)


def check_units(events: pl.DataFrame, columns: tuple[Column, ...]) -> None:
    """InputError at a number in another unit than the model's, which extraction would leave out."""
    units = {c.code: c.unit for c in columns if c.kind in ("value", "static_value")}
    expected = pl.col("code").replace_strict(units, default=None, return_dtype=pl.String)
    other = (
        pl.col("code").is_in(list(units)) & pl.col("numeric_value").is_not_null() & pl.col("unit").ne_missing(expected)
    )
    wrong = events.with_row_index("row", offset=1).filter(other)
    if wrong.height:
        row, code = wrong.row(0, named=True)["row"], wrong["code"][0]
        raise InputError(
            f"events, row {row}: the model reads {code} in unit {units[code] or '(none)'}, "
            f"got {wrong['unit'][0] or 'none'} ({wrong.height} such rows); convert the numbers and state the unit"
        )


def from_table(frame: pl.DataFrame, package: Package, now: datetime, *, where: str) -> NewPatients:
    """Features of a wide table of text, one row a patient."""
    if not frame.height:
        raise InputError(f"{where} has no rows: give one row a patient")
    keys, columns = keys_of(frame, now, where), package.recipe.columns
    values = np.full((frame.height, len(columns)), np.nan, dtype=np.float32)  # a column not given is unknown, not "no"
    plain, exact, given = plain_names(columns), {c.name: j for j, c in enumerate(columns)}, set()
    for name in (n for n in frame.columns if n not in KEYS and n not in exact):
        places = plain.get(name.strip().lower())
        if places is None:
            raise unknown_column(name, columns, where)
        given.update(fill_plain(values, columns, places, frame[name], where))
    for name in (n for n in frame.columns if n in exact):
        column = parse(frame[name], numeric, where)
        values[:, exact[name]] = [math.nan if v is None else v for v in column]
        given.add(exact[name])
    matrix = FeatureMatrix(keys, package.recipe.names, values)
    return NewPatients(matrix, tuple(c.name for j, c in enumerate(columns) if j not in given))


def keys_of(frame: pl.DataFrame, now: datetime, where: str) -> pl.DataFrame:
    """subject_id and prediction_time of each row; InputError if two rows have the same."""
    subject = frame["subject_id"] if "subject_id" in frame.columns else pl.Series(range(1, frame.height + 1))
    time = (
        frame["prediction_time"] if "prediction_time" in frame.columns else pl.Series([now] * frame.height, dtype=TIME)
    )
    events = pl.DataFrame({"subject_id": subject, "time": time}).with_columns(code=pl.lit("row"), known_time=None)
    keys = conform(events, where=where).select("subject_id", prediction_time="time")
    keys = keys.with_columns(pl.col("prediction_time").fill_null(pl.lit(now).cast(TIME)))
    repeated = keys.is_duplicated()
    if repeated.any():
        raise InputError(
            f"{where}, row {repeated.arg_true()[0] + 1}: the patient occurs more than once at one prediction time; "
            "keep one row of each patient, or give different prediction times"
        )
    return keys


def plain_names(columns: tuple[Column, ...]) -> dict[str, list[int]]:
    """Lower-case plain name -> the features of the code that it names; names of several codes are left out."""
    codes: dict[str, set[str]] = {}
    for column in columns:
        for name in plain_names_of(column):
            codes.setdefault(name.lower(), set()).add(column.code)
    by_code: dict[str, list[int]] = {}
    for j, column in enumerate(columns):
        by_code.setdefault(column.code, []).append(j)
    return {name: by_code[next(iter(found))] for name, found in codes.items() if len(found) == 1}


def plain_names_of(column: Column) -> set[str]:
    """The code, its last part, and its description; `age` and `age_years` for the age."""
    if column.kind == "age":
        return {"age", "age_years"}
    return {column.code, column.code.rsplit("//", 1)[-1], code_words(column)}


def fill_plain(
    values: np.ndarray, columns: tuple[Column, ...], places: list[int], given: pl.Series, where: str
) -> set[int]:
    """Write a plain column's values into the features (by position) of its code; the features it determines."""
    kinds = {columns[j].kind for j in places}
    if kinds == {"static_category"}:
        categories = [columns[j].category or "" for j in places]
        texts = parse(given, category_reader(categories), where)
        for j in places:
            values[:, j] = [math.nan if text is None else float(text == columns[j].category) for text in texts]
        return set(places)
    reader = yes_or_no if kinds <= {"code", "static_present"} else numeric
    numbers = parse(given, reader, where)
    for j in places:
        values[:, j] = [of_one(columns[j], number) for number in numbers]
    return set(places)


def of_one(column: Column, number: float | None) -> float:
    """The feature when all that is known of its code is one number (or yes and no), recorded at the prediction time.

    Nothing given means not measured for a code with numbers, and unknown for a yes or no.
    """
    if number is None:
        return column.absent if column.kind == "value" else math.nan
    if column.kind == "code" and number == 0:
        return column.absent
    if column.kind in ("age", "static_value", "static_present") or column.aggregation in OF_ONE_VALUE:
        return number
    return {"present": 1.0, "count": 1.0, "time_since": 0.0}.get(column.aggregation, math.nan)


def parse(given: pl.Series, reader: Callable[[str], Any], where: str) -> list[Any]:
    """Each text through `reader`, None where nothing is given; InputError names row and column, not the value."""
    result: list[Any] = []
    for i, text in enumerate(given.cast(pl.String).to_list()):
        stripped = (text or "").strip()
        if stripped.lower() in NOT_GIVEN:
            result.append(None)
            continue
        try:
            result.append(reader(stripped))
        except ValueError as error:
            raise InputError(
                f"{where}, row {i + 1}, column {given.name!r}: {error}; correct it or leave it empty"
            ) from None
    return result


def numeric(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > float(np.finfo(np.float32).max):
        raise ValueError("the value must be a number")
    return value


def yes_or_no(text: str) -> float:
    """1 or 0."""
    if text.lower() in YES | NO:
        return float(text.lower() in YES)
    raise ValueError("the value must be 0 or 1")


def category_reader(categories: list[str]) -> Callable[[str], str]:
    """A reader that takes the training categories only."""

    def read(text: str) -> str:
        if text not in categories:
            raise ValueError(f"the value must be one of {', '.join(categories)}")
        return text

    return read


def unknown_column(name: str, columns: tuple[Column, ...], where: str) -> InputError:
    """The error for a column that names no feature, with the closest names."""
    names = sorted({plain for c in columns for plain in (c.name, *plain_names_of(c))})
    lowered = {known.lower(): known for known in names}
    close = [lowered[found] for found in difflib.get_close_matches(name.lower(), list(lowered), n=3, cutoff=0.5)]
    meant = f"did you mean {', '.join(close)}?" if close else f"the model reads {', '.join(names[:8])}, …"
    return InputError(f"{where}: column {name!r} is no feature of the model; {meant} Rename or drop the column")
