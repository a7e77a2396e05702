"""A table with one row a person, as programs of genetics and of everybody write it: text by sample id."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from careloop import InputError
from careloop.genome.association.summary_statistics import NULLS

IDS = ("sample_id", "#IID", "IID", "sample", "id", "ID", "eid", "subject_id")  # the first of these is taken
LISTED = "_listed"  # column of `PersonTable.matched`
NOT_TRAITS = ("#FID", "FID", "family_id", "SID")


@dataclass(frozen=True)
class PersonTable:
    """`rows` has `sample_id` and the other columns, all text, null where missing; ids are unique."""

    path: Path
    rows: pl.DataFrame

    @property
    def columns(self) -> list[str]:
        """All but ids."""
        return [name for name in self.rows.columns if name != "sample_id"]

    def matched(self, samples: pl.DataFrame) -> pl.DataFrame:
        """The rows in the order of `samples`, null where somebody is not in the table; `LISTED` tells who is.

        Raises:
            InputError: nobody is.
        """
        rows = self.rows.with_columns(pl.lit(True).alias(LISTED))
        joined = samples.select("sample_id").join(rows, on="sample_id", how="left", maintain_order="left")
        if not joined[LISTED].any():
            raise InputError(
                f"{self.path}: none of its {rows.height:,} ids is among the {samples.height:,} of the genotypes; "
                "give ids as the genotype file has them"
            )
        return joined.with_columns(pl.col(LISTED).fill_null(False))


def read_person_table(path: Path) -> PersonTable:
    """Read .parquet, .csv, or text parted by tabs or spaces, with a header; `#` before it is no part of names.

    Raises:
        InputError: the file cannot be read, has no column of ids, or an id twice.
    """
    path = Path(path)
    try:
        rows = pl.read_parquet(path) if path.suffix == ".parquet" else _read_text(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: this table cannot be read: {str(error).splitlines()[0]}") from error
    ids = next((name for name in IDS if name in rows.columns), None)
    if ids is None:
        raise InputError(
            f"{path}: a column of sample ids is needed ({', '.join(IDS[:5])}); the columns are "
            f"{', '.join(rows.columns[:20])}"
        )
    rows = rows.drop([name for name in NOT_TRAITS if name in rows.columns]).rename({ids: "sample_id"})
    rows = rows.select(pl.all().cast(pl.String)).filter(pl.col("sample_id").is_not_null())
    repeated = rows.height - rows["sample_id"].n_unique()
    if repeated:
        raise InputError(f"{path}: each person has one row; {repeated:,} ids stand there again; leave one row of each")
    rows = rows.with_columns(pl.when(pl.all().is_in(NULLS)).then(None).otherwise(pl.all()).name.keep())
    return PersonTable(path, rows)


def _read_text(path: Path) -> pl.DataFrame:
    with path.open(encoding="utf-8") as file:
        header = next((line for line in file if not line.startswith("##")), "")
    if "\t" in header or "," in header:
        separator = "\t" if "\t" in header else ","
        return pl.read_csv(path, separator=separator, infer_schema=False, comment_prefix="##")
    names = header.split()
    if not names:
        raise InputError(f"{path}: the table is empty; a header and a row a person are needed")
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    lines = [line for line in lines if not line[0].startswith("##")][1:]
    odd = next((line for line in lines if len(line) != len(names)), None)
    if odd is not None:
        raise InputError(
            f"{path}: every row needs {len(names)} fields as the header; row {lines.index(odd) + 1} has {len(odd)}"
        )
    return pl.DataFrame(lines, schema=dict.fromkeys(names, pl.String), orient="row")
