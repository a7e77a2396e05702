"""A trained package on a small simulated record that has every kind of feature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from careloop.features import FeatureMatrix, FeaturesSection, extract, fit_recipe
from careloop.record import BIRTH, Record
from careloop.train import ModelSection, Package, TrainingData, train_model

DAY_0 = datetime(2020, 1, 1, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")
PATIENTS = 600


@dataclass(frozen=True, eq=False)
class World:
    """A record, its training data, and packages by kind."""

    record: Record
    data: TrainingData
    package: Callable[..., Package]

    @property
    def matrix(self) -> FeatureMatrix:
        return self.data.matrix


def events(random: np.random.Generator, age: np.ndarray, cd4: np.ndarray, male: np.ndarray) -> pl.DataFrame:
    """Birth, sex, one CD4 count the day before (missing in a tenth), and a transfusion in a fifth."""
    ids = pl.Series("subject_id", np.arange(PATIENTS), dtype=pl.Int64)
    day = pl.duration(days=1)
    frame = pl.DataFrame({"subject_id": ids, "age": age, "cd4": cd4, "male": male, "drawn": random.random(PATIENTS)})
    born = frame.select(
        "subject_id",
        time=pl.lit(DAY_0, TIME) - pl.duration(microseconds=pl.col("age") * 365.25 * 86_400e6),
        code=pl.lit(BIRTH),
    )
    sex = frame.select(
        "subject_id",
        code=pl.lit("SEX"),
        text_value=pl.when(pl.col("male")).then(pl.lit("male")).otherwise(pl.lit("female")),
    )
    count = frame.filter(pl.col("drawn") > 0.1).select(
        "subject_id",
        time=pl.lit(DAY_0, TIME) - day,
        code=pl.lit("LOINC//24467-3"),
        numeric_value=pl.col("cd4").cast(pl.Float32),
        unit=pl.lit("/uL"),
    )
    blood = frame.filter(pl.col("drawn") > 0.8).select(
        "subject_id", time=pl.lit(DAY_0, TIME) - 10 * day, code=pl.lit("TRANSFUSION")
    )
    return pl.concat([born, sex, count, blood], how="diagonal")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    random = np.random.default_rng(0)
    age, cd4 = random.uniform(20, 70, PATIENTS), random.uniform(100, 600, PATIENTS)
    male = random.random(PATIENTS) < 0.6
    record = Record.create(tmp_path_factory.mktemp("record") / "r", shards=2)
    record = record.append(events(random, age, cd4, male), key="1")
    record = record.describe_codes(pl.DataFrame({"code": ["LOINC//24467-3"], "description": ["CD4 count"]}))
    risk = 1 / (1 + np.exp(-(-0.5 - 0.01 * (cd4 - 350) + 0.03 * (age - 45) + 0.4 * male)))
    event = random.random(PATIENTS) < risk
    rows = pl.DataFrame(
        {
            "subject_id": np.arange(PATIENTS),
            "prediction_time": pl.Series([DAY_0] * PATIENTS, dtype=TIME),
            "split": np.array(["train"] * 400 + ["tuning"] * 120 + ["held_out"] * 80),
            "follow_up_days": np.where(event, random.uniform(1, 364, PATIENTS), 500.0),
            "event": event.astype(np.int8),
        }
    )
    keys = rows.select("subject_id", "prediction_time")
    recipe = fit_recipe(record, rows.filter(pl.col("split") == "train"), FeaturesSection(windows_days=("all",)))
    data = TrainingData(
        rows, extract(record, keys, recipe), recipe, 365.0, record.facts_version, outcome="AIDS or death"
    )
    packages: dict[str, Package] = {}

    def package(kind: str = "logistic_regression", **parameters: object) -> Package:
        name = f"{kind} {parameters}"
        if name not in packages:
            packages[name] = train_model(ModelSection(kind=kind, parameters=parameters), data)
        return packages[name]

    return World(record, data, package)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a text file and return its path."""

    def to_file(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return to_file
