"""What a clinician decided about a plan: accepted, changed or rejected, by whom, when and why, as an event."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import polars as pl

from careloop import InputError
from careloop.plan.events import DECISION, PLAN
from careloop.record import EVENTS, Record, conform

Action = Literal["accept", "change", "reject"]
DECISIONS = pl.Schema(
    {
        "subject_id": pl.Int64(),
        "prediction_time": EVENTS["time"],
        "plan": pl.String(),
        "action": pl.String(),
        "chosen": pl.String(),
        "recommended": pl.String(),
        "reason": pl.String(),
        "actor": pl.String(),
        "at": EVENTS["time"],
    }
)
DETAILS = pl.Struct({name: pl.String() for name in ("action", "chosen", "recommended", "reason", "actor")})
OBSERVED = "observed"  # action of a decision read off the treatment that a record shows


@dataclass(frozen=True)
class Decision:
    """One decision about the plan `plan` (a study's name) that was made for a subject at a prediction time.

    `chosen` is the option taken: with accept the recommended one (it need not be said), with change another, with
    reject none of the plan's. `actor` says who decided, in whatever form the hospital wants kept in the record.
    """

    plan: str
    subject_id: int
    prediction_time: datetime
    action: Action
    at: datetime
    chosen: str | None = None
    reason: str | None = None
    actor: str | None = None


def record_decision(path: Path, decision: Decision) -> Record:
    """Append a decision to the record in folder `path`; the same again changes nothing.

    Raises InputError where the record has no such plan, or where the decision does not fit it: an option that it does
    not have, an accepted plan that recommends nothing or another option, a change or rejection without a reason.
    """
    record = Record.open(path)
    checked = _checked(decision, _options(record, decision))
    events = decision_frame([checked])
    digest = hashlib.sha256(events.write_csv().encode()).hexdigest()
    return record.append(events, key=f"careloop:decision:{digest}", origin="careloop")


def _options(record: Record, decision: Decision) -> dict[str, bool]:
    """The plan's options for this subject and time, and whether each was recommended."""
    prefix = f"{PLAN}{decision.plan}//"
    found = (
        record.events(codes=[f"{prefix}*"])
        .filter(pl.col("subject_id") == decision.subject_id, pl.col("time") == decision.prediction_time)
        .select(
            pl.col("code").str.strip_prefix(prefix),
            pl.col("text_value").str.json_decode(pl.Struct({"recommended": pl.Boolean})).struct.field("recommended"),
        )
        .collect()
    )
    if found.is_empty():
        raise InputError(
            f"{record.path} holds no plan {decision.plan!r} for subject {decision.subject_id} at "
            f"{decision.prediction_time:%Y-%m-%dT%H:%M:%S}; check all three, or run the study that makes the plan"
        )
    return {str(option): bool(recommended) for option, recommended in found.iter_rows()}


def _checked(decision: Decision, options: dict[str, bool]) -> tuple[Decision, str | None]:
    """The decision with the accepted option filled in, and the recommended option."""
    recommended = next((option for option, is_it in options.items() if is_it), None)
    chosen = decision.chosen
    if decision.action == "accept":
        chosen = recommended if chosen is None else chosen
        if recommended is None:
            raise InputError(
                "the plan recommends no option, so there is none to accept; use change with the option given"
            )
        if chosen != recommended:
            raise InputError(f"the plan recommends {recommended}; use change, with a reason, for {chosen}")
    elif not (decision.reason or "").strip():
        raise InputError(f"a plan that is not accepted needs a reason; give one with {decision.action}")
    if decision.action == "change" and chosen is None:
        raise InputError(f"a changed plan needs the option chosen, one of {', '.join(options)}")
    if decision.action == "reject" and chosen is not None:
        raise InputError("a rejected plan has no option of it chosen; use change")
    if chosen is not None and chosen not in options:
        raise InputError(f"the plan's options are {', '.join(options)}; got {chosen!r}")
    fields = {**vars(decision), "chosen": chosen}
    return Decision(**fields), recommended


def decision_frame(decisions: Sequence[tuple[Decision, str | None]]) -> pl.DataFrame:
    """Decisions, each with the option that was recommended, as events with the columns of `EVENTS`.

    Code `CARELOOP//DECISION//PLAN`; `time` the prediction time of the plan, so that it joins with it, `known_time` when
    it was decided; `text_value` JSON with action, chosen, recommended, reason, actor.
    """
    rows = [
        {
            "subject_id": d.subject_id,
            "time": d.prediction_time,
            "known_time": max(d.at, d.prediction_time),
            "code": f"{DECISION}{d.plan}",
            "text_value": json.dumps(
                {**{name: getattr(d, name) for name in ("action", "chosen", "reason", "actor")}, "recommended": best},
                ensure_ascii=False,
                sort_keys=True,
            ),
            "source": f"careloop:decision:{d.plan}:{d.subject_id}:{d.prediction_time:%Y-%m-%dT%H:%M:%S.%fZ}",
        }
        for d, best in decisions
    ]
    return conform(pl.DataFrame(rows, schema_overrides={"time": EVENTS["time"], "known_time": EVENTS["time"]}))


def recorded_decisions(record: Record, *, plan: str) -> pl.DataFrame:
    """The decisions on a plan that the record holds, columns `DECISIONS`, the latest of each subject and time.

    What a clinician decided counts before what the record's treatments show (action "observed").
    """
    details = pl.col("text_value").str.json_decode(DETAILS)
    return (
        record.events(codes=[f"{DECISION}{plan}"])
        .filter(pl.col("text_value").str.starts_with("{"))  # records of earlier drafts hold the arm alone
        .with_columns(details=details)
        .select(
            "subject_id",
            prediction_time=pl.col("time"),
            plan=pl.lit(plan),
            **{name: pl.col("details").struct.field(name) for name in DETAILS.to_schema()},
            at=pl.col("known_time"),
        )
        .select(DECISIONS.names())
        .sort("subject_id", "prediction_time", pl.col("action") != OBSERVED, "at")
        .unique(["subject_id", "prediction_time"], keep="last", maintain_order=True)
        .collect()
    )
