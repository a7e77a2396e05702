"""The evaluation of all models of a study on the same rows: what evaluation.json holds.

`evaluate_all(...).to_json()` has this layout. EST is {"value", "low", "high", "reason"}: a figure with its 95 % limits,
null where it cannot be given, and then "reason" says why in words. BAND is {"x": [...], "value": [...], "low": [...],
"high": [...]}, a curve with pointwise limits (nulls possible). ROWS is {"n", "subjects", "events", "competing",
"event_free", "censored", "followed", "event_subjects", "event_free_subjects"}: events within the horizon, rows known to
be without (those with a competing event included), rows censored before it, which count through the censoring weights,
and rows followed to it.

    {"outcome": {"horizon_days", "rows": ROWS, "uncensored": P(not censored before the horizon),
                 "prevalence": EST, "incidence": BAND of the observed cumulative incidence by day, "at_risk": [...]},
     "threshold": {NAME: {"value", "rule": how it was chosen}},
     "bootstrap": {"resamples", "seed", "unit": "subject", "level": 0.95},
     "models": {NAME: {
        "threshold": {"value", "rule"},
        "figures": {"auroc", "auprc", "prevalence", "brier", "scaled_brier": EST each},
        "decision": {"accuracy", "recall", "specificity", "precision", "negative_predictive_value", "f1",
                     "called_positive", "net_benefit": EST each, at the threshold},
        "calibration": {"intercept", "slope", "observed_expected", "ici": EST each, "smoother": words,
                        "curve": BAND over predicted probability,
                        "deciles": [{"n", "mean_predicted", "observed": EST}],
                        "histogram": {"edges": k + 1, "n", "events", "event_free": k each}},
        "roc": {"x": false positive rate, "y": recall, "threshold"},
        "pr": {"x": recall, "y": precision, "threshold"},
        "net_benefit": {"model": BAND over thresholds, "treat_all": BAND},   (treating nobody gains 0)
        "risk_groups": [{"name", "n", "lowest", "highest", "incidence": BAND by day, "at_risk": [...]}],
        "subgroups": [{"variable", "group", "rows": ROWS, "figures": {"auroc", "brier", "observed_expected",
                       "intercept", "slope", "prevalence", "recall", "specificity", "precision", "called_positive":
                       EST each}}],
        "survival": null or {"harrell_c", "uno_c", "auroc", "brier", "integrated_brier": EST each,
                             "brier_curve": BAND by day},
        "conformal": null or {"level": promised, "figures": SETS,
                              "subgroups": [{"variable", "group", "rows": ROWS, "figures": SETS}]},
        "fairness": null (nothing divides the rows) or {
            "gaps": [{"variable", "group", "figure": FIGURE, "first": SIDE, "others": SIDE, "value", "others_value",
                      "difference": EST, "margin", "p", "adjusted_p", "flagged", "words"}],
            "margins": {FIGURE: number}, "too_few": sentences, "rule": words, "words": sentences}}},
                     (SETS is {"coverage", "coverage_event", "coverage_event_free", "mean_size", "single", "empty",
                      "several": EST each}: how often the label set holds the truth, of all, of those with and of those
                      without the outcome; the mean number of labels, and the shares of sets with one, none, both;
                      FIGURE is "auroc", "recall", "false_positive_rate", "precision", "called_positive", "intercept"
                      or "observed_expected"; SIDE is {"name": words, "n", "events", "prevalence"})
     "comparisons": [{"first": NAME, "second": NAME, "net_benefit_threshold": number,
                      "differences": {"auroc", "auprc", "brier", "net_benefit": EST of first - second each, and for
                                      two survival models also "harrell_c", "uno_c", "integrated_brier"},
                      "net_benefit_curve": BAND of first - second over thresholds}]}
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from careloop import InputError
from careloop.evaluate import calibration, survival
from careloop.evaluate.calibration import Calibration, ModerateStatistic, WeakStatistic
from careloop.evaluate.censoring import CensoringCurve, HorizonWeights, Outcomes, horizon_weights
from careloop.evaluate.conformal import Coverage, LabelSets, coverage
from careloop.evaluate.discrimination import (
    NET_BENEFIT_THRESHOLDS,
    DiscriminationStatistic,
    Points,
    Threshold,
    checked_probability,
    roc_and_pr,
)
from careloop.evaluate.estimate import Band, Estimate, Statistic, Support, band, estimate, replicate, to_json
from careloop.evaluate.fairness import Fairness, evaluate_fairness
from careloop.evaluate.subgroups import Subgroup, evaluate_subgroups
from careloop.evaluate.survival import RiskGroup, Survival, risk_group, risk_groups, survival_replicates

FIGURES = ("auroc", "auprc", "prevalence", "brier", "scaled_brier")
DECISION = (
    "accuracy", "recall", "specificity", "precision", "negative_predictive_value", "f1", "called_positive",
    "net_benefit",
)  # fmt: skip
COMPARED = ("auroc", "auprc", "brier")
COMPARED_SURVIVAL = ("harrell_c", "uno_c", "integrated_brier")
Replicates = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Predictions:
    """One model's predictions for the evaluated rows.

    `probability` (n,) of the outcome within the horizon; `threshold` from which rows are called positive; survival
    models also give `incidence` (n, k), the probability of the outcome by each of `days` (k,). `sets` are the rows'
    label sets.
    """

    probability: np.ndarray
    threshold: Threshold
    incidence: np.ndarray | None = None
    days: np.ndarray | None = None
    sets: LabelSets | None = None


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit over thresholds of following the model and of treating all (treating nobody gains 0)."""

    model: Band
    treat_all: Band


@dataclass(frozen=True)
class ModelEvaluation:
    """Everything about one model on the evaluated rows; the layout of "models" in the module's docstring."""

    threshold: Threshold
    figures: Mapping[str, Estimate]
    decision: Mapping[str, Estimate]
    calibration: Calibration
    roc: Points
    pr: Points
    net_benefit: DecisionCurve
    risk_groups: tuple[RiskGroup, ...]
    subgroups: tuple[Subgroup, ...]
    survival: Survival | None = None
    conformal: Coverage | None = None
    fairness: Fairness | None = None


@dataclass(frozen=True)
class Comparison:
    """Differences first - second between two models on the same rows and the same resamples (paired)."""

    first: str
    second: str
    net_benefit_threshold: float
    differences: Mapping[str, Estimate]
    net_benefit_curve: Band


@dataclass(frozen=True)
class OutcomeSummary:
    """The evaluated rows and their observed outcome."""

    horizon_days: float
    rows: Support
    uncensored: float
    prevalence: Estimate
    incidence: Band
    at_risk: tuple[int, ...]


@dataclass(frozen=True)
class Evaluation:
    """All models of a study on the same rows; `to_json` gives the content of evaluation.json."""

    outcome: OutcomeSummary
    threshold: Mapping[str, Threshold]
    bootstrap: Mapping[str, Any]
    models: Mapping[str, ModelEvaluation]
    comparisons: tuple[Comparison, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values in the layout of the module's docstring."""
        result: dict[str, Any] = to_json(self)
        return result


def evaluate_all(
    predictions: Mapping[str, Predictions],
    outcomes: Outcomes,
    *,
    subgroups: Mapping[str, np.ndarray] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Every model on the same rows and resamples, and every pair of them compared.

    `subgroups` maps a variable's name to each row's group (n,), missing allowed; `cut_groups` makes groups of numbers.
    Raises InputError for no model, no event or no event-free row, or a horizon to which nobody is followed.
    """
    if not predictions:
        raise InputError("evaluate_all needs the predictions of at least one model: got none")
    models, replicates = {}, {}
    for name, model in predictions.items():
        models[name], replicates[name] = _evaluate(model, outcomes, subgroups or {}, resamples=resamples, seed=seed)
    comparisons = tuple(
        _difference((a, replicates[a]), (b, replicates[b]), predictions[a].threshold, Support.of(outcomes))
        for a, b in itertools.combinations(predictions, 2)
    )
    prevalence = next(iter(models.values())).figures["prevalence"]
    return Evaluation(
        outcome=_summary(outcomes, prevalence, resamples=resamples, seed=seed),
        threshold={name: model.threshold for name, model in predictions.items()},
        bootstrap={"resamples": resamples, "seed": seed, "unit": "subject", "level": 0.95},
        models=models,
        comparisons=comparisons,
    )


def evaluate_predictions(
    probability: np.ndarray,
    outcomes: Outcomes,
    *,
    threshold: Threshold,
    subgroups: Mapping[str, np.ndarray] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> ModelEvaluation:
    """Everything about one model's probabilities of the outcome within the horizon; errors as `evaluate_all`."""
    model = Predictions(probability, threshold)
    return _evaluate(model, outcomes, subgroups or {}, resamples=resamples, seed=seed)[0]


def compare(
    first: np.ndarray,
    second: np.ndarray,
    outcomes: Outcomes,
    *,
    threshold: Threshold,
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Paired differences first - second between two models' probabilities on the same rows; errors as `evaluate_all`.

    Net benefit is taken at `threshold` rounded to the curve's hundredths, one for both.
    """
    replicates = [
        _Statistics.of(Predictions(values, threshold), outcomes).replicates(outcomes, resamples=resamples, seed=seed)
        for values in (first, second)
    ]
    return _difference(("first", replicates[0]), ("second", replicates[1]), threshold, Support.of(outcomes))


@dataclass(frozen=True, eq=False)
class _Statistics:
    """What is computed of one model's probabilities on every resample."""

    discrimination: DiscriminationStatistic
    weak: WeakStatistic
    moderate: ModerateStatistic

    @classmethod
    def of(cls, model: Predictions, outcomes: Outcomes) -> _Statistics:
        """Check the input and prepare the statistics."""
        probability = checked_probability(model.probability, outcomes)
        horizon_weights(outcomes.follow_up_days, outcomes.event, outcomes.horizon_days)
        support = Support.of(outcomes)
        if not (support.events and support.event_free):
            raise InputError(
                f"evaluation needs rows with and without the outcome by day {outcomes.horizon_days:g}: got "
                f"{support.events} with, {support.event_free} without, {support.censored} censored before; "
                "change the outcome, the horizon or the split"
            )
        return cls(
            DiscriminationStatistic.of(probability, outcomes, threshold=model.threshold.value),
            WeakStatistic.of(probability, outcomes),
            ModerateStatistic.of(probability, outcomes),
        )

    def replicates(self, outcomes: Outcomes, *, resamples: int, seed: int) -> Replicates:
        """All figures on the rows and on each resample."""
        statistics: dict[str, Statistic] = {
            "discrimination": self.discrimination,
            "weak": self.weak,
            "moderate": self.moderate,
        }
        found = replicate(outcomes, statistics, resamples=resamples, seed=seed)
        return {name: values for part in found.values() for name, values in part.items()}


def _evaluate(
    model: Predictions, outcomes: Outcomes, subgroups: Mapping[str, np.ndarray], *, resamples: int, seed: int
) -> tuple[ModelEvaluation, Replicates]:
    """One model's evaluation, and its replicates for paired comparisons."""
    statistics = _Statistics.of(model, outcomes)
    probability, support = statistics.weak.probability, Support.of(outcomes)
    replicates = statistics.replicates(outcomes, resamples=resamples, seed=seed)
    weight = HorizonWeights.of(outcomes)(np.ones((1, len(outcomes))))[0]
    roc, pr = roc_and_pr(statistics.discrimination.ranking, weight)
    evaluation = ModelEvaluation(
        threshold=model.threshold,
        figures={name: estimate(replicates[name], support) for name in FIGURES},
        decision={name: estimate(replicates[name], support) for name in DECISION},
        calibration=calibration.summarise(statistics.moderate, replicates, outcomes),
        roc=roc,
        pr=pr,
        net_benefit=DecisionCurve(
            band(NET_BENEFIT_THRESHOLDS, replicates["net_benefit_curve"], support),
            band(NET_BENEFIT_THRESHOLDS, replicates["treat_all_curve"], support),
        ),
        risk_groups=risk_groups(probability, outcomes, resamples=resamples, seed=seed),
        subgroups=evaluate_subgroups(
            probability, outcomes, subgroups, threshold=model.threshold, resamples=resamples, seed=seed
        ),
        fairness=evaluate_fairness(
            probability, outcomes, subgroups, threshold=model.threshold, resamples=resamples, seed=seed
        ),
    )
    if model.sets is not None:
        held = coverage(model.sets, outcomes, subgroups, resamples=resamples, seed=seed)
        evaluation = replace(evaluation, conformal=held)
    if model.incidence is None or model.days is None:
        return evaluation, replicates
    figures = survival_replicates(model.incidence, model.days, outcomes, resamples=resamples, seed=seed)
    evaluation = replace(evaluation, survival=survival.summarise(figures, outcomes))
    return evaluation, replicates | {name: figures[name] for name in COMPARED_SURVIVAL}


def _difference(
    first: tuple[str, Replicates], second: tuple[str, Replicates], threshold: Threshold, support: Support
) -> Comparison:
    """Differences replicate by replicate, which is what makes the intervals paired."""
    (name, mine), (other, theirs) = first, second
    names = [figure for figure in (*COMPARED, *COMPARED_SURVIVAL) if figure in mine and figure in theirs]
    differences = {figure: estimate(mine[figure] - theirs[figure], support) for figure in names}
    curve = mine["net_benefit_curve"] - theirs["net_benefit_curve"]
    nearest = int(np.argmin(np.abs(NET_BENEFIT_THRESHOLDS - threshold.value)))
    differences["net_benefit"] = estimate(curve[:, nearest], support)
    return Comparison(
        name,
        other,
        net_benefit_threshold=float(NET_BENEFIT_THRESHOLDS[nearest]),
        differences=differences,
        net_benefit_curve=band(NET_BENEFIT_THRESHOLDS, curve, support),
    )


def _summary(outcomes: Outcomes, prevalence: Estimate, *, resamples: int, seed: int) -> OutcomeSummary:
    """The evaluated rows, whichever the model."""
    everyone = risk_group("all rows", np.zeros(len(outcomes)), outcomes, resamples=resamples, seed=seed)
    curve = CensoringCurve.of(outcomes.follow_up_days, outcomes.event, until_days=outcomes.horizon_days)
    uncensored = curve.uncensored(np.ones((1, len(outcomes))))[0, curve.position(np.float64(outcomes.horizon_days))]
    return OutcomeSummary(
        horizon_days=float(outcomes.horizon_days),
        rows=Support.of(outcomes),
        uncensored=float(uncensored),
        prevalence=prevalence,
        incidence=everyone.incidence,
        at_risk=everyone.at_risk,
    )
