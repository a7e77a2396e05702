"""Somatic variants on simulated tumours with known truth, and the log-odds beside their formula."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from careloop import InputError
from careloop.genome.call.read_pile import PiledRead, by_fragment
from careloop.genome.call.somatic import _Shown, call_somatic, log_odds
from careloop.genome.files.align import align_reads
from careloop.genome.files.reference import open_reference
from careloop.genome.files.variant_file import open_variants
from careloop.genome.simulate.reads import ReadModel, simulate_reads, write_fastq
from careloop.genome.simulate.variants import Planting, haplotypes_of, plant_variants
from careloop.genome.variant import Variant

LENGTH = 40_000


def read(shows: str, quality: int) -> PiledRead:
    return PiledRead(0, 100, False, 60, shows, site_quality=quality)  # type: ignore[arg-type]


def test_log_odds_are_those_of_the_formula() -> None:
    shown = _Shown((read("alternative", 30), read("alternative", 20)), (read("reference", 30),) * 3)
    share = 0.4
    expected = 0.0
    for error in (1e-3, 1e-2):
        expected += math.log10((share * (1 - error) + (1 - share) * error / 3) / (error / 3))
    expected += 3 * math.log10((share * 1e-3 / 3 + (1 - share) * (1 - 1e-3)) / (1 - 1e-3))
    assert log_odds(shown, Variant("c", 5, "A", "C"), share=share, against=0.0) == pytest.approx(expected)


def test_overlapping_mates_count_once_and_not_at_all_where_they_disagree() -> None:
    shown = [(name, what, quality) for name, what, quality in (
        ("agree", "alternative", 20), ("agree", "alternative", 35), ("differ", "alternative", 30),
        ("differ", "reference", 30), ("single", "reference", 25))]  # fmt: skip
    kept = by_fragment([replace(read(what, quality), name=name) for name, what, quality in shown])
    assert [(one.name, one.shows, one.site_quality) for one in kept] == [
        ("agree", "alternative", 35),
        ("single", "reference", 25),
    ]
    assert len(by_fragment([read("reference", 30)] * 3)) == 3  # reads without names are not mates


@dataclass(frozen=True)
class Pair:
    paths: tuple[Path, Path]
    somatic: dict[int, float]
    germline: set[int]


@pytest.fixture(scope="module")
def pair(random_reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A tumour 80 deep with SNVs in half, a quarter and a tenth of its reads, and its normal 40 deep."""
    pytest.importorskip("mappy")
    folder = tmp_path_factory.mktemp("pair")
    with open_reference(random_reference) as reference:
        sequence = reference.fetch("c", 0, LENGTH)
    germline = plant_variants(sequence, "c", start=0, plan=Planting(snvs=40, indels=6), seed=31)
    taken = [record.start for record in germline]
    draw = np.random.default_rng(12)
    places = [int(p) for p in np.sort(draw.choice(np.arange(1_000, LENGTH - 1_000), 120, replace=False))]
    kept: list[int] = []
    for place in places:
        if all(abs(place - other) > 150 for other in (*taken, *kept)):
            kept.append(place)
    shares = {place: (0.5, 0.25, 0.1)[number % 3] for number, place in enumerate(kept[:36])}
    normal = haplotypes_of(sequence, germline, start=0)
    chains = []
    for number, share in enumerate((0.5, 0.25, 0.1)):
        mutated = list(sequence)
        for place, its in shares.items():
            if its == share:
                mutated[place] = "ACGT"["ACGT".index(sequence[place]) - 2]
        clone = haplotypes_of("".join(mutated), germline, start=0)[:1] * 2
        chains += list(simulate_reads(clone, ReadModel(depth=80 * share), seed=60 + number, prefix=f"clone{number}_"))
    chains += list(simulate_reads(normal, ReadModel(depth=80 * 0.15), seed=70, prefix="rest"))
    paths = []
    for name, pairs in (("tumour", chains), ("normal", simulate_reads(normal, ReadModel(depth=40), seed=71))):
        fastq = folder / f"{name}_1.fq", folder / f"{name}_2.fq"
        write_fastq(iter(pairs), *fastq)
        paths.append(folder / f"{name}.bam")
        align_reads(fastq, random_reference, out=paths[-1], sample=name)
    return Pair((paths[0], paths[1]), shares, set(taken))


def test_somatic_variants_are_found_by_their_share_and_germline_ones_are_not(
    pair: Pair, random_reference: Path, tmp_path: Path
) -> None:
    out = tmp_path / "somatic.vcf.gz"
    summary = call_somatic(pair.paths, random_reference, out)
    records = list(open_variants(out).records())
    passed = {record.start: record for record in records if record.passed}
    for share, least in ((0.5, 1.0), (0.25, 0.9), (0.1, 0.6)):
        wanted = [place for place, its in pair.somatic.items() if its == share]
        assert sum(place in passed for place in wanted) >= least * len(wanted)
    false = set(passed) - set(pair.somatic)
    assert len(false) <= 1
    assert not set(passed) & pair.germline
    assert summary.variants == len(passed)
    at_half = [
        record.samples["tumour"].fields["AF"] for place, record in passed.items() if pair.somatic.get(place) == 0.5
    ]
    assert np.mean(at_half) == pytest.approx(0.5, abs=0.05)
    known = [record for record in records if record.start in pair.germline and len(record.ref + record.alts[0]) == 2]
    assert sum("germline" in record.filters for record in known) >= 0.8 * len(known)


def test_one_sample_twice_is_refused(pair: Pair, random_reference: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two samples"):
        call_somatic((pair.paths[0], pair.paths[0]), random_reference, tmp_path / "x.vcf")
