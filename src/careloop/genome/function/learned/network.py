"""The network: convolutions along the sequence beside its composition, and one output a term."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from careloop.genome.function.learned.composition import residues

LONGEST = 600  # residues that the convolutions read: of longer proteins both ends, half each
PADDING = 0  # residues count from 1 here
LETTERS = 22  # padding, twenty amino acids, and any other
SHRINK = 4  # residues to one place after the convolutions
LEARNED, CHANNELS, WIDTHS = 16, (48, 96, 192), (9, 7, 7)


class ProteinNetwork(nn.Module):
    """Logits (n, terms) from composition (n, features), standardised, and residues (n, length), padded."""

    def __init__(self, features: int, terms: int, *, hidden: int = 512) -> None:
        super().__init__()
        self.composed = nn.Sequential(nn.Dropout(0.2), nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(0.4))
        self.letters = nn.Embedding(LETTERS, LEARNED, padding_idx=PADDING)
        sizes = (LEARNED, *CHANNELS)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(sizes[k], sizes[k + 1], width, stride=1 if k == 0 else 2, padding=width // 2)
            for k, width in enumerate(WIDTHS)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in CHANNELS)
        self.read = nn.Dropout(0.3)
        self.head = nn.Sequential(
            nn.Linear(hidden + 2 * CHANNELS[-1], hidden), nn.ReLU(), nn.Dropout(0.4), nn.Linear(hidden, terms)
        )

    def forward(self, composed: torch.Tensor, letters: torch.Tensor) -> torch.Tensor:
        """Logits of each term."""
        return self.head(torch.cat([self.composed(composed), self.read(self._along(letters))], dim=1))

    def _along(self, letters: torch.Tensor) -> torch.Tensor:
        there = (letters != PADDING).float()[:, None]
        found = self.letters(letters).transpose(1, 2)
        for number, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            there = there if number == 0 else there[..., ::2]
            normed = norm(convolution(found).transpose(1, 2)).transpose(
                1, 2
            )  # each place by itself: padding is not seen
            found = torch.relu(normed) * there
        return torch.cat([found.amax(2), found.sum(2) / there.sum(2)], dim=1)

    def start_at(self, shares: NDArray[np.floating]) -> None:
        """Begin with each term's share among the proteins."""
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        bounded = torch.from_numpy(np.clip(np.asarray(shares, dtype=np.float32), 1e-4, 0.99))
        with torch.no_grad():
            last.bias.copy_(torch.logit(bounded))
            last.weight.mul_(0.1)


def letters_of(sequences: Sequence[str]) -> NDArray[np.int64]:
    """(n, length) residues from 1, padded to a multiple of `SHRINK`; of long proteins both ends."""
    codes = [_ends(residues(sequence) + 1) for sequence in sequences]
    length = -(-max(len(code) for code in codes) // SHRINK) * SHRINK
    padded = np.full((len(codes), length), PADDING, dtype=np.int64)
    for row, code in zip(padded, codes, strict=True):
        row[: len(code)] = code
    return padded


def _ends(code: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(code) <= LONGEST:
        return code
    return np.concatenate([code[: LONGEST // 2], code[-LONGEST // 2 :]])
