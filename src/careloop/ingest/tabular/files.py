"""Which delivered files belong to which table of a mapping, and their rows whatever kind of file it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from careloop import InputError
from careloop.ingest.tables.delimited import delimited_rows
from careloop.ingest.tables.rows import Rows, file_rows
from careloop.ingest.tabular.mapping import Table
from careloop.ingest.tabular.sheets import BOOKS, sheet_rows

TEXTS = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
ENDINGS = (*TEXTS, ".parquet", *BOOKS)


@dataclass(frozen=True)
class Delivered:
    """A file and its name below the folder that was named."""

    file: Path
    name: str


def delivered_files(paths: Sequence[Path]) -> list[Delivered]:
    """The tables' files at the paths, those of folders in the order of their names.

    Raises:
        InputError: no such path, a file of another kind, or a folder without such files.
    """
    found: dict[Path, Delivered] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; check the path")
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if _is_table(file))
        if (path.is_file() and not path.name.lower().endswith(ENDINGS)) or not files:
            raise InputError(f"{path}: no table here (a file that ends in {', '.join(ENDINGS)}); name one, or a folder")
        root = path.parent if path.is_file() else path
        for file in files:
            found.setdefault(file.resolve(), Delivered(file, file.relative_to(root).as_posix()))
    return list(found.values())


def _is_table(file: Path) -> bool:
    return file.name.lower().endswith(ENDINGS) and not file.name.startswith(("~$", ".")) and file.is_file()


def files_of(table: Table, delivered: Sequence[Delivered]) -> list[Delivered]:
    """The files that one of the table's patterns names, by file name or by path below the folder."""
    patterns = [pattern.strip().lower() for pattern in table.files]
    return [
        each
        for each in delivered
        if any(fnmatchcase(name.lower(), p) for p in patterns for name in (each.name, each.file.name))
    ]


def table_rows(each: Delivered, table: Table) -> Iterator[Rows]:
    """Rows of a file in batches, under lower-case names with single blanks; of any bytes, without an exception.

    Raises:
        InputError: an Excel file, and the library that reads it is missing; or it has no such sheet.
    """
    lower = each.file.name.lower()
    if lower.endswith(BOOKS):
        yield from sheet_rows(each.file, table)
    elif lower.endswith(".parquet"):
        for rows in file_rows(each.file):
            names = {name: " ".join(name.split()) for name in rows.cells.columns}
            same = len(set(names.values())) < len(names)
            yield rows if same else Rows(rows.cells.rename(names), rows.numbers, rows.place, rows.broken)
    else:
        for part in delimited_rows(each.file, table.dialect):
            yield Rows(part.cells, part.lines, f"{each.file.name} line", part.broken)
