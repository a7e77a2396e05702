"""Maps beside closed forms and captum's own example, and where a planted square is."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from planted_squares import Detector, Planted, learn, planted
from torch import nn

from careloop import InputError
from careloop.imaging.classify.image_classifier import ImageClassifier
from careloop.imaging.classify.networks import build_classifier
from careloop.imaging.explain.maps import SIGNED, Method, integrated_gradients, mapper
from careloop.imaging.explain.scored import Scored, blurred

METHODS: tuple[Method, ...] = ("grad_cam", "integrated_gradients", "occlusion")


class Linear(ImageClassifier):
    """Logits 0 and w * image, so that what each pixel contributes is known."""

    head_name, first_name, embedding_size = "last", "filter", 1

    def __init__(self, weights: np.ndarray) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.from_numpy(weights.astype(np.float32)))
        self.last = nn.Linear(1, 2, bias=False)
        with torch.no_grad():
            self.last.weight.copy_(torch.tensor([[0.0], [1.0]]))

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weights

    def pool(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.flatten(1).sum(1, keepdim=True)


@lru_cache(maxsize=1)
def learned() -> tuple[ImageClassifier, Planted]:
    torch.set_num_threads(1)
    return learn(planted(640, 0), epochs=8), planted(60, 1)


@pytest.mark.parametrize("size", [(10, 12), (6, 8, 7)])
def test_of_a_linear_network_integrated_gradients_are_weight_times_difference(size: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    weights, images = random.normal(size=size), random.normal(size=(3, 1, *size)).astype(np.float32)
    found = integrated_gradients(Scored(Linear(weights)), images, 1)
    np.testing.assert_allclose(found, (weights * (images - blurred(images)))[:, 0], atol=1e-5)
    np.testing.assert_allclose(integrated_gradients(Scored(Linear(weights)), images, 0), -found, atol=1e-5)


def test_of_a_linear_network_occlusion_is_the_fall_of_each_window() -> None:
    random = np.random.default_rng(0)
    weights, images = random.normal(size=(32, 32)), random.normal(size=(1, 1, 32, 32)).astype(np.float32)
    found = mapper("occlusion")(Scored(Linear(weights)), images, 1)[0]
    contribution = (weights * (images - blurred(images)))[0, 0]
    # windows of 4 every 2 pixels: pixels 2 to 29 lie in two windows an axis, and the map is the mean of the four
    falls = np.lib.stride_tricks.sliding_window_view(contribution, (4, 4))[::2, ::2].sum(axis=(2, 3))
    wanted = falls[2:4, 5:7].mean()
    np.testing.assert_allclose(found[6:8, 12:14], wanted, atol=1e-4)


def test_grad_cam_of_the_detector_is_its_map_times_its_weight() -> None:
    data, network = planted(4, 3), Detector()
    found = mapper("grad_cam")(Scored(network), data.images, 1)
    with torch.no_grad():
        wanted = 20 * network.maps(torch.from_numpy(data.images))[:, 0].numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ["resnet-small", "densenet-small"])
@pytest.mark.parametrize("size", [(16, 16), (8, 12, 10)])
def test_maps_of_networks_are_complete_and_on_the_grid(architecture: str, size: tuple[int, ...]) -> None:
    from careloop.imaging.classify.architecture import ARCHITECTURES

    torch.manual_seed(1)
    shape = ARCHITECTURES[architecture] | {"dimensions": len(size)}
    scored = Scored(build_classifier(shape, channels=1, outputs=3).eval())
    images = np.random.default_rng(1).normal(size=(2, 1, *size)).astype(np.float32)
    found = {method: mapper(method)(scored, images, 2) for method in METHODS}
    assert {m.shape for m in found.values()} == {(2, *size)}
    assert (found["grad_cam"] >= 0).all()
    assert SIGNED == {"grad_cam": False, "integrated_gradients": True, "occlusion": True}
    change = scored.log_odds(images, 2) - scored.log_odds(blurred(images), 2)
    np.testing.assert_allclose(
        found["integrated_gradients"].sum(axis=tuple(range(1, images.ndim - 1))), change, rtol=0.1, atol=0.02
    )


def test_captums_own_example() -> None:
    """ToyModel of captum's documentation of integrated gradients, f = relu(relu(x1) - 1 - relu(x2)), as an image."""

    class Toy(Linear):
        def maps(self, x: torch.Tensor) -> torch.Tensor:
            first, second = x[..., 0, 0], x[..., 0, 1]
            return torch.relu(torch.relu(first) - 1 - torch.relu(second))[..., None, None]

    def value(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.relu(x[:, 0]) - 1 - torch.relu(x[:, 1]))

    image = np.array([[[[3.0, 1.0]]]], dtype=np.float32)
    start = torch.from_numpy(blurred(image)[:, 0, 0])
    wanted = IntegratedGradients(value).attribute(torch.tensor([[3.0, 1.0]]), start, n_steps=32)
    found = integrated_gradients(Scored(Toy(np.ones(1))), image, 1)
    np.testing.assert_allclose(found[0, 0], wanted[0].numpy(), atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_planted_square_lies_in_the_top_of_the_map(method: Method) -> None:
    network, data = learned()
    shown = data.label == 1
    maps = mapper(method)(Scored(network), data.images[shown], 1)
    inside = [
        float(np.mean(m[square] >= np.quantile(m, 0.9))) for m, square in zip(maps, data.square[shown], strict=True)
    ]
    peak = [
        bool(_widened(square)[np.unravel_index(m.argmax(), m.shape)])
        for m, square in zip(maps, data.square[shown], strict=True)
    ]
    assert np.mean(peak) >= 0.9
    assert np.mean(inside) >= (0.3 if method == "integrated_gradients" else 0.6)  # those favour the square's border


def _widened(square: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_dilation

    return np.asarray(binary_dilation(square, iterations=2))


def test_log_odds_of_independent_labels_are_the_logits() -> None:
    data, network = planted(6, 0), Detector()
    with torch.no_grad():
        logits = network(torch.from_numpy(data.images)).numpy()
    np.testing.assert_allclose(Scored(network, "multi").log_odds(data.images, 1), logits[:, 1], rtol=1e-5)
    np.testing.assert_allclose(Scored(network).log_odds(data.images, 1), logits[:, 1] - logits[:, 0], rtol=1e-5)


def test_refuses_unknown_methods() -> None:
    with pytest.raises(InputError, match="must be grad_cam"):
        mapper("lime")  # type: ignore[arg-type]
