"""VCF headers to events: versions, builds, dates, samples and links, and any bytes at all (all files made up)."""

from __future__ import annotations

import gzip
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.ingest.vcf import vcf_sources

COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
VARIANT = "1\t10177\t.\tA\tAC\t100\tPASS\t.\tGT\t0|1\t0|0"
HG38 = "##contig=<ID=chr1,length=248956422>\n##contig=<ID=chr22,assembly=x,length=50818468>"


def header(*lines: str, version: str = "VCFv4.2", samples: tuple[str, ...] = ("NA1", "NA2")) -> str:
    columns = "\t".join((COLUMNS, "FORMAT", *samples)) if samples else COLUMNS
    return "\n".join((f"##fileformat={version}", *lines, columns, VARIANT)) + "\n"


def read(path: Path, **given: Any) -> dict[str, Any]:
    batches = [batch for source in vcf_sources(path, **given) for batch in source.read()]
    rejected = [reject for batch in batches for reject in batch.rejected]
    skipped = sum((Counter(batch.skipped) for batch in batches), Counter())
    rows, kept = (sum(getattr(batch, name) for batch in batches) for name in ("rows_read", "rows_kept"))
    assert rows == kept + len(rejected) + skipped.total()
    events = pl.concat([batch.events for batch in batches])
    return {"events": events, "reasons": [reject.reason for reject in rejected], "skipped": skipped}


@pytest.mark.parametrize("version", ["VCFv4.1", "VCFv4.2", "VCFv4.3", "VCFv4.4", "VCFv4.5"])
def test_one_event_a_sample(tmp_path: Path, version: str) -> None:
    path = tmp_path / "cohort.vcf"
    path.write_text(header("##fileDate=20240229", "##source=GATK 4.5", HG38, version=version))
    events = read(tmp_path)["events"]
    assert events["subject"].to_list() == ["NA1", "NA2"]
    row = events.row(0, named=True)
    assert row["code"] == "GENOME//VCF"
    assert row["text_value"] == "build=GRCh38 (contig lengths); caller=GATK 4.5"
    assert row["time"] == datetime(2024, 2, 29, tzinfo=UTC)
    assert row["known_time"] == datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)
    assert row["asset"] == path.absolute().as_uri()
    assert row["source"] == "VCF//cohort.vcf//NA1"


@pytest.mark.parametrize(
    ("lines", "build"),
    [
        (("##contig=<ID=1,length=249250621>",), "GRCh37 (contig lengths)"),
        (("##contig=<ID=chr20,length=64444167>",), "GRCh38 (contig lengths)"),
        (("##contig=<length=154259566,ID=chrX>",), "T2T-CHM13v2.0 (contig lengths)"),
        (("##contig=<ID=1,length=249250621>", "##contig=<ID=22,length=50818468>"), "unknown (contig lengths disagree)"),
        (("##reference=file:///ref/hs37d5.fa",), "GRCh37 (reference name)"),
        (("##reference=hg19-to-hg38.fa",), "unknown"),
        ((), "unknown"),
    ],
)
def test_reference_build(tmp_path: Path, lines: tuple[str, ...], build: str) -> None:
    (tmp_path / "a.vcf").write_text(header(*lines))
    assert read(tmp_path)["events"]["text_value"][0] == f"build={build}"


def test_bgzip_blocks_and_cut_gzip(tmp_path: Path) -> None:
    text = header(HG38).encode()
    (tmp_path / "a.vcf.gz").write_bytes(gzip.compress(text[:40]) + gzip.compress(text[40:]))  # as bgzip writes: blocks
    (tmp_path / "b.vcf.gz").write_bytes(gzip.compress(text)[:60])
    result = read(tmp_path)
    assert result["events"].height == 2
    assert result["reasons"] == ["file ends early or is not readable"]


def test_without_a_date_the_event_is_static(tmp_path: Path) -> None:
    (tmp_path / "a.vcf").write_text(header("##fileDate=3/4/2024"))
    assert read(tmp_path)["events"]["time"].to_list() == [None, None]


def test_links_give_patient_and_time(tmp_path: Path) -> None:
    (tmp_path / "a.vcf").write_text(header("##fileDate=20240229"))
    links = tmp_path / "samples.csv"
    links.write_text("\ufeffSubject;Sample;Time\nP7;NA1;2023-05-01\n", encoding="utf-8")
    result = read(tmp_path, origin="lab", samples=links)
    row = result["events"].row(0, named=True)
    assert (row["subject"], row["time"]) == ("lab:P7", datetime(2023, 5, 1, tzinfo=UTC))
    assert row["known_time"] == row["time"]
    assert result["reasons"] == ["sample is not in the samples file"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"BCF\x02\x02....", "BCF is binary VCF; write it as text first: bcftools view -Oz"),
        (gzip.compress(b"BCF\x02\x02....", mtime=0), "BCF is binary VCF; write it as text first: bcftools view -Oz"),
        (b"##fileformat=VCFv4.0\n", "VCF version must be 4.1 to 4.5"),
        (b"chr1\t100\n", "not VCF: the first line must be ##fileformat=VCFv4"),
        (b"##fileformat=VCFv4.2\n##x=y\n", "file ends early: no column line (#CHROM)"),
        (b"##fileformat=VCFv4.2\n1\t2\n", "no column line (#CHROM) before the first variant"),
        (header(samples=("A", "A")).encode(), "sample names must be unique"),
        (header(samples=("A", "")).encode(), "sample without a name"),
        (
            header(samples=("A", "TUMOR")).encode(),
            "sample name is a role, not a patient: say whose it is in the samples file",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.vcf").write_bytes(content)
    assert read(tmp_path)["reasons"] == [reason]


def test_sites_only_and_latin_text(tmp_path: Path) -> None:
    (tmp_path / "sites.vcf").write_text(header(samples=()))
    (tmp_path / "latin.vcf").write_bytes(header("##source=Müller", samples=("Ä1",)).encode("cp1252"))
    result = read(tmp_path)
    assert result["skipped"] == {"no samples: sites only": 1}
    assert result["events"].row(0, named=True)["subject"] == "Ä1"


def test_user_mistakes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        vcf_sources(tmp_path / "nothing")
    with pytest.raises(InputError, match="no VCF file here"):
        vcf_sources(tmp_path)
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(InputError, match="not a VCF file"):
        vcf_sources(tmp_path / "a.txt")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_give_events_or_a_counted_reject(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(header("##fileDate=20240229", "##source=x", HG38).encode())
    for _ in range(data.draw(st.integers(0, 10))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))] + data.draw(st.binary(max_size=50))
    (tmp_path / "a.vcf").write_bytes(gzip.compress(content) if data.draw(st.booleans()) else content)
    read(tmp_path)
