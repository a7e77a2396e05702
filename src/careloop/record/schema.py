"""The event schema (a superset of MEDS), the check every row passes before it is stored, and events read from files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from careloop import InputError

TIME = pl.Datetime("us", "UTC")
EVENTS = pl.Schema(
    {
        "subject_id": pl.Int64(),
        "time": TIME,
        "known_time": TIME,
        "code": pl.String(),
        "numeric_value": pl.Float32(),
        "unit": pl.String(),
        "text_value": pl.String(),
        "asset": pl.String(),
        "source": pl.String(),
    }
)
REQUIRED = ("subject_id", "time", "code")
BIRTH = "MEDS_BIRTH"
DEATH = "MEDS_DEATH"
CARELOOP = "CARELOOP//"  # prefix of what careloop itself writes: predictions, plans, decisions, verdicts

# People alive today and appointments already made lie well inside; a date outside is a slip of the keyboard.
EARLIEST = datetime(1850, 1, 1, tzinfo=UTC)
LATEST = datetime(2150, 1, 1, tzinfo=UTC)
TIME_RULE = "must be an ISO 8601 date or time (2026-01-31 or 2026-01-31T09:30:00Z, UTC where no zone is given)"
TIME_FORMATS = (
    "%Y-%m-%d",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M",
)
# CSV is read as text, so that `conform` can name the row of a value that does not fit.
READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".csv": lambda path: pl.read_csv(path, infer_schema=False, glob=False),
    ".json": lambda path: pl.read_json(path, infer_schema_length=None),
    ".jsonl": lambda path: pl.read_ndjson(path, infer_schema_length=None),
    ".ndjson": lambda path: pl.read_ndjson(path, infer_schema_length=None),
    ".parquet": lambda path: pl.read_parquet(path, hive_partitioning=False, glob=False),
}


def conform(frame: pl.DataFrame | pl.LazyFrame, *, where: str = "events") -> pl.DataFrame:
    """Return `frame` with exactly the columns and types of `EVENTS`, rows in their order.

    Missing optional columns become null; `known_time` is `time` where it is null; NaN becomes null; times without a
    zone are UTC. `where` names the origin in error messages.

    Raises:
        InputError: unknown or missing column; null subject_id or code; known_time without time; a time that is no
            date or outside 1850 to 2150; a value that does not fit its column's type.
    """
    frame = frame.lazy().collect()
    _check_columns(frame.columns, where)
    columns = {name: _column(frame, name, where) for name in EVENTS}
    time, known = columns["time"], columns["known_time"]
    _refuse(columns["subject_id"].is_null(), "subject_id must not be null", where)
    _refuse(columns["code"].fill_null("") == "", "code must not be empty", where)
    _refuse(time.is_null() & known.is_not_null(), "known_time needs a time (a static fact has neither)", where)
    columns["known_time"] = known.zip_with(known.is_not_null(), time)
    return pl.DataFrame(columns, schema=EVENTS)


def code_matches(codes: Sequence[str], column: str = "code") -> pl.Expr:
    """Return the expression that is true where `column` equals one of `codes`, or begins with one that ends in `*`."""
    exact = [code for code in codes if not code.endswith("*")]
    matches = pl.col(column).is_in(exact)
    for code in codes:
        if code.endswith("*"):
            matches = matches | pl.col(column).str.starts_with(code[:-1])
    return matches


def read_events(path: str | Path) -> pl.DataFrame:
    """Read events from a `.csv`, `.json` (list of objects), `.jsonl`/`.ndjson` or `.parquet` file, then `conform` them.

    Raises:
        InputError: no such file, another format, a file that is cut off or unreadable, or a row that `conform` refuses.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in READERS:
        raise InputError(f"{path}: events are read from {', '.join(READERS)} files; convert the file to one of them")
    return conform(_read(path, kind), where=str(path))


def _read(path: Path, kind: str) -> pl.DataFrame:
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path")
    try:
        return READERS[kind](path)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError):
        # The reader's own message may quote a patient's values, so it is not repeated here.
        raise InputError(
            f"{path}: not a readable {kind[1:]} file (empty, cut off or malformed); export it again"
        ) from None


def _check_columns(names: Sequence[str], where: str) -> None:
    unknown = sorted(set(names) - set(EVENTS))
    if unknown:
        allowed = ", ".join(EVENTS)
        raise InputError(f"{where}: unknown column {', '.join(unknown)}; rename or drop it (allowed: {allowed})")
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise InputError(f"{where}: missing column {', '.join(missing)}; add it (time is null for a static fact)")


def _column(frame: pl.DataFrame, name: str, where: str) -> pl.Series:
    if name not in frame.columns or frame.schema[name] == pl.Null:
        return pl.Series(name, [None], dtype=EVENTS[name]).new_from_index(0, frame.height)
    column = frame[name]
    if column.dtype == EVENTS[name] and name not in {"time", "known_time", "numeric_value"}:
        return column
    if name in {"time", "known_time"}:
        return _times(column, where)
    if name == "subject_id":
        return _integers(column, where)
    if name == "numeric_value":
        return _numbers(column, where)
    if column.dtype.is_nested() or column.dtype in {pl.Binary, pl.Object}:
        raise InputError(f"{where}: {name} must be text, got {column.dtype}; convert the column")
    return column.cast(pl.String)


def _integers(column: pl.Series, where: str) -> pl.Series:
    if not (column.dtype.is_numeric() or column.dtype == pl.String):
        raise InputError(f"{where}: {column.name} must be a 64-bit integer, got {column.dtype}; convert the column")
    result = column.cast(pl.Int64, strict=False)
    changed = result.is_null() & column.is_not_null()
    if column.dtype.is_float() or column.dtype.is_decimal():
        changed = changed | (result.cast(column.dtype, strict=False) != column).fill_null(False)
    _refuse(changed, f"{column.name} must be a 64-bit integer", where)
    return result


def _numbers(column: pl.Series, where: str) -> pl.Series:
    if not (column.dtype.is_numeric() or column.dtype in {pl.String, pl.Boolean}):
        raise InputError(f"{where}: {column.name} must be a number, got {column.dtype}; convert the column")
    result = column.cast(pl.Float32, strict=False)
    _refuse(result.is_null() & column.is_not_null(), f"{column.name} must be a number", where)
    _refuse(result.is_infinite().fill_null(False), f"{column.name} must fit a 32-bit float", where)
    return result.fill_nan(None)


def _times(column: pl.Series, where: str) -> pl.Series:
    if column.dtype in {pl.String, pl.Categorical, pl.Enum}:
        text = column.cast(pl.String)
        column = _parse(text).alias(column.name)
        _refuse(column.is_null() & text.is_not_null(), f"{column.name} {TIME_RULE}", where)
    elif column.dtype == pl.Date:
        column = column.cast(pl.Datetime("ms"))
    if not isinstance(column.dtype, pl.Datetime):
        raise InputError(f"{where}: {column.name} {TIME_RULE}, got {column.dtype}; convert the column")
    # In milliseconds, because a wild millisecond date would overflow in microseconds and come out plausible.
    when = column.dt.epoch("ms")
    outside = (when < int(EARLIEST.timestamp() * 1000)) | (when > int(LATEST.timestamp() * 1000))
    _refuse(outside.fill_null(False), f"{column.name} must lie between 1850 and 2150", where)
    return _utc(column).cast(TIME)


def _utc(column: pl.Series) -> pl.Series:
    zoned = isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone
    return column.dt.convert_time_zone("UTC") if zoned else column.dt.replace_time_zone("UTC")


def _parse(text: pl.Series) -> pl.Series:
    """Return the times that `text` writes in any of `TIME_FORMATS`; null where in none."""
    text = text.str.strip_chars()
    times = pl.Series(text.name, [None], dtype=TIME).new_from_index(0, len(text))
    for form in TIME_FORMATS:
        done = times.is_not_null() | text.is_null()
        if done.all():
            break
        times = times.zip_with(done, _utc(text.str.to_datetime(form, time_unit="us", strict=False)))
    return times


def _refuse(bad: pl.Series, rule: str, where: str) -> None:
    """Raise InputError naming the first row where `bad` is true; rows are counted from 1, without the header."""
    if bad.any():
        rows = bad.arg_true()
        more = f" (and {len(rows) - 1} more rows)" if len(rows) > 1 else ""
        raise InputError(f"{where}, row {rows[0] + 1}{more}: {rule}; correct or remove the row")
