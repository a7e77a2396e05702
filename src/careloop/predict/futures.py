"""Zero-shot questions: how often some codes occur in futures that a network pre-trained on next events simulates.

The share of futures is a risk without fine-tuning. It is as good as the network: where death is no token of its
timelines, nobody dies in its futures.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.features.matrix import KEYS
from careloop.features.timelines import TimelineRecipe, Timelines, extract_timelines
from careloop.features.words import number
from careloop.models.sequence.arrays import FIRST_CODE, AnySequences
from careloop.models.sequence.futures.simulated import Futures
from careloop.predict.recorded import patient_keys
from careloop.record import Record
from careloop.record.schema import DEATH, code_matches

if TYPE_CHECKING:
    from careloop.train.pretraining import Pretrained

WILSON_Z = 1.959963984540054
MOST_SHOWN = 20  # moments of one future in words
NOTE = "Simulated futures of a model, not for clinical use."

Progress = Callable[[int, int], None]  # futures finished, of how many


@dataclass(frozen=True)
class Question:
    """Does any of these codes (exact, or a prefix that ends in `*`) occur within the horizon?

    `futures` of each row are simulated; a patient's own earlier events of the codes do not count.
    """

    codes: tuple[str, ...]
    horizon_days: float
    futures: int = 100
    seed: int = 0


def ask(
    pretrained: Pretrained,
    record: Record,
    question: Question,
    *,
    subjects: Sequence[int],
    prediction_time: datetime | None = None,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """One row a subject: subject_id, prediction_time, probability, low, high, median_days, cut.

    `low` and `high` are the 95 % interval of the simulation alone (Wilson 1927): more futures make it narrower, not the
    model right. `median_days`: by when half of the futures have had it, null where fewer have. `cut`: the share of
    futures that were left before the horizon because of their many events; they count as without. All are null for a
    subject of whom the network knows no event by the prediction time, which is `prediction_time`, else when the
    subject's last fact became known.

    Raises:
        InputError: no token is such a code; a subject that the record does not hold; a network of another objective.
    """
    tokens = tokens_of(pretrained.recipe, question.codes)
    timelines = extract_timelines(record, asked_keys(record, subjects, prediction_time), pretrained.recipe)
    futures = simulate(pretrained, timelines.sequences, question, ends=tokens, progress=progress)
    share, _ = futures.probability(tokens)
    low, high = wilson(share, futures.futures)
    median = futures.first_event_days(tokens, (0.5,))[:, 0]
    cut = np.where(futures.known, futures.cut.mean(axis=1), np.nan)
    figures = {"probability": share, "low": low, "high": high, "median_days": median, "cut": cut}
    columns = [pl.Series(name, np.where(np.isfinite(a), a, np.nan)).fill_nan(None) for name, a in figures.items()]
    return timelines.keys.select(KEYS).with_columns(columns)


def zero_shot_risk(
    pretrained: Pretrained, timelines: Timelines, question: Question, *, progress: Progress | None = None
) -> NDArray[np.float64]:
    """The risk (n,) of each row of timelines of the network's own recipe; NaN for a row without events.

    It is a share of futures, so a multiple of 1 / futures.

    Raises:
        InputError: a row's subject was among those of pre-training; else as `ask`.
    """
    pretrained.check_apart(timelines.keys["subject_id"])
    tokens = tokens_of(pretrained.recipe, question.codes)
    return simulate(pretrained, timelines.sequences, question, ends=tokens, progress=progress).probability(tokens)[0]


def futures_in_words(
    pretrained: Pretrained,
    record: Record,
    question: Question,
    *,
    subject: int,
    prediction_time: datetime | None = None,
) -> list[str]:
    """Whole futures of one subject, up to the horizon or death, each as lines of text; the question's codes are marked.

    Raises:
        InputError: as `ask`; nothing is known of the subject by the prediction time.
    """
    tokens = set(tokens_of(pretrained.recipe, question.codes))
    timelines = extract_timelines(record, asked_keys(record, [subject], prediction_time), pretrained.recipe)
    futures = simulate(pretrained, timelines.sequences, question)
    if not futures.known[0]:
        raise InputError(f"no event of subject {subject} is known by the prediction time; choose a later one")
    return [_worded(pretrained.recipe, futures.events_of(0, one), tokens) for one in range(futures.futures)]


def simulate(
    pretrained: Pretrained,
    sequences: AnySequences,
    question: Question,
    *,
    ends: Sequence[int] = (),
    progress: Progress | None = None,
) -> Futures:
    """The futures of each row; each ends at the horizon, at death where that is a token, or with a token of `ends`.

    Raises:
        InputError: the network was pre-trained on hidden events, not on next ones.
    """
    from careloop.models.sequence.futures.generation import RollOut, roll_out

    recipe = pretrained.recipe
    model = pretrained.model()
    if not model.network.shape.is_causal:
        raise InputError("this network was pre-trained on hidden events; questions need `objective: next`")
    death = recipe.numbers.get((DEATH, None))
    settings = RollOut(
        question.horizon_days,
        futures=question.futures,
        seed=question.seed,
        stop_codes=(*ends, *(() if death is None else (death,))),
        most_events=recipe.section.most_events,
        threads=pretrained.section.threads,
    )
    return roll_out(model, sequences, settings=settings, values=value_table(recipe), progress=progress)


def tokens_of(recipe: TimelineRecipe, codes: Sequence[str]) -> tuple[int, ...]:
    """The tokens of codes, exact or as a prefix that ends in `*`. InputError where a code has none."""
    names = pl.Series("code", [token.code for token in recipe.tokens], dtype=pl.String)
    found: list[int] = []
    for code in codes:
        here = names.to_frame().select(code_matches([code])).to_series()
        if not here.any():
            raise InputError(f"no token of the network is {code}; {_remedy(recipe, code)}")
        found += (here.arg_true() + FIRST_CODE).to_list()
    return tuple(dict.fromkeys(found))


def _remedy(recipe: TimelineRecipe, code: str) -> str:
    above = recipe.number_of(code.rstrip("*"))
    if above >= FIRST_CODE:
        return f"it stands under {recipe.tokens[above - FIRST_CODE].code} there, which can be asked"
    close = difflib.get_close_matches(code, [token.code for token in recipe.tokens], n=3)
    return f"did you mean {', '.join(close)}?" if close else "ask for a code that its training patients had"


def value_table(recipe: TimelineRecipe) -> NDArray[np.float32]:
    """A standardised number for each token and quantile (tokens, quantiles), NaN for tokens without numbers.

    It is the middle between a quantile's edges; the outermost reach as far beyond their edge as the next is wide.
    """
    table = np.full((FIRST_CODE + len(recipe.tokens), recipe.section.quantiles), np.nan, dtype=np.float32)
    for place, token in enumerate(recipe.tokens, start=FIRST_CODE):
        if token.edges:
            edges = (np.array(token.edges) - token.mean) / (token.standard_deviation or 1.0)
            first, last = (edges[1] - edges[0], edges[-1] - edges[-2]) if len(edges) > 1 else (1.0, 1.0)
            bounds = np.concatenate([[edges[0] - first], edges, [edges[-1] + last]])
            table[place] = (bounds[:-1] + bounds[1:]) / 2
    return table


def asked_keys(record: Record, subjects: Sequence[int], prediction_time: datetime | None) -> pl.DataFrame:
    """A key for each subject, in the order given: at the prediction time, else when its last fact became known."""
    chosen = pl.DataFrame({"subject_id": pl.Series(list(dict.fromkeys(subjects)), dtype=pl.Int64)})
    keys = patient_keys(record, chosen["subject_id"].to_list(), prediction_time)
    return chosen.join(keys, on="subject_id", how="left", maintain_order="left").select(KEYS)


def wilson(share: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Limits of the 95 % interval of shares (n,) of `count` trials each (Wilson, J Am Stat Assoc 1927;22:209)."""
    square = WILSON_Z**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = WILSON_Z * np.sqrt(share * (1 - share) / count + square / (4 * count**2)) / (1 + square / count)
    return np.maximum(middle - half, 0), np.minimum(middle + half, 1)


def _worded(recipe: TimelineRecipe, events: list[tuple[float, int, int]], asked: set[int]) -> str:
    """One future: a line for each day on which something happens."""
    days: dict[int, list[str]] = {}
    for day, token, quantile in events:
        what = recipe.words(token) + _number_words(recipe, token, quantile)
        days.setdefault(int(day), []).append(f"{what} (asked for)" if token in asked else what)
    lines = [f"day {day}: {', '.join(what)}" for day, what in list(days.items())[:MOST_SHOWN]]
    more = len(days) - MOST_SHOWN
    return "\n".join([*(lines or ["nothing"]), *([f"and {more} more days"] if more > 0 else [])])


def _number_words(recipe: TimelineRecipe, token: int, quantile: int) -> str:
    """The range of a number's quantile, with its unit."""
    one = recipe.tokens[token - FIRST_CODE]
    if not quantile or not one.edges:
        return ""
    unit = f" {one.unit}" if one.unit else ""
    if quantile == 1:
        return f" up to {number(one.edges[0])}{unit}"
    low = number(one.edges[quantile - 2])
    return f" above {low}{unit}" if quantile > len(one.edges) else f" {low} to {number(one.edges[quantile - 1])}{unit}"
