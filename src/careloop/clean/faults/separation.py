"""Two distributions in one: is part of a code's values the same distribution recorded in another unit?

A histogram of log10(value) is compared with itself under each conversion that clinics mix up. Under the null hypothesis
the density falls from its mode towards either side, however heavy its tails, so a window where the other unit would put
the mode cannot hold more values than an equal window nearer to the mode. The number of values in the two windows is
then binomial with at most one half, which bounds false alarms at `ALPHA` a test. The second component must besides have
its median and spread where the conversion puts them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from careloop.clean.faults.units import Conversion
from careloop.clean.sketch import BIN

EACH_SIDE = 1e-3
ALPHA = 1e-6  # a thousand codes with twenty conversions each: one false alarm in fifty records
LEAST = 200  # values of a code below which its distribution is not judged
LEAST_FOUND = 10
WINDOWS = (0.5, 1.0, 2.0)  # half widths in spreads of the component: narrow beside a broad base, wide for few values
SEPARATED = 1.5  # centres at least so many times the sum of both spreads apart, to be told by the histogram alone
SPREAD_RATIO = (0.4, 2.5)  # of the second component against what the conversion makes of the first
# Share of the switches between a subject's successive values that independent mix-ups would make: above the first the
# values go to and fro as mix-ups do, below the second subjects stay, as patients with a disease do.
SWITCHING, STAYING = 0.3, 0.1
LEAST_SWITCHES = 10
SCATTERED = 1.5
CLEARER = 10.0  # nats by which a hidden component must fit better than its mirror image
WIDE = 0.01  # weight of a broad normal in the base density: values that are neither
ITERATIONS = 20


@dataclass(frozen=True)
class Alternative:
    """A unit or slip by which values may be recorded instead: recorded = to_recorded(true)."""

    name: str
    to_recorded: Conversion
    is_unit: bool  # a unit that is in use for the quantity; else only a slipped decimal point


@dataclass(frozen=True)
class Histogram:
    """Counts of values by bin; bin i begins at (first + i) * BIN."""

    first: float
    counts: np.ndarray

    @classmethod
    def of(cls, bins: np.ndarray, counts: np.ndarray, *, offset: float = 0.0) -> Histogram:
        """Add up counts that stand at `bins`, with empty bins between; bins begin `offset` bins from their number."""
        first = int(bins.min())
        return cls(first + offset, np.bincount(bins - first, weights=counts))

    @property
    def at(self) -> np.ndarray:
        """Middles of the bins."""
        return (self.first + np.arange(len(self.counts)) + 0.5) * BIN

    @property
    def total(self) -> float:
        """Number of values."""
        return float(self.counts.sum())

    def between(self, low: float, high: float) -> float:
        """Number of values from low to high, bins at the border by their part."""
        edges = (self.first + np.arange(len(self.counts) + 1)) * BIN
        cumulated = np.concatenate([[0.0], self.counts.cumsum()])
        below_high, below_low = np.interp([high, low], edges, cumulated)
        return float(below_high - below_low)

    def within(self, low: float, high: float) -> Histogram:
        """The part whose bins have their middles from low to high."""
        inside = (self.at >= low) & (self.at <= high)
        return Histogram(self.first, np.where(inside, self.counts, 0.0))

    def centre(self) -> tuple[float, float]:
        """Middle and spread (standard deviation, were it normal) of the shortest half: up to half may be elsewhere."""
        cumulated = np.concatenate([[0.0], self.counts.cumsum()])
        half = cumulated[-1] / 2
        end = np.searchsorted(cumulated, cumulated + half - 1e-9)
        width = np.where(end < len(cumulated), end - np.arange(len(cumulated)), len(cumulated))
        shortest = int(width.min())
        start = np.flatnonzero(width == shortest)
        middle = (self.first + float(np.median(start)) + shortest / 2) * BIN
        return middle, max(shortest * BIN / 1.349, BIN)

    def median(self) -> float:
        """The median value, to a part of a bin."""
        cumulated = np.concatenate([[0.0], self.counts.cumsum()])
        return float((self.first + np.interp(cumulated[-1] / 2, cumulated, np.arange(len(cumulated)))) * BIN)


@dataclass(frozen=True)
class Component:
    """The part of the values that was recorded as an alternative: where it lies and what it looks like."""

    alternative: Alternative
    share: float
    border: float  # in log10, between base and component; NaN where they overlap
    high_side: bool  # the component lies above the base
    ceiling: float  # the base's density beyond the border is at most this, since it falls there; inf where unknown
    is_sure: bool  # well enough supported for its values to be corrected


def to_log(conversion: Conversion, log_values: np.ndarray) -> np.ndarray:
    """The log10 of converted values; NaN where they are not positive."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.log10(conversion(10.0 ** np.asarray(log_values))))


def components(levels: Histogram, pairs: Histogram | None, alternatives: Sequence[Alternative]) -> list[Component]:
    """Return the mix-ups in a distribution, best supported first; none that overlaps another.

    Args:
        levels: log10 of the values.
        pairs: log10 of ratios between a subject's successive values; None where there are none.
        alternatives: what may have been recorded instead.
    """
    if levels.total < LEAST:
        return []
    seen = [apart for option in alternatives if (apart := _by_levels(levels, pairs, option))]
    parts = _best(sorted(seen, key=lambda item: item[0]), levels, pairs)
    if pairs is None or pairs.total < LEAST:
        return parts
    # A ratio tells a factor from no other, but not on which side: what the levels show explains it already, and
    # factors that a subject's own scatter makes alike.
    alike = max(2 * BIN, math.sqrt(2) * spread_within(pairs) + BIN / 2)
    known = [abs(_log_scale(part.alternative)) for part in parts]
    left = [option for option in alternatives if all(abs(abs(_log_scale(option)) - size) > alike for size in known)]
    hidden = [apart for option in left if (apart := _by_pairs(levels, pairs, option))]
    return parts + _best_direction(sorted(hidden, key=lambda item: item[0]), levels)


def density(levels: Histogram, parts: Sequence[Component]) -> Histogram:
    """Return the density of the true values: the histogram without its components, smoothed, and a broad normal."""
    middle, spread = levels.centre()
    weights = levels.counts.copy()
    for part in parts:
        if math.isnan(part.border):
            weights, _ = _without(Histogram(levels.first, weights), part)
        else:
            weights[(levels.at > part.border) == part.high_side] = 0.0
    margin = 500  # bins: five decades to either side, so that every converted value has a density
    at = (levels.first - margin + np.arange(len(weights) + 2 * margin) + 0.5) * BIN
    smooth = _smoothed(np.pad(weights, margin), max(0.2 * spread / BIN, 1.0))
    result = (
        (1 - WIDE) * smooth / max(smooth.sum(), 1e-300) / BIN + WIDE * normal_density(at, middle, 3 * spread) + 1e-12
    )
    for part in parts:
        beyond = (at > part.border) == part.high_side
        result[beyond] = np.minimum(result[beyond], part.ceiling)
    return Histogram(levels.first - margin, result)


def normal_density(x: np.ndarray, middle: float = 0.0, scale: float | np.ndarray = 1.0) -> np.ndarray:
    """The density of the normal distribution."""
    return np.asarray(np.exp(-0.5 * ((x - middle) / scale) ** 2) / (scale * math.sqrt(2 * math.pi)))


def spread_within(pairs: Histogram) -> float:
    """The standard deviation of one subject's values in log10, from ratios of successive ones."""
    return max(pairs.centre()[1] / math.sqrt(2), BIN / 2)


def _by_levels(levels: Histogram, pairs: Histogram | None, alternative: Alternative) -> tuple[float, Component] | None:
    """A component that the histogram itself shows; with the distance of its median from where it should be."""
    middle, spread = levels.centre()
    ends = to_log(alternative.to_recorded, np.array([middle - spread, middle, middle + spread]))
    if np.isnan(ends).any():
        return None
    centre, other_spread = float(ends[1]), max(float(ends[2] - ends[0]) / 2, BIN)
    distance = centre - middle
    if abs(distance) < SEPARATED * (spread + other_spread):
        return None
    border = middle + distance * spread / (spread + other_spread)
    widths = [min(part * other_spread, abs(distance) / 6) for part in WINDOWS]
    windows = [[levels.between(x - half, x + half) for x in (centre, border)] for half in widths]
    chance = min(_chance(there, between) for there, between in windows)
    if max(windows)[0] < LEAST_FOUND or chance * len(WINDOWS) > ALPHA:
        return None
    reach = centre + math.copysign(4 * other_spread, distance)
    part = levels.within(min(border, reach), max(border, reach))
    _, part_spread = part.centre()
    # Medians of both sides: the middle of the shortest half says where the mode is, but not to a few hundredths.
    rest = levels.within(*((-math.inf, border) if distance > 0 else (border, math.inf)))
    off = abs(part.median() - float(to_log(alternative.to_recorded, np.array([rest.median()]))[0]))
    off = off if math.isfinite(off) else math.inf
    tolerance = 0.25 * other_spread + BIN + 3 * 1.25 * other_spread / math.sqrt(part.total)
    ratio = part_spread / other_spread
    if off > tolerance or not (SPREAD_RATIO[0] <= ratio <= SPREAD_RATIO[1] or part_spread <= 2 * BIN):
        return None
    share = part.total / levels.total
    sure = alternative.is_unit
    switching = None if pairs is None else _switching(pairs, distance, abs(other_spread - spread), share)
    if switching is not None:
        sure = switching >= SWITCHING or (sure and switching >= STAYING)
    bounds = [(between + 1) / (2 * half) for half, (_, between) in zip(widths, windows, strict=True)]
    ceiling = min(bounds) / levels.total
    return off, Component(alternative, share, border, distance > 0, ceiling, sure)


def _switching(pairs: Histogram, distance: float, bend: float, share: float) -> float | None:
    """Switches between the two units against those of independent mix-ups; None where too few would be expected.

    0 where the switches scatter more than a subject's values do: a disease multiplies by many factors, a unit by one.
    `bend` is the spread of the conversion's own logarithm (a factor's is 0, that of an affine conversion is not).
    """
    expected = 2 * share * (1 - share) * pairs.total
    if expected < LEAST_SWITCHES:
        return None
    scatter = math.sqrt(2) * math.hypot(spread_within(pairs), bend)
    half = min(abs(distance) / 4, 3 * scatter + BIN)
    seen = sum(pairs.between(x - half, x + half) for x in (distance, -distance))
    around = sum(pairs.between(x - 2 * half, x + 2 * half) for x in (distance, -distance)) - seen
    for side in (distance, -distance):
        part = pairs.within(side - abs(distance) / 2, side + abs(distance) / 2)
        if part.total >= LEAST_FOUND and part.centre()[1] > SCATTERED * scatter + BIN:
            return 0.0
    return max(seen - around, 0.0) / expected


def _by_pairs(levels: Histogram, pairs: Histogram, alternative: Alternative) -> tuple[float, Component] | None:
    """A component hidden in the levels that the ratios of successive values show on both sides of one.

    Returned with what tells it from its mirror image: minus the log likelihood of the levels.
    """
    if alternative.to_recorded.offset:
        return None
    distance = abs(_log_scale(alternative))
    within = spread_within(pairs)
    half = min(math.sqrt(2) * within + BIN / 2, distance / 5)
    sides = (distance, -distance)
    there = [pairs.between(side - half, side + half) for side in sides]
    nearer = [pairs.between(*sorted((side * 0.6 - half, side * 0.6 + half))) for side in sides]
    # Together as sure as a histogram's own, and each side for itself: a mix-up goes to and fro.
    chances = [_chance(*both) for both in zip(there, nearer, strict=True)]
    if min(there) < LEAST_FOUND or max(chances) > EACH_SIDE or _chance(sum(there), sum(nearer)) > ALPHA:
        return None
    counts = [pairs.between(side - 2 * half, side + 2 * half) for side in sides]
    if min(counts) < 0.5 * max(counts):
        return None
    middles = [pairs.within(side - 2 * half, side + 2 * half).median() for side in sides]
    off = max(abs(middles[0] - distance), abs(middles[1] + distance))
    if off > BIN + 3 * 1.25 * math.sqrt(2) * within / math.sqrt(min(counts)):
        return None
    switching = min(sum(counts) / pairs.total, 0.499)
    share = (1 - math.sqrt(1 - 2 * switching)) / 2  # 2 share (1 - share) = switching
    part = Component(alternative, share, math.nan, alternative.to_recorded.scale > 1, math.inf, True)
    return -_without(levels, part)[1], part


def _best_direction(found: list[tuple[float, Component]], levels: Histogram) -> list[Component]:
    """Of hidden components of one size keep the one that fits; sure only where it fits clearly better."""
    kept: list[tuple[float, Component]] = []
    for fit, part in found:
        size = abs(_log_scale(part.alternative))
        rivals = [i for i, (_, other) in enumerate(kept) if abs(abs(_log_scale(other.alternative)) - size) < 3 * BIN]
        if not rivals:
            kept.append((fit, part))
        for i in rivals:
            if fit - kept[i][0] < CLEARER:
                kept[i] = (kept[i][0], replace(kept[i][1], is_sure=False))
    return [part for _, part in kept]


def _chance(there: float, nearer: float) -> float:
    """The chance of so many values in a window, if an equal window nearer to the mode holds at least as many."""
    from scipy.special import bdtrc  # the binomial's upper tail; loaded when used, as all of scipy

    return float(bdtrc(round(there) - 1, round(there + nearer), 0.5))


def _log_scale(alternative: Alternative) -> float:
    return math.log10(alternative.to_recorded.scale)


def _best(found: list[tuple[float, Component]], levels: Histogram, pairs: Histogram | None) -> list[Component]:
    """Keep the best of those that claim the same values; where two fit alike, the unit, and neither is sure.

    The ratios of a subject's own values tell two factors apart where there are enough of them, else the levels do.
    """
    middle, spread = levels.centre()

    def place(part: Component) -> float:
        return float(to_log(part.alternative.to_recorded, np.array([middle]))[0])

    kept: list[Component] = []
    groups: list[list[tuple[float, Component]]] = []
    for off, part in found:
        near = [group for group in groups if abs(place(group[0][1]) - place(part)) < 2 * spread]
        for group in near:
            group.append((off, part))
        if not near:
            groups.append([(off, part)])
    for group in groups:
        measured = [_off_ratio(pairs, part) for _, part in group]
        by_ratio = all(item is not None for item in measured)
        # (distance from where it should be, its standard error, component)
        ranked = [
            (*item, part) if by_ratio and item else (off, spread / math.sqrt(max(part.share * levels.total, 1.0)), part)
            for item, (off, part) in zip(measured, group, strict=True)
        ]
        ranked.sort(key=lambda item: item[:2])
        best_off, error, best = ranked[0]
        rivals = [part for off, _, part in ranked[1:] if off - best_off < max(BIN / 2, 2 * error)]
        if rivals:
            unit = next((part for part in (best, *rivals) if part.alternative.is_unit), best)
            best = replace(unit, is_sure=False)
        kept.append(best)
    return kept


def _off_ratio(pairs: Histogram | None, part: Component) -> tuple[float, float] | None:
    """How far the ratios of switching subjects are from the factor, and its standard error; None where few switch."""
    if pairs is None or part.alternative.to_recorded.offset:
        return None
    size, scatter = abs(_log_scale(part.alternative)), math.sqrt(2) * spread_within(pairs)
    half = min(size / 4, 3 * scatter + BIN)
    up, down = (pairs.within(side - half, side + half) for side in (size, -size))
    if min(up.total, down.total) < LEAST_FOUND:
        return None
    seen = (up.median() - down.median()) / 2
    return abs(seen - size), 1.25 * scatter / math.sqrt(up.total + down.total)


def _without(levels: Histogram, part: Component) -> tuple[np.ndarray, float]:
    """The counts of the true values where base and component overlap, and the log likelihood.

    Expectation-maximisation with the share fixed: every bin is divided between base and component by the present
    density of the base, and the component's part goes back to where it was before the conversion.
    """
    shift = round(_log_scale(part.alternative) / BIN)
    margin = abs(shift)
    counts = np.pad(levels.counts, margin)
    base = counts.copy()
    mixed_density = np.ones_like(counts)
    for _ in range(ITERATIONS):
        g = _smoothed(base, 2.0) / levels.total + 1e-9
        moved = _shifted(g, shift)  # density of the component at each bin
        mixed_density = part.share * moved + (1 - part.share) * g
        mixed = part.share * moved / mixed_density
        base = counts * (1 - mixed) + _shifted(counts * mixed, -shift)
    return base[margin : len(base) - margin], float((counts * np.log(mixed_density)).sum())


def _shifted(counts: np.ndarray, bins: int) -> np.ndarray:
    result = np.zeros_like(counts)
    if abs(bins) < len(counts):
        if bins >= 0:
            result[bins:] = counts[: len(counts) - bins]
        else:
            result[:bins] = counts[-bins:]
    return result


def _smoothed(counts: np.ndarray, sigma_bins: float) -> np.ndarray:
    reach = math.ceil(4 * sigma_bins)
    kernel = normal_density(np.arange(-reach, reach + 1), scale=sigma_bins)
    return np.convolve(counts, kernel / kernel.sum(), mode="same") if len(counts) >= len(kernel) else counts
