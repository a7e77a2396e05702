"""A whole annotation: files in, annotated VCF and findings out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from careloop import InputError
from careloop.genome.annotate.annotate import annotate
from careloop.genome.annotate.annotator import AnnotateOptions
from careloop.genome.annotate.csq import COLUMNS
from careloop.genome.annotate.effect import Effect
from careloop.genome.annotate.effects import picked
from careloop.genome.annotate.known.request import KnownFile
from careloop.genome.annotate.transcript import Transcript
from careloop.genome.files.variant_file import open_variants


def with_genotypes(world: Any, path: Path, contig: str = "1") -> Path:
    """The world's variants, each heterozygous, and a line that is none."""
    lines = [f"##fileformat=VCFv4.2\n##contig=<ID={contig},length={len(world.sequence)}>"]
    lines.append('##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">')
    lines.append("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS1")
    lines += [f"{contig}\t{v.start + 1}\t.\t{v.ref}\t{v.alt}\t.\t.\t.\tGT\t0/1" for v in world.variants]
    lines += [
        f"{contig}\tnone\t.\tA\tC",
        f"{contig}\t{len(world.sequence)}\t.\t{world.sequence[-1]}\t<DEL>\t.\t.\t.\tGT\t0/1",
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("contig", ["1", "chr1"])
def test_every_allele_gets_csq_and_the_picked_ones_are_in_the_table(
    gene_world: Any, tmp_path: Path, contig: str
) -> None:
    table = tmp_path / "findings.parquet"
    summary = annotate(
        with_genotypes(gene_world, tmp_path / "in.vcf", contig),
        tmp_path / "out.vcf.gz",
        reference=gene_world.fasta,
        genes=gene_world.gff,
        options=AnnotateOptions(table=table),
    )
    assert summary.variants == len(gene_world.variants)
    assert summary.left == 1
    assert summary.rejected_lines.total == 1
    out = open_variants(tmp_path / "out.vcf.gz")
    records = [record for record in out.records() if record.alts != ("<DEL>",)]
    assert [record.variants[0].start for record in records] == [v.start for v in gene_world.variants]
    terms: Counter[str] = Counter()
    for record in records:
        entries = [dict(zip(COLUMNS, entry.split("|"), strict=True)) for entry in record.info["CSQ"]]
        assert all(entry["Allele"] == record.alts[0] for entry in entries)
        terms[entries[0]["Consequence"].split("&")[0]] += 1
        assert record.info["HGVSg"].startswith(f"{contig}:g.")
    assert terms == summary.consequences
    assert terms["missense_variant"] > 20
    assert terms["intergenic_variant"] + terms["upstream_gene_variant"] > 0
    frame = pl.read_parquet(table)
    assert frame.height == summary.findings > 50
    assert set(frame["impact"]) == {"HIGH", "MODERATE"}
    assert set(frame["genotype"]) == {"0/1"}
    assert (
        frame.filter(pl.col("consequence") == "missense_variant")["hgvs_p"]
        .str.contains(r"^p\.\([A-Z][a-z]{2}\d+")
        .all()
    )


def test_known_files_are_shown_and_used_as_evidence(gene_world: Any, tmp_path: Path) -> None:
    missense = None
    plain = tmp_path / "plain.vcf"
    source = with_genotypes(gene_world, tmp_path / "in.vcf")
    annotate(source, plain, reference=gene_world.fasta, genes=gene_world.gff)
    for record in open_variants(plain).records():
        if record.alts != ("<DEL>",) and "missense_variant|" in record.info["CSQ"][0]:
            missense = record
            break
    assert missense is not None
    gnomad = tmp_path / "gnomad.vcf"
    gnomad.write_text(
        f"##fileformat=VCFv4.2\n##contig=<ID=chr1,length={len(gene_world.sequence)}>\n"
        '##INFO=<ID=AF,Number=A,Type=Float,Description="f">\n##INFO=<ID=AN,Number=1,Type=Integer,Description="n">\n'
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
        f"chr1\t{missense.start + 1}\t.\t{missense.ref}\t{missense.alts[0]}\t.\tPASS\tAF=0.2;AN=100000\n"
    )
    options = AnnotateOptions(known=(KnownFile("gnomad", gnomad),), table=tmp_path / "findings.csv")
    annotate(source, tmp_path / "out.vcf", reference=gene_world.fasta, genes=gene_world.gff, options=options)
    found = [r for r in open_variants(tmp_path / "out.vcf").records() if "gnomad_AF" in r.info]
    assert [(r.start, r.ref, r.alts) for r in found] == [(missense.start, missense.ref, missense.alts)]
    assert "BA1" in found[0].info["ACMG"]
    rows = pl.read_csv(tmp_path / "findings.csv").filter(pl.col("known").str.contains("AF=0.2"))
    assert rows.height == 1
    assert "benign" in rows["suggestion"][0]


def test_mane_is_picked_before_canonical_before_the_longest() -> None:
    def effect(identifier: str, bases: int, *tags: str, terms: tuple[str, ...] = ("intron_variant",)) -> Effect:
        span = (0, bases)
        transcript = Transcript(identifier, "G", "G", "1", 1, (span,), (span,), tags=frozenset(tags))
        return Effect(transcript, "A", terms, "MODIFIER")

    short, long = effect("short", 30), effect("long", 90)
    canonical, mane = effect("canonical", 60, "Ensembl_canonical"), effect("mane", 20, "MANE_Select")
    beside = effect("beside", 20, "MANE_Select", terms=("upstream_gene_variant",))
    assert picked([short, long]) == (long,)
    assert picked([long, canonical, short]) == (canonical,)
    assert picked([long, canonical, mane]) == (mane,)
    assert picked([beside, short]) == (short,)


def test_wrong_files_are_refused(gene_world: Any, tmp_path: Path) -> None:
    source = gene_world.write_vcf(tmp_path / "in.vcf")
    genes = tmp_path / "other.gff3"
    genes.write_text(gene_world.gff.read_text().replace("\n1\t", "\n7\t"))
    with pytest.raises(InputError, match="contigs"):
        annotate(source, tmp_path / "out.vcf", reference=gene_world.fasta, genes=genes)
    with pytest.raises(InputError, match="no sample"):
        annotate(source, tmp_path / "out.vcf", reference=gene_world.fasta, genes=gene_world.gff,
                 options=AnnotateOptions(sample="S9"))  # fmt: skip
    genes.write_text("#!genome-build GRCh38\n" + gene_world.gff.read_text())
    source.write_text(source.read_text().replace("##contig", "##reference=GRCh37.fa\n##contig", 1))
    with pytest.raises(InputError, match="assembl"):
        annotate(source, tmp_path / "out.vcf", reference=gene_world.fasta, genes=genes)
    assert not (tmp_path / "out.vcf").exists()
