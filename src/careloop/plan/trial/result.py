"""The result of an emulated trial as plain values, and in sentences for a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from careloop.evaluate import Band, Estimate, to_json
from careloop.plan.trial.clones import StrategyFlow
from careloop.plan.trial.definition import TrialSection
from careloop.plan.trial.hazards import ModelSummary
from careloop.plan.trial.weights import TrialBalance
from careloop.plan.words import with_interval

EMULATED, AS_TREATED = "clone-censor-weight", "as treated"
ANALYSES = {
    EMULATED: "clones censored when they depart, weighted by confounders over time",
    "baseline weights": "the same, with confounders at time zero only",
    "unweighted clones": "clones censored when they depart, without weights",
    AS_TREATED: "groups by what was done later, followed from time zero (immortal time)",
}


@dataclass(frozen=True)
class StrategyEstimate:
    """One strategy under one analysis; estimates are without value, with the reason, where it cannot be told."""

    strategy: str
    risk: Estimate
    event_free_days: Estimate
    curve: Band


@dataclass(frozen=True)
class TrialContrast:
    """Strategy against the reference, under one analysis: risks at the horizon, event-free days, hazards."""

    strategy: str
    versus: str
    risk_difference: Estimate
    risk_ratio: Estimate
    event_free_days_gained: Estimate
    hazard_ratio: Estimate


@dataclass(frozen=True)
class Analysis:
    """One way to analyse the same rows."""

    analysis: str
    words: str
    strategies: tuple[StrategyEstimate, ...]
    contrasts: tuple[TrialContrast, ...]


@dataclass(frozen=True)
class Following:
    """How many rows stand for a strategy, and what their weights are like; `usable` is False, with the reason, if few.

    `followers` go on to the outcome, a competing event or the horizon without departing; weights have mean 1 in each
    interval, `largest_weight` is before and `weight_limit` where they are cut, if at all.
    """

    strategy: str
    words: str
    followers: int
    effective_sample: float
    largest_weight: float
    weight_limit: float | None
    usable: bool
    reason: str


@dataclass(frozen=True)
class TrialResult:
    """An emulated trial: its protocol, who followed what, estimates of the emulation and of naive analyses beside."""

    section: TrialSection
    horizon_days: float
    rows: int
    subjects: int
    prevalent: int
    reference: str
    flow: tuple[StrategyFlow, ...]
    following: tuple[Following, ...]
    models: tuple[ModelSummary, ...]
    balance: TrialBalance
    emulated: Analysis
    naive: tuple[Analysis, ...]
    words: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Content of trial.json.

        {"section": TrialSection, "horizon_days", "rows", "subjects", "prevalent": rows left out as treated before,
        "reference": name,
        "flow": [{"strategy", "eligible", "clones", "started", "outcome", "competing", "lost", "completed",
        "not_started", "started_forbidden", "stopped"}],
        "following": [{"strategy", "words", "followers", "effective_sample", "largest_weight",
        "weight_limit": weight|null, "usable", "reason"}],
        "models": [{"process", "person_intervals", "events", "at_zero", "covariates"}],
        "balance": {"days": [day], "before": [SMD], "after": [SMD], "effective_sample": {strategy: [number]},
        "covariates": [{"covariate", "before", "after"}], "notable": 0.1},
        "emulated": A, "naive": [A], "words": [sentence]} with
        A = {"analysis", "words", "strategies": [{"strategy", "risk": E, "event_free_days": E, "curve": {"x", "value",
        "low", "high"}}], "contrasts": [{"strategy", "versus", "risk_difference": E, "risk_ratio": E,
        "event_free_days_gained": E, "hazard_ratio": E}]} and E = {"value", "low", "high", "reason"}.
        """
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "section"}
        return {"section": self.section.model_dump(mode="json"), **to_json(fields)}


def trial_in_words(result: TrialResult) -> tuple[str, ...]:
    """Sentences for a report: risks, contrasts, who is not told, what emulation changed, and the assumptions."""
    told = [each for each in result.emulated.strategies if each.risk.value is not None]
    sentences = []
    if told:
        risks = "; ".join(f"{each.strategy} {with_interval(each.risk, 'event')}" for each in told)
        sentences.append(f"Risk of the outcome within {result.horizon_days:g} days if everybody followed it: {risks}.")
    sentences += [_contrast_in_words(contrast) for contrast in result.emulated.contrasts]
    sentences += [f"{each.strategy} has no estimate: {each.reason}." for each in result.following if not each.usable]
    sentences += [_naive_in_words(analysis) for analysis in result.naive if analysis.analysis == AS_TREATED]
    sentences.append(
        "These hold only if the confounders hold all reasons that bear on the outcome and for which patients start, "
        "stop or leave follow-up, if every patient could have followed every strategy, and if the models of departure "
        f"are right. Weights are {_cut_in_words(result.section.weight_quantile)}."
    )
    return tuple(sentences)


def _contrast_in_words(contrast: TrialContrast) -> str:
    if contrast.risk_difference.value is None:
        return f"{contrast.strategy} cannot be compared with {contrast.versus}: {contrast.risk_difference.reason}."
    return (
        f"{contrast.strategy} against {contrast.versus}: risk difference "
        f"{with_interval(contrast.risk_difference, 'event')}, event-free days gained "
        f"{with_interval(contrast.event_free_days_gained, 'measure')}, hazard ratio "
        f"{with_interval(contrast.hazard_ratio, 'measure')}."
    )


def _naive_in_words(analysis: Analysis) -> str:
    differences = "; ".join(
        f"{each.strategy} against {each.versus} {with_interval(each.risk_difference, 'event')}"
        for each in analysis.contrasts
    )
    return f"For comparison, risk differences by {analysis.words}: {differences}."


def _cut_in_words(quantile: float) -> str:
    return "not cut" if quantile == 1 else f"cut at their {quantile:.4g} quantile"
