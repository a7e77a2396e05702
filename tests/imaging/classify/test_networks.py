"""Networks against torchvision, timm, torchxrayvision and MONAI (stored results) and transformers (run here)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peer_logits import RESULTS, by_name, digest, fill, picture, volume

from careloop import InputError
from careloop.imaging.classify.architecture import ARCHITECTURES, shape_of
from careloop.imaging.classify.image_classifier import ImageClassifier
from careloop.imaging.classify.networks import build_classifier
from careloop.imaging.classify.pretrained import load_pretrained

PEERS = json.loads(RESULTS.read_text())


def logits(network: torch.nn.Module, x: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return network.eval()(x).numpy()


@pytest.mark.parametrize(
    ("peer", "name", "channels", "outputs"),
    [
        ("torchvision resnet18", "resnet18", 3, 5),
        ("torchvision resnet50", "resnet50", 3, 5),
        ("torchvision densenet121", "densenet121", 3, 5),
        ("torchxrayvision densenet121", "densenet121", 1, 18),
    ],
)
def test_names_and_logits_are_those_of_torchvision_and_torchxrayvision(
    peer: str, name: str, channels: int, outputs: int
) -> None:
    network = build_classifier({"name": name}, channels=channels, outputs=outputs)
    state = fill(network)
    assert digest({name: list(value.shape) for name, value in state.items()}) == PEERS[peer]["digest"]
    found = logits(network, picture(channels))[:, :5]
    np.testing.assert_allclose(found, PEERS[peer]["logits"], rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_timm_names_and_computes_as_torchvision(name: str) -> None:
    assert PEERS[f"timm {name}"] == PEERS[f"torchvision {name}"]


@pytest.mark.parametrize(
    ("peer", "architecture"),
    [
        ("timm convnext_atto", {"name": "convnext-atto"}),
        ("timm vit_tiny_patch16_224", {"name": "vit-tiny", "config": {"image_size": 64}, "pooling": "token"}),
    ],
)
def test_weights_of_timm_in_networks_of_transformers_give_timms_logits(
    peer: str, architecture: dict[str, Any], tmp_path: Path
) -> None:
    weights = {name: by_name(name, tuple(shape)) for name, shape in PEERS[peer]["shapes"].items()}
    torch.save(weights, tmp_path / "timm.pth")
    network = build_classifier(architecture, channels=3, outputs=5)
    said = load_pretrained(network, tmp_path / "timm.pth")
    assert (said.share, said.head, said.missing, said.unused) == (1.0, "kept", (), ())
    np.testing.assert_allclose(logits(network, picture(3)), PEERS[peer]["logits"], rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_weights_of_monai_in_space_give_its_logits(name: str, tmp_path: Path) -> None:
    network = build_classifier({"name": name, "dimensions": 3}, channels=1, outputs=5)
    shapes = {monai_name(name): tuple(value.shape) for name, value in network.state_dict().items()}
    assert digest({name: list(shape) for name, shape in shapes.items()}) == PEERS[f"monai {name}"]["digest"]
    weights = {name: by_name(name, shape) for name, shape in shapes.items() if shape}
    torch.save({"state_dict": {f"module.{name}": value for name, value in weights.items()}}, tmp_path / "monai.pt")
    said = load_pretrained(network, tmp_path / "monai.pt")
    assert (said.share, said.head, said.missing, said.unused) == (1.0, "kept", (), ())
    np.testing.assert_allclose(logits(network, volume()), PEERS[f"monai {name}"]["logits"], rtol=2e-4, atol=2e-4)


def monai_name(name: str) -> str:
    """A weight of torchvision's DenseNet as MONAI names it."""
    return re.sub(r"(denselayer\d+)\.", r"\1.layers.", name).replace("classifier.", "class_layers.out.")


CONTRACT = [
    *((name, dimensions) for name in ("resnet-small", "densenet-small") for dimensions in (2, 3)),
    *((name, 2) for name in ("resnet50", "convnext-atto", "vit-tiny")),
]


@pytest.mark.parametrize(("name", "dimensions"), CONTRACT)
def test_every_network_keeps_the_contract(name: str, dimensions: int) -> None:
    network = build_classifier({"name": name, "dimensions": dimensions}, channels=1, outputs=3).eval()
    x = torch.rand(2, 1, *(32 if dimensions == 2 else 16,) * dimensions)
    maps = network.maps(x)
    assert maps.ndim == 2 + dimensions
    assert maps.shape[:2] == (2, network.embedding_size)
    assert network.embed(x).shape == (2, network.embedding_size)
    torch.testing.assert_close(network.head(network.pool(maps)), network(x))
    gradient = torch.autograd.grad(network.head(network.pool(maps))[:, 0].sum(), maps)[0]
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("name", ["resnet-small", "densenet-small", "convnext-atto", "vit-tiny"])
def test_what_images_have_in_common_is_taken_off(name: str) -> None:
    plain = build_classifier({"name": name}, channels=1, outputs=2).eval()
    network = build_classifier({"name": name, "mean_image": (32, 32)}, channels=1, outputs=2).eval()
    common, x = torch.rand(1, 32, 32), torch.rand(2, 1, 32, 32)
    network.load_state_dict(plain.state_dict() | {"mean_image": common})
    with torch.inference_mode():
        torch.testing.assert_close(network(x + common), plain(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["convnext-tiny", "vit-base"])
def test_networks_of_transformers_take_pictures_only(name: str) -> None:
    with pytest.raises(InputError, match="pictures only"):
        shape_of({"name": name, "dimensions": 3})


def test_every_name_is_a_whole_shape() -> None:
    assert {shape_of({"name": name}).dimensions for name in ARCHITECTURES} == {2}


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("name", ["resnet-small", "densenet-small"])
def test_small_networks_are_small(name: str, dimensions: int) -> None:
    network = build_classifier({"name": name, "dimensions": dimensions}, channels=1, outputs=2)
    assert 3e5 < sum(p.numel() for p in network.parameters()) < 1e6


def test_vit_by_class_token_gives_the_logits_of_transformers_and_has_no_pooled_maps() -> None:
    from transformers import ViTConfig, ViTForImageClassification

    shape = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48}
    config = ViTConfig(image_size=32, patch_size=8, num_channels=3, num_labels=4, **shape)
    peer = ViTForImageClassification(config)
    stated = {"family": "transformers", "config": config.to_dict(), "pooling": "token"}
    network = build_classifier(stated, channels=3, outputs=4)
    network.body.load_state_dict(peer.vit.state_dict())
    network.classifier.load_state_dict(peer.classifier.state_dict())
    x = picture(3, 32)
    with torch.inference_mode():
        np.testing.assert_allclose(logits(network, x), peer.eval()(x).logits.numpy(), atol=1e-6)
    with pytest.raises(InputError, match="class token"):
        network.pool(network.maps(x))


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"name": "alexnet"}, "must be one of resnet-small"),
        ({"name": "resnet18", "dimensions": 4}, "2 or 3 dimensions"),
        ({"name": "resnet18", "growth": 3}, "has no growth"),
        ({"name": "resnet18", "depths": "deep"}, "depths"),
        ({"name": "resnet18", "mean_image": (3, 4, 5)}, "mean_image must have 2 axes"),
        ({"dimensions": 2}, "name or a family"),
        ({"family": "transformers", "config": {"model_type": "gpt2"}}, "convnext"),
    ],
)
def test_what_is_no_network_is_refused(architecture: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_classifier(architecture, channels=1, outputs=2)


def test_no_configuration_makes_code_run() -> None:
    stated = {"model_type": "vit", "auto_map": {"AutoModel": "evil.py--Evil"}, "image_size": 32, "hidden_size": 12}
    config = stated | {"num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 12}
    network = build_classifier({"family": "transformers", "config": config}, channels=1, outputs=2)
    assert isinstance(network, ImageClassifier)
