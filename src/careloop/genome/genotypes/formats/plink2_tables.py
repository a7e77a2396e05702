"""The text tables beside PLINK 2 genotypes: people (.psam) and variants (.pvar, .pvar.zst).

Source: plink2's file formats, sections .psam and .pvar.
"""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path

import polars as pl

from careloop import InputError
from careloop.genome.files.builds import UNKNOWN, detect_build
from careloop.genome.genotypes.formats.plink_tables import (
    BIM_COLUMNS,
    FAM_COLUMNS,
    read_bytes,
    read_columns,
    read_lines,
    samples_table,
    variants_table,
)

_PSAM = {"FID": "family_id", "IID": "sample_id", "PAT": "father_id", "MAT": "mother_id", "SEX": "sex"}
_PVAR = {"CHROM": "contig", "POS": "position", "ID": "variant_id", "REF": "ref", "ALT": "alt"}

_CONTIG = re.compile(r"##contig=<ID=([^,>]+).*")
_LENGTH = re.compile(r"length=(\d+)")
_HEADER_LINES = 1_000


def read_psam(path: Path) -> pl.DataFrame:
    """Read a .psam file, or one without header in the columns of a .fam, to the columns of SAMPLES.

    Raises:
        InputError: no such file, no column IID, a line without its columns, or two people of one id.
    """
    lines = read_bytes(path).decode("utf-8", errors="replace").split("\n")
    skipped = next((at for at, line in enumerate(lines) if not line.startswith("##")), len(lines))
    header = lines[skipped] if skipped < len(lines) else ""
    if not header.startswith("#"):
        return samples_table(read_columns(path, FAM_COLUMNS, required=5, skip_lines=skipped), path)
    names = header.lstrip("#").split()
    if "IID" not in names:
        raise InputError(f"{path}: a .psam file has a column #IID or IID; this one has {', '.join(names[:10])}")
    table = read_columns(path, tuple(names), required=len(names), skip_lines=skipped + 1)
    return samples_table(table.select(pl.col(name).alias(_PSAM[name]) for name in names if name in _PSAM), path)


def read_pvar(path: Path) -> tuple[pl.DataFrame, str | None]:
    """Read a .pvar file (also .zst) to sites and the assembly that its header tells.

    Sites have the columns of VARIANTS, `alt` as a list of alleles: empty where the site has no alternative.

    Raises:
        InputError: no such file, a line without its columns or with a position that is no number.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; it belongs to the genotypes beside it")
    header = _header_lines(path)
    columns = header[-1].lstrip("#").split() if header and not header[-1].startswith("##") else []
    if columns and set(_PVAR) - set(columns):
        raise InputError(f"{path}: a .pvar file has columns {', '.join(_PVAR)}; this one has {', '.join(columns)}")
    if columns:
        names = tuple(_PVAR.get(name, name) for name in columns[: columns.index("ALT") + 1])
        table = read_columns(path, names, required=len(names), skip_lines=len(header))
    else:
        table = _without_header(path, skip_lines=len(header))
    table = variants_table(table, path, first_line=len(header) + 1)
    build = detect_build(_contigs(header), words=header, where=str(path))
    alternatives = pl.col("alt").str.split(",").list.filter(pl.element() != ".")
    return table.with_columns(alternatives), None if build == UNKNOWN else build


def _without_header(path: Path, *, skip_lines: int) -> pl.DataFrame:
    """The columns of a .bim, with or without centimorgans."""
    table = read_columns(path, BIM_COLUMNS, required=5, skip_lines=skip_lines)
    if table["ref"].null_count():
        without = tuple(name for name in BIM_COLUMNS if name != "centimorgan")
        return read_columns(path, without, required=5, skip_lines=skip_lines)
    return table


def _header_lines(path: Path) -> list[str]:
    """The lines that begin with `#`."""
    asked = _HEADER_LINES
    while True:
        lines = read_lines(path, asked)
        header = list(takewhile(lambda line: line.startswith("#"), lines))
        if len(header) < len(lines) or len(lines) < asked:
            return header
        asked *= 10


def _contigs(header: list[str]) -> dict[str, int | None]:
    """Contigs with their lengths, as in the header of a VCF."""
    found = (_CONTIG.match(line) for line in header)
    lengths = {match[1]: _LENGTH.search(match[0]) for match in found if match}
    return {name: int(length[1]) if length else None for name, length in lengths.items()}
