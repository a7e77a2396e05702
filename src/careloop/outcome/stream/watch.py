"""One model watched: level, spread and inputs share one false-alarm budget; alarms in words.

The budget is shared out beforehand (half to the inputs where they are watched, the rest equally to level and spread),
so that the probability of any false alarm, ever, is at most `alpha`: each test by Ville's inequality, together by
Bonferroni's. An alarm says that predictions are not right, or inputs not as before; not why.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from careloop import InputError
from careloop.evaluate import to_json
from careloop.features import FeatureMatrix
from careloop.outcome.stream.arrivals import Arrivals, arrivals, in_order
from careloop.outcome.stream.calibration import watch_level, watch_spread
from careloop.outcome.stream.evidence import Evidence
from careloop.outcome.stream.inputs import watch_inputs
from careloop.plan.patients import KEYS

ALPHA = 0.05
SHARE_OF_INPUTS = 0.5
# Paths kept of inputs without alarm: those with most evidence.
MOST_QUIET_INPUTS = 5
# Of a path in JSON: enough for a page-wide chart.
MOST_POINTS = 500
TO_DO = {
    "level": "see whether recalibration is advised, and whether patients, care or the recording of outcomes changed",
    "spread": "see whether recalibration is advised; if not, the model should be trained anew",
    "input": "check the unit, the assay and who is measured before the model is used further",
}


@dataclass(frozen=True)
class Inputs:
    """Features of the training rows and of the predictions that are watched.

    Raises InputError where their columns differ.
    """

    reference: FeatureMatrix
    stream: FeatureMatrix

    def __post_init__(self) -> None:
        if self.reference.names != self.stream.names:
            raise InputError(
                f"watched inputs need the columns of the reference in the same order: got {len(self.stream.names)} "
                f"columns and {len(self.reference.names)}; align both to the model's features"
            )


@dataclass(frozen=True)
class StreamVerdict:
    """One model's stream: counts, evidence, and the first alarm.

    `entered` predictions whose horizon has passed, of which `lost` were not followed to it; `waiting`, `overlapping`
    and `abstained` as in `Arrivals`. `alpha` is the probability of any false alarm on this model however long one
    looks.
    """

    model: str
    model_version: str
    alpha: float
    as_of: str
    entered: int
    lost: int
    waiting: int
    overlapping: int
    abstained: int
    evidence: tuple[Evidence, ...]
    words: str

    @property
    def first_alarm(self) -> Evidence | None:
        """The evidence that raised the first alarm, or None."""
        raised = [each for each in self.evidence if each.alarm_time is not None]
        return min(raised, key=lambda each: each.alarm_time or "", default=None)

    def to_json(self) -> dict[str, Any]:
        """Plain values for outcome.json and the chart.

        {"model", "model_version", "alpha", "as_of", "entered", "lost", "waiting", "overlapping", "abstained",
        "alarm": kind of the first alarm | null, "alarm_time": ISO | null,
        "evidence": [{"kind": "level"|"spread"|"input", "feature": name|null, "alpha", "line": log10 of the alarm line,
        "rows", "points": [rows shown, from 1], "times": [ISO of each point], "log10": [evidence at each point],
        "highest", "alarm": bool, "alarm_row": from 1|null, "alarm_time", "since": ISO|null, "direction": words|null}],
        "words"}
        Paths have at most 500 points and the alarm's.
        """
        first = self.first_alarm
        content: dict[str, Any] = to_json(self)
        content |= {"alarm": first.kind if first else None, "alarm_time": first.alarm_time if first else None}
        content["evidence"] = [thinned(each, ("times", "log10")) for each in content["evidence"]]
        return content


def thinned(path: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The path with at most `MOST_POINTS` points and the alarm's; `points` are their rows, from 1."""
    rows = len(path[names[0]])
    kept = set(np.linspace(0, rows - 1, min(rows, MOST_POINTS)).round().astype(int).tolist())
    points = sorted(kept | ({path["alarm_row"] - 1} if path["alarm_row"] else set()))
    return {**path, **{name: [path[name][row] for row in points] for name in names}, "points": [r + 1 for r in points]}


def watch_models(
    rows: pl.DataFrame, *, horizon_days: float, as_of: datetime, alpha: float = ALPHA, inputs: Inputs | None = None
) -> tuple[StreamVerdict, ...]:
    """The stream of each model and version, in order of their names.

    `rows`: prediction columns joined with follow_up_days and event; `as_of`: up to when the record tells of outcomes;
    `inputs.stream` has a row for each (subject_id, prediction_time), rows without a prediction are left out.
    """
    groups = rows.with_columns(pl.col("model_version").fill_null("")).partition_by(
        "model", "model_version", as_dict=True
    )
    found = []
    for model, version in sorted(groups):
        group = groups[model, version]
        entered = arrivals(group, horizon_days=horizon_days, as_of=as_of)
        evidence = (*_calibration(entered, alpha, inputs), *_of_inputs(group, alpha, inputs))
        verdict = StreamVerdict(
            model=str(model),
            model_version=str(version),
            alpha=alpha,
            as_of=f"{as_of:%Y-%m-%dT%H:%M:%S}",
            entered=len(entered),
            lost=entered.lost,
            waiting=entered.waiting,
            overlapping=entered.overlapping,
            abstained=entered.abstained,
            evidence=evidence,
            words="",
        )
        found.append(replace(verdict, words=stream_in_words(verdict)))
    return tuple(found)


def _calibration(entered: Arrivals, alpha: float, inputs: Inputs | None) -> tuple[Evidence, Evidence]:
    share = alpha * (1 - SHARE_OF_INPUTS if inputs else 1.0) / 2
    return watch_level(entered, alpha=share), watch_spread(entered, alpha=share)


def _of_inputs(group: pl.DataFrame, alpha: float, inputs: Inputs | None) -> tuple[Evidence, ...]:
    """Evidence of the inputs with an alarm and of the `MOST_QUIET_INPUTS` next to one."""
    if inputs is None:
        return ()
    keys = inputs.stream.keys.with_row_index("row").join(group.select(KEYS), on=KEYS, how="semi")
    keys = in_order(keys).unique("subject_id", keep="first", maintain_order=True)
    once = inputs.reference.keys.with_row_index("row").unique("subject_id", keep="last", maintain_order=True)
    found = watch_inputs(
        _dense(inputs.reference.values, once["row"].to_numpy()),
        _dense(inputs.stream.values, keys["row"].to_numpy()),
        names=inputs.stream.names,
        times=keys["prediction_time"].dt.replace_time_zone(None).dt.cast_time_unit("us").to_numpy(),
        alpha=alpha * SHARE_OF_INPUTS,
    )
    ordered = sorted(found, key=lambda each: (not each.alarm, -each.highest))
    return tuple(ordered[: sum(each.alarm for each in found) + MOST_QUIET_INPUTS])


def _dense(values: Any, rows: np.ndarray) -> np.ndarray:
    chosen = values[rows]
    return np.asarray(chosen.toarray() if hasattr(chosen, "toarray") else chosen, dtype=float)


def stream_in_words(verdict: StreamVerdict) -> str:
    """What a clinician reads: no sign of drift, or which, from when, and what to look at."""
    name = f"{verdict.model} ({verdict.model_version})" if verdict.model_version else verdict.model
    known = verdict.entered - verdict.lost
    looked = f"after {known} predictions whose outcome is known" if known else "before any outcome is known"
    first = verdict.first_alarm
    if first is None:
        waiting = f", {verdict.waiting} are still waited for" if verdict.waiting else ""
        return (
            f"{name}: no alarm {looked}{waiting}; while all is well the probability of ever raising one is at most "
            f"{verdict.alpha:.0%}."
        )
    return f"{name}: {'; '.join(_alarms(verdict))} (probability of a false alarm, ever, at most {verdict.alpha:.0%})."


def _alarms(verdict: StreamVerdict) -> Iterator[str]:
    raised = [each for each in verdict.evidence if each.alarm_time is not None]
    for each in sorted(raised, key=lambda one: one.alarm_time or ""):
        unit = "predictions" if each.kind == "input" else "predictions whose horizon had passed"
        since, when = ((text or "")[:10] for text in (each.since, each.alarm_time))
        yield (
            f"alarm on {when} after {each.alarm_row} {unit}: {each.direction}, probably since {since}; "
            f"{TO_DO[each.kind]}"
        )
