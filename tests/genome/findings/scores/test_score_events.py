"""Scores as events: whose they are, what is refused and counted, and that writing twice changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.features import FeaturesSection, fit_features
from careloop.genome.findings.scores import score_events
from careloop.genome.findings.scores.score_events import SampleSubjects, record_scores, subjects_of
from careloop.ingest.links import Links
from careloop.record import EVENTS, TIME, Record, conform, subject_ids

DAY = datetime(2024, 2, 29, tzinfo=UTC)
PEOPLE = ["P1", "P2", "P3"]


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """Three patients with a visit each."""
    made = Record.create(tmp_path / "record", shards=2)
    ids = subject_ids(made, pl.Series(PEOPLE))
    return made.append(pl.DataFrame({"subject_id": ids, "time": DAY, "code": "VISIT"}), key="visits")


def ids_of(record: Record) -> dict[str, int]:
    return dict(zip(PEOPLE, subject_ids(record, pl.Series(PEOPLE)), strict=True))


def held(record: Record) -> pl.DataFrame:
    return Record.open(record.path).events(codes=["GENOME//*"]).sort("code", "subject_id").collect()


def table(**columns: list) -> pl.DataFrame:
    return pl.DataFrame({"sample_id": PEOPLE, **columns}, strict=False)


def test_a_score_becomes_a_static_fact(record: Record, tmp_path: Path) -> None:
    done = record_scores(record.path, table(CAD=[0.5, -1.0, 2.0]), kind="score", table_path=tmp_path / "cad.csv")
    rows, subjects = held(record), ids_of(record)
    assert conform(rows).equals(rows)
    assert (done.events, done.changed, done.missing, done.rejects.height) == (3, 3, 0, 0)
    assert set(rows["code"]) == {"GENOME//SCORE//CAD"}
    assert dict(rows.select("subject_id", "numeric_value").iter_rows()) == dict(
        zip(subjects.values(), [0.5, -1.0, 2.0], strict=True)
    )
    assert rows["time"].null_count() == rows["known_time"].null_count() == 3
    assert rows["asset"].unique().to_list() == [(tmp_path / "cad.csv").as_uri()]
    described = done.record.code_metadata().filter(pl.col("code") == "GENOME//SCORE//CAD")
    assert described["description"].to_list() == ["CAD: polygenic score"]


@pytest.mark.parametrize(
    ("kind", "code", "unit"),
    [
        ("pc", "GENOME//PC//1", None),
        ("burden", "GENOME//BURDEN//1", None),
        ("dosage", "GENOME//DOSAGE//1", "{copies}"),
    ],
)
def test_each_kind_has_its_code_and_unit(record: Record, kind, code: str, unit: str | None) -> None:
    record_scores(record.path, table(**{"1": [0.0, 1.0, 2.0]}), kind=kind)
    assert held(record).select("code", "unit").unique().rows() == [(code, unit)]


def test_the_same_table_twice_changes_nothing(record: Record) -> None:
    scores = table(A=[1.0, 2.0, 3.0], B=[0.1, 0.2, 0.3])
    first = record_scores(record.path, scores, kind="score")
    again = record_scores(record.path, scores.reverse(), kind="score")
    assert (again.changed, again.record.version) == (0, first.record.version)
    assert again.events == 6


def test_a_new_value_replaces_the_old_one_and_can_come_back(record: Record) -> None:
    for value in (1.0, 5.0, 1.0):
        done = record_scores(record.path, table(A=[value, 2.0, 3.0]), kind="score")
        rows = held(record)
        assert rows.height == 3
        assert value in rows["numeric_value"].to_list()
    assert done.changed == 1


def test_a_second_batch_leaves_the_first_alone(record: Record) -> None:
    record_scores(record.path, table(A=[1.0, 2.0, 3.0])[:2], kind="score")
    record_scores(record.path, table(A=[1.0, None, 3.0])[1:], kind="score")
    assert held(record)["numeric_value"].sort().to_list() == [1.0, 2.0, 3.0]


def test_what_cannot_be_recorded_is_counted_with_its_reason(record: Record) -> None:
    asked = pl.DataFrame(
        {
            "sample_id": ["P1", "P2", "P2", "P3", "unknown", None],
            "rs1_A": ["1.5", "1", "1", "much", "0", "0"],
            "rs2_T": ["2.5", "1", "1", None, "0", "0"],
        }
    )
    done = record_scores(record.path, asked, kind="dosage")
    counted = dict(done.rejects.group_by("reason").len().iter_rows())
    assert counted == {
        score_events.SEVERAL_ROWS: 2,
        score_events.NO_PATIENT: 1,
        score_events.NO_SAMPLE: 1,
        score_events.NO_NUMBER: 1,
        score_events.NO_COPIES: 1,
    }
    assert (done.events, done.missing) == (1, 1)
    assert held(record).select("code", "numeric_value").rows() == [("GENOME//DOSAGE//rs1_A", 1.5)]


def test_nobody_is_added_to_the_record_by_a_table(record: Record) -> None:
    subjects = record.events().select(pl.col("subject_id").n_unique()).collect().item()
    strangers = pl.DataFrame({"sample_id": ["S1", "S2"], "A": [1.0, 2.0]})
    for _ in range(2):  # had the first time registered them, the second would find them
        done = record_scores(record.path, strangers, kind="score")
        assert (done.events, done.rejects.height, done.record.version) == (0, 2, record.version)
    assert Record.open(record.path).events().select(pl.col("subject_id").n_unique()).collect().item() == subjects


def test_a_samples_file_says_whose_a_sample_is(record: Record) -> None:
    links = Links(Path("samples.csv"), {"S1": "P1", "S2": "P2", "S9": "nobody"})
    scores = pl.DataFrame({"sample_id": ["S1", "S2", "S3", "S9"], "A": [1.0, 2.0, 3.0, 9.0]})
    done = record_scores(record.path, scores, kind="score", subjects=SampleSubjects(links))
    subjects = ids_of(record)
    assert dict(held(record).select("subject_id", "numeric_value").iter_rows()) == {
        subjects["P1"]: 1.0,
        subjects["P2"]: 2.0,
    }
    assert dict(done.rejects.select("sample_id", "reason").iter_rows()) == {
        "S3": score_events.NOT_LINKED,
        "S9": score_events.NO_PATIENT,
    }


def test_two_samples_of_one_patient_are_both_refused(record: Record) -> None:
    links = Links(Path("samples.csv"), {"S1": "P1", "S2": "P1"})
    scores = pl.DataFrame({"sample_id": ["S1", "S2"], "A": [1.0, 2.0]})
    done = record_scores(record.path, scores, kind="score", subjects=SampleSubjects(links))
    assert done.rejects["reason"].to_list() == [score_events.SEVERAL_ROWS] * 2
    assert held(record).is_empty()


def test_samples_named_by_the_records_own_ids(record: Record) -> None:
    subject = ids_of(record)["P2"]
    scores = pl.DataFrame({"sample_id": [str(subject), "12", "P1"], "A": [1.0, 2.0, 3.0]})
    done = record_scores(record.path, scores, kind="score", subjects=SampleSubjects(named_by="subject_id"))
    assert held(record).select("subject_id", "numeric_value").rows() == [(subject, 1.0)]
    assert done.rejects["sample_id"].to_list() == ["12", "P1"]


def test_features_have_them_without_a_window(record: Record) -> None:
    record_scores(record.path, table(CAD=[0.5, -1.0, None]), kind="score")
    newest = Record.open(record.path)
    keys = pl.DataFrame(
        {"subject_id": list(ids_of(newest).values()), "prediction_time": [DAY] * 3},
        schema={"subject_id": pl.Int64(), "prediction_time": TIME},
    )
    recipe, matrix = fit_features(newest, keys, FeaturesSection(min_subjects=1))
    name = next(c.name for c in recipe.columns if c.code == "GENOME//SCORE//CAD")
    values = matrix.select([name]).values[:, 0].tolist()
    assert values[:2] == [0.5, -1.0]
    assert values[2] != values[2]  # NaN: no score is no score of 0


@settings(max_examples=30, derandomize=True, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "c", "", None]), min_size=1, max_size=8))
def test_every_sample_is_taken_or_refused_once(samples: list[str | None]) -> None:
    names = pl.Series(samples, dtype=pl.String)
    with pytest.MonkeyPatch.context() as patch:
        known = pl.DataFrame({"name": ["a", "b"], "subject_id": [1, 2]})
        patch.setattr(score_events, "_known", lambda record, asked, subjects: known)
        taken, refused = subjects_of(None, names, SampleSubjects())  # type: ignore[arg-type]
    assert taken.height + refused.height == len(samples)
    assert taken["subject_id"].is_unique().all()
    for name in ("a", "b"):
        assert (name in taken["sample_id"].to_list()) == (samples.count(name) == 1)


def test_refusals(record: Record, tmp_path: Path) -> None:
    for columns in ({"id": ["P1"], "A": [1.0]}, {"sample_id": ["P1"]}):
        with pytest.raises(InputError, match="sample_id"):
            record_scores(record.path, pl.DataFrame(columns), kind="score")
    with pytest.raises(InputError, match="no record"):
        record_scores(tmp_path / "nothing", table(A=[1.0, 2.0, 3.0]), kind="score")
    assert set(EVENTS.names()) == set(held(record).columns)
