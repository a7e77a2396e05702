"""Sites in gVCFs that bcftools and freebayes make of simulated reads with a known SNV, insertion and deletion."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from careloop.genome.files.align import align_reads
from careloop.genome.files.sites import Site, SiteCall, sites_at
from careloop.genome.files.variant_file import open_variants

pysam = pytest.importorskip("pysam")
pytest.importorskip("pysam.bcftools")
pytest.importorskip("mappy")
LENGTH, SNV, INSERTION, DELETION = 3000, 700, 1300, 2000  # 0-based; two bases put in after, five taken out after


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with ref.fa and reads.bam (30x, no errors) of a person heterozygous for all three, and the sequence."""
    folder, draw = tmp_path_factory.mktemp("engines"), random.Random(11)
    bases = draw.choices("ACGT", k=LENGTH)
    bases[INSERTION : INSERTION + 2] = "CA"
    bases[DELETION : DELETION + 7] = "CAGTAGG"
    bases[SNV] = "A"
    sequence = "".join(bases)
    other = sequence[:SNV] + "G" + sequence[SNV + 1 : INSERTION + 1] + "TG" + sequence[INSERTION + 1 : DELETION + 1]
    other += sequence[DELETION + 6 :]
    (folder / "ref.fa").write_text(f">20\n{sequence}\n")
    with (folder / "reads.fq").open("w") as file:
        for number in range(30 * LENGTH // 100):
            source = (sequence, other)[number % 2]
            start = draw.randint(0, len(source) - 100)
            read = source[start : start + 100]
            read = read if draw.random() < 0.5 else read.translate(str.maketrans("ACGT", "TGCA"))[::-1]
            file.write(f"@{number}\n{read}\n+\n{'I' * 100}\n")
    align_reads([folder / "reads.fq"], folder / "ref.fa", out=folder / "reads.bam", sample="S1")
    return folder, sequence


def assert_as_simulated(gvcf: Path, sequence: str) -> None:
    def at(start: int, ref: str, *alts: str) -> SiteCall:
        return sites_at(open_variants(gvcf), [Site("chr20", start, ref, alts)])[0]

    assert sorted(map(str, at(SNV, "A", "G").alleles)) == ["A", "G"]
    assert sorted(map(str, at(INSERTION, "C", "CTG").alleles)) == ["C", "CTG"]
    assert sorted(map(str, at(DELETION, "CAGTAG", "C").alleles)) == ["C", "CAGTAG"]
    assert at(DELETION + 2, "G", "T").state == "spanned"
    assert at(SNV, "C", "G").state == "mismatch"
    for start in (500, 1000, 1600, 2400):
        assert at(start, sequence[start], *set("ACGT") - {sequence[start]}).state == "reference"
    assert at(0, sequence[0], *set("ACGT") - {sequence[0]}).state in ("no-call", "absent"), "too few reads at the end"


def test_blocks_of_bcftools(simulated: tuple[Path, str]) -> None:
    folder, sequence = simulated
    piled, called = str(folder / "piled.bcf"), folder / "called.vcf.gz"
    options = ["-a", "AD,DP", "-g", "10", "-Ob", "-o", piled, "-f", str(folder / "ref.fa")]
    pysam.bcftools.mpileup(*options, str(folder / "reads.bam"), catch_stdout=False)
    pysam.bcftools.call("-m", "-g", "10", "-a", "GQ", "-Oz", "-o", str(called), piled, catch_stdout=False)
    assert_as_simulated(called, sequence)
    pysam.bcftools.index("-t", str(called), catch_stdout=False)
    assert_as_simulated(called, sequence)


@pytest.mark.skipif(shutil.which("freebayes") is None, reason="freebayes is not installed")
def test_blocks_of_freebayes(simulated: tuple[Path, str]) -> None:
    folder, sequence = simulated
    command = ["freebayes", "-f", "ref.fa", "--gvcf", "--gvcf-chunk", "50", "reads.bam"]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    (folder / "freebayes.vcf").write_text(made.stdout)
    assert_as_simulated(folder / "freebayes.vcf", sequence)
