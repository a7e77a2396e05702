"""The commands `careloop genome ancestry` and `careloop genome check`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from careloop.cli.genome import genome
from careloop.cli.genome_population import ancestry, check_command
from careloop.genome.findings.scores.dosage_table import dosage_table
from careloop.genome.findings.scores.score_events import record_scores
from careloop.genome.genotypes.open_genotypes import open_genotypes
from careloop.genome.genotypes.write_bed import write_bed
from careloop.genome.simulate.cohort import GenotypeModel, simulate_cohort
from careloop.record import Record, subject_ids

MODEL = GenotypeModel(frequencies=(0.1, 0.5), populations=2, fst=0.05, contigs=("1", "2", "X"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference of 120 people in two groups, a file of 30 others, and the same 30 with two samples swapped."""
    folder = tmp_path_factory.mktemp("files")
    cohort = simulate_cohort(150, 2400, seed=13, model=MODEL)
    variants = cohort.variants.with_columns(
        pl.when(pl.col("contig") == "X").then(pl.col("position") + 5_000_000).otherwise("position").alias("position")
    )
    write_bed(folder / "reference", cohort.samples[:120], variants, [cohort.genotypes[:, :120]])
    write_bed(folder / "people", cohort.samples[120:], variants, [cohort.genotypes[:, 120:]])
    order = np.array([121, 120, *range(122, 150)])
    write_bed(folder / "again", cohort.samples[120:], variants, [np.ascontiguousarray(cohort.genotypes[:, order])])
    names = np.array(["North", "South"])[cohort.population]
    pl.DataFrame({"IID": cohort.samples["sample_id"], "pop": names}).head(120).write_csv(folder / "groups.csv")
    return folder


def invoke(command: object, *arguments: object) -> dict[str, object]:
    ran = CliRunner().invoke(command, [*map(str, arguments), "--json"])  # type: ignore[arg-type]
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.stdout)


def test_people_are_placed_by_a_reference_and_by_the_panel_kept(files: Path, tmp_path: Path) -> None:
    made_of = ("--reference", files / "reference", "--groups", files / "groups.csv", "--save-panel", tmp_path / "panel")
    common = ("--components", 3, "--person", "P000130", "--simulated")
    shown = invoke(ancestry, files / "people", "--out", tmp_path / "one", *made_of, *common)
    assert shown["nearest"] == {"North": 15, "South": 15}
    assert shown["like_none"] == 0
    again = invoke(ancestry, files / "people", "--out", tmp_path / "two", "--panel", tmp_path / "panel", *common)
    for name in ("components.tsv", "ancestry.tsv"):
        assert (tmp_path / "one" / name).read_text() == (tmp_path / "two" / name).read_text()
    assert again["nearest"] == shown["nearest"]
    components = pl.read_csv(tmp_path / "one" / "components.tsv", separator="\t")
    assert components.columns == ["sample_id", "PC1", "PC2", "PC3"]
    assert "P000130" in (tmp_path / "one" / "page.html").read_text()


def test_a_files_own_components(files: Path, tmp_path: Path) -> None:
    shown = invoke(ancestry, files / "reference", "--out", tmp_path / "own", "--components", 2)
    assert shown["people"] == 120
    assert len(shown["share"]) == 2  # type: ignore[arg-type]
    table = pl.read_csv(tmp_path / "own" / "components.tsv", separator="\t")
    assert (table.select("PC1", "PC2").to_numpy() ** 2).sum(axis=0) == pytest.approx([1, 1])
    assert not (tmp_path / "own" / "ancestry.tsv").exists()
    text = CliRunner().invoke(ancestry, [str(files / "reference"), "--out", str(tmp_path / "own"), "--components", "2"])
    assert "% of the variance" in text.stdout


def test_swapped_samples_are_noticed_beside_a_file_and_a_record(files: Path, tmp_path: Path) -> None:
    source = open_genotypes(files / "people")
    record = Record.create(tmp_path / "record", shards=1)
    ids = subject_ids(record, source.samples["sample_id"])
    visits = pl.DataFrame({"subject_id": ids, "time": datetime(2024, 1, 1, tzinfo=UTC), "code": "VISIT"})
    record.append(visits, key="visits")
    record_scores(record.path, dosage_table(source, [f"rs{number}" for number in range(1, 80)]), kind="dosage")
    beside = ("--against", files / "people", "--record", record.path)
    shown = invoke(check_command, files / "again", "--out", tmp_path / "out", *beside)
    assert shown["matches"] == {
        "people": {"same": 28, "swapped": 2},
        "record": {"same": 28, "swapped": 2},
    }
    matches = pl.read_csv(tmp_path / "out" / "matches.tsv", separator="\t")
    assert matches.filter(verdict="swapped")["best_match"].to_list() == ["P000122", "P000121"] * 2
    assert {"people.tsv", "relatives.tsv", "parents.tsv", "page.html"} <= {
        one.name for one in (tmp_path / "out").iterdir()
    }


def test_known_genotypes_are_read_from_a_table(files: Path, tmp_path: Path) -> None:
    table = tmp_path / "known.csv"
    table.write_text("sample_id,variant_id,copies\nP000121,rs1,1\n")
    shown = invoke(check_command, files / "people", "--out", tmp_path / "out", "--known", table)
    assert shown["matches"] == {"known.csv": {"not clear": 1}}
    table.write_text("sample_id,variant_id,copies\nP000121,rs1,3\n")
    ran = CliRunner().invoke(
        check_command, [str(files / "people"), "--out", str(tmp_path / "o"), "--known", str(table)]
    )
    assert "numbers from 0 to 2" in str(ran.exception)


def test_checks_as_text(files: Path, tmp_path: Path) -> None:
    ran = CliRunner().invoke(check_command, [str(files / "people"), "--out", str(tmp_path / "out")])
    assert ran.exit_code == 0, ran.output
    assert "30 people" in ran.stdout
    assert "not for clinical use" in ran.stdout


def test_the_commands_belong_to_genome_and_refuse_half_a_reference(files: Path, tmp_path: Path) -> None:
    assert {"ancestry", "check"} <= set(genome.commands)
    half = [str(files / "people"), "--out", str(tmp_path), "--reference", str(files / "reference")]
    assert CliRunner().invoke(ancestry, half).exit_code == 2
