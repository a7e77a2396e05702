"""Small cells of a report hidden: counts of few people, and as many others as keep them from being worked out."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from careloop import InputError

SMALLEST = 11  # CMS cell size suppression policy: no cell of 1 to 10 people
_ROW = "\0row"


def shown(count: int | None, smallest: int = SMALLEST) -> int | str:
    """A single count of people as a report shows it: itself if it is 0 or at least `smallest`, else in words."""
    if count is None or 0 < count < smallest:
        return f"fewer than {smallest}"
    return count


def hide_small_cells(
    table: pl.DataFrame,
    counts: str | Sequence[str],
    *,
    smallest: int = SMALLEST,
    margins: Sequence[Sequence[str]] = ((),),
    derived: Sequence[str] = (),
) -> pl.DataFrame:
    """Return `table`, a row a cell, with small counts null, and with them `derived` (shares, means, intervals).

    Counts from 1 to `smallest` - 1 are hidden. Each of `margins` names columns in which rows add up to a total that is
    shown, `()` to the total of all rows: `[["sex"], ["age"], ()]` for a table of sex by age with all its margins. Where
    the hidden cells of a total are together fewer than `smallest`, or only one is, the smallest others that are not 0
    are hidden too (complementary suppression; Hundepool et al., Statistical Disclosure Control, 2012, section 4.4), so
    that no subtraction along a margin gives a small count. Equations over several margins at once are not looked
    through: show two-way tables without their margins where that matters.

    A row whose counts are in several columns (people, events) loses all of them when the first is small. A null count
    counts as hidden before. Totals themselves go through `shown`. The rows' order stays.

    Raises:
        InputError: a column that the table lacks, negative counts, or `smallest` below 2.
    """
    names = [counts] if isinstance(counts, str) else list(counts)
    _check(table, names, [*derived, *(name for margin in margins for name in margin)], smallest)
    people = table[names[0]].to_list()
    hidden = [count is None or 0 < count < smallest for count in people]
    groups = [group for margin in margins for group in _groups(table, list(margin))]
    while any(_complete(group, people, hidden, smallest) for group in groups):
        pass  # what one total needs hidden may leave one hidden cell alone in another
    kept = ~pl.Series(hidden, dtype=pl.Boolean())
    return table.with_columns(pl.when(kept).then(name).alias(name) for name in (*names, *derived))


def _groups(table: pl.DataFrame, margin: list[str]) -> list[list[int]]:
    """Row numbers that add up to one total, for each total."""
    numbered = table.with_row_index(_ROW)
    if not margin:
        return [numbered[_ROW].to_list()]
    return numbered.group_by(margin, maintain_order=True).agg(_ROW)[_ROW].to_list()


def _complete(group: list[int], people: list[int | None], hidden: list[bool], smallest: int) -> bool:
    """Hide what else must be in one total's rows; true where that was something."""
    dark = [row for row in group if hidden[row]]
    bright = sorted((row for row in group if not hidden[row] and people[row]), key=lambda row: (people[row], row))
    changed = False
    while dark and bright and (len(dark) < 2 or sum(people[row] or 0 for row in dark) < smallest):
        row = bright.pop(0)
        hidden[row], changed = True, True
        dark.append(row)
    return changed


def _check(table: pl.DataFrame, counts: list[str], others: list[str], smallest: int) -> None:
    unknown = [name for name in (*counts, *others) if name not in table.columns]
    if unknown:
        raise InputError(f"no column {unknown[0]}; the table has {', '.join(table.columns)}")
    if smallest < 2:
        raise InputError(f"smallest must be at least 2, got {smallest}; {SMALLEST} is usual")
    for name in counts:
        if not table.schema[name].is_integer() or (table[name] < 0).any():
            raise InputError(f"column {name} must hold counts, whole numbers from 0; count people first")
