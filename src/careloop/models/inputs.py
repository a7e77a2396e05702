"""Checks of the arrays that estimators are given, and the structured array that survival estimators are fitted on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, validate_data

from careloop import InputError

Floats = NDArray[np.floating[Any]]
SURVIVAL_DTYPE = np.dtype([("event", bool), ("time", np.float64)])


def check_matrix(estimator: Any, X: Any, **rules: Any) -> Any:
    """X as a checked array (n, p); `rules` are those of scikit-learn's `validate_data` (`reset=False` to predict).

    Raises `InputError` where scikit-learn raises ValueError: missing values, another number of columns, no rows.
    """
    try:
        return validate_data(estimator, X, **rules)
    except ValueError as error:
        raise InputError(_one_line(error)) from error


def _one_line(error: ValueError) -> str:
    """scikit-learn's message without the lines after the first, which may show values."""
    first = str(error).strip().splitlines()[0]
    if "2D array" in first:
        return first.rstrip(":") + ". Reshape your data to rows and columns."
    if "NaN" in first:
        first += (
            " Impute the missing values before fitting, or use an estimator on trees, which takes them as they are."
        )
    return first


def check_labels(y: ArrayLike) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """The two classes in sorted order, and y as 0 and 1 (n,)."""
    try:
        check_classification_targets(y)
    except ValueError as error:
        raise InputError(_one_line(error)) from error
    classes, codes = np.unique(np.asarray(y), return_inverse=True)
    if len(classes) == 1:
        raise InputError("A classifier needs two classes; the labels hold one class. Widen the cohort or the horizon.")
    if len(classes) > 2:
        raise InputError(
            "Only binary classification is supported. The type of the target is multiclass "
            f"({len(classes)} classes). Recode the labels as outcome and no outcome."
        )
    return classes, codes.reshape(-1).astype(np.float32)


def check_weights(sample_weight: ArrayLike | None, X: Any) -> NDArray[np.float64] | None:
    """Sample weights (n,), scaled to mean 1 so that the loss keeps its scale; None stays None."""
    if sample_weight is None:
        return None
    try:
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    except ValueError as error:
        raise InputError(_one_line(error)) from error
    return weights / weights.mean()


def survival_target(event: ArrayLike, time: ArrayLike) -> NDArray[Any]:
    """Structured array (n,) with fields `event` (bool) and `time` (any unit), as scikit-survival takes it."""
    events, times = np.asarray(event), np.asarray(time, dtype=np.float64)
    if events.shape != times.shape or events.ndim != 1:
        raise InputError(
            f"Events and times must be vectors of one length; got shapes {events.shape} and {times.shape}."
        )
    target = np.empty(len(times), dtype=SURVIVAL_DTYPE)
    target["event"], target["time"] = events.astype(bool), times
    return target


def check_survival(y: Any, rows: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """`check_follow_up` of training rows, of which at least one must have the event."""
    event, time = check_follow_up(y, rows)
    if not event.any():
        raise InputError(f"A survival model needs at least one event; none of the {rows} rows has one.")
    return event, time


def check_follow_up(y: Any, rows: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Event and time vectors (n,) of a structured array, whose first field is the event and second the time."""
    names = getattr(getattr(y, "dtype", None), "names", None)
    if names is None or len(names) != 2:
        raise InputError(
            "A survival target is a structured array (event, time); build it with survival_target(event, time)."
        )
    event, time = np.asarray(y[names[0]]), np.asarray(y[names[1]], dtype=np.float64)
    if event.dtype != np.bool_:
        raise InputError(f"The first field of a survival target is boolean; field '{names[0]}' is {event.dtype}.")
    if len(time) != rows:
        raise InputError(f"X and y must have one length; X has {rows} rows and y has {len(time)}.")
    if not np.isfinite(time).all() or (time < 0).any():
        bad = int((~np.isfinite(time) | (time < 0)).sum())
        raise InputError(
            f"Survival times must be finite and not negative; {bad} of {rows} are not. Correct or drop these rows."
        )
    return event, time


def step_values(values: Floats, known_times: Floats, times: ArrayLike) -> Floats:
    """Survival curves (n, k) known at `known_times` (k,), read at `times` (t,) as steps from 1: (n, t)."""
    at = np.searchsorted(known_times, np.asarray(times, dtype=np.float64), side="right")
    from_one = np.concatenate([np.ones((len(values), 1)), values], axis=1)
    return from_one[:, at]
