"""Estimators over sequences: a classifier as in scikit-learn, a discrete-time survival model with competing causes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from careloop import InputError
from careloop.models.hazard import period_bounds
from careloop.models.inputs import Floats
from careloop.models.sequence.arrays import AnySequences, TokenSpace
from careloop.models.sequence.training.fitting import (
    Adaptation,
    Recipe,
    SupervisedWork,
    Targets,
    check_notes,
    fit_network,
    outputs_of,
)

if TYPE_CHECKING:
    from careloop.models.sequence.network import SequenceNetwork
    from careloop.models.sequence.training.loop import Checkpoint

Validation = tuple[Any, ...]  # (sequences, y) or (sequences, y, sample_weight)


class _SequenceEstimator(BaseEstimator):
    """Parameters, fit and state that classifiers and survival models over sequences share.

    `network`: gru, temporal_cnn, transformer or causal_transformer. `members` networks of different seeds are averaged
    (Lakshminarayanan et al. 2017). `adaptation` says what of a pre-trained network is trained: full, frozen, lora.
    `periods` is for hazards, `class_weight` for classes (not for several labels at once).
    """

    def __init__(
        self,
        *,
        network: str = "transformer",
        width: int = 64,
        layers: int = 2,
        heads: int = 2,
        dropout: float = 0.2,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.05,
        tokens: int = 4096,
        max_epochs: int = 20,
        patience: int = 4,
        members: int = 1,
        adaptation: Adaptation = "full",
        periods: int = 20,
        class_weight: Literal["balanced"] | None = None,
        seed: int = 0,
        device: str = "auto",
        precision: str = "32-true",
        threads: int = 1,
    ) -> None:
        self.network = network
        self.width = width
        self.layers = layers
        self.heads = heads
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.tokens = tokens
        self.max_epochs = max_epochs
        self.patience = patience
        self.members = members
        self.adaptation = adaptation
        self.periods = periods
        self.class_weight = class_weight
        self.seed = seed
        self.device = device
        self.precision = precision
        self.threads = threads

    def _fit(
        self, training: Targets, validation: Targets | None, loss: Any, outputs: int, options: dict[str, Any]
    ) -> None:
        """Train the members one after the other; `options` are fit's space, start, checkpoint and listener."""
        space: TokenSpace = options.pop("space")
        if training.sequences.take(np.arange(min(1, len(training.sequences)))).static.shape[1] != space.statics:
            raise InputError("sequences must have as many static columns as the token space says; build both together")
        check_notes(training.sequences, space.note_width)
        self.networks_, self.epochs_, self.space_ = [], [], space
        for member in range(self.members):
            recipe = self._recipe(outputs, self.seed + member)
            network, history = fit_network(
                recipe, space, lambda r: self._work(training, validation, loss, r), **_of_member(options, member)
            )
            self.networks_.append(network)
            self.epochs_.append(history)

    def _work(self, training: Targets, validation: Targets | None, loss: Any, recipe: Recipe) -> SupervisedWork:
        return SupervisedWork(training, validation, loss, recipe)

    def _recipe(self, outputs: int, seed: int) -> Recipe:
        from careloop.models.sequence.network import NetworkShape
        from careloop.models.sequence.training.loop import LoopSettings

        shape = NetworkShape(self.network, self.width, self.layers, self.heads, self.dropout, outputs)
        names = ("learning_rate", "weight_decay", "tokens", "max_epochs", "patience", "device", "precision", "threads")
        settings = LoopSettings(seed=seed, **{name: getattr(self, name) for name in names})
        return Recipe(shape, settings, self.adaptation)

    def _outputs(self, sequences: AnySequences) -> list[NDArray[np.float64]]:
        """Each member's outputs (n, k)."""
        check_is_fitted(self)
        return [outputs_of(n, sequences).astype(np.float64) for n in self.networks_]

    def embed(self, sequences: AnySequences) -> NDArray[np.float32]:
        """The patients' representations (n, members * 2 width): what the heads see of the events."""
        check_is_fitted(self)
        return np.hstack([outputs_of(n, sequences, of=n.pooled) for n in self.networks_])

    def get_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Parameters and shapes for JSON, and weights by name for safetensors."""
        check_is_fitted(self)
        arrays = {
            f"{member}.{name}": value.numpy()
            for member, network in enumerate(self.networks_)
            for name, value in network.state_dict().items()
        }
        space = self.space_
        plain = {"parameters": self.get_params(), "outputs": self.networks_[0].shape.outputs}
        plain |= {"tokens": space.tokens, "quantiles": space.quantiles, "statics": space.statics}
        plain |= {"note_width": space.note_width} if space.note_width else {}
        return plain | self._own_state(), arrays | {"ancestors": space.ancestors}

    @classmethod
    def from_state(cls, state: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The fitted model that `get_state` described."""
        import torch

        from careloop.models.sequence.network import SequenceNetwork

        model = cls(**state["parameters"])
        sizes = {"statics": state["statics"], "note_width": state.get("note_width", 0)}
        model.space_ = TokenSpace(state["tokens"], state["quantiles"], arrays["ancestors"], **sizes)
        model.networks_ = []
        for member in range(model.members):
            network: SequenceNetwork = SequenceNetwork(model.space_, model._recipe(state["outputs"], 0).shape)
            start = f"{member}."
            own = {n.removeprefix(start): torch.from_numpy(v.copy()) for n, v in arrays.items() if n.startswith(start)}
            network.load_state_dict(own)
            model.networks_.append(network.eval())
        model._take_state(state)
        return model

    def _own_state(self) -> dict[str, Any]:
        raise NotImplementedError

    def _take_state(self, state: dict[str, Any]) -> None:
        raise NotImplementedError


class SequenceClassifier(ClassifierMixin, _SequenceEstimator):
    """Two or more classes from event sequences, by cross-entropy with early stopping.

    With `class_weight="balanced"` classes count alike in the loss; the probabilities are put back to the
    training prevalence afterwards, so that they stay calibrated (Elkan 2001, theorem 2).

    Fitted: `networks_`, `classes_`, `epochs_` (validation losses by member), `space_`.
    """

    def fit(
        self,
        X: AnySequences,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        space: TokenSpace,
        validation: Validation | None = None,
        **options: Any,
    ) -> Self:
        """Fit on rows X (n) and classes y (n,).

        `space` says what the tokens are; `validation` is (X, y) or (X, y, sample_weight), without which training runs
        all epochs. Further options: `start` (a pre-trained network), `checkpoint`, `listener`.
        """
        from careloop.models.sequence.losses import binary_loss, class_loss

        self.classes_ = np.unique(np.asarray(y))
        if len(self.classes_) < 2:
            raise InputError(
                "A classifier needs two classes; the labels hold one class. Widen the cohort or the horizon."
            )
        self.class_weights_ = self._class_weights(y)
        training = self._targets(X, y, sample_weight)
        held = None if validation is None else self._targets(*validation)
        two = len(self.classes_) == 2
        self._fit(
            training,
            held,
            binary_loss if two else class_loss,
            1 if two else len(self.classes_),
            options | {"space": space},
        )
        return self

    def _class_weights(self, y: ArrayLike) -> NDArray[np.float64]:
        if self.class_weight is None:
            return np.ones(len(self.classes_))
        if self.class_weight != "balanced":
            raise InputError(f'class_weight is "balanced" or left out; got {self.class_weight!r}')
        counts = np.array([(np.asarray(y) == c).sum() for c in self.classes_])
        return counts.sum() / (len(counts) * counts)

    def _targets(self, X: AnySequences, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Targets:
        labels = np.asarray(y)
        number = np.searchsorted(self.classes_, labels).clip(max=len(self.classes_) - 1)
        if len(labels) != len(X) or (self.classes_[number] != labels).any():
            raise InputError("labels must be one a row, and those of validation rows among the training rows' classes")
        weights = row_weights(sample_weight, len(X)) * self.class_weights_[number]
        return Targets(X, number.astype(np.float32), weights.astype(np.float32))

    def predict_proba(self, X: AnySequences) -> NDArray[np.float64]:
        """Probabilities (n, classes), the mean over the members."""
        return np.mean([self._probabilities(outputs) for outputs in self._outputs(X)], axis=0)

    def _probabilities(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        logits = np.hstack([np.zeros_like(outputs), outputs]) if outputs.shape[1] == 1 else outputs
        return np.asarray(softmax(logits - np.log(self.class_weights_), axis=1))

    def predict(self, X: AnySequences) -> NDArray[Any]:
        """The likeliest class (n,)."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def _own_state(self) -> dict[str, Any]:
        return {"classes": self.classes_.tolist(), "class_weights": self.class_weights_.tolist()}

    def _take_state(self, state: dict[str, Any]) -> None:
        self.classes_, self.class_weights_ = np.asarray(state["classes"]), np.asarray(state["class_weights"])


class SequenceHazard(_SequenceEstimator):
    """Hazards per period from event sequences, of one cause or of several that compete; methods as scikit-survival's.

    Follow-up is cut at quantiles of the event times into `periods`; within one, the hazard is constant. Rows censored
    in a period count by the part of it that was observed (`careloop.models.sequence.losses.HazardLoss`).

    Fitted: `networks_`, `unique_times_` (k,) the periods' ends, `cuts_` (k + 1,), `causes_`, `epochs_`, `space_`.
    """

    def fit(
        self,
        X: AnySequences,
        y: Any,
        *,
        space: TokenSpace,
        validation: Validation | None = None,
        **options: Any,
    ) -> Self:
        """Fit on rows X (n) and y (n,), a structured array of cause (0 censored, 1 the outcome, 2 and on) and time.

        Options as `SequenceClassifier.fit` has them.
        """
        from careloop.models.sequence.losses import HazardLoss

        cause, time = causes_and_times(y, len(X))
        self.causes_ = int(cause.max())
        self.cuts_ = period_bounds(time[cause > 0], self.periods)
        self.unique_times_ = self.cuts_[1:]
        held = (
            None
            if validation is None
            else self._targets(validation[0], *causes_and_times(validation[1], len(validation[0])))
        )
        loss = HazardLoss(len(self.unique_times_), self.causes_)
        outputs = loss.periods * loss.causes
        self._fit(self._targets(X, cause, time), held, loss, outputs, options | {"space": space})
        return self

    def _targets(self, X: AnySequences, cause: NDArray[np.int64], time: Floats) -> Targets:
        last = np.clip(np.searchsorted(self.cuts_, time, side="left") - 1, 0, len(self.cuts_) - 2)
        share = np.clip((time - self.cuts_[last]) / (self.cuts_[last + 1] - self.cuts_[last]), 0.0, 1.0)
        within = np.where(time > self.cuts_[-1], 0, cause)  # an event beyond the last period is not one within it
        values = np.column_stack([last, np.minimum(within, self.causes_), share])
        return Targets(X, values.astype(np.float32), np.ones(len(X), dtype=np.float32))

    def _log_hazards(self, X: AnySequences) -> list[NDArray[np.float64]]:
        """Each member's log probabilities (n, periods, 1 + causes) of going on and of the causes."""
        shape = (-1, len(self.unique_times_), self.causes_)
        logits = [outputs.reshape(shape) for outputs in self._outputs(X)]
        return [log_softmax(np.concatenate([np.zeros_like(z[:, :, :1]), z], axis=2), axis=2) for z in logits]

    def predict_survival_function(self, X: AnySequences, return_array: bool = True) -> Floats:
        """P(no event of any cause by each of `unique_times_`) (n, k), the mean over the members."""
        return np.mean([np.exp(np.cumsum(logs[:, :, 0], axis=1)) for logs in self._log_hazards(X)], axis=0)

    def predict_incidence(self, X: AnySequences, times: ArrayLike, *, cause: int = 1) -> Floats:
        """P(`cause` happened by each of `times`, the others competing) (n, t); straight lines within a period."""
        curves = []
        for logs in self._log_hazards(X):
            survival = np.exp(np.cumsum(logs[:, :, 0], axis=1))
            entered = np.hstack([np.ones((len(survival), 1)), survival[:, :-1]])
            curves.append(np.cumsum(entered * np.exp(logs[:, :, cause]), axis=1))
        return interpolated(np.mean(curves, axis=0), self.cuts_, np.asarray(times, dtype=np.float64))

    def predict(self, X: AnySequences) -> Floats:
        """Risk score (n,): the probability of cause 1 by the end of the last period."""
        return self.predict_incidence(X, [self.cuts_[-1]])[:, 0]

    def _own_state(self) -> dict[str, Any]:
        return {"cuts": self.cuts_.tolist(), "causes": self.causes_}

    def _take_state(self, state: dict[str, Any]) -> None:
        self.cuts_, self.causes_ = np.asarray(state["cuts"]), state["causes"]
        self.unique_times_ = self.cuts_[1:]


def row_weights(sample_weight: ArrayLike | None, rows: int) -> NDArray[np.float64]:
    """Weights (n,), 1 where none are given. InputError for another number of them, or a negative one."""
    weights = np.ones(rows) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if weights.shape != (rows,) or not (weights >= 0).all():
        raise InputError(f"sample weights must be {rows} numbers, none of them negative; got shape {weights.shape}")
    return weights


def causes_and_times(y: Any, rows: int) -> tuple[NDArray[np.int64], Floats]:
    """Cause (0 censored) and time, the first and the second field of a structured array."""
    names = getattr(getattr(y, "dtype", None), "names", None)
    if names is None or len(names) != 2 or len(y) != rows:
        raise InputError(f"a survival target is a structured array of (event or cause, time), {rows} rows of it")
    cause, time = np.asarray(y[names[0]]).astype(np.int64), np.asarray(y[names[1]], dtype=np.float64)
    if not np.isfinite(time).all() or (time < 0).any() or (cause < 0).any() or not (cause > 0).any():
        raise InputError("survival times must be finite and not negative, and at least one row must have an event")
    return cause, time


def interpolated(curve: Floats, cuts: Floats, times: Floats) -> Floats:
    """Probabilities (n, k) at the ends of periods, read at times (t,) along straight lines, flat after the end."""
    from_zero = np.hstack([np.zeros((len(curve), 1)), curve])
    at = np.clip(np.searchsorted(cuts, times, side="left"), 1, len(cuts) - 1)
    share = np.clip((times - cuts[at - 1]) / (cuts[at] - cuts[at - 1]), 0.0, 1.0)
    return from_zero[:, at - 1] * (1 - share) + from_zero[:, at] * share


def _of_member(options: dict[str, Any], member: int) -> dict[str, Any]:
    """The options of one member, whose checkpoint is a file of its own."""
    from dataclasses import replace

    checkpoint: Checkpoint | None = options.get("checkpoint")
    if checkpoint is None:
        return options
    return options | {
        "checkpoint": replace(checkpoint, path=checkpoint.path.with_name(f"{checkpoint.path.name}.{member}"))
    }
