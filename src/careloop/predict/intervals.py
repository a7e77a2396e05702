"""The interval of a risk: p0 and p1 of the Venn-Abers predictor on the package's tuning rows."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from careloop.train import Package
from careloop.train.package import TuningScores
from careloop.train.venn_abers import VennAbers, fit_venn_abers


def risk_interval(package: Package, raw: np.ndarray, risk: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) of each risk (n,), given before (`raw`) and after calibration.

    A package calibrated by Venn-Abers has its pair at the raw risk; any other has the pair at the calibrated risk.
    """
    if isinstance(package.recalibration, VennAbers):
        return package.recalibration.pair(raw)
    return venn_abers(package.tuning).interval(risk)


@lru_cache(maxsize=32)
def venn_abers(tuning: TuningScores) -> VennAbers:
    """The step functions from the tuning rows; kept for each package that is open."""
    return fit_venn_abers(tuning.risk, tuning.label, tuning.weight)
