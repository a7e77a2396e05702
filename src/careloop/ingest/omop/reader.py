"""An OMOP delivery as sources: each table's rows in batches, as events with the row they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl

from careloop import InputError
from careloop.ingest.delivery import ARRIVING, CODES, WITHDRAWN, Batch, Reject, Source
from careloop.ingest.omop.cells import Cells, first_of
from careloop.ingest.omop.concepts import Concepts
from careloop.ingest.omop.layout import SKIPPED, TABLES, Event
from careloop.ingest.omop.rows import Rows
from careloop.ingest.omop.survey import Survey, key_hash, survey
from careloop.ingest.omop.tables import CONCEPT, Stored, stored_tables

ORIGIN = "omop"
ROLE = r"^(?:STOPPED|RESOLVED|SPECIMEN|DOCUMENT|DEATH_CAUSE|VISIT_(?:DETAIL_)?(?:START|END))//"


def omop_sources(path: Path, *, origin: str = ORIGIN, time_zone: str = "UTC") -> list[Source]:
    """Return one source for each table of an OMOP CDM 5.3 or 5.4 database that is about patients or their care.

    `path` is a folder of parquet, CSV or tab-separated files, or a duckdb file. Each row of a clinical table is known
    by its key (`OMOP//measurement/77`); rows that share one key, against the standard, are told apart by their
    content. Times without a zone are local to `time_zone`, a date alone is midnight. Memory is that of one batch, and
    of the concepts that are used; every table is read twice, the concept table once.

    Raises:
        InputError: nothing to read at `path`, duckdb missing, or no such time zone.
    """
    try:
        ZoneInfo(time_zone)
    except (KeyError, ValueError, OSError):
        raise InputError(f"time_zone: {time_zone!r} is no IANA time zone; give one such as Europe/Berlin") from None
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
        events = _joined(TABLES[name].events(cells))
        wrong = _wrong(cells)
        events = events.join(wrong, on="row", how="anti", maintain_order="left")
        source, withdrawn = self._sources(name, rows.cells, key, repeated)
        subject = f"{self.origin}:" + person if self.origin else person
        named = [
            pl.lit(column).gather(pl.col("row")).alias(n) for n, column in (("subject", subject), ("source", source))
        ]
        count = events["row"].n_unique()
        skipped = {
            f"{name}: neither concept nor source value": cells.height - wrong.height - count,
            f"{name}: header stored as a row": rows.headers,
        }
        rejected = [*rows.broken, *_rejects(rows, wrong)]
        return Batch(
            events.with_columns(named),
            rows_read=cells.height + rows.headers + len(rows.broken),
            rows_kept=count,
            rejected=rejected,
            skipped={reason: number for reason, number in skipped.items() if number},
            withdrawn=withdrawn,
            codes=_described(events["code"], self._concepts),
        )

    def _sources(
        self, name: str, rows: pl.DataFrame, key: pl.Series, repeated: pl.Series
    ) -> tuple[pl.Series, pl.DataFrame]:
        """Each row's source; and the plain names of repeated keys, which a row may have had in an earlier delivery."""
        of_origin = "" if self.origin in {"", ORIGIN} else f"{self.origin}//"
        plain = f"OMOP//{of_origin}{name}/" + key.fill_null("")
        is_shared = key_hash(key).is_in(repeated.implode()) | key.is_null()
        if not is_shared.any():
            return plain, WITHDRAWN.to_frame()
        shared = is_shared.arg_true()
        longer = plain[shared] + "/" + _digests(rows[shared])
        names = pl.DataFrame({"row": shared, "longer": longer})
        rowed = (
            pl.DataFrame({"plain": plain})
            .with_row_index("row")
            .join(names, on="row", how="left", maintain_order="left")
        )
        withdrawn = plain.filter(is_shared & key.is_not_null()).unique().sort().to_frame("source")
        return first_of(rowed["longer"], plain), withdrawn.with_columns(
            source_time=pl.lit(None, WITHDRAWN["source_time"])
        )


def _joined(events: list[Event]) -> pl.DataFrame:
    """All events of a batch in the order of its rows, with the row that each is of."""
    frames = [
        pl.DataFrame(dict(event))
        .with_row_index("row")
        .filter(pl.col("code").is_not_null())
        .cast({name: ARRIVING[name] for name in ("row", *event)})
        for event in events
    ]
    return pl.concat([ARRIVING.to_frame().drop("subject", "source"), *frames], how="diagonal").sort(
        "row", maintain_order=True
    )


def _wrong(cells: Cells) -> pl.DataFrame:
    """The rows that cannot be read, with the first reason of each."""
    marks = [pl.DataFrame({"row": mask.arg_true(), "reason": reason}) for reason, mask in cells.wrong]
    schema = {"row": pl.UInt32(), "reason": pl.String()}
    return pl.concat([pl.DataFrame(schema=schema), *marks]).unique("row", keep="first", maintain_order=True).sort("row")


def _rejects(rows: Rows, wrong: pl.DataFrame) -> list[Reject]:
    numbers = rows.numbers.gather(wrong["row"])
    raw = _text_lines(rows.cells[wrong["row"]])
    return [Reject(f"{rows.place} {n}", reason, r) for n, reason, r in zip(numbers, wrong["reason"], raw, strict=True)]


def _text_lines(rows: pl.DataFrame) -> list[str]:
    """Each row as a JSON object of its cells that are there."""
    return rows.write_ndjson().split("\n")[:-1]


def _digests(rows: pl.DataFrame) -> pl.Series:
    """A short hash of each row's content."""
    text = rows.select(
        pl.concat_str(pl.col(sorted(rows.columns)).cast(pl.String).fill_null(""), separator="\x1f")
    ).to_series()
    return pl.Series([hashlib.blake2b(line.encode(), digest_size=8).hexdigest() for line in text], dtype=pl.String)


def _described(codes: pl.Series, concepts: Concepts) -> pl.DataFrame:
    used = pl.DataFrame({"code": codes.unique().sort()}).with_columns(plain=pl.col("code").str.replace(ROLE, ""))
    found = used.join(concepts.descriptions(), left_on="plain", right_on="code", maintain_order="left")
    return found.select(CODES.names())


def _skipped(name: str, rows: Rows) -> Batch:
    count = rows.cells.height + rows.headers
    skipped = {f"{name}: {SKIPPED[name]}": count} if count else {}
    return Batch(ARRIVING.to_frame(), count + len(rows.broken), 0, rows.broken, skipped)
