"""Tables with one row a person and one column a score, principal component, gene's burden or variant's dosage."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import polars as pl

from careloop import InputError
from careloop.genome.association.people.person_table import read_person_table

Kind = Literal["score", "pc", "burden", "dosage"]
SAMPLE = "sample_id"
# What plink2's .sscore, .eigenvec and .raw and plink1.9's .profile have beside the values, in lower case.
NOT_VALUES = {
    *("fid", "#fid", "sid", "#sid", "pat", "mat", "sex", "phenotype", "pheno", "pheno1", "cnt", "cnt2", "denom"),
    *("allele_ct", "nmiss_allele_ct", "named_allele_dosage_sum", "family_id", "father_id", "mother_id"),
}
COUNTING = re.compile(r"n_.+|.+_(n|sum_weights|variants)")
COMPONENT = re.compile(r"pc[_ ]?0*([1-9]\d*)", re.IGNORECASE)
NAME = re.compile(r"[^\s/*](?:/?[^\s/*])*")  # no blanks, no `*` and no `//`, which part codes and begin patterns


def read_score_table(path: Path, *, kind: Kind, columns: Sequence[str] = ()) -> pl.DataFrame:
    """Read a table: `sample_id` and the columns to record (all text), under the names that their codes will have.

    Files are those of `read_person_table`, such as plink2's .sscore and .eigenvec. `columns` are `NAME` or
    `NAME=NEW NAME`. Without them all that have numbers are taken, but those that say who somebody is or how many
    variants were counted; of kind `pc` those called PC1, PC2 and so on, which become 1, 2.

    Raises:
        InputError: as `read_person_table`; no column to record, or a name that no code can have.
    """
    table = read_person_table(path).rows
    wanted = _asked(columns, table, path) if columns else _found(table.drop(SAMPLE), kind)
    if not wanted:
        what = "column PC1, PC2 ..." if kind == "pc" else "column of numbers beside those that say who is who"
        raise InputError(f"{path}: there is no {what}; name those to record")
    for new in wanted.values():
        if not NAME.fullmatch(new):
            raise InputError(f"{path}: a name in a code has no blanks, no * and no //, got {new!r}; give NAME=NEWNAME")
    if len(set(wanted.values())) < len(wanted):
        raise InputError(f"{path}: two columns would be recorded under one name; give them new ones by NAME=NEWNAME")
    return table.select(SAMPLE, *(pl.col(old).alias(new) for old, new in wanted.items()))


def _asked(columns: Sequence[str], table: pl.DataFrame, path: Path) -> dict[str, str]:
    parted = [asked.partition("=") for asked in columns]
    wanted = {name: new or name for name, _, new in parted}
    absent = [name for name in wanted if name not in table.columns]
    if absent:
        told = ", ".join(table.columns[:10])
        raise InputError(f"{path}: there is no column {absent[0]}; the table has {told}")
    return wanted


def _found(table: pl.DataFrame, kind: Kind) -> dict[str, str]:
    if kind == "pc":
        parts = {name: COMPONENT.fullmatch(name) for name in table.columns}
        return {name: part[1] for name, part in parts.items() if part}
    others = [c for c in table.columns if c.lower() not in NOT_VALUES and not COUNTING.fullmatch(c)]
    return {name: name for name in others if numbers(table[name]).is_not_null().any()}


def numbers(column: pl.Series) -> pl.Series:
    """The column's finite numbers as Float64, null elsewhere."""
    found = column.cast(pl.Float64, strict=False)
    return found.set(~found.is_finite().fill_null(value=False), None)
