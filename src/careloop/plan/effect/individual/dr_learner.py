"""One option's effect for each patient, regressed on the covariates: the DR-learner, a weighted stack of regressions.

Doubly robust scores of the difference have the individual effect as their mean given the covariates (DR-learner:
Kennedy 2023, Electron J Stat 17:3008). They are noisy where an option was rarely given, so rows count by the inverse of
their score's variance (Fisher 2023, arXiv:2307.09700; in this it agrees with the R-learner). What is fitted is the
convex combination of a constant, straight and bent lines under weak to strong penalties, and small trees, whose
cross-validated weighted squared error is least (stacking: Breiman 1996, Machine Learning 24:49; van der Laan, Polley &
Hubbard 2007, Stat Appl Genet Mol Biol 6:25): the constant draws all estimates together where effects hardly differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from careloop.plan.effect.doubly_robust import PROPENSITY_CLIP, Scores
from careloop.plan.effect.goals import Array
from careloop.plan.effect.learners import FEWEST_FOR_TREES, TREES, Learner, Predictor, bent
from careloop.plan.effect.nuisance import subject_folds

PENALTIES = (10.0, 100.0, 1_000.0, 10_000.0)  # in rows: a covariate seen in that many rows is halved
LEAVES = (4, 7)  # of the trees
STACKING_FOLDS = 5
FEWEST_TO_STACK = 50  # subjects; with fewer, one effect for all

EffectLearner = Callable[[Array, Scores, int], Predictor]  # covariates (n, p), scores of their rows, option


def dr_learner(covariates: Array, scores: Scores, option: int) -> Predictor:
    """Learn option minus the first option for each row: rows (m, p) -> effects (m,)."""
    propensity = np.maximum(scores.propensity, PROPENSITY_CLIP)
    weight = 1.0 / (1.0 / propensity[:, option] + 1.0 / propensity[:, 0])
    difference = scores.value[:, option] - scores.value[:, 0]
    return stacked(covariates, difference, weight / weight.mean(), subjects=scores.subjects)


def stacked(covariates: Array, target: Array, weight: Array, *, subjects: Array) -> Predictor:
    """The convex combination of the candidates that predicts a target (n,) best in folds of subjects."""
    if len(np.unique(subjects)) < FEWEST_TO_STACK or covariates.shape[1] == 0 or np.ptp(target) == 0.0:
        return _constant(covariates, target, weight)
    fold, candidates = subject_folds(subjects, STACKING_FOLDS, 0), _candidates(len(target))
    predicted = np.empty((len(target), len(candidates)))
    for k in range(STACKING_FOLDS):
        train = fold != k
        for c, fit in enumerate(candidates):
            predicted[~train, c] = fit(covariates[train], target[train], weight[train])(covariates[~train])
    shares = convex_shares(predicted, target, weight)
    used = np.flatnonzero(shares)
    fitted = [candidates[c](covariates, target, weight) for c in used.tolist()]
    return lambda rows: np.column_stack([predict(rows) for predict in fitted]) @ shares[used]


def convex_shares(predicted: Array, target: Array, weight: Array) -> Array:
    """Shares (C,), none negative, together 1, of the predictions (n, C) with the least weighted squared error."""
    from scipy.optimize import nnls

    error = (predicted - target[:, None]) * np.sqrt(weight)[:, None]
    # One more row that is fitted only by shares summing to 1, heavy enough to be met.
    heavy = 1_000.0 * float(np.sqrt((error**2).sum())) or 1.0
    shares, _ = nnls(np.vstack([error, np.full((1, error.shape[1]), heavy)]), np.append(np.zeros(len(error)), heavy))
    return np.asarray(shares / shares.sum())


def _candidates(rows: int) -> Sequence[Learner]:
    lines = [_ridge(penalty) for penalty in PENALTIES]
    trees = [_trees(leaves) for leaves in LEAVES] if rows >= FEWEST_FOR_TREES else []
    return [_constant, *lines, *(bent(line) for line in lines), *trees]


def _constant(covariates: Array, target: Array, weight: Array) -> Predictor:
    mean = float(np.average(target, weights=weight))
    return lambda rows: np.full(len(rows), mean)


def _ridge(penalty: float) -> Learner:
    from sklearn.linear_model import Ridge

    def fit(covariates: Array, target: Array, weight: Array) -> Predictor:
        model = Ridge(alpha=penalty).fit(covariates, target, sample_weight=weight)
        return lambda rows: np.asarray(model.predict(rows), dtype=float)

    return fit


def _trees(leaves: int) -> Learner:
    """Trees on what the mean leaves."""
    from lightgbm import LGBMRegressor

    def fit(covariates: Array, target: Array, weight: Array) -> Predictor:
        mean = float(np.average(target, weights=weight))
        model = LGBMRegressor(**{**TREES, "num_leaves": leaves})
        model.fit(covariates, target - mean, sample_weight=weight)
        return lambda rows: mean + np.asarray(model.predict(rows), dtype=float)

    return fit
