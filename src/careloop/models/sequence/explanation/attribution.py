"""Which events a network's risk comes from: integrated gradients from "these events had said nothing" to the patient.

Source: Sundararajan, Taly and Yan, Axiomatic attribution for deep networks, ICML 2017, sections 3 and 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from careloop import InputError
from careloop.models.inputs import Floats
from careloop.models.sequence.arrays import AnySequences
from careloop.models.sequence.batches import Batch, batch_rows, padded
from careloop.models.sequence.estimators import SequenceClassifier, SequenceHazard
from careloop.models.sequence.training.fitting import outputs_of

if TYPE_CHECKING:
    import torch

SequenceEstimator = SequenceClassifier | SequenceHazard
# Log-odds that a row's contributions may miss the difference by: at most 0.0025 of risk, which no text or chart shows.
COMPLETE_WITHIN = 0.01
# Points of a path that missed it are doubled up to this many; a path that still misses keeps its error on show.
MOST_STEPS = 512
GRADIENT_TOKENS = 8192  # positions of a forward and backward pass: a gigabyte of a wide Transformer's activations
LEAST_CHANCE = 1e-12  # an incidence of exactly 0 or 1 has no log-odds


@dataclass(frozen=True)
class Score:
    """Which risk is explained, as log-odds of the members' mean.

    `outcome` is the position of the class, or the number of the cause. `horizon` is the time up to which a hazard
    model's incidence counts, the end of the last period if left out; a classifier does not look at it.
    """

    outcome: int = 1
    horizon: float | None = None


@dataclass(frozen=True, eq=False)
class Attribution:
    """What each event (T,) and static column (n, s) adds to the log-odds of the risk.

    `score` (n,) are the log-odds, `base` (n,) those of the reference: the same events at the same times whose codes,
    numbers and notes are not told, static columns at 0 (their training mean). `steps` (n,) are the points of each row's
    path.
    """

    offsets: NDArray[np.int64]
    events: Floats
    static: Floats
    score: Floats
    base: Floats
    steps: NDArray[np.int64]

    @property
    def total(self) -> Floats:
        """The sum of each row's contributions (n,)."""
        lengths = np.diff(self.offsets)
        row = np.repeat(np.arange(len(lengths)), lengths)
        return np.bincount(row, weights=self.events, minlength=len(lengths)) + self.static.sum(axis=1)

    @property
    def error(self) -> Floats:
        """How far each row's contributions are from adding up to `score - base` (n,): the completeness error."""
        return self.total - (self.score - self.base)


def integrated_gradients(
    estimator: SequenceEstimator, sequences: AnySequences, *, score: Score, steps: int = 32
) -> Attribution:
    """Contributions of events and static columns along the straight path from the reference to the patient.

    An event's contribution is that of what it says (code, number and note). Times stay on the whole path, so that how
    many events there are, and when, is in `base`. The integral is by Gauss and Legendre's rule with `steps` points,
    doubled for rows whose contributions do not add up within `COMPLETE_WITHIN`, up to `MOST_STEPS`.

    Raises:
        InputError: no such class or cause, or a horizon that is not above 0.
    """
    rows = sequences.take(np.arange(len(sequences)))
    found = Attribution(
        offsets=rows.offsets,
        events=np.zeros(int(rows.offsets[-1])),
        static=np.zeros(rows.static.shape),
        score=log_odds(estimator, rows, score=score),
        base=np.zeros(len(rows)),
        steps=np.zeros(len(rows), dtype=np.int64),
    )
    pending = np.arange(len(rows))
    while len(pending):
        for some in batch_rows(rows.lengths[pending], GRADIENT_TOKENS // 4):  # four points of the path at once, or more
            mine = pending[some]
            _fill_in(found, mine, path=_Path.of(estimator, padded(rows.take(mine)), score=score), steps=steps)
        pending = pending[np.abs(found.error[pending]) > COMPLETE_WITHIN]
        steps *= 2
        if steps > MOST_STEPS:
            break
    return found


def _fill_in(found: Attribution, rows: NDArray[np.intp], *, path: _Path, steps: int) -> None:
    """Write the contributions of some rows, whose path this is, where they belong."""
    events, static = path.integral(steps)
    for place, row in enumerate(rows):
        begin, end = found.offsets[row], found.offsets[row + 1]
        found.events[begin:end] = events[place, : end - begin]
    found.static[rows], found.base[rows], found.steps[rows] = static, path.base(), steps


@dataclass(frozen=True, eq=False)
class _Path:
    """From the reference to some patients, in each member's space of event vectors and in the static columns.

    `start` and `said` (b, l, width) of each member: vectors of the times alone, and what codes, numbers and notes add.
    """

    estimator: SequenceEstimator
    batch: Batch
    score: Score
    start: list[torch.Tensor]
    said: list[torch.Tensor]

    @classmethod
    def of(cls, estimator: SequenceEstimator, batch: Batch, *, score: Score) -> _Path:
        import torch

        place = torch.arange(batch.code.shape[1])
        is_told = (place < batch.last.unsqueeze(1)).unsqueeze(-1)  # neither the prediction time nor padding
        start, said = [], []
        with torch.no_grad():
            for network in estimator.networks_:
                embedding = network.embedding
                said.append(embedding.content(batch) * is_told)
                start.append(embedding(batch) - said[-1])
        return cls(estimator, batch._replace(note=None, notes=None), score, start, said)

    def integral(self, steps: int) -> tuple[Floats, Floats]:
        """Contributions of the positions (b, l) and of the static columns (b, s)."""
        import torch

        points, lengths = np.polynomial.legendre.leggauss(steps)  # from -1 to 1
        shares, weights = torch.from_numpy((points + 1) / 2).float(), torch.from_numpy(lengths / 2)
        at_once = max(1, GRADIENT_TOKENS // self.batch.code.numel())
        events = torch.zeros(self.batch.code.shape, dtype=torch.float64)
        static = torch.zeros(self.batch.static.shape, dtype=torch.float64)
        for some in torch.arange(steps).split(at_once):
            for member, slope in enumerate(self._gradients(shares[some])):
                mean = torch.einsum("c,cb...->b...", weights[some], slope.double())
                if member < len(self.said):
                    events += (mean * self.said[member]).sum(dim=-1)
                else:
                    static += mean * self.batch.static
        return events.numpy(), static.numpy()

    def _gradients(self, shares: torch.Tensor) -> list[torch.Tensor]:
        """Gradients at the shares (c,) of the path: (c, b, l, width) for each member, then (c, b, s) for statics."""
        import torch

        points = [point.requires_grad_() for point in self._points(shares)]
        slopes = torch.autograd.grad(self._at(points).sum(), points, allow_unused=True, materialize_grads=True)
        return [slope.unflatten(0, (len(shares), -1)) for slope in slopes]

    def base(self) -> Floats:
        """The log-odds of the reference (b,)."""
        import torch

        with torch.no_grad():
            return self._at(self._points(torch.zeros(1))).numpy()

    def _points(self, shares: torch.Tensor) -> list[torch.Tensor]:
        """Vectors of each member, and static columns, at the shares (c,), one after the other (c * b, ...)."""
        along = shares.reshape(-1, 1, 1, 1)
        vectors = [(start + along * said).flatten(0, 1) for start, said in zip(self.start, self.said, strict=True)]
        return [*vectors, (along[..., 0] * self.batch.static).flatten(0, 1)]

    def _at(self, points: list[torch.Tensor]) -> torch.Tensor:
        """The log-odds at points."""
        *vectors, static = points
        times = len(static) // len(self.batch.static)
        batch = self.batch.changed(lambda part: part.repeat(times, *[1] * (part.dim() - 1)))._replace(static=static)
        networks = self.estimator.networks_
        outputs = [network.forward_embedded(v, batch) for network, v in zip(networks, vectors, strict=True)]
        return log_odds_of(self.estimator, outputs, score=self.score)


def log_odds(estimator: SequenceEstimator, sequences: AnySequences, *, score: Score) -> Floats:
    """The log-odds (n,) of the risk that the estimator predicts.

    Raises:
        InputError: no such class or cause, or a horizon that is not above 0.
    """
    import torch

    outputs = [torch.from_numpy(outputs_of(network, sequences)) for network in estimator.networks_]
    return log_odds_of(estimator, outputs, score=score).numpy()


def log_odds_of(estimator: SequenceEstimator, outputs: list[torch.Tensor], *, score: Score) -> torch.Tensor:
    """The log-odds (n,) of the mean risk, from each member's outputs (n, k)."""
    import torch

    chances = _incidence_chances if isinstance(estimator, SequenceHazard) else _class_chances
    both = [chances(estimator, found.double(), score=score) for found in outputs]
    happens, does_not = (torch.stack(side).logsumexp(dim=0) for side in zip(*both, strict=True))
    return happens - does_not


def _class_chances(estimator: Any, outputs: torch.Tensor, *, score: Score) -> tuple[torch.Tensor, torch.Tensor]:
    """Log probabilities of the class and of all others, as `SequenceClassifier.predict_proba` has them."""
    import torch

    classes = len(estimator.classes_)
    if not 0 <= score.outcome < classes:
        raise InputError(f"outcome must be a class, 0 to {classes - 1}; got {score.outcome}")
    logits = torch.cat([torch.zeros_like(outputs), outputs], dim=1) if outputs.shape[1] == 1 else outputs
    logs = (logits - torch.from_numpy(np.log(estimator.class_weights_))).log_softmax(dim=1)
    others = torch.arange(classes) != score.outcome
    return logs[:, score.outcome], logs[:, others].logsumexp(dim=1)


def _incidence_chances(estimator: Any, outputs: torch.Tensor, *, score: Score) -> tuple[torch.Tensor, torch.Tensor]:
    """Log probabilities of the cause by the horizon and of no such event, as `SequenceHazard.predict_incidence`."""
    import torch

    cuts = estimator.cuts_
    horizon = float(cuts[-1]) if score.horizon is None else score.horizon
    if not 1 <= score.outcome <= estimator.causes_ or not horizon > 0:
        raise InputError(
            f"a hazard is explained for a cause, 1 to {estimator.causes_}, and a horizon above 0;"
            f" got cause {score.outcome} and horizon {horizon:g}"
        )
    logits = outputs.reshape(len(outputs), len(cuts) - 1, estimator.causes_)
    logs = torch.cat([torch.zeros_like(logits[:, :, :1]), logits], dim=2).log_softmax(dim=2)
    entered = logs[:, :, 0].cumsum(dim=1) - logs[:, :, 0]
    by_period = (entered + logs[:, :, score.outcome]).exp()
    reached = torch.from_numpy(np.clip((horizon - cuts[:-1]) / np.diff(cuts), 0.0, 1.0))  # of each period
    chance = (by_period * reached).sum(dim=1).clamp(LEAST_CHANCE, 1 - LEAST_CHANCE)
    return chance.log(), (-chance).log1p()
