"""Which stretches of a protein a prediction rests on: each is replaced in turn, and the score looked at again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from careloop.genome.function.learned.model import LearnedFunction

WIDTH, STEP = 20, 10  # residues
DRAWS = 4
SURE = 3.0  # standard errors over draws that a stretch's drop lies above zero, to be named
_SMALLEST = 1e-6


@dataclass(frozen=True)
class Stretch:
    """Residues `start` to `end` (from 0, end excluded): replaced, the log odds of the term fall by `drop`."""

    term: str
    start: int
    end: int
    drop: float
    standard_error: float


@dataclass(frozen=True, eq=False)
class Occlusion:
    """`drops` (windows, draws, terms) in log odds, of windows that begin at `starts` (windows,)."""

    starts: NDArray[np.int64]
    drops: NDArray[np.float32]


def stretches(learned: LearnedFunction, sequence: str, terms: Sequence[str], *, seed: int = 0) -> tuple[Stretch, ...]:
    """For each term the stretch that it rests on most; none where no stretch stands out of the draws' scatter.

    A stretch is replaced by residues drawn from the protein's own, so that composition and length stay what they are.
    Occlusion: Zeiler and Fergus, ECCV 2014. With `DRAWS` draws the largest of many windows is partly chance: `SURE`
    standard errors are asked for.
    """
    columns = [learned.terms.index(term) for term in terms]
    seen = occlude(learned, sequence, seed=seed)
    mean = seen.drops[:, :, columns].mean(axis=1)
    error = seen.drops[:, :, columns].std(axis=1, ddof=1) / np.sqrt(DRAWS)
    found = []
    for at, term in enumerate(terms):
        best = int(mean[:, at].argmax())
        if mean[best, at] > SURE * max(error[best, at], _SMALLEST):
            start = int(seen.starts[best])
            end = min(start + WIDTH, len(sequence))
            found.append(Stretch(term, start, end, float(mean[best, at]), float(error[best, at])))
    return tuple(found)


def occlude(learned: LearnedFunction, sequence: str, *, seed: int = 0) -> Occlusion:
    """Replace every window in turn."""
    random = np.random.default_rng(seed)
    starts = np.arange(0, max(len(sequence) - WIDTH, 0) + STEP, STEP)
    starts = starts[starts < max(len(sequence) - WIDTH // 2, 1)]
    changed = [replaced(sequence, start, random) for start in starts.tolist() for _ in range(DRAWS)]
    odds = _log_odds(learned.predict([sequence, *changed]))
    return Occlusion(starts, (odds[0] - odds[1:]).reshape(len(starts), DRAWS, -1))


def replaced(sequence: str, start: int, random: np.random.Generator) -> str:
    """The protein with one window drawn anew from its own residues."""
    letters = np.frombuffer(sequence.encode("ascii"), dtype=np.uint8).copy()
    window = letters[start : start + WIDTH]
    window[:] = random.choice(np.frombuffer(sequence.encode("ascii"), dtype=np.uint8), len(window))
    return letters.tobytes().decode("ascii")


def _log_odds(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    bounded = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    return (np.log(bounded) - np.log1p(-bounded)).astype(np.float32)
