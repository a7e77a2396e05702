"""The command `careloop genome record`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from careloop.cli.genome import genome
from careloop.cli.genome_record import record_command
from careloop.genome.genotypes.source import MISSING, SAMPLES, VARIANTS
from careloop.genome.genotypes.write_bed import write_bed
from careloop.record import Record, subject_ids

DAY = datetime(2024, 2, 29, tzinfo=UTC)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """Two patients with a visit each."""
    made = Record.create(tmp_path / "record", shards=1)
    ids = subject_ids(made, pl.Series(["P1", "P2"]))
    made.append(pl.DataFrame({"subject_id": ids, "time": DAY, "code": "VISIT"}), key="visits")
    return made.path


def test_a_table_is_recorded_and_its_rejects_are_written(record: Path, tmp_path: Path) -> None:
    table, rejects = tmp_path / "scores.sscore", tmp_path / "rejects.csv"
    table.write_text("#IID\tALLELE_CT\tCAD\nP1\t8\t0.5\nP2\t8\tlow\nP9\t8\t1\n")
    arguments = [str(table), "--record", str(record), "--kind", "score", "--rejects", str(rejects)]
    ran = CliRunner().invoke(record_command, [*arguments, "--json"])
    assert ran.exit_code == 0, ran.output
    shown = json.loads(ran.stdout)
    assert shown["events"] == shown["changed"] == 1
    assert shown["rejected"] == {"no such patient in the record": 1, "not a number": 1}
    assert pl.read_csv(rejects)["sample_id"].to_list() == ["P9", "P2"]
    assert Record.open(record).events(codes=["GENOME//SCORE//CAD"]).collect().height == 1
    again = CliRunner().invoke(record_command, arguments)
    assert "1 values, 0 of them new or changed" in again.stdout
    assert "P9" not in again.stdout


def test_chosen_variants_of_a_genotype_file(record: Path, tmp_path: Path) -> None:
    samples = pl.DataFrame([{"sample_id": "P2"}, {"sample_id": "P1"}], schema=SAMPLES)
    rows = [("1", 10, "rs1", "A", "C"), ("1", 20, "rs2", "G", "T")]
    variants = pl.DataFrame(rows, schema=VARIANTS, orient="row")
    write_bed(tmp_path / "cohort", samples, variants, [np.array([[0, 1], [2, MISSING]], dtype=np.int8)])
    arguments = [str(tmp_path / "cohort"), "--record", str(record), "--kind", "dosage", "--json"]
    ran = CliRunner().invoke(record_command, [*arguments, "--variant", "rs2", "--variant", "1:10:A:C"])
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["missing"] == 1
    held = Record.open(record).events(codes=["GENOME//*"]).sort("code", "numeric_value").collect()
    assert held.select("code", "numeric_value").rows() == [
        ("GENOME//DOSAGE//rs1_C", 0.0),
        ("GENOME//DOSAGE//rs1_C", 1.0),
        ("GENOME//DOSAGE//rs2_T", 2.0),
    ]


def test_the_command_belongs_to_genome_and_says_what_it_needs(record: Path, tmp_path: Path) -> None:
    assert "record" in genome.commands
    helped = CliRunner().invoke(record_command, ["--help"])
    assert "GENOME//SCORE//NAME" in helped.output
    table = tmp_path / "a.csv"
    table.write_text("sample_id,x\nP1,1\n")
    wrong = [str(table), "--record", str(record), "--kind", "score", "--variant", "rs1"]
    assert CliRunner().invoke(record_command, wrong).exit_code == 2
