"""A record out as a MEDS dataset (version 0.4)."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

import careloop
from careloop import InputError
from careloop.record.schema import CARELOOP
from careloop.record.store import Record

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
