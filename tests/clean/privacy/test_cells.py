"""No count of few people is shown or can be worked out: what linear programming makes of the table that is left."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from careloop import InputError
from careloop.clean.privacy.cells import hide_small_cells, shown

COUNTS = st.lists(st.integers(0, 40) | st.integers(1, 10), min_size=1, max_size=8)


def bounds(counts: list[int], after: list[int | None], totals: list[list[int]]) -> list[tuple[float, float]]:
    """Least and most that somebody who knows all totals can say of each hidden cell."""
    hidden = [row for row, count in enumerate(after) if count is None]
    equations = np.array([[float(row in group) for row in hidden] for group in totals])
    left = [sum(counts[row] for row in group if row in hidden) for group in totals]
    found = []
    for place in range(len(hidden)):
        sign = np.zeros(len(hidden))
        sign[place] = 1
        least, most = (linprog(s * sign, A_eq=equations, b_eq=left, bounds=(0, None)).fun for s in (1, -1))
        found.append((least, -most))
    return found


@settings(max_examples=80, deadline=None)
@given(counts=COUNTS, smallest=st.integers(2, 12))
def test_no_hidden_cell_can_be_had_from_the_total(counts: list[int], smallest: int) -> None:
    after = hide_small_cells(pl.DataFrame({"n": counts}), "n", smallest=smallest)["n"].to_list()
    assert all(count is None or count == 0 or count >= smallest for count in after)
    assert all(count in (None, before) for count, before in zip(after, counts, strict=True))
    if sum(counts) < smallest or None not in after:
        return  # a total that is small itself is not shown
    for least, most in bounds(counts, after, [list(range(len(counts)))]):
        assert most >= smallest
        assert least == pytest.approx(0)


@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(0, 30), min_size=12, max_size=12))
def test_along_each_margin_of_a_two_way_table(counts: list[int]) -> None:
    table = pl.DataFrame({"n": counts, "row": [i // 4 for i in range(12)], "column": [i % 4 for i in range(12)]})
    after = hide_small_cells(table, "n", smallest=5, margins=[["row"], ["column"], ()])
    for margin in (["row"], ["column"]):
        both = table.with_columns(after=after["n"]).filter(pl.col("n") > 0)
        hidden = both.filter(pl.col("after").is_null()).group_by(margin).agg(pl.len(), pl.col("n").sum())
        bright = both.filter(pl.col("after").is_not_null()).select(margin).unique()
        # Only where nothing else is left in a row may one stand alone: its total is small, or the cell is all of it.
        assert hidden.join(bright, on=margin, how="semi").filter((pl.col("len") < 2) | (pl.col("n") < 5)).is_empty()


def test_one_small_cell_takes_the_next_with_it_and_what_is_derived() -> None:
    table = pl.DataFrame({"group": ["a", "b", "c", "d"], "n": [120, 4, 30, 0], "events": [60, 1, 9, 0]})
    table = table.with_columns(share=pl.col("events") / pl.col("n"))
    after = hide_small_cells(table, ["n", "events"], derived=["share"])
    assert after["n"].to_list() == [120, None, None, 0]
    assert after["events"].to_list() == [60, None, None, 0]
    assert after["share"].is_null().to_list() == [False, True, True, False]
    assert after["group"].to_list() == ["a", "b", "c", "d"]


def test_each_group_has_its_own_total() -> None:
    table = pl.DataFrame({"site": ["x", "x", "y", "y"], "n": [3, 50, 60, 70]})
    assert hide_small_cells(table, "n", margins=[["site"]])["n"].to_list() == [None, None, 60, 70]
    assert hide_small_cells(table, "n", margins=[])["n"].to_list() == [None, 50, 60, 70]
    assert hide_small_cells(table.head(0), "n").is_empty()


def test_single_counts() -> None:
    assert [shown(count) for count in (0, 1, 10, 11, None)] == [0, *["fewer than 11"] * 2, 11, "fewer than 11"]


@pytest.mark.parametrize(
    ("values", "smallest", "words"),
    [({"n": [1.5]}, 11, "whole numbers"), ({"n": [-1]}, 11, "whole numbers"), ({"n": [1]}, 1, "at least 2")],
)
def test_mistakes_are_said(values: dict[str, list], smallest: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        hide_small_cells(pl.DataFrame(values), "n", smallest=smallest)
    with pytest.raises(InputError, match="no column m; the table has n"):
        hide_small_cells(pl.DataFrame({"n": [1]}), "m")
