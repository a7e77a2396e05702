"""What a classification model says of an image as events of a record: probabilities, label set and embedding."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from careloop import InputError
from careloop.imaging.classify.apply import Classified
from careloop.imaging.measure.events import (
    AS_ACQUIRED,
    PREFIX,
    Recording,
    asset_of,
    first_slice,
    known_subject,
    model_of,
    subject_of,
)
from careloop.imaging.volume import Volume
from careloop.record import EVENTS, Record

FINDING, LABELS, EMBEDDING = "FINDING", "LABELS", "EMBEDDING"
NONE_FITS, REFUSED = "none", "refused"  # text of a label set that is empty; of an image that was refused


def classification_events(
    found: Sequence[Classified], volume: Volume, *, subject_id: int, how: Recording = AS_ACQUIRED
) -> pl.DataFrame:
    """Return what `classify` gave for one volume (a result, or one a slice) as events (columns of `EVENTS`).

    `IMAGE//FINDING//<model>//<label>` has the calibrated probability; `IMAGE//LABELS//<model>` has as its text the
    labels that cannot be ruled out (`; ` between them, `none` where none is left), or `refused: ` and the reason;
    `IMAGE//EMBEDDING//<model>//<i>` has the i-th number of the embedding, from 0. A refused image has neither of the
    other two. The text of findings and embeddings is the model and its version. `asset` is the series as `ingest`
    names it, with the instance and frame where there is a result a slice. Times, replacement of earlier results and
    `how` are those of `measurement_events`.

    Raises:
        InputError: results of several models or none, the image has no time of acquisition, `measured_at` has no time
            zone or is earlier than it, or two labels give one code.
    """
    made_by = _one_model(found)
    taken = volume.source.acquired
    if taken is None:
        raise InputError("events need a time: the image does not say when it was acquired; set source.acquired (UTC)")
    known = how.measured_at or taken
    if known.tzinfo is None or known < taken:
        raise InputError("measured_at must have a time zone and not be earlier than the acquisition; correct it")
    model, asset = model_of(made_by) if how.versions == "newest" else made_by, asset_of(volume)
    rows = [row for one in found for row in _rows(one, _place(one, volume, asset))]
    return pl.DataFrame(rows, schema=_ROW, orient="row").select(
        subject_id=pl.lit(subject_id, dtype=pl.Int64),
        time=_time(taken),
        known_time=_time(known),
        code="code",
        numeric_value="numeric_value",
        unit="unit",
        text_value="text_value",
        asset="asset",
        source=pl.lit(f"{PREFIX}//{FINDING}//{asset}{first_slice(volume.source)}//{model}"),
    )


_ROW = {"code": pl.String(), "numeric_value": pl.Float32(), "unit": pl.String(), "text_value": pl.String(),
        "asset": pl.String()}  # fmt: skip
_Row = tuple[str, float | None, str | None, str, str]


def record_classification(
    path: Path,
    found: Sequence[Classified],
    volume: Volume,
    *,
    subject_id: int | None = None,
    how: Recording = AS_ACQUIRED,
) -> Record:
    """Write the results for one volume into the record in folder `path`, and what their codes mean; returns the record.

    Without `subject_id` the patient is found by the image's PatientID, as when its series was ingested.

    Raises:
        InputError: as `classification_events`; the record knows no such subject, or the image names no patient.
    """
    record = Record.open(path)
    subject = subject_of(record, volume.source, how.origin) if subject_id is None else known_subject(record, subject_id)
    events = classification_events(found, volume, subject_id=subject, how=how)
    new = code_table(found).join(record.code_metadata(), on="code", how="anti")
    if new.height:
        record.describe_codes(new)
    digest = hashlib.sha256(events.write_csv().encode()).hexdigest()
    return record.supersede(events, key=f"careloop:image:{digest}")


def code_table(found: Sequence[Classified]) -> pl.DataFrame:
    """Return what the codes of these results mean, for `Record.describe_codes`: description and unit."""
    model = model_of(_one_model(found))
    first = found[0]
    rows: list[tuple[str, str, str | None]] = [
        (code, f"{label}: probability by {model}", "1") for code, label in _finding_codes(first).items()
    ]
    rows.append((code_of(first.made_by, LABELS), f"labels that cannot be ruled out by {model}", None))
    size = max((len(one.embedding) for one in found if one.embedding is not None), default=0)
    rows += [
        (code_of(first.made_by, EMBEDDING, str(i)), f"number {i} of the embedding by {model}", "1") for i in range(size)
    ]
    return pl.DataFrame(rows, schema=dict.fromkeys(("code", "description", "unit"), pl.String()), orient="row")


def _one_model(found: Sequence[Classified]) -> str:
    models = {one.made_by for one in found}
    if len(models) != 1:
        raise InputError(f"events are written of the results of one model for one image, got {len(models)} models")
    return models.pop()


def _rows(one: Classified, asset: str) -> list[_Row]:
    """The rows of one result."""
    if one.refused:
        return [(code_of(one.made_by, LABELS), None, None, f"{REFUSED}: {one.reason}", asset)]
    findings = zip(_finding_codes(one), one.probability.tolist(), strict=True)
    rows: list[_Row] = [(code, value, "1", one.made_by, asset) for code, value in findings]
    shown = one.label_set if one.level else one.answer
    rows.append((code_of(one.made_by, LABELS), None, None, "; ".join(shown) or NONE_FITS, asset))
    embedding = one.embedding if one.embedding is not None else np.zeros(0, np.float32)
    rows += [
        (code_of(one.made_by, EMBEDDING, str(i)), v, "1", one.made_by, asset) for i, v in enumerate(embedding.tolist())
    ]
    return rows


def _finding_codes(one: Classified) -> dict[str, str]:
    """The labels by their codes; InputError where two labels share one."""
    codes = {code_of(one.made_by, FINDING, label): label for label in one.labels}
    if len(codes) < len(one.labels) or any(code.endswith("//") for code in codes):
        raise InputError("each label needs a code of its own: labels must differ in letters or numbers; rename them")
    return codes


def code_of(made_by: str, kind: str, last: str = "") -> str:
    """The code of a `kind` (FINDING, LABELS, EMBEDDING) of event by a model, for a label or number where it has any."""
    return "//".join([PREFIX, kind, _plain(model_of(made_by)), *([_plain(last)] if last else [])])


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name.lower()).strip("_")


def _place(one: Classified, volume: Volume, asset: str) -> str:
    """The series, or its slice where there is a result a slice."""
    if one.slice is None:
        return asset
    source = volume.source
    if one.slice >= len(source.instances):
        return f"{asset}/slice/{one.slice + 1}"
    frame = f"/frame/{source.frames[one.slice]}" if source.frames else ""
    return f"{asset}/instance/{source.instances[one.slice]}{frame}"


def _time(moment: datetime) -> pl.Expr:
    return pl.lit(moment).cast(EVENTS["time"])
