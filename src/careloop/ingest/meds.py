"""MEDS datasets (version 0.4): their events as they are, subject splits as static facts, what codes mean."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from careloop import InputError
from careloop.ingest.delivery import BATCH_ROWS, Batch, Reject, Source
from careloop.ingest.tables.columns import kept, utc_times
from careloop.ingest.tables.rows import NO_CELL, plain_types
from careloop.record import CARELOOP, EVENTS
from careloop.record.schema import REQUIRED, TIME
from careloop.record.store import CODES

SPLIT = f"{CARELOOP}SPLIT//"  # a subject's split, kept as a static fact that is never a feature
ROW = "\0row"
# MEDS numbers its subjects itself: batches carry `subject_id` in place of `subject`.
ARRIVING = pl.Schema({**EVENTS})


def meds_sources(path: Path) -> list[Source]:
    """Return a source for each data file of a MEDS dataset folder, for its subject splits and for its codes.

    All rows of a subject have one source, `MEDS//<dataset>//<subject_id>`, unless they name their own: a newer export
    replaces a subject's rows together. A batch therefore holds whole subjects, also where one has more rows than
    BATCH_ROWS. Columns named as in `EVENTS` are kept. The values of others are counted in `skipped` ("column X: no
    place in the record"); these counts are cells, not rows, and stand outside rows_read = rows_kept + rejected +
    skipped. A file whose subjects do not lie together, against the standard, is sorted in memory.

    Raises:
        InputError: no `data/*.parquet`, or a dataset.json that cannot be read.
    """
    path = Path(path)
    files = sorted((path / "data").rglob("*.parquet"))
    if not files:
        raise InputError(
            f"{path}: is no MEDS dataset (no data/*.parquet); give the folder that holds data/ and metadata/"
        )
    prefix = f"MEDS//{_dataset_name(path)}//"
    metadata = path / "metadata"
    found = [
        *(_source(path, file, lambda file, place: _events(file, place, prefix)) for file in files),
        _source(path, metadata / "subject_splits.parquet", lambda file, place: _splits(file, place, prefix)),
        _source(path, metadata / "codes.parquet", _codes),
    ]
    return [source for source in found if source.files[0].exists()]


def _source(path: Path, file: Path, read: Callable[[Path, str], Iterator[Batch]]) -> Source:
    name = str(file.relative_to(path))

    def batches() -> Iterator[Batch]:
        try:
            yield from read(file, name)
        except (pl.exceptions.PolarsError, OSError):
            yield _broken(name, "no readable MEDS parquet file from here on")

    return Source(name, (file,), batches)


def _dataset_name(path: Path) -> str:
    """The dataset's name from dataset.json; the folder's name where it has none."""
    try:
        name = json.loads((path / "metadata" / "dataset.json").read_text(encoding="utf-8")).get("dataset_name")
    except FileNotFoundError:
        name = None
    except (ValueError, AttributeError):
        raise InputError(f"{path}/metadata/dataset.json: no readable JSON object; correct or remove it") from None
    return str(name or path.resolve().name)


def _events(file: Path, place: str, prefix: str) -> Iterator[Batch]:
    scan = _scan(file)
    names = scan.collect_schema().names()
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        yield _broken(place, f"the file has no column {', '.join(missing)}")
        return
    unplaced = [name for name in names if name not in EVENTS and name != ROW]
    for rows in _whole_subjects(scan):
        events, wrong = _cast(rows)
        rejected = _rejects(rows, wrong, place)
        events = events.filter(~pl.lit(rows[ROW]).is_in(wrong[ROW].implode()))
        source = pl.coalesce("source", prefix + pl.col("subject_id").cast(pl.String))
        values = Counter({f"column {name}: no place in the record": rows[name].count() for name in unplaced})
        yield Batch(events.with_columns(source=source), rows.height, events.height, rejected, dict(+values))


def _splits(file: Path, place: str, prefix: str) -> Iterator[Batch]:
    scan = _scan(file)
    if not {"subject_id", "split"} <= set(scan.collect_schema().names()):
        yield _broken(place, "the file has no columns subject_id and split")
        return
    for part in scan.select(ROW, "subject_id", "split").collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
        split = SPLIT + pl.col("split").cast(pl.String)
        rows = plain_types(part).select(ROW, "subject_id", time=pl.lit(None, TIME), code=split)
        events, wrong = _cast(rows)
        events = events.filter(~pl.lit(rows[ROW]).is_in(wrong[ROW].implode()))
        source = pl.format("{}split//{}", pl.lit(prefix), "subject_id")
        rejected = _rejects(rows, wrong, place)
        yield Batch(events.with_columns(source=source), rows.height, events.height, rejected)


def _codes(file: Path, place: str) -> Iterator[Batch]:
    """What codes mean is about no patient: it is not counted as rows."""
    rows = pl.read_parquet(file, glob=False, hive_partitioning=False)
    if "code" not in rows.columns:
        yield _broken(place, "the file has no column code")
        return
    known = [pl.col(name).cast(kind) for name, kind in CODES.items() if name in rows.columns]
    codes = rows.select(known).drop_nulls("code").unique("code", keep="first", maintain_order=True)
    values = {
        f"column {name}: no place in the record": rows[name].count() for name in rows.columns if name not in CODES
    }
    counted = {reason: count for reason, count in values.items() if count}
    yield Batch(ARRIVING.to_frame(), 0, 0, skipped=counted, codes=codes)


def _broken(place: str, reason: str) -> Batch:
    return Batch(ARRIVING.to_frame(), 1, 0, [Reject(place, reason)])


def _scan(file: Path) -> pl.LazyFrame:
    return pl.scan_parquet(file, glob=False, hive_partitioning=False).with_row_index(ROW, offset=1)


def _whole_subjects(scan: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """Rows in parts that end where a subject ends."""
    if not _lie_together(scan):
        scan = scan.sort("subject_id", maintain_order=True)
    waiting: pl.DataFrame | None = None
    for part in scan.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
        rows = part if waiting is None else pl.concat([waiting, part])
        if not rows.height:
            continue
        begin = rows.height - rows["subject_id"].rle().struct.field("len")[-1]
        if begin:
            yield plain_types(rows[:begin])
        waiting = rows[begin:]
    if waiting is not None:
        yield plain_types(waiting)


def _lie_together(scan: pl.LazyFrame) -> bool:
    """True where no subject's rows are parted by another's; memory grows with subjects, not with rows."""
    parts = scan.select("subject_id").collect_batches(chunk_size=BATCH_ROWS, maintain_order=True)
    runs = [part["subject_id"].rle().struct.field("value").rename("subject_id") for part in parts]
    subjects = pl.concat(runs) if runs else pl.Series([], dtype=pl.Int64())
    return subjects.rle().len() == subjects.n_unique()


def _cast(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows with the types of EVENTS, and number and reason of each row that does not fit them."""
    cast = {name: _column(rows[name], kind) for name, kind in EVENTS.items() if name in rows.columns}
    wrong = [(cast[name].is_null() & rows[name].is_not_null(), f"{name} is no {_kind(name)}") for name in cast]
    wrong.append((cast["subject_id"].is_null(), "subject_id is missing"))
    wrong.append((cast["code"].fill_null("") == "", "code is missing"))
    missing = [pl.lit(None, EVENTS[name]).alias(name) for name in EVENTS if name not in cast]
    events = pl.DataFrame(cast).with_columns(missing).with_columns(pl.col("numeric_value").fill_nan(None))
    wrong.append((events["time"].is_null() & events["known_time"].is_not_null(), "known_time without time"))
    marks = [
        pl.DataFrame({ROW: rows[ROW].filter(is_wrong)}).with_columns(reason=pl.lit(why)) for is_wrong, why in wrong
    ]
    return events.select(EVENTS.names()), pl.concat(marks).unique(ROW, keep="first", maintain_order=True).sort(ROW)


def _column(column: pl.Series, kind: pl.DataType) -> pl.Series:
    """The column in another type; null where a value does not fit."""
    if kind == TIME:
        return utc_times(column if column.dtype.is_temporal() else column.cast(pl.String), "UTC")
    if kind == pl.String:
        text = column.cast(pl.String)
        return kept(text, text != NO_CELL)
    number = column.cast(pl.Float64) if column.dtype.is_decimal() else column
    return number.cast(kind, strict=False)


def _kind(name: str) -> str:
    kind = EVENTS[name]
    return "time" if kind == TIME else "number" if kind.is_numeric() else "text"


def _rejects(rows: pl.DataFrame, wrong: pl.DataFrame, place: str) -> list[Reject]:
    broken = rows.join(wrong, on=ROW, how="inner", maintain_order="right")
    raw = broken.drop(ROW, "reason").write_ndjson().split("\n")[:-1]
    places = [f"{place} row {number}" for number in broken[ROW]]
    return [Reject(*parts) for parts in zip(places, broken["reason"], raw, strict=True)]
