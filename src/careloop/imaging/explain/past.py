"""Past images of a record, by the embeddings that one version of a model left there as events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from careloop import InputError
from careloop.imaging.classify.events import EMBEDDING, LABELS, REFUSED, code_of
from careloop.imaging.explain.similar import PastImages

if TYPE_CHECKING:
    from careloop.record import Record


def past_images(record: Record, made_by: str) -> PastImages:
    """All images in the record that the model `made_by` (name and version) embedded, with the labels it left possible.

    Embeddings of other versions cannot be compared and are left out. The table's columns are `image` (asset), `patient`
    (subject_id), `labels`. Raises InputError where fewer than two patients have such images.
    """
    prefix, labels_code = code_of(made_by, EMBEDDING) + "//", code_of(made_by, LABELS)
    rows = record.events().select("subject_id", "asset", "code", "numeric_value", "text_value")
    numbers = (
        rows.filter(pl.col("code").str.starts_with(prefix), pl.col("text_value") == made_by)
        .with_columns(place=pl.col("code").str.strip_prefix(prefix).cast(pl.Int32))
        .sort("subject_id", "asset", "place")
        .group_by("subject_id", "asset", maintain_order=True)
        .agg(embedding="numeric_value")
    )
    said = rows.filter(pl.col("code") == labels_code, ~pl.col("text_value").str.starts_with(f"{REFUSED}: "))
    labels = said.group_by("subject_id", "asset").agg(labels=pl.col("text_value").last())
    found = numbers.join(labels, on=["subject_id", "asset"], how="left", maintain_order="left").collect()
    if found["subject_id"].n_unique() < 2:
        raise InputError(
            f"similar images need images of at least two patients that {made_by} classified, got "
            f"{found['subject_id'].n_unique()} in {record.path}; classify more with --record"
        )
    return PastImages.of(
        found["embedding"].list.to_array(found["embedding"].list.len()[0]).to_numpy(),
        images=found["asset"].to_list(),
        patients=found["subject_id"].to_list(),
        known={"labels": found["labels"].fill_null("").to_list()},
    )
