"""The commands of genomes as a user types them, on a simulated genome: from reads to findings in the record."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from careloop.cli import cli
from careloop.genome.files.regions import Region
from careloop.genome.simulate.gene_models import gff3_lines, simulate_genes
from careloop.genome.simulate.reads import ReadModel
from careloop.genome.simulate.sample import SamplePlan, simulate_sample
from careloop.genome.simulate.variants import Planting
from careloop.record import Record

LENGTH = 30_000
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with reference.fa, genes.gff3, reads.bam and truth.vcf.gz; everything simulated."""
    pysam = pytest.importorskip("pysam")
    pytest.importorskip("mappy")
    folder = tmp_path_factory.mktemp("world")
    draw = np.random.default_rng(4)
    sequence, genes = simulate_genes("".join(draw.choice(list("ACGT"), size=LENGTH)), draw)
    (folder / "reference.fa").write_text(f">c\n{sequence}\n")
    pysam.faidx(str(folder / "reference.fa"))
    (folder / "genes.gff3").write_text("\n".join(gff3_lines("c", genes)) + "\n")
    plan = SamplePlan(Region("c", 0, LENGTH), ReadModel(depth=30), Planting(snvs=60, indels=15), seed=8)
    simulate_sample(folder / "reference.fa", plan, folder)
    return folder


@pytest.fixture(scope="module")
def run() -> Run:
    def ran(*words: Any, fails: bool = False) -> Any:
        done = CliRunner().invoke(cli, ["genome", *map(str, words)])
        assert (done.exit_code != 0) == fails, done.output
        return json.loads(done.stdout) if "--json" in words else done

    return ran


@pytest.fixture(scope="module")
def calls(world: Path, run: Run) -> Path:
    out = world / "calls.vcf.gz"
    told = run(
        "call", world / "reads.bam", "--reference", world / "reference.fa", "--out", out,
        "--covered", world / "covered.bed", "--json",
    )  # fmt: skip
    assert told["variants"]["SNV"] > 50
    assert sum(told["bases"].values()) == LENGTH
    assert told["not_for_clinical_use"]
    return out


def test_calls_compared_with_the_truth(world: Path, calls: Path, run: Run, tmp_path: Path) -> None:
    told = run(
        "compare", world / "truth.vcf.gz", calls, "--reference", world / "reference.fa",
        "--regions", world / "covered.bed", "--out", tmp_path, "--json",
    )  # fmt: skip
    whole = next(row for row in told["figures"] if row["type"] == "all")
    assert whole["f1"] > 0.95
    assert (tmp_path / "calls.vcf.gz").exists()
    text = run("compare", calls, calls, "--reference", world / "reference.fa").stdout
    assert "1.0000" in text


def test_one_spelling_twice_is_the_same(world: Path, calls: Path, run: Run, tmp_path: Path) -> None:
    once, twice = tmp_path / "once.vcf", tmp_path / "twice.vcf"
    run("normalise", calls, "--reference", world / "reference.fa", "--out", once)
    told = run("normalise", once, "--reference", world / "reference.fa", "--out", twice, "--json")
    assert once.read_text() == twice.read_text()
    assert "rejected" not in told["counts"]


def test_variants_are_annotated(world: Path, calls: Path, run: Run, tmp_path: Path) -> None:
    out, table = tmp_path / "out.vcf.gz", tmp_path / "findings.csv"
    told = run(
        "annotate", calls, "--reference", world / "reference.fa", "--genes", world / "genes.gff3",
        "--out", out, "--table", table, "--json",
    )  # fmt: skip
    assert told["variants"] >= 60


def test_loss_of_function_is_judged_in_the_genes_that_a_file_names(world: Path, run: Run, tmp_path: Path) -> None:
    pysam = pytest.importorskip("pysam")
    models = (world / "genes.gff3").read_text().splitlines()
    tagged = [line + ";tag=Ensembl_canonical" if "ID=transcript:" in line else line for line in models]
    (tmp_path / "genes.gff3").write_text("\n".join(tagged) + "\n")
    coding = [line.split("\t") for line in models if "\tCDS\t" in line]
    longest = max(coding, key=lambda cells: int(cells[4]) - int(cells[3]))
    place = (int(longest[3]) + int(longest[4])) // 2
    with pysam.FastaFile(str(world / "reference.fa")) as fasta:
        ref = fasta.fetch("c", place - 1, place + 1)
    lines = ["##fileformat=VCFv4.3", f"##contig=<ID=c,length={LENGTH}>"]
    lines += ['##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">']
    lines += ["#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS"]
    lines += [f"c\t{place}\t.\t{ref}\t{ref[0]}\t9\t.\t.\tGT\t0/1"]
    (tmp_path / "frameshift.vcf").write_text("\n".join(lines) + "\n")
    table, genes = tmp_path / "findings.csv", tmp_path / "genes.txt"
    words = (
        "annotate", tmp_path / "frameshift.vcf",
        "--reference", world / "reference.fa", "--genes", tmp_path / "genes.gff3",
        "--table", table, "--out", tmp_path / "out.vcf",
    )  # fmt: skip
    run(*words)
    without = pl.read_csv(table, infer_schema=False)
    assert "frameshift" in without["consequence"][0]
    assert "PVS1" not in (without["evidence"][0] or "")
    genes.write_text(without["gene"][0] + "\n")
    run(*words, "--lof-genes", genes)
    assert "PVS1" in pl.read_csv(table, infer_schema=False)["evidence"][0]
    settings = tmp_path / "acmg.yaml"
    settings.write_text(f"loss_of_function_genes: [{without['gene'][0]}]\nexpected_above: 0.001\n")
    run(*words, "--acmg", settings)
    assert "PVS1" in pl.read_csv(table, infer_schema=False)["evidence"][0]


def test_pharmacogenes_have_a_page_fhir_and_events(world: Path, calls: Path, run: Run, tmp_path: Path) -> None:
    record = Record.create(tmp_path / "record")
    born = datetime(1960, 1, 1, tzinfo=UTC)
    record.append(
        pl.DataFrame({"subject_id": [7], "time": [born], "known_time": [born], "code": ["MEDS_BIRTH"]}).with_columns(
            source=pl.lit("test")
        ),
        key="people",
    )
    pgx_file = pharmacogenes_file(tmp_path / "sample.vcf")
    told = run("pgx", pgx_file, "--out", tmp_path / "pgx", "--record", record.path, "--subject", 7, "--json")
    gene = {each["gene"]: each for each in told["genes"]}
    assert gene["CYP2C19"]["diplotypes"] == []
    assert gene["CYP2C19"]["unknown_sites"]
    assert (tmp_path / "pgx" / "recommendations.csv").read_text().startswith("drug,genes,results")
    covered = tmp_path / "covered.bed"
    covered.write_text("chr10\t94700000\t94900000\n")
    words = ("pgx", pgx_file, "--out", tmp_path / "pgx", "--covered", covered, "--gene", "CYP2C19")
    told = run(*words, "--record", record.path, "--subject", 7, "--json")
    assert told["genes"][0]["diplotypes"] == ["*2/*2"]
    assert any(rule["drug"] == "clopidogrel" for rule in told["genes"][0]["recommendations"])
    codes = Record.open(record.path).timeline(7)["code"].to_list()
    assert "PGX//CYP2C19//DIPLOTYPE" in codes
    bundle = json.loads((tmp_path / "pgx" / "findings.fhir.json").read_text())
    assert bundle["resourceType"] == "Bundle"
    assert "clopidogrel" in (tmp_path / "pgx" / "report.html").read_text()


def pharmacogenes_file(path: Path) -> Path:
    """A made-up patient with CYP2C19 *2/*2 on GRCh38."""
    head = ["##fileformat=VCFv4.3", "##contig=<ID=chr10,length=133797422>", "##contig=<ID=chr1,length=248956422>"]
    head += ['##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">']
    head += ["#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tpatient"]
    rows = [(94775367, "A", "G"), (94781859, "G", "A"), (94842866, "A", "G")]
    lines = [f"chr10\t{place}\t.\t{ref}\t{alt}\t90\tPASS\t.\tGT\t1/1" for place, ref, alt in rows]
    path.write_text("\n".join([*head, *lines]) + "\n")
    return path


def test_a_report_of_an_unknown_assembly_is_refused(world: Path, calls: Path, run: Run, tmp_path: Path) -> None:
    build = ("--reference", world / "reference.fa", "--genes", world / "genes.gff3", "--reads", world / "reads.bam")
    done = run("report", calls, *build, "--out", tmp_path / "out", fails=True)
    assert "GRCh37 or GRCh38" in str(done.exception)


def test_wrong_usage_is_said_in_a_line(world: Path, run: Run, tmp_path: Path) -> None:
    reference = ("--reference", world / "reference.fa", "--out", tmp_path / "x.vcf")
    assert "one or two FASTQ" in run("call", "a.fq", "b.bam", *reference, fails=True).output
    assert "give --sample" in run("call", "a.fq", *reference, fails=True).output
    assert "--mother and --father" in run("call", "a.bam", "--mother", "b.bam", *reference, fails=True).output
    assert "--normal for a tumour" in run(
        "call", "a.bam", "--normal", "b.bam", "--mother", "c.bam", *reference, fails=True
    ).output  # fmt: skip
    trio = ("call", "a.bam", "--mother", "b.bam", "--father", "c.bam", *reference)
    assert "--sex, --processes cannot" in run(*trio, "--sex", "male", "--processes", 2, fails=True).output
    assert "--scorer cannot" in run(
        "call", "a.bam", "--normal", "b.bam", "--scorer", "engine", *reference, fails=True
    ).output  # fmt: skip
    assert "no such file" in str(run("call", tmp_path / "no.bam", *reference, fails=True).exception)
    names = ("compare", "a.vcf", "b.vcf", "--reference", world / "reference.fa", "--strata", "x")
    assert "NAME=PATH" in run(*names, fails=True).output


def test_a_sample_beside_itself_is_refused(world: Path, run: Run, tmp_path: Path) -> None:
    words = ("call", world / "reads.bam", "--reference", world / "reference.fa", "--out", tmp_path / "x.vcf")
    assert "two samples" in str(run(*words, "--normal", world / "reads.bam", fails=True).exception)
    parents = ("--mother", world / "reads.bam", "--father", world / "reads.bam")
    assert "three samples" in str(run(*words, *parents, fails=True).exception)


def test_fastq_is_aligned_once_and_kept(world: Path, run: Run, tmp_path: Path) -> None:
    pysam = pytest.importorskip("pysam")
    fastq = tmp_path / "reads.fq"
    with pysam.AlignmentFile(str(world / "reads.bam")) as reads, fastq.open("w") as file:
        for read in reads:
            if not read.flag & 0x900:
                quality = pysam.qualities_to_qualitystring(read.get_forward_qualities())
                file.write(f"@{read.query_name}_{read.is_read1}\n{read.get_forward_sequence()}\n+\n{quality}\n")
    words = ("call", fastq, "--reference", world / "reference.fa", "--sample", "S", "--out", tmp_path / "out.vcf")
    told = run(*words, "--json")
    assert told["variants"]["SNV"] > 50
    bam = tmp_path / "out.vcf.reads.bam"
    made = bam.stat().st_mtime_ns
    assert run(*words, "--json") == told
    assert bam.stat().st_mtime_ns == made
