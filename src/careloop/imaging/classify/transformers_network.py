"""ConvNeXt and vision transformers of the library transformers as classification networks for pictures."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from careloop import InputError
from careloop.imaging.classify.architecture import OF_NO_NETWORK, TransformersShape
from careloop.imaging.classify.image_classifier import ImageClassifier

MAPS = ("convnext", "convnextv2")  # model types whose last features are maps
TOKENS = ("vit", "dinov2")  # those whose last features are a class token and a token a patch
LOCAL = {"local_files_only": True, "trust_remote_code": False}


class TransformersNetwork(ImageClassifier):
    """See `TransformersShape`; the network without its head is `body`, the head is `classifier`."""

    head_name = "classifier"

    def __init__(self, shape: TransformersShape, *, channels: int, outputs: int) -> None:
        super().__init__()
        config = config_of(shape.config, channels)
        from transformers import AutoModel

        self.body = AutoModel.from_config(config, trust_remote_code=False)
        if getattr(self.body, "pooler", None) is not None:
            self.body.pooler = None  # a layer after the class token that classification does not use
        self.model_type, self.pooling = str(config.model_type), shape.pooling
        self.embedding_size = int(config.hidden_sizes[-1] if self.model_type in MAPS else config.hidden_size)
        self.patch_size = int(config.patch_size)
        self.classifier = nn.Linear(self.embedding_size, outputs)

    @property
    def first_name(self) -> str:
        """See ImageClassifier."""
        first = "projection" if self.model_type in TOKENS else ""
        return ".".join(part for part in ("body.embeddings.patch_embeddings", first) if part)

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        """See ImageClassifier."""
        last = self._last(x)
        if self.model_type in MAPS:
            return last
        rows, columns = (length // self.patch_size for length in x.shape[2:])
        patches = last[:, last.shape[1] - rows * columns :]
        return patches.transpose(1, 2).reshape(len(x), self.embedding_size, rows, columns)

    def pool(self, maps: torch.Tensor) -> torch.Tensor:
        """See ImageClassifier; InputError where the class token, which is in no map, is what counts."""
        if self.pooling == "token":
            raise InputError(
                "this network decides by its class token, not by maps, so Grad-CAM has nothing to explain it by; use "
                "integrated gradients or occlusion, or train it with pooling: average"
            )
        average = super().pool(maps)
        return cast("torch.Tensor", self.body.layernorm(average)) if self.model_type in MAPS else average

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """See ImageClassifier."""
        return self._last(x)[:, 0] if self.pooling == "token" else self.pool(self.maps(x))

    def _last(self, x: torch.Tensor) -> torch.Tensor:
        how = (
            {"interpolate_pos_encoding": True} if self.model_type == "vit" else {}
        )  # another size than it was made for
        return cast("torch.Tensor", self.body(self.less_mean(x), **how).last_hidden_state)


def config_of(stated: dict[str, Any], channels: int, *, labels: dict[str, str] | None = None) -> Any:
    """The library's configuration, with as many labels where its head is wanted, too.

    InputError for a network that is not taken here, or values that the library refuses.
    """
    try:
        from transformers import AutoConfig
    except ImportError as error:
        raise InputError('ConvNeXt and ViT need transformers: pip install "careloop[imaging]"') from error
    values = {key: value for key, value in stated.items() if key not in OF_NO_NETWORK}
    if labels:
        values["id2label"] = {int(number): name for number, name in labels.items()}
    model_type = str(values.pop("model_type", ""))
    if model_type not in MAPS + TOKENS:
        raise InputError(f"A transformers network must be one of {', '.join(MAPS + TOKENS)}, got '{model_type}'")
    try:
        return AutoConfig.for_model(model_type, **values | {"num_channels": channels})
    except Exception as error:  # whatever the library's checks raise
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"The configuration of {model_type} cannot be used: {reason}") from error
