"""Read genotype files beside bed-reader, pgenlib, bgen and plink2: processor time, peak memory, and whether all agree.

    python benchmarks/genotype_reading.py [--samples 5000] [--variants 50000] [--small] [--genotypes PREFIX]

Needs `plink2`. Genotypes are simulated (independent variants, frequencies from 1 % to 50 %, 2 % missing) unless PREFIX
names PLINK 1 files. BGEN and VCF have a tenth of the variants. Each row is a process of its own that reads
every genotype block by block; time is its user and system time with what it imports, on one thread (Linux).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from launched import launched

STEP = 500  # variants at once where a peer leaves the choice


def ours(path: Path, kind: str) -> None:
    """Read all blocks."""
    from careloop.genome.genotypes.blocks import blocks
    from careloop.genome.genotypes.open_genotypes import open_genotypes

    for block in blocks(open_genotypes(path), kind=kind, threads=1):  # type: ignore[arg-type]
        assert block.values.size


def ours_statistics(path: Path, out: str) -> None:
    """Count, and keep the figures."""
    import numpy as np

    from careloop.genome.genotypes.open_genotypes import open_genotypes
    from careloop.genome.genotypes.quality.statistics import variant_statistics

    found = variant_statistics(open_genotypes(path))
    np.savez(out, frequency=found.frequency, missing=found.missing_share, p=found.hardy_weinberg_p)


def bed_reader(path: Path, dtype: str) -> None:
    """Read with bed-reader."""
    import numpy as np
    from bed_reader import open_bed

    with open_bed(path, num_threads=1) as bed:
        for at in range(0, bed.sid_count, STEP):
            assert bed.read(np.s_[:, at : at + STEP], dtype=dtype, order="F").size


def pgenlib(path: Path, dtype: str) -> None:
    """Read with pgenlib alone."""
    import numpy as np
    import pgenlib as peer

    with peer.PgenReader(str(path).encode()) as pgen:
        values = np.empty((STEP, pgen.get_raw_sample_ct()), dtype)
        read = pgen.read_range if dtype == "int8" else pgen.read_dosages_range
        for at in range(0, pgen.get_variant_ct(), STEP):
            end = min(at + STEP, pgen.get_variant_ct())
            read(at, end, values[: end - at])


def bgen(path: Path, _: str) -> None:
    """Read with bgen alone."""
    from bgen import BgenReader

    for variant in BgenReader(path):
        assert variant.alt_dosage.size


def prepare(folder: Path, asked: str) -> None:
    """Write the same genotypes in every format; `asked` is the prefix of PLINK files, or numbers: samples,variants."""
    from careloop.genome.genotypes.convert import convert as converted
    from careloop.genome.genotypes.in_memory import InMemoryGenotypes
    from careloop.genome.genotypes.open_genotypes import open_genotypes
    from careloop.genome.simulate.cohort import GenotypeModel, simulate_cohort

    samples, comma, variants = asked.partition(",")
    if comma:
        made = simulate_cohort(int(samples), int(variants), seed=1, model=GenotypeModel(missing=0.02))
        converted(InMemoryGenotypes(made.samples, made.variants, made.genotypes), folder / "whole")
    else:
        converted(open_genotypes(asked), folder / "whole")
    lines = (folder / "whole.fam").read_text().splitlines()[::2]
    (folder / "keep").write_text("".join("\t".join(line.split()[:2]) + "\n" for line in lines))
    whole = ["plink2", "--bfile", str(folder / "whole")]
    tenth = ["--thin", "0.1", "--seed", "1", "--out", str(folder / "tenth")]
    for command in (
        [*whole, "--make-pgen", "--out", str(folder / "whole")],
        [*whole, "--export", "bgen-1.2", "bits=8", "ref-first", *tenth],
        [*whole, "--export", "vcf", "bgz", *tenth],
    ):
        subprocess.run(command, check=True, capture_output=True)


WORK: dict[str, Callable[[Path, str], None]] = {
    work.__name__: work for work in (prepare, ours, ours_statistics, bed_reader, pgenlib, bgen)
}


def rows(folder: Path) -> Iterator[tuple[str, str, list[str]]]:
    """What is done, by whom, and the command that does it."""
    bed, pgen, tenth = folder / "whole.bed", folder / "whole.pgen", folder / "tenth"
    plink2 = ["plink2", "--threads", "1", "--out", str(folder / "peer")]
    of_bed = [*plink2, "--bfile", str(folder / "whole")]
    yield "BED to int8", "careloop", work("ours", bed, "genotypes")
    yield "", "bed-reader", work("bed_reader", bed, "int8")
    yield "BED to float32", "careloop", work("ours", bed, "dosages")
    yield "", "bed-reader", work("bed_reader", bed, "float32")
    yield "BED: frequencies, missing, HWE", "careloop", work("ours_statistics", bed, str(folder / "ours.npz"))
    yield "", "plink2", [*of_bed, "--freq", "--missing", "variant-only", "--hardy"]
    yield "BED: half the people, frequent variants", "careloop convert", convert(bed, folder)
    yield (
        "",
        "plink2",
        [*of_bed, "--keep", str(folder / "keep"), "--maf", "0.1", "--make-bed"],
    )
    yield "PGEN to int8", "careloop", work("ours", pgen, "genotypes")
    yield "", "pgenlib", work("pgenlib", pgen, "int8")
    yield "BGEN to float32 (a tenth)", "careloop", work("ours", Path(f"{tenth}.bgen"), "dosages")
    yield "", "bgen", work("bgen", Path(f"{tenth}.bgen"), "")
    yield "VCF, packed (a tenth)", "careloop", work("ours", Path(f"{tenth}.vcf.gz"), "genotypes")
    yield "", "plink2", [*plink2, "--vcf", f"{tenth}.vcf.gz", "--make-pgen"]


def work(name: str, path: Path, detail: str) -> list[str]:
    """The command that does a work in a process of its own."""
    return [sys.executable, __file__, "--work", name, str(path), detail]


def convert(bed: Path, folder: Path) -> list[str]:
    """The command of a user."""
    chosen = ["--keep", str(folder / "keep"), "--min-maf", "0.1", "--out", str(folder / "converted")]
    return ["careloop", "genome", "convert", str(bed), *chosen]


def measured(command: list[str]) -> tuple[float, float]:
    """Seconds of processor time and MB at peak of a process of its own, on one thread."""
    run = launched(["env", "OMP_NUM_THREADS=1", "POLARS_MAX_THREADS=1", *command])
    return run.processor_seconds, run.megabytes


def agreement(folder: Path) -> str:
    """The largest differences from plink2's figures."""
    import numpy as np
    import polars as pl

    found = np.load(folder / "ours.npz")
    columns = {"frequency": ("afreq", "ALT_FREQS"), "missing": ("vmiss", "F_MISS"), "p": ("hardy", "P")}
    said = []
    for name, (ending, column) in columns.items():
        theirs = pl.read_csv(folder / f"peer.{ending}", separator="\t", infer_schema_length=None)[column].to_numpy()
        worst = np.nanmax(np.abs(found[name] - theirs) / np.maximum(theirs, 1e-300))
        said.append(f"{name} {worst:.1e}")
    same = (folder / "converted.bed").read_bytes() == (folder / "peer.bed").read_bytes()
    return (
        f"Largest relative difference from plink2 (it prints six digits): {', '.join(said)}; .bed files equal: {same}"
    )


def main() -> None:
    """Write the files, read each with both, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--variants", type=int, default=50_000)
    parser.add_argument("--small", action="store_true", help="1,000 samples and 5,000 variants")
    parser.add_argument("--genotypes", type=Path, metavar="PREFIX")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        WORK[asked.work[0]](Path(asked.work[1]), asked.work[2])
        return
    numbers = "1000,5000" if asked.small else f"{asked.samples},{asked.variants}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measured(work("prepare", folder, str(asked.genotypes or numbers)))
        print(f"{'':<42} {'':<18} {'seconds':>8} {'MB':>6}")
        for what, who, command in rows(folder):
            seconds, megabytes = measured(command)
            print(f"{what:<42} {who:<18} {seconds:>8.2f} {megabytes:>6.0f}", flush=True)
        print(agreement(folder))


if __name__ == "__main__":
    main()
