"""How predictions move when a model is given more to go by: reclassification tables, NRI and IDI, paired.

A row moves up where the second model puts it into a higher risk category (categorical) or gives it any higher
probability (continuous). Rows with the outcome should move up and event-free rows down, so each side has a figure of
its own and neither is to be read without the other:

    nri_events      = P(up | event) - P(down | event)
    nri_event_free  = P(down | event-free) - P(up | event-free)
    idi_events      = mean(second - first | event),  idi_event_free = mean(first - second | event-free)

`nri` and `idi` are the sums of their two parts, between -2 and 2; they are no share of the patients. With one category
limit t and prevalence p the gain in net benefit at t is p * nri_events + (1 - p) * t / (1 - t) * nri_event_free, which
weighs the two sides as the limit itself does; the sum does not. The continuous NRI and the IDI also reward a model for
being wrongly calibrated, and the continuous NRI can be far above 0 for a useless marker (Hilden and Gerds; Pepe et
al.): `CAVEAT` says so, and belongs beside them wherever they are shown. Censored rows count through their weights.

Sources: Pencina et al., Stat Med 2008;27:157 (NRI, IDI) and 2011;30:11 (continuous, censored); Uno et al., Stat Med
2013;32:2430 (inverse probability of censoring weights); Pencina et al., Stat Med 2017;36:4455 (one limit at the event
rate); Kerr et al., Epidemiology 2014;25:114 (both sides apart); Hilden and Gerds, Stat Med 2014;33:3405; Pepe et al.,
Stat Biosci 2015;7:282.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from careloop import InputError
from careloop.evaluate.censoring import HorizonWeights, Outcomes, horizon_weights
from careloop.evaluate.discrimination import checked_probability
from careloop.evaluate.estimate import Estimate, Support, estimate, replicate

CAVEAT = (
    "The continuous NRI and the IDI can be above 0 for a marker that adds nothing, and reward wrong calibration: do "
    "not judge by them alone, net benefit and AUROC come first."
)


@dataclass(frozen=True)
class Reclassification:
    """What changes from a first to a second model on the same rows; everything is second against first.

    `limits` (k - 1,) are the limits between risk categories, the upper one holding its lower limit; `events` and
    `event_free` are tables (k, k) of rows by category of the first model (down) and of the second (across), weighted
    for censoring. `figures` are named in the module's docstring, with `nri_continuous...` beside `nri...`, and `up` and
    `down` of each side: `up_events`, `down_events`, `up_event_free`, `down_event_free` (shares, categorical).
    """

    limits: tuple[float, ...]
    events: tuple[tuple[float, ...], ...]
    event_free: tuple[tuple[float, ...], ...]
    figures: Mapping[str, Estimate]
    caveat: str = CAVEAT


@dataclass(frozen=True, eq=False)
class ReclassificationStatistic:
    """All figures as weighted means over one side's rows: call it with counts and weights (b, n).

    `moves` (n, 5): categorical up and down (0/1), sign and size of the change of probability, and 1.
    """

    moves: np.ndarray
    label: np.ndarray

    @classmethod
    def of(
        cls, first: np.ndarray, second: np.ndarray, label: np.ndarray, *, limits: np.ndarray
    ) -> ReclassificationStatistic:
        """Prepare what is averaged; probabilities and labels (n,)."""
        step = categories(second, limits) - categories(first, limits)
        change = second - first
        return cls(np.column_stack([step > 0, step < 0, np.sign(change), change, np.ones(len(label))]), label)

    def __call__(self, count: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
        """Every figure, (b,) each."""
        found: dict[str, np.ndarray] = {}
        for side, rows, right_way in (("events", self.label, 1), ("event_free", ~self.label, -1)):
            sums = (weight * rows) @ self.moves
            up, down, sign, change = (sums[:, :-1] / sums[:, -1:]).T
            found |= {f"up_{side}": up, f"down_{side}": down, f"nri_{side}": right_way * (up - down)}
            found |= {f"nri_continuous_{side}": right_way * sign, f"idi_{side}": right_way * change}
        for figure in ("nri", "nri_continuous", "idi"):
            found[figure] = found[f"{figure}_events"] + found[f"{figure}_event_free"]
        return found


def reclassify(
    first: np.ndarray,
    second: np.ndarray,
    outcomes: Outcomes,
    *,
    limits: Sequence[float],
    resamples: int = 1000,
    seed: int = 0,
) -> Reclassification:
    """Reclassification from the `first` to the `second` model's probabilities (n,) of the outcome by the horizon.

    `limits` are the probabilities that part risk categories, increasing; they must come from somewhere else than these
    rows. Intervals are paired: each resample of subjects moves both models (`replicate`, with the same draws as
    `evaluate_all` for the same seed).

    Raises:
        InputError: limits that do not increase between 0 and 1; as `evaluate_all`.
    """
    borders = checked_limits(limits)
    before, after = checked_probability(first, outcomes), checked_probability(second, outcomes)
    horizon_weights(outcomes.follow_up_days, outcomes.event, outcomes.horizon_days)
    label, support = outcomes.label & outcomes.known, Support.of(outcomes)
    statistic = ReclassificationStatistic.of(before, after, label, limits=borders)
    replicates = replicate(outcomes, {"moves": statistic}, resamples=resamples, seed=seed)["moves"]
    weight = HorizonWeights.of(outcomes)(np.ones((1, len(outcomes))))[0]
    pair = categories(before, borders), categories(after, borders)
    events, event_free = (_table(pair, weight * rows, len(borders) + 1) for rows in (label, ~label))
    return Reclassification(
        limits=tuple(borders.tolist()),
        events=events,
        event_free=event_free,
        figures={name: estimate(values, support) for name, values in replicates.items()},
    )


def categories(probability: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """The risk category (n,), 0 to the number of limits, of each probability; a limit belongs to the upper one."""
    return np.searchsorted(limits, probability, side="right")


def checked_limits(limits: Sequence[float]) -> np.ndarray:
    """The limits as an array, or an InputError."""
    borders = np.asarray(limits, dtype=np.float64)
    inside = borders.ndim == 1 and len(borders) and bool(((borders > 0) & (borders < 1)).all())
    if not inside or (np.diff(borders) <= 0).any():
        raise InputError(
            f"limits of risk categories must be probabilities between 0 and 1 that increase: got {list(limits)}"
        )
    return borders


def _table(pair: tuple[np.ndarray, np.ndarray], weight: np.ndarray, size: int) -> tuple[tuple[float, ...], ...]:
    """Weights summed by category before (down) and after (across)."""
    table = np.zeros((size, size))
    np.add.at(table, pair, weight)
    return tuple(tuple(row) for row in table.tolist())
