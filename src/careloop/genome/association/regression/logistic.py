"""Logistic regression of a binary trait on each variant: Newton's method over blocks of variants at once.

Everybody starts from the one-step estimate beside the fit without a genotype, which is close for all but strong
effects; two or three full steps follow. Covariances of covariates under each variant's weights are one matrix product
of the weights with all products of two covariates, so that a step costs little more than reading the block.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.association.regression.design import Design
from careloop.genome.association.regression.estimates import (
    CONST_ALLELE,
    MAX_VIF,
    NOT_CONVERGED,
    SEPARATION,
    TOO_FEW,
    VIF_TOO_HIGH,
    CountedGenotypes,
    Estimates,
    counted,
)

MAX_STEPS = 25  # as PLINK 2
_CONVERGED = 1e-8  # squared length of a step in standard errors, after which another would change nothing seen
_STILL = 1e-3  # log odds that a converged step moves at most: in separated data it stays near 1 while errors grow
_SAME_ALLELE = 1e-3  # copies: fewer are rounding errors of sums in single precision
_RIDGE = 1e-12  # of the diagonal: an information matrix that is singular in single precision stays defined


@dataclass(frozen=True)
class Step:
    """At given coefficients: `score` (variants, k + 1) and `information` (variants, k + 1, k + 1), genotype last."""

    score: NDArray[np.float64]
    information: NDArray[np.float64]


class _Work(threading.local):
    """Three arrays as large as a block, kept between steps: new ones would cost as much time as the sums."""

    def __init__(self) -> None:
        self._kept: NDArray[Any] = np.empty((3, 0), np.float32)

    def arrays(self, values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        if self._kept.shape[1] < values.size or self._kept.dtype != values.dtype:
            self._kept = np.empty((3, values.size), values.dtype)
        first, second, third = (each[: values.size].reshape(values.shape) for each in self._kept)
        return first, second, third


class LogisticModel:
    """One design's basis and trait, as a step of Newton's method needs them; float32 or float64."""

    def __init__(self, design: Design, dtype: type[np.floating[Any]]) -> None:
        basis = design.basis
        self.size = basis.shape[1]
        self.upper = np.triu_indices(self.size)
        self.basis = np.ascontiguousarray(basis, dtype)
        self.rows = np.ascontiguousarray(basis.T, dtype)
        self.products = (basis[:, self.upper[0]] * basis[:, self.upper[1]]).astype(dtype)
        self.sign = (2 * design.trait - 1).astype(dtype)  # 1 for cases, -1 for controls
        self._work = _Work()

    def step(self, values: NDArray[Any], missing: NDArray[np.int64], at: NDArray[np.float64]) -> Step:
        """Score and information of variants `values` (variants, people) at coefficients `at` (variants, k + 1).

        With t = tanh(eta / 2), the trait less its expectation is (sign - t) / 2 and the weight (1 - t^2) / 4.
        """
        t, weight, product = self._work.arrays(values)
        half = (at / 2).astype(values.dtype)
        np.matmul(half[:, :-1], self.rows, out=t)
        t += np.multiply(values, half[:, -1:], out=product)
        np.tanh(t, out=t)
        np.multiply(t, t, out=weight)
        np.subtract(1, weight, out=weight)
        residual = np.subtract(self.sign, t, out=t)
        for each in (weight, residual):
            each.reshape(-1)[missing] = 0
        score = self.with_predictors(residual, values)
        np.multiply(weight, values, out=product)
        return Step(score / 2, self.information(weight, product, values) / 4)

    def with_predictors(self, columns: NDArray[Any], values: NDArray[Any]) -> NDArray[np.float64]:
        """Sums of `columns` (variants, people) times each predictor: (variants, k + 1)."""
        sums = np.empty((len(values), self.size + 1))
        sums[:, :-1] = columns @ self.basis
        sums[:, -1] = np.einsum("vn,vn->v", columns, values)
        return sums

    def information(self, weight: NDArray[Any], weighted: NDArray[Any], values: NDArray[Any]) -> NDArray[np.float64]:
        """Weighted sums of products of predictors: (variants, k + 1, k + 1); `weighted` is `weight` times `values`."""
        found = np.empty((len(values), self.size + 1, self.size + 1))
        found[:, self.upper[0], self.upper[1]] = weight @ self.products
        found[:, :, -1] = self.with_predictors(weighted, values)
        lower = np.tril_indices(self.size + 1, -1)
        found[:, lower[0], lower[1]] = found[:, lower[1], lower[0]]
        return found


class LogisticRegression:
    """Regression of one design's trait on blocks of variants; may be called from several threads."""

    def __init__(self, design: Design) -> None:
        self._model = LogisticModel(design, np.float32)
        self.predictors = design.basis.shape[1] + 1
        self._null = null_fit(design)
        t = np.tanh(design.basis @ self._null / 2)
        weight = (1 - t * t) / 4
        beside = (weight, design.trait - (1 + t) / 2, design.trait)
        self._start_columns = np.column_stack([weight[:, None] * design.basis, *beside]).astype(np.float32)
        self._case = design.trait == 1
        self._start_inverse = np.linalg.inv(design.basis.T @ (weight[:, None] * design.basis))
        self._start_weight = float(weight.sum())

    def estimate(self, block: NDArray[Any]) -> Estimates:
        """Log odds ratios of a block (variants, people) of genotypes or dosages of the design's people."""
        found = counted(block, np.float32)
        at, code = self._start(found)
        errors = np.full(len(block), np.nan)
        active = np.flatnonzero(code == 0)
        for _ in range(MAX_STEPS):
            if not active.size:
                break
            values, missing = _rows(found, active)
            moved, error, length = newton(self._model.step(values, missing, at[active]))
            at[active] += moved
            errors[active] = error
            settled = (length < _CONVERGED) & (np.abs(moved[:, -1]) < _STILL)
            active = active[~settled]
        code[active] = NOT_CONVERGED
        beta = np.where(code == 0, at[:, -1], np.nan)
        errors = np.where(code == 0, errors, np.nan)
        return Estimates(beta, errors, found.n, found.frequency, code, np.zeros(len(beta), np.bool_))

    def _start(self, found: CountedGenotypes) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Coefficients one step from the fit without a genotype, missing genotypes as 0; and what cannot be fitted."""
        sums = (found.values @ self._start_columns).astype(np.float64)
        with_basis, (mean, score, of_cases) = sums[:, :-3], sums[:, -3:].T
        squares = ((found.values * found.values) @ self._start_columns[:, -3]).astype(np.float64)
        by_genotype = with_basis @ self._start_inverse
        left = squares - np.einsum("vk,vk->v", by_genotype, with_basis)
        code = np.zeros(len(sums), np.int8)
        with np.errstate(all="ignore"):
            spread = squares - mean**2 / self._start_weight
            code[~(left > spread / MAX_VIF)] = VIF_TOO_HIGH
            beta = np.clip(np.where(code == 0, score / left, 0), -1, 1)
        code[self._separated(found, of_cases)] = SEPARATION
        code[found.constant] = CONST_ALLELE
        code[found.n <= self.predictors] = TOO_FEW
        return np.column_stack([self._null - beta[:, None] * by_genotype, beta]), code

    def _separated(self, found: CountedGenotypes, of_cases: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Where cases or controls have only one of the two alleles, so that no estimate is finite."""
        row, person = np.divmod(found.missing, found.values.shape[1])
        cases = self._case.sum() - np.bincount(row[self._case[person]], minlength=len(found.n))
        of_all = 2 * found.n * found.frequency
        groups = ((of_cases, 2 * cases), (of_all - of_cases, 2 * (found.n - cases)))
        near = _SAME_ALLELE
        return np.logical_or.reduce([(copies < near) | (copies > alleles - near) for copies, alleles in groups])


def newton(step: Step) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Newton's move, the genotype's standard error, and the move's squared length in standard errors."""
    size = step.score.shape[1]
    diagonal = np.einsum("vkk->vk", step.information)
    ridged = step.information + _RIDGE * diagonal.max(axis=1)[:, None, None] * np.eye(size)
    with np.errstate(all="ignore"):
        inverse = np.linalg.inv(ridged)
        moved = np.einsum("vjk,vk->vj", inverse, step.score)
        return moved, np.sqrt(inverse[:, -1, -1]), np.einsum("vk,vk->v", moved, step.score)


def null_fit(design: Design) -> NDArray[np.float64]:
    """Coefficients (k,) of the basis in the fit without a genotype.

    Raises:
        InputError: covariates alone separate cases from controls.
    """
    at = np.zeros(design.basis.shape[1])
    for _ in range(MAX_STEPS):
        p = (1 + np.tanh(design.basis @ at / 2)) / 2
        score = design.basis.T @ (design.trait - p)
        moved = np.linalg.solve(design.basis.T @ ((p * (1 - p))[:, None] * design.basis), score)
        at += moved
        if moved @ score < 1e-16:
            return at
    raise InputError(
        "the covariates alone separate cases from controls, so that a logistic regression has no finite estimate; "
        "leave out the covariate that gives the trait away"
    )


def _rows(found: CountedGenotypes, rows: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The genotypes of some rows and the flat places of those missing among them."""
    variants, people = found.values.shape
    if rows.size == variants:
        return found.values, found.missing
    new_row = np.full(variants, -1)
    new_row[rows] = np.arange(rows.size)
    row, person = np.divmod(found.missing, people)
    kept = new_row[row] >= 0
    return found.values[rows], new_row[row[kept]] * people + person[kept]
