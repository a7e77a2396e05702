"""What CPIC's guidelines say of an option's drugs for a patient's genotypes, and which tests are missing.

The recommendations are data: `pgx_recommendations.csv` holds CPIC's texts (CC0) from pypgx 0.27.0 (MIT), and
`pgx_published.csv` those encoded by hand from the guidelines where pypgx has none, an older one, or loses the activity
score; `pgx_guidelines.csv` lists each drug with its genes and what follows where a gene is not known. Column `checked`
names what a row's strength and content were compared with ("CPIC database 1.30.0", July 2023), or `no`. CPIC's
guidelines change: www.clinpgx.org has the current ones.

Severity: block where the recommendation is strong and against the drug at any dose; caution where it is another drug,
another dose, or closer monitoring; info where it is the usual treatment; ask where a test must come first.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path

from careloop import InputError
from careloop.plan.safety.finding import Finding, Severity
from careloop.plan.safety.genes.phenotypes import (
    CONFLICT,
    INDETERMINATE,
    NOT_INDICATED,
    TABLES,
    Genotype,
    carrier,
)

KIND = "pharmacogenomics"
UNTESTED = "not tested"
RULE_COLUMNS = (
    "drugs", "gene", "results", "other_gene", "other_results", "severity", "strength", "recommendation", "pmid",
    "year", "source",
)  # fmt: skip
PAIR_COLUMNS = ("drug", "gene", "rxnorm", "untested", "reason", "pmid", "year")
# Names that another register uses for the drugs of the guidelines (international nonproprietary names, old names).
_SYNONYMS = {
    "suxamethonium": "succinylcholine", "tioguanine": "thioguanine", "methylthioninium": "methylene blue",
    "tolonium": "toluidine blue", "6-mercaptopurine": "mercaptopurine", "6-thioguanine": "thioguanine",
    "tacrolimus anhydrous": "tacrolimus", "s-citalopram": "escitalopram",
}  # fmt: skip
_SEVERITIES: dict[str, Severity] = {"block": "block", "ask": "ask", "caution": "caution", "info": "info"}
_ADVICE: dict[Severity, str] = {
    "block": "CPIC advises against {drug}",
    "ask": "CPIC wants a further test before {drug}",
    "caution": "CPIC advises another drug, another dose or closer monitoring than usual for {drug}",
    "info": "CPIC gives no reason to start {drug} otherwise than usual",
}


@dataclass(frozen=True)
class Recommendation:
    """One recommendation, for the results of one gene or of two genes together."""

    drug: str
    genes: tuple[str, ...]
    results: tuple[str, ...]
    severity: Severity
    strength: str
    text: str
    citation: str
    source: str


@dataclass(frozen=True)
class Pair:
    """A drug and a gene that its guideline asks for; `untested` is the severity where the gene is not known."""

    drug: str
    gene: str
    rxnorm: str
    untested: Severity
    reason: str
    citation: str


@dataclass(frozen=True)
class Guidelines:
    """All recommendations by drug, and the pairs of drug and gene."""

    recommendations: tuple[Recommendation, ...]
    pairs: tuple[Pair, ...]

    def drugs_of(self, ingredient: str) -> tuple[str, ...]:
        """The guidelines' drugs in an ingredient's name, whole words of any case, or of its `RXNORM//` code."""
        if ingredient.upper().startswith("RXNORM//"):
            code = ingredient.partition("//")[2]
            return tuple(dict.fromkeys(pair.drug for pair in self.pairs if pair.rxnorm == code))
        found = (match.lower() for match in self._names.findall(ingredient))
        return tuple(dict.fromkeys(_SYNONYMS.get(name, name) for name in found))

    @cached_property
    def rules_by_drug(self) -> Mapping[str, Mapping[tuple[str, ...], Mapping[tuple[str, ...], Recommendation]]]:
        """Each drug's recommendations by the genes that they join, and by the results of these."""
        found: dict[str, dict[tuple[str, ...], dict[tuple[str, ...], Recommendation]]] = {}
        for rule in self.recommendations:
            found.setdefault(rule.drug, {}).setdefault(rule.genes, {})[rule.results] = rule
        return found

    @cached_property
    def _names(self) -> re.Pattern[str]:
        drugs = {pair.drug for pair in self.pairs} | set(self.rules_by_drug)
        names = sorted(drugs | set(_SYNONYMS), key=len, reverse=True)
        return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, names))})(?![\w-])", re.IGNORECASE)


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


@lru_cache(maxsize=8)
def read_guidelines(folders: tuple[Path | None, ...] = (None,)) -> Guidelines:
    """Read the tables of the folders in order. Raises InputError for a table that lacks a column or has a bad cell."""
    rules: dict[str, list[Recommendation]] = {}
    pairs: dict[tuple[str, str], Pair] = {}
    for folder in (TABLES if folder is None else folder for folder in folders):
        read = [rule for name in ("recommendations", "published") for rule in _recommendations(folder, name)]
        own: dict[str, list[Recommendation]] = {}
        for rule in read:
            own.setdefault(rule.drug, []).append(rule)
        rules |= own
        pairs |= {(pair.drug, pair.gene): pair for pair in _pairs(folder)}
    return Guidelines(tuple(rule for found in rules.values() for rule in found), tuple(pairs.values()))


def _of_drug(option: str, drug: str, genotypes: Mapping[str, Genotype], guidelines: Guidelines) -> Iterator[Finding]:
    settled: set[str] = set()
    for genes, rules in guidelines.rules_by_drug.get(drug, {}).items():
        known = [_known(gene, genotypes) for gene in genes]
        choices = product(*(_names_of(result) for result in known))
        rule = next((rules[names] for names in choices if names in rules), None)
        if rule is not None:
            yield _found(option, rule, known)
            settled |= set(genes) if rule.severity in ("block", "ask") else set()
    for pair in guidelines.pairs:
        if pair.drug == drug and pair.gene not in settled:
            yield from _missing(option, pair, _known(pair.gene, genotypes))


def _known(gene: str, genotypes: Mapping[str, Genotype]) -> Genotype | None:
    return carrier(gene, genotypes) if "*" in gene else genotypes.get(gene)


def _names_of(result: Genotype | None) -> tuple[str, ...]:
    """Under which names recommendations may know a result; an unclear one counts as untested where they do not."""
    if result is None or result.phenotype == NOT_INDICATED:
        return (UNTESTED,)
    if result.phenotype in (INDETERMINATE, CONFLICT):
        return (INDETERMINATE, UNTESTED)
    return result.results


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


def _recommendations(folder: Path, name: str) -> Iterator[Recommendation]:
    for where, row in _rows(folder, name, RULE_COLUMNS):
        genes = tuple(filter(None, (row["gene"], row["other_gene"])))
        columns = (row["results"].split("|"), row["other_results"].split("|"))[: len(genes)]
        for drug, *results in product(row["drugs"].split("|"), *columns):
            yield Recommendation(
                drug=drug,
                genes=genes,
                results=tuple(results),
                severity=_severity(row["severity"], where),
                strength=row["strength"],
                text=row["recommendation"],
                citation=_citation(row),
                source=row["source"],
            )


def _pairs(folder: Path) -> Iterator[Pair]:
    for where, row in _rows(folder, "guidelines", PAIR_COLUMNS):
        severity = _severity(row["untested"], where)
        yield Pair(row["drug"], row["gene"], row["rxnorm"], severity, row["reason"], _citation(row))


def _rows(folder: Path, name: str, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows of a table with their place; none where a folder does not have the table."""
    path = folder / f"pgx_{name}.csv"
    if not path.is_file():
        return
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        absent = [column for column in columns if column not in (reader.fieldnames or ())]
        if absent:
            raise InputError(f"{path}: missing column {', '.join(absent)}; copy the header of careloop's own table")
        for number, row in enumerate(reader, start=2):
            yield f"{path}, line {number}", row


def _severity(cell: str, where: str) -> Severity:
    if cell not in _SEVERITIES:
        raise InputError(f"{where}: severity must be block, ask, caution or info, got {cell!r}; correct the cell")
    return _SEVERITIES[cell]


def _citation(row: Mapping[str, str]) -> str:
    return f"CPIC guideline {row['year']}, PMID {row['pmid']}"
