"""Dosages as genotypes: the nearest whole number where it is near enough, else not called."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from careloop.genome.genotypes.source import MISSING

HARD_CALL_THRESHOLD = 0.1  # plink2's default of --hard-call-threshold


def nearest_call(dosages: NDArray[np.float32]) -> NDArray[np.int8]:
    """Genotypes of dosages (any shape, from 0 to 2): `MISSING` where none is within 0.1, or the dosage is NaN."""
    nearest = np.rint(dosages)
    near = np.abs(dosages - nearest) <= HARD_CALL_THRESHOLD + 1e-6  # NaN is not; dosages have 14 to 16 bits
    return np.where(near, nearest, MISSING).astype(np.int8)
