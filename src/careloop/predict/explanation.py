"""Why one patient's risk is what it is: each code's share in it, in numbers and in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from careloop import InputError
from careloop.features import FeatureMatrix
from careloop.features.words import is_yes_or_no, number, stated
from careloop.models import BoostedHazard, CoxPH, FullyConnected, HazardNetwork, LightGBM, contributions
from careloop.train import Package
from careloop.train.package import raw_risk

MOST_FACTORS = 5
# A smaller share would be printed as +0.00 and is left out of the text.
SMALLEST_SHARE = 0.005
SMALLEST_RISK = 1e-9


@dataclass(frozen=True)
class Factor:
    """One code's share in the risk, told by the feature of it that matters most for this patient.

    `name` is the feature with its value; `share` is in units of risk (0.06 is six percentage points); `text` is the
    sentence.
    """

    name: str
    code: str
    feature: str
    value: float | None
    median: float | None
    share: float
    text: str


@dataclass(frozen=True)
class Explanation:
    """The factors of one risk, largest share first, and how they were computed.

    `reference_risk` is the risk that shares are counted from; with the exact methods they add up to the difference.
    """

    model: str
    model_version: str
    horizon_days: float
    outcome: str
    risk: float
    reference_risk: float
    method: str
    factors: tuple[Factor, ...]

    @property
    def leading(self) -> tuple[Factor, ...]:
        """The few factors worth showing."""
        return tuple(f for f in self.factors if abs(f.share) >= SMALLEST_SHARE)[:MOST_FACTORS]

    @property
    def reference(self) -> str:
        """What the shares are counted from."""
        return "an average training patient"

    @property
    def summary(self) -> str:
        """The risk beside that of the reference, as a sentence."""
        return (
            f"Risk of {self.outcome} within {self.horizon_days:g} days: {self.risk:.2f}; the model starts from "
            f"{self.reference_risk:.2f} for {self.reference}."
        )

    @property
    def origin(self) -> str:
        """How the factors were computed, of which model, and what for."""
        return f"By {self.method}; {self.model}, version {self.model_version}. Not for clinical use."

    @property
    def text(self) -> str:
        """The explanation as a few lines."""
        return "\n".join([self.summary, *(f"- {factor.text}" for factor in self.leading), self.origin])


@dataclass(frozen=True, eq=False)
class Shares:
    """Shares (p,) of the features in the risk, the risk they are counted from, and the method in words."""

    values: np.ndarray
    reference_risk: float
    method: str


def explain(package: Package, matrix: FeatureMatrix, row: int = 0) -> Explanation:
    """Explain the risk of one row of the matrix.

    LightGBM and boosted hazards by SHAP values, networks by integrated gradients, linear and Cox models exactly; these
    are scaled from log-odds or log hazard to add up to the risk's difference from the reference. Other estimators by
    occlusion: how the risk falls when one code's features are set to their training medians. Models of event sequences
    by integrated gradients over the events. InputError: no such row.
    """
    if not 0 <= row < matrix.keys.height:
        raise InputError(f"row {row} does not exist: the matrix has rows 0 to {matrix.keys.height - 1}")
    if package.timelines is not None:
        from careloop.predict.events_explained import explain_history  # which builds on this module

        return explain_history(package, matrix.take(np.array([row])))
    values = package.aligned(matrix)[[row]]
    risk = float(package.risk(FeatureMatrix(matrix.keys[[row]], package.preprocessing.names, values))[0])
    shares = exact_shares(package, values) if has_exact(package.estimators[0]) else occlusion_shares(package, values)
    dense = np.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype=np.float64)[0]
    return Explanation(
        model=package.name,
        model_version=package.version,
        horizon_days=package.horizon_days,
        outcome=package.facts.outcome,
        risk=risk,
        reference_risk=shares.reference_risk,
        method=shares.method,
        factors=factors_of(package, dense, shares.values),
    )


def has_exact(estimator: Any) -> bool:
    """Whether `careloop.models.contributions` knows the estimator."""
    known = LightGBM | BoostedHazard | CoxPH | FullyConnected | HazardNetwork
    return isinstance(estimator, known) or np.shape(getattr(estimator, "coef_", ()))[:1] == (1,)


def exact_shares(package: Package, values: Any) -> Shares:
    """Contributions on the model's own scale, turned into shares of the risk by the slope from reference to patient."""
    estimator, preprocessing = package.estimators[0], package.preprocessing
    inputs = preprocessing.apply(values)
    inputs = inputs.toarray() if hasattr(inputs, "toarray") else inputs
    found = contributions(estimator, inputs, background=preprocessing.reference(), horizon=package.horizon_days)
    by_feature = np.bincount(preprocessing.owners, weights=found.values[0], minlength=len(preprocessing.names))
    link, inverse = LINKS["log-odds" if found.scale == "log-odds" else "hazard"]
    score = link(
        np.clip(raw_risk(package.estimators, inputs, package.horizon_days)[0], SMALLEST_RISK, 1 - SMALLEST_RISK)
    )
    total = float(by_feature.sum())
    reference = at_score(package, inverse, score - total)
    step = total if abs(total) > 1e-6 else 1e-6
    slope = (at_score(package, inverse, score) - at_score(package, inverse, score - step)) / step
    return Shares(by_feature * slope, reference, METHODS[type(estimator).__name__])


def at_score(package: Package, inverse: Callable[[Any], Any], score: float) -> float:
    """The recalibrated risk at a score."""
    return float(package.recalibration.apply(np.array([inverse(score)]))[0])


LINKS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "log-odds": (lambda p: np.log(p) - np.log1p(-p), lambda z: 1 / (1 + np.exp(-z))),
    "hazard": (lambda p: np.log(-np.log1p(-p)), lambda z: -np.expm1(-np.exp(z))),
}
METHODS = {
    "LogisticRegression": "exact contributions of a linear model",
    "CoxPH": "exact contributions to the hazard",
    "LightGBM": "SHAP values of the trees",
    "BoostedHazard": "SHAP values of the trees on the hazard up to the horizon",
    "FullyConnected": "integrated gradients of the network",
    "HazardNetwork": "integrated gradients of the network's cumulative hazard up to the horizon",
}


def occlusion_shares(package: Package, values: Any) -> Shares:
    """How much higher the risk is than with a code's features at their training medians; such shares need not add up.

    A code's change is given to its first feature, since the features of a code are set to their medians together.
    """
    names, groups = package.preprocessing.names, code_groups(package)
    median = np.array([np.nan if c.median is None else c.median for c in package.recipe.columns])
    dense = np.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype=np.float64)
    rows = np.repeat(dense, len(groups) + 2, axis=0)
    for i, places in enumerate(groups.values()):
        rows[i, places] = median[places]
    rows[-1] = median
    risk = package.recalibration.apply(
        raw_risk(package.estimators, package.preprocessing.apply(rows), package.horizon_days)
    )
    shares = np.zeros(len(names))
    for i, places in enumerate(groups.values()):
        shares[places[0]] = risk[-2] - risk[i]
    return Shares(shares, float(risk[-1]), "occlusion (each factor set to its training median; shares need not add up)")


def code_groups(package: Package) -> dict[str, list[int]]:
    """Positions of the features by the code that they come from."""
    groups: dict[str, list[int]] = {}
    for j, column in enumerate(package.recipe.columns):
        groups.setdefault(column.code or column.name, []).append(j)
    return groups


def factors_of(package: Package, values: np.ndarray, shares: np.ndarray) -> tuple[Factor, ...]:
    """One factor a code, from its features' values (p,) and shares (p,), largest first."""
    factors = []
    for code, places in code_groups(package).items():
        share = float(shares[places].sum())
        leading = max(places, key=lambda j: shares[j] * np.sign(share))  # the feature that speaks for the code's share
        factors.append(factor(package, code, leading, float(values[leading]), share))
    return tuple(sorted(factors, key=lambda f: (-abs(f.share), f.code)))


def factor(package: Package, code: str, feature: int, value: float, share: float) -> Factor:
    """One factor with its sentence: `CD4 count 210 cells/mm3 (training median 334) raises risk, +0.06`."""
    column = package.recipe.columns[feature]
    compared = "" if is_yes_or_no(column) or column.median is None else f" (training median {number(column.median)})"
    verb = "raises" if share > 0 else "lowers"
    name = stated(column, value)
    text = f"{name}{compared} {verb} risk, {share:+.2f}"
    return Factor(name, code, column.name, None if np.isnan(value) else value, column.median, share, text)
