"""Small references and variant files for the tests of this folder."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest


@pytest.fixture
def write_fasta(tmp_path: Path) -> Callable[..., Path]:
    def write(sequences: dict[str, str], name: str = "reference.fa") -> Path:
        path = tmp_path / name
        path.write_text("".join(f">{contig}\n{bases}\n" for contig, bases in sequences.items()))
        return path

    return write


# Rows are 0-based start, REF, ALT, the sample's values, and where they differ FORMAT (`GT`), QUAL and FILTER.
@pytest.fixture
def write_vcf(tmp_path: Path) -> Callable[..., Path]:
    def write(
        name: str,
        rows: Iterable[Sequence],
        *,
        contigs: dict[str, int],
        sample: str = "S1",
        contig: str | None = None,
        quality: str = "50",
        filters: str = "PASS",
    ) -> Path:
        contig = contig or next(iter(contigs))
        lines = ["##fileformat=VCFv4.3", '##FILTER=<ID=low,Description="low">']
        lines += [f"##contig=<ID={name},length={size}>" for name, size in contigs.items()]
        for key, number, kind in (("GT", "1", "String"), ("PS", "1", "Integer"), ("GQ", "1", "Integer")):
            lines.append(f'##FORMAT=<ID={key},Number={number},Type={kind},Description="{key}">')
        columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"]
        columns += ["FORMAT", sample] if sample else []
        lines.append("\t".join(columns))
        for start, ref, alt, genotype, *more in sorted(rows, key=lambda row: row[0]):
            form = more[0] if more else "GT"
            own_quality = str(more[1]) if len(more) > 1 else quality
            own_filter = more[2] if len(more) > 2 else filters
            fields = [contig, str(start + 1), ".", ref, alt, own_quality, own_filter, "."]
            lines.append("\t".join(fields + ([form, genotype] if sample else [])))
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def random_bases(rng: random.Random, length: int, *, repeats: float = 0.3) -> str:
    """Bases of which about a share are runs and tandem repeats, in which indels have several spellings."""
    bases = ""
    while len(bases) < length:
        if rng.random() < repeats:
            bases += "".join(rng.choices("ACGT", k=rng.randint(1, 3))) * rng.randint(3, 8)
        else:
            bases += "".join(rng.choices("ACGT", k=rng.randint(5, 25)))
    return bases[:length]


@pytest.fixture
def bases() -> Callable[..., str]:
    return random_bases
