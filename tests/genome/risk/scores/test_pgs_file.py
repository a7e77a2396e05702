"""Score files: the PGS Catalog's format, plain tables, and rows that cannot be scored."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from careloop import InputError
from careloop.genome.risk.scores.pgs_file import read_pgs
from careloop.genome.risk.scores.reading import rows as reading
from careloop.genome.risk.scores.write_pgs import write_pgs

HEADER = """###PGS CATALOG SCORING FILE - see https://www.pgscatalog.org/downloads/#dl_ftp_scoring
#format_version=2.0
##POLYGENIC SCORE (PGS) INFORMATION
#pgs_id=PGS999999
#weight_type=beta
#genome_build=GRCh37
"""
HARMONISED = "##HARMONIZATION DETAILS\n#HmPOS_build=GRCh38\n"


def written(tmp_path: Path, text: str, name: str = "score.txt") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_catalog_file_is_read_with_its_header_and_lines(tmp_path: Path) -> None:
    columns = "rsID\tchr_name\tchr_position\teffect_allele\tother_allele\teffect_weight\tallelefrequency_effect\n"
    path = tmp_path / "PGS999999.txt.gz"
    rows = "rs1\tchr1\t100\ta\tG\t-0.5\t0.25\nrs2\t23\t7\tAT\tA\t2e-3\t\n"
    path.write_bytes(gzip.compress((HEADER + columns + rows).encode()))
    found = read_pgs(path)
    assert (found.name, found.build, found.rows) == ("PGS999999", "GRCh37", 2)
    assert found.header["weight_type"] == "beta"
    first, second = found.variants.to_dicts()
    assert first["line"] == 8
    assert (first["chromosome"], first["position"], first["effect_allele"]) == ("1", 100, "A")
    assert (first["weight_0"], first["weight_1"], first["weight_2"]) == (0, -0.5, -1)
    assert (first["effect_allele_frequency"], second["effect_allele_frequency"]) == (0.25, None)
    assert (second["effect_allele"], second["weight_1"]) == ("AT", 2e-3)


def test_harmonised_positions_are_taken_unless_only_the_authors_are_on_the_genotypes_build(tmp_path: Path) -> None:
    columns = (
        "rsID\tchr_name\tchr_position\teffect_allele\teffect_weight\thm_rsID\thm_chr\thm_pos\thm_inferOtherAllele\n"
    )
    rows = "rs1\t1\t100\tA\t1\trs11\t1\t200\tG\nrs2\t1\t101\tA\t1\t\t\t\tC/G\n"
    path = written(tmp_path, HEADER + HARMONISED + columns + rows)
    for build in (None, "GRCh38"):
        found = read_pgs(path, build=build)
        assert found.build == "GRCh38"
        assert found.variants["position"].to_list() == [200, None]
        assert found.variants["variant_id"].to_list() == ["rs11", "rs2"]
        assert found.variants["other_allele"].to_list() == ["G", None]  # two candidates say nothing
    older = read_pgs(path, build="GRCh37")
    assert (older.build, older.variants["position"].to_list()) == ("GRCh37", [100, 101])
    assert "author's positions" in older.notes[0]


def test_models_become_weights_of_copies(tmp_path: Path) -> None:
    columns = "rsID\teffect_allele\teffect_weight\tis_dominant\tis_recessive\tdosage_0_weight\tdosage_1_weight"
    columns += "\tdosage_2_weight\n"
    rows = "rs1\tA\t2\tFalse\tFalse\t\t\t\nrs2\tA\t2\tTrue\tFalse\t\t\t\nrs3\tA\t2\tFalse\tTrue\t\t\t\n"
    rows += "rs4\tA\t\t\t\t.1\t.5\t.2\n"
    found = read_pgs(written(tmp_path, HEADER + columns + rows)).variants
    assert found.select("weight_0", "weight_1", "weight_2").rows() == [(0, 2, 4), (0, 2, 2), (0, 0, 2), (0.1, 0.5, 0.2)]


def test_rows_that_cannot_be_scored_are_counted_with_their_reason(tmp_path: Path) -> None:
    columns = "rsID\tchr_name\tchr_position\teffect_allele\tother_allele\teffect_weight\tis_interaction\tis_haplotype\n"
    rows = [
        "rs1\t1\t5\tA\tG\t1\t\t",
        "rs2_x_rs3\t\t\tA\tG\t1\t\t",
        "rs2\t1\t6\tA\tG\t1\tTrue\t",
        "APOE\t19\t\tE4\t\t1\t\tTrue",
        "HLA\t6\t\tHLA-B*27:05\t\t1\t\t",
        "rs4\t1\t7\tA\tG\tNA\t\t",
        "rs5\t1\t8\tA\tG\tinf\t\t",
        "\t1\t\tA\tG\t1\t\t",
        "rs6\t1\t9\tA\tA\t1\t\t",
    ]
    found = read_pgs(written(tmp_path, HEADER + columns + "\n".join(rows) + "\n"))
    assert found.variants.height == 1
    assert found.rejects.rows() == [
        (9, reading.INTERACTION),
        (10, reading.INTERACTION),
        (11, reading.HAPLOTYPE),
        (12, reading.NOT_BASES),
        (13, reading.NO_WEIGHT),
        (14, reading.NO_WEIGHT),
        (15, reading.NO_PLACE),
        (16, reading.SAME_ALLELES),
    ]


@pytest.mark.parametrize(
    ("text", "ids", "weights"),
    [
        ("rs1\tA\t0.5\nrs2\tC\t-1\n", ["rs1", "rs2"], [0.5, -1]),
        ("SNP A1 A2 BETA\nrs1 A G 0.5\n", ["rs1"], [0.5]),
        ("id,effect_allele,weight\nrs1,A,.5\n", ["rs1"], [0.5]),
        ("#CHROM\tPOS\tA1\tBETA\n1\t5\tA\t2\n", [None], [2]),
    ],
)
def test_plain_tables_are_read(tmp_path: Path, text: str, ids: list[str | None], weights: list[float]) -> None:
    found = read_pgs(written(tmp_path, text, "my score.tsv"))
    assert found.name == "my_score"
    assert found.variants["variant_id"].to_list() == ids
    assert found.variants["weight_1"].to_list() == weights


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no row of weights"),
        (HEADER, "no row of weights"),
        ("rsID\tother\teffect_weight\nrs1\tA\t1\n", "column effect_allele"),
        ("rsID\teffect_allele\tother\nrs1\tA\tx\n", "column effect_weight"),
        ("effect_allele\teffect_weight\nA\t1\n", "rsID or chr_name"),
    ],
)
def test_what_is_no_score_file_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read_pgs(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_packed_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "score.txt.gz"
    path.write_bytes(gzip.compress(HEADER.encode() * 50)[:-20])
    with pytest.raises(InputError, match="ends early"):
        read_pgs(path)


def test_written_weights_are_read_back(tmp_path: Path) -> None:
    table = pl.DataFrame(
        {
            "variant_id": ["rs1", None],
            "chromosome": ["1", "X"],
            "position": [5, 6],
            "effect_allele": ["A", "T"],
            "other_allele": ["G", "TA"],
            "weight": [0.1, -1 / 3],
            "effect_allele_frequency": [0.2, None],
        }
    )
    path = tmp_path / "mine.txt.gz"
    write_pgs(table, path, name="MINE", build="GRCh38", about={"trait_reported": "height\nin cm"})
    found = read_pgs(path)
    assert (found.name, found.build, found.header["variants_number"]) == ("MINE", "GRCh38", "2")
    assert found.header["trait_reported"] == "height in cm"
    back = found.variants.select("variant_id", "chromosome", "position", "effect_allele", "other_allele", "weight_1")
    assert back.rows() == table.drop("effect_allele_frequency").rows()
    with pytest.raises(InputError, match="finite"):
        write_pgs(table.with_columns(weight=pl.lit(float("nan"))), path, name="X")
    assert read_pgs(path).name == "MINE"
