"""Keras 3 models on the torch backend, compiled or not, as they are: trained by careloop's own loop."""

from __future__ import annotations

import copy
import random
import warnings
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from careloop import InputError
from careloop.models.fully_connected import classifier_rows, sgd_step, two_columns
from careloop.models.inputs import check_matrix

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric

    from careloop.models.network_loop import LoopSettings, Loss, Step

PREDICT_ROWS = 4096


class KerasClassifier(ClassifierMixin, BaseEstimator):
    """A Keras model with one output as a binary classifier, trained on a copy, from the weights that it brings.

    A compiled model keeps its loss and its optimizer; an uncompiled one gets binary cross-entropy and plain SGD with
    `learning_rate`. Early stopping and validation rows are as in `FullyConnected`; Keras' metrics and callbacks take no
    part. A stack of plain Dense layers (relu, then sigmoid) under plain SGD takes the written-out step.

    Fitted: `model_` (Keras model), `classes_`, `epochs_` (losses by epoch).
    """

    def __init__(
        self,
        model: Any,
        *,
        learning_rate: float = 0.01,
        batch_size: int = 32,
        patience: int = 3,
        max_epochs: int = 100,
        validation_fraction: float = 0.1,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.patience = patience
        self.max_epochs = max_epochs
        self.validation_fraction = validation_fraction
        self.seed = seed

    def fit(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None, *, validation: tuple[Any, ...] | None = None
    ) -> Self:
        """Fit on X (n, p) and two classes y (n,); `validation` is (X, y) or (X, y, sample_weight)."""
        keras = _keras_on_torch()
        from careloop.models.network_loop import LoopSettings, train_network

        training, held = classifier_rows(self, X, y, sample_weight, validation)
        self.model_ = _own_copy(self.model, self.n_features_in_, self.seed)
        if not self.model_.compiled:
            loss = keras.losses.BinaryCrossentropy(from_logits=not _ends_in_sigmoid(self.model_))
            self.model_.compile(keras.optimizers.SGD(self.learning_rate), loss)
        names = ("batch_size", "max_epochs", "patience", "seed")
        settings = LoopSettings(**{name: getattr(self, name) for name in names}, device=_keras_device(keras))
        module = _as_module(self.model_)
        make_step = _dense_step if _is_plain_stack(self.model_) else _keras_step
        self.epochs_ = train_network(
            module, training, held, loss=_keras_loss(self.model_), settings=settings, make_step=make_step
        )
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities (n, 2) of the two `classes_`."""
        import torch

        check_is_fitted(self)
        matrix = check_matrix(self, X, dtype=np.float32, reset=False)
        starts = range(0, len(matrix), PREDICT_ROWS)
        with torch.no_grad():
            parts = [self.model_(matrix[start : start + PREDICT_ROWS], training=False).cpu() for start in starts]
        outputs = torch.cat(parts).numpy().reshape(-1).astype(np.float64)
        return two_columns(expit(outputs) if _gives_logits(self.model_) else outputs)

    def predict(self, X: Any) -> NDArray[Any]:
        """The likelier class (n,)."""
        likelier = (self.predict_proba(X)[:, 1] > 0.5).astype(int)
        return self.classes_[likelier]

    def get_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Parameters and the architecture as Keras' JSON, and weights numbered in Keras' order."""
        check_is_fitted(self)
        parameters = {name: value for name, value in self.get_params().items() if name != "model"}
        plain = {"parameters": parameters, "classes": self.classes_.tolist(), "columns": self.n_features_in_}
        return plain | {"model": self.model_.to_json()}, {str(i): w for i, w in enumerate(self.model_.get_weights())}

    @classmethod
    def from_state(cls, state: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The fitted model that `get_state` described; Keras refuses architectures that hold Python code."""
        keras = _keras_on_torch()
        model = keras.models.model_from_json(state["model"])
        model.set_weights([arrays[str(i)] for i in range(len(arrays))])
        fitted = cls(model, **state["parameters"])
        fitted.model_, fitted.classes_ = model, np.asarray(state["classes"])
        fitted.n_features_in_ = state["columns"]
        return fitted

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


def _keras_on_torch() -> Any:
    import keras

    if keras.backend.backend() != "torch":
        raise InputError(
            f"Keras runs on the backend '{keras.backend.backend()}', and careloop's loop on torch. "
            "Set the environment variable KERAS_BACKEND=torch before Keras is first imported."
        )
    return keras


def _own_copy(model: Any, columns: int, seed: int) -> Any:
    """A built copy; what the model leaves open (first weights, dropout) Keras draws from Python's `random`."""
    before = random.getstate()
    random.seed(seed)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")  # a fresh optimizer is wanted
            own = copy.deepcopy(model)
        if not own.built:
            own(np.zeros((1, columns), dtype=np.float32))
    except TypeError as error:
        raise InputError(
            f"Keras cannot copy the model of class {type(model).__name__}: its configuration does not make it. "
            "Decorate the class with keras.saving.register_keras_serializable() and let its __init__ take **kwargs."
        ) from error
    finally:
        random.setstate(before)
    return own


def _keras_device(keras: Any) -> str:
    """The kind of device on which Keras keeps its weights."""
    return str(keras.src.backend.torch.core.get_device()).split(":")[0]


def _as_module(model: Any) -> torch.nn.Module:
    """The Keras model as a module whose training mode reaches Keras' `training` argument."""
    import torch

    class KerasModule(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.model(inputs, training=self.training)

    return KerasModule()


def _ends_in_sigmoid(model: Any) -> bool:
    activation = getattr(model.layers[-1], "activation", None) or model.layers[-1]
    return getattr(activation, "__name__", type(activation).__name__).lower() == "sigmoid"


def _gives_logits(model: Any) -> bool:
    """Whether the outputs are log-odds: what the loss says, and where it says nothing, the last layer."""
    said = getattr(model.loss, "from_logits", None) if model.compiled else None
    return not _ends_in_sigmoid(model) if said is None else bool(said)


def _keras_loss(model: Any) -> Loss:
    import keras

    function = keras.losses.get(model.loss)

    def loss(outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
        if isinstance(function, keras.losses.Loss):
            return function(targets[:, None], outputs, sample_weight=weights) + sum(model.losses)
        by_row = function(targets[:, None], outputs)
        return (by_row if weights is None else by_row * weights).mean() + sum(model.losses)

    return loss


def _keras_step(
    network: torch.nn.Module, loss: Loss, settings: LoopSettings, fabric: Fabric
) -> tuple[torch.nn.Module, Step]:
    """Autograd's step with the optimizer that the model was compiled with."""
    import torch

    model: Any = network.model
    variables = model.trainable_variables

    def step(batch: Any) -> torch.Tensor:
        network.zero_grad()
        value = loss(network(batch.inputs), batch.targets, batch.weights)
        value.backward()
        with torch.no_grad():
            model.optimizer.apply([variable.value.grad for variable in variables], variables)
        return value.detach()

    return network, step


def _dense_step(
    network: torch.nn.Module, loss: Loss, settings: LoopSettings, fabric: Fabric
) -> tuple[torch.nn.Module, Step]:
    """The written-out step on the Keras layers' own weights."""
    import dataclasses

    from careloop.models.fully_connected import logit_loss

    model: Any = network.model
    layers = [(layer.kernel.value.detach().t(), layer.bias.value.detach()) for layer in model.layers]
    settings = dataclasses.replace(settings, learning_rate=float(model.optimizer.learning_rate))
    return network, sgd_step(layers, logit_loss, settings)


def _is_plain_stack(model: Any) -> bool:
    """Whether the model is what the written-out step computes: compared by configuration, so that any option counts."""
    import keras

    if type(model) is not keras.Sequential or any(type(layer) is not keras.layers.Dense for layer in model.layers):
        return False
    activations = ["relu"] * (len(model.layers) - 1) + ["sigmoid"]
    plain_layers = [keras.layers.Dense(layer.units, a) for layer, a in zip(model.layers, activations, strict=True)]
    plain_optimizer = keras.optimizers.SGD(float(model.optimizer.learning_rate))
    loss, cross_entropy = keras.losses.get(model.loss), keras.losses.BinaryCrossentropy()
    return (
        all(_is_same(layer, plain) for layer, plain in zip(model.layers, plain_layers, strict=True))
        and _is_same(model.optimizer, plain_optimizer)
        and (loss is keras.losses.binary_crossentropy or _is_same(loss, cross_entropy))
    )


def _is_same(found: Any, plain: Any) -> bool:
    """One class and one configuration, but for the name and how the weights, which exist already, were drawn."""
    free = ("name", "kernel_initializer", "bias_initializer")
    configs = [{k: v for k, v in part.get_config().items() if k not in free} for part in (found, plain)]
    return type(found) is type(plain) and configs[0] == configs[1]
