"""A patient's plan in words of one language: figures with intervals, reasons, benefit, findings, lifestyle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from careloop.evaluate import Estimate
from careloop.plan.document.benefit import Benefit, Needed
from careloop.plan.document.lifestyle import LifestyleOption
from careloop.plan.document.patient_plan import PatientPlan, Reason
from careloop.plan.safety.finding import Finding
from careloop.report.plan_words import Language, plan_words

DAYS_PER_YEAR = 365.25
# A horizon this near to whole years is said in years: 365, 730 and 1,826 days are.
YEAR_ROUNDING = 0.005
UNITS = {"mm[Hg]": "mmHg", "kg/m2": "kg/m²", "min/wk": "min/week"}


@dataclass(frozen=True)
class Sentences:
    """The sentences of a language."""

    language: Language

    @property
    def words(self) -> Mapping[str, Any]:
        """The language's texts."""
        return plan_words(self.language)

    def say(self, key: str, **values: Any) -> str:
        """The text of a key with its words filled in."""
        return str(self.words[key]).format(**values)

    def percent(self, risk: float) -> str:
        """A risk in per cent with one decimal; below 0.1 % with two."""
        return self.say("percent", value=f"{100 * risk:.{2 if 0 < risk < 0.001 else 1}f}")

    def risk(self, risk: Estimate | None) -> str:
        """A risk in per cent with its interval: `15.2 % (9.7 to 21.2)`."""
        if risk is None or risk.value is None:
            return self.say("unknown")
        if risk.low is None or risk.high is None:
            return self.percent(risk.value)
        low, high = f"{100 * risk.low:.1f}", f"{100 * risk.high:.1f}"
        return self.say("value_interval", value=self.percent(risk.value), low=low, high=high)

    def figure(self, estimate: Estimate | None, form: str, scale: float = 1.0) -> str:
        """A figure with its interval, each in the format `form`, with a true minus sign."""
        if estimate is None or estimate.value is None:
            return self.say("unknown")
        value = _number(scale * estimate.value, form)
        if estimate.low is None or estimate.high is None:
            return value
        low, high = (_number(scale * limit, form) for limit in (estimate.low, estimate.high))
        return self.say("value_interval", value=value, low=low, high=high)

    def horizon(self, days: float) -> str:
        """A number of days, as whole years where it is that."""
        years = days / DAYS_PER_YEAR
        if round(years) >= 1 and abs(years - round(years)) < YEAR_ROUNDING * years:
            return self._counted("horizon_years", round(years))
        return self._counted("horizon_days", days)

    def _counted(self, key: str, count: float) -> str:
        return str(self.words[key]["one" if count == 1 else "many"]).format(count=f"{count:g}")

    def reason(self, reason: Reason) -> str:
        """Why, as a phrase; what was found is added where it says more."""
        joiner = self.say("joiner" if reason.kind == "tied_best" else "or")
        words = str(self.words["reasons"][reason.kind]).format(joiner.join(reason.names))
        return self.say("detail", words=words, detail=reason.text) if reason.text else words

    def reasons(self, reasons: Sequence[Reason]) -> str:
        """Several reasons as one sentence."""
        found = "; ".join(self.reason(reason) for reason in reasons)
        found = found.replace("; ", "；") if self.language == "zh" else found
        return f"{found[:1].upper()}{found[1:]}{self.say('stop')}" if found else ""

    def benefit(self, plan: PatientPlan, name: str, found: Benefit) -> tuple[str, ...]:
        """Absolute reduction, number needed and relative risk of an option against the reference, as sentences."""
        reduction = found.reduction
        reduced = self.say(
            "benefit_reduction",
            option=name,
            reference=plan.reference,
            value=self.say("points", value=_number(100 * (reduction.value or 0.0), ".1f")),
            interval=self._interval(reduction, ".1f", 100),
        )
        sentences = [reduced, self._needed(name, found)]
        if found.relative.value is not None:
            interval = self._interval(found.relative, ".2f", 1)
            sentences.append(self.say("benefit_relative", value=f"{found.relative.value:.2f}", interval=interval))
        if found.basis == "independent" and reduction.low is not None:
            sentences.append(self.say("benefit_independent"))
        return tuple(sentences)

    def _interval(self, estimate: Estimate, form: str, scale: float) -> str:
        if estimate.low is None or estimate.high is None:
            return ""
        low, high = (_number(scale * limit, form) for limit in (estimate.low, estimate.high))
        return self.say("benefit_interval", low=low, high=high)

    def _needed(self, name: str, found: Benefit) -> str:
        value, best, worst = found.needed.value, found.needed.best, found.needed.worst
        interval = ""
        if best is not None and worst is not None:
            key = "nnt_through" if found.needed.holds_no_effect else "nnt_interval"
            # Without harm in between, the fewest people stand first whichever way the effect goes.
            ends = (worst, best) if value.effect == "harm" else (best, worst)
            interval = self.say(
                key,
                best=self._people(best),
                worst=self._people(worst),
                low=self._people(ends[0]),
                high=self._people(ends[1]),
            )
        key = "nnt_none" if value.count is None else f"nnt_{value.effect}"
        return self.say(key, option=name, count=self._people(value), interval=interval)

    def _people(self, needed: Needed) -> str:
        return self.say("nnt_infinite") if needed.people is None else f"{needed.people:,}"

    def finding_kind(self, finding: Finding) -> str:
        """The family of a safety rule."""
        return str(self.words["kinds"].get(finding.kind, finding.kind.replace("_", " ")))

    def lifestyle_value(self, option: LifestyleOption, value: float | None) -> str:
        """A present or target value with its unit; yes or no for a fact."""
        if value is None:
            return self.say("unknown")
        if option.is_fact:
            return self.say("yes" if value else "no")
        unit = UNITS.get(option.unit, option.unit.replace("{", "").replace("}", ""))
        return f"{value:.4g} {unit}".strip()


def _number(value: float, form: str) -> str:
    """The number with a minus sign as typeset; no minus before a zero."""
    text = format(value, form)
    return text.replace("-", "−") if float(text) else text.strip("+-")
