"""Tuning: deterministic, resumable after a kill, inside training rows, and clear about what it cannot search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from careloop import InputError
from careloop.train import ModelSection, TrainingData, train_model
from careloop.train.tune import SPACES, figure, first_trial, search_space, subject_folds, tune

SECTION = ModelSection(kind="logistic_regression", tuning={"trials": 8, "folds": 3})


class KilledError(Exception):
    """Stands for the process being killed."""


def fit_nothing(section: ModelSection, rows: object) -> object:
    """A stand-in whose figure is best where C is near 0.01."""
    off = abs(np.log10(section.parameters["C"]) + 2) / 10
    return lambda others: np.clip(np.full(len(others.outcomes), 0.5 - off), 0.01, 0.99)


def test_figures_equal_scikit_learn() -> None:
    random = np.random.default_rng(0)
    risk, label, weight = random.random(200), random.random(200) < 0.3, random.uniform(1, 3, 200)
    weight[:20] = 0
    known = slice(20, None)
    options = {"sample_weight": weight[known]}
    assert figure("log_loss", risk, label, weight) == pytest.approx(log_loss(label[known], risk[known], **options))
    assert figure("brier", risk, label, weight) == pytest.approx(brier_score_loss(label[known], risk[known], **options))
    assert figure("auroc", risk, label, weight) == pytest.approx(
        1 - roc_auc_score(label[known], risk[known], **options)
    )


def test_folds_keep_subjects_together_and_spread_the_outcome() -> None:
    random = np.random.default_rng(0)
    subject = random.integers(0, 200, 1000)
    label = subject % 10 == 0
    folds = subject_folds(subject, label, 5)
    assert all(len(np.unique(folds[subject == s])) == 1 for s in np.unique(subject))
    events = [len(np.unique(subject[label & (folds == f)])) for f in range(5)]
    assert max(events) - min(events) <= 1
    with pytest.raises(InputError, match="in each of 5 folds, and 3 training"):
        subject_folds(subject, subject < 3, 5)


def test_an_interrupted_search_ends_where_an_uninterrupted_one_does(data: TrainingData, tmp_path: Path) -> None:
    rows, calls = data.part("train"), 0

    def dies_at_ten(section: ModelSection, part: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 10:
            raise KilledError
        return fit_nothing(section, part)

    whole = tune(SECTION, rows, fit_nothing)
    journal = tmp_path / "run" / "tuning.log"
    with pytest.raises(KilledError):
        tune(SECTION, rows, dies_at_ten, journal=journal)
    resumed = tune(SECTION, rows, dies_at_ten, journal=journal)
    assert resumed == whole
    before = calls
    assert tune(SECTION, rows, dies_at_ten, journal=journal) == whole  # nothing is left to do
    assert calls == before


def test_the_search_improves_on_the_default_and_reports_progress(data: TrainingData) -> None:
    heard: list[tuple[str, int, int]] = []
    found = tune(SECTION, data.part("train"), fit_nothing, progress=lambda *now: heard.append(now))
    assert abs(np.log10(found["C"]) + 2) < 2  # the default, 1.0, is at a distance of 2
    assert heard == [("tuning logistic_regression", done, 8) for done in range(8)]


def test_a_tuned_package_is_the_same_twice_and_tells_its_parameters(data: TrainingData) -> None:
    section = ModelSection(kind="cox", tuning={"trials": 4, "folds": 3, "metric": "auroc"})
    first, second = train_model(section, data), train_model(section, data)
    assert first.version == second.version
    assert set(first.section.parameters) == {"l2"}


@pytest.mark.parametrize("kind", sorted(SPACES))
def test_the_first_trial_is_the_default_and_lies_inside_the_space(kind: str) -> None:
    section = ModelSection(kind=kind, tuning={"trials": 2})
    assert set(first_trial(section, search_space(section))) == set(SPACES[kind])


def test_a_space_is_needed_for_other_estimators_and_fixed_parameters_stay_fixed() -> None:
    with pytest.raises(InputError, match=r"give tuning\.space"):
        search_space(ModelSection(kind="sklearn.ensemble.RandomForestClassifier", tuning={}))
    fixed = ModelSection(kind="lightgbm", parameters={"num_leaves": 7}, tuning={})
    assert "num_leaves" not in search_space(fixed)
    with pytest.raises(InputError, match="fixes every parameter"):
        search_space(ModelSection(kind="cox", parameters={"l2": 0.1}, tuning={}))
