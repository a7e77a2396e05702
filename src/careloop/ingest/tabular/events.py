"""The events of a batch of rows, as a table of the mapping says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import polars as pl

from careloop.ingest.delivery import ARRIVING, CODES
from careloop.ingest.tables.columns import first_of, kept
from careloop.ingest.tabular.cells import Cells
from careloop.ingest.tabular.mapping import STATIC, Event, Table, TimeOf
from careloop.ingest.tabular.times import Spans
from careloop.ingest.vocabularies import MAX_LOCAL, prefix_of

Columns = Mapping[str, pl.Series]
_GIVEN = ("time", "known_time", "code", "numeric_value", "unit", "text_value", "asset", "description", "row")


def events_of(cells: Cells, table: Table) -> tuple[pl.DataFrame, pl.DataFrame]:
    """All events in the order of the rows (ARRIVING without subject and source), and what their codes mean."""
    times = _TableTimes(cells, table)
    frames = [_Event(cells, event, times).frame() for event in table.events]
    found = pl.concat(frames).sort("row", maintain_order=True)
    codes = found.select("code", "description").drop_nulls().unique("code", keep="first", maintain_order=True)
    return found.drop("description"), codes.sort("code").cast(CODES)


class _TableTimes:
    """Times that hold for all events of a row, read once; a row without its time is no row."""

    def __init__(self, cells: Cells, table: Table) -> None:
        self.time = self.known = None
        if isinstance(table.time, TimeOf) and any(event.time is None for event in table.events):
            self.time = cells.time(table.time)
            missing = self.time.start.is_null() & ~self.time.wrong
            cells.check(" and ".join(table.time.column), "is missing", missing)
            self.known = cells.time(table.known_time) if table.known_time else None


class _Event:
    """One kind of event in a batch of rows."""

    def __init__(self, cells: Cells, event: Event, times: _TableTimes) -> None:
        self.cells, self.event, self.times = cells, event, times

    def frame(self) -> pl.DataFrame:
        """One row an event, with the number of the row that it is of."""
        columns = dict(self._values()) | dict(self._times())
        columns["code"] = self._code()
        height = self.cells.rows.height
        frame = pl.DataFrame(columns).with_row_index("row") if height else pl.DataFrame(columns).with_columns(row=None)
        frame = frame.filter(self._there(frame))
        schema = {name: ARRIVING.get(name, pl.String()) for name in _GIVEN}
        missing = [
            pl.lit(None, kind).alias(name) for name, kind in schema.items() if name not in columns and name != "row"
        ]
        return frame.with_columns(missing).select(pl.col(name).cast(kind) for name, kind in schema.items())

    def _there(self, frame: pl.DataFrame) -> pl.Expr:
        """True where the event is: it has a code, its value if it is to have one, its time if it is not static."""
        there = pl.col("code").is_not_null()
        said = [name for name in ("numeric_value", "text_value", "asset") if name in frame.columns]
        if said and self.event.value_missing == "skip":
            there &= pl.any_horizontal(pl.col(name).is_not_null() for name in said)
        return there & pl.col("time").is_not_null() if "time" in frame.columns else there

    def _values(self) -> Iterator[tuple[str, pl.Series]]:
        event, cells = self.event, self.cells
        text = cells.text(event.text) if event.text else None
        if event.measured:
            found = cells.number(event.measured) if event.number else cells.measured(event.measured)
            yield "numeric_value", found.number
            is_number = found.number.is_not_null()
            unit = cells.text(event.unit_column) if event.unit_column else cells.always(event.unit)
            yield "unit", kept(first_of(found.unit, unit), is_number)
            text = found.text if text is None else first_of(found.text, text)
        if text is not None:
            yield "text_value", text
        if event.asset:
            yield "asset", cells.text(event.asset)
        if event.description_column:
            yield "description", cells.text(event.description_column)
        elif event.description or (event.constant and event.measured):
            yield "description", cells.always(event.description or event.measured)

    def _times(self) -> Iterator[tuple[str, pl.Series]]:
        own, known = self.event.time, self.event.known_time
        if own == STATIC or (own is None and self.times.time is None):
            return
        time = self.cells.time(own) if isinstance(own, TimeOf) else self.times.time
        assert time is not None
        known_by: Spans | None = self.cells.time(known) if known else (self.times.known if own is None else None)
        if isinstance(own, TimeOf) and self.event.measured:
            self._refuse_untimed(own, time)
        yield "time", time.start
        yield "known_time", time.end if known_by is None else first_of(known_by.end, time.end)

    def _refuse_untimed(self, own: TimeOf, time: Spans) -> None:
        """A value without its own time is broken; a date that is not there (of death, of discharge) is no event."""
        value = self.cells.text(str(self.event.measured))
        missing = time.start.is_null() & ~time.wrong & value.is_not_null()
        self.cells.check(" and ".join(own.column), "is missing beside a value", missing)

    def _code(self) -> pl.Series:
        event, cells = self.event, self.cells
        prefix = f"{event.prefix.strip('/')}//" if event.prefix else ""
        if event.code_column is None:
            return cells.always(f"{prefix}{event.constant}")
        text = cells.joined(event.code_column)
        plain = text.replace(dict(event.codes)) if event.codes else text
        whole = plain.str.contains("//", literal=True) & plain.is_in(list(event.codes.values()))
        vocabulary = cells.always(prefix_of(event.vocabulary))
        if event.vocabulary_column:
            named = cells.text(event.vocabulary_column)
            vocabulary = named.fill_null("").replace({name: prefix_of(name) for name in named.fill_null("").unique()})
        written = plain.str.replace_all("//", "/", literal=True)
        local = written.str.to_lowercase().str.slice(0, MAX_LOCAL).str.strip_chars()
        code = vocabulary + "//" + local.zip_with((vocabulary == "LOCAL").fill_null(False), written)
        return prefix + plain.zip_with(whole.fill_null(False), code)
