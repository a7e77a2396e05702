"""CPIC's guidelines as tables: which genes a drug asks for, and what is recommended for a result.

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
from typing import Literal

from careloop import InputError
from careloop.genome.pharmacogenes.phenotypes import CONFLICT, INDETERMINATE, NOT_INDICATED, TABLES, Genotype, carrier

Severity = Literal["block", "ask", "caution", "info"]
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

    def matching(
        self, drug: str, genotypes: Mapping[str, Genotype]
    ) -> Iterator[tuple[Recommendation, list[Genotype | None]]]:
        """The recommendations on a drug that a patient's results lead to, each with the results of its genes."""
        for genes, rules in self.rules_by_drug.get(drug, {}).items():
            known = [known_result(gene, genotypes) for gene in genes]
            choices = product(*(_names_of(result) for result in known))
            rule = next((rules[names] for names in choices if names in rules), None)
            if rule is not None:
                yield rule, known

    @cached_property
    def _names(self) -> re.Pattern[str]:
        drugs = {pair.drug for pair in self.pairs} | set(self.rules_by_drug)
        names = sorted(drugs | set(_SYNONYMS), key=len, reverse=True)
        return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, names))})(?![\w-])", re.IGNORECASE)


def known_result(gene: str, genotypes: Mapping[str, Genotype]) -> Genotype | None:
    """What is known of a gene, or of one HLA allele (`HLA-B*57:01`); None where nothing is."""
    return carrier(gene, genotypes) if "*" in gene else genotypes.get(gene)


def _names_of(result: Genotype | None) -> tuple[str, ...]:
    """Under which names recommendations may know a result; an unclear one counts as untested where they do not."""
    if result is None or result.phenotype == NOT_INDICATED:
        return (UNTESTED,)
    if result.phenotype in (INDETERMINATE, CONFLICT):
        return (INDETERMINATE, UNTESTED)
    return result.results


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


def _recommendations(folder: Path, name: str) -> Iterator[Recommendation]:
    for where, row in table_rows(folder, name, RULE_COLUMNS):
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
    for where, row in table_rows(folder, "guidelines", PAIR_COLUMNS):
        severity = _severity(row["untested"], where)
        yield Pair(row["drug"], row["gene"], row["rxnorm"], severity, row["reason"], _citation(row))


def table_rows(folder: Path, name: str, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
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
