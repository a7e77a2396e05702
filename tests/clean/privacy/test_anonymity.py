"""Classes are those that pandas and, if installed, pycanon count; causes and suggestions hold what they say."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.clean.privacy.anonymity import AnonymityReport, check_anonymity
from careloop.record import Record

pandas = pytest.importorskip("pandas")
COLUMNS = ("sex", "decade", "site")
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["f", "m", None]),
        st.integers(1930, 1950),
        st.sampled_from("abc"),
        st.sampled_from(["x", "y", "z"]),
    ),
    min_size=1,
    max_size=120,
)


def table(rows: list[tuple]) -> pl.DataFrame:
    schema = {"sex": pl.String, "decade": pl.Int64, "site": pl.String, "disease": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col("decade") // 10 * 10)


def by_pandas(people: pl.DataFrame, columns: list[str], k: int) -> tuple[int, int, int]:
    """Smallest class, number of classes, people below k."""
    sizes = pandas.DataFrame(people.to_dicts()).groupby(columns, dropna=False).size()
    return int(sizes.min()), len(sizes), int(sizes[sizes < k].sum())


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, k=st.integers(2, 12))
def test_classes_are_those_of_pandas(rows: list[tuple], k: int) -> None:
    people = table(rows)
    report = check_anonymity(people, quasi_identifiers=COLUMNS, k=k, sensitive=["disease"])
    assert (report.smallest_class, report.number_of_classes, report.people_below) == by_pandas(people, [*COLUMNS], k)
    assert report.passed == (report.smallest_class >= k)
    assert report.share_below == pytest.approx(report.people_below / people.height)
    frame = pandas.DataFrame(people.to_dicts())
    diversity = frame.groupby([*COLUMNS], dropna=False)["disease"].nunique()
    assert report.diversity == diversity.min()
    sizes = frame.groupby([*COLUMNS], dropna=False).size()
    assert report.homogeneous == sizes[diversity == 1].sum()


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, k=st.integers(2, 12))
def test_causes_are_the_smallest_combinations_that_single_people_out(rows: list[tuple], k: int) -> None:
    people = table(rows)
    report = check_anonymity(people, quasi_identifiers=COLUMNS, k=k)
    guilty = {
        chosen: by_pandas(people, list(chosen), k)[2]
        for size in (1, 2, 3)
        for chosen in itertools.combinations(COLUMNS, size)
    }
    minimal = {
        chosen: count
        for chosen, count in guilty.items()
        if count
        and not any(guilty[part] for size in range(1, len(chosen)) for part in itertools.combinations(chosen, size))
    }
    assert {cause.attributes: cause.people_below for cause in report.causes} == minimal
    for suggestion in report.suggestions:
        assert suggestion.people_below < report.people_below
    by_words = {suggestion.words: suggestion.people_below for suggestion in report.suggestions}
    for name in COLUMNS:
        rest = [other for other in COLUMNS if other != name]
        left = by_pandas(people, rest, k)[2]
        assert by_words.get(f"leave out {name}", report.people_below) == min(left, report.people_below)


def test_published_example() -> None:
    """Machanavajjhala et al. 2007, figure 2: a 4-anonymous table of twelve inpatients, one class of one disease."""
    zip_code = ["130**"] * 4 + ["1485*"] * 4 + ["130**"] * 4
    age = ["<30"] * 4 + [">=40"] * 4 + ["3*"] * 4
    heart, viral, cancer = "heart disease", "viral infection", "cancer"
    condition = [heart, heart, viral, viral, cancer, heart, viral, viral, cancer, cancer, cancer, cancer]
    people = pl.DataFrame({"zip": zip_code, "age": age, "condition": condition})
    report = check_anonymity(people, quasi_identifiers=["zip", "age"], k=4, sensitive=["condition"])
    assert (report.smallest_class, report.number_of_classes, report.passed) == (4, 3, True)
    assert (report.diversity, report.homogeneous) == (1, 4)
    assert report.causes == ()
    assert report.suggestions == ()


@pytest.fixture
def record(tmp_path: Path) -> Record:
    rows = []
    for number in range(30):
        rows.append(
            {"subject_id": number, "time": datetime(1940 + number // 3, 5, 1, tzinfo=UTC), "code": "MEDS_BIRTH"}
        )
        rows.append({"subject_id": number, "code": f"GENDER//{'FM'[number % 2]}"})
        rows.append({"subject_id": number, "code": "SITE", "text_value": "north" if number < 28 else "south"})
        rows.append({"subject_id": number, "time": datetime(2001, 5, 1, tzinfo=UTC), "code": "ICD10CM//A"})
        if number % 3:
            rows.append({"subject_id": number, "time": datetime(2003, 5, 1, tzinfo=UTC), "code": "ICD10CM//B"})
        rows.append({"subject_id": number, "time": datetime(2010, 5, 1, tzinfo=UTC), "code": "CARELOOP//PLAN//x"})
    return Record.create(tmp_path / "record", shards=3).append(pl.DataFrame(rows), key="all")


def test_people_of_a_record(record: Record) -> None:
    names = ["birth_decade", "GENDER//*", "SITE", "RACE//*", "last_event_year", "death_year"]
    report: AnonymityReport = check_anonymity(record, quasi_identifiers=names, sensitive=["ICD10CM//*"], k=5)
    assert report.people == 30
    smallest = report.classes.row(0, named=True)
    assert smallest == {
        "birth_decade": 1940, "GENDER//*": "F", "SITE": "south", "RACE//*": None, "last_event_year": 2003,
        "death_year": None, "people": 1,
    }  # fmt: skip
    assert report.unique_people == 2
    assert ("SITE",) in {cause.attributes for cause in report.causes}
    assert report.diversity == 1
    words = {suggestion.words: suggestion.people_below for suggestion in report.suggestions}
    assert words["leave out SITE"] == 0
    assert json.loads(json.dumps(report.to_json()))["people_below"] == report.people_below
    assert "classes" not in report.to_json()


def test_defaults_work_on_a_record_and_mistakes_are_said(record: Record) -> None:
    assert check_anonymity(record).quasi_identifiers[0] == "birth_decade"
    with pytest.raises(InputError, match="neither a code"):
        check_anonymity(record, quasi_identifiers=["birthyear"])
    with pytest.raises(InputError, match="no column age"):
        check_anonymity(table([("f", 1930, "a", "x")]), quasi_identifiers=["age"])
    with pytest.raises(InputError, match="1 to 10"):
        check_anonymity(record, quasi_identifiers=[])
    with pytest.raises(InputError, match="at least 2"):
        check_anonymity(record, k=1)
    with pytest.raises(InputError, match="nobody"):
        check_anonymity(table([]), quasi_identifiers=["sex"])
