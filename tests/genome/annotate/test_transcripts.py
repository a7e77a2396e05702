"""One gene written as Ensembl, GENCODE and RefSeq write it is one gene; bad lines are counted."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from careloop import InputError
from careloop.genome.annotate.coding import MITOCHONDRIAL, STANDARD, SplicedSequences, codon_table, translate
from careloop.genome.annotate.transcripts import read_genes

EXONS, CDS = ((100, 200), (300, 400), (500, 600)), ((150, 200), (300, 400), (500, 521))
ENSEMBL = """##gff-version 3
#!genome-build GRCh38.p14
20	ensembl	gene	101	600	.	-	.	ID=gene:ENSG01;Name=ABC1;biotype=protein_coding;version=4
20	ensembl	mRNA	101	600	.	-	.	ID=transcript:ENST01;Parent=gene:ENSG01;biotype=protein_coding;tag=basic,Ensembl_canonical,MANE_Select;transcript_id=ENST01;version=2
20	ensembl	exon	501	600	.	-	.	Parent=transcript:ENST01
20	ensembl	exon	301	400	.	-	.	Parent=transcript:ENST01
20	ensembl	exon	101	200	.	-	.	Parent=transcript:ENST01
20	ensembl	CDS	501	521	.	-	0	ID=CDS:P1;Parent=transcript:ENST01
20	ensembl	CDS	301	400	.	-	0	ID=CDS:P1;Parent=transcript:ENST01
20	ensembl	CDS	151	200	.	-	2	ID=CDS:P1;Parent=transcript:ENST01
"""  # noqa: E501
GENCODE_GTF = """##description: GRCh38
chr20	HAVANA	gene	101	600	.	-	.	gene_id "ENSG01.4"; gene_type "protein_coding"; gene_name "ABC1";
chr20	HAVANA	transcript	101	600	.	-	.	gene_id "ENSG01.4"; transcript_id "ENST01.2"; gene_type "protein_coding"; gene_name "ABC1"; transcript_type "protein_coding"; tag "basic"; tag "Ensembl_canonical"; tag "MANE_Select";
chr20	HAVANA	exon	501	600	.	-	.	gene_id "ENSG01.4"; transcript_id "ENST01.2";
chr20	HAVANA	CDS	501	521	.	-	0	gene_id "ENSG01.4"; transcript_id "ENST01.2";
chr20	HAVANA	exon	301	400	.	-	.	gene_id "ENSG01.4"; transcript_id "ENST01.2";
chr20	HAVANA	CDS	301	400	.	-	0	gene_id "ENSG01.4"; transcript_id "ENST01.2";
chr20	HAVANA	exon	101	200	.	-	.	gene_id "ENSG01.4"; transcript_id "ENST01.2";
chr20	HAVANA	CDS	154	200	.	-	2	gene_id "ENSG01.4"; transcript_id "ENST01.2";
chr20	HAVANA	stop_codon	151	153	.	-	0	gene_id "ENSG01.4"; transcript_id "ENST01.2";
"""  # noqa: E501
REFSEQ = """##gff-version 3
NC_000020.11	BestRefSeq	gene	101	600	.	-	.	ID=gene-ABC1;Name=ABC1;gene=ABC1;gene_biotype=protein_coding
NC_000020.11	BestRefSeq	mRNA	101	600	.	-	.	ID=rna-NM_01.2;Parent=gene-ABC1;Name=NM_01.2;gene=ABC1;tag=MANE Select;transcript_id=NM_01.2
NC_000020.11	BestRefSeq	exon	501	600	.	-	.	ID=exon-1;Parent=rna-NM_01.2;gene=ABC1;transcript_id=NM_01.2
NC_000020.11	BestRefSeq	exon	301	400	.	-	.	ID=exon-2;Parent=rna-NM_01.2;gene=ABC1;transcript_id=NM_01.2
NC_000020.11	BestRefSeq	exon	101	200	.	-	.	ID=exon-3;Parent=rna-NM_01.2;gene=ABC1;transcript_id=NM_01.2
NC_000020.11	BestRefSeq	CDS	501	521	.	-	0	ID=cds-1;Parent=rna-NM_01.2;gene=ABC1
NC_000020.11	BestRefSeq	CDS	301	400	.	-	0	ID=cds-1;Parent=rna-NM_01.2;gene=ABC1
NC_000020.11	BestRefSeq	CDS	151	200	.	-	2	ID=cds-1;Parent=rna-NM_01.2;gene=ABC1
"""  # noqa: E501


@pytest.mark.parametrize(
    ("text", "name", "identifier", "gene_id"),
    [
        (ENSEMBL, "genes.gff3", "ENST01.2", "ENSG01"),
        (GENCODE_GTF, "genes.gtf", "ENST01.2", "ENSG01.4"),
        (REFSEQ, "genes.gff", "NM_01.2", "ABC1"),
    ],
)
def test_the_same_gene_in_three_layouts(tmp_path: Path, text: str, name: str, identifier: str, gene_id: str) -> None:
    path = tmp_path / f"{name}.gz"
    path.write_bytes(gzip.compress(text.encode()))
    genes = read_genes(path)
    (transcript,) = genes.transcripts
    assert (transcript.id, transcript.gene_id, transcript.gene_name) == (identifier, gene_id, "ABC1")
    assert (transcript.exons, transcript.cds, transcript.strand, transcript.phase) == (EXONS, CDS, -1, 0)
    assert transcript.biotype == "protein_coding"
    assert transcript.mane
    assert genes.build == "GRCh38"
    assert genes.rejects.total == 0
    for contig in ("20", "chr20", "NC_000020.11"):
        assert genes.near(contig, 5_599, 5_600) == [transcript]
        assert genes.near(contig, 5_601, 5_602) == []


def test_bad_lines_and_transcripts_are_counted(tmp_path: Path) -> None:
    bad = (
        "20\tx\texon\t700\t650\t.\t+\t.\tParent=transcript:T2\n"
        "20\tx\texon\tten\t650\t.\t+\t.\tParent=transcript:T2\n"
        "20\tx\texon\t700\n"
        "20\tx\texon\t700\t800\t.\t?\t.\tParent=transcript:T2\n"
        "20\tx\texon\t700\t800\t.\t+\t.\tID=nobody\n"
        "20\tx\texon\t700\t800\t.\t+\t.\tParent=transcript:T3\n"
        "20\tx\texon\t750\t850\t.\t+\t.\tParent=transcript:T3\n"
        "20\tx\texon\t700\t800\t.\t+\t.\tParent=transcript:T4\n"
        "21\tx\texon\t900\t950\t.\t+\t.\tParent=transcript:T4\n"
    )
    path = tmp_path / "genes.gff3"
    path.write_text(ENSEMBL + bad)
    genes = read_genes(path)
    assert [transcript.id for transcript in genes.transcripts] == ["ENST01.2"]
    assert genes.rejects.total == 7
    assert genes.rejects.reasons["exons overlap"] == 1
    assert genes.rejects.reasons["exons on two contigs or strands"] == 1


CUT = gzip.compress(ENSEMBL.encode(), mtime=0)[:80]  # without the time, so that all processes name the test alike


@pytest.mark.parametrize("content", [b"", b"not a gene file\n", CUT], ids=["empty", "another", "cut"])
def test_a_file_without_genes_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "genes.gff3"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"no transcript|ends early"):
        read_genes(path)


def test_simulated_coding_parts_are_translated_from_start_to_stop(gene_world: Any) -> None:
    sequences: SplicedSequences = gene_world.sequences
    coding = [transcript for transcript in gene_world.genes.transcripts if transcript.coding]
    assert {transcript.strand for transcript in coding} == {1, -1}
    for transcript in coding:
        protein = sequences.of(transcript).protein
        assert protein[0] == "M"
        assert protein.index("*") == len(protein) - 1 == transcript.cds_length // 3 - 1


def test_places_and_exon_numbers_are_those_of_counting(gene_world: Any) -> None:
    for transcript in gene_world.genes.transcripts[:20]:
        exonic = [at for start, end in transcript.exons for at in range(start, end)][:: transcript.strand]
        assert [transcript.place(at).offset for at in exonic] == list(range(len(exonic)))
        assert all(transcript.place(at).distance == 0 for at in exonic)
        for start, end in transcript.introns:
            for at in range(start, end):
                place = transcript.place(at)
                assert exonic[place.offset] + place.distance * transcript.strand == at
                assert abs(place.distance) <= (end - start + 1) // 2
                assert transcript.exon_number(at) is None
                assert transcript.intron_number(at) is not None


def test_mitochondrial_code() -> None:
    assert codon_table("chrM") is codon_table("MT") is MITOCHONDRIAL
    assert translate("ATATGAAGAAGG", MITOCHONDRIAL) == "MW**"
    assert translate("ATATGAAGAAGGAN", STANDARD) == "I*RR"
