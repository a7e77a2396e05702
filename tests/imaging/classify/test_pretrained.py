"""Weights of others: what is taken, changed, left and refused. `test_networks` holds the logits."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peer_logits import fill, picture
from safetensors.torch import save_file

from careloop import InputError
from careloop.imaging.classify.foreign_settings import TORCHXRAYVISION, architecture_of, input_format_of
from careloop.imaging.classify.image_classifier import ImageClassifier
from careloop.imaging.classify.model import InputFormat, Intensities
from careloop.imaging.classify.networks import build_classifier
from careloop.imaging.classify.pretrained import load_pretrained

SMALL = {"name": "resnet-small", "depths": (1, 1), "widths": (8, 16)}


def network(channels: int = 3, outputs: int = 5, **shape: Any) -> ImageClassifier:
    return build_classifier(SMALL | shape, channels=channels, outputs=outputs).eval()


def saved(module: torch.nn.Module, path: Path) -> Path:
    save_file(fill(module), str(path))
    return path


def test_another_number_of_outputs_gives_a_new_head(tmp_path: Path) -> None:
    path = saved(network(), tmp_path / "a.safetensors")
    own = network(outputs=2)
    before = own.fc.weight.detach().clone()
    said = load_pretrained(own, path)
    assert (said.share, said.head, said.missing) == (1.0, "new", ())
    assert dict(said.unused)["fc.weight"] == "shape (5, 16) in the file, (2, 16) in the network"
    assert torch.equal(own.fc.weight, before)
    assert "head new" in said.in_words()


def test_three_channels_and_one_answer_alike_to_grey(tmp_path: Path) -> None:
    """The first layer is linear: with equal channels one summed channel and three of a third each give the same."""
    grey = picture(1, 16)
    colour, one, three = network(3), network(1), network(3)
    said = load_pretrained(one, saved(colour, tmp_path / "3.safetensors"))
    assert said.changed == (("conv1.weight", "three channels summed into one"),)
    torch.testing.assert_close(one(grey), colour(grey.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)
    load_pretrained(three, saved(one, tmp_path / "1.safetensors"))
    torch.testing.assert_close(three(grey.expand(-1, 3, -1, -1)), one(grey), rtol=1e-4, atol=1e-4)


def test_names_of_the_first_densenet_files(tmp_path: Path) -> None:
    peer = build_classifier({"name": "densenet-small"}, channels=1, outputs=2)
    old = {name: value.clone() for name, value in fill(peer).items()}
    for part in ("norm1", "norm2", "conv1", "conv2"):
        first_name = f".{part[:-1]}.{part[-1]}."
        old = {n.replace(f".{part}.", first_name) if "denselayer" in n else n: v for n, v in old.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save({"state_dict": {f"module.{name}": value for name, value in old.items()}}, tmp_path / "old.pth.tar")
    own = build_classifier({"name": "densenet-small"}, channels=1, outputs=2)
    assert load_pretrained(own, tmp_path / "old.pth.tar").unused == ()
    torch.testing.assert_close(own.eval()(picture(1, 16)), peer.eval()(picture(1, 16)))


def test_weights_of_another_network_are_refused_and_change_nothing(tmp_path: Path) -> None:
    path = saved(network(widths=(8, 24)), tmp_path / "a.safetensors")
    own = network()
    before = {name: value.clone() for name, value in own.state_dict().items()}
    with pytest.raises(InputError, match=r"fits \d+% of the network's body.*choose the network"):
        load_pretrained(own, path)
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())
    assert 0 < load_pretrained(own, path, least_share=0.0).share < 0.9


def test_a_pickled_module_is_refused_with_the_remedy(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "whole.pt")
    with pytest.raises(InputError, match=r"never run here.*state_dict"):
        load_pretrained(network(), tmp_path / "whole.pt")


def test_no_code_in_a_file_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[Path]]:
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    torch.save({"state_dict": Evil()}, tmp_path / "evil2.pt")
    for name in ("evil.pt", "evil2.pt"):
        with pytest.raises(InputError):
            load_pretrained(network(), tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.onnx"])
def test_damaged_files_and_other_formats_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"no weights")
    with pytest.raises(InputError):
        load_pretrained(network(), tmp_path / name)
    with pytest.raises(InputError, match=r"no model\.safetensors"):
        load_pretrained(network(), tmp_path)


def test_a_folder_of_timm(tmp_path: Path) -> None:
    peer = build_classifier({"name": "resnet18"}, channels=3, outputs=5)
    saved(peer, tmp_path / "model.safetensors")
    preprocessing = {"input_size": [3, 160, 192], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18", "pretrained_cfg": preprocessing}))
    architecture = architecture_of(tmp_path)
    assert architecture == {"name": "resnet18"}
    assert load_pretrained(build_classifier(architecture, channels=3, outputs=5), tmp_path).head == "kept"
    eight_bits = Intensities("range", 0, 255)
    assert input_format_of(tmp_path) == InputFormat(
        (160, 192), 3, eight_bits, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("convnext_atto", [40, 80, 160, 320]), ("convnext_small", [96, 192, 384, 768])],
)
def test_names_of_timm_make_the_shapes_of_convnext(name: str, sizes: list[int], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architecture": name}))
    architecture = architecture_of(tmp_path)
    assert architecture is not None
    assert architecture["config"]["hidden_sizes"] == sizes
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "nfnet_f0"}))
    with pytest.raises(InputError, match="nfnet_f0 is not known"):
        architecture_of(tmp_path)


def test_a_folder_of_torchxrayvision_says_its_range(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"library": "torchxrayvision"}))
    assert input_format_of(tmp_path) == TORCHXRAYVISION
    assert architecture_of(tmp_path) == {"name": "densenet121"}


def hugging_face(kind: str) -> Any:
    from transformers import ConvNextConfig, ConvNextForImageClassification, ViTConfig, ViTForImageClassification

    if kind == "convnext":
        config = ConvNextConfig(num_labels=4, hidden_sizes=[8, 16], depths=[1, 1], num_stages=2)
        return ConvNextForImageClassification(config)
    shape = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48}
    return ViTForImageClassification(ViTConfig(image_size=32, patch_size=8, num_labels=4, **shape))


@pytest.mark.parametrize("kind", ["convnext", "vit"])
def test_a_folder_of_hugging_face_gives_the_logits_of_transformers(kind: str, tmp_path: Path) -> None:
    peer = hugging_face(kind)
    fill(peer)
    peer.save_pretrained(tmp_path)
    scale = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": {"height": 32, "width": 48}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(scale))
    architecture = architecture_of(tmp_path)
    assert architecture is not None
    own = build_classifier(architecture, channels=3, outputs=4).eval()
    said = load_pretrained(own, tmp_path)
    assert (said.share, said.head, said.unused) == (1.0, "kept", ())
    with torch.inference_mode():
        expected = peer.eval()(picture(3, 32)).logits
        torch.testing.assert_close(own(picture(3, 32)), expected, rtol=1e-4, atol=1e-4)
    assert input_format_of(tmp_path) == InputFormat(
        (32, 48), 3, Intensities("range", 0, 255), mean=(0.5,) * 3, std=(0.25,) * 3
    )


def test_position_embeddings_are_interpolated_to_another_size(tmp_path: Path) -> None:
    """As transformers does itself where an image has another size than the network was made for."""
    peer = hugging_face("vit")
    fill(peer)
    peer.save_pretrained(tmp_path)
    architecture = architecture_of(tmp_path)
    assert architecture is not None
    larger = architecture | {"config": architecture["config"] | {"image_size": 48}}
    own = build_classifier(larger, channels=3, outputs=4).eval()
    said = load_pretrained(own, tmp_path)
    assert said.changed == (("body.embeddings.position_embeddings", "16 positions interpolated to 36"),)
    with torch.inference_mode():
        expected = peer.eval()(picture(3, 48), interpolate_pos_encoding=True).logits
        np.testing.assert_allclose(own(picture(3, 48)), expected, rtol=1e-4, atol=1e-4)
