"""Binary classifiers on the training loop: a fully connected network, and any Keras model with one output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from careloop import InputError
from careloop.models.inputs import check_labels, check_matrix, check_weights

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric

    from careloop.models.network_loop import LoopSettings, Loss, Rows, Step

ACTIVATIONS = {"relu": "ReLU", "tanh": "Tanh", "gelu": "GELU", "silu": "SiLU"}


class FullyConnected(ClassifierMixin, BaseEstimator):
    """Fully connected network with one sigmoid output, trained on binary cross-entropy with early stopping.

    Without `validation` in `fit`, `validation_fraction` of the rows (drawn by class with `seed`) are kept for early
    stopping; where rows of one subject must stay together, pass `validation`. Features should be standardised. The
    weights after `fit` are those of the epoch with the best validation loss.

    Fitted: `network_` (torch.nn.Sequential, gives log-odds), `classes_`, `epochs_` (losses by epoch).
    """

    def __init__(
        self,
        *,
        hidden: tuple[int, ...] = (256, 128),
        activation: str = "relu",
        optimizer: str = "sgd",
        learning_rate: float = 0.01,
        batch_size: int = 32,
        patience: int = 3,
        max_epochs: int = 100,
        validation_fraction: float = 0.1,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.patience = patience
        self.max_epochs = max_epochs
        self.validation_fraction = validation_fraction
        self.seed = seed
        self.device = device

    def fit(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None, *, validation: tuple[Any, ...] | None = None
    ) -> Self:
        """Fit on X (n, p) and two classes y (n,); `validation` is (X, y) or (X, y, sample_weight)."""
        import torch

        from careloop.models.network_loop import LoopSettings, train_network

        names = ("optimizer", "learning_rate", "batch_size", "max_epochs", "patience", "seed", "device")
        settings = LoopSettings(**{name: getattr(self, name) for name in names})
        training, held = classifier_rows(self, X, y, sample_weight, validation)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.network_ = make_network(self.n_features_in_, self.hidden, self.activation)
            plain = self.optimizer == "sgd" and self.activation == "relu"
            make_step = written_out_step if plain else None
            self.epochs_ = train_network(
                self.network_, training, held, loss=logit_loss, settings=settings, make_step=make_step
            )
        self.network_.to("cpu")
        return self

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Log-odds (n,) of the second class."""
        check_is_fitted(self)
        return forward(self.network_, check_matrix(self, X, dtype=np.float32, reset=False))

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities (n, 2) of the two `classes_`."""
        return two_columns(expit(self.decision_function(X)))

    def predict(self, X: Any) -> NDArray[Any]:
        """The likelier class (n,)."""
        likelier = (self.decision_function(X) > 0).astype(int)
        return self.classes_[likelier]

    def get_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Parameters for JSON, and weights by name for safetensors."""
        check_is_fitted(self)
        plain = {"parameters": self.get_params(), "classes": self.classes_.tolist(), "columns": self.n_features_in_}
        return plain, {name: value.numpy() for name, value in self.network_.state_dict().items()}

    @classmethod
    def from_state(cls, state: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The fitted network that `get_state` described."""
        import torch

        model = cls(**state["parameters"])
        model.classes_, model.n_features_in_ = np.asarray(state["classes"]), state["columns"]
        model.network_ = make_network(model.n_features_in_, model.hidden, model.activation)
        model.network_.load_state_dict({name: torch.tensor(value) for name, value in arrays.items()})
        model.network_.eval()
        return model

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


def make_network(inputs: int, hidden: tuple[int, ...], activation: str) -> torch.nn.Sequential:
    """Linear layers with `activation` between them and one output in log-odds; Glorot weights, zero biases."""
    import torch

    if activation not in ACTIVATIONS:
        raise InputError(f"Activation '{activation}' is not known; choose one of {', '.join(ACTIVATIONS)}.")
    layers: list[torch.nn.Module] = []
    for width_in, width_out in zip((inputs, *hidden), (*hidden, 1), strict=True):
        linear = torch.nn.Linear(width_in, width_out)
        torch.nn.init.xavier_uniform_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
        layers += [linear, getattr(torch.nn, ACTIVATIONS[activation])()]
    return torch.nn.Sequential(*layers[:-1])


def logit_loss(outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Mean (weighted) binary cross-entropy of log-odds (n, 1) against 0 and 1 (n,)."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    return binary_cross_entropy_with_logits(outputs.squeeze(1), targets, weight=weights)


def written_out_step(
    network: torch.nn.Module, loss: Loss, settings: LoopSettings, fabric: Fabric
) -> tuple[torch.nn.Module, Step]:
    """Plain SGD on linear layers with relu between them and one output in log-odds, its gradient written out.

    A layer's gradient is added to its weights as it is formed, without a buffer of its own: the weights stay in the
    cache, and a step takes about half the time that autograd and an optimizer take. The same numbers, up to rounding.
    """
    import torch

    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)]
    return network, sgd_step([(layer.weight.detach(), layer.bias.detach()) for layer in layers], loss, settings)


def sgd_step(layers: list[tuple[torch.Tensor, torch.Tensor]], loss: Loss, settings: LoopSettings) -> Step:
    """The step over `layers` of weights (out, in) and biases (out,), which it changes in place."""
    import torch

    rate = settings.learning_rate

    @torch.no_grad()
    def step(batch: Rows) -> torch.Tensor:
        inputs = [batch.inputs]  # of every layer
        for weight, bias in layers[:-1]:
            inputs.append(torch.addmm(bias, inputs[-1], weight.t()).relu_())
        weight, bias = layers[-1]
        outputs = torch.addmm(bias, inputs[-1], weight.t())
        # the loss's gradient by the log-odds
        error = (outputs.sigmoid() - batch.targets[:, None]) / len(batch.targets)
        if batch.weights is not None:
            error *= batch.weights[:, None]
        for depth in range(len(layers) - 1, -1, -1):
            weight, bias = layers[depth]
            below = (error @ weight).mul_(inputs[depth] > 0) if depth else error
            weight.addmm_(error.t(), inputs[depth], alpha=-rate)
            bias.sub_(error.sum(0), alpha=rate)
            error = below
        return loss(outputs, batch.targets, batch.weights)

    return step


def forward(network: torch.nn.Module, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
    """Outputs (n,) of a network with one output, in evaluation mode."""
    import torch

    from careloop.models.network_loop import ROWS_AT_ONCE, cpu_threads

    with torch.no_grad(), cpu_threads(1):
        parts = [network(part).reshape(-1) for part in _tensor(matrix).split(ROWS_AT_ONCE)]
    return torch.cat(parts).numpy().astype(np.float64)


def two_columns(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of both classes (n, 2) from those of the second (n,)."""
    return np.column_stack([1 - probability, probability])


def classifier_rows(
    estimator: Any, X: Any, y: ArrayLike, sample_weight: ArrayLike | None, validation: tuple[Any, ...] | None
) -> tuple[Rows, Rows | None]:
    """Training and validation rows as tensors; sets `classes_` and `n_features_in_` of the estimator."""
    matrix, labels = check_matrix(estimator, X, y=y, dtype=np.float32)
    estimator.classes_, targets = check_labels(labels)
    weights = check_weights(sample_weight, matrix)
    if validation is not None:
        return _rows(matrix, targets, weights), _validation_rows(estimator, *validation)
    kept = _stratified_draw(targets, estimator.validation_fraction, estimator.seed)
    held = _rows(matrix[kept], targets[kept], None if weights is None else weights[kept]) if kept.any() else None
    return _rows(matrix[~kept], targets[~kept], None if weights is None else weights[~kept]), held


def _validation_rows(estimator: Any, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Rows:
    matrix, labels = check_matrix(estimator, X, y=y, dtype=np.float32, reset=False)
    if not np.isin(labels, estimator.classes_).all():
        raise InputError("The validation labels hold a class that the training labels lack; draw the split again.")
    return _rows(matrix, (labels == estimator.classes_[1]).astype(np.float32), check_weights(sample_weight, matrix))


def _rows(matrix: NDArray[Any], targets: NDArray[Any], weights: NDArray[Any] | None) -> Rows:
    from careloop.models.network_loop import Rows

    return Rows(_tensor(matrix), _tensor(targets), None if weights is None else _tensor(weights))


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    """The array as float32, without a copy where torch can share its memory (it wants it writable)."""
    import torch

    return torch.from_numpy(np.require(array, np.float32, ["C", "W"]))


def _stratified_draw(targets: NDArray[np.float32], fraction: float, seed: int) -> NDArray[np.bool_]:
    """True for the rows kept for validation: the same fraction of either class, and never the last row of a class."""
    if not 0 <= fraction < 1:
        raise InputError(f"validation_fraction must be at least 0 and below 1; got {fraction}.")
    random, kept = np.random.default_rng(seed), np.zeros(len(targets), dtype=bool)
    for label in (0, 1):
        rows = random.permutation(np.flatnonzero(targets == label))
        kept[rows[: min(round(fraction * len(rows)), len(rows) - 1)]] = True
    return kept
