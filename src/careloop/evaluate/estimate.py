"""A figure with its 95 % interval: the bootstrap by subject, computed as row weights rather than copied rows.

A resample draws subjects with replacement, so it is a count of copies for each row. Row 0 of every block of figures is
the sample itself (all counts 1), the other rows are resamples: one code path gives the value and its interval, and two
models evaluated on the same draws give a paired interval by subtraction.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, sections 13.3 (percentile interval) and 8.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from careloop.evaluate.censoring import COMPETING, HorizonWeights, Outcomes, identified

PERCENTILES = (2.5, 97.5)
# Below ten with and ten without the event a percentile interval covers far less than it says.
FEWEST_FOR_INTERVAL = 10
# A resample in which a figure is undefined (say, no event drawn) cannot count; more than this share and none is given.
MOST_UNDEFINED = 0.05
# Draws times rows held at a time: blocks of about 1 MB stay in the processor's cache.
BLOCK_SIZE = 2**17

# (counts (b, n), weights (b, n)) -> figures by name, each (b,) or (b, k).
Statistic = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Estimate:
    """A value with the limits of its 95 % interval; None where it cannot be given, and then `reason` says why."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Band:
    """A curve with pointwise 95 % limits: equally long `x`, `value`, `low`, `high`; None where not estimable."""

    x: tuple[float, ...]
    value: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


@dataclass(frozen=True)
class Support:
    """Rows and subjects behind figures.

    `events` outcomes within the horizon; `event_free` rows known to be without, of which `competing` had a competing
    event; `censored` rows whose label is unknown; `followed` rows followed to the horizon; `event_subjects` and
    `event_free_subjects` subjects with such a row.
    """

    n: int
    subjects: int
    events: int
    competing: int
    event_free: int
    censored: int
    followed: int
    event_subjects: int
    event_free_subjects: int

    @classmethod
    def of(cls, outcomes: Outcomes) -> Support:
        """Count rows and subjects."""
        known, label = outcomes.known, outcomes.label
        free = known & ~label
        competing = free & (outcomes.event == COMPETING) & (outcomes.follow_up_days <= outcomes.horizon_days)
        followed = outcomes.follow_up_days >= outcomes.horizon_days
        subjects = [len(np.unique(outcomes.subject_id[rows])) for rows in (slice(None), label, free)]
        rows = [int(chosen.sum()) for chosen in (label, competing, free, ~known, followed)]
        return cls(len(outcomes), subjects[0], *rows, *subjects[1:])

    def why_undefined(self) -> str:
        """Why a figure has no value."""
        if self.censored and not self.followed:
            return "not defined: nobody is followed to the horizon"
        return f"not defined: {self.events} rows with and {self.event_free} without the event"

    def shortage(self) -> str | None:
        """Why no interval can be given, or None where it can."""
        if min(self.event_subjects, self.event_free_subjects) >= FEWEST_FOR_INTERVAL:
            return None
        return (
            f"{self.event_subjects} subjects with and {self.event_free_subjects} without the event: "
            f"an interval needs {FEWEST_FOR_INTERVAL} of each"
        )


def draw_counts(subject_id: np.ndarray, *, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks (b, n) of how often each row counts: first the sample itself, then `resamples` draws of whole subjects."""
    subjects, subject = np.unique(subject_id, return_inverse=True)
    generator = np.random.default_rng(seed)
    block = max(1, BLOCK_SIZE // len(subject))
    for start in range(0, resamples + 1, block):
        draws = [
            np.ones(len(subjects)) if number == 0 else _draw(generator, len(subjects))
            for number in range(start, min(start + block, resamples + 1))
        ]
        yield np.array(draws)[:, subject]


def _draw(generator: np.random.Generator, subjects: int) -> np.ndarray:
    """How often each subject is drawn in one resample."""
    return np.bincount(generator.integers(0, subjects, subjects), minlength=subjects).astype(np.float64)


def replicate(
    outcomes: Outcomes, statistics: Mapping[str, Statistic], *, resamples: int, seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Every statistic on the sample (row 0) and on each resample, with the censoring weights fitted anew each time.

    Returns, by statistic and figure, arrays (1 + resamples,) or (1 + resamples, k). Rows are NaN where the resample has
    nobody who is followed to the horizon. The same seed gives the same draws whatever the statistics.
    """
    horizon_weights = HorizonWeights.of(outcomes)
    blocks: list[dict[str, dict[str, np.ndarray]]] = []
    for count in draw_counts(outcomes.subject_id, resamples=resamples, seed=seed):
        weight = horizon_weights(count)
        lost = ~identified(count, weight)
        if lost.any():
            weight = np.where(lost[:, None], np.nan, weight)
        with np.errstate(invalid="ignore", divide="ignore"):
            blocks.append({name: statistic(count, weight) for name, statistic in statistics.items()})
    return {
        name: {figure: np.concatenate([block[name][figure] for block in blocks]) for figure in blocks[0][name]}
        for name in statistics
    }


def estimate(replicates: np.ndarray, support: Support) -> Estimate:
    """Value (row 0) and percentile interval (the others) of one figure, or the reason why one is missing."""
    value, resampled = float(replicates[0]), replicates[1:]
    if not math.isfinite(value):
        return Estimate(None, reason=support.why_undefined())
    shortage = support.shortage()
    if shortage is not None:
        return Estimate(value, reason=shortage)
    defined = resampled[np.isfinite(resampled)]
    undefined = 1 - len(defined) / len(resampled)
    if undefined > MOST_UNDEFINED:
        return Estimate(value, reason=f"not defined in {undefined:.0%} of the resamples")
    low, high = np.percentile(defined, PERCENTILES)
    return Estimate(value, float(low), float(high))


def band(x: Sequence[float] | np.ndarray, replicates: np.ndarray, support: Support) -> Band:
    """Curve with pointwise limits from replicates (1 + resamples, k)."""
    points = [estimate(column, support) for column in replicates.T]
    return Band(
        tuple(float(v) for v in x),
        tuple(p.value for p in points),
        tuple(p.low for p in points),
        tuple(p.high for p in points),
    )


def to_json(result: Any) -> Any:
    """Plain JSON values of a result: dataclasses become dicts, arrays lists; floats kept in full, NaN refused."""
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        return {field.name: to_json(getattr(result, field.name)) for field in dataclasses.fields(result)}
    if isinstance(result, Mapping):
        return {str(key): to_json(value) for key, value in result.items()}
    if isinstance(result, (list, tuple, np.ndarray)):
        return [to_json(value) for value in result]
    if isinstance(result, np.generic):
        return to_json(result.item())
    if isinstance(result, float) and not math.isfinite(result):
        raise ValueError("a result holds NaN or infinity, which JSON cannot carry")
    return result
