"""One patient's event history with other values of some codes, for questions such as what if this lab were normal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from careloop.features.timelines import TimelineRecipe
from careloop.features.timelines.tokens import MOST_DEVIATIONS
from careloop.models.sequence.arrays import FIRST_CODE, Sequences


def altered_history(row: Sequences, recipe: TimelineRecipe, variant: Mapping[str, float | None]) -> Sequences:
    """The one row of `row` with each code's every number at the variant's value; None takes the code's events out.

    A code without a number in the history gets one event at the prediction time. Codes that are no tokens of their own
    change nothing: the model does not read their numbers.
    """
    for code, value in variant.items():
        token = recipe.numbers.get((code, None))
        if token is None:
            continue
        mine = row.code == token
        if value is None:
            row = _kept(row, ~mine)
        else:
            measured = mine & (row.quantile > 0)
            quantile, number = _as_read(recipe, token, value)
            row = row if measured.any() else _with_event(row, token)
            measured = measured if measured.any() else np.arange(len(row.code)) == len(row.code) - 1
            row = replace(
                row,
                quantile=np.where(measured, quantile, row.quantile).astype(np.uint8),
                value=np.where(measured, number, row.value).astype(np.float32),
            )
    return row


def _as_read(recipe: TimelineRecipe, token: int, value: float) -> tuple[int, float]:
    """A number's quantile, and the number standardised and cut, as extraction makes them."""
    one = recipe.tokens[token - FIRST_CODE]
    number = (value - one.mean) / (one.standard_deviation or 1.0)
    return 1 + int(np.searchsorted(one.edges, value, side="left")), float(
        np.clip(number, -MOST_DEVIATIONS, MOST_DEVIATIONS)
    )


def _kept(row: Sequences, keep: np.ndarray) -> Sequences:
    events = {name: array[keep] for name, array in row.event_arrays.items()}
    return replace(row, offsets=np.array([0, keep.sum()], dtype=np.int64), **events)


def _with_event(row: Sequences, token: int) -> Sequences:
    """One more event of the token, as yet without a number, at the prediction time."""
    last = {"code": token, "quantile": 0, "value": np.nan, "time": row.at[0], "note": -1}
    events = {name: np.append(array, last[name]).astype(array.dtype) for name, array in row.event_arrays.items()}
    return replace(row, offsets=np.array([0, len(events["code"])], dtype=np.int64), **events)
