"""What the record can say today about its predictions: by month, watched, borne out or not, to recalibrate or not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from careloop.evaluate import to_json
from careloop.outcome.accuracy import judge_group, outcomes_of, risk_of, used_rows
from careloop.outcome.borne_out import BorneOut, judge_borne_out
from careloop.outcome.recalibrate import Suggestion, suggest_recalibration
from careloop.outcome.stream.arrivals import arrivals
from careloop.outcome.stream.cusum import Cusum, risk_adjusted_cusum
from careloop.outcome.stream.months import ModelMonths, judge_months, months_json
from careloop.outcome.stream.watch import ALPHA, Inputs, StreamVerdict, thinned, watch_models
from careloop.record import CARELOOP, Record


@dataclass(frozen=True)
class Following:
    """What has become of the predictions of a record by `as_of`, each part in order of model and version."""

    horizon_days: float
    as_of: str
    months: tuple[ModelMonths, ...]
    streams: tuple[StreamVerdict, ...]
    cusums: tuple[Cusum, ...]
    borne_out: tuple[BorneOut, ...]
    suggestions: tuple[Suggestion, ...]
    words: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values: horizon_days, as_of, words, months (see months_json), streams (see StreamVerdict.to_json).

        "cusums": [{"model", "model_version", "odds_ratio", "alpha", "limit", "points": [rows shown, from 1], "more":
        [], "fewer": [], "alarm_row": from 1|null}], models without a known outcome left out;
        "borne_out": [{"model", "model_version", "answer", "level", "spread", "needed": [{"figure", "margin",
        "in_all"}], "still_needed", "events_needed", "words"}],
        "suggestions": [{"model", "model_version", "test": {"advice", "against_old", "against_intercept",
        "against_line", "degrees", "recalibration": R}, "beside": {"fitted_until", "fitted_rows", "patients", "rows",
        "recalibration": R, "old": {figure: E}, "new": {figure: E}, "brier_difference": E}|null, "words"}]
        with R = {"intercept", "slope"}.
        """
        return {
            "horizon_days": self.horizon_days,
            "as_of": self.as_of,
            "words": list(self.words),
            "months": months_json(self.months),
            "streams": [stream.to_json() for stream in self.streams],
            "cusums": [thinned(to_json(cusum), ("more", "fewer")) for cusum in self.cusums],
            "borne_out": to_json(self.borne_out),
            "suggestions": to_json(self.suggestions),
        }


def last_fact(record: Record) -> datetime:
    """When the last fact that is not careloop's own became known."""
    facts = record.events().filter(~pl.col("code").str.starts_with(CARELOOP))
    last = facts.select(pl.col("known_time").max()).collect(engine="streaming").item()
    return last if last is not None else datetime.min.replace(tzinfo=UTC)


def follow(
    rows: pl.DataFrame, *, horizon_days: float, as_of: datetime, alpha: float = ALPHA, inputs: Inputs | None = None
) -> Following:
    """Follow prediction columns joined with follow_up_days and event."""
    streams = watch_models(rows, horizon_days=horizon_days, as_of=as_of, alpha=alpha, inputs=inputs)
    known = rows.filter(pl.col("prediction_time") + pl.duration(days=1) * horizon_days <= as_of)
    borne_out, suggestions, cusums = [], [], []
    for stream in streams:
        of_model = _of_model(rows, stream)
        suggestions.append(
            suggest_recalibration(of_model, horizon_days=horizon_days, as_of=as_of, since=_since(stream))
        )
        borne_out += _borne_out(_of_model(known, stream), horizon_days)
        if stream.entered:
            entered = arrivals(of_model, horizon_days=horizon_days, as_of=as_of)
            cusums.append(risk_adjusted_cusum(entered, alpha=alpha, model=stream.model, version=stream.model_version))
    words = [*(s.words for s in streams), *(b.words for b in borne_out), *(s.words for s in suggestions)]
    return Following(
        horizon_days=float(horizon_days),
        as_of=f"{as_of:%Y-%m-%dT%H:%M:%S}",
        months=judge_months(rows, horizon_days=horizon_days, as_of=as_of),
        streams=streams,
        cusums=tuple(cusums),
        borne_out=tuple(borne_out),
        suggestions=tuple(suggestions),
        words=tuple(words),
    )


def _of_model(rows: pl.DataFrame, stream: StreamVerdict) -> pl.DataFrame:
    version = pl.col("model_version").fill_null("")
    return rows.filter((pl.col("model") == stream.model) & (version == stream.model_version))


def _since(stream: StreamVerdict) -> datetime | None:
    """When predictions probably began to be wrong, if an alarm says so."""
    raised = [e for e in stream.evidence if e.alarm and e.kind != "input" and e.since is not None]
    return min((datetime.fromisoformat(e.since or "").replace(tzinfo=UTC) for e in raised), default=None)


def _borne_out(known: pl.DataFrame, horizon_days: float) -> list[BorneOut]:
    """The answer on predictions whose horizon has passed, or none without such."""
    used = used_rows(known)
    if used.is_empty():
        return []
    verdict = judge_group(known, horizon_days=horizon_days, who="later")
    return [judge_borne_out(verdict, risk_of(used), outcomes_of(used, horizon_days))]
