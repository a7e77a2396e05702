"""Measurements of an image as ordinary events of a record, so that features and models use them like any lab value."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from careloop import InputError
from careloop.imaging.measure.quantities import PLACES
from careloop.imaging.volume import Source, Volume, name_and_version
from careloop.record import EVENTS, Record, subject_ids

PREFIX = "IMAGE"
_UNIT = pl.when(pl.col("unit") != "").then("unit")
# Parents are coded as the record's other codes are: `SNOMED//80891009`.
_VOCABULARY = {"SCT": "SNOMED", "LN": "LOINC"}


@dataclass(frozen=True)
class Recording:
    """How measurements are put into a record; the defaults suit a study of what was in the pictures.

    `measured_at` (with a time zone) makes them known from then on, not from acquisition. `versions`: of a series,
    `newest` keeps the rows of a model's latest version, `all` those of every version. `origin` is the namespace of
    patient identifiers that the images were ingested with.
    """

    measured_at: datetime | None = None
    versions: Literal["newest", "all"] = "newest"
    origin: str = ""


AS_ACQUIRED = Recording()


def measurement_events(
    table: pl.DataFrame, volume: Volume, *, subject_id: int, made_by: str, how: Recording = AS_ACQUIRED
) -> pl.DataFrame:
    """Return the rows of `table` (as `measure` gives it) as events (columns of `EVENTS`).

    `code` is `IMAGE//<structure>//<quantity>`, as in `IMAGE//heart//volume`; `time` that of acquisition; `text_value`
    is `made_by` (model and version), `asset` the series as `ingest` names it. Where a structure lies in the scanner is
    left out, as are values that are not finite.

    `known_time` is the time of acquisition, too: what is measured was in the picture then, and a model that reads it
    adds nothing that became known later. Where a study must use measurements only from when a reader had them, set
    `measured_at`. `source` names the series, its first slice (a series may hold several volumes: phases, echoes) and
    the model: a later measuring of the same replaces this one whole, structures that are no longer found included.

    Raises:
        InputError: the image has no time of acquisition, `measured_at` has no time zone or is earlier than it, or two
            structures' names give one code.
    """
    taken = volume.source.acquired
    if taken is None:
        raise InputError("events need a time: the image does not say when it was acquired; set source.acquired (UTC)")
    known = how.measured_at or taken
    if known.tzinfo is None or known < taken:
        raise InputError("measured_at must have a time zone and not be earlier than the acquisition; correct it")
    asset = asset_of(volume)
    model = model_of(made_by) if how.versions == "newest" else made_by
    return _kept(table).select(
        subject_id=pl.lit(subject_id, dtype=pl.Int64),
        time=pl.lit(taken).cast(EVENTS["time"]),
        known_time=pl.lit(known).cast(EVENTS["known_time"]),
        code="code",
        numeric_value=pl.col("value").cast(pl.Float32),
        unit=_UNIT,
        text_value=pl.lit(made_by),
        asset=pl.lit(asset),
        source=pl.lit(f"{PREFIX}//{asset}{first_slice(volume.source)}//{model}"),
    )


def record_measurements(
    path: Path,
    table: pl.DataFrame,
    volume: Volume,
    *,
    made_by: str,
    subject_id: int | None = None,
    how: Recording = AS_ACQUIRED,
) -> Record:
    """Write measurements into the record in folder `path`, and what their codes mean; returns the record.

    Without `subject_id` the patient is found by the image's PatientID, as when its series was ingested. Rows that were
    written before change nothing when they are written again (so an older version's do not come back).

    Raises:
        InputError: as `measurement_events`; the record knows no such subject, or the image names no patient.
    """
    record = Record.open(path)
    subject = subject_of(record, volume.source, how.origin) if subject_id is None else known_subject(record, subject_id)
    events = measurement_events(table, volume, subject_id=subject, made_by=made_by, how=how)
    new = code_table(table).join(record.code_metadata(), on="code", how="anti")
    if new.height:
        record.describe_codes(new)
    digest = hashlib.sha256(events.write_csv().encode()).hexdigest()
    return record.supersede(events, key=f"careloop:image:{digest}")


def code_table(table: pl.DataFrame) -> pl.DataFrame:
    """Return what the codes of a table mean, for `Record.describe_codes`: description, parents and unit."""
    rows = _kept(table)
    parents = [
        [_parent(concept) for concept in (row["concept"], row["structure"]) if concept is not None]
        for row in rows.iter_rows(named=True)
    ]
    return rows.select(
        "code",
        description=pl.format("{}: {}", pl.col("name"), pl.col("concept").struct.field("meaning")),
        parent_codes=pl.Series(parents, dtype=pl.List(pl.String)),
        unit=_UNIT,
    )


def _kept(table: pl.DataFrame) -> pl.DataFrame:
    """The rows that become events, with their codes; InputError where two structures share one."""
    plain: dict[str, str] = {}
    for name in table.unique("segment", maintain_order=True)["name"]:
        short = re.sub(r"\W+", "_", name.lower()).strip("_")
        if not short or short in plain.values():
            raise InputError(f"each structure needs a code of its own, '{name}' would be '{short}'; rename it")
        plain[name] = short
    structure = pl.col("name").replace_strict(plain, return_dtype=pl.String)
    rows = table.with_columns(code=pl.format("{}//{}//{}", pl.lit(PREFIX), structure, pl.col("quantity")))
    return rows.filter(pl.col("value").is_finite() & ~pl.col("quantity").is_in(PLACES))


def asset_of(volume: Volume) -> str:
    """Return where the image is kept: its DICOM series, or the SHA-256 of its voxels where it is none."""
    source = volume.source
    if source.study and source.series:
        return f"dicom:study/{source.study}/series/{source.series}"
    digest = hashlib.sha256(np.ascontiguousarray(volume.affine).tobytes())
    for plane in volume.voxels:
        digest.update(np.ascontiguousarray(plane).tobytes())
    return f"sha256:{digest.hexdigest()}"


def first_slice(source: Source) -> str:
    """The first slice of an image in an event's source: its instance and, of several frames, the frame."""
    if not source.instances:
        return ""
    return f"/instance/{source.instances[0]}" + (f"/frame/{source.frames[0]}" if source.frames else "")


def model_of(made_by: str) -> str:
    """Return what made a label map without its version: `chest 1.0` is of `chest`, `a 1, b 0f3e4d5c` of `a, b`."""
    return ", ".join(name_and_version(part)[0] for part in made_by.split(", "))


def _parent(concept: dict[str, str]) -> str:
    return f"{_VOCABULARY.get(concept['scheme'], concept['scheme'])}//{concept['value']}"


def subject_of(record: Record, source: Source, origin: str) -> int:
    """Whose image it is, by its PatientID. InputError where it has none, or the record knows no such patient."""
    if not source.patient_id:
        raise InputError("the image names no patient; say whose it is by the subject's id in the record")
    return int(subject_ids(record, pl.Series([f"{origin}:{source.patient_id}" if origin else source.patient_id]))[0])


def known_subject(record: Record, subject_id: int) -> int:
    """The subject, if the record holds facts about it. InputError otherwise."""
    shard = int(record.shard_of(pl.Series([subject_id]))[0])
    if record.events(shard).filter(subject_id=subject_id).head(1).collect().is_empty():
        raise InputError(f"{record.path} holds no facts about subject {subject_id}; check the subject's id")
    return subject_id
