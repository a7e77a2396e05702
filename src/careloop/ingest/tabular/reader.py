"""A hospital's tables as sources: rows in batches, as the events that the mapping makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from careloop import InputError
from careloop.ingest.delivery import ARRIVING, WITHDRAWN, Batch, Reject, Source
from careloop.ingest.tables.batches import marked_rows, rejects
from careloop.ingest.tables.keys import SEPARATOR, ambiguous_keys, digests_of, is_among, told_apart
from careloop.ingest.tables.rows import Rows
from careloop.ingest.tabular.cells import Cells
from careloop.ingest.tabular.events import events_of
from careloop.ingest.tabular.files import Delivered, delivered_files, files_of, table_rows
from careloop.ingest.tabular.mapping import Table
from careloop.ingest.tabular.mapping_file import read_mapping
from careloop.record.schema import TIME

DIGEST_BYTES = 12


def tabular_sources(paths: Path | Sequence[Path], mapping: Path) -> list[Source]:
    """Return one source for each file of each table that the mapping file names, in the mapping's order of tables.

    CSV and other delimited text, also `.gz`, and parquet are read in batches, a spreadsheet a sheet at a time. A row's
    source is `TABLE//<table>//<key>`: a later file's row with that key replaces it, as does a higher version. Rows of
    one file that share a key, against the mapping, are told apart by their content, as are all rows without a key:
    the same row again changes nothing. A table with a key is read twice.

    Raises:
        InputError: nothing to read at a path, a mapping that cannot be meant, or a named file that it does not name.
    """
    paths, mapping = [paths] if isinstance(paths, Path) else list(paths), Path(mapping)
    tables, delivered = read_mapping(mapping).tables, delivered_files(paths)
    named = {name: files_of(table, delivered) for name, table in tables.items()}
    taken = {each.file for files in named.values() for each in files}
    left = [each.name for each in delivered if each.file not in taken and (not taken or each.file in paths)]
    if left:
        raise InputError(
            f"{mapping}: no table's files pattern fits {left[0]}; correct `files`, or name another file or folder"
        )
    return [_source(_Reader(name, tables[name], each), mapping) for name, files in named.items() for each in files]


def _source(reader: _Reader, mapping: Path) -> Source:
    name = f"{reader.name} {reader.each.name}"
    return Source(name, (reader.each.file, mapping), reader.batches)


@dataclass(frozen=True)
class _Reader:
    """One file of one table."""

    name: str
    table: Table
    each: Delivered

    def batches(self) -> Iterator[Batch]:
        """Read the file from the beginning."""
        repeated = ambiguous_keys(self._keys_and_content()) if self.table.key else pl.Series([], dtype=pl.UInt64)
        for rows in table_rows(self.each, self.table):
            lacking = self._lacking(rows)
            if lacking is not None:
                yield lacking
                return
            if rows.cells.height:
                yield self._batch(rows, repeated)
            elif rows.broken:
                yield _nothing(rows.broken)

    def _keys_and_content(self) -> Iterator[tuple[pl.Series, pl.Series]]:
        for rows in table_rows(self.each, self.table):
            if rows.cells.height and self._lacking(rows) is None:
                cells = self._told_apart(rows).live.cells
                yield self._versioned_key(cells), content_of(cells)

    def _lacking(self, rows: Rows) -> Batch | None:
        """One reject for a file that lacks a column."""
        absent = [name for name in self.table.used if name not in rows.cells.columns]
        if not absent or not rows.cells.height:
            return None
        reason = f"the file has no column {absent[0]}, which the mapping names"
        return _nothing([*rows.broken, Reject(f"{self.each.name} header", reason)])

    def _told_apart(self, rows: Rows) -> _Sorted:
        cells = Cells(rows.cells, self.table)
        only, deleted = cells.matches(self.table.only), cells.is_deleted()
        skip = cells.matches(self.table.skip) if self.table.skip else ~cells.matches({})
        chosen = only & ~skip

        def those(mask: pl.Series) -> _Part:
            part = Rows(rows.cells.filter(mask), rows.numbers.filter(mask), rows.place)
            return _Part(part, Cells(part.cells, self.table))

        return _Sorted(those(chosen & ~deleted), those(chosen & deleted), those(only & skip), those(~only))

    def _batch(self, rows: Rows, repeated: pl.Series) -> Batch:
        told = self._told_apart(rows)
        live, gone = told.live.cells, told.deleted.cells
        subject = live.identifier(self.table.subject)
        live.check(" and ".join(self.table.subject), "is missing", subject.is_null())
        events, codes = events_of(live, self.table)
        versions, shared = self._live_versions(live, repeated)
        withdrawn = self._versions(gone)
        gone.check("key", "is missing in a deleted row", withdrawn["source"].is_null())
        wrong, wrongly_gone = marked_rows(live.wrong), marked_rows(gone.wrong)
        events = events.join(wrong, on="row", how="anti", maintain_order="left")
        kept_rows = events["row"].n_unique()
        # Rows of one name and version say the same, or they would have different names: one of them is enough.
        once = versions.unique(WITHDRAWN.names(), keep="first", maintain_order=True)
        columns = {"subject": f"{self.table.origin}:" + subject if self.table.origin else subject}
        columns |= {name: versions[name] for name in WITHDRAWN}
        excluded = told.unchosen.cells.rows.height + told.skipped.cells.rows.height
        return Batch(
            events.join(once, on="row", how="semi", maintain_order="left").with_columns(
                pl.lit(column).gather(pl.col("row")).alias(name) for name, column in columns.items()
            ),
            rows_read=rows.cells.height + len(rows.broken),
            rows_kept=kept_rows + gone.rows.height - wrongly_gone.height,
            rejected=[*rows.broken, *rejects(told.live.rows, wrong), *rejects(told.deleted.rows, wrongly_gone)],
            skipped=self._skipped(live.rows.height - wrong.height - kept_rows, excluded),
            withdrawn=self._withdrawn(
                withdrawn.join(wrongly_gone, on="row", how="anti"),
                self._versions(told.skipped.cells),
                versions.join(pl.concat([events.select("row"), wrong.select("row")]), on="row", how="anti"),
                shared,
            ),
            codes=codes,
        )

    def _skipped(self, silent: int, excluded: int) -> dict[str, int]:
        counts = {"no event in the row": silent, "left out by the mapping's only or skip": excluded}
        return {f"{self.name}: {reason}": count for reason, count in counts.items() if count}

    def _withdrawn(self, *parts: pl.DataFrame) -> pl.DataFrame:
        """Source rows that by now say nothing; without keys it cannot be said which they were."""
        if self.table.key is None:
            return WITHDRAWN.to_frame()
        found = pl.concat([part.select(WITHDRAWN.names()).cast(WITHDRAWN) for part in parts])
        return found.drop_nulls("source").unique(maintain_order=True).sort("source", "source_time", maintain_order=True)

    def _versioned_key(self, cells: Cells) -> pl.Series:
        key = cells.identifier(self.table.key or ())
        version = self.table.version
        return key if version is None else key + SEPARATOR + cells.joined(version.column).fill_null("")

    def _versions(self, cells: Cells) -> pl.DataFrame:
        """Name and version of each row (row, source, source_time); no name where the key is missing."""
        key = cells.identifier(self.table.key) if self.table.key else cells.always(None)
        time = cells.time(self.table.version).start if self.table.version else cells.always(None).cast(TIME)
        return pl.DataFrame({"source": self._prefix + key, "source_time": time}).with_row_index("row")

    @property
    def _prefix(self) -> str:
        origin = f"{self.table.origin}//" if self.table.origin else ""
        return f"TABLE//{origin}{self.name}//"

    def _live_versions(self, cells: Cells, repeated: pl.Series) -> tuple[pl.DataFrame, pl.DataFrame]:
        """As `_versions`, rows without a key of their own being named by their content; and the names not used so."""
        found = self._versions(cells)
        plain = found["source"]
        shared = plain.is_null()
        if self.table.key and repeated.len():
            shared |= is_among(self._versioned_key(cells), repeated)
        if not shared.any():
            return found, found.clear()
        digests = digests_of(content_of(cells).filter(shared), digest_bytes=DIGEST_BYTES)
        source = told_apart(plain, shared, digests=digests, keyless=self._prefix.removesuffix("//"))
        unused = found.filter(shared).with_columns(source_time=pl.lit(None, TIME))
        return found.with_columns(source=source), unused


@dataclass(frozen=True)
class _Part:
    """Some rows of a batch, and their cells as the mapping reads them."""

    rows: Rows
    cells: Cells


@dataclass(frozen=True)
class _Sorted:
    """The rows of a batch: those that are read, marked as deleted, excluded by `skip`, and not chosen by `only`."""

    live: _Part
    deleted: _Part
    skipped: _Part
    unchosen: _Part


def _nothing(broken: Sequence[Reject]) -> Batch:
    return Batch(ARRIVING.to_frame(), len(broken), 0, broken)


def content_of(cells: Cells) -> pl.Series:
    """What a row says in the columns that the mapping reads, as one text."""
    texts = [cells.rows[name].cast(pl.String).str.strip_chars().fill_null("") for name in cells.table.used]
    return pl.select(pl.concat_str(texts, separator=SEPARATOR)).to_series()
