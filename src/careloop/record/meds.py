"""A MEDS dataset (version 0.4) into a record, file by file, and a record out as one."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

import careloop
from careloop import InputError
from careloop.record.schema import CARELOOP, EVENTS, TIME, conform, read_parquet
from careloop.record.store import CODES, Record

MEDS_VERSION = "0.4.1"
SPLIT = f"{CARELOOP}SPLIT//"  # a subject's split, kept as a static fact that is never a feature
# MEDS's own columns first; the others are extra columns, which MEDS allows and dataset.json declares.
COLUMNS = ("subject_id", "time", "code", "numeric_value", "text_value", "known_time", "unit", "asset", "source")
EXPORT_ROWS = 1_000_000  # a row group; Arrow's plain string type holds at most 2 GB of text in one
DECLARED = {
    "raw_source_id_columns": ["source"],
    "code_modifier_columns": ["unit"],
    "additional_value_modality_columns": ["asset"],
    "other_extension_columns": ["known_time"],
}


def import_meds(path: str | Path, record: Record, *, progress: Callable[[str, int, int], None] | None = None) -> Record:
    """Take a MEDS dataset folder into `record`, one commit a data file, and return the newest version.

    MEDS keeps all rows of a subject in one file, so a subject's rows of this dataset are replaced together: importing
    the same dataset twice changes nothing, and a newer export supersedes the older one however it is divided into
    files. Codes and subject splits come along. Extra columns named as in `EVENTS` are kept; values of all others are
    counted in a warning (and by `unplaced_values`). `progress` is told what is read, how many are
    done, of how many.

    Raises:
        InputError: no MEDS dataset, a file that is cut off, or a row that `conform` refuses.
    """
    path = Path(path)
    name = _dataset_name(path)
    unplaced: Counter[str] = Counter()
    files = _data_files(path)
    for done, file in enumerate(files):
        if progress is not None:
            progress("MEDS files", done, len(files))
        rows = read_parquet(file)
        unplaced += _unplaced(rows, EVENTS)
        events = conform(rows.select([c for c in rows.columns if c in EVENTS]), where=str(file))
        record = _take(record, events, f"MEDS//{name}//", file)
    for file in _present(path / "metadata" / "subject_splits.parquet"):
        record = _take(record, _split_events(file), f"MEDS//{name}//split//", file)
    for file in _present(path / "metadata" / "codes.parquet"):
        rows = read_parquet(file)
        unplaced += _unplaced(rows, CODES)
        record.describe_codes(rows.select([c for c in rows.columns if c in CODES]).unique("code", maintain_order=True))
    if unplaced:
        listed = ", ".join(f"{column} ({count} values)" for column, count in sorted(unplaced.items()))
        warnings.warn(f"{path}: columns without a place in the record were left out: {listed}", stacklevel=2)
    return record


def unplaced_values(path: str | Path) -> dict[str, int]:
    """Count the values of a MEDS dataset that `import_meds` leaves out, by column; empty where it keeps everything."""
    path = Path(path)
    counts: Counter[str] = Counter()
    for file in _data_files(path):
        counts += _unplaced(read_parquet(file), EVENTS)
    for file in _present(path / "metadata" / "codes.parquet"):
        counts += _unplaced(read_parquet(file), CODES)
    return dict(sorted(counts.items()))


def export_meds(record: Record, path: str | Path) -> None:
    """Write the record as a MEDS dataset into a new folder: one data file a shard, dataset.json, codes, splits.

    known_time, unit, asset and source are written as extra columns; times are UTC without a zone, as MEDS has them.

    Raises:
        InputError: the folder is not empty, or pyarrow is not installed.
    """
    path = Path(path)
    if path.exists() and any(path.iterdir()):
        raise InputError(f"{path}: the folder is not empty; choose a new folder for the export")
    (path / "data").mkdir(parents=True)
    (path / "metadata").mkdir()
    codes: set[str] = set()
    splits = []
    for shard in range(record.shards):
        events = record.events(shard).sort("subject_id", "time", "code", *COLUMNS[3:]).collect()
        is_split = events["code"].str.starts_with(SPLIT)
        splits.append(events.filter(is_split).select("subject_id", split=pl.col("code").str.strip_prefix(SPLIT)))
        events = events.filter(~is_split)
        if events.height:
            naive = pl.col("time", "known_time").dt.replace_time_zone(None)
            _write_parquet(events.select(COLUMNS).with_columns(naive), path / "data" / f"{shard}.parquet")
            codes.update(events["code"].unique())
    _write_metadata(record, path / "metadata", codes=codes, splits=pl.concat(splits))


def _dataset_name(path: Path) -> str:
    """Return the dataset's name from dataset.json; the folder's name where it has none."""
    try:
        name = json.loads((path / "metadata" / "dataset.json").read_text()).get("dataset_name")
    except FileNotFoundError:
        name = None
    except (ValueError, AttributeError):
        raise InputError(f"{path}/metadata/dataset.json: no readable JSON object; correct or remove it") from None
    return name or path.resolve().name


def _data_files(path: Path) -> list[Path]:
    files = sorted((path / "data").rglob("*.parquet"))
    if not files:
        raise InputError(
            f"{path}: is no MEDS dataset (no data/*.parquet); give the folder that holds data/ and metadata/"
        )
    return files


def _present(file: Path) -> Iterator[Path]:
    if file.exists():
        yield file


def _unplaced(rows: pl.DataFrame, placed: pl.Schema) -> Counter[str]:
    return Counter({column.name: column.len() - column.null_count() for column in rows if column.name not in placed})


def _split_events(file: Path) -> pl.DataFrame:
    rows = read_parquet(file)
    if not {"subject_id", "split"} <= set(rows.columns):
        raise InputError(f"{file}: needs the columns subject_id and split; export it again")
    static = rows.select("subject_id", time=pl.lit(None, dtype=TIME), code=SPLIT + pl.col("split").cast(pl.String))
    return conform(static, where=str(file))


def _take(record: Record, events: pl.DataFrame, prefix: str, file: Path) -> Record:
    """Supersede what the record holds of these subjects from this dataset; the file's content is the key."""
    source = pl.coalesce("source", prefix + pl.col("subject_id").cast(pl.String))
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "blake2b").hexdigest()[:32]
    return record.supersede(events.with_columns(source.alias("source")), key=f"{prefix}{digest}")


def _write_metadata(record: Record, folder: Path, *, codes: set[str], splits: pl.DataFrame) -> None:
    described = record.code_metadata()
    listed = pl.DataFrame({"code": sorted(codes)}, schema={"code": pl.String()})
    _write_parquet(listed.join(described, on="code", how="left", maintain_order="left"), folder / "codes.parquet")
    if splits.height:
        _write_parquet(splits.sort("subject_id"), folder / "subject_splits.parquet")
    dataset = {
        "dataset_name": record.path.resolve().name,
        "dataset_version": str(record.version),
        "etl_name": "careloop",
        "etl_version": careloop.__version__,
        "meds_version": MEDS_VERSION,
        **DECLARED,
    }
    (folder / "dataset.json").write_text(json.dumps(dataset, indent=2) + "\n")


def _write_parquet(rows: pl.DataFrame, file: Path) -> None:
    """Write with the Arrow types that MEDS names: `string`, and `large_string` for text_value alone.

    polars writes all text as large_string, which the schemas of the `meds` package refuse.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise InputError("MEDS export needs pyarrow, which is not installed; install it: pip install pyarrow") from None
    types = {pl.String(): pa.string(), pl.List(pl.String()): pa.list_(pa.string())}
    plain = rows.head(0).to_arrow().schema
    fields = [
        (n, types.get(t, plain.field(n).type) if n != "text_value" else pa.large_string())
        for n, t in rows.schema.items()
    ]
    schema = pa.schema(fields)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for part in rows.iter_slices(EXPORT_ROWS):
            writer.write_table(part.to_arrow().cast(schema))
