"""A genotype file opened by its name and content, whichever format it is in."""

from __future__ import annotations

import re
from pathlib import Path

from careloop import InputError
from careloop.genome.genotypes.source import GenotypeSource

_PLINK2_TABLE = re.compile(r"\.(psam|pvar|pvar\.zst)$", re.IGNORECASE)
_PREFIXED = (".bed", ".pgen", ".bgen")  # what may be given by its prefix
_ASKED = "give PLINK 1 (.bed), PLINK 2 (.pgen), BGEN, VCF, BCF or VCF-Zarr (.vcz, .zarr)"


def open_genotypes(path: str | Path, *, sample_file: Path | None = None) -> GenotypeSource:
    """Open genotypes of many people: PLINK 1 or 2 (any of the three files or their prefix), BGEN, VCF, BCF or VCF-Zarr.

    What is counted is `alt`: allele 1 of a .bim, the second allele of a BGEN file, ALT elsewhere. `sample_file` is the
    .sample file of a BGEN file where it does not lie beside it.

    Raises:
        InputError: no such file, none of these formats, a file that is cut off or does not fit those beside it, two
            people of one id.
    """
    path = Path(path)
    found = _found(path)
    suffix = found.suffix.lower()
    if suffix == ".bed":
        from careloop.genome.genotypes.formats.plink1 import open_plink1

        return open_plink1(found)
    if suffix == ".pgen":
        from careloop.genome.genotypes.formats.plink2 import open_plink2

        return open_plink2(found)
    if suffix == ".bgen":
        from careloop.genome.genotypes.formats.bgen import open_bgen

        return open_bgen(found, sample_file=sample_file)
    if suffix in (".vcz", ".zarr", ".zip") or found.is_dir():
        from careloop.genome.genotypes.formats.vcf_zarr import open_vcf_zarr

        return open_vcf_zarr(found)
    if found.name.lower().endswith((".vcf", ".vcf.gz", ".vcf.bgz", ".bcf")):
        from careloop.genome.genotypes.formats.vcf import open_vcf

        return open_vcf(found)
    raise InputError(f"{path}: not a genotype file that can be read; {_ASKED}")


def _found(path: Path) -> Path:
    """The file with the genotypes: itself, or that of a PLINK prefix or of a table beside it."""
    if path.suffix.lower() in (".bim", ".fam"):
        return path.with_suffix(".bed")
    if table := _PLINK2_TABLE.search(path.name):
        return path.with_name(path.name[: table.start()] + ".pgen")
    if path.exists():
        return path
    beside = [path.with_name(path.name + ending) for ending in _PREFIXED]
    there = [file for file in beside if file.is_file()]
    if len(there) > 1:
        raise InputError(f"{path}: there are {' and '.join(file.name for file in there)}; name the one to read")
    if not there:
        raise InputError(f"{path}: no such file; check the path")
    return there[0]
