"""An OMOP delivery as sources: each table's rows in batches, as events with the row they came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import time
from functools import cached_property
from pathlib import Path

import polars as pl

from careloop.ingest.delivery import ARRIVING, CODES, Batch, Reject, Source
from careloop.ingest.omop.cells import Cells
from careloop.ingest.omop.concepts import Concepts
from careloop.ingest.omop.layout import SKIPPED, TABLES
from careloop.ingest.omop.survey import Survey, survey
from careloop.ingest.omop.tables import CONCEPT, Stored, stored_tables
from careloop.ingest.tables.batches import joined_events, marked_rows, rejects
from careloop.ingest.tables.keys import is_among, row_sources
from careloop.ingest.tables.rows import Rows
from careloop.ingest.zones import zone_named

ORIGIN = "omop"
ROLE = r"^(?:STOPPED|RESOLVED|SPECIMEN|DOCUMENT|DEATH_CAUSE|VISIT_(?:DETAIL_)?(?:START|END))//"


def omop_sources(path: Path, *, origin: str = ORIGIN, time_zone: str = "UTC") -> list[Source]:
    """Return one source for each table of an OMOP CDM 5.3 or 5.4 database that is about patients or their care.

    `path` is a folder of parquet, CSV or tab-separated files, or a duckdb file. Each row of a clinical table is known
    by its key (`OMOP//measurement/77`); rows that share one key, against the standard, are told apart by their
    content. Times without a zone are local to `time_zone`; a date alone is midnight, and known at the end of its day.
    Memory is that of one batch, and of the concepts that are used; every table is read twice, the concept table once.

    Raises:
        InputError: nothing to read at `path`, duckdb missing, or no such time zone.
    """
    zone_named(time_zone)
    delivery = _Delivery(stored_tables(Path(path)), origin, time_zone)
    return [delivery.source(name) for name in delivery.tables if name != CONCEPT]


@dataclass(frozen=True)
class _Delivery:
    """All tables, and what must be known of the whole before one is read."""

    tables: dict[str, Stored]
    origin: str
    zone: str

    def source(self, name: str) -> Source:
        stored = self.tables[name]
        concept = self.tables[CONCEPT].files if CONCEPT in self.tables else ()
        if name in SKIPPED:
            return Source(name, stored.files, lambda: (_skipped(name, rows) for rows in stored.rows()))
        return Source(name, tuple(dict.fromkeys((*stored.files, *concept))), lambda: self._batches(name))

    def _batches(self, name: str) -> Iterator[Batch]:
        repeated = self._surveys[name].repeated
        for rows in self.tables[name].rows():
            yield self._batch(name, rows, repeated)

    @cached_property
    def _surveys(self) -> dict[str, Survey]:
        return {n: survey(t.rows(), TABLES[n].key) for n, t in self.tables.items() if n in TABLES}

    @cached_property
    def _concepts(self) -> Concepts:
        if CONCEPT not in self.tables:
            return Concepts()
        used = pl.concat([found.concepts for found in self._surveys.values()]).unique()
        return Concepts.read((rows.cells for rows in self.tables[CONCEPT].rows()), used)

    def _batch(self, name: str, rows: Rows, repeated: pl.Series) -> Batch:
        if rows.cells.height and "person_id" not in rows.cells.columns:
            place = f"{rows.place} {rows.numbers[0]}"
            rejected = [*rows.broken, Reject(place, "the table has no column person_id")]
            return Batch(ARRIVING.to_frame(), len(rejected), 0, rejected)
        cells = Cells(rows.cells, self._concepts, self.zone)
        person, key = cells.identifier("person_id"), cells.identifier(TABLES[name].key)
        cells.check("person_id", "is missing", person.is_null())
        events = _known_at_day_end(joined_events(TABLES[name].events(cells)), self.zone)
        wrong = marked_rows(cells.wrong)
        events = events.join(wrong, on="row", how="anti", maintain_order="left")
        stem = f"OMOP//{'' if self.origin in {'', ORIGIN} else f'{self.origin}//'}{name}/"
        is_repeated = is_among(key, repeated)
        source, withdrawn = row_sources(stem + key, rows.cells, is_repeated=is_repeated, keyless=stem)
        subject = f"{self.origin}:" + person if self.origin else person
        named = [
            pl.lit(column).gather(pl.col("row")).alias(n) for n, column in (("subject", subject), ("source", source))
        ]
        count = events["row"].n_unique()
        skipped = {
            f"{name}: neither concept nor source value": cells.height - wrong.height - count,
            f"{name}: header stored as a row": rows.headers,
        }
        rejected = [*rows.broken, *rejects(rows, wrong)]
        return Batch(
            events.with_columns(named),
            rows_read=cells.height + rows.headers + len(rows.broken),
            rows_kept=count,
            rejected=rejected,
            skipped={reason: number for reason, number in skipped.items() if number},
            withdrawn=withdrawn,
            codes=_described(events["code"], self._concepts),
        )


def _known_at_day_end(events: pl.DataFrame, zone: str) -> pl.DataFrame:
    """Give facts at midnight exactly the end of that day as known_time: most were written as a date alone.

    Databases fill the time of day with zeros where they do not have it, so that a value of the evening would count as
    known in the morning.
    """
    local = pl.col("time").dt.convert_time_zone(zone)
    day_end = (local.dt.offset_by("1d") - pl.duration(seconds=1)).dt.convert_time_zone("UTC")
    known = pl.when(local.dt.time() == time(0)).then(day_end).cast(ARRIVING["known_time"])
    return events.with_columns(known_time=pl.coalesce("known_time", known))


def _described(codes: pl.Series, concepts: Concepts) -> pl.DataFrame:
    used = pl.DataFrame({"code": codes.unique().sort()}).with_columns(plain=pl.col("code").str.replace(ROLE, ""))
    found = used.join(concepts.descriptions(), left_on="plain", right_on="code", maintain_order="left")
    return found.select(CODES.names())


def _skipped(name: str, rows: Rows) -> Batch:
    count = rows.cells.height + rows.headers
    skipped = {f"{name}: {SKIPPED[name]}": count} if count else {}
    return Batch(ARRIVING.to_frame(), count + len(rows.broken), 0, rows.broken, skipped)
