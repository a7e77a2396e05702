"""Whether a model's maps may be shown: tests of the maps on that very model, with figures and a verdict in words.

1. The model knows something: on images with known labels it does better than always saying how common the label is,
   and better than its own architecture with weights that no training has touched. What explains a guess explains
   nothing.
2. Its output depends on the image at all: without the image's detail the log-odds are others.
3. Weights drawn anew change the map (Adebayo et al., NeurIPS 2018). A map that stays shows the image, not the model.
4. Deletion and insertion in the map's order beat random order and the order of an edge detector (Petsiuk et al., BMVC
   2018). A map that does not names parts which the model does not use.

All of it asks what the model does, not whether the model is right: a valid map of a model that reads a scanner's
letters points at the letters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from careloop import InputError
from careloop.imaging.explain.maps import Mapper
from careloop.imaging.explain.randomise import cascade, randomised, rank_agreement
from careloop.imaging.explain.removal import Curves, Difference, mean_with_interval, removal_curves
from careloop.imaging.explain.scored import Scored, blurred

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

Progress = Callable[[str, int, int], None]

LEAST_SKILL = 0.02  # part of the label's entropy that the model must explain, with an interval above 0
LEAST_MOVED = 0.1  # log-odds by which the median image differs from its blurred self: a tenth is no finding
MOST_ALIKE = (
    0.5  # rank correlation of maps before and after drawing weights anew; Adebayo's methods that fail have more
)
MOST_BLANK = 0.5  # of the images may have a map of one value only
FEWEST_IMAGES = 10  # with the label, below which no interval can be trusted
MOST_IMAGES = 40  # with the label that are mapped; more tell little and take long
DRAWS = 3  # of new weights


@dataclass(frozen=True)
class Cascade:
    """Mean rank correlation with the model's own map after the last `shares` of its layers were drawn anew."""

    shares: tuple[float, ...]
    agreement: tuple[float, ...]


@dataclass(frozen=True)
class Validity:
    """The verdict on one method's maps of one label, its reasons, and the figures behind them.

    `reasons` are why it is rejected, empty if valid. `skill` is the part of the label's entropy that the model
    explains, `untrained` the most that one of its copies with new weights does, fitted to these images; `moved` the
    median change of the log-odds by blur, `agreement` the rank correlation with maps of new weights, `blank` the share
    of images without a map. Figures are None where an earlier test made them pointless.
    """

    verdict: Literal["valid", "rejected"]
    reasons: tuple[str, ...]
    images: int
    skill: Difference | None = None
    untrained: float | None = None
    moved: float | None = None
    blank: float | None = None
    agreement: Difference | None = None
    cascade: Cascade | None = None
    deletion: Curves | None = None
    insertion: Curves | None = None

    @property
    def text(self) -> str:
        """Verdict and reasons in a sentence."""
        if self.verdict == "valid":
            assert self.agreement is not None
            assert self.deletion is not None
            area = self.deletion.area["random"]
            return (
                f"Tested on {self.images} images of this model: new weights change the map (rank correlation "
                f"{self.agreement.value:.2f}), and removing what it names lowers the log-odds by {area.value:.2f} more "
                f"than removing as much at random (95 % interval {area.low:.2f} to {area.high:.2f})."
            )
        return f"Maps rejected for this model: {'; '.join(self.reasons)}."


def check_maps(
    scored: Scored,
    mapper: Mapper,
    images: Floats,
    *,
    probability: Floats,
    truth: NDArray[np.bool_],
    label: int,
) -> Validity:
    """Test maps of a label on images (n, channels, *size) that the model was not trained on.

    `probability` (n,) is what the model says of the label, calibrated, and `truth` (n,) whether it is so. Maps are
    tested on images that have the label and where the model says so too, at most `MOST_IMAGES`: those for which a map
    would be shown.
    """
    if not len(images) == len(probability) == len(truth) or images.ndim not in (4, 5):
        raise InputError(
            f"Maps are tested on images (n, channels, *size) with a probability and a label each; got shapes "
            f"{images.shape}, {np.shape(probability)} and {np.shape(truth)}"
        )
    found = _knows(scored, images, probability, truth, label)
    chosen = shown(probability, truth)
    found = replace(found, images=len(chosen))
    if len(chosen) < FEWEST_IMAGES:
        why = f"only {len(chosen)} test images have the label and are given it by the model, {FEWEST_IMAGES} are needed"
        found = _rejected(found, why)
    if found.reasons:
        return found  # the tests below would say nothing of such a model, or nothing that can be relied on
    mapped = images[chosen]
    maps = mapper(scored, mapped, label)
    found = _changes(found, scored, mapper, (mapped, maps), label)
    return _beats(found, scored, (mapped, maps), label)


def shown(probability: Floats, truth: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Rows that have the label and are given it (probability from a half, or among the higher half), evenly spread."""
    limit = min(0.5, float(np.median(np.asarray(probability)[truth]))) if truth.any() else 0.5
    rows = np.flatnonzero(truth & (np.asarray(probability) >= limit))
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST_IMAGES)).round().astype(np.int64))]


def skill(probability: Floats, truth: NDArray[np.bool_]) -> Difference:
    """1 - mean log loss / entropy of the label, with its bootstrap interval: 0 for saying only how common it is.

    McFadden's pseudo R squared, of probabilities that are not fitted to these rows.
    """
    p = np.clip(np.asarray(probability, dtype=np.float64), 1e-6, 1 - 1e-6)
    common = np.clip(truth.mean(), 1e-6, 1 - 1e-6)
    entropy = -(common * np.log(common) + (1 - common) * np.log1p(-common))
    loss = -np.where(truth, np.log(p), np.log1p(-p))
    none = -np.where(truth, np.log(common), np.log1p(-common))
    return mean_with_interval((none - loss) / entropy)


def untrained_skill(scored: Scored, images: Floats, truth: NDArray[np.bool_], label: int) -> float:
    """The most skill among `DRAWS` copies with new weights, whose log-odds are scaled to fit these images best.

    The scaling favours the copies: an untrained network may tell bright images from dark ones.
    """
    from sklearn.linear_model import LogisticRegression

    found = [0.0]
    for seed in range(DRAWS) if 0 < truth.sum() < len(truth) else ():
        odds = randomised(scored, images, seed=seed).log_odds(images, label)
        standard = ((odds - odds.mean()) / max(float(odds.std()), np.finfo(float).tiny))[:, None]
        fitted = LogisticRegression().fit(standard, truth).predict_proba(standard)[:, 1]
        found.append(skill(fitted, truth).value)
    return max(found)


def _knows(scored: Scored, images: Floats, probability: Floats, truth: NDArray[np.bool_], label: int) -> Validity:
    """Tests 1 and 2."""
    known = skill(probability, truth)
    some = images[np.unique(np.linspace(0, len(images) - 1, min(len(images), MOST_IMAGES)).astype(np.int64))]
    moved = float(np.median(np.abs(scored.log_odds(some, label) - scored.log_odds(blurred(some), label))))
    untrained = untrained_skill(scored, images, truth, label)
    found = Validity("valid", (), 0, skill=known, untrained=untrained, moved=moved)
    if not (known.value >= LEAST_SKILL and known.low > 0):
        why = (
            f"the model tells no more of this label than how common it is (part of its entropy explained "
            f"{known.value:.3f}, 95 % interval {known.low:.3f} to {known.high:.3f}; needed {LEAST_SKILL:g} and above 0)"
        )
        found = _rejected(found, why)
    elif not known.low > untrained:
        why = (
            f"the model knows no more than its copies without training (part of the label's entropy explained "
            f"{known.value:.3f}, 95 % interval from {known.low:.3f}; a copy explains {untrained:.3f})"
        )
        found = _rejected(found, why)
    if not moved >= LEAST_MOVED:
        found = _rejected(found, f"its output hardly depends on the image (blur moves the log-odds by {moved:.2g})")
    return found


def _changes(
    found: Validity, scored: Scored, mapper: Mapper, pair: tuple[Floats, NDArray[np.float32]], label: int
) -> Validity:
    """Test 3."""
    images, maps = pair
    blank = float(np.mean([np.ptp(one) == 0 for one in maps]))
    drawn = [mapper(randomised(scored, images, seed=seed), images, label) for seed in range(DRAWS)]
    agreement = mean_with_interval(np.mean([rank_agreement(maps, other) for other in drawn], axis=0))
    steps = [(share, mapper(network, images, label)) for share, network in cascade(scored, images)]
    shares = tuple(float(share) for share, _ in steps)
    course = Cascade(shares, tuple(float(rank_agreement(maps, other).mean()) for _, other in steps))
    found = replace(found, blank=blank, agreement=agreement, cascade=course)
    if blank > MOST_BLANK:
        found = _rejected(found, f"the map is blank in {blank:.0%} of the images")
    if not agreement.high < MOST_ALIKE:
        why = (
            f"weights drawn anew do not change the map (rank correlation {agreement.value:.2f}, 95 % interval to "
            f"{agreement.high:.2f}; must be below {MOST_ALIKE:g})"
        )
        found = _rejected(found, why)
    return found


def _beats(found: Validity, scored: Scored, pair: tuple[Floats, NDArray[np.float32]], label: int) -> Validity:
    """Test 4."""
    deletion, insertion = removal_curves(scored, *pair, label=label)
    found = replace(found, deletion=deletion, insertion=insertion)
    others: dict[Literal["random", "edges"], str] = {"random": "random order", "edges": "an edge detector"}
    for curves in (deletion, insertion):
        for other, words in others.items():
            area = curves.area[other]
            if not area.low > 0:
                why = (
                    f"{curves.test} in the map's order is no better than by {words} (difference of log-odds "
                    f"{area.value:.2f}, 95 % interval {area.low:.2f} to {area.high:.2f})"
                )
                found = _rejected(found, why)
    return found


def _rejected(found: Validity, why: str) -> Validity:
    return replace(found, verdict="rejected", reasons=(*found.reasons, why))
