"""What CPIC's guidelines say of an option's drugs for a patient's genotypes, and which tests are missing.

The tables and the meaning of their severities: `careloop.genome.pharmacogenes.guidelines`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from careloop.genome.pharmacogenes.guidelines import Guidelines, Pair, Recommendation, known_result, read_guidelines
from careloop.genome.pharmacogenes.phenotypes import CONFLICT, INDETERMINATE, NOT_INDICATED, Genotype
from careloop.plan.safety.finding import Finding, Severity

KIND = "pharmacogenomics"
_ADVICE: dict[Severity, str] = {
    "block": "CPIC advises against {drug}",
    "ask": "CPIC wants a further test before {drug}",
    "caution": "CPIC advises another drug, another dose or closer monitoring than usual for {drug}",
    "info": "CPIC gives no reason to start {drug} otherwise than usual",
}


def pharmacogenomic_findings(
    option: str,
    ingredients: Sequence[str],
    genotypes: Mapping[str, Genotype],
    *,
    folders: Sequence[Path | None] = (None,),
) -> list[Finding]:
    """What the guidelines say of an option, drug by drug, and which of the genes they ask for are not known.

    `ingredients` are names (salts and strengths do not matter) or RxNorm codes of ingredients, `genotypes` the
    patient's results by gene (`genotype_events.genotypes_of`). `folders` as in the study's section `safety`: None is
    careloop's own, and the drugs that a later folder's pgx_recommendations.csv or pgx_published.csv names are taken
    from there alone. A drug without guideline gives no finding.
    """
    guidelines = read_guidelines(tuple(folders))
    drugs = dict.fromkeys(drug for ingredient in ingredients for drug in guidelines.drugs_of(ingredient))
    return [finding for drug in drugs for finding in _of_drug(option, drug, genotypes, guidelines)]


def _of_drug(option: str, drug: str, genotypes: Mapping[str, Genotype], guidelines: Guidelines) -> Iterator[Finding]:
    settled: set[str] = set()
    for rule, known in guidelines.matching(drug, genotypes):
        yield _found(option, rule, known)
        settled |= set(rule.genes) if rule.severity in ("block", "ask") else set()
    for pair in guidelines.pairs:
        if pair.drug == drug and pair.gene not in settled:
            yield from _missing(option, pair, known_result(pair.gene, genotypes))


def _found(option: str, rule: Recommendation, known: Sequence[Genotype | None]) -> Finding:
    who = " and ".join(_in_words(gene, result) for gene, result in zip(rule.genes, rule.results, strict=True))
    advice = _ADVICE[rule.severity].format(drug=rule.drug)
    strength = rule.strength.lower().removesuffix(" recommendation")
    return Finding(
        option=option,
        drug=rule.drug,
        kind=KIND,
        severity=rule.severity,
        rule=_identity(rule.drug, *(word for pair in zip(rule.genes, rule.results, strict=True) for word in pair)),
        text=f"{who}: {advice} ({strength} recommendation).",
        remedy=rule.text,
        facts=tuple(_fact(gene, result) for gene, result in zip(rule.genes, known, strict=True) if result),
        citation=rule.citation,
        rules_version=rule.source,
    )


def _missing(option: str, pair: Pair, result: Genotype | None) -> Iterator[Finding]:
    """A gene that the guideline asks for and that is not known, or not clearly."""
    if result is not None and result.phenotype not in (INDETERMINATE, CONFLICT, NOT_INDICATED):
        return
    state = "is not tested" if result is None else "has a result that gives no phenotype"
    severity: Severity = pair.untested
    if result is not None and result.phenotype == CONFLICT:
        state, severity = "has results that contradict each other", "ask"
    if result is not None and result.phenotype == NOT_INDICATED:
        state, severity = "was judged not to need a test", "info"
    outcome = "is needed before" if severity == "ask" else "would tell CPIC's recommendation on"
    yield Finding(
        option=option,
        drug=pair.drug,
        kind=KIND,
        severity=severity,
        rule=_identity(pair.drug, pair.gene, "missing"),
        text=f"{pair.gene} {state}: a clear result {outcome} {pair.drug}.",
        remedy=f"Test {pair.gene}" + (f" ({pair.reason})." if pair.reason else ", where it would change the choice."),
        facts=(_fact(pair.gene, result),) if result else (),
        citation=pair.citation,
        rules_version="pgx_guidelines.csv of pypgx 0.27.0",
    )


def _in_words(gene: str, result: str) -> str:
    if result.startswith(gene):
        return result
    return f"{gene} {result if result.startswith('-') else result.lower()}"


def _fact(gene: str, result: Genotype) -> str:
    return result.recorded if result.recorded.upper().startswith(gene[:5]) else f"{gene} {result.recorded}"


def _identity(*words: str) -> str:
    return "pgx-" + "-".join(re.sub(r"[^a-z0-9.]+", "-", word.lower()).strip("-") for word in words if word)
