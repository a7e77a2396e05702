"""Traits and covariates of the people in a genotype file, from tables by sample id; how they were read is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.association.people.covariates import numbers, read_covariates
from careloop.genome.association.people.person_table import LISTED, PersonTable, read_person_table
from careloop.genome.association.regression.design import Trait

CODINGS: tuple[tuple[frozenset[str], str, str], ...] = (
    (frozenset({"1", "2"}), "2", "2 is a case, 1 a control (PLINK's coding)"),
    (frozenset({"0", "1"}), "1", "1 is a case, 0 a control"),
    (frozenset({"control", "case"}), "case", "case and control"),
    (frozenset({"false", "true"}), "true", "true is a case"),
    (frozenset({"no", "yes"}), "yes", "yes is a case"),
    (frozenset({"unaffected", "affected"}), "affected", "affected is a case"),
)


@dataclass(frozen=True)
class Phenotypes:
    """One trait and its covariates: `people` are rows of the source's samples, in the order of all arrays (n,).

    A binary trait is 1 for cases and 0 for controls. `notes` say how columns were read, `left_out` counts people of
    the genotype file, or of the tables, who are not analysed, by reason.
    """

    people: NDArray[np.int64]
    trait: NDArray[np.float64]
    kind: Trait
    covariates: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    name: str = "trait"
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class PhenotypeRequest:
    """Which columns are the trait and covariates.

    `trait` may be left out where the table has one column beside ids. `covariates` are names, also ranges such as
    PC1-PC10, from the covariate tables, the phenotype table, or `sex` from the genotype file; with covariate tables and
    no names, all their columns. `kind` overrides what is recognised.
    """

    trait: str | None = None
    covariate_tables: Sequence[Path] = ()
    covariates: Sequence[str] = ()
    kind: Literal["auto", "quantitative", "binary"] = "auto"


def read_phenotypes(path: Path, samples: pl.DataFrame, *, request: PhenotypeRequest = PhenotypeRequest()) -> Phenotypes:
    """Read a trait and covariates of the people in `samples` (columns of `genotypes.source.SAMPLES`).

    Text, .csv and .parquet tables with a column of sample ids (`sample_id`, `IID`, ...). Whoever lacks the trait or a
    covariate is left out and counted. Text covariates become a 0/1 column for each value but the most frequent.

    Raises:
        InputError: no such column, ids that repeat, a value that is no number, a trait that is not of `kind`.
    """
    table = read_person_table(path)
    name = _trait_name(table, request.trait)
    people = table.matched(samples)
    text = people[name]
    kind, trait, notes = _trait(text, name, request.kind)
    known = np.isfinite(trait)
    left_out = {
        "in the table, not in the genotypes": table.rows.height - int(people[LISTED].sum()),
        "in the genotypes, not in the table": int((~people[LISTED]).sum()),
        "without the trait": int((~known & people[LISTED].to_numpy()).sum()),
    }
    covariates, more = read_covariates(table, samples, tables=request.covariate_tables, names=request.covariates)
    if name in covariates:
        raise InputError(f"{path}: {name} is the trait and cannot be a covariate too")
    complete = known.copy()
    for values in covariates.values():
        complete &= np.isfinite(values)
    left_out["without a covariate"] = int((known & ~complete).sum())
    return Phenotypes(
        np.flatnonzero(complete),
        trait[complete],
        kind,
        {each: values[complete] for each, values in covariates.items()},
        name,
        (*notes, *more),
        {reason: count for reason, count in left_out.items() if count},
    )


def _trait_name(table: PersonTable, asked: str | None) -> str:
    columns = table.columns
    if asked is None and len(columns) == 1:
        return columns[0]
    if asked is None or asked not in columns:
        problem = "name the trait" if asked is None else f"no column {asked!r}"
        raise InputError(f"{table.path}: {problem}; the columns are {', '.join(columns[:20]) or 'ids only'}")
    return asked


def _trait(text: pl.Series, name: str, asked: str) -> tuple[Trait, NDArray[np.float64], tuple[str, ...]]:
    """The kind of trait, its values (NaN where missing), and how they were read."""
    plain = text.str.to_lowercase().str.replace(r"^([+-]?\d+)\.0*$", "$1")
    values = frozenset(plain.drop_nulls().unique().to_list())
    for codes, case, words in CODINGS if asked != "quantitative" else ():
        missing = {"-9"} | ({"0"} if codes == {"1", "2"} else set())
        if values - missing == codes:
            trait = plain.replace_strict({code: float(code == case) for code in codes}, default=None)
            cases, controls = int((trait == 1).sum()), int((trait == 0).sum())
            gone = int(plain.is_in(list(missing)).sum())
            said = f"{name} is case/control: {words}; {cases:,} cases, {controls:,} controls"
            missed = f"; {gone:,} coded {' or '.join(sorted(missing & values))} are missing" if gone else ""
            return "binary", trait.cast(pl.Float64).fill_null(np.nan).to_numpy(), (said + missed,)
    if asked == "binary":
        raise InputError(f"{name} must be case/control, as 1/2, 0/1 or case/control; it has {len(values):,} values")
    values_found, notes = numbers(text, name)
    return "quantitative", values_found, (f"{name} is quantitative", *notes)
