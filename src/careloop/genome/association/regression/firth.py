"""Firth's penalised logistic regression, for variants where the plain one has no finite or no settled estimate.

Firth D, Bias reduction of maximum likelihood estimates, Biometrika 1993;80:27; for logistic regression Heinze and
Schemper, Stat Med 2002;21:2409. Standard errors are those of the information at the estimate, tests are Wald's, as in
PLINK 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from careloop.genome.association.regression.design import Design
from careloop.genome.association.regression.estimates import NOT_CONVERGED, Estimates, counted
from careloop.genome.association.regression.logistic import LogisticModel, null_fit

MAX_STEPS = 250  # where a genotype and covariates separate cases from controls, steps shrink slowly
_MAX_MOVE = 5.0  # log odds in the first steps, as in Heinze and Ploner's logistf
_CONVERGED = 1e-12  # squared length of a step in standard errors
_STILL = 1e-6  # log odds
_BATCH_VALUES = 2**19  # genotypes fitted at once, so that they stay in the processor's cache


class FirthRegression:
    """Penalised regression of one design's trait on blocks of variants; may be called from several threads."""

    def __init__(self, design: Design) -> None:
        self._model = LogisticModel(design, np.float64)
        self._null = null_fit(design)
        self._twice = np.where(self._model.upper[0] == self._model.upper[1], 1.0, 2.0)

    def estimate(self, block: NDArray[Any]) -> Estimates:
        """Penalised log odds ratios of a block (variants, people) that are not constant."""
        size = max(1, _BATCH_VALUES // max(block.shape[1], 1))
        parts = [self._part(block[at : at + size]) for at in range(0, len(block), size)]
        names = Estimates.__dataclass_fields__
        return Estimates(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

    def _part(self, block: NDArray[Any]) -> Estimates:
        found = counted(block, np.float64)
        variants = len(found.values)
        at = np.column_stack([np.tile(self._null, (variants, 1)), np.zeros(variants)])
        error, before, longest = np.full(variants, np.nan), np.zeros(variants), np.full(variants, _MAX_MOVE)
        open_, absent = np.ones(variants, np.bool_), np.zeros(found.values.shape, np.bool_)
        absent.reshape(-1)[found.missing] = True
        for _ in range(MAX_STEPS):
            rows = np.flatnonzero(open_)
            if not rows.size:
                break
            moved, error[rows], length = self._move(found.values[rows], absent[rows], at[rows])
            turned = moved[:, -1] * before[rows] < 0  # the last step went too far: half of it from now on
            longest[rows] = np.where(turned, np.abs(before[rows]) / 2, longest[rows])
            moved *= np.minimum(1, longest[rows] / np.maximum(np.abs(moved[:, -1]), longest[rows]))[:, None]
            at[rows] += moved
            before[rows] = moved[:, -1]
            open_[rows] = ~((length < _CONVERGED) & (np.abs(moved[:, -1]) < _STILL))
        beta, error = np.where(open_, np.nan, at[:, -1]), np.where(open_, np.nan, error)
        code = np.where(open_, NOT_CONVERGED, 0).astype(np.int8)
        return Estimates(beta, error, found.n, found.frequency, code, np.ones(variants, np.bool_))

    def _move(
        self, values: NDArray[np.float64], absent: NDArray[np.bool_], at: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """A step of the penalised score, the genotype's standard error, and the step's squared length.

        The step goes by the information of Heinze and Schemper's augmented data, whose weights are 1 + h of the plain
        ones: where one person carries the variant, plain information would make every step twice too long.
        """
        t = np.tanh((at[:, :-1] @ self._model.rows + values * at[:, -1:]) / 2)
        weight = np.where(absent, 0, (1 - t * t) / 4)
        inverse = np.linalg.inv(self._model.information(weight, weight * values, values))
        leverage = inverse[:, self._model.upper[0], self._model.upper[1]] * self._twice @ self._model.products.T
        leverage += 2 * values * (inverse[:, :-1, -1] @ self._model.rows) + values**2 * inverse[:, -1, -1][:, None]
        leverage *= weight
        residual = np.where(absent, 0, (self._model.sign - t - leverage * t) / 2)  # y - p + h (1/2 - p)
        score = self._model.with_predictors(residual, values)
        augmented = weight * (1 + leverage)
        curvature = self._model.information(augmented, augmented * values, values)
        moved = np.linalg.solve(curvature, score[:, :, None])[:, :, 0].astype(np.float64)
        length: NDArray[np.float64] = np.einsum("vk,vk->v", moved, score)
        return moved, np.sqrt(inverse[:, -1, -1]), length
