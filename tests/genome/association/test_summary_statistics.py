"""Summary statistics in the layouts that programs write come out as one table; broken rows are counted with reasons."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from careloop import InputError
from careloop.genome.association.summary_statistics import (
    STATISTICS,
    p_text,
    read_summary_statistics,
    write_summary_statistics,
)

# One variant, effect allele T with log odds 0.2 (SE 0.05, P 6.334e-05), as different programs write it.
LAYOUTS = {
    "plink2": "#CHROM\tPOS\tID\tREF\tALT\tA1\tFIRTH?\tTEST\tOBS_CT\tOR\tLOG(OR)_SE\tZ_STAT\tP\tERRCODE\n"
    "1\t100\trs1\tT\tC\tT\tN\tADD\t1000\t1.221402758\t0.05\t4\t6.334e-05\t.\n"
    "1\t100\trs1\tT\tC\tT\tN\tAGE\t1000\t1.5\t0.05\t4\t6.334e-05\t.\n",
    "regenie": "CHROM GENPOS ID ALLELE0 ALLELE1 A1FREQ N TEST BETA SE CHISQ LOG10P EXTRA\n"
    "1 100 rs1 C T 0.3 1000 ADD 0.2 0.05 16 4.19832 NA\n",
    "saige": "CHR\tPOS\tMarkerID\tAllele1\tAllele2\tAC_Allele2\tAF_Allele2\tBETA\tSE\tp.value\tN\n"
    "1\t100\trs1\tC\tT\t600\t0.3\t0.2\t0.05\t6.334e-05\t1000\n",
    "metal": "MarkerName\tChr\tPosition\tAllele1\tAllele2\tFreq1\tEffect\tStdErr\tP-value\tN\n"
    "rs1\t1\t100\tt\tc\t0.3\t0.2\t0.05\t6.334e-05\t1000\n",
    "daner": "CHR SNP BP A1 A2 FRQ INFO OR SE P Nca Nco\n1 rs1 100 T C 0.3 1 1.221402758 0.05 6.334e-05 400 600\n",
    "finngen": "#chrom\tpos\tref\talt\trsids\tpval\tmlogp\tbeta\tsebeta\taf_alt\tN\n"
    "chr1\t100\tC\tT\trs1\t6.334e-05\t4.19832\t0.2\t0.05\t0.3\t1000\n",
    "neale": "variant,minor_allele,rsid,n_complete_samples,beta,se,pval\n1:100:C:T,C,rs1,1000,0.2,0.05,6.334e-05\n",
    "no standard error": "SNP,CHR,BP,A1,A2,BETA,P,N\nrs1,01,100,T,C,0.2,6.334e-05,1000\n",
    "padded": "  CHR    SNP   BP  A1  A2   BETA    SE          P     NMISS\n"
    "    1    rs1  100   T   C    0.2  0.05  6.334e-05      1000\n",
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_the_same_variant(tmp_path: Path, name: str) -> None:
    (tmp_path / "file.txt").write_text(LAYOUTS[name])
    read = read_summary_statistics(tmp_path / "file.txt")
    assert read.table.schema == STATISTICS
    assert read.rejects.is_empty()
    row = read.table.row(0, named=True)
    places = ("chromosome", "base_pair_location", "effect_allele", "other_allele", "variant_id", "n")
    assert [row[key] for key in places] == ["1", 100, "T", "C", "rs1", 1000]
    assert row["beta"] == pytest.approx(0.2, rel=1e-8)
    assert row["standard_error"] == pytest.approx(0.05, rel=1e-4)
    assert row["p_value"] == pytest.approx(6.334e-05, rel=1e-4)
    assert row["neg_log_10_p_value"] == pytest.approx(4.19832, rel=1e-4)
    assert "effect_allele" in read.recognised.said or name == "neale"
    assert read.left_out == ({"AGE": 1} if name == "plink2" else {})


def test_tiny_p_values_keep_their_logarithm(tmp_path: Path) -> None:
    lines = ["rs1\tA\tG\t1\t0.02\t3.2e-412", "rs2\tA\tG\t1\t0.02\t0", "rs3\tA\tG\t1\t0.5\t0.0455"]
    (tmp_path / "file.tsv").write_text("\n".join(["SNP\tA1\tA2\tBETA\tSE\tP", *lines]) + "\n")
    table = read_summary_statistics(tmp_path / "file.tsv", n=500).table
    # log10 of the two tails of the normal distribution at 50: -log10(2 * phi(50) / 50 * (1 - 1 / 2500 + ...))
    assert table["neg_log_10_p_value"].to_list() == pytest.approx([411.4949, 544.6653, 1.342], rel=1e-5)
    assert table["n"].to_list() == [500] * 3


def test_broken_rows_are_rejected_with_line_and_reason(tmp_path: Path) -> None:
    rows = {
        "rs1\tA\tG\tten\t0.02\t0.5": "beta is no number",
        "rs2\tA\tA\t1\t0.02\t0.5": "effect and other allele are the same",
        "rs3\tA\tG\t1\t0\t0.5": "standard error is not above 0",
        "rs4\tA\tG\t1\t0.02\t1.5": "P value is not between 0 and 1",
        "rs5\tNA\tG\t1\t0.02\t0.5": "no effect allele",
        "NA\tA\tG\t1\t0.02\t0.5": "neither id nor position",
        "rs7\tA\tG\tNA\t0.02\tNA": "neither effect nor P value",
    }
    (tmp_path / "file.tsv").write_text("\n".join(["SNP\tA1\tA2\tBETA\tSE\tP", *rows, "rs8\tA\tG\t1\t1\t0.3"]) + "\n")
    read = read_summary_statistics(tmp_path / "file.tsv")
    assert read.table["variant_id"].to_list() == ["rs8"]
    assert list(read.rejects.iter_rows()) == list(zip(range(2, 9), rows.values(), strict=True))
    with pytest.raises(InputError, match="n are needed"):
        read.require("beta", "n")


@pytest.mark.parametrize("text", ["SNP\tBETA\tP\nrs1\t1\t0.5\n", "", "A1\tA2\nA\tG\n"])
def test_unknown_columns_are_one_clear_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "file.tsv").write_text(text)
    with pytest.raises(InputError, match="summary statistics"):
        read_summary_statistics(tmp_path / "file.tsv")


def test_a_cut_off_gzip_file_is_refused(tmp_path: Path) -> None:
    packed = gzip.compress(("SNP\tA1\tA2\tBETA\tSE\tP\n" + "rs1\tA\tG\t1\t0.02\t0.5\n" * 5000).encode())
    (tmp_path / "file.tsv.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InputError, match="cannot be read"):
        read_summary_statistics(tmp_path / "file.tsv.gz")


def test_parts_packed_one_after_another_are_all_read(tmp_path: Path) -> None:
    """As bgzip writes: gzip members in a row."""
    parts = ["SNP\tA1\tA2\tBETA\tSE\tP\n", "rs1\tA\tG\t1\t0.02\t0.5\n", "rs2\tA\tG\t1\t0.02\t0.5\n"]
    (tmp_path / "file.tsv.gz").write_bytes(b"".join(gzip.compress(part.encode()) for part in parts))
    assert read_summary_statistics(tmp_path / "file.tsv.gz").table.height == 2


finite = st.floats(-5, 5, allow_nan=False)


@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["1", "22", "X", "MT"]), st.integers(1, 10**8), finite, st.floats(1e-3, 9)),
        min_size=1,
        max_size=5,
    ),
    packed=st.booleans(),
)
@settings(max_examples=20, derandomize=True, deadline=None)
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, rows: list, packed: bool) -> None:
    table = pl.DataFrame(
        {
            "chromosome": [row[0] for row in rows],
            "base_pair_location": [row[1] for row in rows],
            "effect_allele": "AT",
            "other_allele": "A",
            "beta": [row[2] for row in rows],
            "standard_error": [row[3] for row in rows],
            "effect_allele_frequency": 0.25,
            "p_value": 0.125,
            "neg_log_10_p_value": 0.903,
            "variant_id": [f"v{at}" for at in range(len(rows))],
            "n": 100,
            "test": "ADD",
            "error": pl.Series([None] * len(rows), dtype=pl.String),
        }
    ).cast(STATISTICS)  # type: ignore[arg-type]
    path = tmp_path_factory.mktemp("written") / ("out.tsv.gz" if packed else "out.tsv")
    write_summary_statistics(table, path, build="GRCh38")
    read = read_summary_statistics(path)
    assert_frame_equal(read.table, table)
    assert read.build == "GRCh38"
    assert read.recognised.layout == "GWAS-SSF"


@pytest.mark.parametrize(
    ("minus_log", "text"),
    [(0.0, "1.0000"), (1.301, "0.0500"), (5.623, "2.38e-06"), (411.49485, "3.20e-412"), (12, "1.00e-12")],
)
def test_p_values_are_written_however_small(minus_log: float, text: str) -> None:
    assert p_text(minus_log) == text
