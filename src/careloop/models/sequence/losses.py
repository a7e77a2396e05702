"""What a network's outputs mean: losses for labels, several labels, numbers, and hazards of competing causes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

# (outputs (b, k), targets (b, ...), weights (b,)) -> (weighted sum of the rows' losses, sum of their weights)
Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def binary_loss(
    outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of log-odds (b, 1) with targets 0 or 1 (b,)."""
    losses = nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], targets, reduction="none")
    return (losses * weights).sum(), weights.sum()


def class_loss(
    outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of logits (b, classes) with class numbers (b,)."""
    losses = nn.functional.cross_entropy(outputs, targets.long(), reduction="none")
    return (losses * weights).sum(), weights.sum()


def labels_loss(
    outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropies of log-odds (b, labels) with 0, 1 or NaN (unknown, not counted) (b, labels), each of weight 1."""
    known = ~targets.isnan()
    losses = nn.functional.binary_cross_entropy_with_logits(outputs, targets.nan_to_num(), reduction="none")
    shares = known * weights.unsqueeze(-1)
    return (losses * shares).sum(), shares.sum()


def squared_loss(
    outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared error of outputs (b, numbers), NaN targets not counted."""
    known = ~targets.isnan()
    shares = known * weights.unsqueeze(-1)
    return ((outputs - targets.nan_to_num()) ** 2 * shares).sum(), shares.sum()


@dataclass(frozen=True)
class HazardLoss:
    """Negative log likelihood of discrete-time hazards of `causes` competing causes in `periods` periods.

    Outputs (b, periods * causes) are logits against going on, so that a period's hazards and survival are a softmax.
    Targets (b, 3): number of the period with the end of follow-up, the cause (0 censored, 1 to `causes`), and the share
    of that period that was observed, which weighs a censored row's last period. Source: Tutz and Schmid 2016, Modeling
    Discrete Time-to-Event Data, section 8.2; with one cause as Gensheimer and Narasimhan 2019 (PeerJ 7:e6257).
    """

    periods: int
    causes: int

    def __call__(
        self, outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The weighted sum over the rows, and the weights' sum."""
        last, cause = targets[:, 0].long(), targets[:, 1].long()
        logs = log_hazards(outputs, self.periods, self.causes)
        goes_on = logs[:, :, 0].cumsum(dim=1)
        rows = torch.arange(len(last), device=outputs.device)
        before = torch.where(last > 0, goes_on[rows, (last - 1).clamp(min=0)], 0.0)
        share = torch.where(cause > 0, 1.0, targets[:, 2])
        likelihood = before + share * logs[rows, last, cause]
        return -(likelihood * weights).sum(), weights.sum()


def log_hazards(outputs: torch.Tensor, periods: int, causes: int) -> torch.Tensor:
    """Log probabilities (b, periods, 1 + causes) of going on and of each cause, given that the period was entered."""
    logits = outputs.reshape(-1, periods, causes)
    return torch.cat([torch.zeros_like(logits[:, :, :1]), logits], dim=-1).log_softmax(dim=-1)
