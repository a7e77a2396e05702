"""Similar past patients: the truth of a simulation, closed forms, what happened to them with censoring, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest

from careloop import InputError
from careloop.evaluate import Outcomes
from careloop.features import Column, FeatureMatrix, Recipe
from careloop.models import contributions
from careloop.predict.similar import (
    NOT_FITTED_TO,
    PastPatients,
    Space,
    contributed,
    in_common,
    model_space,
    outcome_share,
    shared_codes,
    similar,
)
from careloop.train import ModelSection, Package, TrainingData, train_model

NETWORK = {"hidden": (8,), "max_epochs": 5}
KINDS = [
    ("logistic_regression", {}),
    ("lightgbm", {}),
    ("cox", {}),
    ("boosted_hazard", {"max_rounds": 30}),
    ("fully_connected", NETWORK),
]


def past_of(world: Any) -> tuple[FeatureMatrix, Outcomes]:
    train = world.data.is_in("train")
    return world.matrix.filter(train), world.data.part("train").outcomes


def one(matrix: FeatureMatrix, row: int) -> FeatureMatrix:
    return matrix.filter(np.arange(matrix.keys.height) == row)


@pytest.fixture(scope="module")
def noisy() -> tuple[Package, TrainingData]:
    """Simulated: the outcome depends on A alone; 15 other features are noise with as much spread."""
    random = np.random.default_rng(11)
    n, p = 1500, 16
    values = random.normal(size=(n, p)).astype(np.float32)
    event = random.random(n) < 1 / (1 + np.exp(-2.0 * values[:, 0]))
    rows = pl.DataFrame(
        {
            "subject_id": np.arange(n),
            "prediction_time": pl.Series(
                np.full(n, np.datetime64("2020-01-01T00:00:00", "us")), dtype=pl.Datetime("us")
            ).dt.replace_time_zone("UTC"),
            "split": np.repeat(["train", "tuning", "held_out"], [1000, 300, 200]),
            "follow_up_days": np.where(event, 30.0, 400.0),
            "event": event.astype(np.int8),
        }
    )
    columns = tuple(
        Column(f"{chr(65 + j)}|all|last", "value", chr(65 + j), "last", median=0.0, low=-3.1, high=3.1)
        for j in range(p)
    )
    matrix = FeatureMatrix(rows.select("subject_id", "prediction_time"), tuple(c.name for c in columns), values)
    data = TrainingData(rows, matrix, Recipe(columns), 365.0, 1, outcome="the outcome")
    return train_model(ModelSection(kind="lightgbm"), data), data


def test_features_that_do_not_matter_do_not_decide_who_is_similar(noisy: tuple[Package, TrainingData]) -> None:
    """True risk of the neighbours is as near to the patient's as neighbours by A alone can be; by all features not."""
    package, data = noisy
    past, outcomes = data.matrix.filter(data.is_in("train")), data.part("train").outcomes
    searched = PastPatients.of(package, past, outcomes)
    plain = PastPatients.of(package, past, outcomes, space=Space("all features", lambda m: np.asarray(m.values)))
    a = past.values[:, 0]
    own, by_all = [], []
    for row in range(1300, 1330):
        patient = one(data.matrix, row)
        mine = float(patient.values[0, 0])
        for space, errors in ((searched, own), (plain, by_all)):
            errors.append(np.mean([abs(a[n.subject_id] - mine) for n in space.similar(patient).neighbours]))
    assert np.mean(own) < 0.35
    assert np.mean(by_all) > 1.5 * np.mean(own)
    found = searched.similar(one(data.matrix, 1300))
    assert found.shared[0].startswith("A ")
    assert len(found.shared) <= 2


def test_what_happened_to_neighbours_follows_the_true_risk_unless_they_were_fitted_to(
    noisy: tuple[Package, TrainingData],
) -> None:
    """The 95 % intervals hold the true risk, about as often as they say, on tuning rows only."""
    package, data = noisy
    held = {}
    for split in ("train", "tuning"):
        searched = PastPatients.of(package, data.matrix.filter(data.is_in(split)), data.part(split).outcomes)
        held[split] = 0
        for row in range(1300, 1360):
            truth = 1 / (1 + np.exp(-2.0 * float(data.matrix.values[row, 0])))
            share = searched.similar(one(data.matrix, row), k=20).share
            held[split] += share.low <= truth <= share.high
    assert held["tuning"] >= 55
    assert held["train"] < 50


@pytest.mark.parametrize(("kind", "parameters"), KINDS, ids=[kind for kind, _ in KINDS])
def test_coordinates_are_the_contributions_summed_by_code(kind: str, parameters: dict, world: Any) -> None:
    package = world.package(kind, **parameters)
    rows = one(world.matrix, 3)
    mine = contributed(package, rows.values)[0]
    inputs = package.preprocessing.apply(rows.values)
    found = contributions(
        package.estimators[0], inputs, background=package.preprocessing.reference(), horizon=package.horizon_days
    )
    assert mine.sum() == pytest.approx(found.values.sum(), abs=1e-6)
    codes = model_space(package).codes
    assert len(codes) == len(mine)
    assert len(set(codes)) == len(codes)


def test_distance_in_a_linear_model_is_by_coefficient(world: Any) -> None:
    package = world.package()
    past, outcomes = past_of(world)
    found = PastPatients.of(package, past, outcomes).similar(one(world.matrix, 450), k=5)
    inputs = [package.preprocessing.apply(m.values) for m in (past, one(world.matrix, 450))]
    owner = {c.name: c.code for c in package.recipe.columns}
    code_of = [owner[package.preprocessing.names[j]] for j in package.preprocessing.owners]
    squares = np.zeros(len(inputs[0]))
    for code in set(code_of):
        places = [j for j, c in enumerate(code_of) if c == code]
        squares += ((inputs[0] - inputs[1])[:, places] @ package.estimators[0].coef_[0, places]) ** 2
    nearest = np.argsort(squares, kind="stable")[:5]
    assert [n.subject_id for n in found.neighbours] == past.keys["subject_id"].to_numpy()[nearest].tolist()
    assert [n.distance for n in found.neighbours] == pytest.approx(np.sqrt(squares[nearest]).tolist(), abs=1e-6)
    assert found.typical_distance == pytest.approx(np.median(np.sqrt(squares)), abs=1e-6)


def test_a_training_patient_is_their_own_nearest_unless_left_out(world: Any) -> None:
    past, outcomes = past_of(world)
    patient = one(world.matrix, 7)
    nearest = PastPatients.of(world.package(), past, outcomes).similar(patient, k=1).neighbours[0]
    assert (nearest.subject_id, nearest.distance) == (7, 0.0)
    found = similar(world.package(), patient, past=past, outcomes=outcomes, k=3)
    assert 7 not in {n.subject_id for n in found.neighbours}
    distances = [n.distance for n in found.neighbours]
    assert distances == sorted(distances)


def test_of_one_subject_only_the_nearest_row_counts(world: Any) -> None:
    past, outcomes = past_of(world)
    same = outcomes.subject_id // 2
    twice = FeatureMatrix(past.keys.with_columns(subject_id=pl.Series(same)), past.names, past.values)
    pairs = Outcomes(same, outcomes.follow_up_days, outcomes.event, 365.0)
    found = PastPatients.of(world.package(), twice, pairs).similar(one(world.matrix, 450), k=10)
    assert len({n.subject_id for n in found.neighbours}) == 10


def test_other_estimators_are_compared_by_standardised_features(world: Any) -> None:
    package = world.package("sklearn.ensemble.RandomForestClassifier", n_estimators=30)
    past, outcomes = past_of(world)
    found = PastPatients.of(package, past, outcomes).similar(one(world.matrix, 450))
    assert "standardised features" in found.text
    population = package.population
    rows = np.nan_to_num((np.asarray(past.values, dtype=float) - population.mean) / population.scale)
    mine = np.nan_to_num((world.matrix.values[450].astype(float) - population.mean) / population.scale)
    assert found.neighbours[0].distance == pytest.approx(np.sqrt(((rows - mine) ** 2).sum(axis=1)).min())


def test_an_embedding_may_replace_the_space(world: Any) -> None:
    """A sequence model's embedding sees the rows' keys; here it is the subject's number, so neighbours are known."""

    def embed(matrix: FeatureMatrix) -> np.ndarray:
        return matrix.keys["subject_id"].to_numpy()[:, None].astype(float)

    past, outcomes = past_of(world)
    space = Space("the embedding of the history", embed)
    found = similar(world.package(), one(world.matrix, 100), past=past, outcomes=outcomes, k=4, space=space)
    assert {n.subject_id for n in found.neighbours} == {98, 99, 101, 102}
    assert found.shared == ()
    assert "by the embedding of the history; distance 1 to 2" in found.text


def test_the_text_tells_what_happened_and_that_it_checks_nothing(world: Any) -> None:
    past, outcomes = past_of(world)
    found = PastPatients.of(world.package(), past, outcomes).similar(one(world.matrix, 450), k=10)
    events = sum(n.event == 1 for n in found.neighbours)
    assert found.share.value == pytest.approx(events / 10)
    exact = binomtest(events, 10).proportion_ci(method="exact")
    assert (found.share.low, found.share.high) == pytest.approx((exact.low, exact.high))
    assert (
        f"Of them {events / 10:.0%} had AIDS or death within 365 days (95 % interval {exact.low:.0%} to" in found.text
    )
    assert found.text.endswith(NOT_FITTED_TO)
    assert "In common: " in found.text


def test_the_interval_holds_under_censoring() -> None:
    """Simulated: true share 0.39 by day 1, ten patients, a third or more censored; coverage is not below 95 %."""
    random = np.random.default_rng(1)
    hits = given = 0
    for _ in range(400):
        happens, end = random.exponential(2.0, 10), random.exponential(1.5, 10)
        outcomes = Outcomes(np.arange(10), np.minimum(happens, end), (happens <= end).astype(int), 1.0)
        share, known = outcome_share(outcomes)
        if share.value is not None:
            assert known <= 10
            assert share.low <= share.value <= share.high
            given += 1
            hits += share.low <= 1 - np.exp(-0.5) <= share.high
    assert given > 350
    assert hits / given > 0.95


def test_a_competing_event_is_no_outcome_and_nobody_followed_gives_no_share() -> None:
    competing = Outcomes(np.arange(4), np.array([1.0, 2, 3, 10]), np.array([2, 2, 1, 0]), 5.0)
    assert outcome_share(competing)[0].value == pytest.approx(0.25)
    lost = Outcomes(np.arange(3), np.array([1.0, 2, 3]), np.array([1, 0, 0]), 5.0)
    share, known = outcome_share(lost)
    assert (share.value, known) == (None, 1)
    assert share.reason == "nobody is followed to the horizon"


def test_shared_codes_point_the_same_way_and_are_large() -> None:
    mine = np.array([1.0, -0.8, 0.6, 0.01])
    theirs = np.array([[1.1, -0.7, -0.5, 0.01]] * 5)
    assert shared_codes(["a", "b", "c", "d"], mine, theirs) == ["a", "b"]
    assert shared_codes((), mine, theirs) == []


def test_values_that_spread_widely_are_nothing_in_common() -> None:
    cd4 = Column("c|all|last", "value", "c", "last", unit="/uL", description="CD4", median=300, low=100, high=600)
    assert in_common(cd4, 210.0, np.array([180.0, 260.0, np.nan])) == "CD4 210 /uL (they: 180 to 260)"
    assert in_common(cd4, 210.0, np.array([110.0, 590.0])) == ""
    assert in_common(cd4, float("nan"), np.array([np.nan, 3.0])) == "CD4 missing (1 of 2 of them)"
    male = Column("static|SEX=male", "static_category", "SEX", "category", category="male")
    assert in_common(male, 1.0, np.array([1.0, 1.0, 0.0])) == "SEX male: yes (2 of 3 of them)"


def test_broken_rules_are_named(world: Any) -> None:
    past, outcomes = past_of(world)
    searched = PastPatients.of(world.package(), past, outcomes)
    with pytest.raises(InputError, match="k must be 1 to 400, the number of past patients; got 401"):
        searched.similar(one(world.matrix, 450), k=401)
    with pytest.raises(InputError, match="one patient at a time, got 600 rows"):
        searched.similar(world.matrix)
    with pytest.raises(InputError, match="400 past rows need as many outcomes, got 80"):
        PastPatients.of(world.package(), past, world.data.part("held_out").outcomes)


def test_sparse_rows_give_the_same_neighbours(world: Any) -> None:
    from scipy.sparse import csr_matrix

    past, outcomes = past_of(world)
    make: Callable[[FeatureMatrix], FeatureMatrix] = lambda m: FeatureMatrix(m.keys, m.names, csr_matrix(m.values))  # noqa: E731
    package, patient = world.package("lightgbm"), one(world.matrix, 450)
    dense = PastPatients.of(package, past, outcomes).similar(patient)
    sparse = PastPatients.of(package, make(past), outcomes).similar(make(patient))
    assert [n.subject_id for n in dense.neighbours] == [n.subject_id for n in sparse.neighbours]
