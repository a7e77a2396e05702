"""Check an option's drugs against the rules for one patient: what applies, and what must be asked first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import polars as pl

from careloop.genome.pharmacogenes.genotype_events import patient_genotypes
from careloop.plan.safety.answers import Asked, answers, require_conditions
from careloop.plan.safety.definition import OptionDrug, SafetySection
from careloop.plan.safety.finding import Finding, Severity
from careloop.plan.safety.patient.facts import Key, PatientFacts, patient_facts
from careloop.plan.safety.pharmacogenomics import pharmacogenomic_findings
from careloop.plan.safety.rules import Rule, RuleBook, read_rules

OWN = "careloop"  # the source of findings that no rule makes
SEVERITIES = ("block", "ask", "caution", "info", "off")  # the gravest first
OptionFindings = Mapping[str, Sequence[Finding]]


def safety_findings(
    events: pl.LazyFrame,
    prediction_times: pl.DataFrame,
    section: SafetySection,
    *,
    codes: pl.DataFrame | None = None,
    chosen: pl.DataFrame | None = None,
) -> dict[Key, dict[str, list[Finding]]]:
    """Findings of every option for each (subject_id, prediction_time), from the record as it was known then, genes too.

    `events` are uncut (`Record.events`), `codes` the record's codes table, `chosen` as in `patient_facts`.

    Raises:
        InputError: a folder of rules that cannot be read.
    """
    book = read_rules(section.folders)
    known = patient_facts(events, prediction_times, book.formulary, section=section, codes=codes, chosen=chosen)
    genotypes = patient_genotypes(events, prediction_times)
    ingredients = {option: ingredients_of(drugs, book) for option, drugs in section.options.items()}
    return {
        key: {
            option: _gravest_first(
                check_option(option, drugs, facts, book)
                + pharmacogenomic_findings(option, ingredients[option], genotypes.get(key, {}), folders=section.folders)
            )
            for option, drugs in section.options.items()
        }
        for key, facts in known.items()
    }


def ingredients_of(drugs: Sequence[OptionDrug], book: RuleBook) -> tuple[str, ...]:
    """The ingredients and classes that an option's drugs are recognised as."""
    return tuple(dict.fromkeys(name for drug in drugs for name in _substances(drug, book)))


def check_option(option: str, drugs: Sequence[OptionDrug], facts: PatientFacts, book: RuleBook) -> list[Finding]:
    """What the rules say about an option for a patient, the gravest first; empty where no rule applies.

    A rule whose conditions hold makes its finding. One that may hold, as a fact it needs is not known, makes one of the
    severity `unknown` instead, in general `ask` (and none where it would only be shown); all rules of a drug that miss
    the same facts make one together. A drug that no rule covers is a finding itself, never a silent pass.
    """
    require_conditions(book)
    findings: list[Finding] = []
    for position, drug in enumerate(drugs):
        substances = _substances(drug, book)
        if not substances:
            findings.append(_unknown_drug(option, drug, book))
        for substance in substances:
            others = _others(facts, drugs, position, book)
            asked = Asked(drug, substance, others, facts, book)
            findings += _by_rules(option, asked)
            findings += _not_covered(option, asked)
    return _gravest_first(dict.fromkeys(findings))


def _gravest_first(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def _substances(drug: OptionDrug, book: RuleBook) -> tuple[str, ...]:
    """What the drug is recognised as; a name is tried as a whole first, a product's words may name several."""
    if drug.ingredient is None:
        return book.formulary.recognise(drug.code)
    whole = book.formulary.named(drug.ingredient)
    return (whole,) if whole is not None else book.formulary.recognise(None, drug.ingredient)


def _others(
    facts: PatientFacts, drugs: Sequence[OptionDrug], position: int, book: RuleBook
) -> tuple[tuple[str, str], ...]:
    taken = [
        (substance, f"takes {medication.fact.words}")
        for medication in facts.medications
        for substance in medication.substances
    ]
    beside = [
        (substance, f"the option also has {other.name}")
        for place, other in enumerate(drugs)
        if place != position
        for substance in _substances(other, book)
    ]
    return (*taken, *beside)


def _by_rules(option: str, asked: Asked) -> list[Finding]:
    findings: list[Finding] = []
    missing: dict[tuple[Severity, tuple[str, ...]], list[Rule]] = {}
    for rule in asked.book.about(asked.substance):
        found = answers(rule, asked)
        if found is None:
            continue
        unknown = tuple(dict.fromkeys(fact for answer in found if answer.holds is None for fact in answer.facts))
        if not unknown:
            facts = tuple(fact for answer in found for fact in answer.facts)
            findings.append(_finding(option, asked, rule, facts))
        elif rule.severity != "info":
            missing.setdefault((rule.unknown, unknown), []).append(rule)
    return findings + [_not_known(option, asked, rules, *what) for what, rules in missing.items()]


def _finding(option: str, asked: Asked, rule: Rule, facts: tuple[str, ...]) -> Finding:
    severity: Severity = "info" if rule.severity == "off" else rule.severity
    # A limit of the dose cannot be held against an option that states none; it is said, and counts as a caution.
    if rule.max_daily is not None and asked.drug.daily_dose is None and severity == "block":
        severity = "caution"
    return Finding(
        option=option,
        drug=asked.substance,
        kind=rule.kind,
        severity=severity,
        rule=rule.id,
        text=rule.text,
        remedy=rule.remedy,
        facts=facts,
        citation=rule.citation,
        rules_version=asked.book.version,
    )


def _not_known(
    option: str, asked: Asked, rules: Sequence[Rule], severity: Severity, missing: tuple[str, ...]
) -> Finding:
    """One question for all rules that miss the same facts; the gravest of them speaks."""
    gravest = min(rules, key=lambda rule: SEVERITIES.index(rule.severity))
    first = _finding(option, asked, gravest, missing)
    return replace(
        first,
        severity=severity,
        rule=", ".join(rule.id for rule in rules),
        text=f"Not known: {', '.join(missing)}. It matters, as: {gravest.text}",
        remedy=f"Find out and record: {', '.join(missing)}.",
        facts=tuple(f"not known: {fact}" for fact in missing),
        citation="; ".join(dict.fromkeys(rule.citation for rule in rules)),
    )


def _unknown_drug(option: str, drug: OptionDrug, book: RuleBook) -> Finding:
    return Finding(
        option=option,
        drug=drug.name,
        kind="coverage",
        severity="ask",
        rule="unknown-drug",
        text=f"No rules cover {drug.name}: it is not among the drugs that these rules know.",
        remedy="Check the drug by hand, or add it to a folder of rules.",
        facts=(),
        citation=OWN,
        rules_version=book.version,
    )


def _not_covered(option: str, asked: Asked) -> list[Finding]:
    """What the rules could not look at: a drug without rules, unrecognised drugs taken, unrecognised allergies."""

    def finding(rule: str, severity: Severity, text: str, facts: tuple[str, ...]) -> Finding:
        remedy = "Check by hand against the drug's prescribing information."
        drug = asked.substance
        return Finding(option, drug, "coverage", severity, rule, text, remedy, facts, OWN, asked.book.version)

    facts, found = asked.facts, []
    if not asked.book.covers(asked.substance):
        text = f"No rules cover {asked.substance} beyond allergy and duplicates."
        found.append(finding("no-rules", "caution", text, ()))
    strange = tuple(m.fact.words for m in facts.medications if not m.substances)
    if strange:
        text = "Some drugs that are taken are not known to these rules; interactions with them were not checked."
        found.append(finding("unknown-medication", "info", text, tuple(f"takes {words}" for words in strange)))
    unmatched = tuple(a.fact.words for a in facts.allergies if not a.substances)
    if unmatched:
        text = "Some allergies are to nothing that these rules know; they were not checked."
        found.append(finding("unknown-allergen", "info", text, tuple(f"allergy: {words}" for words in unmatched)))
    return found
