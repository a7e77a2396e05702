"""The network of discrete-time hazards: columns as piecewise linear terms, an additive part, hidden layers, a loss."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from careloop.models.inputs import Floats

# Standard deviations from the mean at which a column's linear term stops: one far value must not decide a risk.
FAR = 3.0
# An effect changes over the periods as a polynomial of this many terms (constant, linear, quadratic, cubic).
TIME_TERMS = 4
# Logs of the cumulative hazard gained in a period: no event among a billion, and survival of exp(-148).
LOWEST_LOG_HAZARD, HIGHEST_LOG_HAZARD = -20.0, 5.0


@dataclass(frozen=True, eq=False)
class Encoding:
    """How columns (n, p) become terms: standardised by `centre` and `spread` (p,), and cut into bins.

    Bin i lies in column `owner[i]` from `low[i]` to `high[i]`; its term rises from 0 to 1 inside it, less `mean[i]`.
    Source: Gorishniy, Rubachev and Babenko 2022, On embeddings for numerical features (NeurIPS), section 3.2.
    """

    centre: NDArray[np.float32]
    spread: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    owner: NDArray[np.int64]
    mean: NDArray[np.float32]

    @property
    def terms(self) -> int:
        """How many terms a row has."""
        return len(self.centre) + len(self.owner)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def fit_encoding(matrix: NDArray[np.float32], bins: int) -> Encoding:
    """Encoding of matrix (n, p) with at most `bins` bins a column, by quantiles; a column of two values has none."""
    spread = matrix.std(axis=0, dtype=np.float64)
    spread[spread <= 1e-12 * np.maximum(1.0, np.abs(matrix).max(axis=0))] = 1.0
    low, high, owner, mean = [np.empty(0)], [np.empty(0)], [np.empty(0)], [np.empty(0)]
    for j, column in enumerate(matrix.T):
        knots = np.unique(np.quantile(column, np.linspace(0, 1, bins + 1)).astype(np.float32))
        if len(knots) == 1 or len(np.unique(column)) == 2:
            continue
        passed = np.clip((column[:, None] - knots[:-1]) / np.diff(knots), 0, 1)
        low.append(knots[:-1])
        high.append(knots[1:])
        owner.append(np.full(len(knots) - 1, j))
        mean.append(passed.mean(axis=0, dtype=np.float64))
    low32, high32, mean32 = (np.concatenate(part).astype(np.float32) for part in (low, high, mean))
    centre = matrix.mean(axis=0, dtype=np.float64).astype(np.float32)
    places = np.concatenate(owner).astype(np.int64)
    return Encoding(centre, spread.astype(np.float32), low32, high32, places, mean32)


class EncodedColumns(nn.Module):
    """Columns (n, p) as terms (n, e): each standardised within `FAR`, then every bin's."""

    centre: torch.Tensor
    spread: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    owner: torch.Tensor
    mean: torch.Tensor

    def __init__(self, encoding: Encoding) -> None:
        super().__init__()
        for name, values in encoding.arrays().items():
            self.register_buffer(name, torch.tensor(values), persistent=False)

    def forward(self, columns: torch.Tensor) -> torch.Tensor:
        """Terms (n, e) of columns (n, p)."""
        standardised = ((columns - self.centre) / self.spread).clamp(-FAR, FAR)
        passed = ((columns.index_select(1, self.owner) - self.low) / (self.high - self.low)).clamp(0, 1)
        return torch.cat([standardised, passed - self.mean], dim=1)


class HazardLayers(nn.Module):
    """Log cumulative hazard gained in every period (n, periods), for columns (n, p).

    It is the sum of `baseline` (periods,), which is fixed, a correction of it, an additive part (the terms' effects on
    the log hazard, alike in all periods) and the hidden layers' part, a polynomial over the periods. It starts from the
    baseline for everybody, and weight decay draws it there.
    """

    baseline: torch.Tensor
    over_time: torch.Tensor

    def __init__(
        self, encoding: Encoding, baseline: Floats, *, hidden: tuple[int, ...], dropout: float, main_effects: str
    ) -> None:
        super().__init__()
        periods = len(baseline)
        over_time = np.polynomial.legendre.legvander(np.linspace(-1, 1, periods), min(TIME_TERMS, periods) - 1).T
        self.register_buffer("baseline", torch.tensor(baseline, dtype=torch.float32), persistent=False)
        self.register_buffer("over_time", torch.tensor(over_time, dtype=torch.float32), persistent=False)
        self.encode = EncodedColumns(encoding)
        self.correction = nn.Parameter(torch.zeros(periods))
        self.additive = nn.Linear(encoding.terms, 1, bias=False) if main_effects == "additive" else None
        layers: list[nn.Module] = []
        for width_in, width_out in zip((encoding.terms, *hidden), hidden, strict=False):
            layers += [nn.Linear(width_in, width_out), nn.SiLU(), nn.Dropout(dropout)]
        self.hidden = nn.Sequential(*layers)
        self.outputs = nn.Linear((encoding.terms, *hidden)[-1], len(over_time))
        for start in (self.additive, self.outputs):
            if start is not None:
                nn.init.zeros_(start.weight)
        nn.init.zeros_(self.outputs.bias)

    def forward(self, columns: torch.Tensor) -> torch.Tensor:
        """Log of the cumulative hazard gained (n, periods)."""
        terms = self.encode(columns)
        log_hazard = self.baseline + self.correction + self.outputs(self.hidden(terms)) @ self.over_time
        if self.additive is not None:
            log_hazard = log_hazard + self.additive(terms)
        return log_hazard.clamp(LOWEST_LOG_HAZARD, HIGHEST_LOG_HAZARD)


class LogCumulativeHazard(nn.Module):
    """The members' mean hazards, summed over periods with `shares` (periods,) of each: the log of it (n, 1)."""

    log_shares: torch.Tensor

    def __init__(self, members: tuple[HazardLayers, ...], shares: Floats) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("log_shares", torch.tensor(shares, dtype=torch.float32).log())

    def forward(self, columns: torch.Tensor) -> torch.Tensor:
        """Log of the cumulative hazard (n, 1)."""
        gained = torch.cat([member(columns) + self.log_shares for member in self.members], dim=1)
        return torch.logsumexp(gained, dim=1, keepdim=True) - math.log(len(self.members))


def hazard_loss(outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Mean over the rows of their negative log likelihood over person-periods.

    Outputs, targets (1 where the event happened in the period) and weights (the share of the period that was observed;
    0 after follow-up) are (n, periods). A period survived in part costs that part of its cumulative hazard, which is
    exact where the hazard is constant within it.
    """
    gained = outputs.exp()
    losses = torch.where(targets > 0, -torch.log(-torch.expm1(-gained)), gained)
    return (losses if weights is None else losses * weights).sum(dim=1).mean()
