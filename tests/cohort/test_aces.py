"""ACES task files give the rows that ACES itself gave (tests/cohort/aces/make_expected.py), and errors name the key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from careloop import InputError
from careloop.cohort.aces import read_aces
from careloop.cohort.aces_windows import aces_cohort, aces_rows
from careloop.record import Record

ACES = Path(__file__).parent / "aces"
TASKS = sorted((ACES / "configs").glob("*.yaml"))
SORTED = ["subject_id", "prediction_time", "boolean_value"]
TASK = """
predicates:
  a:
    code: A
  b:
    code: B
    value_min: 1
    value_min_inclusive: true
  a_or_b:
    expr: or(a, b)
trigger: a
windows:
  input:
    start: null
    end: trigger
    start_inclusive: true
    end_inclusive: true
    has:
      a: (1, None)
    index_timestamp: end
  target:
    start: input.end
    end: start + 1 day 12h
    start_inclusive: false
    end_inclusive: true
    label: a_or_b
"""


def write_task(folder: Path, *changes: tuple[str, str]) -> Path:
    """The task above with some text replaced."""
    text = TASK
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / "task.yaml"
    path.write_text(text)
    return path


def day(number: float) -> datetime:
    return datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=number)


def events(*rows: tuple[int, float | None, str, float | None]) -> pl.LazyFrame:
    """Events given as subject, day, code, value."""
    return pl.LazyFrame(
        [(subject, None if at is None else day(at), code, value) for subject, at, code, value in rows],
        schema={
            "subject_id": pl.Int64,
            "time": pl.Datetime("us", "UTC"),
            "code": pl.String,
            "numeric_value": pl.Float32,
        },
        orient="row",
    )


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_rows_are_those_of_aces(path: Path) -> None:
    expected = pl.read_parquet(ACES / "expected" / f"{path.stem}.parquet")
    rows = aces_rows(pl.scan_parquet(ACES / "events.parquet"), read_aces(path))
    assert expected.height > 0
    assert rows.sort(SORTED).equals(expected)


def test_cohort_of_a_sharded_record_is_that_of_its_events_without_careloops_own(tmp_path: Path) -> None:
    task = read_aces(ACES / "configs" / "imminent_mortality.yaml")
    record = Record.create(tmp_path / "record", shards=4)
    file = pl.read_parquet(ACES / "events.parquet")
    record = record.append(file, key="file")
    prediction = file.drop_nulls("time").group_by("subject_id").agg(pl.col("time").max() + pl.duration(days=1))
    own = prediction.with_columns(code=pl.lit("CARELOOP//PREDICTION//x"))
    record = record.append(own, key="own", origin="careloop")
    rows = aces_cohort(record, task)
    assert aces_cohort(record, task, on="local:2").equals(rows)
    naive = rows.with_columns(pl.col("prediction_time").dt.replace_time_zone(None))
    assert naive.sort(SORTED).equals(pl.read_parquet(ACES / "expected" / "imminent_mortality.parquet"))
    assert rows.schema["prediction_time"] == pl.Datetime("us", "UTC")
    assert rows.select("subject_id", "prediction_time").equals(
        rows.select("subject_id", "prediction_time").sort(pl.all())
    )


def test_label_counts_from_after_the_trigger_to_the_windows_end(tmp_path: Path) -> None:
    task = read_aces(write_task(tmp_path))
    facts = events(
        (1, 0, "A", None), (1, 0, "B", 2), (1, 1.5, "B", 1),  # b at the very end of the window counts
        (2, 0, "A", None), (2, 1.5, "B", 0.5), (2, 1.6, "B", 9),  # too low; too late
        (3, 0, "B", 9), (3, None, "A", None),  # never triggers: a static fact happens at no time
    )  # fmt: skip
    assert aces_rows(facts, task).rows() == [(1, day(0), True), (2, day(0), False)]


def test_row_without_a_moment_that_a_window_needs_is_dropped(tmp_path: Path) -> None:
    # ACES keeps such rows where the window ends its only chain, with neither trigger nor prediction time.
    path = write_task(tmp_path, ("start + 1 day 12h", "start -> b"), ("start: input.end", "start: trigger"))
    facts = events((1, 0, "A", None), (1, 4, "B", 1), (1, 5, "A", None))
    assert aces_rows(facts, read_aces(path)).rows() == [(1, day(0), True)]


def test_task_without_label_has_null_labels(tmp_path: Path) -> None:
    path = write_task(tmp_path, ("    label: a_or_b\n", ""))
    assert aces_rows(events((1, 0, "A", None)), read_aces(path)).rows() == [(1, day(0), None)]


def test_predicates_may_carry_names_of_internal_columns(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(TASK.replace("a_or_b", "label").replace(" a:", " trigger:").replace("(a,", "(trigger,").replace(
        "trigger: a\n", "trigger: trigger\n"))  # fmt: skip
    facts = events((1, 0, "A", None), (1, 1, "A", None))
    assert aces_rows(facts, read_aces(path)).rows() == [(1, day(0), True), (1, day(1), False)]


def test_task_of_special_predicates_only(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(TASK[TASK.index("windows:") :].replace("a_or_b", "''").replace("    has:\n      a: (1, None)\n", "")
                    + "trigger: _RECORD_END\n")  # fmt: skip
    facts = events((1, 0, "A", None), (1, 1, "B", None), (2, 5, "A", None), (3, None, "A", None))
    assert aces_rows(facts, read_aces(path)).rows() == [(1, day(1), None), (2, day(5), None)]


def test_record_with_empty_shards(tmp_path: Path) -> None:
    record = Record.create(tmp_path / "record", shards=4)
    task = read_aces(write_task(tmp_path))
    assert aces_cohort(record, task).is_empty()
    record = record.append(events((1, 0, "A", None)), key="one")
    assert aces_cohort(record, task).rows() == [(1, day(0), False)]


def test_no_events_give_no_rows(tmp_path: Path) -> None:
    rows = aces_rows(events(), read_aces(write_task(tmp_path)))
    assert rows.is_empty()
    assert rows.columns == ["subject_id", "prediction_time", "boolean_value"]


def test_codes_are_read_as_yaml_1_2(tmp_path: Path) -> None:
    task = read_aces(write_task(tmp_path, ("code: A", "code: NO")))
    assert aces_rows(events((1, 0, "NO", None)), task).height == 1


@pytest.mark.parametrize(
    ("text", "length"),
    [("24h", timedelta(hours=24)), ("1 day, 2 hours", timedelta(hours=26)), ("2w", timedelta(weeks=2)),
     ("1.5 hrs", timedelta(minutes=90)), ("90 Minutes 5s", timedelta(minutes=90, seconds=5))],
)  # fmt: skip
def test_durations(tmp_path: Path, text: str, length: timedelta) -> None:
    assert read_aces(write_task(tmp_path, ("1 day 12h", text))).windows["target"].end.delta == length


def test_windows_are_ordered_by_what_they_refer_to() -> None:
    windows = list(read_aces(ACES / "configs" / "hf_derived_readmission.yaml").windows)
    assert windows.index("admission_is_HF") < windows.index("data_within_5yr_of_admit")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("trigger: a", "trigger: c", "predicates.c: it is used but not defined"),
        ("trigger: a", "triger: a", "trigger: this key is needed"),
        ("or(a, b)", "or(a, c)", "c: it is used but not defined"),
        ("or(a, b)", "not(a, b)", "predicates.a_or_b.expr: .*an expr as `and"),
        ("or(a, b)", "or(a, a_or_b)", "predicates: .*a_or_b.* circle"),
        ("code: A", "code: 7", "predicates.a.code: write one code as .* got 7"),
        ("code: A", "code: {regex: '('}", "predicates.a.code: .* no regular expression"),
        ("code: A", "code: {any: []}", "predicates.a.code: write one code"),
        ("value_min: 1", "value_min: '1'", "predicates.b.value_min: .* valid number; got '1'"),
        ("    code: A", "    code: A\n    static: true", "predicates.a: a static predicate selects subjects"),
        ("start: null", "begin: null", "windows.input.start: this key is needed"),
        ("trigger: a\n", "trigger: a\nwindow: x\n", "task.yaml: window: ACES has no such key"),
        ("trigger: a\n", "trigger: [a]\n", "trigger: Input should be a valid string; got \\['a'\\]"),
        ("value_min: 1", "value_min: true", "predicates.b.value_min: .* got True"),
        ("  a_or_b:", "  a or b:", "predicates.a or b: write a name in letters"),
        ("    value_min: 1", "    unit: [a]", "predicates.b.unit"),
        ("start: null", "start: trigger.end", "windows.input: one of start and end must refer"),
        ("end: trigger", "end: null", "windows.input: one of start and end must refer"),
        ("end: trigger", "end: admission", "windows.input.end: it must start with trigger"),
        ("end: trigger", "end: trigger -> _RECORD_START", "windows.input: nothing lies before _RECORD_START"),
        ("input.end", "inputs.end", "windows.target: it refers to the window `inputs`"),
        ("end: trigger", "end: target.start", "windows: .*target.* refer to each other in a circle"),
        ("start + 1 day 12h", "start - 1 day", "windows.target: start must precede end"),
        ("start + 1 day 12h", "start <- b", "windows.target: start must precede end"),
        ("start + 1 day 12h", "start", "windows.target: it has no extent"),
        ("start + 1 day 12h", "start + 1 month", "windows.target.end: write whole seconds .* got '1 month'"),
        ("start + 1 day 12h", "start + 1:30", "windows.target.end: write whole seconds .* got '1:30'"),
        ("start: null", "start: end - 24h", "windows.input: ACES swaps start and end"),
        ("start_inclusive: false", "start_inclusive: no", "target.start_inclusive: .* valid boolean; got 'no'"),
        ("(1, None)", "1", "windows.input.has.a: write `\\(least, greatest\\)`"),
        ("(1, None)", "(None, None)", "windows.input.has.a: give at least one side"),
        ("(1, None)", "(2, 1)", "windows.input.has.a: give at least one side"),
        ("a: (1, None)", "c: (1, None)", "predicates.c: it is used but not defined"),
        ("label: a_or_b", "label: _ANY_EVENT", "windows.target.label: a label must be a predicate of the file"),
        ("    index_timestamp: end\n", "", "windows: the rows have no prediction_time; add `index_timestamp"),
        ("    index_timestamp: end\n", "    index_timestamp: middle\n", "input.index_timestamp: .*'start' or 'end'"),
        ("    label: a_or_b\n", "    index_timestamp: end\n", "only one window may have `index_timestamp`; got input"),
        ("    label: a_or_b\n", "    label: a\n    label: b\n", "line [0-9]+: this is not YAML \\(a key occurs twice"),
        ("windows:\n", "windows: [\n", "line [0-9]+: this is not YAML"),
        ("predicates:\n", "predicate:\n", "predicate: ACES has no such key"),
    ],
)  # fmt: skip
def test_error_names_file_key_and_remedy(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_aces(write_task(tmp_path, (old, new)))
    assert str(caught.value).startswith(f"{tmp_path / 'task.yaml'}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("content", "message"), [(b"", "file: a block of"), (b"\xff\xfea", "this is not YAML")])
def test_file_that_holds_no_task_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "task.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_aces(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: file: it cannot be read"):
        read_aces(tmp_path / "none.yaml")


@pytest.mark.parametrize("line", ["valu_min: 3", "text_value: x", "numeric_value: x"])
def test_condition_on_a_column_that_the_events_lack_is_refused(tmp_path: Path, line: str) -> None:
    task = read_aces(write_task(tmp_path, ("code: A", f"code: A\n    {line}")))
    with pytest.raises(InputError, match=f"predicates.a.{line.split(':')[0]}: a key that ACES does not know"):
        aces_rows(events((1, 0, "A", None)), task)
