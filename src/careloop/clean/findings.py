"""Findings of detectors, and how they become changed events with notes that restore every row exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import polars as pl

from careloop.record import CARELOOP, EVENTS

Action = Literal["changed", "removed", "flagged"]
TIME = EVENTS["time"]
# One row a finding. `row` is the index of the event in the shard that the detector was given. A null in `after_*`
# leaves the cell as it is; of a flagged event they are a suggestion only. `evident_time`: when the last fact that the
# finding rests on became known; null where the event itself shows it.
FINDINGS = pl.Schema(
    {
        "row": pl.UInt32(),
        "rule": pl.String(),
        "action": pl.String(),
        "evident_time": TIME,
        "after_code": pl.String(),
        "after_numeric_value": pl.Float32(),
        "after_unit": pl.String(),
        "after_time": TIME,
        "after_known_time": TIME,
    }
)
NOTE = f"{CARELOOP}NOTE//"
CELLS = tuple(name for name in EVENTS if name != "subject_id")
CHANGEABLE = tuple(name.removeprefix("after_") for name in FINDINGS if name.startswith("after_"))
STRENGTH = {"removed": 0, "changed": 1, "flagged": 2}  # of several findings of a detector on a row, the first decides
# Times are text in a note: exact to the microsecond, and readable.
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S%.6fZ"
_WRITTEN = {"numeric_value": pl.Float64(), "time": pl.String(), "known_time": pl.String()}


def _struct(names: Sequence[str]) -> pl.Struct:
    return pl.Struct({name: _WRITTEN.get(name, pl.String()) for name in names})


_NOTE_TEXT = pl.Struct(
    {"action": pl.String(), "step": pl.Int64(), "row": _struct(CELLS), "now": _struct(CHANGEABLE)},
)


def findings(rows: pl.DataFrame | pl.LazyFrame, rule: str, action: Action) -> pl.DataFrame:
    """Return `rows` (column `row`, any of `evident_time` and `after_*`) as findings of one rule and action."""
    frame = rows.lazy().collect().with_columns(rule=pl.lit(rule), action=pl.lit(action))
    missing = [pl.lit(None, dtype=FINDINGS[name]).alias(name) for name in FINDINGS if name not in frame.columns]
    return frame.with_columns(missing).select(FINDINGS.names()).cast(FINDINGS)


def together(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return the findings of several detectors as one table."""
    return pl.concat([FINDINGS.to_frame(), *parts])


def is_note(code: pl.Expr | None = None, rules: Sequence[str] | None = None) -> pl.Expr:
    """True for events that are notes, of any rule or of `rules`."""
    code = pl.col("code") if code is None else code
    return code.str.starts_with(NOTE) if rules is None else code.is_in([NOTE + rule for rule in rules])


def apply_findings(events: pl.DataFrame, found: pl.DataFrame, *, step: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the events with the findings applied, and their notes.

    Args:
        events: columns of `EVENTS`, `row`, and any others (`source_time`), which notes take over.
        found: columns of `FINDINGS`; several findings on one row are noted each, and one decides: removed before
            changed before flagged, then the first.
        step: how many detectors came before in this cleaning; undoing goes backwards.

    A note has the event's subject, time and source, becomes known when the finding does (the later of `evident_time`
    and the event's known_time), and its text is JSON: action, step, `row` as it was, `now` the cells that changed.
    """
    if found.is_empty():
        return events, events.clear().drop("row")
    ranked = found.with_columns(strength=pl.col("action").replace_strict(STRENGTH, return_dtype=pl.Int8()))
    ranked = ranked.sort("row", "strength", maintain_order=True)
    # A second change of a row would overwrite the first, so it stays a suggestion.
    decides = ranked["row"].is_first_distinct()
    ranked = ranked.with_columns(
        action=pl.when(decides).then("action").otherwise(pl.lit("flagged")),
    ).drop("strength")
    notes = _notes(ranked.join(events, on="row", how="inner", maintain_order="left"), step).select(
        [name for name in events.columns if name != "row"]
    )
    deciding = ranked.filter(decides)
    removed = deciding.filter(action="removed").select("row")
    changed = deciding.filter(action="changed").select("row", *(f"after_{name}" for name in CHANGEABLE))
    left = events.join(removed, on="row", how="anti", maintain_order="left") if removed.height else events
    if changed.height:
        after = [pl.coalesce(f"after_{name}", name).alias(name) for name in CHANGEABLE]
        left = left.join(changed, on="row", how="left", maintain_order="left").with_columns(after).select(left.columns)
    return left, notes


def restore(events: pl.DataFrame, rules: Sequence[str] | None = None) -> pl.DataFrame:
    """Return the events as they were before cleaning by `rules` (default: all), without those rules' notes.

    A rule is undone together with what later steps did to the same source rows, which rests on it. A note whose row is
    not there any more as cleaning left it stays and restores nothing.
    """
    cells = [*EVENTS, *(name for name in events.columns if name not in EVENTS)]
    events = events.select(cells)
    notes = events.filter(is_note())
    if notes.is_empty():
        return events
    others = events.filter(~is_note())
    notes = notes.with_columns(note=pl.col("text_value").str.json_decode(_NOTE_TEXT)).with_columns(
        step=pl.col("note").struct.field("step"), action=pl.col("note").struct.field("action")
    )
    undone = notes if rules is None else _undone(notes, rules)
    kept = [notes.join(undone, on=cells, how="anti", nulls_equal=True, maintain_order="left").select(cells)]
    for step in sorted(undone["step"].unique(), reverse=True):
        others, lost = _undo_step(others, undone.filter(step=step), cells)
        kept.append(lost)
    return pl.concat([others, *kept])


def _notes(rows: pl.DataFrame, step: int) -> pl.DataFrame:
    before = pl.struct([_written(name) for name in CELLS])
    after = pl.struct([_written(f"after_{name}").alias(name) for name in CHANGEABLE])
    known = pl.max_horizontal("known_time", "evident_time")
    text = pl.struct("action", pl.lit(step, dtype=pl.Int64()).alias("step"), before.alias("row"), after.alias("now"))
    return rows.with_columns(
        code=pl.lit(NOTE) + pl.col("rule"),
        known_time=pl.when(pl.col("time").is_null()).then(None).otherwise(known),
        numeric_value=pl.lit(None, dtype=pl.Float32()),
        unit=pl.lit(None, dtype=pl.String()),
        text_value=text.struct.json_encode(),
        asset=pl.lit(None, dtype=pl.String()),
    )


def _written(name: str) -> pl.Expr:
    cell = name.removeprefix("after_")
    if cell in {"time", "known_time"}:
        return pl.col(name).dt.strftime(_TIME_FORMAT)
    return pl.col(name).cast(pl.Float64()) if cell == "numeric_value" else pl.col(name)


def _read_back(text: str, name: str) -> pl.Expr:
    cell = pl.col("note").struct.field(text).struct.field(name)
    if name in {"time", "known_time"}:
        return cell.str.to_datetime(_TIME_FORMAT, time_unit="us").dt.replace_time_zone("UTC")
    return cell.cast(EVENTS[name])


def _undone(notes: pl.DataFrame, rules: Sequence[str]) -> pl.DataFrame:
    """The notes of `rules`, and those of later steps on the same source rows."""
    key = ["subject_id", "source"]
    first = notes.filter(is_note(rules=rules)).group_by(key).agg(first=pl.col("step").min())
    return notes.join(first, on=key, how="inner", nulls_equal=True, maintain_order="left").filter(
        pl.col("step") >= pl.col("first")
    )


def _undo_step(events: pl.DataFrame, notes: pl.DataFrame, cells: list[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the events before this step, and the notes that no longer fit."""
    was = notes.filter(pl.col("action") != "flagged").with_columns(
        pl.struct([_read_back("row", name).alias(name) for name in CELLS]).alias("was"),
        *(_read_back("now", name).alias(f"after_{name}") for name in CHANGEABLE),
    )
    before = [pl.col("was").struct.field(name).alias(name) for name in CELLS]
    removed = was.filter(action="removed").with_columns(before).select(cells)
    changed = was.filter(action="changed")
    if changed.is_empty():
        return pl.concat([events, removed]), events.clear()
    # Equal rows are one as good as the other: the n-th is matched with the n-th.
    note_cells = changed.select(pl.struct(cells).alias("note_row"))
    now = changed.with_columns(before).with_columns(
        [pl.coalesce(f"after_{name}", name).alias(name) for name in CHANGEABLE]
    )
    now = now.select(*cells, "was", pl.cum_count("was").over(cells).alias("copy")).with_columns(note_cells)
    numbered = events.with_columns(copy=pl.cum_count("subject_id").over(cells))
    key = [*cells, "copy"]
    touched = numbered.join(now, on=key, how="inner", nulls_equal=True, maintain_order="left")
    untouched = numbered.join(now.select(key), on=key, how="anti", nulls_equal=True, maintain_order="left")
    lost = now.join(numbered.select(key), on=key, how="anti", nulls_equal=True, maintain_order="left")
    back = touched.with_columns(before).select(cells)
    return pl.concat([untouched.select(cells), back, removed]), lost.select("note_row").unnest("note_row").select(cells)
