"""Tables with one row a person and one column a score, principal component, gene's burden or variant's dosage."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import polars as pl

from careloop import InputError

Kind = Literal["score", "pc", "burden", "dosage"]
SAMPLE = "sample_id"
SAMPLE_NAMES = (SAMPLE, "iid", "#iid")
# What plink2's .sscore, .eigenvec and .raw and plink1.9's .profile have beside the values, in lower case.
NOT_VALUES = {
    *("fid", "#fid", "sid", "#sid", "pat", "mat", "sex", "phenotype", "pheno", "pheno1", "cnt", "cnt2", "denom"),
    *("allele_ct", "nmiss_allele_ct", "named_allele_dosage_sum", "family_id", "father_id", "mother_id"),
}
COUNTING = re.compile(r"n_.+|.+_(n|sum_weights|variants)")
COMPONENT = re.compile(r"pc[_ ]?0*([1-9]\d*)", re.IGNORECASE)
MISSING_WORDS = ("", "NA", "N/A", "nan", "NaN", "null", ".")
NAME = re.compile(r"[^\s/*](?:/?[^\s/*])*")  # no blanks, no `*` and no `//`, which part codes and begin patterns


def read_score_table(path: Path, *, kind: Kind, columns: Sequence[str] = ()) -> pl.DataFrame:
    """Read a table: `sample_id` (text) and the columns to record, under the names that their codes will have.

    Parquet, or text parted by tabs, commas, semicolons or blanks (plain or gzip); the person's column is `sample_id` or
    `IID`. `columns` are `NAME` or `NAME=NEW NAME`. Without them all that have numbers are taken, but those that say who
    somebody is or how many variants were counted; of kind `pc` those called PC1, PC2 and so on, which become 1, 2.

    Raises:
        InputError: no such file, not a table, no column of samples, none to record, or a name that no code can have.
    """
    table = _read(path)
    sample = next((name for name in table.columns if name.lower() in SAMPLE_NAMES), None)
    if sample is None:
        raise InputError(
            f"{path}: a table of people needs a column sample_id (or IID); its first is {table.columns[0]}"
        )
    wanted = _asked(columns, table, path) if columns else _found(table.drop(sample), kind)
    if not wanted:
        what = "column PC1, PC2 ..." if kind == "pc" else "column of numbers beside those that say who is who"
        raise InputError(f"{path}: there is no {what}; name those to record")
    for new in wanted.values():
        if not NAME.fullmatch(new):
            raise InputError(f"{path}: a name in a code has no blanks, no * and no //, got {new!r}; give NAME=NEWNAME")
    if len(set(wanted.values())) < len(wanted):
        raise InputError(f"{path}: two columns would be recorded under one name; give them new ones by NAME=NEWNAME")
    return table.select(pl.col(sample).cast(pl.String).alias(SAMPLE), *(pl.col(a).alias(b) for a, b in wanted.items()))


def _read(path: Path) -> pl.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path)
        return _read_text(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: not a readable table ({type(error).__name__}); export it again") from None


def _read_text(path: Path) -> pl.DataFrame:
    """All cells as text, so that one that is no number can be told from one that is missing."""
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        import gzip

        content = gzip.decompress(content)
    text = content.decode("utf-8-sig")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("##")]
    if not lines:
        raise InputError(f"{path}: the table is empty; export it again")
    parted_by = next((mark for mark in ("\t", ",", ";") if mark in lines[0]), None)
    if parted_by is None:  # plink pads columns with blanks
        parted_by, lines = "\t", ["\t".join(line.split()) for line in lines]
    joined = io.BytesIO("\n".join(lines).encode())
    return pl.read_csv(joined, separator=parted_by, infer_schema=False, null_values=list(MISSING_WORDS))


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
