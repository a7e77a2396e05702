"""Genotypes that a record holds, and a swap between a file and the record noticed by them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from careloop import InputError
from careloop.genome.findings.scores.dosage_table import dosage_table
from careloop.genome.findings.scores.recorded_genotypes import recorded_genotypes
from careloop.genome.findings.scores.score_events import record_scores
from careloop.genome.genotypes.in_memory import InMemoryGenotypes
from careloop.genome.population.identity.swaps import match_known
from careloop.genome.simulate.cohort import GenotypeModel, simulate_cohort
from careloop.record import Record, subject_ids

DAY = datetime(2024, 2, 29, tzinfo=UTC)


@pytest.fixture
def source() -> InMemoryGenotypes:
    cohort = simulate_cohort(12, 200, seed=12, model=GenotypeModel(frequencies=(0.2, 0.5)))
    return InMemoryGenotypes(cohort.samples, cohort.variants, cohort.genotypes)


@pytest.fixture
def record(source: InMemoryGenotypes, tmp_path: Path) -> Path:
    """Six of the people, with sixty variants of each as an earlier test found them."""
    made = Record.create(tmp_path / "record", shards=1)
    names = source.samples["sample_id"][:6]
    made.append(pl.DataFrame({"subject_id": subject_ids(made, names), "time": DAY, "code": "VISIT"}), key="visits")
    table = dosage_table(source, source.variants["variant_id"][:60].to_list()).head(6)
    record_scores(made.path, table, kind="dosage")
    return made.path


def test_what_was_recorded_is_read_back_by_either_allele(source: InMemoryGenotypes, record: Path) -> None:
    turned = source.variants.rename({"ref": "alt", "alt": "ref"}).select(source.variants.columns)
    other = InMemoryGenotypes(source.samples, turned, 2 - source.genotypes(slice(None)))
    for opened in (source, other):
        known = recorded_genotypes(record, opened)
        assert known.height == 6 * 60
        assert match_known(opened, known).table["verdict"].to_list() == ["same"] * 6


def test_a_swap_between_file_and_record_is_noticed(source: InMemoryGenotypes, record: Path) -> None:
    ids = source.samples["sample_id"].to_list()
    ids[0], ids[1], ids[2], ids[9] = ids[1], ids[0], ids[9], ids[2]
    swapped = InMemoryGenotypes(
        source.samples.with_columns(pl.Series("sample_id", ids)), source.variants, source.genotypes(slice(None))
    )
    table = match_known(swapped, recorded_genotypes(record, swapped)).table
    assert dict(table.filter(verdict="swapped").select("sample_id", "best_match").rows()) == {
        "P000001": "P000002",
        "P000002": "P000001",
        "P000003": "P000010",
    }
    assert table.filter(verdict="same").height == 3


def test_a_record_without_any_is_refused(source: InMemoryGenotypes, record: Path) -> None:
    nobody = InMemoryGenotypes(source.samples[8:], source.variants, source.genotypes(slice(None))[:, 8:])
    with pytest.raises(InputError, match="has no GENOME//DOSAGE of this file's"):
        recorded_genotypes(record, nobody)
