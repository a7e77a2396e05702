"""The text tables beside PLINK genotypes: people (.fam, .psam) and variants (.bim, .pvar)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from careloop import InputError
from careloop.genome.files.packed import read_packed
from careloop.genome.genotypes.source import SAMPLES, VARIANTS

FAM_COLUMNS = ("family_id", "sample_id", "father_id", "mother_id", "sex", "phenotype")
BIM_COLUMNS = ("contig", "variant_id", "centimorgan", "position", "alt", "ref")
_NUMBERED_CONTIGS = {"23": "X", "24": "Y", "25": "XY", "26": "MT"}  # PLINK's codes of human chromosomes
_SEXES = {"1": "male", "2": "female", "m": "male", "f": "female", "male": "male", "female": "female"}
_NO_ALLELE = "."


def read_fam(path: Path) -> pl.DataFrame:
    """Read a .fam file to the columns of SAMPLES.

    Raises:
        InputError: no such file, a line without its columns, or two people of one id.
    """
    return samples_table(read_columns(path, FAM_COLUMNS, required=5), path)


def read_bim(path: Path) -> pl.DataFrame:
    """Read a .bim file to the columns of VARIANTS: its allele 1 is `alt`, its allele 2 `ref`, as plink2 reads it.

    Chromosomes 23 to 26 become X, Y, XY (what X and Y share) and MT; an allele `0` becomes `.`, not known.

    Raises:
        InputError: no such file, or a line without its columns or with a position that is no number.
    """
    return variants_table(read_columns(path, BIM_COLUMNS, required=6), path)


def read_columns(path: Path, names: tuple[str, ...], *, required: int, skip_lines: int = 0) -> pl.DataFrame:
    """Read the first columns of a table without header, parted by tabs or spaces, as text.

    Packed tables (.gz, .zst) are parted by tabs.

    Raises:
        InputError: no such file, not readable, or a line with fewer than `required` columns.
    """
    source = path if path.suffix == ".zst" else _parted_by_tabs(read_bytes(path))
    table = _read_csv(path, source, separator="\t", skip_lines=skip_lines)
    if table.is_empty():
        return pl.DataFrame(schema=dict.fromkeys(names, pl.String()))
    table = table.select(
        pl.nth(at).alias(name) if at < table.width else pl.lit(None, pl.String()).alias(name)
        for at, name in enumerate(names)
    )
    short = table.with_row_index("row").filter(pl.any_horizontal(pl.col(names[:required]).is_null()))
    if short.height:
        line = short["row"][0] + 1 + skip_lines
        raise InputError(f"{path}: a line has {required} columns, parted by tabs or spaces; line {line} has fewer")
    return table


def read_lines(path: Path, count: int) -> list[str]:
    """The first lines of a text file, unpacked where it is packed (.gz, .zst).

    Raises:
        InputError: no such file, or not readable.
    """
    table = _read_csv(path, path, separator="\x01", n_rows=count)
    return table.to_series().fill_null("").to_list() if table.width else []


def _read_csv(path: Path, source: Path | bytes, **options: Any) -> pl.DataFrame:
    try:
        return pl.read_csv(
            source,
            has_header=False,
            quote_char=None,
            infer_schema=False,
            truncate_ragged_lines=True,
            raise_if_empty=False,
            **options,
        )
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; it belongs to the genotypes beside it") from None
    except (OSError, pl.exceptions.ComputeError):
        raise InputError(f"{path}: file ends early or is not readable; copy it again") from None


def read_bytes(path: Path) -> bytes:
    """The content of a text file without blank lines at its end, unpacked where it is gzip.

    Raises:
        InputError: no such file, or not readable.
    """
    return read_packed(path, missing="it belongs to the genotypes beside it").rstrip()


def _parted_by_tabs(text: bytes) -> bytes:
    if b" " not in text and b"\r" not in text:
        return text
    return b"\n".join(b"\t".join(line.split()) for line in text.split(b"\n"))


def samples_table(table: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Bring people to the columns of SAMPLES: sex by its code, `0` and `NA` for null.

    Raises:
        InputError: no person, or two of one id.
    """
    columns = {name: pl.col(name) if name in table.columns else pl.lit(None, pl.String()) for name in SAMPLES}
    sex = columns["sex"].str.to_lowercase().replace_strict(_SEXES, default=None, return_dtype=pl.String())
    nobody = [
        pl.when(columns[name].is_in(["0", "NA", ""])).then(None).otherwise(columns[name]).alias(name)
        for name in ("family_id", "father_id", "mother_id")
    ]
    table = table.select(columns["sample_id"].alias("sample_id"), *nobody, sex.alias("sex"))
    return require_unique_samples(table.select(*SAMPLES), path)


def require_unique_samples(samples: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Return the table of people where each has an id of their own.

    Raises:
        InputError: no person, or two of one id.
    """
    if not samples.height:
        raise InputError(f"{path}: no sample in this file; genotypes need at least one")
    first = samples["sample_id"].is_first_distinct()
    if not first.all():
        row, count = int(first.arg_min() or 0) + 1, int((~first).sum())
        raise InputError(
            f"{path}: each sample needs an id of its own; sample {row} has the id of one before it "
            f"({count:,} such); rename them, for example by plink2 --update-ids"
        )
    return samples


def variants_table(table: pl.DataFrame, path: Path, *, first_line: int = 1) -> pl.DataFrame:
    """Bring variants to the columns of VARIANTS: positions as numbers, contigs' codes as names, unknown alleles as `.`.

    `first_line` is the line that the table's first row has in the file, for messages.

    Raises:
        InputError: a position that is no whole number.
    """
    unread = table.with_row_index("row").with_columns(read=pl.col("position").cast(pl.Int64(), strict=False))
    unread = unread.filter(pl.col("read").is_null() | (pl.col("read") < 0))
    if unread.height:
        raise InputError(f"{path}: a position is a whole number; line {unread['row'][0] + first_line} has another")
    alleles = [
        pl.when(pl.col(name).is_in(["0", ""])).then(pl.lit(_NO_ALLELE)).otherwise(pl.col(name)).alias(name)
        for name in ("ref", "alt")
    ]
    contig = pl.col("contig").replace(_NUMBERED_CONTIGS)
    return table.select(contig, pl.col("position").cast(pl.Int64()), "variant_id", *alleles).select(*VARIANTS)
