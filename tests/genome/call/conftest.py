"""A small simulated sample for the caller's tests, made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from careloop.genome.files.regions import Region
from careloop.genome.simulate.reads import ReadModel
from careloop.genome.simulate.sample import SamplePlan, SimulatedSample, simulate_sample
from careloop.genome.simulate.variants import Planting

LENGTH = 40_000


@pytest.fixture(scope="session")
def random_reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An indexed FASTA of one random contig `c` with homopolymers."""
    pysam = pytest.importorskip("pysam")
    draw = np.random.default_rng(11)
    parts: list[str] = []
    while sum(map(len, parts)) < LENGTH:
        parts += [
            "".join(draw.choice(list("ACGT"), size=100)),
            str(draw.choice(list("ACGT"))) * int(draw.integers(4, 10)),
        ]
    path = tmp_path_factory.mktemp("reference") / "random.fa"
    path.write_text(">c\n" + "".join(parts)[:LENGTH] + "\n")
    pysam.faidx(str(path))
    return path


@pytest.fixture(scope="session")
def simulated(random_reference: Path, tmp_path_factory: pytest.TempPathFactory) -> SimulatedSample:
    """40 SNVs and 20 indels in 40 kb, read 25 deep."""
    pytest.importorskip("mappy")
    plan = SamplePlan(
        Region("c", 0, LENGTH), ReadModel(depth=25), Planting(snvs=40, indels=20, two_alternatives=0.2), seed=5
    )
    return simulate_sample(random_reference, plan, tmp_path_factory.mktemp("sample"))
