"""Were predicted risks right among patients whose outcomes did not help to make them: calibration, discrimination."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from careloop.evaluate import Estimate, Outcomes
from careloop.evaluate.calibration import WeakStatistic
from careloop.evaluate.censoring import HorizonWeights, identified
from careloop.evaluate.discrimination import DiscriminationStatistic
from careloop.evaluate.estimate import Statistic, Support, estimate, replicate

RESAMPLES = 1000
SEED = 0
FIGURES = ("observed_expected", "intercept", "slope", "auroc", "brier")


@dataclass(frozen=True)
class PredictionVerdict:
    """One model's predictions against what happened; figures are None, each with its reason, where it is too early.

    `rows` are predictions looked at, without the `abstained` ones; of these `events` had the outcome by the horizon and
    `censored` were not followed to it. `predicted` is the mean predicted risk, `observed` the risk that came to be.
    """

    model: str
    model_version: str
    patients: int
    rows: int
    abstained: int
    events: int
    censored: int
    predicted: float | None
    observed: Estimate
    observed_expected: Estimate
    intercept: Estimate
    slope: Estimate
    auroc: Estimate
    brier: Estimate
    words: str


def judge_predictions(rows: pl.DataFrame, *, horizon_days: float, who: str) -> tuple[PredictionVerdict, ...]:
    """One verdict per model and version, in order of their names.

    `rows`: prediction columns joined with follow_up_days and event, for the patients called `who` in words.
    """
    groups = rows.with_columns(pl.col("model_version").fill_null("")).partition_by(
        "model", "model_version", maintain_order=False, as_dict=True
    )
    return tuple(judge_group(groups[names], horizon_days=horizon_days, who=who) for names in sorted(groups))


def used_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """The predictions that were to be used: those with a probability from which the model did not abstain."""
    return rows.filter(~pl.col("abstained").fill_null(False) & pl.col("predicted_boolean_probability").is_not_null())


def risk_of(rows: pl.DataFrame) -> np.ndarray:
    """Predicted risks (n,) of prediction rows."""
    return rows["predicted_boolean_probability"].cast(pl.Float64).to_numpy()


def outcomes_of(rows: pl.DataFrame, horizon_days: float) -> Outcomes:
    """What happened to rows (at least one) with subject_id, follow_up_days and event."""
    subject_id, follow_up_days, event = (rows[name].to_numpy() for name in ("subject_id", "follow_up_days", "event"))
    return Outcomes(subject_id, follow_up_days, event, horizon_days)


def judge_group(rows: pl.DataFrame, *, horizon_days: float, who: str, too_early: str = "") -> PredictionVerdict:
    """The verdict on rows (at least one) of one model and version; `too_early` may say why there are no figures."""
    model, version = rows["model"][0], rows["model_version"][0] or ""
    kept = used_rows(rows)
    probability = risk_of(kept)
    figures: dict[str, Estimate] = {}
    support = None
    reason = "the model abstained from all of them"
    if kept.height:
        outcomes = outcomes_of(kept, horizon_days)
        support = Support.of(outcomes)
        reason = too_early or _too_early(outcomes)
        if not reason:
            figures = _figures(probability, outcomes, support)
    missing = Estimate(None, reason=reason or None)
    verdict = PredictionVerdict(
        model=model,
        model_version=version,
        patients=kept["subject_id"].n_unique(),
        rows=kept.height,
        abstained=rows.height - kept.height,
        events=support.events if support else 0,
        censored=support.censored if support else 0,
        predicted=float(probability.mean()) if kept.height else None,
        observed=figures.get("prevalence", missing),
        **{name: figures.get(name, missing) for name in FIGURES},
        words="",
    )
    return replace(verdict, words=accuracy_in_words(verdict, horizon_days=horizon_days, who=who))


def _too_early(outcomes: Outcomes) -> str:
    """Why nothing can be said yet, or nothing."""
    count = np.ones((1, len(outcomes)))
    if not identified(count, HorizonWeights.of(outcomes)(count))[0]:
        return f"nobody has been followed for {outcomes.horizon_days:g} days yet"
    return ""


def _figures(probability: np.ndarray, outcomes: Outcomes, support: Support) -> dict[str, Estimate]:
    statistics: dict[str, Statistic] = {
        "calibration": WeakStatistic.of(probability, outcomes),
        "discrimination": DiscriminationStatistic.of(probability, outcomes, threshold=0.5),
    }
    found = replicate(outcomes, statistics, resamples=RESAMPLES, seed=SEED)
    return {
        name: estimate(values, support)
        for part in found.values()
        for name, values in part.items()
        if values.ndim == 1 and name in (*FIGURES, "prevalence")
    }


def accuracy_in_words(verdict: PredictionVerdict, *, horizon_days: float, who: str) -> str:
    """What a clinician reads: right on average or not, right from low to high risk or not, how well it separates."""
    name = f"{verdict.model} ({verdict.model_version})" if verdict.model_version else verdict.model
    if verdict.observed.value is None or verdict.predicted is None:
        return f"{name}: no verdict yet on {verdict.patients} {who} patients, because {verdict.observed.reason}."
    sentences = [
        f"{name}: on {verdict.patients} {who} patients the predicted risk within {horizon_days:g} days "
        f"{_on_average(verdict)} (observed {_percent(verdict.observed)}, predicted {100 * verdict.predicted:.1f} %)",
        _spread(verdict.slope),
        _separation(verdict.auroc),
    ]
    if verdict.abstained:
        sentences.append(f"the model abstained from {verdict.abstained} further predictions")
    return "; ".join(sentence for sentence in sentences if sentence) + "."


def _percent(estimate: Estimate) -> str:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "unknown" if estimate.value is None else f"{100 * estimate.value:.1f} %"
    return f"{100 * estimate.value:.1f} % [{100 * estimate.low:.1f} % to {100 * estimate.high:.1f} %]"


def _on_average(verdict: PredictionVerdict) -> str:
    ratio = verdict.observed_expected
    if ratio.low is None or ratio.high is None:
        return "cannot be called right or wrong, too few outcomes having been seen"
    if ratio.low > 1:
        return "was too low on average"
    return "was too high on average" if ratio.high < 1 else "was right on average"


def _spread(slope: Estimate) -> str:
    if slope.value is None or slope.low is None or slope.high is None:
        return ""
    shown = f"calibration slope {slope.value:.2f} [{slope.low:.2f} to {slope.high:.2f}]"
    if slope.low <= 0:
        return f"whether high and low risks were told apart at all cannot be said ({shown})"
    if slope.high < 1:
        return f"high risks were predicted too high and low ones too low ({shown})"
    if slope.low > 1:
        return f"risks differed more between patients than predicted ({shown})"
    return f"no sign that high or low risks were wrong ({shown})"


def _separation(auroc: Estimate) -> str:
    if auroc.value is None or auroc.low is None or auroc.high is None:
        return ""
    return (
        f"of a patient with and one without the outcome, the first had the higher predicted risk in "
        f"{100 * auroc.value:.0f} % of pairs [{100 * auroc.low:.0f} % to {100 * auroc.high:.0f} %] (AUROC)"
    )
