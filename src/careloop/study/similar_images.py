"""Images of other patients in a record that look alike to a model: on the page without names, by name in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from careloop import InputError
from careloop.imaging.classify.apply import Classified
from careloop.imaging.explain.past import past_images
from careloop.imaging.explain.similar import PastImages, SimilarImages
from careloop.imaging.measure.events import subject_of
from careloop.imaging.volume import Volume
from careloop.record import Record
from careloop.report.classification_page import ClassificationFacts, SimilarImage


@dataclass(frozen=True)
class Past:
    """A record in which similar images are sought; `subject_id` is whose images are classified, and left out there."""

    record: Path
    subject_id: int | None = None


def similar_to(found: Sequence[Classified], volumes: Sequence[Volume], past: Past) -> list[SimilarImages | str]:
    """For each result the similar past images of other patients, or why none can be named."""
    record = Record.open(past.record)
    known: dict[str, PastImages | str] = {}
    alike: list[SimilarImages | str] = []
    for one in found:
        if one.embedding is None or one.refused:
            alike.append("the image was refused")
            continue
        if one.made_by not in known:
            known[one.made_by] = _past_images(record, one.made_by)
        images = known[one.made_by]
        subject = _subject(record, volumes[one.image]) if past.subject_id is None else past.subject_id
        alike.append(images if isinstance(images, str) else images.similar(one.embedding, patient=subject))
    return alike


def _past_images(record: Record, made_by: str) -> PastImages | str:
    try:
        return past_images(record, made_by)
    except InputError as error:
        return str(error)


def _subject(record: Record, volume: Volume) -> int | None:
    """Whose image it is, None where the record does not know it."""
    try:
        return subject_of(record, volume.source, "")
    except InputError:
        return None


def similar_table(found: Sequence[Classified], alike: Sequence[SimilarImages | str]) -> pl.DataFrame:
    """One row a similar image: `image` and `slice` as in results.csv, `rank`, and what is known of the past image."""
    parts = [
        one.table.select(
            image=pl.lit(result.image + 1),
            slice=pl.lit(None if result.slice is None else result.slice + 1, dtype=pl.Int64),
            rank=pl.int_range(1, pl.len() + 1),
            past_image="image",
            subject_id="patient",
            similarity=1 - pl.col("distance"),
            cannot_be_ruled_out="labels",
        )
        for result, one in zip(found, alike, strict=True)
        if not isinstance(one, str)
    ]
    return pl.concat(parts) if parts else pl.DataFrame()


def with_similar(facts: ClassificationFacts, alike: Sequence[SimilarImages | str]) -> ClassificationFacts:
    """The page's facts with the similar images of each result that is shown."""
    if not alike:
        return facts
    shown = [
        replace(image, none_similar=one)
        if isinstance(one, str)
        else replace(image, similar=_similar_rows(one), none_similar=one.reason)
        for image, one in zip(facts.images, alike, strict=False)
    ]
    return replace(facts, images=tuple(shown))


def _similar_rows(one: SimilarImages) -> tuple[SimilarImage, ...]:
    rows = one.table.iter_rows(named=True)
    return tuple(SimilarImage(1 - row["distance"], tuple(filter(None, row["labels"].split("; ")))) for row in rows)
