"""Records a second of careloop's variant reader beside pysam's, on simulated files, with each reader's peak memory.

    python benchmarks/variant_reading.py [--records 300000]

Both read every record's position, alleles, quality and filters; the rows with * read INFO/DP and a genotype as well.
Seconds are the processor's, as the machine may be busy. Each reading is a process of its own; the files are simulated
(seed 1), sites only and with one sample.
"""

from __future__ import annotations

import argparse
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

LINES = (
    '##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">',
    '##INFO=<ID=AF,Number=A,Type=Float,Description="Frequency">',
    '##INFO=<ID=MQ,Number=1,Type=Float,Description="Mapping quality">',
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
    '##FORMAT=<ID=AD,Number=R,Type=Integer,Description="Depths">',
    '##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="Quality">',
    '##FORMAT=<ID=PL,Number=G,Type=Integer,Description="Likelihoods">',
)


def simulated(count: int, samples: tuple[str, ...]) -> Iterator[Any]:
    """Records at random places, a seventh of them insertions."""
    from careloop.genome.variant import Record, SampleCall

    draw = random.Random(1)
    start = 60_000
    for number in range(count):
        start += draw.randint(1, 100)
        ref = draw.choice("ACGT")
        alt = draw.choice("ACGT".replace(ref, ""))
        alt = alt if draw.random() < 0.85 else ref + "".join(draw.choices("ACGT", k=draw.randint(1, 5)))
        info = {"DP": draw.randint(5, 60), "AF": (draw.random(),), "MQ": 60 * draw.random()}
        fields = {"AD": (draw.randint(1, 20), draw.randint(1, 20)), "GQ": draw.randint(1, 99), "PL": (100, 0, 200)}
        calls = {name: SampleCall((0, 1), False, fields) for name in samples}
        yield Record("20", start, start + 1, ref, (alt,), f"rs{number}", 100 * draw.random(), ("PASS",), info, calls)


def read_careloop(path: Path) -> int:
    """How many records careloop reads."""
    from careloop.genome.files.variant_file import open_variants

    count = 0
    for record in open_variants(path).records():
        _ = record.contig, record.start, record.end, record.ref, record.alts, record.quality, record.filters
        count += 1
    return count


def read_pysam(path: Path) -> int:
    """How many records pysam reads."""
    import pysam

    count = 0
    with pysam.VariantFile(str(path)) as file:
        for record in file:
            _ = record.contig, record.start, record.stop, record.ref, record.alts, record.qual, tuple(record.filter)
            count += 1
    return count


def values_careloop(path: Path) -> int:
    """The same, with values of INFO and of the sample."""
    from careloop.genome.files.variant_file import open_variants

    return sum(record.info["DP"] + record.samples["S1"].alleles[0] >= 0 for record in open_variants(path))


def values_pysam(path: Path) -> int:
    """The same by pysam."""
    import pysam

    with pysam.VariantFile(str(path)) as file:
        return sum(record.info["DP"] + record.samples["S1"]["GT"][0] >= 0 for record in file)


def timed(read: Callable[[Path], int], path: Path) -> tuple[int, float, float]:
    """Records, processor seconds and peak resident MB of one reading (VmHWM of Linux)."""
    begun = time.process_time()
    count = read(path)
    seconds = time.process_time() - begun
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return count, seconds, int(peak[1]) / 1024 if peak else float("nan")


def main() -> None:
    """Write the files, read each with both, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=300_000)
    count = parser.parse_args().records

    from careloop.genome.files.variant_file import open_variants
    from careloop.genome.files.variant_header import new_header
    from careloop.genome.files.variant_writing import write_variants

    print(f"{'file':24}{'read':10}{'records/s':>12}{'MB peak':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for samples in ((), ("S1",)):
            header = new_header({"20": 63_025_520}, samples, lines=LINES)
            source = Path(folder, "source.vcf")
            write_variants(source, header, simulated(count, samples))
            for ending in (".vcf", ".vcf.gz", ".bcf"):
                path = Path(folder, f"{'one sample' if samples else 'sites only'}{ending}")
                write_variants(path, header, open_variants(source))
                readers = [("careloop", read_careloop), ("pysam", read_pysam)]
                if samples:
                    readers += [("careloop *", values_careloop), ("pysam *", values_pysam)]
                for name, read in readers:
                    with get_context("spawn").Pool(1) as pool:
                        found, seconds, peak = pool.apply(timed, (read, path))
                    assert found == count
                    print(f"{path.name:24}{name:10}{found / seconds:>12,.0f}{peak:>10.0f}")
    print("* INFO/DP and a genotype read as well")


if __name__ == "__main__":
    main()
