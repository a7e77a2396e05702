"""Reads of simulated haplotypes by ART, where it is installed: error profiles learned from real Illumina runs."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from careloop import InputError
from careloop.genome.simulate.reads import ReadPair

PROGRAM = "art_illumina"


@dataclass(frozen=True, slots=True)
class ArtModel:
    """What ART is asked for (Huang et al. 2012, Bioinformatics 28:593).

    `system` is one of its machines (HS25 HiSeq 2500, HSXn and HSXt HiSeq X), `quality_shift` is added to all qualities
    (-10: ten times as many errors), lengths are bases.
    """

    depth: float = 30.0
    system: str = "HS25"
    quality_shift: int = 0
    read_length: int = 150
    fragment_mean: float = 350.0
    fragment_sd: float = 50.0


def art_reads(haplotypes: Sequence[str], model: ArtModel, *, seed: int, prefix: str = "a") -> Iterator[ReadPair]:
    """Read pairs drawn evenly from the haplotypes, `model.depth` in all. Raises InputError where ART is missing."""
    if shutil.which(PROGRAM) is None:
        raise InputError(
            f"ART is needed for its error profiles: install {PROGRAM} (Debian: art-nextgen-simulation-tools)"
        )
    for copy, haplotype in enumerate(haplotypes):
        with tempfile.TemporaryDirectory(prefix="careloop-art-") as folder:
            stem = Path(folder) / f"{prefix}{copy}."
            fasta = Path(folder) / "haplotype.fa"
            fasta.write_text(f">{prefix}{copy}\n{haplotype}\n")
            # ART takes seeds of 31 bits and refuses 0.
            command = _command(model, fasta, stem, depth=model.depth / len(haplotypes), seed=10 * seed + copy + 1)
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            yield from _pairs(Path(f"{stem}1.fq"), Path(f"{stem}2.fq"))


def _command(model: ArtModel, fasta: Path, stem: Path, *, depth: float, seed: int) -> list[str]:
    shift = ["-qs", str(model.quality_shift), "-qs2", str(model.quality_shift)] if model.quality_shift else []
    fragments = ["-m", str(model.fragment_mean), "-s", str(model.fragment_sd)]
    reads = ["-ss", model.system, "-l", str(model.read_length), "-f", str(depth)]
    return [PROGRAM, "-p", "-na", "-q", *reads, *fragments, *shift, "-rs", str(seed), "-i", str(fasta), "-o", str(stem)]


def _pairs(first: Path, second: Path) -> Iterator[ReadPair]:
    with first.open("rb") as one, second.open("rb") as two:
        while name := one.readline():
            two.readline()
            bases = one.readline().rstrip(), two.readline().rstrip()
            one.readline(), two.readline()
            qualities = one.readline().rstrip(), two.readline().rstrip()
            yield ReadPair(name[1:].rsplit(b"/", 1)[0].decode(), bases, qualities)
