"""How a record holds genotypes, and one patient's genotypes read from it.

| code | value |
| --- | --- |
| `PGX//GENE//DIPLOTYPE` | text_value `*1/*4`; for HLA the two typed alleles, `*57:01/*07:02` |
| `PGX//GENE//PHENOTYPE` | text_value CPIC's term, or `testing not indicated`; GENE may be an allele: `HLA-B*57:01` |
| `PGX//GENE//ACTIVITY_SCORE` | numeric_value, or text_value |
| `LOINC//84413-4` (genotype display name, the FHIR genomics reporting guide's Genotype) | text_value `CYP2C9 *2/*5` |
| `LOINC//79714-2` and others (gene product metabolic activity interpretation) | text_value `Poor metabolizer` |
| `LOINC//50956-2`, `LOINC//57979-7` (presence of HLA-B*57:01, of HLA-B*15:02) | text_value `Positive` |

The texts of LOINC's answers are what careloop's FHIR reader stores (the coding's display). A germline genotype holds
for life, so results do not age; results that contradict each other settle nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

import polars as pl

from careloop import InputError
from careloop.genome.pharmacogenes.phenotypes import (
    CONFLICT,
    INDETERMINATE,
    NOT_INDICATED,
    Genotype,
    genotype,
    of_score,
)
from careloop.record.history import KEYS, history

Key = tuple[int, datetime]

PREFIX = "PGX//"
DIPLOTYPE, PHENOTYPE, ACTIVITY_SCORE = "DIPLOTYPE", "PHENOTYPE", "ACTIVITY_SCORE"
GENOTYPE_NAME = "LOINC//84413-4"
INTERPRETATIONS = {
    "LOINC//79713-4": "TPMT",
    "LOINC//79714-2": "CYP2C19",
    "LOINC//79715-9": "CYP2D6",
    "LOINC//79716-7": "CYP2C9",
    "LOINC//79719-1": "DPYD",
    "LOINC//50956-2": "HLA-B*57:01",
    "LOINC//57979-7": "HLA-B*15:02",
}
FIRM = 3  # how telling a result is that settles the phenotype
_NAMED = re.compile(r"([A-Z][A-Z0-9-]+)(?:[\s:]+|(?=\*))(.+)")  # `CYP2C9 *2/*5`, `CYP2C9*2/*5`


def genotype_code(gene: str, kind: str = DIPLOTYPE) -> str:
    """The event code of a gene's result; `kind` is DIPLOTYPE, PHENOTYPE or ACTIVITY_SCORE."""
    return f"{PREFIX}{gene}//{kind}"


def genotypes_of(events: pl.DataFrame) -> dict[str, Genotype]:
    """The genotypes of one patient by gene, from the events known by one prediction time (`careloop.record.history`).

    Raises InputError if the events are of several patients.
    """
    if events["subject_id"].n_unique() > 1:
        raise InputError("genotypes are read for one patient at a time; filter the history to one subject_id")
    coded = pl.col("code")
    mine = coded.str.starts_with(PREFIX) | coded.is_in([GENOTYPE_NAME, *INTERPRETATIONS])
    results: dict[str, list[Genotype]] = defaultdict(list)
    for code, text, number in events.filter(mine).select("code", "text_value", "numeric_value").iter_rows():
        result = _read(code, (text or "").strip(), number)
        if result is not None:
            results[result.gene].append(result)
    return {gene: _agreed(found) for gene, found in results.items()}


def patient_genotypes(events: pl.LazyFrame, prediction_times: pl.DataFrame) -> dict[Key, dict[str, Genotype]]:
    """The genotypes of each (subject_id, prediction_time) that has any, from `events` (uncut) as known by then."""
    coded = pl.col("code")
    mine = coded.str.starts_with(PREFIX) | coded.is_in([GENOTYPE_NAME, *INTERPRETATIONS])
    known = history(events.filter(mine), prediction_times).sort(*KEYS, "code").collect()
    return {(subject, time): genotypes_of(own) for (subject, time), own in known.group_by(KEYS, maintain_order=True)}


def _read(code: str, text: str, number: float | None) -> Genotype | None:
    if code.startswith(PREFIX):
        gene, _, kind = code.removeprefix(PREFIX).partition("//")
        if kind == ACTIVITY_SCORE and number is not None:
            return of_score(gene, number)
        if kind == ACTIVITY_SCORE and re.fullmatch(r"\d+(\.\d+)?", text):
            return of_score(gene, float(text))
        return genotype(gene, text) if text else None
    if code == GENOTYPE_NAME:
        named = _NAMED.fullmatch(text)
        return genotype(named[1], named[2]) if named else None
    return genotype(INTERPRETATIONS[code], text) if text else None


def _agreed(results: Sequence[Genotype]) -> Genotype:
    """One result of several: the most telling, unless another that is as firm contradicts it."""
    told = sorted(results, key=lambda each: (_telling(each), each.recorded), reverse=True)
    phenotypes = {each.phenotype for each in told if _telling(each) >= FIRM}
    typings = {tuple(sorted(each.alleles)) for each in told if each.alleles}
    if len(phenotypes) > 1 or len(typings) > 1:
        return Genotype(told[0].gene, CONFLICT, ", ".join(dict.fromkeys(each.recorded for each in told)))
    return told[0]


def _telling(result: Genotype) -> int:
    """4 a phenotype with activity score, 3 a phenotype, 2 a typing or `variable`, 1 a decision not to test, else 0."""
    if result.alleles or result.phenotype.endswith("Variable"):
        return 2
    if result.phenotype.endswith(INDETERMINATE):
        return 0
    return 1 if result.phenotype == NOT_INDICATED else FIRM + (result.score is not None)
