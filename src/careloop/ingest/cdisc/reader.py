"""A CDISC delivery as sources: each dataset's rows in batches, as events with the row they came from."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import polars as pl

from careloop import InputError
from careloop.ingest.cdisc.adam import analysis_occurrences, parameters, times_to_event
from careloop.ingest.cdisc.cells import REFERENCE, Cells
from careloop.ingest.cdisc.demographics import Event, demographics, reference_of
from careloop.ingest.cdisc.sdtm import elements, findings, interventions, occurrences, visits
from careloop.ingest.cdisc.stored import Dataset, skip_reason, stored_datasets
from careloop.ingest.cdisc.supplements import Supplements, supplements_of
from careloop.ingest.delivery import ARRIVING, CODES, WITHDRAWN, Batch, Source
from careloop.ingest.tables.batches import joined_events, marked_rows, rejects
from careloop.ingest.tables.keys import is_among, repeated_keys, row_sources
from careloop.ingest.tables.rows import Rows
from careloop.ingest.zones import zone_named

FACTS = ("auto", "sdtm", "adam", "both")
EVENTS_OF: dict[str, Callable[[Cells], list[Event]]] = {
    "demographics": demographics,
    "findings": findings,
    "events": occurrences,
    "interventions": interventions,
    "visits": visits,
    "elements": elements,
    "subjects": demographics,
    "parameters": parameters,
    "time-to-event": times_to_event,
    "occurrences": analysis_occurrences,
}
SEQUENCE = re.compile(r"[A-Z]{2}SEQ")  # the number of the SDTM row that an analysis record is of
KEY_COLUMNS = ("STUDYID", "USUBJID", "ASEQ", "PARAMCD", "VISITNUM", "VISIT")
DESCRIBED = pl.Schema({"description": pl.String()})


def cdisc_sources(
    path: Path,
    *,
    study: str | None = None,
    facts: Literal["auto", "sdtm", "adam", "both"] = "auto",
    origin: str = "",
    time_zone: str = "UTC",
    encoding: str | None = None,
) -> list[Source]:
    """Return one source for each SDTM (IG 3.2 to 3.4) and ADaM (IG 1.0 to 1.3) dataset at `path`, a file or folder.

    Files are SAS transport (version 5 and 8), SAS7BDAT, Dataset-JSON 1.1, parquet or CSV; of one dataset in several
    formats in a folder one is read. A row is known by its study, subject, domain and sequence number
    (`CDISC//CDISCPILOT01/01-701-1015/AE/3`), so that a newer delivery replaces it; `study` stands in for STUDYID. The
    subject is USUBJID, with `origin` as namespace if one is given.

    ADaM repeats SDTM's facts. `facts` "auto" therefore takes from ADaM, beside SDTM of the same study, only times to
    events; ADaM alone is read whole. "sdtm" and "adam" read only these, "both" stores all.

    Dates without a zone are local to `time_zone`; a partial date stands for its first moment, known at its last.
    `encoding` is that of text in SAS files (None: UTF-8, else windows-1252; SAS7BDAT: what the file says).

    Raises:
        InputError: nothing to read at `path`, pyreadstat missing, an unknown time zone, encoding or choice of facts.
    """
    _check(facts, time_zone, encoding)
    datasets = stored_datasets(Path(path), encoding=encoding)
    delivery = _Delivery(tuple(datasets), study, facts, origin, time_zone)
    return [delivery.source(dataset) for dataset in datasets]


def _check(facts: str, time_zone: str, encoding: str | None) -> None:
    if facts not in FACTS:
        raise InputError(f"facts must be one of {', '.join(FACTS)}, got {facts}")
    zone_named(time_zone)
    try:
        codecs.lookup(encoding or "utf-8")
    except (LookupError, ValueError):
        raise InputError(f"encoding: {encoding!r} is not known; give one such as windows-1252 or shift_jis") from None


@dataclass(frozen=True)
class _Delivery:
    """All datasets, and what must be known of the whole before one is read."""

    datasets: tuple[Dataset, ...]
    study: str | None
    facts: str
    origin: str
    zone: str

    def source(self, dataset: Dataset) -> Source:
        reason = self._why_not(dataset)
        if reason:
            return Source(str(dataset.file), (dataset.file,), partial(_skipped, dataset, reason))
        around = [*self._referred(dataset), *self._supplementing(dataset)]
        files = tuple(dict.fromkeys((dataset.file, *(other.file for other in around))))
        return Source(str(dataset.file), files, partial(self._batches, dataset))

    def _why_not(self, dataset: Dataset) -> str:
        """Why no row of a dataset becomes an event; empty where they do."""
        if dataset.kind == "skipped":
            return skip_reason(dataset)
        if dataset.kind == "supplement":
            return ""
        if dataset.is_analysis != (self.facts == "adam") and self.facts in {"adam", "sdtm"}:
            return f"{dataset.domain}: left out by the choice of facts"
        if dataset.domain == "EC" and any(self._is_beside(other, dataset, "EX") for other in self.datasets):
            return "EC: exposure as collected, beside EX"
        is_repeated = dataset.is_analysis and dataset.kind != "time-to-event" and self.facts == "auto"
        if is_repeated and any(other.study == dataset.study and other.is_tabulation for other in self.datasets):
            return f"{dataset.domain}: analysis dataset beside SDTM, which has its facts"
        return ""

    def _is_beside(self, other: Dataset, dataset: Dataset, domain: str) -> bool:
        return other.domain == domain and other.study == dataset.study and not other.is_analysis

    def _referred(self, dataset: Dataset) -> list[Dataset]:
        """The dataset that says when each subject began: DM, else ADSL; of the same study."""
        found = [other for other in self.datasets if other.study == dataset.study]
        by_kind = [[other for other in found if other.kind == kind] for kind in ("demographics", "subjects")]
        return by_kind[0] or by_kind[1]

    def _supplementing(self, dataset: Dataset) -> list[Dataset]:
        return [other for other in self.datasets if other.kind == "supplement" and not dataset.is_analysis]

    @cached_property
    def _references(self) -> dict[str, pl.DataFrame]:
        """By study; made once, when the first dataset is read."""
        found = {}
        for dataset in self.datasets:
            if dataset.study not in found:
                parts = [
                    reference_of((rows.cells for rows in other.rows()), other.domain, self.zone)
                    for other in self._referred(dataset)
                ]
                table = pl.concat([REFERENCE.to_frame(), *parts])
                found[dataset.study] = table.unique("USUBJID", keep="first", maintain_order=True)
        return found

    @cached_property
    def _supplements(self) -> Supplements:
        return supplements_of(dataset.rows() for dataset in self.datasets if dataset.kind == "supplement")

    def _batches(self, dataset: Dataset) -> Iterator[Batch]:
        if dataset.kind == "supplement":
            yield from (_supplementary(dataset, rows) for rows in dataset.rows())
            return
        repeated = self._repeated(dataset)
        for rows in dataset.rows():
            yield self._batch(dataset, rows, repeated)

    def _repeated(self, dataset: Dataset) -> pl.Series:
        """Hashes of the keys that name more than one row, against the standard."""
        if dataset.kind == "parameters":  # their keys repeat: several analysis records of one observation
            return pl.Series("key", [], dtype=pl.UInt64)
        columns = {*KEY_COLUMNS, f"{dataset.domain}SEQ", f"{dataset.domain[2:4]}SEQ"}
        return repeated_keys(self._named(dataset, rows.cells) for rows in dataset.rows(columns) if rows.cells.width)

    def _named(self, dataset: Dataset, rows: pl.DataFrame) -> pl.Series:
        """The source of each row; null where the row has no key of its own."""
        cells = Cells(rows, dataset.domain, self.zone)
        study = pl.lit(self.study) if self.study else pl.lit(cells.text("STUDYID")).fill_null("")
        whole = pl.concat_str(
            pl.lit("CDISC//" + (f"{self.origin}//" if self.origin else "")),
            study,
            pl.lit("/"),
            pl.lit(cells.text("USUBJID")),
            pl.lit(f"/{dataset.domain}"),
            pl.lit(_key(dataset, cells)),
        )
        return pl.select(whole.alias("source")).to_series()

    def _batch(self, dataset: Dataset, rows: Rows, repeated: pl.Series) -> Batch:
        if not rows.cells.height:
            return Batch(ARRIVING.to_frame(), len(rows.broken), 0, rows.broken)
        joined = self._supplements.joined(rows.cells, dataset.domain)
        cells = Cells(joined, dataset.domain, self.zone, self._references.get(dataset.study, REFERENCE.to_frame()))
        subject = cells.text("USUBJID")
        cells.refuse("USUBJID is missing", subject.is_null())
        events = joined_events(EVENTS_OF[dataset.kind](cells), DESCRIBED)
        plain = self._named(dataset, rows.cells)
        keyless = f"CDISC//{dataset.study}/{dataset.domain}"
        is_repeated = is_among(plain, repeated)
        source, withdrawn = row_sources(plain, rows.cells, is_repeated=is_repeated, keyless=keyless)
        if dataset.kind == "parameters":
            cells.skip("second analysis record of one observation", _is_second(source, cells))
        subject = f"{self.origin}:" + subject if self.origin else subject
        return _told(rows, cells, events, _Names(subject, source, withdrawn, dataset.kind == "parameters"))


def _is_second(source: pl.Series, cells: Cells) -> pl.Series:
    """True where an earlier row that is not left out for another reason has the same source."""
    marks = [*cells.wrong, *cells.silent]
    is_left = pl.Series([False]).new_from_index(0, cells.height)
    for _, mask in marks:
        is_left = is_left | mask
    table = pl.DataFrame({"source": source, "is_left": is_left})
    is_first = pl.struct("source", "is_left").is_first_distinct()
    return table.select(~is_first & ~pl.col("is_left")).to_series()


def _key(dataset: Dataset, cells: Cells) -> pl.Series:
    """What follows the domain in a row's name: its sequence number, or what else tells rows of a subject apart."""
    kind, prefix = dataset.kind, cells.prefix
    if kind in {"demographics", "subjects"}:
        return cells.always("")
    if kind == "time-to-event":
        return "/" + cells.text("PARAMCD")
    if kind == "parameters":
        observed = [name for name in sorted(cells.rows.columns) if SEQUENCE.fullmatch(name)]
        return "/" + cells.text("PARAMCD") + "/" + cells.text(*observed, "SRCSEQ", "ASEQ")
    if kind == "visits":
        return "/" + cells.text("VISITNUM", "VISIT")
    return "/" + cells.text(f"{prefix}SEQ", "ASEQ")


@dataclass(frozen=True)
class _Names:
    """Of each row of a batch, the subject and source; `withdrawn` are sources that no row has any more.

    `are_shared`: rows of analysis parameters may share a source, so that one of them cannot take it back.
    """

    subject: pl.Series
    source: pl.Series
    withdrawn: pl.DataFrame
    are_shared: bool


def _told(rows: Rows, cells: Cells, events: pl.DataFrame, names: _Names) -> Batch:
    """The batch: rejected rows first, then those that are skipped; all others are kept if they gave an event."""
    wrong = marked_rows(cells.wrong)
    silent = marked_rows(cells.silent).join(wrong, on="row", how="anti", maintain_order="left")
    events = events.join(pl.concat([wrong, silent]), on="row", how="anti", maintain_order="left")
    described = events.select("code", "description").drop_nulls().unique("code", keep="first", maintain_order=True)
    kept = events["row"].n_unique()
    skipped = Counter(silent["reason"])
    skipped[f"{cells.domain}: nothing that is read"] += cells.height - wrong.height - silent.height - kept
    # An earlier delivery of a row that says nothing now may have said something.
    unsaid = names.source.gather(silent["row"][: 0 if names.are_shared else None]).to_frame("source")
    withdrawn = [names.withdrawn, unsaid.drop_nulls().with_columns(source_time=pl.lit(None, WITHDRAWN["source_time"]))]
    at = pl.col("row")
    events = events.drop("description").with_columns(
        subject=pl.lit(names.subject).gather(at), source=pl.lit(names.source).gather(at)
    )
    return Batch(
        events,
        rows_read=cells.height + len(rows.broken) + rows.headers,
        rows_kept=kept,
        rejected=[*rows.broken, *rejects(rows, wrong)],
        skipped=dict(sorted((+skipped).items())) | _headers(cells.domain, rows),
        withdrawn=pl.concat(withdrawn),
        codes=described.select(CODES.names()),
    )


def _headers(domain: str, rows: Rows) -> dict[str, int]:
    return {f"{domain}: header stored as a row": rows.headers} if rows.headers else {}


def _supplementary(dataset: Dataset, rows: Rows) -> Batch:
    """Supplemental qualifiers: those that are read count as joined to their row, the others have no place."""
    count = rows.cells.height
    read = int(Supplements.is_read(rows.cells).sum())
    skipped = {f"{dataset.domain}: joined to its row": read, f"{dataset.domain}: qualifier has no place": count - read}
    skipped = {reason: number for reason, number in skipped.items() if number}
    return Batch(ARRIVING.to_frame(), count + len(rows.broken), 0, rows.broken, skipped)


def _skipped(dataset: Dataset, reason: str) -> Iterator[Batch]:
    for rows in dataset.rows():
        count = rows.cells.height + rows.headers
        skipped = {reason: count} if count else {}
        yield Batch(ARRIVING.to_frame(), count + len(rows.broken), 0, rows.broken, skipped)
