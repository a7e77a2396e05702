"""Estimators by the name that a study file gives: careloop's own, or the dotted path of any scikit-learn estimator."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from careloop import InputError
from careloop.models.boosting import LightGBM
from careloop.models.cox import CoxPH
from careloop.models.fully_connected import FullyConnected
from careloop.models.hazard import BoostedHazard
from careloop.models.hazard_network import HazardNetwork
from careloop.models.sequence.kinds import KINDS, SequenceKind


def logistic_regression(**parameters: Any) -> Any:
    """scikit-learn's logistic regression, L2-penalised, with enough iterations; expects standardised features."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(**{"max_iter": 1000, **parameters})


ESTIMATORS: dict[str, Callable[..., Any]] = {
    "logistic_regression": logistic_regression,
    "lightgbm": LightGBM,
    "fully_connected": FullyConnected,
    "cox": CoxPH,
    "boosted_hazard": BoostedHazard,
    "hazard_network": HazardNetwork,
    **{kind: SequenceKind(kind) for kind in KINDS},
}


def build(name: str, **parameters: Any) -> Any:
    """An unfitted estimator: a key of `ESTIMATORS`, or a dotted path such as `sklearn.ensemble.RandomForestClassifier`.

    Raises `InputError` for an unknown name, a path that cannot be imported or is no estimator, and an unknown
    parameter.
    """
    make = ESTIMATORS[name] if name in ESTIMATORS else _import_estimator(name)
    try:
        return make(**parameters)
    except TypeError as error:
        known = sorted(make().get_params()) if name in ESTIMATORS else list(inspect.signature(make).parameters)
        raise InputError(f"Model '{name}': {error}. Its parameters are {', '.join(known)}.") from error


def _import_estimator(path: str) -> Callable[..., Any]:
    """The class at a dotted path, which must be an estimator: a class with `fit` and `get_params`."""
    allowed = f"Allowed are {', '.join(ESTIMATORS)}, or the dotted path of a scikit-learn estimator."
    module_name, _, class_name = path.rpartition(".")
    if not module_name:
        raise InputError(f"Model '{path}' is not known. {allowed}")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"Model '{path}' cannot be imported ({error}). {allowed}") from error
    if not (inspect.isclass(found) and hasattr(found, "fit") and hasattr(found, "get_params")):
        raise InputError(f"'{path}' is not an estimator: it has no fit and get_params. {allowed}")
    return found
