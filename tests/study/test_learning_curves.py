"""Learning curves on a study's rows: disjoint parts, judged by rows that ended no training, held-out rows unseen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from careloop.evaluate import Outcomes
from careloop.evaluate.discrimination import Ranking
from careloop.features import Column, FeatureMatrix, Recipe
from careloop.study import learning_curves as module
from careloop.study.learning_curves import HalvesStatistic, dealt, learning_curves
from careloop.train import LabelledRows, ModelSection, TrainingData

ROWS, FEATURES, HORIZON = 1200, 12, 365.0
LOGISTIC = ModelSection(kind="logistic_regression")


def simulated(*, rows: int = ROWS, strength: float = 0.5, seed: int = 0) -> TrainingData:
    """Subjects with one row each, some censored, whose risk is logistic in all features; 60 : 30 : 10."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, FEATURES)).astype(np.float32)
    happens = random.random(rows) < 1 / (1 + np.exp(1 - values @ np.full(FEATURES, strength)))
    event_day, censored_day = random.uniform(1, HORIZON, rows), random.uniform(200, 2000, rows)
    event = np.where(happens & (event_day < censored_day), 1, 0)
    frame = pl.DataFrame(
        {
            "subject_id": np.arange(rows),
            "prediction_time": [datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=i) for i in range(rows)],
            "split": np.array(["train", "tuning", "held_out"])[np.searchsorted([0.6, 0.9], random.random(rows))],
            "follow_up_days": np.where(event == 1, event_day, censored_day),
            "event": event,
        }
    )
    names = tuple(f"x{i}" for i in range(FEATURES))
    recipe = Recipe(tuple(Column(name, "value", name, "last") for name in names))
    matrix = FeatureMatrix(frame.select("subject_id", "prediction_time"), names, values)
    return TrainingData(frame, matrix, recipe, HORIZON, record_version=1)


def changed(data: TrainingData, rows: np.ndarray, **columns: Any) -> TrainingData:
    """The same data with other values in some columns of the chosen rows."""
    new = data.rows.with_columns(
        pl.Series(name, np.where(rows, value, data.rows[name].to_numpy())) for name, value in columns.items()
    )
    return TrainingData(new, data.matrix, data.recipe, data.horizon_days, data.record_version)


def test_a_curve_rises_towards_what_the_risk_itself_reaches() -> None:
    data, heard = simulated(), []
    (found,) = learning_curves([LOGISTIC], data, progress=lambda *state: heard.append(state))
    assert found.curve is not None
    assert found.curve.shape == "falling"
    tuning = data.part("tuning")
    true_risk = 1 / (1 + np.exp(-tuning.values.sum(axis=1)))
    halves = dealt(tuning.outcomes, 2, seed=0)
    best = HalvesStatistic(Ranking.of(true_risk, tuning.outcomes.label), halves)
    weight = (tuning.outcomes.known * 1.0)[None]
    assert found.curve.predictions[-1].error.value == pytest.approx(best(weight, weight)["error"][0], abs=0.03)
    assert [size for size, _, _ in found.curve.seen] == sorted(size for size, _, _ in found.curve.seen)
    training = len(data.part("train").outcomes)
    assert found.words[0].startswith(f"With the {training:,} training patients there are, AUROC 0.")
    assert found.words[1].startswith(f"With 2 times the patients ({2 * training:,}), AUROC about 0.")
    assert heard[0][1:] == (0, heard[0][2])
    assert heard[-1][1] == heard[-1][2]


def test_held_out_rows_are_not_looked_at() -> None:
    data = simulated(rows=900)
    held_out = (data.rows["split"] == "held_out").to_numpy()
    other = changed(data, held_out, event=1, follow_up_days=1.0)
    assert learning_curves([LOGISTIC], other) == learning_curves([LOGISTIC], data)


def test_rows_that_judge_a_model_do_not_end_its_training() -> None:
    data = simulated(rows=900)
    section = ModelSection(kind="lightgbm", parameters={"patience": 3})
    training, tuning = data.part("train"), data.part("tuning")
    halves = dealt(tuning.outcomes, 2, seed=0)

    def risk(rows: Any) -> np.ndarray:
        return module._risk(section, training, rows, halves=halves, data=data, seed=0)

    first, outcomes = risk(tuning), tuning.outcomes
    order = np.arange(len(halves))
    order[halves == 0] = np.random.default_rng(0).permutation(order[halves == 0])
    shuffled = Outcomes(outcomes.subject_id, outcomes.follow_up_days[order], outcomes.event[order], HORIZON)
    other = risk(LabelledRows(tuning.values, shuffled))
    assert (other[halves == 0] == first[halves == 0]).all()
    assert (other[halves == 1] != first[halves == 1]).any()


def test_parts_keep_subjects_whole_and_spread_the_events() -> None:
    random = np.random.default_rng(1)
    subject = np.repeat(np.arange(101), random.integers(1, 4, 101))
    ill = random.random(101) < 0.3
    outcomes = Outcomes(subject, np.full(len(subject), 100.0), ill[subject] * 1, 365.0)
    part = dealt(outcomes, 4, seed=5)
    assert all(len(set(part[subject == one])) == 1 for one in range(101))
    of_subject = part[np.searchsorted(subject, np.arange(101))]
    for members in (of_subject, of_subject[ill], of_subject[~ill]):
        assert np.ptp(np.bincount(members, minlength=4)) <= 1
    assert (dealt(outcomes, 4, seed=5) == part).all()
    assert (dealt(outcomes, 4, seed=6) != part).any()


def test_too_few_events_give_words_instead_of_a_curve() -> None:
    data = simulated(rows=60)
    (found,) = learning_curves([LOGISTIC], data)
    assert found.curve is None
    assert found.words[0].startswith("No learning curve: the training rows have ")
    assert "4 sizes of parts need 40 of each" in found.words[0]
    plenty = simulated()
    tuning = (plenty.rows["split"] == "tuning").to_numpy()
    (found,) = learning_curves([LOGISTIC], changed(plenty, tuning, event=0, follow_up_days=400.0))
    assert found.words[0].startswith("No learning curve: the tuning rows have 0 subjects with")


def test_features_that_say_nothing_give_a_flat_curve() -> None:
    (found,) = learning_curves([LOGISTIC], simulated(rows=2400, strength=0.0, seed=3))
    assert found.curve is not None
    assert found.curve.shape == "flat"
    assert "do not count on any gain" in found.words[-1]
