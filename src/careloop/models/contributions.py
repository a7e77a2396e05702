"""Each column's share in a score: linear terms, tree SHAP values, integrated gradients; they add up to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from careloop import InputError
from careloop.models.boosting import LightGBM
from careloop.models.cox import CoxPH
from careloop.models.fully_connected import FullyConnected
from careloop.models.hazard import BoostedHazard, every_period
from careloop.models.hazard_network import HazardNetwork
from careloop.models.inputs import Floats, check_matrix

PATH_STEPS = 200  # points of the integral; a relu network is then complete to within 1 % of its scores' range


@dataclass(frozen=True)
class Contributions:
    """What the columns add to the score of every row: `base + values.sum(axis=1)` is the score, on `scale`."""

    values: Floats  # (n, p)
    base: Floats  # (n,)
    scale: str


def contributions(
    estimator: Any, X: Any, *, background: ArrayLike | None = None, horizon: float | None = None
) -> Contributions:
    """Contributions of every column of X (n, p) to the estimator's score.

    `background` (m, p) are the rows whose mean a prediction is compared with; linear models and networks need it.
    `horizon` is the time up to which the hazard's contributions are averaged, or the hazard network's accumulated;
    without it, over the whole follow-up.

    Sources: Lundberg et al. 2020 (Nature Machine Intelligence 2) for trees; Sundararajan, Taly and Yan 2017 (ICML) for
    networks. Raises `InputError` for an estimator that is none of linear, LightGBM, network, Cox, boosted hazard,
    hazard network.
    """
    if isinstance(estimator, CoxPH):
        matrix = check_matrix(estimator, X, dtype=np.float64, reset=False)
        values = (matrix - estimator.mean_) * estimator.coef_
        return Contributions(values, np.zeros(len(values)), "log hazard ratio")
    if isinstance(estimator, BoostedHazard):
        return _hazard_contributions(estimator, X, horizon)
    if isinstance(estimator, LightGBM):
        return _tree_contributions(estimator, X)
    if isinstance(estimator, FullyConnected):
        matrix = check_matrix(estimator, X, dtype=np.float32, reset=False)
        values, base = integrated_gradients(estimator.network_, matrix, _mean(background, matrix).astype(np.float32))
        return Contributions(values, np.full(len(values), base), "log-odds")
    if isinstance(estimator, HazardNetwork):
        matrix = check_matrix(estimator, X, dtype=np.float32, reset=False)
        network, start = estimator.log_cumulative_hazard(horizon), _mean(background, matrix).astype(np.float32)
        values, base = integrated_gradients(network, matrix, start)
        return Contributions(values, np.full(len(values), base), "log cumulative hazard")
    if hasattr(estimator, "decision_function") and np.shape(getattr(estimator, "coef_", ()))[:1] == (1,):
        return _linear_contributions(estimator, X, background)
    raise InputError(
        f"There are no exact contributions for {type(estimator).__name__}. "
        "Explain a linear model, LightGBM, FullyConnected, CoxPH, BoostedHazard or HazardNetwork."
    )


def _mean(background: ArrayLike | None, matrix: Floats) -> Floats:
    if background is None:
        raise InputError("Contributions of a linear model or a network need background rows; pass the training rows.")
    rows = np.asarray(background, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != matrix.shape[1]:
        raise InputError(f"The background must be rows of {matrix.shape[1]} columns; it has shape {rows.shape}.")
    return rows.mean(axis=0)


def _linear_contributions(estimator: Any, X: Any, background: ArrayLike | None) -> Contributions:
    """Coefficient times distance from the background's mean."""
    matrix = np.asarray(X, dtype=np.float64)
    mean, coefficients = _mean(background, matrix), np.ravel(estimator.coef_)
    base = float(np.ravel(estimator.intercept_)[0] + mean @ coefficients)
    return Contributions((matrix - mean) * coefficients, np.full(len(matrix), base), "log-odds")


def _tree_contributions(estimator: LightGBM, X: Any) -> Contributions:
    matrix = check_matrix(estimator, X, dtype=np.float32, ensure_all_finite="allow-nan", reset=False)
    shares = np.asarray(estimator.booster_.predict(matrix, pred_contrib=True, num_threads=estimator.threads))
    return Contributions(shares[:, :-1], shares[:, -1], "log-odds")


def _hazard_contributions(estimator: BoostedHazard, X: Any, horizon: float | None) -> Contributions:
    """Tree SHAP values of the log-odds of the hazard, averaged over the periods up to the horizon.

    The period's own share is not a column's: it goes to the base, which so differs between rows.
    """
    matrix = check_matrix(estimator, X, dtype=np.float32, ensure_all_finite="allow-nan", reset=False)
    periods = len(estimator.cuts_) - 1
    if horizon is not None:
        periods = max(1, min(periods, int(np.searchsorted(estimator.cuts_, horizon, side="left"))))
    rows = every_period(matrix, periods)
    shares: NDArray[Any] = np.asarray(
        estimator.booster_.predict(rows, pred_contrib=True, num_threads=estimator.threads)
    ).reshape(len(matrix), periods, -1)
    mean = shares.mean(axis=1)
    return Contributions(mean[:, :-2], mean[:, -2] + mean[:, -1], "mean log-odds of the hazard")


def integrated_gradients(
    network: Any, matrix: NDArray[np.float32], baseline: NDArray[np.float32]
) -> tuple[Floats, float]:
    """Integrated gradients (n, p) of a network with one output, on the straight path from `baseline` (p,) to every row.

    Also the network's output at the baseline: with it the values of a row add up to its output, up to the path's steps.
    """
    import torch

    from careloop.models.network_loop import cpu_threads

    start, rows = torch.from_numpy(baseline), torch.from_numpy(matrix)
    total = torch.zeros_like(rows)
    with cpu_threads(1):  # two threads take many times longer over such small steps, most of all on busy processors
        for share in (np.arange(PATH_STEPS) + 0.5) / PATH_STEPS:  # midpoint rule
            point = (start + float(share) * (rows - start)).requires_grad_()
            (gradient,) = torch.autograd.grad(network(point).sum(), point)
            total += gradient
        with torch.no_grad():
            base = float(network(start[None]))
    return ((rows - start) * total / PATH_STEPS).numpy().astype(np.float64), base
