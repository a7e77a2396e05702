"""One patient's plan as a page to print: HTML in English or Chinese, one sheet of A4 where it fits, and PDF of it.

The page is made from a `PatientPlan` (`careloop.plan.document.patient_plan`) only, loads nothing, and has no script.
Every text from the data is escaped. Where options or findings are many it goes on on a second sheet, rows whole and
headings repeated.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from careloop import InputError
from careloop.plan.document.patient_plan import PatientOption, PatientPlan
from careloop.report.icon_array import ArrayWords, icon_array
from careloop.report.plan_sentences import Sentences
from careloop.report.plan_words import Language

SEVERITIES = ("block", "ask", "caution", "info")
NOT_SHOWN = ("not_lower", "unsteady", "outside", "other_unit")


def write_plan_page(plan: PatientPlan, path: Path, *, language: Language = "en") -> None:
    """Write the plan as an HTML page in UTF-8; InputError for another language."""
    path.write_text(plan_page(plan, language=language), encoding="utf-8")


def write_plan_pdf(plan: PatientPlan, path: Path, *, language: Language = "en") -> None:
    """Write the plan as PDF through WeasyPrint (`careloop[pdf]`), which needs Pango and, for Chinese, a CJK font.

    InputError: WeasyPrint or Pango is not installed.
    """
    try:
        from weasyprint import HTML
    except (ImportError, OSError):  # OSError: the package is there, the Pango library is not
        raise InputError(
            "a plan as PDF needs WeasyPrint and Pango: pip install 'careloop[pdf]' and, on Debian, apt-get install "
            "libpango-1.0-0 libpangoft2-1.0-0 fonts-noto-cjk; or print the HTML page to PDF from a browser"
        ) from None
    HTML(string=plan_page(plan, language=language)).write_pdf(path)


def plan_page(plan: PatientPlan, *, language: Language = "en") -> str:
    """The page as HTML text."""
    say = Sentences(language)
    return _template().render(
        plan=plan,
        words=say.words,
        say=say.say,
        horizon=say.horizon(plan.prediction.horizon_days),
        decision=_decision(plan, say),
        risk=_risk(plan, say),
        options=_options(plan, say),
        headings=_headings(plan, say),
        icons=_icons(plan, say),
        benefit=_benefit(plan, say),
        asked=_asked(plan),
        findings=_findings(plan, say),
        lifestyle=_lifestyle(plan, say),
    )


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("careloop.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("plan_page.html.j2")


def _decision(plan: PatientPlan, say: Sentences) -> dict[str, str]:
    """What stands at the top: the proposal, or that there is none, and why."""
    title = say.say("recommended_title", option=plan.recommended) if plan.recommended else say.say("abstains_title")
    return {"title": title, "why": say.reasons(plan.reasons), "kind": "abstains" if plan.abstains else "proposes"}


def _risk(plan: PatientPlan, say: Sentences) -> dict[str, Any]:
    """The prediction: figure, interval, words and the place of both on a scale of 0 to 100 %."""
    prediction = plan.prediction
    risk, horizon = prediction.risk, say.horizon(prediction.horizon_days)
    if prediction.abstain_reason is not None or risk.value is None:
        reason = prediction.abstain_reason or say.say("unknown")
        return {"value": None, "text": say.say("risk_abstains", reason=reason)}
    low, high = (risk.value if limit is None else limit for limit in (risk.low, risk.high))
    return {
        "value": say.percent(risk.value),
        "interval": say.say("interval", low=say.percent(low), high=say.percent(high)),
        "text": say.say("risk_text", target=prediction.target, horizon=horizon),
        "people": say.say("people", count=round(100 * risk.value)),
        "places": {"low": 100 * low, "width": 100 * (high - low), "value": 100 * risk.value},
    }


def _headings(plan: PatientPlan, say: Sentences) -> dict[str, str]:
    if plan.goal is None:
        return {}
    return {
        "expected": say.say(f"expected_{plan.goal.kind}", goal=plan.goal.name),
        "effect": say.say(f"effect_{plan.goal.kind}", reference=plan.reference),
    }


def _options(plan: PatientPlan, say: Sentences) -> list[dict[str, str]]:
    return [
        {
            "name": option.name,
            "expected": _expected(plan, option, say),
            "effect": say.say("reference") if option.name == plan.reference else _effect(plan, option, say),
            "status": option.status,
            "status_words": say.words["status_words"][option.status],
            "why": say.reasons(option.reasons),
        }
        for option in plan.options
    ]


def _expected(plan: PatientPlan, option: PatientOption, say: Sentences) -> str:
    """A risk in per cent, days without the event, or the measure's value."""
    kind = plan.goal.kind if plan.goal else "event"
    return say.risk(option.expected) if kind == "event" else say.figure(option.expected, _form(kind))


def _effect(plan: PatientPlan, option: PatientOption, say: Sentences) -> str:
    """The study's average difference from the reference; risks in percentage points."""
    kind = plan.goal.kind if plan.goal else "event"
    return say.figure(option.effect, f"+{_form(kind)}", 100.0 if kind == "event" else 1.0)


def _form(kind: str) -> str:
    return ".3g" if kind == "measure" else ".1f"


def _icons(plan: PatientPlan, say: Sentences) -> str:
    """The icon array of the option that is compared; empty where there is none."""
    name = plan.compared
    found = plan.benefit(name) if name is not None else None
    if name is None or found is None or found.without.value is None or found.with_option.value is None:
        return ""
    before, after = found.without.value, found.with_option.value
    horizon = say.horizon(plan.prediction.horizon_days)
    words = ArrayWords(
        title=say.say("icons_title", target=plan.prediction.target, horizon=horizon),
        without=say.say("icons_without", reference=plan.reference, count=round(100 * before)),
        with_option=say.say("icons_with", option=name, count=round(100 * after)),
        states=say.words["icon_states"],
    )
    return icon_array(before, after, words)


def _benefit(plan: PatientPlan, say: Sentences) -> tuple[str, ...]:
    name = plan.compared
    found = plan.benefit(name) if name is not None else None
    return () if name is None or found is None else say.benefit(plan, name, found)


def _asked(plan: PatientPlan) -> dict[str, list[str]]:
    """What is to be found out, each once, with the options that wait for it."""
    waiting: dict[str, list[str]] = {}
    for finding in plan.findings:
        if finding.severity == "ask" and finding.option not in (options := waiting.setdefault(finding.remedy, [])):
            options.append(finding.option)
    return waiting


def _findings(plan: PatientPlan, say: Sentences) -> list[dict[str, Any]]:
    """Safety findings, the gravest first."""
    ordered = sorted(plan.findings, key=lambda finding: SEVERITIES.index(finding.severity))
    severity = say.words["severity_words"]
    return [{"of": f, "severity": severity[f.severity], "kind": say.finding_kind(f)} for f in ordered]


def _lifestyle(plan: PatientPlan, say: Sentences) -> dict[str, Any]:
    """Rows of the options to talk about, and one line each of the others, by why they are not.

    A model that does not know the patient has nothing to say about the patient with another value either.
    """
    is_known = plan.prediction.abstain_reason is None
    offered = [option for option in plan.lifestyle if option.is_offered and is_known]
    rows = [
        {
            "action": option.action[say.language],
            "factor": option.words[say.language],
            "now": say.lifestyle_value(option, option.before),
            "target": say.lifestyle_value(option, option.target),
            "risk": say.risk(option.changed),
            "source": option.source,
            "by_effect": say.say("lifestyle_by_effect") if option.basis == "effect" else "",
        }
        for option in offered
    ]
    others = {"met": ("at_target",), "unknown": ("unknown",), "not_shown": NOT_SHOWN}
    lines = []
    for name, statuses in others.items():
        factors = [o.words[say.language] for o in plan.lifestyle if o.status in statuses]
        lines += [say.say(f"lifestyle_{name}", factors=say.say("joiner").join(factors))] if factors else []
    now = say.percent(plan.prediction.risk.value) if plan.prediction.risk.value is not None else say.say("unknown")
    return {"rows": rows, "lines": lines, "heading": say.say("lifestyle_risk", risk=now)}
