"""Individual effects by a causal forest (econml, an optional extra), in the place of the DR-learner.

The forest splits where the slope of the outcome's residual on the treatment's residual differs most, and estimates it
in each honest leaf (Athey, Tibshirani & Wager 2019, Annals of Statistics 47:1148); both residuals are out of fold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from careloop import InputError
from careloop.plan.effect.doubly_robust import PROPENSITY_CLIP, Scores
from careloop.plan.effect.goals import Array
from careloop.plan.effect.learners import Predictor

TREES = 500
FEWEST_IN_A_LEAF = 5


@dataclass(frozen=True)
class Residuals:
    """Rows (m,) given the option or the first one: what covariates leave of the goal's value and of the treatment."""

    rows: Array
    outcome: Array
    treatment: Array


def residuals(scores: Scores, option: int) -> Residuals:
    """Residuals among those given the option or the first one, from the out-of-fold parts of the scores."""
    rows = np.flatnonzero((scores.arm == option) | (scores.arm == 0))
    pair = np.maximum(scores.propensity[rows][:, [0, option]], PROPENSITY_CLIP)
    share = pair[:, 1] / pair.sum(axis=1)
    without, given = scores.expected[rows, 0], scores.expected[rows, option]
    outcome = scores.completed[rows] - (without + share * (given - without))
    return Residuals(rows, outcome, (scores.arm[rows] == option) - share)


def causal_forest(covariates: Array, scores: Scores, option: int) -> Predictor:
    """Learn option minus the first option for each row: rows (m, p) -> effects (m,); an `EffectLearner`.

    Raises InputError where econml is not installed.
    """
    try:
        from econml.grf import CausalForest
    except ImportError:
        raise InputError("a causal forest needs econml: pip install 'careloop[causal]'") from None
    left = residuals(scores, option)
    forest = CausalForest(
        n_estimators=TREES, min_samples_leaf=FEWEST_IN_A_LEAF, fit_intercept=True, n_jobs=1, random_state=0
    )
    forest.fit(covariates[left.rows], left.treatment, left.outcome)
    return lambda rows: np.asarray(forest.predict(rows), dtype=float).ravel()
