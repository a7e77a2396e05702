"""A detector's findings as events of a record: how many of each label, and each one's diameter and probability."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from careloop import InputError
from careloop.imaging.detect.boxes import Detection
from careloop.imaging.measure.events import AS_ACQUIRED, PREFIX, Recording, asset_of, first_slice, model_of
from careloop.imaging.volume import Volume
from careloop.record import EVENTS, Record

UNITS = {"count": "{findings}", "diameter": "mm", "probability": "1"}  # UCUM


def detection_events(
    found: Sequence[Detection],
    volume: Volume,
    *,
    subject_id: int,
    made_by: str,
    labels: Sequence[str],
    how: Recording = AS_ACQUIRED,
) -> pl.DataFrame:
    """Return the findings of one image as events (columns of `EVENTS`).

    `code` is `IMAGE//DETECTION//<model>//<label>//<quantity>`: one `count` for each of the detector's `labels`, 0 where
    nothing was found, and of each finding its `diameter` in mm and calibrated `probability`, the surest first;
    `text_value` is `made_by` and the finding's number, which joins the two. Times, asset and source are as those of
    `careloop.imaging.measure.events.measurement_events`: a later reading of the same image replaces this one whole.

    Raises:
        InputError: the image has no time of acquisition, or `measured_at` has no time zone or is earlier than it.
    """
    taken = volume.source.acquired
    if taken is None:
        raise InputError("events need a time: the image does not say when it was acquired; set source.acquired (UTC)")
    known = how.measured_at or taken
    if known.tzinfo is None or known < taken:
        raise InputError("measured_at must have a time zone and not be earlier than the acquisition; correct it")
    model = model_of(made_by)
    rows: list[tuple[str, float, str, str]] = []
    for label in labels:
        mine = sorted((d for d in found if d.label == label), key=lambda d: -d.probability)
        stem = f"{PREFIX}//DETECTION//{_plain(model)}//{_plain(label)}"
        rows.append((f"{stem}//count", float(len(mine)), UNITS["count"], made_by))
        for number, one in enumerate(mine, start=1):
            about = f"{made_by}, finding {number}"
            rows.append((f"{stem}//diameter", one.diameter_mm, UNITS["diameter"], about))
            rows.append((f"{stem}//probability", one.probability, UNITS["probability"], about))
    asset, by = asset_of(volume), model if how.versions == "newest" else made_by
    source = f"{PREFIX}//DETECTION//{asset}{first_slice(volume.source)}//{by}"
    table = pl.DataFrame(rows, schema=["code", "value", "unit", "text_value"], orient="row")
    return table.select(
        subject_id=pl.lit(subject_id, dtype=pl.Int64),
        time=pl.lit(taken).cast(EVENTS["time"]),
        known_time=pl.lit(known).cast(EVENTS["known_time"]),
        code="code",
        numeric_value=pl.col("value").cast(pl.Float32),
        unit="unit",
        text_value="text_value",
        asset=pl.lit(asset),
        source=pl.lit(source),
    )


def record_detections(path: Path, events: pl.DataFrame) -> Record:
    """Write what `detection_events` gave into the record in folder `path`, and what its codes mean; returns it."""
    record = Record.open(path)
    meaning = events.select("code", "unit").unique().sort("code")
    parts = meaning["code"].str.split("//")
    described = meaning.select(
        "code",
        description=pl.Series([f"{p[3]} marked by {p[2]}: {p[4]}" for p in parts.to_list()]),
        parent_codes=pl.Series([[] for _ in range(meaning.height)], dtype=pl.List(pl.String)),
        unit="unit",
    )
    new = described.join(record.code_metadata(), on="code", how="anti")
    if new.height:
        record.describe_codes(new)
    digest = hashlib.sha256(events.write_csv().encode()).hexdigest()
    return record.supersede(events, key=f"careloop:detection:{digest}")


def _plain(name: str) -> str:
    """A name as part of a code."""
    return re.sub(r"\W+", "_", name.lower()).strip("_")
