"""What reads show around a variant, on reads written by hand, and the picture of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from careloop.genome.call.read_pile import ReadPile, read_pile
from careloop.genome.variant import Variant
from careloop.report.reads_picture import reads_picture

pysam = pytest.importorskip("pysam")
REFERENCE = "ACGTTGCAAGGCTTACCGATAGCTTGCAAC" * 4
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(*reads: tuple[int, str, str, int]) -> Path:
        header = {"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": [{"SN": "1", "LN": len(REFERENCE)}]}
        path = tmp_path / "reads.bam"
        with pysam.AlignmentFile(str(path), "wb", header=header) as file:
            for number, (start, bases, cigar, flag) in enumerate(sorted(reads)):
                read = pysam.AlignedSegment(file.header)
                read.query_name, read.query_sequence, read.cigarstring, read.flag = f"r{number}", bases, cigar, flag
                read.reference_id, read.reference_start, read.mapping_quality = 0, start, 60
                read.query_qualities = pysam.qualitystring_to_array("I" * len(bases))
                file.write(read)
        pysam.index(str(path))
        return path

    return written


def pile(path: Path, variant: Variant, most: int = 40) -> ReadPile:
    with pysam.AlignmentFile(str(path)) as reads:
        return read_pile(reads, lambda contig, start, end: REFERENCE[max(0, start) : end], variant, most=most)


def test_each_read_is_counted_by_the_allele_that_it_spells(write: Write) -> None:
    changed = REFERENCE[20:50] + "C" + REFERENCE[51:80]
    other = REFERENCE[20:50] + "T" + REFERENCE[51:80]
    assert REFERENCE[50] not in "CT"
    path = write(
        (20, changed, "60M", 0), (20, changed, "60M", 16), (20, REFERENCE[20:80], "60M", 0), (20, other, "60M", 0),
        (60, REFERENCE[60:100], "40M", 0), (20, changed, "60M", 0x400),
    )  # fmt: skip
    found = pile(path, Variant("1", 50, REFERENCE[50], "C"))
    assert found.counts == {"alternative": 2, "another allele": 1, "reference": 1, "neither": 1}
    assert [one.shows for one in found.reads] == ["alternative"] * 2 + ["another allele", "reference"]
    assert found.depth[50 - found.start] == 4
    assert [one.reverse for one in found.reads[:2]].count(True) == 1


def test_deletions_and_insertions_are_told_by_the_alignment(write: Write) -> None:
    deleted = REFERENCE[20:51] + REFERENCE[53:80]
    inserted = REFERENCE[20:51] + "GG" + REFERENCE[51:80]
    path = write((20, deleted, "31M2D27M", 0), (20, inserted, "31M2I29M", 0), (20, REFERENCE[20:80], "60M", 0))
    deletion = pile(path, Variant("1", 50, REFERENCE[50:53], REFERENCE[50]))
    assert deletion.counts == {"alternative": 1, "another allele": 1, "reference": 1}
    insertion = pile(path, Variant("1", 50, REFERENCE[50], REFERENCE[50] + "GG"))
    assert insertion.counts["alternative"] == 1
    assert insertion.reads[0].insertions == ((51, "GG"),)


def test_a_read_that_ends_at_an_indels_anchor_does_not_show_its_allele(write: Write) -> None:
    path = write((20, REFERENCE[20:51], "31M", 0), (20, REFERENCE[20:52], "32M", 0))
    insertion = pile(path, Variant("1", 50, REFERENCE[50], REFERENCE[50] + "GG"))
    assert insertion.counts == {"neither": 1, "reference": 1}


def test_of_many_reads_each_allele_keeps_its_share_and_the_others_are_counted(write: Write) -> None:
    changed = REFERENCE[20:50] + "C" + REFERENCE[51:80]
    path = write(*[(20, changed, "60M", 0)] * 30, *[(20, REFERENCE[20:80], "60M", 0)] * 90)
    found = pile(path, Variant("1", 50, REFERENCE[50], "C"), most=40)
    assert [one.shows for one in found.reads].count("alternative") == 10
    assert len(found.reads) + found.left_out == 120


def test_the_picture_is_xml_that_names_the_call_and_draws_each_read(write: Write) -> None:
    deleted = REFERENCE[20:51] + REFERENCE[53:80]
    path = write((20, deleted, "31M2D27M", 0), (20, REFERENCE[20:80], "60M", 16))
    svg = reads_picture(pile(path, Variant("1", 50, REFERENCE[50:53], REFERENCE[50])), said="0/1, <GQ> 99")
    root = ElementTree.fromstring(svg)
    words = " ".join(root.itertext())
    assert "1:51" in words
    assert "called 0/1, <GQ> 99" in words
    assert "1 with the variant, 1 with the reference" in words
    assert len(root.findall(".//{http://www.w3.org/2000/svg}polygon")) == 2


def test_no_reads_are_said_to_be_none(write: Write) -> None:
    svg = reads_picture(pile(write((20, REFERENCE[20:30], "10M", 0)), Variant("1", 90, REFERENCE[90], "C")))
    assert "no reads" in svg
