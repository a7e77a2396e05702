"""VCF and BCF files of many people: read once when opened, and kept in a temporary file that is read in parts.

Whoever reads a file often turns it into PLINK files first: `careloop genome convert`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.files.builds import UNKNOWN
from careloop.genome.files.htslib import load_pysam
from careloop.genome.files.packed import UNREADABLE, open_packed
from careloop.genome.files.variant_file import Rejects, open_variants
from careloop.genome.files.variant_header import VariantHeader
from careloop.genome.files.variant_lines import BadLineError, LineReader
from careloop.genome.genotypes.formats.alternatives import NO_ALTERNATIVE, one_row_an_allele
from careloop.genome.genotypes.formats.plink1 import VARIANT_MAJOR, Plink1, pack
from careloop.genome.genotypes.formats.plink_tables import samples_table
from careloop.genome.genotypes.formats.vcf_values import SampleColumns
from careloop.genome.genotypes.in_memory import InMemoryGenotypes
from careloop.genome.genotypes.source import VARIANTS, GenotypeSource
from careloop.genome.variant import ANY_OTHER, Record

_FIRST_COLUMNS = 8  # CHROM to INFO
_LINES_AT_ONCE = 256


class Vcf:
    """An open VCF or BCF file, as `GenotypeSource` describes it: one row an alternative allele.

    Where the header declares DS, dosages are DS, or GT where DS is missing (or GP, where it declares GP alone), and a
    genotype is the call nearest to it; else GT is both. A genotype of one copy counts twice. A genotype with an unknown
    allele is missing. `rejects` are the lines that were not read.
    """

    def __init__(self, path: Path, kept: GenotypeSource, folder: TemporaryDirectory[str], rejects: Rejects) -> None:
        self.path = path
        self.samples = kept.samples
        self.variants = kept.variants
        self.build = kept.build
        self.hard_calls = kept.hard_calls
        self.rejects = rejects
        self._kept = kept
        self._folder = folder  # removed when nobody holds it

    def genotypes(
        self, variants: NDArray[np.int64] | slice, samples: NDArray[np.int64] | None = None
    ) -> NDArray[np.int8]:
        """Copies of `alt`: (variants, samples) of 0, 1, 2 or `MISSING`.

        Raises:
            InputError: rows outside the tables, or variants that are not ascending.
        """
        return self._kept.genotypes(variants, samples)

    def dosages(
        self, variants: NDArray[np.int64] | slice, samples: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Expected copies of `alt`: (variants, samples) from 0 to 2, NaN where missing.

        Raises:
            InputError: as `genotypes`.
        """
        return self._kept.dosages(variants, samples)


def open_vcf(path: Path) -> Vcf:
    """Read a VCF or BCF file whole. Lines that cannot be read are left out and counted in `rejects`.

    Raises:
        InputError: as `open_variants`, or the file has no sample, or ends early.
    """
    header = open_variants(path).header
    if not header.samples:
        raise InputError(f"{path}: no sample in this file; genotypes need at least one")
    reading = _Reading(path, header, Rejects())
    folder = TemporaryDirectory(prefix="careloop-genotypes-")
    values = Path(folder.name) / "values"
    with values.open("wb") as file:
        file.write(b"" if reading.dosages else VARIANT_MAJOR)
        for block in reading.blocks():
            file.write((block if reading.dosages else pack(block)).data)
    return Vcf(path, reading.source(values), folder, reading.rejects)


@dataclass
class _Reading:
    """A pass over a file: what it found so far. `sites` have contig, position, id, REF and the list of ALT."""

    path: Path
    header: VariantHeader
    rejects: Rejects
    sites: list[tuple[str, int, str, str, list[str]]] = field(default_factory=list)

    @property
    def dosages(self) -> bool:
        """Whether dosages are kept, else genotypes."""
        formats = self.header.formats
        return "DS" in formats or ("GP" in formats and "GT" not in formats)

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Yield the rows of some lines at once: (alternatives, samples)."""
        waiting: list[NDArray[Any]] = []
        for rows in self._rows():
            waiting.append(rows)
            if len(waiting) == _LINES_AT_ONCE:
                yield np.concatenate(waiting)
                waiting = []
        if waiting:
            yield np.concatenate(waiting)

    def _rows(self) -> Iterator[NDArray[Any]]:
        sites = LineReader(self.header.with_samples(()))
        for number, line in enumerate(_lines(self.path), start=1):
            try:
                columns = line.rstrip(b"\r\n").split(b"\t", _FIRST_COLUMNS + 1)
                record = sites.record(b"\t".join(columns[:_FIRST_COLUMNS]).decode("utf-8", errors="replace"))
                if len(columns) < _FIRST_COLUMNS + 2:
                    raise BadLineError("number of columns is not the header's")
                rows = self._values(record, *columns[_FIRST_COLUMNS:])
            except BadLineError as bad:
                self.rejects.add(f"record {number}", str(bad))
                continue
            self.sites.append(
                (record.contig, record.start + 1, record.identifier or ".", record.ref, list(record.alts))
            )
            yield rows

    def _values(self, record: Record, keys: bytes, text: bytes) -> NDArray[Any]:
        alternatives = max(len(record.alts), 1)
        columns = SampleColumns(text, keys.split(b":"), samples=len(self.header.samples), alternatives=alternatives)
        values = columns.dosages() if self.dosages else columns.copies()
        named = [alt not in ANY_OTHER for alt in record.alts or (NO_ALTERNATIVE,)]
        return values[np.array(named)]

    def source(self, values: Path) -> GenotypeSource:
        """What was read, its values being in a file."""
        samples = samples_table(pl.DataFrame({"sample_id": list(self.header.samples)}), self.path)
        sites = pl.DataFrame(self.sites, schema={**VARIANTS, "alt": pl.List(pl.String())}, orient="row")
        variants, _ = one_row_an_allele(sites)
        build = None if self.header.build == UNKNOWN else self.header.build
        if not self.dosages:
            kept = Plink1(values, samples, variants)
            kept.build = build
            return kept
        shape = (variants.height, samples.height)
        mapped = (
            np.memmap(values, np.float32, mode="r", shape=shape) if variants.height else np.empty(shape, np.float32)
        )
        return InMemoryGenotypes(samples, variants, mapped, build=build)


def _lines(path: Path) -> Iterator[bytes]:
    """The records of a VCF or BCF file as lines of text."""
    try:
        with closing(open_packed(path)) as file:
            if file.read(3) != b"BCF":
                file.seek(0)
                yield from (line for line in file if not line.startswith(b"#") and line.strip())
                return
        with load_pysam().VariantFile(str(path)) as binary:
            for record in binary:
                yield str(record).encode()
    except (*UNREADABLE, ValueError):
        raise InputError(f"{path}: file ends early or is not readable; copy or make it again") from None
