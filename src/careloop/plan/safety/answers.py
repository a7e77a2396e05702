"""Whether one condition of a rule holds for a patient: yes, no or not known, with the facts that say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from careloop import InputError
from careloop.clean.faults.units import conversion
from careloop.plan.safety.definition import OptionDrug
from careloop.plan.safety.patient.facts import Diagnosis, PatientFacts, Recognised
from careloop.plan.safety.patient.organ_function import ADULT_YEARS, child_pugh, creatinine_clearance, egfr_ckd_epi_2021
from careloop.plan.safety.rules import SAME, Rule, RuleBook

DIALYSIS_ML_PER_MIN = 10.0  # creatinine says nothing on dialysis; such patients count as below every limit from 15
# Conditions of diagnoses.csv that the code itself asks for.
DIALYSIS, ASCITES, ENCEPHALOPATHY, CIRRHOSIS = "dialysis", "ascites", "hepatic encephalopathy", "cirrhosis"
RENAL = ("egfr", "creatinine_clearance")
NAMES = {
    "egfr": "renal function (serum creatinine)", "creatinine_clearance": "renal function (serum creatinine)",
    "child_pugh": "Child-Pugh class (bilirubin, albumin, INR)", "inr": "INR", "qtc": "QTc", "alt": "ALT",
}  # fmt: skip
UNITS = {
    "egfr": "mL/min/1.73 m2", "creatinine_clearance": "mL/min", "child_pugh": "points", "potassium": "mmol/L",
    "sodium": "mmol/L", "calcium": "mg/dL", "creatinine": "mg/dL", "alt": "U/L", "platelets": "x 10^9/L",
    "neutrophils": "x 10^9/L", "hemoglobin": "g/dL", "inr": "", "qtc": "ms", "weight": "kg",
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """`holds` None: not known, and then `facts` names what is missing."""

    holds: bool | None
    facts: tuple[str, ...] = ()


NO = Answer(False)


@dataclass(frozen=True)
class Asked:
    """What a rule is asked about: one drug of an option, as `substance`, in the company of `others`."""

    drug: OptionDrug
    substance: str
    others: tuple[tuple[str, str], ...]  # (substance, where it comes from in words): taken already, or of the option
    facts: PatientFacts
    book: RuleBook


def answers(rule: Rule, asked: Asked) -> list[Answer] | None:
    """The answers to all conditions of the rule, each yes or not known; None as soon as one does not hold."""
    found = []
    for need in rule.needs:
        answer = _ANSWER[need](rule, asked)
        if answer.holds is False:
            return None
        found.append(answer)
    return found


def named_in(terms: Sequence[str], substance: str, book: RuleBook) -> bool:
    """Whether the terms of a rule speak of the substance, by its name or by a class of it."""
    return "*" in terms or bool(book.formulary.groups_of(substance) & set(terms))


def _allergens(rule: Rule, asked: Asked) -> Answer:
    facts = asked.facts
    for allergy in facts.allergies:
        for substance in allergy.substances:
            same = SAME in rule.allergens and substance == asked.substance
            if same or named_in([t for t in rule.allergens if t != SAME], substance, asked.book):
                return Answer(True, (_allergy_in_words(allergy),))
    return NO if facts.allergy_list != "not recorded" else Answer(None, ("allergies (no list is recorded)",))


def _allergy_in_words(allergy: Recognised) -> str:
    """What was recorded; a bare code with what it is recognised as."""
    bare = allergy.fact.code.endswith(allergy.fact.words)
    words = f"{', '.join(allergy.substances)} ({allergy.fact.words})" if bare else allergy.fact.words
    return f"allergy: {words}" + (f" ({allergy.fact.text})" if allergy.fact.text else "")


def has_condition(names: Sequence[str], asked: Asked, *, rule: Rule | None = None) -> list[Diagnosis]:
    """The patient's diagnoses that are one of the named conditions, as the rule counts them."""
    wanted = [code for name in names for code in asked.book.conditions[name]]
    ever = rule is not None and rule.counts == "ever"
    since = asked.facts.prediction_time - timedelta(days=rule.within_days) if rule and rule.within_days else None
    return [
        diagnosis
        for diagnosis in asked.facts.diagnoses
        if (ever or diagnosis.standing != "resolved")
        and (since is None or diagnosis.fact.time is None or diagnosis.fact.time >= since)
        and any(_is_code(code, diagnosis.codes) for code in wanted)
    ]


def _is_code(wanted: str, codes: Sequence[str]) -> bool:
    """Codes of ICD stand for all that begin with them, others for themselves and what the codes table has below."""
    if wanted.startswith("ICD"):
        return any(code.startswith(wanted) for code in codes)
    return wanted in codes


def _conditions(rule: Rule, asked: Asked) -> Answer:
    if rule.unless and has_condition(rule.unless, asked):
        return NO
    found = has_condition(rule.conditions, asked, rule=rule)
    certain = [diagnosis for diagnosis in found if diagnosis.standing != "suspected"]
    if certain:
        return Answer(True, (f"diagnosis: {_words(certain[0])}",))
    return Answer(None, (f"whether the suspected diagnosis {_words(found[0])} is confirmed",)) if found else NO


def _words(diagnosis: Diagnosis) -> str:
    date = f" ({diagnosis.fact.time:%Y-%m-%d})" if diagnosis.fact.time else ""
    return f"{diagnosis.fact.words}{date}"


def _measure(rule: Rule, asked: Asked) -> Answer:
    value, words = measured(rule.measure or "", asked)
    if value is None:
        return Answer(None, (words,)) if words else NO
    below = rule.below is None or value < rule.below
    above = rule.at_or_above is None or value >= rule.at_or_above
    return Answer(below and above, (words,))


def measured(measure: str, asked: Asked) -> tuple[float | None, str]:
    """A measure's value and its words; without value the words say what is missing, none where it means nothing."""
    facts = asked.facts
    if measure in RENAL:
        return _renal(measure, asked)
    if measure == "child_pugh":
        return _child_pugh(asked)
    found = facts.measurements.get(measure)
    if found is None:
        return None, NAMES.get(measure, measure)
    return found.value, f"{NAMES.get(measure, measure)} {found.value:.4g} {UNITS[measure]} on {found.time:%Y-%m-%d}"


def _renal(measure: str, asked: Asked) -> tuple[float | None, str]:
    """Renal function; without a weight eGFR stands in for creatinine clearance, as FDA guidance (2024) accepts."""
    facts = asked.facts
    if has_condition([DIALYSIS], asked):
        return DIALYSIS_ML_PER_MIN, "dialysis"
    creatinine, reported = facts.measurements.get("creatinine"), facts.measurements.get("egfr")
    if creatinine is None or facts.age_years is None or facts.sex is None or facts.age_years < ADULT_YEARS:
        if reported is not None:
            return reported.value, f"reported eGFR {reported.value:.0f} {UNITS['egfr']} on {reported.time:%Y-%m-%d}"
        missing = "renal function (eGFR of a child)" if creatinine and _is_child(facts) else NAMES["egfr"]
        return None, missing if creatinine is None or _is_child(facts) else "renal function (age or sex)"
    on = f"creatinine {creatinine.value:.2f} mg/dL on {creatinine.time:%Y-%m-%d}"
    weight = facts.measurements.get("weight")
    if measure == "creatinine_clearance" and weight is not None:
        value = creatinine_clearance(creatinine.value, age_years=facts.age_years, weight_kg=weight.value, sex=facts.sex)
        return value, f"creatinine clearance {value:.0f} mL/min (Cockcroft-Gault, {on})"
    value = egfr_ckd_epi_2021(creatinine.value, age_years=facts.age_years, sex=facts.sex)
    return value, f"eGFR {value:.0f} {UNITS['egfr']} (CKD-EPI 2021, {on})"


def _is_child(facts: PatientFacts) -> bool:
    return facts.age_years is not None and facts.age_years < ADULT_YEARS


def _child_pugh(asked: Asked) -> tuple[float | None, str]:
    """Points of the Child-Pugh score where cirrhosis is diagnosed; without it the score means nothing.

    Codes do not grade: ascites counts as moderate, encephalopathy as grade 1 or 2; what is not coded counts as absent.
    """
    if not has_condition([CIRRHOSIS], asked):
        return None, ""
    lab = asked.facts.measurements
    if not {"bilirubin", "albumin", "inr"} <= set(lab):
        return None, NAMES["child_pugh"]
    score = child_pugh(
        bilirubin_mg_per_dl=lab["bilirubin"].value,
        albumin_g_per_dl=lab["albumin"].value,
        inr=lab["inr"].value,
        ascites=2 if has_condition([ASCITES], asked) else 0,
        encephalopathy=1 if has_condition([ENCEPHALOPATHY], asked) else 0,
    )
    return float(score.points), f"Child-Pugh {score.grade} ({score.points} points, with cirrhosis diagnosed)"


def _pregnant(rule: Rule, asked: Asked) -> Answer:
    pregnancy = asked.facts.pregnancy
    if pregnancy.status == "unknown":
        return Answer(None, ("pregnancy status",))
    return Answer(pregnancy.status == "yes", (pregnancy.reason,))


def _sex(rule: Rule, asked: Asked) -> Answer:
    if asked.facts.sex is None:
        return Answer(None, ("sex",))
    return Answer(asked.facts.sex == rule.sex)


def _below_years(rule: Rule, asked: Asked) -> Answer:
    return _age(asked, lambda age: age < (rule.below_years or 0))


def _at_or_above_years(rule: Rule, asked: Asked) -> Answer:
    return _age(asked, lambda age: age >= (rule.at_or_above_years or 0))


def _age(asked: Asked, holds: Callable[[float], bool]) -> Answer:
    age = asked.facts.age_years
    return Answer(None, ("age",)) if age is None else Answer(holds(age), (f"aged {int(age)} years",))


def _with(rule: Rule, asked: Asked) -> Answer:
    """Another drug of the rule's other side; the rule goes both ways."""
    book = asked.book
    for mine, other in ((rule.drugs, rule.with_), (rule.with_, rule.drugs)):
        if named_in(mine, asked.substance, book):
            for substance, where in asked.others:
                if substance != asked.substance and named_in(other, substance, book):
                    return Answer(True, (where,))
    return NO


def _duplicate(rule: Rule, asked: Asked) -> Answer:
    for substance, where in asked.others:
        same = substance == asked.substance
        if rule.duplicate == "same ingredient" and same:
            return Answer(True, (where,))
        if rule.duplicate == "same class" and not same and named_in(rule.drugs, substance, asked.book):
            return Answer(True, (where,))
    return NO


def _max_daily(rule: Rule, asked: Asked) -> Answer:
    """Whether the dose is too high; one that is not stated may be, where the limit is this patient's own."""
    dose, unit = asked.drug.daily_dose, asked.drug.dose_unit
    if dose is None:
        return Answer(len(rule.needs) > 1, ("the option states no dose",))
    converts = conversion(unit, rule.dose_unit)
    if converts is None:
        return Answer(None, (f"the dose in {rule.dose_unit} (got {unit})",))
    value = converts.scale * dose + converts.offset
    return Answer(value > (rule.max_daily or 0), (f"{value:.4g} {rule.dose_unit} a day",))


_ANSWER: dict[str, Callable[[Rule, Asked], Answer]] = {
    "allergens": _allergens,
    "conditions": _conditions,
    "measure": _measure,
    "pregnant": _pregnant,
    "sex": _sex,
    "below_years": _below_years,
    "at_or_above_years": _at_or_above_years,
    "with": _with,
    "duplicate": _duplicate,
    "max_daily": _max_daily,
}


def require_conditions(book: RuleBook) -> None:
    """Raise InputError where a book lacks a condition that the code itself asks for."""
    for name in (DIALYSIS, ASCITES, ENCEPHALOPATHY, CIRRHOSIS):
        if name not in book.conditions:
            raise InputError(f"diagnoses.csv: {name!r} is missing; organ function needs it, copy it from the shipped")
