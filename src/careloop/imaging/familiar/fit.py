"""One score for how unlike its training an image is, and a threshold that refuses a stated share of familiar ones.

Several distances look at the image: of its statistics (`statistics.py`), which need no network, and of the network's
embedding. Each is put on one scale, standard deviations of its logarithm over familiar images, and the score is their
soft maximum. The threshold comes from rows that fitted nothing: with n of them, an image that is exchangeable with them
has a p-value of at most p with probability at most p, whatever the distances are (split conformal: Bates, Candès, Lei,
Romano and Sesia, Ann Stat 2023;51:149, proposition 1).

What an unlike image is, is not learned from any: none is used to fit or to set the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from careloop import InputError
from careloop.imaging.familiar.distances import DISTANCES, Covariance, Distance, Nearest, Template, check_rows
from careloop.imaging.familiar.statistics import GROUPS, statistics_table

Floats = NDArray[np.float64]
Images = Sequence[NDArray[np.floating[Any]]] | NDArray[np.floating[Any]]

EMBEDDING = "embedding"
# Distances in the order in which they are computed: their name, the numbers they look at, what they are.
LOOKS: tuple[tuple[str, str, str], ...] = (
    ("grey values", "grey values", "covariance"),
    ("texture", "texture", "covariance"),
    ("edges", "edges", "covariance"),
    ("layout", "layout", "covariance"),
    ("mean image", "layout", "template"),
    ("network features", EMBEDDING, "covariance"),
    ("nearest training image", EMBEDDING, "nearest"),
)
WORDS = GROUPS | {
    "mean image": "little agreement with the mean of the training images (inverted, turned or of something else)",
    "network features": "features of the network unlike those of the training images",
    "nearest training image": "no training image near it by the network's features",
}
FOLDS = 5
LEAST_FITTED = 20  # rows, below which spread and covariance are guesses
SMALLEST = 1e-12  # a distance below this is read as this, because its logarithm is taken
USUAL = 0.95  # of familiar images lie below this quantile; a reason names the distances above it


@dataclass(frozen=True, eq=False)
class Look:
    """One distance with the mean and standard deviation of its logarithm, and its usual limit on that scale."""

    name: str
    of: str
    kind: str
    distance: Distance
    mean: float
    spread: float
    usual: float

    def standard(self, numbers: Floats) -> Floats:
        """How many standard deviations above familiar images each row lies."""
        far = np.maximum(self.distance.distance(numbers), SMALLEST)
        return np.asarray((np.log(far) - self.mean) / self.spread, dtype=np.float64)


@dataclass(frozen=True)
class Familiarity:
    """What was found of one image: `parts` are the distances in standard deviations above familiar images.

    `p_value` is the share of familiar images that are as unlike, counting this one; `reason` is empty unless refused.
    """

    score: float
    p_value: float
    refused: bool
    reason: str
    parts: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Familiar:
    """The fitted check; `reference` are the sorted scores of the rows that set the threshold, which fitted nothing."""

    looks: tuple[Look, ...]
    reference: Floats
    false_refusals: float

    @property
    def needs_embedding(self) -> bool:
        """Whether embeddings are looked at, so that they must be given."""
        return any(look.of == EMBEDDING for look in self.looks)

    @property
    def threshold(self) -> float:
        """The least score that is refused."""
        kept = math.floor(self.false_refusals * (len(self.reference) + 1) + 1e-9)
        return float(np.nextafter(self.reference[len(self.reference) - kept], np.inf))

    def parts(self, embeddings: NDArray[np.floating[Any]] | None, images: Images) -> dict[str, Floats]:
        """Each distance (n,) in standard deviations above familiar images; `embeddings` None where none are needed."""
        numbers = self._numbers(embeddings, images)
        return {look.name: look.standard(numbers[look.of]) for look in self.looks}

    def score(self, embeddings: NDArray[np.floating[Any]] | None, images: Images) -> Floats:
        """How unlike each image (n, channels, *size) or embedding (n, d) is, (n,)."""
        return _soft_maximum(self.parts(embeddings, images))

    def p_value(self, score: Floats) -> Floats:
        """(1 + rows of the reference with a score at least as high) / (1 + rows)."""
        above = len(self.reference) - np.searchsorted(self.reference, score, side="left")
        return np.asarray((1 + above) / (1 + len(self.reference)), dtype=np.float64)

    def refused(self, embeddings: NDArray[np.floating[Any]] | None, images: Images) -> NDArray[np.bool_]:
        """Whether each image is refused: familiar ones are with a probability of at most `false_refusals`."""
        return np.asarray(self.score(embeddings, images) >= self.threshold, dtype=np.bool_)

    def assess(self, embeddings: NDArray[np.floating[Any]] | None, images: Images) -> list[Familiarity]:
        """Score, p-value, verdict and reason of each image."""
        parts = self.parts(embeddings, images)
        score = _soft_maximum(parts)
        p_value, found = self.p_value(score), []
        for row in range(len(score)):
            mine = {name: float(values[row]) for name, values in parts.items()}
            refused = bool(score[row] >= self.threshold)
            reason = self._reason(mine) if refused else ""
            found.append(Familiarity(float(score[row]), float(p_value[row]), refused, reason, mine))
        return found

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays by name, from which `from_arrays` makes the same check; nothing needs unpickling."""
        arrays: dict[str, NDArray[Any]] = {
            "reference": self.reference,
            "false_refusals": np.array(self.false_refusals),
        }
        for look in self.looks:
            arrays[f"{look.name}/scale"] = np.array([look.mean, look.spread, look.usual])
            arrays |= {f"{look.name}/{f.name}": getattr(look.distance, f.name) for f in fields(look.distance)}  # type: ignore[arg-type]
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The check that `to_arrays` wrote. InputError: an array is missing."""
        try:
            looks = []
            for name, of, kind in LOOKS:
                if f"{name}/scale" in arrays:
                    made = DISTANCES[kind]
                    distance = made(**{f.name: arrays[f"{name}/{f.name}"] for f in fields(made)})
                    looks.append(Look(name, of, kind, distance, *(float(v) for v in arrays[f"{name}/scale"])))
            return cls(tuple(looks), arrays["reference"], float(arrays["false_refusals"]))
        except KeyError as error:
            raise InputError(f"The check for unlike images lacks {error}; train or copy the model again") from None

    def _numbers(self, embeddings: NDArray[np.floating[Any]] | None, images: Images) -> dict[str, Floats]:
        numbers: dict[str, Floats] = statistics_table(images)
        for look in self.looks:
            wanted = None if look.of == EMBEDDING else _columns(look.distance)
            if wanted is not None and numbers[look.of].shape[1] != wanted:
                raise InputError("Images must have as many channels and axes as those that the check was fitted to")
        if self.needs_embedding:
            if embeddings is None or len(embeddings) != len(images):
                raise InputError("This check was fitted with embeddings; give one for each image")
            known = next(_columns(look.distance) for look in self.looks if look.of == EMBEDDING)
            numbers[EMBEDDING] = check_rows(np.asarray(embeddings, dtype=np.float64), known)
        return numbers

    def _reason(self, parts: Mapping[str, float]) -> str:
        """What is unlike, worst first, with how far it lies beyond familiar images."""
        beyond = {look.name: parts[look.name] for look in self.looks if parts[look.name] > look.usual}
        if not beyond:
            return "a little unlike the training images in several respects at once"
        worst = sorted(beyond, key=lambda name: -beyond[name])[:3]
        return "; ".join(f"{WORDS[name]} ({beyond[name]:.1f} standard deviations)" for name in worst)


def fit_familiar(
    embeddings: NDArray[np.floating[Any]] | None,
    images: Images,
    *,
    false_refusals: float = 0.05,
    patients: Sequence[Any] | NDArray[Any] | None = None,
    threshold_rows: NDArray[np.bool_] | None = None,
    seed: int = 0,
) -> Familiar:
    """Fit the check to familiar images.

    Args:
        embeddings: (n, d) from the network, best of rows that it was not trained on, because it knows those too well;
            None for a check by image statistics alone.
        images: (n, channels, *size) as the network gets them, or without embeddings a list of several sizes.
        false_refusals: share of familiar images that may be refused.
        patients: (n,) whose image each is. All images of one go to one side, and the threshold takes one drawn image
            of each of its patients, so that the promise holds for an image of a new patient (Dunn, Wasserman and
            Ramdas, J Am Stat Assoc 2023;118:2491, section 3.3).
        threshold_rows: (n,) which rows set the threshold; a random half of rows or patients if not given.
        seed: of the draws.

    Raises:
        InputError: shapes differ, or there are too few rows for the threshold at this share.
    """
    whose = np.arange(len(images)) if patients is None else np.unique(np.asarray(patients), return_inverse=True)[1]
    if not 0 < false_refusals < 1 or len(whose) != len(images):
        raise InputError(
            "A check for unlike images needs a share of false refusals between 0 and 1 and a patient for each image; "
            f"got {false_refusals} and {len(whose)} for {len(images)} images"
        )
    fitted, threshold = _split(whose, threshold_rows, np.random.default_rng(seed))
    _check_counts(len(fitted), len(threshold), false_refusals)
    numbers = statistics_table(images)
    if embeddings is not None:
        if len(embeddings) != len(images):
            raise InputError(f"{len(images)} images need as many embeddings, got {len(embeddings)}")
        numbers[EMBEDDING] = check_rows(np.asarray(embeddings, dtype=np.float64))
    looks = tuple(_fit_look(look, numbers[look[1]], whose, (fitted, threshold)) for look in LOOKS if look[1] in numbers)
    parts = {look.name: look.standard(numbers[look.of][threshold]) for look in looks}
    return Familiar(looks, np.sort(_soft_maximum(parts)), false_refusals)


def _split(
    whose: NDArray[np.int64], threshold_rows: NDArray[np.bool_] | None, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that are fitted to, and one row of each patient for the threshold."""
    if threshold_rows is None:
        order = random.permutation(np.unique(whose))
        chosen = np.isin(whose, order[: -(-len(order) // 2)])
    else:
        chosen = np.asarray(threshold_rows, dtype=np.bool_)
        if chosen.shape != whose.shape or np.isin(whose[chosen], whose[~chosen]).any():
            raise InputError("threshold_rows must be one truth value an image, with no patient on both sides")
    drawn = random.permutation(np.flatnonzero(chosen))
    return np.flatnonzero(~chosen), drawn[np.unique(whose[drawn], return_index=True)[1]]


def _check_counts(fitted: int, threshold: int, false_refusals: float) -> None:
    least = math.ceil(1 / false_refusals - 1e-9) - 1
    if fitted < LEAST_FITTED or threshold < least:
        raise InputError(
            f"A check for unlike images at {false_refusals:.3g} false refusals needs {least} rows (of different "
            f"patients) for its threshold and {LEAST_FITTED} others to fit, got {threshold} and {fitted}; give more "
            "images, or allow more false refusals"
        )


def _fit_look(
    look: tuple[str, str, str],
    numbers: Floats,
    whose: NDArray[np.int64],
    rows: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> Look:
    """A distance from the fitted rows; its scale is from folds of them that were left out (of whole patients)."""
    name, of, kind = look
    fitted, threshold = rows
    made = DISTANCES[kind]
    fold = np.unique(whose[fitted], return_inverse=True)[1] % FOLDS
    left_out = []
    for number in np.unique(fold) if fold.any() else ():
        out = fold == number
        left_out.append(made.of(numbers[fitted[~out]]).distance(numbers[fitted[out]]))
    distance = made.of(numbers[fitted])
    logarithm = np.log(np.maximum(np.concatenate(left_out or [distance.distance(numbers[fitted])]), SMALLEST))
    spread = max(float(logarithm.std()), 1e-3)
    found = Look(name, of, kind, distance, float(logarithm.mean()), spread, 0.0)
    usual = float(np.quantile(found.standard(numbers[threshold]), USUAL))
    return Look(name, of, kind, distance, found.mean, spread, usual)


def _soft_maximum(parts: Mapping[str, Floats]) -> Floats:
    """Log sum exp: the largest where one stands out, and a little more where several do."""
    return np.asarray(np.logaddexp.reduce(np.stack(list(parts.values())), axis=0), dtype=np.float64)


def _columns(distance: Distance) -> int:
    """How many numbers a row of what was fitted has."""
    if isinstance(distance, Nearest):
        return int(distance.known.shape[1])
    assert isinstance(distance, Covariance | Template)
    return len(distance.mean)
