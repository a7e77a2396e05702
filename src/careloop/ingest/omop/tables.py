"""Where the tables of an OMOP delivery lie: files of a folder by their names, or tables of a duckdb file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from careloop import InputError
from careloop.ingest.omop.layout import SKIPPED, TABLES
from careloop.ingest.tables.rows import Rows, duckdb_rows, file_rows

CONCEPT = "concept"
NAMES = (*TABLES, *SKIPPED, CONCEPT)
DATABASES = (".duckdb", ".ddb", ".db")
# measurement.csv, MEASUREMENT.tsv.gz, measurement_000012.parquet, measurement-00001-of-00010.csv
_FILE = re.compile(r"(?P<stem>.+?)(?:[-_.]?\d+(?:-of-\d+)?)?\.(?:parquet|(?:csv|tsv|txt)(?:\.gz)?)")


@dataclass(frozen=True)
class Stored:
    """A table where it lies; `rows` reads it from the beginning each time."""

    name: str
    files: tuple[Path, ...]
    rows: Callable[[], Iterator[Rows]]


def stored_tables(path: Path) -> dict[str, Stored]:
    """The OMOP tables at `path`, in the order of NAMES.

    A folder is searched for parquet, CSV and tab-separated files named as tables, in upper or lower case, a table's
    parts numbered or in a folder of its name. Beside a single file of one table its folder's concept table counts too.

    Raises:
        InputError: nothing there, no table of the standard, or duckdb is needed and missing.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; check the path")
    if path.is_file() and path.suffix.lower() in DATABASES:
        found = _in_duckdb(path)
    else:
        found = _in_folder(path if path.is_dir() else path.parent)
        if path.is_file():
            found = {name: table for name, table in found.items() if path in table.files or name == CONCEPT}
    if not found.keys() - {CONCEPT}:
        raise InputError(
            f"{path}: no table of the OMOP CDM (person, measurement, ...); give the folder with its parquet or CSV"
            " files, named as the tables, or a .duckdb file"
        )
    return {name: found[name] for name in NAMES if name in found}


def _in_folder(folder: Path) -> dict[str, Stored]:
    files: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("*")):
        match = _FILE.fullmatch(file.name.lower())
        if match and file.is_file():
            parent = file.parent.name.lower().removesuffix(".parquet")
            name = next((name for name in (match["stem"], parent) if name in NAMES), None)
            files.setdefault(name or "", []).append(file)
    files.pop("", None)

    def stored(name: str, parts: list[Path]) -> Stored:
        return Stored(name, tuple(parts), lambda: chain.from_iterable(file_rows(part) for part in parts))

    return {name: stored(name, parts) for name, parts in files.items()}


def _in_duckdb(file: Path) -> dict[str, Stored]:
    try:
        import duckdb
        import pyarrow  # noqa: F401 (duckdb hands its rows over with it)
    except ImportError:
        raise InputError(f"{file}: needs duckdb and pyarrow: pip install 'careloop[omop]'") from None
    listing = "select table_schema, table_name from information_schema.tables order by all"
    try:
        with duckdb.connect(str(file), read_only=True) as connection:
            listed = connection.execute(listing).fetchall()
    except duckdb.Error:
        raise InputError(f"{file}: no readable duckdb file (another format, or open for writing elsewhere)") from None
    persons = [schema for schema, table in listed if table.lower() == "person"]
    chosen = persons[0] if persons else next((schema for schema, _ in listed), "")

    def stored(table: str) -> Stored:
        quoted = ".".join('"' + part.replace('"', '""') + '"' for part in (chosen, table))
        return Stored(table.lower(), (file,), lambda: duckdb_rows(file, quoted))

    return {table.lower(): stored(table) for schema, table in listed if schema == chosen and table.lower() in NAMES}
