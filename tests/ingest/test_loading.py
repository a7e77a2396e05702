"""A delivery enters a record whole and once, whatever is broken in it and however often its process is killed."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from filelock import FileLock
from polars.testing import assert_frame_equal

from careloop import InputError
from careloop.ingest import ingest_paths, load
from careloop.ingest.delivery import Batch, Reject, Source
from careloop.record import EVENTS, Record
from careloop.record.staging import Staging
from careloop.record.subjects import hashed_ids

PEOPLE = 40
INGEST = """
import sys
from pathlib import Path
from careloop.ingest import ingest_paths, fhir
print("ready", flush=True)
sys.stdin.readline()
ingest_paths("fhir", [Path(path) for path in sys.argv[2:]], Path(sys.argv[1]))
"""


def observation(number: int, *, value: float = 1.0, hour: int = 8, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "2160-0", "display": "Creatinine"}]},
        "subject": {"reference": f"Patient/p{number % PEOPLE}"},
        "effectiveDateTime": f"2024-01-{number % 28 + 1:02}T{hour:02}:00:00+01:00",
        "valueQuantity": {"value": value, "code": "mg/dL"},
        **more,
    }


def lines(resources: list[Any]) -> bytes:
    return b"".join((r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in resources)


def write(path: Path, resources: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lines(resources))
    return path


def content(record: Path) -> pl.DataFrame:
    """All events, with subjects by their own identifiers, because each record has another key."""
    opened = Record.open(record)
    ids = hashed_ids(opened, pl.Series([f"fhir:p{number}" for number in range(PEOPLE)]))
    events = opened.events().collect().join(ids, on="subject_id", how="left")
    return events.drop("subject_id").sort(pl.all())


def test_summary_counts_rejects_and_the_same_delivery_again(tmp_path: Path) -> None:
    good = [observation(number) for number in range(10)]
    broken = b'{"resourceType": "Observation", "status"'
    elsewhere = {"resourceType": "Organization", "id": "x"}
    local = observation(11, code={"coding": [{"system": "http://lab.example/codes", "code": "CREA"}]})
    export = write(tmp_path / "export" / "Observation.ndjson", [*good, broken, elsewhere, local])
    summary = ingest_paths("fhir", [export], tmp_path / "record")
    shown = summary.to_json()
    assert (shown["rows_read"], shown["rows_kept"], shown["rows_rejected"], shown["rows_skipped"]) == (13, 11, 1, 1)
    assert sum(shown["reasons"].values()) == 1
    assert shown["events_added"] == 11
    assert (shown["events_mapped"], shown["events_unmapped"]) == (10, 1)
    assert shown["record_version"] == Record.open(tmp_path / "record").version == 1
    reject = json.loads(Path(shown["rejects_file"]).read_text())
    assert reject["source"] == "Observation.ndjson"
    assert reject["place"] == "line 11"
    assert reject["raw"] == broken.decode()
    assert Path(shown["rejects_file"]).is_relative_to(tmp_path / "record" / "private"), "patient data are not shared"
    assert dict(Record.open(tmp_path / "record").code_metadata().select("code", "description").iter_rows()) == {
        "LOINC//2160-0": "Creatinine"
    }
    shutil.copy(export, tmp_path / "Observation.ndjson")
    again = ingest_paths("fhir", [tmp_path / "Observation.ndjson"], tmp_path / "record").to_json()
    assert again["delivered_before"]
    assert {**shown, "events_added": 0, "delivered_before": True} == again
    assert not any((tmp_path / "record" / "private" / "staging").glob("*/")), "nothing staged is left"


def test_an_export_that_overlaps_the_last_one_adds_what_is_new(tmp_path: Path) -> None:
    record = tmp_path / "record"
    ingest_paths("fhir", [write(tmp_path / "1" / "o.ndjson", [observation(n) for n in range(50)])], record)
    second = [observation(n, value=2.0 if n == 7 else 1.0) for n in range(60)]
    summary = ingest_paths("fhir", [write(tmp_path / "2" / "o.ndjson", second)], record)
    assert (summary.events_added, summary.events_removed) == (11, 1)
    whole = tmp_path / "whole"
    ingest_paths("fhir", [tmp_path / "2" / "o.ndjson"], whole)
    assert_frame_equal(content(record), content(whole))


def dated(number: int, day: int, **more: Any) -> dict[str, Any]:
    return observation(number, meta={"lastUpdated": f"2024-03-{day:02}T00:00:00Z"}, **more)


def test_order_of_deliveries_duplicates_and_corrections(tmp_path: Path) -> None:
    # As the hospital's server sends them: a correction, a result entered in error, a result moved to another patient.
    first = [dated(n, 1) for n in range(30)]
    moved = dated(5, 2, subject={"reference": "Patient/p39"})
    second = [dated(3, 2, value=9.0), dated(4, 2, status="entered-in-error"), moved]
    third = [dated(3, 3, value=10.0), dated(31, 3)]
    files = [write(tmp_path / f"{n}.ndjson", day) for n, day in enumerate((first, second, third))]
    orders = {"in order": (0, 1, 2), "reversed": (2, 1, 0), "twice": (1, 0, 1, 2, 0), "mixed": (2, 0, 1)}
    for name, order in orders.items():
        for number in order:
            ingest_paths("fhir", [files[number]], tmp_path / name)
    ingest_paths("fhir", files, tmp_path / "at once")
    expected = content(tmp_path / "in order")
    assert expected.height == 30
    values = dict(expected.select("source", "numeric_value").iter_rows())
    assert values["FHIR//fhir//Observation/o3"] == 10.0
    assert "FHIR//fhir//Observation/o4" not in values
    assert expected.filter(source="FHIR//fhir//Observation/o5")["source_id"].to_list() == ["fhir:p39"]
    for name in ("reversed", "twice", "mixed", "at once"):
        assert_frame_equal(content(tmp_path / name), expected)


def test_two_patients_become_one_by_patient_link_before_or_after_their_results(tmp_path: Path) -> None:
    results = write(tmp_path / "results.ndjson", [observation(n) for n in range(PEOPLE)])
    link = {"other": {"reference": "Patient/p2"}, "type": "replaced-by"}
    merged = write(
        tmp_path / "merged.ndjson", [{"resourceType": "Patient", "id": "p1", "active": False, "link": [link]}]
    )
    later = write(tmp_path / "later.ndjson", [observation(101, subject={"reference": "Patient/p1"})])
    found = {}
    for name, order in {"after": (results, merged, later), "before": (merged, later, results)}.items():
        for path in order:
            ingest_paths("fhir", [path], tmp_path / name)
        record = Record.open(tmp_path / name)
        ids = hashed_ids(record, pl.Series(["fhir:p1", "fhir:p2"]))["subject_id"]
        events = record.events().collect()
        assert events["subject_id"].n_unique() == PEOPLE - 1
        one = events.filter(pl.col("subject_id").is_in(ids.implode()))
        assert one["subject_id"].n_unique() == 1
        found[name] = sorted(one["source"])
    assert found["after"] == found["before"] == [f"FHIR//fhir//Observation/o{n}" for n in (1, 101, 2)]


def test_two_zones_leap_second_byte_order_mark_and_mixed_encodings_give_the_same(tmp_path: Path) -> None:
    plain = [observation(n, valueQuantity=None, valueString="Nüchtern") for n in range(20)]
    for resource in plain:
        del resource["valueQuantity"]
    write(tmp_path / "plain" / "o.ndjson", plain)
    odd = [json.dumps(r, ensure_ascii=False).encode("cp1252" if n % 2 else "utf-8") for n, r in enumerate(plain)]
    shifted = json.loads(odd[2])
    shifted["effectiveDateTime"] = "2024-01-02T22:00:00-09:00"  # the same moment in Anchorage
    assert plain[2]["effectiveDateTime"] == "2024-01-03T08:00:00+01:00"
    odd[2] = json.dumps(shifted).encode()
    write(tmp_path / "odd" / "o.ndjson", odd)
    (tmp_path / "odd" / "o.ndjson").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "odd" / "o.ndjson").read_bytes())
    for name in ("plain", "odd"):
        summary = ingest_paths("fhir", [tmp_path / name], tmp_path / f"record {name}")
        assert summary.counts.rows_kept == 20
    assert_frame_equal(content(tmp_path / "record plain"), content(tmp_path / "record odd"))
    leap = observation(99, effectiveDateTime="2016-12-31T23:59:60Z")
    ingest_paths("fhir", [write(tmp_path / "leap.ndjson", [leap])], tmp_path / "record leap")
    assert content(tmp_path / "record leap")["time"].to_list() == [datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)]


def test_one_broken_line_among_many_and_a_file_cut_off(tmp_path: Path) -> None:
    many: list[Any] = [observation(n) for n in range(20_000)]
    whole = write(tmp_path / "whole.ndjson", many)
    many[12_345] = b'{"resourceType": "Observation", "id": '
    summary = ingest_paths("fhir", [write(tmp_path / "broken.ndjson", many)], tmp_path / "broken")
    assert summary.counts.rows_kept == 19_999
    assert summary.rejects_file is not None
    assert json.loads(Path(summary.rejects_file).read_text())["place"] == "line 12346"
    packed = gzip.compress(whole.read_bytes())
    (tmp_path / "cut.ndjson.gz").write_bytes(packed[: len(packed) * 2 // 3])
    cut = ingest_paths("fhir", [tmp_path / "cut.ndjson.gz"], tmp_path / "cut").counts
    assert cut.rows_rejected == 1
    assert 10_000 < cut.rows_kept < 19_000
    # The whole file, delivered later, completes what the one that was cut off began.
    (tmp_path / "cut.ndjson.gz").write_bytes(packed)
    ingest_paths("fhir", [tmp_path / "cut.ndjson.gz"], tmp_path / "cut")
    ingest_paths("fhir", [whole], tmp_path / "undisturbed")
    assert_frame_equal(content(tmp_path / "cut"), content(tmp_path / "undisturbed"))


def test_killed_at_twenty_random_moments_the_record_is_equal_to_an_undisturbed_one(tmp_path: Path) -> None:
    chance = random.Random(2026)
    patients = [{"resourceType": "Patient", "id": f"p{n}", "birthDate": f"19{50 + n}-01-01"} for n in range(PEOPLE)]
    files = [write(tmp_path / "export" / "Patient.ndjson", patients)]
    for part in range(5):
        some: list[Any] = [observation(n) for n in range(part * 1_000, (part + 1) * 1_000)]
        some[17] = b"{broken"
        files.append(write(tmp_path / "export" / f"Observation.{part}.ndjson", some))
    second = [write(tmp_path / "second.ndjson", [dated(n, 2, value=7.0) for n in range(0, 5_000, 5)])]
    worker = Worker(tmp_path / "undisturbed", files)
    worker.begin()
    assert worker.process.wait() == 0
    usual = time.monotonic() - worker.begun
    half, whole = content(tmp_path / "undisturbed"), content_after(tmp_path / "undisturbed", second)
    kills = rounds = 0
    while kills < 20:
        record = tmp_path / f"record {rounds}"
        for paths, expected in ((files, half), (second, whole)):
            while True:
                worker = Worker(record, paths)
                worker.begin()
                time.sleep(chance.uniform(0, usual))
                worker.process.kill()
                if worker.process.wait() == 0:
                    break
                kills += 1
                assert_nothing_half_visible(record, {half.height, whole.height})
            assert_frame_equal(content(record), expected)
        rounds += 1
    again = ingest_paths("fhir", files, tmp_path / "record 0")
    assert again.delivered_before
    assert again.counts.rows_rejected == 5


class Worker:
    """A process that ingests once it is told to, so that its moment of death lies in the work and not in imports."""

    def __init__(self, record: Path, paths: list[Path]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", INGEST, record, *paths],
            env=os.environ | {"POLARS_MAX_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def begin(self) -> None:
        assert self.process.stdin is not None
        self.begun = time.monotonic()
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()


def content_after(record: Path, paths: list[Path]) -> pl.DataFrame:
    ingest_paths("fhir", paths, record)
    return content(record)


def assert_nothing_half_visible(record: Path, heights: set[int]) -> None:
    """Whatever is visible after a death is whole deliveries."""
    if (record / "record.json").exists():
        assert Record.open(record).events().collect().height in {0, *heights}


def test_death_right_after_the_commit_is_tidied_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export = write(tmp_path / "o.ndjson", [observation(1), b"{broken"])

    class KilledError(Exception):
        pass

    def die(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr("careloop.ingest.loading._describe", die)
        with pytest.raises(KilledError):
            ingest_paths("fhir", [export], tmp_path / "record")
    summary = ingest_paths("fhir", [export], tmp_path / "record")
    assert summary.delivered_before
    assert summary.counts.rows_rejected == 1
    assert summary.rejects_file is not None
    assert Record.open(tmp_path / "record").code_metadata()["description"].to_list() == ["Creatinine"]


def handmade(events: dict[str, list[Any]], tmp_path: Path, **more: Any) -> Source:
    frame = pl.DataFrame(events)
    (tmp_path / "file").write_text(repr(events))

    def read() -> Iterator[Batch]:
        yield Batch(frame, frame.height, frame.height, **more)

    return Source("handmade", (tmp_path / "file",), read)


def test_rows_that_no_record_can_hold_are_rejected_and_the_others_kept(tmp_path: Path) -> None:
    day, early = datetime(2024, 1, 1, tzinfo=UTC), datetime(1024, 1, 1, tzinfo=UTC)
    events = {
        "subject": ["p", "p", "", "p", "p", "p"],
        "time": pl.Series([day, early, day, None, day, day], dtype=EVENTS["time"]),
        "known_time": pl.Series([None, None, None, day, None, early], dtype=EVENTS["time"]),
        "code": ["A", "A", "A", "A", None, "A"],
        "source": [f"row {number}" for number in range(6)],
        "row": pl.Series(range(6), dtype=pl.UInt32),
    }
    source = handmade(events, tmp_path)
    summary = load(Record.create(tmp_path / "record"), [source])
    assert summary.counts.reasons == {
        "known_time not between 1850 and 2150": 1,
        "known_time without time": 1,
        "no code": 1,
        "no patient identifier": 1,
        "time not between 1850 and 2150": 1,
    }
    assert (summary.counts.rows_read, summary.counts.rows_kept, summary.events_added) == (6, 1, 1)
    row = Record.open(tmp_path / "record").events().collect().row(0, named=True)
    assert row["known_time"] == row["time"] == day


def test_a_source_row_with_one_bad_event_is_rejected_as_a_whole(tmp_path: Path) -> None:
    events = {
        "subject": ["p", "p", "p"],
        "code": ["A", "", "B"],
        "source": ["row 0", "row 0", "row 1"],
        "row": pl.Series([0, 0, 1], dtype=pl.UInt32),
    }
    source = handmade(events, tmp_path, rejected=[Reject("row 2", "made up")])
    summary = load(Record.create(tmp_path / "record"), [source])
    assert summary.counts.reasons == {"made up": 1, "no code": 1}
    assert Record.open(tmp_path / "record").events().collect()["code"].to_list() == ["B"]


def test_settings_make_another_delivery_and_a_running_one_is_not_disturbed(tmp_path: Path) -> None:
    export = write(tmp_path / "o.ndjson", [observation(1)])
    first = ingest_paths("fhir", [export], tmp_path / "record")
    other = ingest_paths("fhir", [export], tmp_path / "record", settings={"origin": "ward"})
    assert (first.events_added, other.events_added) == (1, 1)
    staging = tmp_path / "record" / "private" / "staging"
    locks = [FileLock(staging / f"{d.stem}.lock") for d in (staging.parent / "deliveries").iterdir()]
    assert len(locks) == 2
    for lock in locks:
        lock.acquire()
    with pytest.raises(InputError, match="another process is ingesting the same delivery"):
        ingest_paths("fhir", [export], tmp_path / "record")


def test_worker_processes_leave_the_same_record(tmp_path: Path) -> None:
    for part in range(3):
        some: list[Any] = [observation(n) for n in range(part * 500, part * 500 + 600)]
        some[17] = b"{broken"
        write(tmp_path / "export" / f"{part}.ndjson", some)
    here = ingest_paths("fhir", [tmp_path / "export"], tmp_path / "here")
    told: list[tuple[str, int, int]] = []
    local = ingest_paths(
        "fhir", [tmp_path / "export"], tmp_path / "local", on="local:2", progress=lambda *state: told.append(state)
    )
    assert local.counts == here.counts
    assert local.events_added == here.events_added == 1_599  # two of the broken lines stand whole in another file
    assert_frame_equal(content(tmp_path / "local"), content(tmp_path / "here"))
    assert ("sources read, 1,800 rows", 3, 3) in told
    with pytest.raises(InputError, match="work is done here, local, ray"):
        ingest_paths("fhir", [tmp_path / "export"], tmp_path / "here", on="spark")


def test_what_was_begun_and_never_taken_up_is_forgotten_after_two_weeks(tmp_path: Path) -> None:
    staging = Staging.of(Record.create(tmp_path / "record"), "old").folder
    old, held, new = staging, staging.with_name("held"), staging.with_name("new")
    for folder in (held, new):
        folder.mkdir()
    for folder in (old, held):
        os.utime(folder, (time.time() - 15 * 86_400,) * 2)
    with FileLock(staging.with_name("held.lock")):
        ingest_paths("fhir", [write(tmp_path / "o.ndjson", [observation(1)])], tmp_path / "record")
    assert [folder.exists() for folder in (old, held, new)] == [False, True, True]


def test_what_cannot_be_ingested_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none: no such file or folder; check the path"):
        ingest_paths("fhir", [tmp_path / "none"], tmp_path / "record")
    export = write(tmp_path / "o.ndjson", [observation(1)])
    with pytest.raises(InputError, match="meds has no setting origin"):
        ingest_paths("meds", [export], tmp_path / "record", settings={"origin": "x"})
    assert not (tmp_path / "record").exists(), "a mistake in the command makes no record"
    ingest_paths("fhir", [export], tmp_path / "record")
    shutil.rmtree(tmp_path / "record" / "private")
    with pytest.raises(InputError, match="was shared without private/"):
        ingest_paths("fhir", [export], tmp_path / "record")


def test_a_file_that_changes_while_it_is_read_is_not_taken(tmp_path: Path) -> None:
    source = handmade({"subject": ["p"], "code": ["A"], "source": ["row"]}, tmp_path)

    def read() -> Iterator[Batch]:
        yield from source.read()
        with source.files[0].open("a") as file:
            file.write("more")

    with pytest.raises(InputError, match="handmade: changed while it was read"):
        load(Record.create(tmp_path / "record"), [Source("handmade", source.files, read)])
    assert Record.open(tmp_path / "record").version == 0


def test_many_deliveries_are_compacted_now_and_then(tmp_path: Path) -> None:
    for number in range(12):
        ingest_paths(
            "fhir", [write(tmp_path / f"{number}.ndjson", [observation(number * PEOPLE)])], tmp_path / "record"
        )
    record = Record.open(tmp_path / "record")
    assert record.most_files_in_a_shard <= 8
    assert record.events().collect().height == 12
