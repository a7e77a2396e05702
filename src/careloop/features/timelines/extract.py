"""The sequence of each key, shard by shard: the latest events known and happened by its prediction time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop.features.extract import Progress, checked_keys, of_shard, of_subjects, shards_of
from careloop.features.matrix import KEYS
from careloop.features.timelines.notes import NoteReader, reader_of
from careloop.features.timelines.recipe import TimelineRecipe
from careloop.features.timelines.storage import replaced_folder, write_index, write_part
from careloop.features.timelines.timelines import Timelines
from careloop.features.timelines.tokens import Facts, tokenised
from careloop.features.windows import MICROSECONDS_A_DAY
from careloop.models.sequence.arrays import SequenceParts, Sequences, renumbered, stacked
from careloop.record import Record, history
from careloop.record.shards import HERE, each_shard, place_of

MOST_PAIRS = 1_000_000  # of prediction times and events, looked at together
STATIC_ORDER = ("row", "token", "value", "quantile", "note")


def extract_timelines(
    record: Record,
    keys: pl.DataFrame,
    recipe: TimelineRecipe,
    *,
    on: str = HERE,
    progress: Progress | None = None,
    folder: str | Path | None = None,
) -> Timelines:
    """The sequence of each row of `keys` (subject_id, prediction_time), in their order.

    Only facts known at a row's prediction time count, and of those that happened by then. Static facts stand first, at
    the time of birth; then the latest `most_events` events by time, known_time and token. Time is in days since birth,
    where no birth is known since the row's first event. A number beyond 5 standard deviations is cut to 5; one in
    another unit than its token's is left out, its event stays. Equal keys share one sequence. Where the recipe has a
    text encoder, events keep their notes; `progress` hears of these too where the record is read `here`.

    The record is read shard by shard, `on` as `each_shard` has it. With `folder` each shard's sequences are written
    there as they are finished and mapped into memory; timelines that stand there are replaced when all is done.

    Raises:
        InputError: a key's column is missing, null or of another type; the folder holds something else; the recipe's
            text encoder is not where it should be.
    """
    reader = None if recipe.encoder is None else reader_of(recipe.encoder, recipe.section.text_encoder)
    told = partial(progress, "notes") if progress and place_of(on)[0] == HERE else None  # it cannot travel
    asked = checked_keys(keys)
    rows = asked.unique(maintain_order=True)
    shards = shards_of(record, rows)
    heard = partial(progress, "timelines") if progress else None
    part, row = _places(record, asked, rows, shards)
    work = partial(_shard_sequences, rows=rows, recipe=recipe, reader=reader, told=told)
    if folder is None:
        parts = tuple(each_shard(record, work, on=on, shards=shards, progress=heard))
        return Timelines(asked, SequenceParts(parts or (_empty(recipe),), part, row))
    with replaced_folder(Path(folder)) as unfinished:
        write = partial(_write_shard, work=work, shards=shards, folder=unfinished.absolute())
        for _ in each_shard(record, write, on=on, shards=shards, progress=heard):
            pass
        if not shards:
            write_part(_empty(recipe), unfinished, 0)
        write_index(asked, part, row, unfinished)
    return Timelines.open(folder)


def _places(
    record: Record, asked: pl.DataFrame, rows: pl.DataFrame, shards: list[int]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The part of each asked row, and its row there; a shard is a part, whose rows stand in the order of `rows`."""
    part = np.searchsorted(shards, record.shard_of(rows["subject_id"]).to_numpy())
    placed = rows.with_columns(part=pl.Series(part, dtype=pl.Int64))
    placed = placed.with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64).over("part"))
    found = asked.join(placed, on=KEYS, how="left", maintain_order="left")
    return found["part"].to_numpy(), found["row"].to_numpy()


def _write_shard(
    record: Record, shard: int, *, work: Callable[[Record, int], Sequences], shards: list[int], folder: Path
) -> None:
    write_part(work(record, shard), folder, shards.index(shard))


def _shard_sequences(
    record: Record,
    shard: int,
    *,
    rows: pl.DataFrame,
    recipe: TimelineRecipe,
    reader: NoteReader | None,
    told: Callable[[int, int], None] | None,
) -> Sequences:
    """The sequences of the shard's rows, in their order."""
    members = of_shard(record, shard, rows)
    facts = tokenised(of_subjects(record.events(shard), members), recipe)
    runs = [_sequences(facts, some, recipe.section.most_events) for some in _batches(facts, members)]
    found = stacked([sequences for sequences, _ in runs])
    if reader is None or facts.notes is None:
        return found
    note, seen = renumbered(np.concatenate([note for _, note in runs]))
    # Only notes that a row sees are read: those known later must not even decide on what is computed together.
    vectors = reader.vectors(facts.notes[seen].to_list(), progress=told)
    return replace(found, note=note, notes=vectors)


def _batches(facts: Facts, rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Rows in runs of about `MOST_PAIRS` events: a subject with many prediction times has its events at each."""
    events = pl.concat([facts.timed.select("subject_id"), facts.static.select("subject_id")])
    counts = events.group_by("subject_id").agg(events=pl.len())
    counted = rows.join(counts, on="subject_id", how="left", maintain_order="left")
    so_far = counted["events"].fill_null(0).cum_sum() // MOST_PAIRS
    for (_,), run in rows.with_columns(run=so_far).group_by("run", maintain_order=True):
        yield run.drop("run")


def _sequences(facts: Facts, rows: pl.DataFrame, most_events: int) -> tuple[Sequences, NDArray[np.int32]]:
    """Static facts and the latest timed events of each row, as known by its prediction time, without their notes.

    The second are the places (T,) of the events' notes in `facts.notes`, empty where there are none.
    """
    numbered = rows.with_row_index("row")
    row, order = _known_timed(facts.timed, numbered)
    static = _known_static(facts.static, numbered)
    time, at = (frame[name].to_physical().to_numpy() for frame, name in ((facts.timed, "time"), (rows, KEYS[1])))
    origin = _origins(_known_births(facts.births, numbered), row, time[order], at)
    row, order = _latest(row, order, most_events)
    days = (time[order] - origin[row]) / MICROSECONDS_A_DAY
    kept, statics = (np.bincount(some, minlength=len(at)) for some in (row, static["row"].to_numpy()))
    offsets = np.concatenate([[0], np.cumsum(statics + kept)]).astype(np.int64)
    places = _place(offsets[:-1], statics), _place(offsets[:-1] + statics, kept)
    # Where an event is before birth, the statics still stand first.
    first_days = np.zeros(len(at))
    begins = _begins(row)
    first_days[row[begins]] = np.minimum(days[begins], 0)
    code, quantile, value, *note = (
        _interleaved(places, static[name].to_numpy(), facts.timed[name].to_numpy()[order])
        for name in ("token", "quantile", "value", *(["note"] if facts.notes is not None else []))
    )
    times = _interleaved(places, np.repeat(first_days, statics), days)
    found = Sequences(offsets, code, quantile, value, time=times, at=(at - origin) / MICROSECONDS_A_DAY)
    return found, note[0] if note else np.empty(0, dtype=np.int32)


def _known_timed(facts: pl.DataFrame, rows: pl.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and place in `facts` of each event that a row knows, by row and then in the order of facts."""
    uncut = facts.lazy().select("subject_id", "time", "known_time").with_row_index("order")
    known = history(uncut, rows).filter(pl.col("time") <= pl.col("prediction_time")).join(rows.lazy(), on=KEYS)
    both = known.select(pl.col("row").cast(pl.Int64) * facts.height + pl.col("order")).collect().to_series().to_numpy()
    row, order = np.divmod(np.sort(both), max(facts.height, 1))
    return row, order


def _known_static(facts: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """row, token, value, quantile and where there is one note of each row's static facts, each once."""
    known = history(facts.lazy(), rows).join(rows.lazy(), on=KEYS)
    columns = [name for name in STATIC_ORDER if name in ("row", *facts.columns)]
    return known.select(columns).unique().sort(columns).collect()


def _known_births(births: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Row and time of the earliest birth that each row knows."""
    born = history(births.lazy(), rows).filter(pl.col("time") <= pl.col("prediction_time"))
    return born.join(rows.lazy(), on=KEYS).group_by("row").agg(pl.col("time").min()).collect()


def _origins(
    births: pl.DataFrame, row: NDArray[np.int64], time: NDArray[np.int64], at: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Time 0 of each row in microseconds: its birth, else its first event, else its prediction time."""
    origin = at.copy()
    begins = _begins(row)
    origin[row[begins]] = time[begins]
    origin[births["row"].to_numpy()] = births["time"].to_physical().to_numpy()
    return origin


def _latest(
    row: NDArray[np.int64], order: NDArray[np.int64], most_events: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each row the last `most_events`."""
    ends = np.cumsum(np.bincount(row))
    keep = np.arange(len(row)) >= ends[row] - most_events
    return row[keep], order[keep]


def _begins(row: NDArray[np.int64]) -> NDArray[np.intp]:
    """Where each row that has events begins."""
    return np.flatnonzero(np.diff(row, prepend=-1))


def _place(begins: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where things lie that come `counts` at a time from `begins` on."""
    so_far = np.cumsum(counts) - counts
    return np.repeat(begins - so_far, counts) + np.arange(counts.sum())


def _interleaved(
    places: tuple[NDArray[np.int64], NDArray[np.int64]], static: NDArray[Any], timed: NDArray[Any]
) -> NDArray[Any]:
    """Static and timed values, each in their places."""
    values = np.empty(len(static) + len(timed), dtype=timed.dtype)
    values[places[0]], values[places[1]] = static, timed
    return values


def _empty(recipe: TimelineRecipe) -> Sequences:
    none = np.empty(0)
    code, quantile, value = none.astype(np.int32), none.astype(np.uint8), none.astype(np.float32)
    found = Sequences(np.zeros(1, dtype=np.int64), code, quantile, value, time=none, at=none)
    if recipe.encoder is None:
        return found
    return replace(found, note=code, notes=np.empty((0, recipe.encoder.width), dtype=np.float16))
