"""Score files read: PGS Catalog scoring files (harmonised or not), and plain tables of weights.

Source: PGS Catalog scoring file format 2.0, https://www.pgscatalog.org/downloads/#dl_ftp_scoring; harmonised columns
(hm_*) as in its section on harmonized files. Lambert et al., Nat Genet 2021;53:420.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from careloop import InputError
from careloop.genome.files.packed import read_packed
from careloop.genome.risk.scores.reading.columns import WITHOUT_HEADER, has_no_header, recognise
from careloop.genome.risk.scores.reading.rows import score_rows
from careloop.ingest.assemblies import builds_in_words

_NULLS = ["", "NA", "N/A", "nan", "NaN", "null", "None", "."]
_OLD_BUILDS = ("ncbi36", "hg18", "ncbi35", "hg17")


@dataclass(frozen=True)
class ScoreFile:
    """A score's weights. `variants` has the columns of `SCORE_VARIANTS`, `rejects` those of `REJECTS`.

    `build` is the assembly of the positions that were taken (None where the file does not say); `header` the lines
    `#key=value`; `notes` what was taken for what, and what a user should know, in words.
    """

    path: Path
    name: str
    build: str | None
    header: Mapping[str, str]
    variants: pl.DataFrame
    rejects: pl.DataFrame
    notes: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Rows of the file."""
        return self.variants.height + self.rejects.height


def read_pgs(path: str | Path, *, build: str | None = None) -> ScoreFile:
    """Read a score file, plain or gzip; parted by tabs, commas or blanks.

    `build` is the genotypes' assembly: of two sets of positions (the author's and the harmonised ones), those on it are
    taken; the harmonised ones where neither or both are. A table without header is taken as id, effect allele, weight.
    Rows that cannot be scored are in `rejects` with their line and reason.

    Raises:
        InputError: no such file, not readable, or without a column of effect alleles, weights, or ids or positions.
    """
    path = Path(path)
    header, first_line, text = _read(path)
    first = text[: text.find(b"\n") + 1 or None].decode("utf-8", "replace").rstrip("\r\n")
    separator = next((mark for mark in ("\t", ",") if mark in first), None)
    if separator is None:
        separator, text = "\t", b"\n".join(b"\t".join(line.split()) for line in text.splitlines())
    names = first.split(separator) if separator in first else first.split()
    headless = has_no_header(names)
    raw = _table(text, separator, headless, path)
    known = dict(zip(WITHOUT_HEADER, raw.columns, strict=False)) if headless else recognise(raw.columns)
    _require(known, path)
    rows = raw.select(pl.col(theirs).alias(ours) for ours, theirs in known.items())
    taken, place_note = _place(known, header, build)
    variants, rejects = score_rows(rows, taken.columns, first_line + (0 if headless else 1))
    notes = [f"no header: the columns are taken as {', '.join(WITHOUT_HEADER)}"] if headless else []
    notes += [place_note] if place_note else []
    if header.get("weight_type", "").lower() in ("or", "hr", "odds ratio", "hazard ratio"):
        notes.append(f"weight_type is {header['weight_type']}: weights are added up as they are written, not as logs")
    return ScoreFile(path, _name(path, header), taken.build, header, variants, rejects, tuple(notes))


def _read(path: Path) -> tuple[dict[str, str], int, bytes]:
    """The header, the number of the first line behind it, and all from there on."""
    header: dict[str, str] = {}
    content = read_packed(path)
    at, line = 0, 1
    while content[at : at + 1] == b"#" and content[at : at + 6].upper() != b"#CHROM":
        end = content.find(b"\n", at) + 1 or len(content)
        key, equals, value = content[at:end].decode("utf-8", "replace").lstrip("#").partition("=")
        if equals:
            header[key.strip()] = value.strip()
        at, line = end, line + 1
    if not content[at:].strip():
        raise InputError(f"{path}: no row of weights in this file; a score file has one row a variant")
    return header, line, content[at:]


def _table(text: bytes, separator: str, headless: bool, path: Path) -> pl.DataFrame:
    try:
        return pl.read_csv(
            io.BytesIO(text),
            separator=separator,
            has_header=not headless,
            infer_schema=False,
            null_values=_NULLS,
            quote_char=None,
            truncate_ragged_lines=True,
        )
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path}: not a table of weights ({type(error).__name__}); export it again") from None


def _require(known: Mapping[str, str], path: Path) -> None:
    by_dosage = {"weight_0", "weight_1", "weight_2"} <= known.keys()
    placed = known.keys() & {"variant_id", "hm_variant_id", "position", "hm_position"}
    needed = {"effect_allele": "effect_allele" in known, "effect_weight": "weight" in known or by_dosage}
    needed["rsID or chr_name and chr_position"] = bool(placed)
    absent = [name for name, there in needed.items() if not there]
    if absent:
        raise InputError(f"{path}: a score file needs a column {absent[0]}; name it as the PGS Catalog does")


@dataclass(frozen=True)
class _Place:
    """Which columns say where variants are, and on which assembly."""

    columns: tuple[str, str]
    build: str | None


def _place(known: Mapping[str, str], header: Mapping[str, str], wanted: str | None) -> tuple[_Place, str]:
    """The positions to take: the harmonised ones, unless only the author's are on the genotypes' assembly."""
    authors = _Place(("chromosome", "position"), _build(header.get("genome_build", "")))
    if "hm_position" not in known:
        return authors, ""
    harmonised = _Place(("hm_chromosome", "hm_position"), _build(header.get("HmPOS_build", "")))
    if wanted is not None and authors.build == wanted != harmonised.build and "position" in known:
        return authors, f"the author's positions are taken, since they are on {wanted} as the genotypes are"
    return harmonised, ""


def _build(text: str) -> str | None:
    found = builds_in_words(text)
    if found:
        return found[0]
    return text if text.lower() in _OLD_BUILDS else None


def _name(path: Path, header: Mapping[str, str]) -> str:
    """The Catalog's id, or the file's name; without blanks and slashes, so that it can name a column and a code."""
    found = header.get("pgs_id", "") or re.sub(r"\.(gz|txt|tsv|csv|score|tab)(?=\.|$)", "", path.name)
    return re.sub(r"[\s/*]+", "_", found)
