"""What is explained: a network whose logits are read as log-odds of labels, and an image without its detail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from careloop.imaging.classify.image_classifier import ImageClassifier

    Floats = NDArray[np.floating[Any]]

VOXELS_AT_ONCE = 2**19  # of images that go through the network together, so that memory stays small in 3D too
BLUR = 0.1  # standard deviation of the blur, of the image's length along each axis: a tenth leaves no detail


@dataclass(frozen=True, eq=False)
class Scored:
    """A network in evaluation mode and what its logits are: `single`, one label of several, or `multi`, any number."""

    network: ImageClassifier
    kind: Literal["single", "multi"] = "single"

    def log_odds(self, images: Floats, label: int) -> NDArray[np.float64]:
        """Log-odds (n,) of a label, before calibration, in images (n, channels, *size)."""
        import torch

        from careloop.imaging.explain.scoring import LogOdds

        scoring, found = LogOdds(self.network, label, kind=self.kind), [np.empty(0)]
        with torch.no_grad():
            for at in batches(images):
                found.append(scoring(tensor(images[at], self)).cpu().numpy().astype(np.float64))
        return np.concatenate(found)


def batches(images: Floats) -> list[slice]:
    """Parts of the images that go through the network together."""
    size = max(1, VOXELS_AT_ONCE // max(1, int(np.prod(images.shape[1:]))))
    return [slice(at, at + size) for at in range(0, len(images), size)]


def tensor(images: Floats, scored: Scored) -> torch.Tensor:
    """The images as the network takes them, where it lies."""
    import torch

    device = next(scored.network.parameters()).device
    return torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32)).to(device)


def blurred(images: Floats) -> NDArray[np.float32]:
    """Images (n, channels, *size) without their detail, in place of what is taken away from them.

    A black or grey patch would itself be something to see (Sturmfels, Lundberg and Lee, Distill 2020).
    """
    from scipy.ndimage import gaussian_filter

    sigma = (0.0, 0.0, *(BLUR * length for length in images.shape[2:]))
    return np.asarray(gaussian_filter(np.asarray(images, dtype=np.float32), sigma, mode="nearest"), dtype=np.float32)
