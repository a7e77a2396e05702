"""Where order and spacing decide a simulated outcome, GRU and Transformer come near the best AUROC, windows do not.

`benchmarks/order_and_spacing.py` prints the same for a larger record with more kinds of episodes and more events.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from careloop.features import FeaturesSection, fit_features
from careloop.features.timelines import TimelinesSection, extract_timelines, fit_timelines
from careloop.models import LightGBM
from careloop.models.sequence.arrays import Sequences, TokenSpace
from careloop.record import Record

pytest.importorskip("torch")

PATIENTS, SEED = 2500, 3
EFFECTS = {"order": 2.0, "refills": 2.0}
# To a model that sees the forms 1,625 training rows show an effect of 2 with a standard error of about 0.1, which costs
# less than 0.001 of AUROC. A network has to find the forms first: not to see one of the two costs more than 0.1.
NEAR = 0.04


def _module(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


simulated = _module("ordered_record")


@dataclass(frozen=True)
class Study:
    """The simulated record, its windows' columns, and its timelines."""

    record: simulated.OrderedRecord
    windows: np.ndarray
    sequences: Sequences
    space: TokenSpace

    def rows(self, split: str) -> np.ndarray:
        return np.flatnonzero(self.record.rows(split))

    def below_the_best(self, score: np.ndarray) -> float:
        """How far the AUROC of held-out rows' scores is below the best possible, over all labels."""
        risk = self.record.risk[self.rows("held_out")]
        return simulated.expected_auroc(risk, risk) - simulated.expected_auroc(score, risk)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    record = simulated.simulate(PATIENTS, SEED, effects=EFFECTS, most_others=6)
    folder = tmp_path_factory.mktemp("simulated") / "record"
    stored = Record.create(folder, shards=1).append(record.events, key="simulated")
    _, matrix = fit_features(stored, record.keys, FeaturesSection())
    recipe = fit_timelines(stored, record.keys, TimelinesSection())
    sequences = extract_timelines(stored, record.keys, recipe).sequences.take(np.arange(PATIENTS))
    return Study(record, matrix.values, sequences, recipe.token_space())


def lightgbm_score(study: Study, target: np.ndarray) -> np.ndarray:
    """Held-out scores of LightGBM on the study's windows."""
    training, tuning, held = (study.rows(split) for split in ("train", "tuning", "held_out"))
    validation = (study.windows[tuning], target[tuning])
    model = LightGBM().fit(study.windows[training], target[training], validation=validation)
    return model.predict_proba(study.windows[held])[:, 1]


@pytest.mark.parametrize("network", ["gru", "transformer"])
def test_networks_find_order_and_spacing_and_windows_do_not(study: Study, network: str) -> None:
    from careloop.models.sequence.estimators import SequenceClassifier

    training, tuning, held = (study.rows(split) for split in ("train", "tuning", "held_out"))
    take, label = study.sequences.take, study.record.label
    model = SequenceClassifier(
        network=network, width=64, heads=2, dropout=0.1, learning_rate=3e-3, tokens=512, max_epochs=8, patience=3
    )
    model.fit(take(training), label[training], space=study.space, validation=(take(tuning), label[tuning]))
    assert study.below_the_best(model.predict_proba(take(held))[:, 1]) < NEAR
    assert study.below_the_best(lightgbm_score(study, label)) > 0.3


@pytest.mark.parametrize("number", range(len(EFFECTS)))
def test_windows_hold_next_to_nothing_of_the_forms(study: Study, number: int) -> None:
    """Even shown the forms themselves without noise, LightGBM on windows does not learn to tell them apart."""
    from sklearn.metrics import roc_auc_score

    form = study.record.forms[:, number]
    found = roc_auc_score(form[study.rows("held_out")], lightgbm_score(study, form))
    assert found < 0.6


def test_both_forms_of_every_episode_look_the_same_to_a_window_over_all_time(tmp_path: Path) -> None:
    """The columns' means in the two forms differ by less than chance allows: 4.5 standard errors, of 40 columns."""
    effects = dict.fromkeys(simulated.EPISODES, 1.0)
    record = simulated.simulate(1500, 5, effects=effects, most_others=0)
    stored = Record.create(tmp_path / "record", shards=1).append(record.events, key="simulated")
    _, matrix = fit_features(stored, record.keys, FeaturesSection(windows_days=("all",)))
    for form in record.forms.T:
        one, other = matrix.values[form == 1], matrix.values[form == 0]
        error = np.sqrt(one.var(axis=0) / len(one) + other.var(axis=0) / len(other))
        apart = np.abs(one.mean(axis=0) - other.mean(axis=0))
        assert (apart <= 4.5 * error + 1e-9).all()


def test_expected_auroc_of_two_groups_is_their_closed_form() -> None:
    """Of two groups of one risk each: pairs across the groups count whole or not, pairs within a group half."""
    n, low, high = 50, 0.2, 0.7
    risk = np.repeat([low, high], n)
    across, against, pairs_within = n * n * high * (1 - low), n * n * low * (1 - high), n * (n - 1)
    within = pairs_within * (low * (1 - low) + high * (1 - high))
    expected = (across + within / 2) / (across + against + within)
    assert simulated.expected_auroc(risk, risk) == pytest.approx(expected, abs=1e-12)
    assert simulated.expected_auroc(-risk, risk) == pytest.approx(1 - expected, abs=1e-12)


def test_expected_auroc_is_the_ratio_over_all_labels() -> None:
    """Against a count over all 2^6 labels of six rows, pair by pair."""
    random = np.random.default_rng(0)
    risk, score = random.uniform(0.1, 0.9, 6), np.array([0.3, 0.1, 0.3, 0.8, 0.5, 0.8])
    in_order = pairs = 0.0
    for label in itertools.product([0, 1], repeat=6):
        chance = np.prod(np.where(label, risk, 1 - risk))
        for i, j in itertools.permutations(range(6), 2):
            if label[i] > label[j]:
                pairs += chance
                in_order += chance * (0.5 if score[i] == score[j] else float(score[i] > score[j]))
    assert simulated.expected_auroc(score, risk) == pytest.approx(in_order / pairs, abs=1e-12)


def test_best_possible_auroc_is_what_drawn_labels_give_on_average() -> None:
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(0)
    risk = 1 / (1 + np.exp(-random.normal(0, 2, 400)))
    drawn = [roc_auc_score(random.random(400) < risk, risk) for _ in range(400)]
    error = np.std(drawn) / np.sqrt(len(drawn))
    assert simulated.expected_auroc(risk, risk) == pytest.approx(np.mean(drawn), abs=4 * error)


def test_a_true_risk_cannot_be_beaten() -> None:
    random = np.random.default_rng(1)
    risk = random.uniform(0, 1, 300)
    best = simulated.expected_auroc(risk, risk)
    others = [simulated.expected_auroc(risk + random.normal(0, noise, 300), risk) for noise in (0.01, 0.1, 1.0)]
    assert best > others[0] > others[1] > others[2]
