"""A shared record names nobody, keeps every interval, and is the same whoever kills it in between."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from careloop import InputError
from careloop.clean.findings import NOTE
from careloop.clean.privacy.deidentify import deidentify_record
from careloop.clean.privacy.pseudonyms import Pseudonyms, identities, read_key
from careloop.clean.privacy.release import DeidentificationSettings
from careloop.record import BIRTH, DEATH, EVENTS, Record, conform, export_meds, subject_ids

PATIENTS = 40
START = datetime(2015, 1, 1, 8, 13, 7, 123_457, tzinfo=UTC)
YEAR = timedelta(days=365.25)


def hospital_events(ids: pl.Series) -> pl.DataFrame:
    """Simulated patients with every kind of row that a shared record must not show, and some that it must keep."""
    random = np.random.default_rng(5)
    rows = []
    for number, subject in enumerate(ids):
        begin = START + timedelta(days=int(random.integers(0, 900)), seconds=int(random.integers(0, 86_400)))

        def add(code: str, days: float, *, late: float = 0, at: datetime = begin, who: int = subject, **more) -> None:
            when = at + timedelta(days=days)
            row = {"subject_id": who, "time": when, "known_time": when + timedelta(days=late), "code": code}
            rows.append({**row, "source": f"HIS//row//{len(rows)}-K{700_000 + len(rows)}", **more})

        add(BIRTH, -365.25 * (20 + 2 * number))  # 20 to 98 years old
        rows.append({"subject_id": subject, "code": f"GENDER//{'FM'[number % 2]}", "source": f"HIS//p//{number}"})
        rows.append({"subject_id": subject, "code": "ZIP", "text_value": f"{10001 + number % 3}-4417"})
        rows.append({"subject_id": subject, "code": "MRN", "text_value": f"MRN-{5_000 + number}"})
        for day in sorted(random.uniform(0, 700, 6)):
            add("LOINC//2160-0", float(day), late=0.3, numeric_value=random.normal(1, 0.1), unit="mg/dL")
        add("ICD10CM//E11.9" if number < 35 else "ICD10CM//E11.65", 3.5, late=2)
        add("ICD10CM//Q87.40" if number == 0 else "ICD10CM//I10", 4.5)
        add(
            "DOCUMENT//note",
            5,
            text_value=f"Seen by Dr. Quastenflosser, call 0171 55{number:05}",
            asset=f"s3://pacs/{number}",
        )
        add("VISIT_END//IMP", 6, text_value="home")
        add("LOINC//1-1", 7, text_value="Dr. Quastenflosser", unit="zebra/dL" if number == 1 else None)
        add("AGE", 8, numeric_value=20 + 2 * number, unit="years")
        add(
            f"{NOTE}unit",
            9,
            text_value=json.dumps({"row": {"source": "HIS//row//17", "code": "LOCAL//Quastenflosser"}}),
        )
        add("CARELOOP//PREDICTION//m", 10, numeric_value=0.3)
        if number % 9 == 0:
            add(DEATH, 1500)
    return conform(pl.DataFrame(rows, infer_schema_length=None))


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    record = Record.create(tmp_path_factory.mktemp("hospital") / "record", shards=4)
    ids = subject_ids(record, pl.Series([f"PAT{8_800_000 + i}" for i in range(PATIENTS)]))
    described = {"code": ["LOINC//2160-0", "ICD10CM//Q87.40", "LOINC//1-1"]}
    described["description"] = ["Creatinine", "Marfan syndrome", "as Mr. Quastenflosser says"]
    return record.append(hospital_events(ids), key="all").describe_codes(pl.DataFrame(described))


@pytest.fixture(scope="module")
def shared(record: Record, tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, Path, dict]:
    folder = tmp_path_factory.mktemp("shared")
    summary = deidentify_record(record, folder / "out", key_file=folder / "key")
    return Record.open(folder / "out"), folder / "key", summary.to_json()


def linked(record: Record, shared: Record, key_file: Path, **options: int) -> pl.DataFrame:
    """Events of both records side by side, by the key holder's way back and everything that stays."""
    pairs = identities(record, Pseudonyms(read_key(key_file), **options))
    back = pl.duration(days="shift_days")
    theirs = shared.events().collect().join(pairs, left_on="subject_id", right_on="shared_id")
    return theirs.with_columns(
        subject_id="subject_id_right" if "subject_id_right" in theirs.columns else "subject_id",
        true_time=pl.col("time") - back, true_known=pl.col("known_time") - back,
    )  # fmt: skip


def all_bytes(folder: Path) -> bytes:
    """Every file of the folder as it is, its name, and every cell of its tables, decompressed."""
    parts = []
    for file in sorted(folder.rglob("*")):
        parts.append(str(file.relative_to(folder)).encode())
        if file.is_file():
            parts.append(file.read_bytes())
            if file.suffix == ".parquet":
                parts.append(
                    pl.read_parquet(file, hive_partitioning=False)
                    .with_columns(pl.all().cast(pl.String))
                    .write_csv()
                    .encode()
                )
    return b"\n".join(parts)


def test_nothing_that_names_a_patient_is_in_any_byte(record: Record, shared: tuple) -> None:
    content = all_bytes(shared[0].path)
    events = record.events().collect()
    texts = [value for name in ("source", "asset") for value in events[name].drop_nulls()]
    texts += [str(i) for i in events["subject_id"].unique()] + [f"PAT{8_800_000 + i}" for i in range(PATIENTS)]
    texts += ["Quastenflosser", "HIS//", "s3://", "MRN-5", "-4417", "zebra/dL", "Q87.4", "Marfan", "CARELOOP//NOTE"]
    for text in texts:
        assert text.encode() not in content, text
    for ids in events["subject_id"].unique():
        assert int(ids).to_bytes(8, "little") not in content
    cells = pl.concat([events["time"], events["known_time"]]).drop_nulls().unique()
    ours = shared[0].events().collect()
    theirs = pl.concat([ours["time"], ours["known_time"]]).drop_nulls()
    assert not theirs.is_in(cells.implode()).any()  # microseconds make each of these times one patient's own
    assert not (shared[0].path / "private").exists()
    assert read_key(shared[1]) not in content
    assert not list(shared[0].path.rglob("*key*"))


def test_all_times_of_a_patient_move_by_the_same_whole_weeks(record: Record, shared: tuple) -> None:
    both = linked(record, shared[0], shared[1]).filter(pl.col("time").is_not_null() & (pl.col("code") != BIRTH))
    days = both["shift_days"]
    assert ((days % 7 == 0) & (days <= -7) & (days >= -364)).all()
    assert days.n_unique() > 15
    kept = record.events().collect()
    found = both.join(
        kept.unique(["subject_id", "time", "known_time"]),
        left_on=["subject_id", "true_time", "true_known"],
        right_on=["subject_id", "time", "known_time"],
        how="left",
        suffix="_was",
    )
    assert found["code_was"].null_count() == 0


def test_each_code_text_and_unit_is_of_enough_patients(record: Record, shared: tuple) -> None:
    events = shared[0].events().collect()
    for columns in (["code"], ["code", "text_value"], ["unit"]):
        groups = events.drop_nulls(columns).group_by(columns).agg(pl.col("subject_id").n_unique())
        assert groups["subject_id"].min() >= 11
    codes = set(events["code"])
    assert not codes & {"ICD10CM//E11", "ICD10CM//E11.65"}  # of five patients; the parent has no others
    assert "ICD10CM//E11.9" in codes
    assert events.filter(code="VISIT_END//IMP")["text_value"].unique().to_list() == ["home"]
    assert (
        events.filter(code="DOCUMENT//note")["text_value"].null_count() == events.filter(code="DOCUMENT//note").height
    )
    assert shared[0].code_metadata()["code"].to_list() == ["LOINC//1-1", "LOINC//2160-0"]
    assert shared[0].code_metadata()["description"].to_list() == [None, "Creatinine"]
    assert record.events().filter(code="ICD10CM//Q87.40").collect().height == 1


def test_a_rare_code_becomes_its_parent_without_its_values(record: Record, tmp_path: Path) -> None:
    rows = record.events().collect()
    more = [
        {"subject_id": s, "time": START, "code": f"ICD10CM//K74.{n % 4}", "numeric_value": 1.0, "text_value": "x"}
        for n, s in enumerate(rows["subject_id"].unique().sort()[:20])
    ]
    extra = Record.create(tmp_path / "r", shards=2).append(pl.concat([rows, conform(pl.DataFrame(more))]), key="a")
    summary = deidentify_record(extra, tmp_path / "out", key_file=tmp_path / "key")
    events = Record.open(tmp_path / "out").events().collect()
    assert events.filter(pl.col("code").str.starts_with("ICD10CM//K74"))["code"].unique().to_list() == ["ICD10CM//K74"]
    assert events.filter(code="ICD10CM//K74").select("numeric_value", "text_value").null_count().row(0) == (20, 20)
    assert summary.codes_generalised == 4


def test_nobody_is_older_than_ninety(record: Record, shared: tuple) -> None:
    events = shared[0].events().collect()
    births = events.filter(code=BIRTH).select("subject_id", birth="time")
    ages = events.filter(pl.col("code") != BIRTH).join(births, on="subject_id")
    last = ages.with_columns(limit=pl.col("birth").dt.offset_by("90y"), seen=pl.max_horizontal("time", "known_time"))
    first = last.group_by("subject_id").agg(pl.col("known_time").min(), pl.col("limit", "birth").first())
    old = first.filter(pl.col("known_time") >= pl.col("limit"))
    # Shown as equally old when first known, whatever their age.
    assert (old["known_time"] - old["birth"]).unique().to_list() == [timedelta(days=32_873)]
    young = last.join(old, on="subject_id", how="anti")
    assert (young["seen"] < young["limit"]).all()
    true = record.events().filter(code=BIRTH).collect().select("subject_id", birth="time")
    facts = record.events().filter(~pl.col("code").str.starts_with("CARELOOP//") & (pl.col("code") != BIRTH)).collect()
    entry = facts.group_by("subject_id").agg(pl.col("known_time").min()).join(true, on="subject_id")
    expected = entry.filter(pl.col("known_time") - pl.col("birth") >= timedelta(days=32_871)).height
    assert old.height == expected > 1
    assert events.filter(code="AGE")["numeric_value"].max() == 90


def test_later_facts_of_a_patient_change_nothing_earlier(record: Record, tmp_path: Path) -> None:
    """Also for the oldest: what is shown as of a moment is the same whether or not the patient lives on."""
    moment = START + timedelta(days=800)
    whole = record.events().collect()
    early = whole.filter((pl.col("known_time") <= moment) | pl.col("time").is_null())
    enough = DeidentificationSettings(smallest_group=2, text="none")
    seen = []
    for name, rows in (("whole", whole), ("early", early)):
        part = Record.create(tmp_path / name, shards=2).append(rows, key="a")
        deidentify_record(part, tmp_path / f"{name}_out", key_file=tmp_path / "key", settings=enough)
        shared = Record.open(tmp_path / f"{name}_out")
        events = linked(part, shared, tmp_path / "key").filter(
            (pl.col("true_known") <= moment) | pl.col("time").is_null()
        )
        common = pl.col("code").is_in([BIRTH, "LOINC//2160-0", "ICD10CM//E11.9", "ICD10CM//I10", "VISIT_END//IMP"])
        seen.append(events.filter(common).select(EVENTS.names()).sort(EVENTS.names()))
    assert seen[0].height > 100
    assert_frame_equal(seen[0], seen[1])


def test_same_key_same_people_in_a_later_export_and_another_key_others(
    record: Record, shared: tuple, tmp_path: Path
) -> None:
    later = Record.create(tmp_path / "later", shards=4).append(record.events().collect(), key="all")
    new = [
        {"subject_id": s, "time": START + timedelta(days=2500), "code": "NEW"}
        for s in record.events().collect()["subject_id"].unique()
    ]
    later = later.append(pl.DataFrame(new), key="more")
    deidentify_record(later, tmp_path / "same", key_file=shared[1])
    deidentify_record(later, tmp_path / "other", key_file=tmp_path / "key")
    same, other = Record.open(tmp_path / "same").events().collect(), Record.open(tmp_path / "other").events().collect()
    before = shared[0].events().collect()
    assert_frame_equal(same.filter(pl.col("code") != "NEW").sort(pl.all()), before.sort(pl.all()))
    assert not before["subject_id"].is_in(other["subject_id"].implode()).any()
    assert not before["source"].drop_nulls().is_in(other["source"].drop_nulls().implode()).any()


def test_two_keys_narrow_the_shifts_as_the_report_says() -> None:
    """The attack of the report: intervals match patients, and a difference of d leaves 52 - |d|/7 shifts possible."""
    ids = pl.Series(range(20_000))
    one, two = Pseudonyms(b"1" * 32).shift_days(ids), Pseudonyms(b"2" * 32).shift_days(ids)
    weeks = ((one - two).abs() // 7).to_numpy()
    assert np.mean(52 - weeks == 1) == pytest.approx(2 / 52**2, abs=5e-4)  # fully undone
    assert np.mean(52 - weeks) == pytest.approx(52 - (52**2 - 1) / (3 * 52), rel=0.02)  # mean absolute difference
    counts = one.value_counts()
    assert counts.height == 52
    assert counts["count"].min() > 300  # of 385 expected: shifts are spread evenly


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    days=st.lists(st.tuples(st.integers(-20_000, 20_000), st.integers(0, 400_000_000)), min_size=1, max_size=30),
    weekdays=st.sampled_from(["kept", "changed"]),
    most=st.integers(7, 800),
)
def test_intervals_are_exact(days: list, weekdays: str, most: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("property")
    rows = [
        {
            "subject_id": n % 3,
            "time": START + timedelta(days=d),
            "known_time": START + timedelta(days=d, microseconds=late),
            "code": "X",
            "numeric_value": float(n),
        }
        for n, (d, late) in enumerate(days)
    ]
    rows += [{"subject_id": 10 + n, "time": START, "code": "X", "numeric_value": -1.0} for n in range(12)]
    record = Record.create(folder / "r", shards=3).append(pl.DataFrame(rows), key="a")
    chosen = DeidentificationSettings(weekdays=weekdays, largest_shift_days=most)
    deidentify_record(record, folder / "out", key_file=folder / "key", settings=chosen)
    after = Record.open(folder / "out").events().collect()
    pairs = identities(record, Pseudonyms(read_key(folder / "key"), most, 7 if weekdays == "kept" else 1))
    assert pairs["shift_days"].is_between(-most, -1).all()
    keys = {"left_on": ["shared_id", "numeric_value"], "right_on": ["subject_id", "numeric_value"]}
    both = record.events().collect().join(pairs, on="subject_id").join(after, **keys, how="left")
    assert after.height == record.events().collect().height
    for name in ("time", "known_time"):
        moved = (both[f"{name}_right"] - both[name]).dt.total_microseconds()
        assert (moved == both["shift_days"] * 86_400_000_000).all()


def test_export_as_meds_passes_its_schemas(shared: tuple, tmp_path: Path) -> None:
    meds = pytest.importorskip("meds")
    import pyarrow.parquet as pq

    export_meds(shared[0], tmp_path / "meds")
    rows = 0
    for file in (tmp_path / "meds" / "data").glob("*.parquet"):
        table = pq.read_table(file)
        meds.DataSchema.validate(table)
        rows += table.num_rows
    meds.CodeMetadataSchema.validate(pq.read_table(tmp_path / "meds" / "metadata" / "codes.parquet"))
    assert rows == shared[2]["events_written"]


def test_report_has_no_small_count_and_names_the_risks(shared: tuple) -> None:
    text = (shared[0].path / "deidentification.txt").read_text()
    content = json.loads((shared[0].path / "deidentification.json").read_text())
    assert content["finished"] is True
    assert content["subjects"] == PATIENTS
    assert "events_read" not in content
    counts = [value for part in ("removed", "changed") for value in content[part].values()]
    assert all(value == "fewer than 11" or value >= 11 for value in counts)
    assert "fewer than 11" in text
    assert sum(shared[2]["removed"].values()) == shared[2]["events_read"] - shared[2]["events_written"]
    for word in ("true date", "Safe Harbor", "key", "k-anonymity", "Intervals"):
        assert word in text


def test_run_again_changes_nothing_and_another_run_is_refused(record: Record, shared: tuple, tmp_path: Path) -> None:
    again = deidentify_record(record, shared[0].path, key_file=shared[1])
    assert again.to_json() == shared[2]
    with pytest.raises(InputError, match="another key"):
        deidentify_record(record, shared[0].path, key_file=tmp_path / "other")
    with pytest.raises(InputError, match="another key"):
        deidentify_record(record, shared[0].path, key_file=shared[1], settings=DeidentificationSettings(text="none"))
    Record.create(tmp_path / "theirs").append(
        pl.DataFrame({"subject_id": [1], "time": [START], "code": ["A"]}), key="a"
    )
    with pytest.raises(InputError, match="another record"):
        deidentify_record(record, tmp_path / "theirs", key_file=shared[1])


@pytest.mark.parametrize(
    ("out", "key", "words"),
    [
        ("record/inside", "key", "apart from the record"),
        ("out", "out/key", "must not lie"),
        ("out", "record/key", "must not lie"),
    ],
)
def test_key_and_output_lie_apart(record: Record, tmp_path: Path, out: str, key: str, words: str) -> None:
    def place(name: str) -> Path:
        return record.path.parent / name if name.startswith("record") else tmp_path / name

    with pytest.raises(InputError, match=words):
        deidentify_record(record, place(out), key_file=place(key))


def test_key_is_private_and_never_replaced(tmp_path: Path) -> None:
    key = read_key(tmp_path / "key")
    assert len(key) == 32
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert read_key(tmp_path / "key") == key
    assert [file.name for file in tmp_path.iterdir()] == ["key"]
    (tmp_path / "short").write_bytes(b"abc")
    with pytest.raises(InputError, match="32 bytes"):
        read_key(tmp_path / "short")


def test_three_digits_of_a_zip_code(record: Record, tmp_path: Path) -> None:
    chosen = DeidentificationSettings(postal_codes="three_digits")
    deidentify_record(record, tmp_path / "out", key_file=tmp_path / "key", settings=chosen)
    events = Record.open(tmp_path / "out").events().collect()
    assert events.filter(code="ZIP")["text_value"].to_list() == ["100"] * PATIENTS


def test_scrubbed_text_keeps_what_is_clinical(record: Record, tmp_path: Path) -> None:
    pytest.importorskip("presidio_analyzer")
    chosen = DeidentificationSettings(text="scrubbed")
    summary = deidentify_record(record, tmp_path / "out", key_file=tmp_path / "key", settings=chosen)
    events = Record.open(tmp_path / "out").events().collect()
    assert events.filter(code="DOCUMENT//note")["text_value"].unique().to_list() == ["Seen by Dr. [NAME], call [PHONE]"]
    assert b"Quastenflosser" not in all_bytes(tmp_path / "out")
    assert any("NOT Safe Harbor" in risk for risk in summary.risks)


@pytest.mark.parametrize(("rare", "expected"), [("tagged", "[WORD]"), ("kept", "Yxzander")])
def test_a_name_that_no_rule_knows_is_a_rare_word(rare: str, expected: str, tmp_path: Path) -> None:
    pytest.importorskip("presidio_analyzer")
    rows = [
        {
            "subject_id": n,
            "time": START,
            "code": "NOTE",
            "text_value": f"Pain on day {n}, told {name} at once 2020-01-02",
        }
        for n, name in enumerate([*["nobody"] * 15, "Yxzander"])
    ]
    record = Record.create(tmp_path / "r", shards=2).append(pl.DataFrame(rows), key="a")
    chosen = DeidentificationSettings(text="scrubbed", rare_words=rare)
    summary = deidentify_record(record, tmp_path / "out", key_file=tmp_path / "key", settings=chosen)
    texts = set(Record.open(tmp_path / "out").events().collect()["text_value"])
    assert f"Pain on day 15, told {expected} at once [DATE]" in texts
    assert "Pain on day 0, told nobody at once [DATE]" in texts
    assert summary.changed.get("WORD in text", 0) == (rare == "tagged")


KILLED = """
import sys
from careloop.clean.privacy.deidentify import deidentify_record
from careloop.record import Record
print("go", flush=True)
deidentify_record(Record.open(sys.argv[1]), sys.argv[2], key_file=sys.argv[3])
"""


def test_killed_at_any_point_it_ends_as_if_undisturbed(record: Record, shared: tuple, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(record.path), str(tmp_path / "out"), str(shared[1])]
    for seconds in (0.02, 0.1, 0.2, 0.35):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "POLARS_MAX_THREADS": "1"})
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
    deidentify_record(record, tmp_path / "out", key_file=shared[1])
    ours = Record.open(tmp_path / "out")
    assert_frame_equal(ours.events().collect(), shared[0].events().collect())
    assert_frame_equal(ours.code_metadata(), shared[0].code_metadata())
    for name in ("deidentification.json", "deidentification.txt"):
        mine, theirs = ((r.path / name).read_text() for r in (ours, shared[0]))
        assert re.sub(r'"record_version": \d+', "", mine) == re.sub(r'"record_version": \d+', "", theirs)
    assert not (tmp_path / "out" / "private").exists()
