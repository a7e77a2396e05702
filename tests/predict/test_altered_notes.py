"""A what-if changes numbers and events, and leaves all other events their notes."""

from __future__ import annotations

import numpy as np

from careloop.features.timelines import TimelineRecipe, TimelinesSection, Token
from careloop.models.sequence.arrays import FIRST_CODE, Sequences
from careloop.predict.altered_history import altered_history

LAB, NOTE = FIRST_CODE, FIRST_CODE + 1
RECIPE = TimelineRecipe(
    (Token("LAB", unit="g/L", edges=(1.0, 2.0), mean=1.5, standard_deviation=0.5), Token("NOTE"), Token("NEW")),
    TimelinesSection(quantiles=3),
)
ROW = Sequences(
    offsets=np.array([0, 4]),
    code=np.array([NOTE, LAB, NOTE, LAB], dtype=np.int32),
    quantile=np.array([0, 1, 0, 3], dtype=np.uint8),
    value=np.array([np.nan, -1, np.nan, 2], dtype=np.float32),
    time=np.arange(4.0),
    at=np.array([5.0]),
    note=np.array([1, -1, 0, 2], dtype=np.int32),
    notes=np.arange(6, dtype=np.float16).reshape(3, 2),
)


def test_notes_stay_with_their_events() -> None:
    changed = altered_history(ROW, RECIPE, {"LAB": 1.5})
    assert changed.quantile.tolist() == [0, 2, 0, 2]
    assert changed.event_arrays["note"].tolist() == [1, -1, 0, 2]
    without = altered_history(ROW, RECIPE, {"LAB": None})
    assert without.event_arrays["note"].tolist() == [1, 0]
    new = altered_history(ROW, RECIPE, {"NEW": 7.0})
    assert new.event_arrays["note"].tolist() == [1, -1, 0, 2, -1]
    for row in (changed, without, new):
        assert row.notes is ROW.notes
