"""PLINK 2 files: several alternatives, phased calls, dosages and packed tables, as plink2 writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from careloop import InputError
from careloop.genome.genotypes.open_genotypes import open_genotypes
from careloop.genome.genotypes.source import MISSING

SAMPLES = 23
HEADER = """##fileformat=VCFv4.2
##contig=<ID=chr1,length=248956422>
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
##FORMAT=<ID=DS,Number=A,Type=Float,Description="Dosage">
"""


def written(path: Path, lines: list[str]) -> Path:
    names = "\t".join(f"s{number}" for number in range(SAMPLES))
    columns = f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{names}\n"
    path.write_text(HEADER + columns + "\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A VCF of 120 sites with one to three alternatives, phased or not, and the copies of each alternative."""
    draws, lines, copies = np.random.default_rng(3), [], []
    for site in range(120):
        alternatives = ["C", "C,G", "T", "AT,C,T"][site % 4]
        count = alternatives.count(",") + 1
        alleles = draws.integers(0, count + 1, (SAMPLES, 2))
        missing, phased = draws.random(SAMPLES) < 0.1, draws.choice(list("/|"), SAMPLES)
        texts = [
            "./." if missing[sample] else f"{alleles[sample, 0]}{phased[sample]}{alleles[sample, 1]}"
            for sample in range(SAMPLES)
        ]
        lines.append(f"chr1\t{1000 + site}\tv{site}\tA\t{alternatives}\t.\t.\t.\tGT\t" + "\t".join(texts))
        for allele in range(1, count + 1):
            copies.append(np.where(missing, MISSING, (alleles == allele).sum(axis=1)))
    return written(tmp_path_factory.mktemp("calls") / "calls.vcf", lines), np.array(copies)


@pytest.mark.parametrize("packed", [(), ("vzs",)])
def test_each_alternative_is_a_row(
    calls: tuple[Path, np.ndarray], tmp_path: Path, plink2: Callable[..., None], packed: tuple[str, ...]
) -> None:
    vcf, copies = calls
    plink2("--vcf", vcf, "--make-pgen", *packed, "--out", tmp_path / "made")
    source = open_genotypes(tmp_path / ("made.pvar.zst" if packed else "made"))
    np.testing.assert_array_equal(source.genotypes(slice(None)), copies)
    np.testing.assert_array_equal(source.dosages(slice(None)), np.where(copies == MISSING, np.nan, copies))
    rows, samples = np.array([0, 1, 3, 200]), np.array([7, 2])
    np.testing.assert_array_equal(source.genotypes(rows, samples), copies[np.ix_(rows, samples)])
    assert source.variants["alt"].to_list()[:7] == ["C", "C", "G", "T", "AT", "C", "T"]
    assert source.variants["position"].to_list()[:4] == [1000, 1001, 1001, 1002]
    assert source.hard_calls
    assert source.build == "GRCh38"


@pytest.fixture(scope="module")
def dosages(tmp_path_factory: pytest.TempPathFactory, plink2: Callable[..., None]) -> tuple[Path, np.ndarray]:
    """PLINK 2 files of dosages, half of them whole numbers, and what they were made of."""
    draws = np.random.default_rng(4)
    values = draws.random((60, SAMPLES)) * 2
    values = np.where(draws.random(values.shape) < 0.5, values.round(), values).round(3)
    values[draws.random(values.shape) < 0.05] = np.nan
    lines = []
    for site, row in enumerate(values):
        texts = [".:." if np.isnan(value) else f"0/0:{value:.3f}" for value in row]
        lines.append(f"chr1\t{1000 + site}\tv{site}\tA\tG\t.\t.\t.\tGT:DS\t" + "\t".join(texts))
    folder = tmp_path_factory.mktemp("dosages")
    vcf = written(folder / "dosages.vcf", lines)
    plink2("--vcf", vcf, "dosage=DS", "--make-pgen", "--out", folder / "made")
    return folder / "made", values


def test_dosages_and_the_calls_near_them(dosages: tuple[Path, np.ndarray]) -> None:
    prefix, values = dosages
    source = open_genotypes(prefix)
    assert not source.hard_calls
    np.testing.assert_allclose(source.dosages(slice(None)), values, atol=1 / 16384)
    near = np.abs(values - values.round()) <= 0.1 + 1e-9
    np.testing.assert_array_equal(source.genotypes(slice(None)), np.where(near, values.round(), MISSING))


def test_people_of_a_table_with_families_and_of_one_without_header(
    cohort_bed: Path, tmp_path: Path, plink2: Callable[..., None]
) -> None:
    plink2("--bfile", cohort_bed.with_suffix(""), "--make-pgen", "--out", tmp_path / "made")
    expected = open_genotypes(cohort_bed)
    source = open_genotypes(tmp_path / "made.psam")
    assert source.samples.equals(expected.samples)
    assert source.variants.equals(expected.variants)
    np.testing.assert_array_equal(source.genotypes(slice(None)), expected.genotypes(slice(None)))
    (tmp_path / "made.psam").write_bytes(cohort_bed.with_suffix(".fam").read_bytes())
    (tmp_path / "made.pvar").write_bytes(cohort_bed.with_suffix(".bim").read_bytes())
    again = open_genotypes(tmp_path / "made.pgen")
    assert again.samples.equals(expected.samples)
    assert again.variants.equals(expected.variants)


@pytest.mark.parametrize(
    ("ending", "change", "said"),
    [
        (".pgen", lambda old: old[:-60], "ends early"),
        (".pgen", lambda old: b"VCF" + old, "not a PLINK 2 genotype file"),
        (".psam", lambda old: old + b"other\tNA\n", "fits its .pvar and .psam"),
        (".psam", lambda old: old.replace(b"s22", b"s21"), "sample 23 has the id of one before it"),
        (".psam", lambda old: old.replace(b"#IID", b"#NAME"), "a column #IID"),
        (
            ".pvar",
            lambda old: old[: old.index(b"\t1050\t") - 1],
            "fits",
        ),
        (".pvar", lambda old: old.replace(b"\t1007\t", b"\tx\t"), "position is a whole number; line 1"),
    ],
)
def test_what_does_not_fit_is_refused(
    dosages: tuple[Path, np.ndarray], tmp_path: Path, ending: str, change: Callable[[bytes], bytes], said: str
) -> None:
    for each in (".pgen", ".pvar", ".psam"):
        content = dosages[0].with_suffix(each).read_bytes()
        (tmp_path / "made").with_suffix(each).write_bytes(change(content) if each == ending else content)
    with pytest.raises(InputError) as error:
        open_genotypes(tmp_path / "made")
    assert said in str(error.value)
    assert "\n" not in str(error.value)
