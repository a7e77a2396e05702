"""Lifestyle options of one patient: the model's risk with a modifiable value at its target, and whether to show it.

The risk is the model's own for a person with the target value and everything else as it is (`predict.altered`). It is
what people with that value were seen to have, not what changing it does, unless an effect estimate is given for it.
Only what the model reads is asked, and an answer is shown only if the altered patient is like the training patients
and the model's risk falls all the way from the present value to the target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from careloop.evaluate import Estimate
from careloop.features import FeatureMatrix
from careloop.plan.document.lifestyle.factors import Factor, Language, shipped_factors
from careloop.predict.altered import FeatureRow
from careloop.predict.counterfactual import SMALLEST_CHANGE, Lab
from careloop.predict.intervals import risk_interval
from careloop.train import Package

CAVEAT = (
    "This is the model's risk for a person with this value, not what changing it would do: people with other values "
    "may differ in other ways."
)
# Values between the present one and the target at which the model's risk must not rise.
STEPS = 8

Status = Literal["lower", "at_target", "not_lower", "unsteady", "outside", "unknown", "other_unit"]


@dataclass(frozen=True)
class EffectEstimate:
    """What changing a factor does to the risk of the study's outcome, from research: a relative risk and its source."""

    factor: str
    relative_risk: Estimate
    source: str


@dataclass(frozen=True)
class LifestyleOption:
    """One factor that the model reads, as this patient has it.

    `status`: lower, the risk falls steadily to the target and the option is shown; at_target, nothing to change;
    not_lower or unsteady, the model's risk does not fall, or not all the way; outside, the altered patient is unlike
    the training patients (`detail` says how); unknown, no value is recorded; other_unit, the model reads another unit.
    `before` and `target` are in `unit` (UCUM), 1 and 0 for a fact that is there or not. `risk` is as the patient is,
    `changed` with the target; `basis`: model, or effect where `changed` follows from an effect estimate by `source`.
    """

    factor: str
    words: Mapping[Language, str]
    action: Mapping[Language, str]
    status: Status
    code: str
    unit: str
    before: float | None
    target: float
    risk: Estimate
    changed: Estimate | None
    basis: Literal["model", "effect"]
    source: str
    detail: str = ""

    @property
    def is_offered(self) -> bool:
        """Whether the option is one to talk about."""
        return self.status == "lower"

    @property
    def is_fact(self) -> bool:
        """Whether the factor is a fact that is there or not, rather than a measurement."""
        return not self.unit and {self.before, self.target} <= {0.0, 1.0}


def lifestyle_options(
    package: Package,
    matrix: FeatureMatrix,
    row: int = 0,
    *,
    factors: Sequence[Factor] | None = None,
    effects: Sequence[EffectEstimate] = (),
) -> tuple[LifestyleOption, ...]:
    """Each factor that the package reads, for one row of the matrix; the largest fall of the risk first.

    `factors` are the shipped ones by default. `effects` replace the model's answer where an effect on the study's
    outcome is known. InputError: no such row, or a column that the package reads is missing.
    """
    patient = FeatureRow.of(package, matrix, row)
    known = {effect.factor: effect for effect in effects}
    held = [f for f in factors or shipped_factors().factors if _is_read(patient, f)]
    options = [_option(patient, factor, known.get(factor.name)) for factor in held]
    return tuple(sorted(options, key=lambda option: (not option.is_offered, _fall(option), option.factor)))


def _fall(option: LifestyleOption) -> float:
    """The change of the risk, most negative first."""
    changed = option.changed.value if option.changed else None
    return 0.0 if changed is None or option.risk.value is None else changed - option.risk.value


def _is_read(patient: FeatureRow, factor: Factor) -> bool:
    return bool(_labs(patient, factor)) or bool(_places(patient, factor.presence))


def _labs(patient: FeatureRow, factor: Factor) -> list[Lab]:
    """The factor's numbers that the model reads and that can change."""
    return [patient.labs[code] for code in factor.codes if code in patient.labs and patient.labs[code].changes]


def _places(patient: FeatureRow, codes: Sequence[str]) -> list[int]:
    """Positions of the features of facts; none for a model of histories, whose facts cannot be taken out of a row."""
    if patient.package.timelines is not None:
        return []
    columns = patient.package.recipe.columns
    return [j for j, column in enumerate(columns) if column.kind == "code" and column.code in codes]


def _option(patient: FeatureRow, factor: Factor, effect: EffectEstimate | None) -> LifestyleOption:
    labs, facts = _labs(patient, factor), _places(patient, factor.presence)
    recorded = [
        j for j in facts if patient.values[j] > 0 and patient.package.recipe.columns[j].aggregation == "present"
    ]
    own = [lab for lab in labs if lab.value is not None and _unit(factor, lab) is not None]
    beyond = [lab for lab in own if _is_beyond(factor, lab)]
    shown = next(iter(beyond or own or labs), None)
    bare = _bare(patient, factor, shown, is_recorded=bool(recorded))
    if beyond or recorded:
        changed = _without(patient, facts) if recorded else patient
        steps = [_moved(patient, factor, beyond, share) for share in np.linspace(0, 1, STEPS + 1)[1:]]
        return _asked(bare, changed, steps, ranges=beyond, factor=factor, effect=effect)
    if own or (facts and not labs):
        return replace(bare, status="at_target")
    if any(lab.value is not None for lab in labs):
        return replace(bare, status="other_unit")
    return bare


def _unit(factor: Factor, lab: Lab) -> str | None:
    """The factor's unit that the model reads the code in, "" for none; None if it is another."""
    written = {unit.replace("{", "").replace("}", ""): unit for unit in factor.codes[lab.code].units or ("",)}
    return written.get(lab.unit.strip())


def _is_beyond(factor: Factor, lab: Lab) -> bool:
    target, value = factor.codes[lab.code].target, lab.value or 0.0
    return value > target if factor.better == "lower" else value < target


def _bare(patient: FeatureRow, factor: Factor, shown: Lab | None, *, is_recorded: bool) -> LifestyleOption:
    """The option before the model is asked."""
    return LifestyleOption(
        factor=factor.name,
        words=factor.words,
        action=factor.action,
        status="unknown",
        code=shown.code if shown else factor.presence[0],
        unit=(_unit(factor, shown) or shown.unit.strip()) if shown else "",
        before=shown.value if shown else float(is_recorded),
        target=factor.codes[shown.code].target if shown else 0.0,
        risk=_estimate(patient, {}),
        changed=None,
        basis="model",
        source=factor.citation,
    )


def _without(patient: FeatureRow, places: Sequence[int]) -> FeatureRow:
    """The patient without the facts of these features."""
    values = patient.values.copy()
    values[list(places)] = [patient.package.recipe.columns[j].absent for j in places]
    return replace(patient, values=values)


def _moved(patient: FeatureRow, factor: Factor, labs: Sequence[Lab], share: float) -> dict[str, float]:
    """Values of the labs, and of what moves with them, this share of the way to the targets."""
    moved = {lab.code: (lab.value or 0.0) * (1 - share) + factor.codes[lab.code].target * share for lab in labs}
    if labs and labs[0].value:
        ratio = moved[labs[0].code] / labs[0].value
        along = (patient.labs[code] for code in factor.with_it if code in patient.labs)
        moved |= {lab.code: lab.value * ratio for lab in along if lab.value is not None}
    return moved


def _asked(
    bare: LifestyleOption,
    changed: FeatureRow,
    steps: Sequence[Mapping[str, float]],
    *,
    ranges: Sequence[Lab],
    factor: Factor,
    effect: EffectEstimate | None,
) -> LifestyleOption:
    """The model's answer along the way, judged."""
    risks = np.array([bare.risk.value, *changed.risks(steps)])
    after = _estimate(changed, steps[-1])
    outside = changed.outside([steps[-1]])[0] or _unseen_target(factor, ranges)
    if effect is not None:
        return _by_effect(bare, effect)
    status: Status = "lower"
    if outside is not None:
        return replace(bare, status="outside", detail=outside)
    if risks[-1] > risks[0] - SMALLEST_CHANGE:
        status = "not_lower"
    elif np.any(np.diff(risks) > SMALLEST_CHANGE):
        status = "unsteady"
    return replace(bare, status=status, changed=after)


def _unseen_target(factor: Factor, labs: Sequence[Lab]) -> str | None:
    """Why a target is outside what training patients had: beyond their 0.1 or 99.9 percentile."""
    for lab in labs:
        target = factor.codes[lab.code].target
        if not lab.low <= target <= lab.high:
            return f"the target {target:g}{lab.unit} lies outside the training patients' {lab.low:g} to {lab.high:g}"
    return None


def _by_effect(bare: LifestyleOption, effect: EffectEstimate) -> LifestyleOption:
    """The risk times the relative risk; the interval is that of the relative risk."""
    risk, ratio = bare.risk.value or 0.0, effect.relative_risk
    low, value, high = (None if r is None else min(1.0, risk * r) for r in (ratio.low, ratio.value, ratio.high))
    status: Status = "lower" if ratio.high is not None and ratio.high < 1 else "not_lower"
    return replace(bare, status=status, changed=Estimate(value, low, high), basis="effect", source=effect.source)


def _estimate(patient: FeatureRow, variant: Mapping[str, float]) -> Estimate:
    """The risk under a variant with its Venn-Abers interval."""
    matrix = patient.matrix([variant])
    raw = patient.package.uncalibrated_risk(matrix)
    risk = patient.package.recalibration.apply(raw)
    low, high = risk_interval(patient.package, raw, risk)
    return Estimate(float(risk[0]), float(low[0]), float(high[0]))
