"""Scores, principal components, burdens and dosages as ordinary events of a record, so that features use them.

| code | numeric_value |
| --- | --- |
| `GENOME//SCORE//NAME` | a polygenic score |
| `GENOME//PC//1` | the first principal component, and so on |
| `GENOME//BURDEN//GENE` | what rare variants of the gene add up to |
| `GENOME//DOSAGE//ID_ALLELE` | expected copies of the allele, 0 to 2, in unit `{copies}` |

All are static facts, without a time: a genome does not age. `asset` is the table that they were read from. A patient
has one value of a code: a later table's value replaces the earlier one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

from careloop import InputError
from careloop.genome.findings.events import COPIES
from careloop.genome.findings.scores.score_table import SAMPLE, Kind, numbers
from careloop.ingest.links import Links
from careloop.record import EVENTS, Record
from careloop.record.delta import read_rows
from careloop.record.merges import survivors_of
from careloop.record.subjects import SUBJECTS, hashed_ids

CODES: dict[Kind, str] = {
    "score": "GENOME//SCORE",
    "pc": "GENOME//PC",
    "burden": "GENOME//BURDEN",
    "dosage": "GENOME//DOSAGE",
}
MEANINGS: dict[Kind, str] = {
    "score": "{}: polygenic score",
    "pc": "principal component {} of genotypes",
    "burden": "{}: burden of rare variants",
    "dosage": "{}: copies of the allele",
}
MOST_COPIES = 2.0
REJECTS = pl.Schema({SAMPLE: pl.String(), "column": pl.String(), "reason": pl.String()})
NO_SAMPLE = "no sample"
NOT_LINKED = "not in the samples file"
NO_PATIENT = "no such patient in the record"
SEVERAL_ROWS = "more than one row for the patient"
NO_NUMBER = "not a number"
NO_COPIES = f"not between 0 and {MOST_COPIES:g} copies"


@dataclass(frozen=True)
class SampleSubjects:
    """Whose a sample is: by `links` (else a sample's own name), as a source identifier or as a subject_id."""

    links: Links = field(default_factory=Links)
    named_by: Literal["identifier", "subject_id"] = "identifier"


@dataclass(frozen=True)
class RecordedScores:
    """The record afterwards; `events` in the table, of which `changed` were new or other than before.

    `missing` cells had no value, which makes no event. `rejects` has the columns of `REJECTS`; a row without a column
    is a person of whom nothing was recorded.
    """

    record: Record
    events: int
    changed: int
    missing: int
    rejects: pl.DataFrame


def record_scores(
    path: Path,
    table: pl.DataFrame,
    *,
    kind: Kind,
    subjects: SampleSubjects | None = None,
    table_path: Path | None = None,
) -> RecordedScores:
    """Write a table (`sample_id`, then one column a name) into the record in folder `path` as static facts.

    People whom the record does not have are rejected, and so are all rows of a patient who has several. Writing what
    the record holds already changes nothing; a value that is missing here and was there before stays.

    Raises:
        InputError: there is no record, or no column `sample_id`; the record was shared without its `private/`.
    """
    record = Record.open(path)
    if SAMPLE not in table.columns or len(table.columns) < 2:
        told = ", ".join(table.columns[:5])
        raise InputError(f"a table of people needs a column {SAMPLE} and one or more of values, got {told}")
    people, rejected = subjects_of(record, table[SAMPLE].cast(pl.String), subjects or SampleSubjects())
    cells = _cells(people.join(table.with_columns(pl.col(SAMPLE).cast(pl.String)), on=SAMPLE, how="left"))
    judged = cells.with_columns(reason=_reason(kind))
    events = _events(judged.filter(pl.col("reason").is_null() & pl.col("number").is_not_null()), kind, table_path)
    refused = judged.filter(pl.col("reason").is_not_null()).select(SAMPLE, "column", "reason")
    changed = events.join(_held(record, events), on=EVENTS.names(), how="anti", nulls_equal=True)
    return RecordedScores(
        record=_written(record, changed, kind),
        events=events.height,
        changed=changed.height,
        missing=int(judged.select(pl.col("number").is_null() & pl.col("reason").is_null()).to_series().sum()),
        rejects=pl.concat([rejected, refused]),
    )


def subjects_of(record: Record, samples: pl.Series, subjects: SampleSubjects) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`sample_id` and `subject_id` of the samples whose patient the record has, and the others (`REJECTS`)."""
    names = [subjects.links.subject_of(sample) if sample else None for sample in samples]
    named = pl.DataFrame({SAMPLE: samples, "name": names}, schema={SAMPLE: pl.String, "name": pl.String})
    known = _known(record, named["name"].drop_nulls().unique(), subjects)
    rows = named.join(known, on="name", how="left", maintain_order="left")
    reason = (
        pl.when(pl.col(SAMPLE).fill_null("") == "")
        .then(pl.lit(NO_SAMPLE))
        .when(pl.col("name").is_null())
        .then(pl.lit(NOT_LINKED))
        .when(pl.col("subject_id").is_null())
        .then(pl.lit(NO_PATIENT))
        .when(pl.col("subject_id").is_duplicated())
        .then(pl.lit(SEVERAL_ROWS))
    )
    rows = rows.with_columns(reason=reason, column=pl.lit(None, dtype=pl.String))
    rejected = rows.filter(pl.col("reason").is_not_null())
    return rows.filter(pl.col("reason").is_null()).select(SAMPLE, "subject_id"), rejected.select(REJECTS.names())


def _known(record: Record, names: pl.Series, subjects: SampleSubjects) -> pl.DataFrame:
    """`name` and `subject_id` of the patients whom the record has; nobody is added to its subjects."""
    if subjects.named_by == "subject_id":
        asked = pl.DataFrame({"name": names, "subject_id": names.cast(pl.Int64, strict=False)})
        there = record.events().select("subject_id").unique().collect()
        return asked.join(there, on="subject_id", how="semi")
    if names.is_empty():
        return pl.DataFrame(schema={"name": pl.String, "subject_id": pl.Int64})
    asked = hashed_ids(record, names).rename({"source_id": "name"})
    registered = read_rows(record.path / "private" / "subjects", SUBJECTS)
    known = asked.join(registered, on="subject_id", how="semi")
    return known.with_columns(pl.col("subject_id").replace(survivors_of(record)))


def _cells(people: pl.DataFrame) -> pl.DataFrame:
    """One row a person and column: sample_id, subject_id, column, whether it is `given`, and its `number`."""
    parts = [
        people.select(
            SAMPLE, "subject_id", column=pl.lit(name), given=_given(people[name]), number=numbers(people[name])
        )
        for name in people.columns
        if name not in (SAMPLE, "subject_id")
    ]
    return pl.concat(parts)


def _given(column: pl.Series) -> pl.Series:
    """Where there is a value, be it a number or not: NaN says that there is none."""
    return column.is_not_null() & ~column.is_nan() if column.dtype.is_float() else column.is_not_null()


def _reason(kind: Kind) -> pl.Expr:
    """Why a cell is no event although something is there; null where it is one, or is missing."""
    outside = ~pl.col("number").is_between(0, MOST_COPIES) if kind == "dosage" else pl.lit(False)
    return (
        pl.when(pl.col("given") & pl.col("number").is_null())
        .then(pl.lit(NO_NUMBER))
        .when(pl.col("number").is_not_null() & outside)
        .then(pl.lit(NO_COPIES))
    )


def _events(cells: pl.DataFrame, kind: Kind, table_path: Path | None) -> pl.DataFrame:
    """Events (columns of `EVENTS`) of cells that have a number."""
    code = pl.format("{}//{}", pl.lit(CODES[kind]), "column")
    asset = None if table_path is None else table_path.absolute().as_uri()
    return cells.select(
        "subject_id",
        time=pl.lit(None, dtype=EVENTS["time"]),
        known_time=pl.lit(None, dtype=EVENTS["known_time"]),
        code=code,
        numeric_value=pl.col("number").cast(EVENTS["numeric_value"]),
        unit=pl.lit(COPIES if kind == "dosage" else None, dtype=pl.String),
        text_value=pl.lit(None, dtype=EVENTS["text_value"]),
        asset=pl.lit(asset, dtype=pl.String),
        source=pl.format("{}//{}", code, "subject_id"),
    ).select(EVENTS.names())


def _held(record: Record, events: pl.DataFrame) -> pl.DataFrame:
    """What the record holds under the same codes."""
    codes = events["code"].unique().sort().to_list()
    return record.events(codes=codes).collect() if codes else EVENTS.to_frame()


def _written(record: Record, events: pl.DataFrame, kind: Kind) -> Record:
    if events.is_empty():
        return record
    new = _described(events["code"].unique().sort().to_list(), kind).join(record.code_metadata(), on="code", how="anti")
    if new.height:
        record.describe_codes(new)
    digest = hashlib.sha256(events.sort(EVENTS.names()).write_csv().encode()).hexdigest()
    # The version is part of the key: a value that comes back after another one is a change again.
    return record.supersede(events, key=f"careloop:genome:{kind}:{record.version}:{digest}")


def _described(codes: Sequence[str], kind: Kind) -> pl.DataFrame:
    meanings = [MEANINGS[kind].format(code.removeprefix(f"{CODES[kind]}//")) for code in codes]
    return pl.DataFrame(
        {"code": codes, "description": meanings, "unit": [COPIES if kind == "dosage" else None] * len(codes)},
        schema=dict.fromkeys(("code", "description", "unit"), pl.String),
    )
