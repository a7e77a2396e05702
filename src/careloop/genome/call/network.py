"""The caller's network: a genotype likelihood whose trust in each fragment, and whose remaining error, are learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

RATIO = 0  # the fragments' feature that is the log-likelihood ratio (evidence.FRAGMENT_FEATURES)
DOUBT_AT_START = -8.0  # logit: a fragment is first trusted up to about 8 nats


class GenotypeNetwork(nn.Module):
    """Log-probabilities of 0/0, 0/1 and 1/1 of n candidates with up to r fragments.

    Each fragment's log-likelihood ratio d of alternative to reference is scaled and bounded by what is learned of its
    other features: with probability p it says nothing (it was mapped to the wrong place, say), so that its ratio is
    log((1 - p) a + p) - log((1 - p) b + p), a and b being the likelihoods with the larger one 1. Summed over fragments
    these give the genotypes' likelihoods as in Li 2011 (Bioinformatics 27:2987, eq. 2); a second network over pooled
    fragments and site adds a correction, which is 0 before training. `evidence_scale` and `variant_shift` are fitted
    afterwards, on validation samples (train.calibrate). The sums do not depend on the fragments' order.
    """

    site_mean: Tensor
    site_scale: Tensor

    def __init__(self, fragment_features: int, site_features: int, width: int = 32) -> None:
        super().__init__()
        self.fragment_features, self.site_features = fragment_features, site_features
        self.site = nn.Sequential(nn.Linear(site_features, width), nn.ReLU())
        self.fragment = nn.Sequential(
            nn.Linear(fragment_features + width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.trust = nn.Linear(width, 2)
        pooled = site_features + 2 * width + 5
        self.correction = nn.Sequential(
            nn.Linear(pooled, 2 * width),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(2 * width, width),
            nn.ReLU(),
            nn.Linear(width, 3),
        )
        for layer in (self.trust, self.correction[-1]):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.evidence_scale = nn.Parameter(torch.ones(()), requires_grad=False)
        self.variant_shift = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.register_buffer("site_mean", torch.zeros(site_features))
        self.register_buffer("site_scale", torch.ones(site_features))

    def standardise(self, sites: Tensor) -> None:
        """Takes over the mean and spread of the training rows' site features (n, site_features)."""
        self.site_mean.copy_(sites.mean(0))
        self.site_scale.copy_(sites.std(0).clamp_min(0.05))

    def forward(self, fragments: Tensor, present: Tensor, sites: Tensor, log_priors: Tensor) -> Tensor:
        """From `fragments` (n, r, features), `present` (n, r), `sites` (n, features), `log_priors` (n, 3) to (n, 3)."""
        scaled = ((sites - self.site_mean) / self.site_scale).clamp(-5.0, 5.0)
        around = self.site(scaled)
        ratio = fragments[..., RATIO]
        inputs = torch.cat((ratio.unsqueeze(-1) / 10, fragments[..., RATIO + 1 :]), dim=-1)
        seen = self.fragment(torch.cat((inputs, around.unsqueeze(1).expand(-1, fragments.shape[1], -1)), dim=-1))
        scale, doubt = self.trust(seen).unbind(-1)
        bounded = _bounded(ratio * torch.exp(scale.clamp(-3.0, 2.0)), doubt + DOUBT_AT_START) * present
        heterozygous = ((_softplus(bounded) - math.log(2)) * present).sum(1)
        likelihoods = torch.stack((torch.zeros_like(heterozygous), heterozygous, bounded.sum(1)), dim=-1)
        weight = present.unsqueeze(-1)
        count = weight.sum(1).clamp_min(1.0)
        supporting = weight * torch.sigmoid(bounded).unsqueeze(-1)
        pooled = torch.cat(
            (
                (seen * weight).sum(1) / count,
                (seen * supporting).sum(1) / supporting.sum(1).clamp_min(0.1),
                torch.tanh(likelihoods[:, 1:] / 20),
                torch.tanh(likelihoods[:, 1:] / 5),
                torch.log1p(count) / 3,
                scaled,
            ),
            dim=-1,
        )
        evidence = likelihoods + self.correction(pooled)
        over_reference = self.evidence_scale * (evidence[:, 1:] - evidence[:, :1]) + self.variant_shift
        return torch.log_softmax(torch.cat((log_priors[:, :1], log_priors[:, 1:] + over_reference), dim=-1), dim=-1)


def _bounded(ratio: Tensor, doubt: Tensor) -> Tensor:
    """The ratio where the fragment says nothing with probability sigmoid(doubt)."""
    sure, unsure = -_softplus(doubt), -_softplus(-doubt)
    return _log_sum(sure + ratio.clamp_max(0.0), unsure) - _log_sum(sure - ratio.clamp_min(0.0), unsure)


def _log_sum(one: Tensor, other: Tensor) -> Tensor:
    """log(exp(one) + exp(other)); ONNX has no logaddexp."""
    return one + _softplus(other - one)


def _softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), without the overflow that onnxruntime's own Softplus has from 88 on."""
    return torch.relu(x) + torch.log(1.0 + torch.exp(-torch.abs(x)))
