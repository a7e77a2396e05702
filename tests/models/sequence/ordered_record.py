"""A simulated record whose outcome follows from the order and the spacing of events alone, with its true risks.

Every patient has some of these episodes, each at a random time of the last two years and in one of two forms, heads or
tails of a fair coin:

| episode | form 1 | form 0 |
| --- | --- | --- |
| order | a drug before a diagnosis | the drug after it |
| middle | of three procedures the second named is done between the others | it is done first or last |
| curve | a laboratory value rises and then falls back | it falls and then rises back |
| spacing | of three doses the second comes soon after the first | soon before the third |
| refills | six refills at even intervals | in two bursts of three |

The log-odds of the outcome are a sum over the forms, so that the true risk of every patient is known. Windows of facts
cannot see the forms: both have the same codes and counts and the same minimum, maximum, mean and slope of values, and a
last visit some days before the prediction time repeats every code once, all at one moment, so that the last value and
the time since the last event are the same too. Only a window whose edge cuts an episode sees something. Further events
mean nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FIRST_PREDICTION = datetime(2020, 1, 1, tzinfo=UTC)
HISTORY_DAYS = 730.0
LAST_VISIT_DAYS = (1.0, 10.0)  # before the prediction time
MARGIN_DAYS = 60.0  # between an episode's middle and both ends of the history; no episode is longer than twice that
EFFECTS = {"order": 1.3, "curve": 1.3, "refills": 1.3}  # 16 to 46 events a patient; best possible AUROC about 0.87
INTERCEPT = -0.5
SPLIT = {"train": 0.65, "tuning": 0.15, "held_out": 0.2}
MEANINGLESS, MEASURED = 12, 4  # codes, and those of them with a number


@dataclass(frozen=True)
class OrderedRecord:
    """Events, keys (subject_id, prediction_time, split), and of each key true risk, forms (n, episodes) and label."""

    events: pl.DataFrame
    keys: pl.DataFrame
    risk: Floats
    forms: NDArray[np.int64]
    label: NDArray[np.int64]

    def rows(self, split: str) -> NDArray[np.bool_]:
        """Which keys belong to a split."""
        return (self.keys["split"] == split).to_numpy()


@dataclass(frozen=True)
class Episode:
    """Events of all patients: codes (n, k), days from the episode's middle (n, k), values (n, k) or NaN."""

    code: NDArray[np.str_]
    days: Floats
    value: Floats


def simulate(
    patients: int, seed: int, *, effects: Mapping[str, float] = EFFECTS, most_others: int = 30
) -> OrderedRecord:
    """The record of so many patients: the episodes of `effects`, and up to `most_others` events without meaning each.

    `effects`: by the episode's name, its form's effect on the log-odds (form 1 adds it, form 0 takes it away).
    """
    random = np.random.default_rng(seed)
    forms = random.integers(0, 2, (patients, len(effects)))
    episodes = [EPISODES[name](random, form) for name, form in zip(effects, forms.T, strict=True)]
    visit = random.uniform(*LAST_VISIT_DAYS, patients)
    parts = [frame(placed(random, episode)) for episode in episodes]
    parts += [frame(repeated(random, episode, visit)) for episode in episodes]
    parts.append(meaningless(random, patients, most_others))
    at = random.uniform(0, 1000, patients)
    birth = pl.DataFrame(
        {"subject_id": np.arange(patients), "code": "MEDS_BIRTH", "before": birth_days(random, patients)}
    )
    risk = 1 / (1 + np.exp(-INTERCEPT - (2 * forms - 1) @ np.array(list(effects.values()))))
    keys = pl.DataFrame({"subject_id": np.arange(patients), "at": at, "split": splits(random, patients)})
    keys = keys.select("subject_id", prediction_time=FIRST_PREDICTION + days_of("at"), split="split")
    events = pl.concat([*parts, birth], how="diagonal_relaxed").join(keys, on="subject_id")
    events = events.select("subject_id", "code", "numeric_value", time=pl.col("prediction_time") - days_of("before"))
    return OrderedRecord(events, keys, risk, forms, (random.random(patients) < risk).astype(np.int64))


def order(random: np.random.Generator, form: NDArray[np.int64]) -> Episode:
    """A drug and a diagnosis 3 to 25 days apart; form 1: the drug first."""
    half = random.uniform(3, 25, len(form)) / 2
    sign = np.where(form == 1, -1.0, 1.0)
    return without_values(["DRUG//a", "DIAGNOSIS//b"], np.column_stack([sign * half, -sign * half]))


def middle(random: np.random.Generator, form: NDArray[np.int64]) -> Episode:
    """Three procedures, 3 to 20 days between neighbours; form 1: the second named lies between the other two."""
    places = np.cumsum(random.uniform(3, 20, (len(form), 3)), axis=1)
    places -= places.mean(axis=1, keepdims=True)
    either = random.integers(0, 2, len(form))
    second = np.where(form == 1, 1, 2 * either)
    others = np.array([[1, 2], [0, 2], [0, 1]])[second]
    others = random.permuted(others, axis=1)
    chosen = np.column_stack([others[:, 0], second, others[:, 1]])
    return without_values([f"PROCEDURE//{name}" for name in "xyz"], np.take_along_axis(places, chosen, axis=1))


def curve(random: np.random.Generator, form: NDArray[np.int64]) -> Episode:
    """Four values at times symmetric about their middle; form 1: low, high, high, low, else the reverse.

    Neither pattern has a slope: (-1, 1, 1, -1) is orthogonal to any times (-b, -a, a, b).
    """
    near, further = random.uniform(3, 8, len(form)), random.uniform(6, 12, len(form))
    days = np.column_stack([-near - further, -near, near, near + further])
    pattern = np.where(form == 1, 1.0, -1.0)[:, None] * np.array([-1.0, 1.0, 1.0, -1.0])
    level = random.normal(0, 1, (len(form), 1))  # of each patient
    value = level + 1.2 * pattern + random.normal(0, 0.3, days.shape)
    return Episode(np.full(days.shape, "LAB//c"), days, value)


def spacing(random: np.random.Generator, form: NDArray[np.int64]) -> Episode:
    """Three doses of one drug; form 1: 3 to 8 days and then 20 to 40, else 20 to 40 and then 3 to 8."""
    short, long = random.uniform(3, 8, len(form)), random.uniform(20, 40, len(form))
    first = np.where(form == 1, short, long)
    days = np.column_stack([-(short + long) / 2, first - (short + long) / 2, (short + long) / 2])
    return without_values(["DRUG//d"] * 3, days)


def refills(random: np.random.Generator, form: NDArray[np.int64]) -> Episode:
    """Six refills over 40 to 80 days; form 1: at even intervals, else two bursts of three."""
    even, bursts = np.full(5, 0.2), np.array([0.05, 0.05, 0.8, 0.05, 0.05])
    gaps = np.where((form == 1)[:, None], even, bursts) * random.uniform(0.9, 1.1, (len(form), 5))
    places = np.cumsum(np.column_stack([np.zeros(len(form)), gaps]), axis=1)
    places = (places / places[:, -1:] - 0.5) * random.uniform(40, 80, (len(form), 1))
    return without_values(["DRUG//e"] * 6, places)


EPISODES: dict[str, Callable[[np.random.Generator, NDArray[np.int64]], Episode]] = {
    "order": order,
    "middle": middle,
    "curve": curve,
    "spacing": spacing,
    "refills": refills,
}


def without_values(codes: list[str], days: Floats) -> Episode:
    """The same codes for all, no numbers."""
    return Episode(np.broadcast_to(np.array(codes), days.shape), days, np.full(days.shape, np.nan))


def placed(random: np.random.Generator, episode: Episode) -> Episode:
    """The episode at a random time of the history: days are now days before the prediction time."""
    centre = random.uniform(MARGIN_DAYS, HISTORY_DAYS - MARGIN_DAYS, (len(episode.days), 1))
    return Episode(episode.code, centre - episode.days, episode.value)


def repeated(random: np.random.Generator, episode: Episode, visit: Floats) -> Episode:
    """Each code of an episode once more, at the last visit; a value there is no part of the curve."""
    codes = np.unique(episode.code[0])
    days = np.broadcast_to(visit[:, None], (len(visit), len(codes)))
    level = episode.value.mean(axis=1, keepdims=True)
    return Episode(np.broadcast_to(codes, days.shape), days, level + random.normal(0, 1, days.shape))


def meaningless(random: np.random.Generator, patients: int, most: int) -> pl.DataFrame:
    """Up to `most` events a patient of other codes at any time."""
    counts = random.integers(0, most + 1, patients)
    kind = random.integers(0, MEANINGLESS, counts.sum())
    return pl.DataFrame(
        {
            "subject_id": np.repeat(np.arange(patients), counts),
            "code": [f"OTHER//{number}" for number in kind],
            "before": random.uniform(0, HISTORY_DAYS, len(kind)),
            "numeric_value": np.where(kind < MEASURED, random.normal(0, 1, len(kind)), np.nan),
        }
    ).with_columns(pl.col("numeric_value").fill_nan(None))


def frame(episode: Episode) -> pl.DataFrame:
    """One row an event: subject_id, code, before (days), numeric_value."""
    patients, width = episode.days.shape
    columns = {
        "subject_id": np.repeat(np.arange(patients), width),
        "code": episode.code.ravel(),
        "before": episode.days.ravel(),
        "numeric_value": episode.value.ravel(),
    }
    return pl.DataFrame(columns).with_columns(pl.col("numeric_value").fill_nan(None))


def days_of(column: str) -> pl.Expr:
    """A column of days as a duration."""
    return pl.duration(microseconds=(pl.col(column) * 86_400_000_000).cast(pl.Int64))


def birth_days(random: np.random.Generator, patients: int) -> Floats:
    """Days from birth to the prediction time, at 30 to 80 years."""
    return random.uniform(30 * 365.25, 80 * 365.25, patients)


def splits(random: np.random.Generator, patients: int) -> list[str]:
    """A split for each patient."""
    counts = [round(share * patients) for share in SPLIT.values()]
    names = np.repeat(list(SPLIT), counts)
    return [str(name) for name in random.permutation(np.resize(names, patients))]


def expected_auroc(score: Floats, risk: Floats) -> float:
    """The AUROC of scores (n,) over all labels that true risks (n,) can give: that of the risks is the best possible.

    Of two different rows the first has the event and the second has not with probability risk (1 - risk of the
    other); the AUROC is the share of that probability in which the first has the higher score (ties half). It is the
    ratio of the expected number of pairs in order to the expected number of pairs.
    """
    from sklearn.metrics import roc_auc_score

    label = np.repeat([1, 0], len(risk))
    weight = np.concatenate([risk, 1 - risk])
    with_itself = (risk * (1 - risk)).sum()  # a row is no pair with itself, which counts as a tie
    pairs = risk.sum() * (1 - risk).sum()
    found = roc_auc_score(label, np.tile(score, 2), sample_weight=weight)
    return float((found * pairs - with_itself / 2) / (pairs - with_itself))
