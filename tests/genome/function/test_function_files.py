"""Proteins from FASTA and their terms from GAF and tables: what is read, and what is refused with its line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from careloop import InputError
from careloop.genome.function.proteins import read_proteins, write_fasta
from careloop.genome.function.terms.annotations import EXPERIMENTAL, read_annotations, reasons
from careloop.genome.function.terms.ontology import Ontology

FASTA = """>sp|P69905|HBA_HUMAN Hemoglobin
mvlspadktnv KAAWGKVGAH*

>A1 second
MKV
LLU
>A1 again
MMMM
>empty
>bad
MKV-LL1
>dna
ACGTACGTACGTACGTACGTACGTACGTACGTAC
"""


def test_proteins_come_by_accession_and_rejects_by_line(tmp_path: Path) -> None:
    (tmp_path / "p.fasta").write_text(FASTA)
    found = read_proteins(tmp_path / "p.fasta")
    assert found.ids == ("P69905", "A1")
    assert found.sequences == ("MVLSPADKTNVKAAWGKVGAH", "MKVLLU")
    assert [(each.name, each.line) for each in found.rejects] == [("A1", 7), ("empty", 9), ("bad", 10), ("dna", 12)]
    assert [each.reason.split(":")[0] for each in found.rejects] == [
        "the id came before", "no residues", "letters that are no amino acids", "nucleotides, not amino acids"
    ]  # fmt: skip
    assert found.take([1]).ids == ("A1",)


def test_fasta_is_read_back_as_it_was_written_also_packed(tmp_path: Path) -> None:
    write_fasta(tmp_path / "p.fasta", ["a", "b"], ["MKV", "LLL"])
    with gzip.open(tmp_path / "p.fasta.gz", "wb") as file:
        file.write((tmp_path / "p.fasta").read_bytes())
    assert read_proteins(tmp_path / "p.fasta.gz").sequences == ("MKV", "LLL")
    (tmp_path / "broken.fasta.gz").write_bytes((tmp_path / "p.fasta.gz").read_bytes()[:-12])
    with pytest.raises(InputError, match="cannot be read"):
        read_proteins(tmp_path / "broken.fasta.gz")


@pytest.mark.parametrize(("text", "match"), [("", "no record"), ("MKV\n", "line 1"), (">x\n\n", "no residues")])
def test_a_file_without_proteins_is_refused(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "p.fasta").write_text(text)
    with pytest.raises(InputError, match=match):
        read_proteins(tmp_path / "p.fasta")


def gaf(protein: str, qualifier: str, term: str, code: str) -> str:
    columns = ["UniProtKB", protein, "SYM", qualifier, term, "PMID:1", code, "", "F", "", "", "protein", "taxon:9606"]
    return "\t".join([*columns, "20140101", "UniProt", "", ""])


def test_gaf_keeps_the_codes_asked_for_and_sets_not_apart(tmp_path: Path, ontology: Ontology) -> None:
    lines = [
        "!gaf-version: 2.2",
        gaf("P1", "enables", "GO:0000003", "IDA"),
        gaf("P1", "NOT|enables", "GO:0000004", "IDA"),
        gaf("P2", "enables", "GO:0000004", "IEA"),
        gaf("P3", "enables", "GO:0000033", "EXP"),
        gaf("P3", "involved_in", "GO:0000091", "EXP"),
        gaf("P3", "involved_in", "GO:9999999", "EXP"),
        "UniProtKB\tP4\tcut",
    ]
    path = tmp_path / "x.gaf"
    path.write_text("\n".join(lines) + "\n")
    found = read_annotations(path, ontology, evidence=EXPERIMENTAL)
    assert found.ids == ("P1", "P3")
    assert found.denied == (("P1", "GO:0000004"),)
    heme = {ontology.places[term] for term in ("GO:0000001", "GO:0000002", "GO:0000003")}
    assert [set(row.indices.tolist()) for row in found.matrix] == [heme, heme]
    assert [each.line for each in found.rejects] == [4, 6, 7, 8]
    assert sum(reasons(found.rejects).values()) == 4
    assert read_annotations(path, ontology).ids == ("P1", "P2", "P3")
    rows = found.of(["P3", "absent", "P1"])
    assert rows.toarray().sum(axis=1).tolist() == [3, 0, 3]


def test_a_table_may_have_a_header_and_several_terms_a_line(tmp_path: Path, ontology: Ontology) -> None:
    (tmp_path / "x.csv").write_text("protein,term\nP1,GO:0000003,GO:0000012\nP2,GO:0000090\nP3,nothing\n")
    found = read_annotations(tmp_path / "x.csv", ontology)
    assert found.ids == ("P1", "P2")
    assert [(each.name, each.line) for each in found.rejects] == [("P3", 4)]
    assert found.matrix[1, ontology.places["GO:0000011"]]


def test_a_file_without_annotations_is_refused(tmp_path: Path, ontology: Ontology) -> None:
    (tmp_path / "x.tsv").write_text("P1\tGO:9999999\n")
    with pytest.raises(InputError, match="does not have the term"):
        read_annotations(tmp_path / "x.tsv", ontology)
