"""A package applied to a record: features of its subjects, and predictions written back as events."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Literal

import polars as pl

from careloop import InputError
from careloop.features import FeatureMatrix, extract
from careloop.features.timelines import extract_timelines
from careloop.predict.apply import TIME, prediction_events
from careloop.record import CARELOOP, Record
from careloop.train import Package


def record_patients(
    record: Record, package: Package, *, subjects: Sequence[int] = (), prediction_time: datetime | None = None
) -> FeatureMatrix:
    """Features of the record's subjects (all, or those given) at `prediction_time`.

    Without a prediction time each subject is taken when the last fact about them became known. Raises InputError for a
    subject that the record does not hold, or one with facts without a time only.
    """
    matrix = extract(record, patient_keys(record, subjects, prediction_time), package.recipe)
    if package.timelines is None:
        return matrix
    return replace(matrix, timelines=extract_timelines(record, matrix.keys, package.timelines))


def patient_keys(record: Record, subjects: Sequence[int], prediction_time: datetime | None) -> pl.DataFrame:
    """A key for each subject (all, or those given) by rising id, at `prediction_time` or when its last fact was known.

    Raises InputError as `record_patients`.
    """
    facts = record.events().filter(~pl.col("code").str.starts_with(CARELOOP))
    if subjects:
        facts = facts.filter(pl.col("subject_id").is_in(list(subjects)))
    last = facts.group_by("subject_id").agg(prediction_time=pl.col("known_time").max()).sort("subject_id").collect()
    unknown = sorted(set(subjects) - set(last["subject_id"]))
    if unknown:
        raise InputError(f"{record.path} holds no facts about subject {unknown[0]}; check the subject_id")
    if prediction_time is not None:
        last = last.with_columns(prediction_time=pl.lit(prediction_time).cast(TIME))
    timeless = last["prediction_time"].null_count()
    if timeless:
        raise InputError(f"{timeless} subjects have facts without a time only; give a prediction time")
    return last


def record_predictions(
    path: Path, predictions: pl.DataFrame, *, horizon_days: float, mode: Literal["shown", "silent"] = "shown"
) -> Record:
    """Append predictions to the record in folder `path` as events; the same predictions again change nothing."""
    events = prediction_events(predictions, horizon_days=horizon_days, mode=mode)
    digest = hashlib.sha256(events.write_csv().encode()).hexdigest()
    return Record.open(path).append(events, key=f"careloop:predictions:{digest}", origin="careloop")
