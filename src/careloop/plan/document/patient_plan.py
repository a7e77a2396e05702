"""One patient's plan as plain data: prediction, options with reasons, safety findings, lifestyle, and the decision.

Everything that shows or exports a plan (`plan.fhir`, `report.plan_page`) reads this and nothing else; `plan.assemble`
makes it from what the rooms produce.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from careloop import __version__
from careloop.evaluate import Estimate
from careloop.plan.document.benefit import Benefit, benefit
from careloop.plan.document.lifestyle import LifestyleOption
from careloop.plan.effect.goals import Kind
from careloop.plan.safety.finding import Finding

# recommended: the plan's advice; offered: may be chosen; demoted: a caution, below those without; ask: not to be chosen
# until a missing fact is known; withheld: must not be chosen; not_ranked: its effect for this patient is not known.
Status = Literal["recommended", "offered", "demoted", "ask", "withheld", "not_ranked"]
ReasonKind = Literal[
    "best_single",
    "individual",
    "tied",
    "tied_best",
    "worse",
    "lower_ranked",
    "few_comparable",
    "no_overlap",
    "too_few_options",
    "caution",
    "not_listed",
    "missing_fact",
    "blocked",
    "advice_withheld",
    "advice_demoted",
    "outside_population",
    "no_plan",
]


@dataclass(frozen=True)
class Reason:
    """Why: `kind` names the sentence, which each language has, `names` are the options or rules it speaks of.

    `text` is what was found, in the words of the room that found it (English), where the kind alone does not say it.
    """

    kind: ReasonKind
    names: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class PatientPrediction:
    """The prediction that the plan rests on.

    `patient_key` is how the patient is called on the page and in FHIR (`Patient/<key>`). `id` is the prediction's
    `source` in the record; `risk` the probability of `target` within `horizon_days` under the care that training
    patients had, with its interval; `abstain_reason` says why the model does not answer, or is None. `model_version`
    is the hash of the model package, `data_version` the record's version, and `data_hash` a digest of the rows that
    the prediction was made from, where there is one.
    """

    id: str
    subject_id: int
    patient_key: str
    as_of: datetime
    model: str
    model_version: str
    data_version: int
    target: str
    horizon_days: float
    risk: Estimate
    abstain_reason: str | None = None
    data_hash: str | None = None


@dataclass(frozen=True)
class PatientOption:
    """One option for this patient.

    `expected` is the first goal's expected value if it is given to this patient, `difference` that minus the
    reference's for this patient; `effect` the difference to the reference, on average in the study (both null for the
    reference).
    """

    name: str
    status: Status
    rank: int | None
    expected: Estimate | None
    effect: Estimate | None
    reasons: tuple[Reason, ...]
    difference: Estimate | None = None


@dataclass(frozen=True)
class PlanGoal:
    """What `expected` and `effect` are about: an event's risk by the horizon, days without it, or a measure."""

    name: str
    kind: Kind
    better: Literal["lower", "higher"]


@dataclass(frozen=True)
class PatientPlan:
    """One patient's plan.

    `options` are in the order in which they are shown; `recommended` is one of them, or None where the plan abstains;
    `reasons` say why. `is_checked`: whether safety rules were asked; no findings mean nothing where they were not.
    `goal` and `reference` are None where the study compares no treatments.
    """

    study: str
    made_at: datetime
    prediction: PatientPrediction
    goal: PlanGoal | None
    reference: str | None
    options: tuple[PatientOption, ...]
    is_checked: bool
    findings: tuple[Finding, ...]
    lifestyle: tuple[LifestyleOption, ...]
    recommended: str | None
    reasons: tuple[Reason, ...]
    software: str = f"careloop {__version__}"

    @property
    def abstains(self) -> bool:
        """Whether no option is recommended."""
        return self.recommended is None

    def option(self, name: str | None) -> PatientOption | None:
        """The option of this name, None where there is none."""
        return next((option for option in self.options if option.name == name), None)

    def benefit(self, name: str) -> Benefit | None:
        """The option against the reference for this patient; None for a measure, or where a risk is not known."""
        option, reference = self.option(name), self.option(self.reference)
        if self.goal is None or self.goal.kind != "event" or option is None or reference is None:
            return None
        before, after = reference.expected, option.expected
        if option is reference or before is None or after is None or None in (before.value, after.value):
            return None
        gain = option.difference
        if gain is None or gain.value is None or gain.low is None or gain.high is None:
            return benefit(before, after)
        return benefit(before, after, reduction=Estimate(-gain.value, -gain.high, -gain.low))

    @property
    def compared(self) -> str | None:
        """The option that the icon array shows: the recommended one, else the best ranked, if not the reference."""
        ranked = sorted((o for o in self.options if o.rank is not None), key=lambda option: option.rank or 0)
        names = [self.recommended, *(o.name for o in ranked if o.status not in ("withheld", "ask"))]
        return next((name for name in names if name is not None and name != self.reference), None)
