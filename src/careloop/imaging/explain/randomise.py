"""A network's weights drawn anew, all at once or from the last layer down, and how much of a map outlives that.

Source: Adebayo, Gilmer, Muelly, Goodfellow, Hardt and Kim, Sanity checks for saliency maps, NeurIPS 2018, section 3.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop.imaging.explain.scored import Scored, batches, tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import nn

    Floats = NDArray[np.floating[Any]]

STAGES = 5  # of the cascade, each with as many layers


def randomised(scored: Scored, images: Floats, *, share: float = 1.0, seed: int = 0) -> Scored:
    """A copy whose last `share` of layers has weights as before any training.

    Layers are counted from the head down, in the order in which the network registers them. Those with a
    `reset_parameters` draw anew by it, other weights are permuted; then the images pass once, so that batch
    normalisation knows the statistics of the new weights.
    """
    import torch

    network = copy.deepcopy(scored.network)
    layers = layers_of(network)
    devices = [p.device for p in network.parameters() if p.device.type == "cuda"][:1]
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        torch.manual_seed(seed)
        for layer in layers[len(layers) - round(share * len(layers)) :]:
            _draw(layer)
    made = Scored(network, scored.kind)
    _settle(made, images)
    return made


def cascade(scored: Scored, images: Floats, *, seed: int = 0) -> Iterator[tuple[float, Scored]]:
    """(share of layers drawn anew, network), from the head alone to all of the network."""
    count = len(layers_of(scored.network))
    for share in sorted({1 / count, *np.linspace(0, 1, STAGES + 1)[1:].tolist()}):
        yield share, randomised(scored, images, share=share, seed=seed)


def layers_of(network: nn.Module) -> list[nn.Module]:
    """Modules that hold weights of their own, the first of the network first and the head last."""
    return [module for module in network.modules() if any(True for _ in module.parameters(recurse=False))]


def rank_agreement(maps: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Spearman's correlation (n,) of each map with its other; 0 where one of the two is blank, as nothing is shared."""
    from scipy.stats import rankdata

    found = np.zeros(len(maps))
    for row, pair in enumerate(zip(maps, others, strict=True)):
        if all(np.ptp(some) > 0 for some in pair):
            found[row] = np.corrcoef(*(rankdata(some.ravel()) for some in pair))[0, 1]
    return found


def _draw(layer: nn.Module) -> None:
    import torch

    reset = getattr(layer, "reset_parameters", None)
    if callable(reset):
        reset()
        return
    for weights in layer.parameters(recurse=False):
        order = torch.randperm(weights.numel(), device=weights.device)
        weights.copy_(weights.flatten()[order].reshape(weights.shape))


def _settle(scored: Scored, images: Floats) -> None:
    """Mean and variance of batch normalisation as the plain average over the images, and evaluation mode."""
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    norms = [module for module in scored.network.modules() if isinstance(module, _BatchNorm)]
    scored.network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for at in batches(images) if norms else ():
            if len(images[at]) > 1:
                scored.network(tensor(images[at], scored))
    scored.network.eval()
