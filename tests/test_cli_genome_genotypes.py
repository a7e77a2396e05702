"""The command `careloop genome convert`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from careloop.cli.genome_genotypes import convert
from careloop.genome.genotypes.open_genotypes import open_genotypes

LINES = [
    "##fileformat=VCFv4.3",
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb\tc",
    "1\t10\trs1\tA\tC,G\t.\t.\t.\tGT\t0/1\t1/2\t./.",
    "1\t20\trs2\tA\tC\t.\t.\t.\tGT\t0/0\t0/1\t1/1",
    "1\t30\trs3\tA\tC\t.\t.\t.\tGT\t0/0\t0/3\t1/1",
    "2\t10\trs4\tA\tC\t.\t.\t.\tGT\t0/0\t0/1\t1/1",
]


@pytest.fixture
def vcf(tmp_path: Path) -> Path:
    path = tmp_path / "people.vcf"
    path.write_text("\n".join(LINES) + "\n")
    return path


def test_a_vcf_becomes_plink_files(vcf: Path, tmp_path: Path) -> None:
    ran = CliRunner().invoke(convert, [str(vcf), "--out", str(tmp_path / "out"), "--json"])
    assert ran.exit_code == 0, ran.output
    shown = json.loads(ran.stdout)
    assert (shown["variants"], shown["samples"], shown["missing"]) == (4, 3, 2)
    assert shown["unreadable_lines"] == {"genotype has an allele that the line does not have": 1}
    assert open_genotypes(tmp_path / "out").genotypes(slice(None)).tolist() == [
        [1, 1, -9],
        [0, 1, -9],
        [0, 1, 2],
        [0, 1, 2],
    ]


def test_what_is_left_out_is_said(vcf: Path, tmp_path: Path) -> None:
    for name, content in (("keep", "c\na\n"), ("extract", "rs2\nrs4\n")):
        (tmp_path / name).write_text(content)
    chosen = ["--keep", str(tmp_path / "keep"), "--extract", str(tmp_path / "extract"), "--region", "chr1"]
    ran = CliRunner().invoke(convert, [str(vcf), "--out", str(tmp_path / "out"), *chosen])
    assert ran.exit_code == 0, ran.output
    assert "1 variants of 2 samples, 0.00% of genotypes missing" in ran.output
    assert "2 variants left out: other ids" in ran.output
    assert "1 variants left out: outside the regions" in ran.output
    assert "1 lines could not be read: genotype has an allele" in ran.output
    assert open_genotypes(tmp_path / "out").samples["sample_id"].to_list() == ["a", "c"]


def test_figures_are_shares(vcf: Path, tmp_path: Path) -> None:
    ran = CliRunner().invoke(convert, [str(vcf), "--out", str(tmp_path / "out"), "--min-maf", "5"])
    assert ran.exit_code == 2
    assert "0<=x<=1" in ran.output
