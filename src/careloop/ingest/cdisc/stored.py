"""Where the datasets of a CDISC delivery lie, what kind each is, and its rows whatever the file format."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from careloop import InputError
from careloop.ingest.cdisc.dataset_json import dataset_json_rows
from careloop.ingest.cdisc.xport import Reading, xport_rows
from careloop.ingest.delivery import Reject
from careloop.ingest.tables.rows import Rows, file_rows

# Of one dataset in several formats in a folder the first of these is read.
FORMATS = (".xpt", ".xport", ".sas7bdat", ".ndjson", ".json", ".parquet", ".csv", ".csv.gz")
_SAS_MAGIC = bytes.fromhex("000000000000000000000000c2ea8160b31411cfbd92080009c7318c181f1011")
NO_PATIENT = "not about a patient"
# Datasets that give no events, and why (SDTMIG 3.4 sections 7 and 8).
SKIPPED = {
    "TA": NO_PATIENT, "TE": NO_PATIENT, "TI": NO_PATIENT, "TS": NO_PATIENT, "TV": NO_PATIENT, "TD": NO_PATIENT,
    "TM": NO_PATIENT, "TX": NO_PATIENT, "OI": NO_PATIENT, "DI": NO_PATIENT, "POOLDEF": NO_PATIENT,
    "CO": "comments have no place", "RELREC": "links between rows have no place",
    "RELSUB": "links between subjects have no place", "RELSPEC": "links between specimens have no place",
    "RELREF": "links between rows have no place",
}  # fmt: skip
_DOMAIN = re.compile(r"[A-Z][A-Z0-9]{1,7}")
NAMED = {"DM": "demographics", "SV": "visits", "SE": "elements"}
UNKNOWN = "dataset: neither demographics, findings, events, interventions nor analysis"


@dataclass(frozen=True)
class Dataset:
    """One dataset: its name and domain in upper case, its kind, the study it says it is of, and where it lies.

    `kind` is the class of SDTM or structure of ADaM: "demographics", "findings", "events", "interventions", "visits",
    "elements", "supplement", "subjects" (ADSL), "parameters" (BDS), "time-to-event", "occurrences" (OCCDS), "skipped".
    """

    name: str
    domain: str
    kind: str
    study: str
    file: Path
    encoding: str | None

    @property
    def is_analysis(self) -> bool:
        """True for ADaM."""
        return self.kind in {"subjects", "parameters", "time-to-event", "occurrences"}

    @property
    def is_tabulation(self) -> bool:
        """True for the SDTM datasets that hold facts."""
        return not self.is_analysis and self.kind not in {"supplement", "skipped"}

    def rows(self, only: Collection[str] | None = None) -> Iterator[Rows]:
        """All rows, from the beginning each time; of transport files only the named columns are taken apart."""
        return rows_of(self.file, Reading(self.encoding, only=only))


def stored_datasets(path: Path, *, encoding: str | None = None) -> list[Dataset]:
    """The datasets at `path`, a file or a folder that is searched with its subfolders, in the order of their paths.

    Raises:
        InputError: nothing there, no file of a known format, or pyreadstat is needed and missing.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; check the path")
    files = [path] if path.is_file() else _files_below(path)
    if not files or not _ending(files[0]):
        raise InputError(f"{path}: no CDISC dataset; give a file or folder with {', '.join(FORMATS)}")
    if any(_ending(file) == ".sas7bdat" for file in files):
        _require_pyreadstat(path)
    return [_dataset(file, encoding) for file in files]


def _files_below(folder: Path) -> list[Path]:
    best: dict[tuple[Path, str], Path] = {}
    for file in sorted(folder.rglob("*")):
        ending = _ending(file)
        if not ending or not file.is_file():
            continue
        key = (file.parent, _stem(file))
        if key not in best or FORMATS.index(ending) < FORMATS.index(_ending(best[key])):
            best[key] = file
    return list(best.values())


def _ending(file: Path) -> str:
    return next((ending for ending in FORMATS[::-1] if file.name.lower().endswith(ending)), "")


def _stem(file: Path) -> str:
    return file.name[: -len(_ending(file))].upper()


def _require_pyreadstat(path: Path) -> None:
    try:
        import pyreadstat  # noqa: F401
    except ImportError:
        raise InputError(
            f"{path}: SAS7BDAT needs pyreadstat, which is missing: pip install 'careloop[cdisc]'"
        ) from None


def rows_of(file: Path, reading: Reading) -> Iterator[Rows]:
    """Rows of a file of any of FORMATS, under upper-case names."""
    ending = _ending(file)
    readers: dict[str, Callable[[Path, Reading], Iterator[Rows]]] = {
        ".xpt": xport_rows,
        ".xport": xport_rows,
        ".json": dataset_json_rows,
        ".ndjson": dataset_json_rows,
        ".sas7bdat": _sas_rows,
    }
    if ending in readers:
        yield from readers[ending](file, reading)
        return
    for rows in file_rows(file):
        yield _upper(rows)


def _upper(rows: Rows) -> Rows:
    columns: dict[str, pl.Series] = {}
    for column in rows.cells:
        columns.setdefault(column.name.strip().upper(), column)
    cells = rows.cells.select(column.alias(upper) for upper, column in columns.items())
    # R writes a missing value as NA, which is no term of CDISC's.
    cells = cells.with_columns(pl.col(pl.String).replace({"NA": None}))
    return Rows(cells, rows.numbers, rows.place, rows.broken, rows.headers)


def _sas_rows(file: Path, reading: Reading) -> Iterator[Rows]:
    """Rows of a SAS7BDAT file. Its text has an encoding that the file names; `reading` may overrule it."""
    import pyreadstat

    place, first = f"{file.name} row", 1
    try:
        with file.open("rb") as opened:
            if opened.read(len(_SAS_MAGIC)) != _SAS_MAGIC:
                raise ValueError
        while True:
            cells, _ = pyreadstat.read_sas7bdat(
                file,
                row_offset=first - 1,
                row_limit=reading.batch_rows,
                encoding=reading.encoding,
                output_format="polars",
                disable_datetime_conversion=True,
            )
            yield _upper(Rows(cells, pl.int_range(first, first + cells.height, eager=True), place))
            first += cells.height
            if cells.height < reading.batch_rows:
                return
    except Exception:  # whatever a damaged file makes the library raise, MemoryError and UnicodeError among others
        reject = Reject(f"{place} {first}", "not a readable SAS7BDAT file from here on")
        yield Rows(pl.DataFrame(), pl.Series([], dtype=pl.Int64), place, [reject])


def _dataset(file: Path, encoding: str | None) -> Dataset:
    name = _stem(file)
    head = next(rows_of(file, Reading(encoding, batch_rows=1)), None)
    cells = head.cells if head is not None else pl.DataFrame()
    said = (_first_cell(cells, "DOMAIN") or "").upper()
    domain = said if _DOMAIN.fullmatch(said) else name.partition("_")[0]
    kind, domain = _kind(name, domain, set(cells.columns))
    return Dataset(name, domain, kind, _first_cell(cells, "STUDYID") or "", file, encoding)


def _first_cell(cells: pl.DataFrame, name: str) -> str | None:
    if name not in cells.columns or not cells.height:
        return None
    value = cells[name].cast(pl.String)[0]
    return value.strip() if value is not None else None


def _kind(name: str, domain: str, columns: set[str]) -> tuple[str, str]:
    """Kind and domain, by the variables that only this kind has (SDTM 1.4 to 2.0, ADaMIG 1.0 to 1.3)."""
    if "QNAM" in columns:
        return "supplement", name
    if domain in SKIPPED or "USUBJID" not in columns:
        return "skipped", domain
    if "DOMAIN" not in columns and name.startswith("AD"):
        return _analysis_kind(name, columns), name
    if domain in NAMED:
        return NAMED[domain], domain
    for prefix in (domain, domain[:2]):  # QSPH is a part of QS
        for ending, kind in (("TESTCD", "findings"), ("TRT", "interventions"), ("TERM", "events")):
            if prefix + ending in columns:
                return kind, prefix
    return "skipped", domain


def _analysis_kind(name: str, columns: set[str]) -> str:
    if "PARAMCD" in columns:
        return "time-to-event" if "CNSR" in columns else "parameters"
    is_occurrence = any(name[2:4] + ending in columns for ending in ("TERM", "TRT", "DECOD"))
    return "occurrences" if is_occurrence and name != "ADSL" else "subjects"


def skip_reason(dataset: Dataset) -> str:
    """Why a skipped dataset gives no events."""
    return f"{dataset.domain}: {SKIPPED[dataset.domain]}" if dataset.domain in SKIPPED else UNKNOWN
