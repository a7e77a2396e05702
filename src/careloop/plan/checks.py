"""What speaks for and against a plan's effects, beside balance and overlap: all checks of one plan, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from careloop import InputError
from careloop.plan.definition import PlanSection
from careloop.plan.effect.diagnostics.negative_control import (
    ControlEffect,
    Placebo,
    SystematicError,
    control_effects,
    placebo_arm,
    systematic_error,
)
from careloop.plan.effect.diagnostics.sensitivity import Robustness, robustness
from careloop.plan.effect.doubly_robust import cross_fit_scores
from careloop.plan.effect.goals import GoalData, MeasureGoalData
from careloop.plan.effect.individual.heterogeneity import Heterogeneity, heterogeneity, individual_effects
from careloop.plan.effect.parametric.estimators import EstimatorTable, compare_estimators
from careloop.plan.effect.parametric.hazard_ratio import HazardRatio, hazard_ratios, marginal_hazard_ratios
from careloop.plan.effect.treated import EffectOnTreated, effect_on_treated
from careloop.plan.patients import Learned
from careloop.plan.words import capital


@dataclass(frozen=True)
class Checks:
    """Checks of each option against the reference on the goal that decides; those without overlap only in `treated`.

    `estimators` are several ways to estimate each effect, on every goal, `hazard_ratios` those of the first goal about
    follow-up, as the arms are or, where treatment was observed, weighted (none where a regression has no fit).
    `treated` is the effect on those given the option, where treatment was observed. `robustness` to unmeasured
    confounding and `placebo` arms are empty where treatment was randomised, `controls` where the study names none;
    `systematic` needs five of these.
    """

    estimators: tuple[EstimatorTable, ...]
    hazard_ratios: tuple[HazardRatio, ...]
    treated: tuple[EffectOnTreated, ...]
    robustness: tuple[Robustness, ...]
    controls: tuple[ControlEffect, ...]
    systematic: SystematicError | None
    placebo: tuple[Placebo, ...]
    heterogeneity: tuple[Heterogeneity, ...]
    words: tuple[str, ...]


def check_effects(
    learned: Learned, section: PlanSection, *, options: tuple[str, ...], reference: str, controls: Sequence[GoalData]
) -> Checks:
    """Carry out all checks on the learning rows; `controls` are negative-control outcomes of these rows."""
    r = options.index(reference)
    usable = [a for a in range(len(options)) if a != r and learned.balance.usable[[a, r]].all()]
    observed = usable if section.assignment == "observed" else []
    scores, goal = learned.scores[0], learned.patients.goals[0]
    estimators = tuple(
        table
        for each, own in zip(learned.scores, learned.patients.goals, strict=True)
        for table in compare_estimators(own, learned.covariates, each, options=options, reference=reference)
        if options.index(table.option) in usable
    )
    treated = tuple(
        effect_on_treated(scores, options, a, r)
        for a in range(len(options))
        if a != r and section.assignment == "observed"
    )
    robust = tuple(
        robustness(scores, options, (a, r), covariates=learned.covariates, names=learned.design.names) for a in observed
    )
    placebo = tuple(
        placebo_arm(learned.covariates, scores, goal, options=options, pair=(a, r), folds=section.folds)
        for a in observed
    )
    found = tuple(
        effect for effect in _controls(learned, controls, options, reference) if options.index(effect.option) in usable
    )
    spread = _heterogeneity(learned, section, options, [(a, r) for a in usable])
    systematic = systematic_error(found)
    words = _in_words(estimators, robust, found, systematic, placebo, spread)
    return Checks(
        estimators=estimators,
        hazard_ratios=_hazard_ratios(learned, section, options, reference),
        treated=treated,
        robustness=robust,
        controls=found,
        systematic=systematic,
        placebo=placebo,
        heterogeneity=spread,
        words=words,
    )


def _hazard_ratios(
    learned: Learned, section: PlanSection, options: tuple[str, ...], reference: str
) -> tuple[HazardRatio, ...]:
    own = learned.patients
    goal = next((goal for goal in own.goals if not isinstance(goal, MeasureGoalData)), None)
    if goal is None:
        return ()
    try:
        if section.assignment == "randomised":
            return hazard_ratios(goal, own.arm, subjects=own.subjects, options=options, reference=reference)
        return marginal_hazard_ratios(
            goal, own.arm, learned.covariates, subjects=own.subjects, options=options, reference=reference
        )
    except InputError:  # too few events, or covariates that separate the arms: the ratio is left out, nothing else
        return ()


def _controls(
    learned: Learned, controls: Sequence[GoalData], options: tuple[str, ...], reference: str
) -> tuple[ControlEffect, ...]:
    own = learned.patients
    scored = [
        (
            goal,
            cross_fit_scores(
                learned.covariates,
                own.arm,
                goal,
                subjects=own.subjects,
                propensity=learned.propensity,
                fold=learned.fold,
            ),
        )
        for goal in controls
    ]
    return control_effects(scored, options, reference=reference)


def _heterogeneity(
    learned: Learned, section: PlanSection, options: tuple[str, ...], pairs: Sequence[tuple[int, int]]
) -> tuple[Heterogeneity, ...]:
    if not pairs:
        return ()
    scores, goal = learned.scores[0], learned.patients.goals[0]
    effects = individual_effects(learned.covariates, scores, goal, fold=learned.fold, assignment=section.assignment)
    return tuple(heterogeneity(effects, scores, options=options, pair=pair, fold=learned.fold) for pair in pairs)


def _in_words(
    estimators: Sequence[EstimatorTable],
    robust: Sequence[Robustness],
    controls: Sequence[ControlEffect],
    systematic: SystematicError | None,
    placebo: Sequence[Placebo],
    spread: Sequence[Heterogeneity],
) -> tuple[str, ...]:
    sentences = [f"On {t.goal}, {t.option} against {t.versus}: {t.words}." for t in estimators if t.disagreements]
    if estimators and not sentences:
        sentences.append(f"The ways of estimating the {len(estimators)} effects agree within chance.")
    abstaining = dict.fromkeys(row.estimator for t in estimators for row in t.rows if row.difference.value is None)
    if abstaining:
        sentences.append(f"Not every effect could be estimated by {' or '.join(abstaining)}; the table says why.")
    sentences += [f"{capital(words)}." for words in (*(c.words for c in robust), *(c.words for c in spread))]
    failed = [c for c in controls if not c.null]
    if failed:
        which = ", ".join(f"{c.control} ({c.option} against {c.versus})" for c in failed)
        sentences.append(
            f"An effect was found on {len(failed)} of {len(controls)} negative controls, which no option can change: "
            f"{which}. Confounding is left; do not rely on the effects."
        )
    elif controls:
        sentences.append(f"No effect was found on any of the {len(controls)} negative controls, as it should be.")
    if systematic is not None:
        sentences.append(
            f"Over {systematic.controls} negative controls, systematic error has mean {systematic.mean:.2f} and "
            f"deviation {systematic.deviation:.2f} in standard deviations of the outcome."
        )
    for check in placebo:
        if check.difference.value is not None and not check.null:
            sentences.append(
                f"A placebo arm drawn from {check.reference} with the propensity of {check.option} showed an effect "
                "where there is none: the adjustment fails for this comparison."
            )
    return tuple(sentences)
