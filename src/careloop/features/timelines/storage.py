"""Timelines on disk: one Arrow IPC file of events and one of rows for each part, mapped into memory as they lie."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.models.sequence.arrays import Sequences

if TYPE_CHECKING:
    import pyarrow

TIMELINES_FORMAT = 1
INDEX, KEYS_FILE = "timelines.json", "keys.arrow"
NOTES_FILE = "{:05}.notes.npy"  # half precision, which Arrow files of polars do not have
DTYPES = {"code": np.int32, "quantile": np.uint8, "value": np.float32, "time": np.float64, "note": np.int32}


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder`, which takes its place when the block ends without an exception.

    Raises:
        InputError: `folder` holds something else than timelines.
    """
    if folder.exists() and not (folder / INDEX).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: holds something else than timelines; choose a new folder")
    unfinished, old = (folder.with_name(f"{folder.name}.{state}") for state in ("unfinished", "old"))
    for left in (unfinished, old):
        shutil.rmtree(left, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    if folder.exists():
        folder.rename(old)
    unfinished.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def write_part(sequences: Sequences, folder: Path, number: int) -> None:
    """Write the sequences as part `number`: one record batch, uncompressed, so that arrays can be mapped."""
    events = pl.DataFrame(sequences.event_arrays)
    rows = pl.DataFrame({"end": sequences.offsets[1:], "at": sequences.at})
    static = pl.DataFrame({f"static{i}": sequences.static[:, i] for i in range(sequences.static.shape[1])})
    rows = pl.concat([rows, static], how="horizontal") if static.width else rows
    for kind, frame in (("events", events), ("rows", rows)):
        _write(frame, folder / f"{number:05}.{kind}.arrow")
    if sequences.notes is not None:
        np.save(folder / NOTES_FILE.format(number), sequences.notes, allow_pickle=False)


def write_index(keys: pl.DataFrame, part: NDArray[np.intp], row: NDArray[np.intp], folder: Path) -> None:
    """Write what makes parts that stand in `folder` timelines: keys with their places, and the sizes of all files."""
    places = {name: pl.Series(values, dtype=pl.Int64) for name, values in (("part", part), ("row", row))}
    _write(keys.with_columns(**places), folder / KEYS_FILE)
    files = sorted([*folder.glob("*.arrow"), *folder.glob("*.npy")])
    sizes = {file.name: file.stat().st_size for file in files}
    (folder / INDEX).write_text(json.dumps({"format": TIMELINES_FORMAT, "bytes": sizes}, indent=1) + "\n")


def opened(folder: Path) -> tuple[pl.DataFrame, tuple[Sequences, ...]]:
    """Keys with columns `part` and `row`, and the parts, mapped.

    Raises:
        InputError: no timelines, written by a newer careloop, or a file is missing or of another size.
    """
    try:
        index: dict[str, Any] = json.loads((folder / INDEX).read_text())
        version, sizes = int(index["format"]), dict(index["bytes"])
    except FileNotFoundError:
        raise InputError(f"{folder}: no timelines (no {INDEX}); check the path, or extract them") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{folder}/{INDEX}: unreadable; extract the timelines again") from None
    if version > TIMELINES_FORMAT:
        raise InputError(
            f"{folder}: this careloop reads timelines of format {TIMELINES_FORMAT}, got {version};"
            " install a newer careloop"
        )
    for name, size in sizes.items():
        if not (folder / name).is_file() or (folder / name).stat().st_size != size:
            raise InputError(f"{folder}/{name}: missing or cut off; extract the timelines again")
    parts = sum(name.endswith(".events.arrow") for name in sizes)
    keys = pl.DataFrame(pl.from_arrow(_mapped(folder / KEYS_FILE)))
    return keys, tuple(_opened_part(folder, number) for number in range(parts))


def _opened_part(folder: Path, number: int) -> Sequences:
    events, rows = (_mapped(folder / f"{number:05}.{kind}.arrow") for kind in ("events", "rows"))
    arrays = {name: _array(events, name) for name in events.schema.names}
    wrong = [name for name, array in arrays.items() if array.dtype != DTYPES.get(name)]
    if wrong:
        raise InputError(f"{folder}: {wrong[0]} of part {number} is {arrays[wrong[0]].dtype}; extract them again")
    names = [name for name in rows.schema.names if name.startswith("static")]
    static = np.stack([_array(rows, name) for name in names], axis=1) if names else np.zeros((rows.num_rows, 0))
    offsets = np.concatenate([[0], _array(rows, "end")]).astype(np.int64)
    table = folder / NOTES_FILE.format(number)
    notes = np.load(table, mmap_mode="r", allow_pickle=False) if "note" in arrays else None
    return Sequences(offsets, **arrays, at=_array(rows, "at"), static=static.astype(np.float32), notes=notes)


def _write(frame: pl.DataFrame, file: Path) -> None:
    frame.rechunk().write_ipc(file, compression="uncompressed", record_batch_size=max(frame.height, 1))


def _mapped(file: Path) -> pyarrow.Table:
    """The file's table, whose columns lie in the file: the system reads what is used and can forget it again.

    Polars (2.1) reads an Arrow file into memory, so pyarrow maps it.
    """
    try:
        import pyarrow as pa
    except ImportError:
        raise InputError("timelines on disk need pyarrow, which is not installed; pip install pyarrow") from None
    with pa.memory_map(str(file)) as source:
        return pa.ipc.open_file(source).read_all()


def _array(table: pyarrow.Table, name: str) -> NDArray[Any]:
    column = table.column(name)
    if column.num_chunks > 1:
        raise InputError(f"timelines: column {name} lies in {column.num_chunks} pieces; extract the timelines again")
    return column.chunk(0).to_numpy(zero_copy_only=True) if column.num_chunks else column.to_numpy()
