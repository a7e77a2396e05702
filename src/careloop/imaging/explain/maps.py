"""Maps of what in an image speaks for a label: Grad-CAM, integrated gradients and occlusion, by captum.

Sources: Selvaraju et al., ICCV 2017 (Grad-CAM); Sundararajan, Taly and Yan, ICML 2017 (integrated gradients); Zeiler
and Fergus, ECCV 2014, section 4.2 (occlusion).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from careloop import InputError
from careloop.imaging.explain.scored import Scored, batches, blurred, tensor

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

Method = Literal["grad_cam", "integrated_gradients", "occlusion"]
# A network, images (n, channels, *size) and a label -> maps (n, *size) in the same grid.
Mapper = Callable[[Scored, "Floats", int], "NDArray[np.float32]"]

# Whether a map has values below 0, which speak against the label.
SIGNED: dict[Method, bool] = {"grad_cam": False, "integrated_gradients": True, "occlusion": True}
WORDS: dict[Method, str] = {
    "grad_cam": "Grad-CAM",
    "integrated_gradients": "integrated gradients",
    "occlusion": "occlusion",
}
STEPS = 32  # of the path integral: completeness to about 1 % in networks with ReLU
WINDOWS = {2: 8, 3: 5}  # that fit into the image along each axis
AT_ONCE = 8  # occluded copies of each image


def mapper(method: Method) -> Mapper:
    """The function that makes maps by this method. InputError for a method that is none."""
    if method not in get_args(Method):
        raise InputError(f"a map's method must be {', '.join(get_args(Method))}, got '{method}'")
    made = {"grad_cam": grad_cam, "integrated_gradients": integrated_gradients, "occlusion": occlusion}
    return partial(_in_batches, made[method])


def grad_cam(scored: Scored, images: Floats, label: int) -> NDArray[np.float32]:
    """The last maps weighted by their mean gradient, where positive, brought to the image's grid linearly.

    In units of log-odds a place of the last maps, only comparable within the image. InputError for a network that does
    not decide by its last maps (a class token).
    """
    import torch

    from careloop.imaging.explain.scoring import LogOddsByMaps

    scoring = LogOddsByMaps(scored.network, label, kind=scored.kind)
    found = _captum().LayerGradCam(scoring, scoring.maps).attribute(tensor(images, scored), relu_attributions=True)
    mode = "bilinear" if images.ndim == 4 else "trilinear"
    large = torch.nn.functional.interpolate(found, size=images.shape[2:], mode=mode, align_corners=False)
    return _array(large)


def integrated_gradients(scored: Scored, images: Floats, label: int) -> NDArray[np.float32]:
    """Signed parts of the log-odds by which the image differs from its blurred self, all channels together.

    A map adds up to that difference (completeness), up to the error of `STEPS` steps.
    """
    from careloop.imaging.explain.scoring import LogOdds

    path = _captum().IntegratedGradients(LogOdds(scored.network, label, kind=scored.kind))
    inputs, start = tensor(images, scored), tensor(blurred(images), scored)
    found = path.attribute(inputs, start, n_steps=STEPS, internal_batch_size=max(1, len(images)))
    return _array(found)


def occlusion(scored: Scored, images: Floats, label: int) -> NDArray[np.float32]:
    """By how much the log-odds fall when a window is replaced by the blurred image, averaged over windows; signed.

    Windows have an eighth of the image's length along each axis in 2D and overlap by half; in 3D a fifth, side by side.
    """
    from careloop.imaging.explain.scoring import LogOdds

    size = images.shape[2:]
    window = tuple(max(1, -(-length // WINDOWS[len(size)])) for length in size)
    stride = tuple(max(1, length // 2) for length in window) if len(size) == 2 else window
    inputs, fill = tensor(images, scored), tensor(blurred(images), scored)
    channels = int(images.shape[1])
    found = (
        _captum()
        .Occlusion(LogOdds(scored.network, label, kind=scored.kind))
        .attribute(
            inputs,
            sliding_window_shapes=(channels, *window),
            strides=(channels, *stride),
            baselines=fill,
            perturbations_per_eval=AT_ONCE,
        )
    )
    return _array(found / channels)


def _in_batches(made: Mapper, scored: Scored, images: Floats, label: int) -> NDArray[np.float32]:
    parts = [made(scored, images[at], label) for at in batches(images)]
    return np.concatenate([np.empty((0, *images.shape[2:]), np.float32), *parts])


def _array(found: torch.Tensor) -> NDArray[np.float32]:
    """Attributions (n, channels, *size) as (n, *size)."""
    return np.asarray(found.detach().sum(dim=1).cpu().numpy(), dtype=np.float32)


def _captum() -> Any:
    try:
        from captum import attr
    except ImportError as error:
        raise InputError('maps that explain a network need captum: pip install "careloop[imaging]"') from error
    return attr
