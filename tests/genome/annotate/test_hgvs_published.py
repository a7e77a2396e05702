"""Examples of the HGVS nomenclature (hgvs-nomenclature.org, 21.1), and names worked out by hand."""

from __future__ import annotations

import pytest

from careloop.genome.annotate.coding import CodingChange, Spliced
from careloop.genome.annotate.consequence import Change, coding_terms
from careloop.genome.annotate.effects import change_of
from careloop.genome.annotate.hgvs_dna import accession, genomic_name, transcript_name
from careloop.genome.annotate.hgvs_protein import protein_name
from careloop.genome.annotate.transcript import Transcript
from careloop.genome.variant import Variant

# The first 33 residues of dystrophin (NP_003997), which the nomenclature's examples are of, in codons of our choice.
DYSTROPHIN = (
    "ATG CTT TGG TGG GAA GAA GTA GAG GAC TGT TAT GAA AGA GAA GAT GTT CAA AAG AAA ACA TTC ACA AAA TGG GTA AAT GCA "
    "CAA TTT TCT AAG TTT GGG TAA"
).replace(" ", "")
LEADER, TRAILER = "GCGCC", "CATTAGC"


def named(start: int, end: int, alt: str, coding: str = DYSTROPHIN) -> str:
    """The name of a change of coding bases [start, end), 0-based."""
    bases = LEADER + coding + TRAILER
    cds = (len(LEADER), len(LEADER) + len(coding))
    transcript = Transcript("T", "G", "G", "1", 1, ((0, len(bases)),), (cds,))
    return protein_name(CodingChange(Spliced(transcript, bases), start + cds[0], end + cds[0], alt))


@pytest.mark.parametrize(
    ("start", "end", "alt", "name"),
    [
        (18, 21, "", "p.(Val7del)"),
        (66, 75, "", "p.(Lys23_Val25del)"),
        (21, 21, "GTA", "p.(Val7dup)"),
        (75, 75, "AAATGGGTA", "p.(Lys23_Val25dup)"),
        (71, 72, "C", "p.(Trp24Cys)"),
        (71, 72, "A", "p.(Trp24Ter)"),
        (70, 71, "A", "p.(Trp24Ter)"),
        (6, 9, "", "p.(Trp4del)"),  # the 3' rule: the second of two
        (0, 1, "G", "p.(Met1?)"),
        (5, 6, "C", "p.(Leu2=)"),
        (75, 78, "TCATCATGA", "p.(Asn26delinsSerSerTer)"),  # as p.Asn47delinsSerSerTer
        (75, 75, "TCATCATGA", "p.(Val25_Asn26insSerSerTer)"),  # as p.(Pro46_Asn47insSerSerTer)
        (75, 75, "TGA", "p.(Asn26Ter)"),  # an insertion that stops at once is a nonsense variant
        (99, 100, "C", "p.(Ter34GlnextTer2)"),  # CAA CAT TAG
        (12, 12, "A", "p.(Glu5ArgfsTer8)"),  # AGA AGA AGT AGA GGA CTG TTA TGA
    ],
)
def test_protein_examples(start: int, end: int, alt: str, name: str) -> None:
    assert named(start, end, alt) == name


def test_a_deletion_that_leaves_the_start_codon_is_one_of_the_leader() -> None:
    bases = "GCCA" + DYSTROPHIN + TRAILER  # A ATG: either A may be the one that is lost
    transcript = Transcript("T", "G", "G", "1", 1, ((0, len(bases)),), ((4, 4 + len(DYSTROPHIN)),))
    change = CodingChange(Spliced(transcript, bases), 4, 5, "")
    assert protein_name(change) == "p.(=)"
    assert coding_terms(change) == {"start_retained_variant", "5_prime_UTR_variant"}


def test_behind_a_stop_that_is_read_through_no_protein_is_predicted() -> None:
    selenoprotein = "ATG" + "TGA" + DYSTROPHIN[3:]
    assert named(74, 75, "C", selenoprotein) == "p.?"
    assert named(21, 21, "GT", selenoprotein) == "p.?"
    assert named(1, 2, "C", selenoprotein) == "p.(Met1?)"


@pytest.mark.parametrize(
    ("sequence", "start", "end", "alt", "name"),
    [
        ("ACTTACTGCC", 7, 7, "T", "g.7dup"),  # the duplication page: to ACTTACTTGCC
        ("ACAATTGCC", 5, 5, "TGC", "g.6_8dup"),  # to ACAATTGCTGCC
        ("ACTTTGCC", 2, 3, "", "g.5del"),
        ("ACTTTGCC", 5, 5, "AT", "g.5_6insAT"),
        ("ACTCTGCC", 2, 5, "GGA", "g.3_5delinsGGA"),
        ("ACTCAGCC", 2, 5, "TGG", "g.4_5delinsGG"),
        ("ACTCCGCC", 2, 5, "GGA", "g.3_5inv"),
    ],
)
def test_dna_examples(sequence: str, start: int, end: int, alt: str, name: str) -> None:
    change = change_of(Variant("x", start - 1, sequence[start - 1 : end], sequence[start - 1] + alt))
    assert genomic_name(change, "x", lambda a, b: sequence[max(0, a) : b]) == f"x:{name}"


@pytest.mark.parametrize("strand", [1, -1])
def test_a_copy_of_the_last_base_of_an_exon_stays_in_that_exon(strand: int) -> None:
    """`c.123dup` in CAAgt...agAAG, not `c.125dup`: the next exon begins with the same bases (duplication page)."""
    left, intron, right = "CCCAA", "GTCCCCCCAG", "AAGCC"
    plus = left + intron + right
    sequence = plus if strand > 0 else plus[::-1].translate(str.maketrans("ACGT", "TGCA"))
    exons = ((0, 5), (15, 20))
    transcript = Transcript("T", "G", "G", "1", strand, exons)
    at = 5 if strand > 0 else len(sequence) - 5
    change = Change(at, at, "", "A" if strand > 0 else "T")
    assert transcript_name(change, transcript, lambda a, b: sequence[max(0, a) : b]) == "n.5dup"


def test_numbers_of_introns_and_untranslated_regions() -> None:
    exons, cds = ((10, 20), (31, 41), (50, 60)), ((15, 20), (31, 35))
    forward = Transcript("T", "G", "G", "1", 1, exons, cds)
    names = {
        at: transcript_name(Change(at, at + 1, "A", "G"), forward, lambda a, b: "A" * (b - a)) for at in range(10, 60)
    }
    assert names[10] == "c.-5A>G"
    assert names[15] == "c.1A>G"
    assert names[20] == "c.5+1A>G"
    assert names[25] == "c.5+6A>G"  # the middle of eleven bases counts from the exon before
    assert names[26] == "c.6-5A>G"
    assert names[35] == "c.*1A>G"
    assert names[41] == "c.*6+1A>G"
    assert names[59] == "c.*16A>G"
    backward = Transcript("T", "G", "G", "1", -1, exons, cds)
    names = {
        at: transcript_name(Change(at, at + 1, "A", "G"), backward, lambda a, b: "A" * (b - a)) for at in range(10, 60)
    }
    assert names[34] == "c.1T>C"
    assert names[30] == "c.4+1T>C"
    assert names[25] == "c.4+6T>C"
    assert names[20] == "c.5-1T>C"
    assert names[14] == "c.*1T>C"
    assert names[35] == "c.-1T>C"


@pytest.mark.parametrize(
    ("contig", "build", "expected"),
    [
        ("20", "GRCh37", "NC_000020.10"),
        ("chr20", "GRCh38", "NC_000020.11"),
        ("X", "T2T-CHM13v2.0", "NC_060947.1"),
        ("MT", "GRCh38", "NC_012920.1"),
        ("20", "unknown", "20"),
        ("HLA-A", "GRCh38", "HLA-A"),
    ],
)
def test_accessions_of_chromosomes(contig: str, build: str, expected: str) -> None:
    assert accession(contig, build) == expected
