"""Pre-training on whole histories: hidden events told from the others, or the next event and the time to it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from careloop.models.sequence.arrays import FIRST_CODE, MASK, NOW, AnySequences, TokenSpace
from careloop.models.sequence.batches import Batch, batch_of, batch_rows
from careloop.models.sequence.network import EventEmbedding, NetworkShape, SequenceNetwork
from careloop.models.sequence.training.fitting import PREDICTED_TOKENS, Recipe
from careloop.models.sequence.training.loop import Checkpoint, Listener, train

# Of all events: hidden wholly, or only their number. BERT hides 15 % (Devlin et al. 2019, section 3.1); a history has
# fewer words than a text for each fact, and half of its information in numbers.
HIDDEN_EVENTS, HIDDEN_NUMBERS = 0.15, 0.15
KEPT, REPLACED = 0.1, 0.1  # of the hidden events: shown as they are, or as a random code
# Bounds in days of the bins of the time to the next event: 0, then from 15 minutes to 30 years in equal steps of log.
GAP_BOUNDS = np.concatenate([[0.0], np.geomspace(1 / 96, 365.25 * 30, 31)])
LONGEST_WAIT_DAYS = 36525.0  # the last bin ends here, with a long life, wherever a place within it is meant
VALIDATION_SEED = 1 << 40  # what validation hides is the same after every epoch


class PretrainingNetwork(nn.Module):
    """The sequence network with heads that tell an event's code, its number's quantile, and (causal) when it comes.

    The three are told in the order time, code, number, each given those before. Codes are compared with the embedding's
    own vectors, so that rare codes are told by their ancestors too.
    """

    def __init__(self, space: TokenSpace, shape: NetworkShape) -> None:
        super().__init__()
        self.network = SequenceNetwork(space, shape)
        self.network.head.requires_grad_(False)  # for fine-tuning: no objective here reads it
        self.mix = nn.Sequential(nn.Linear(shape.width, shape.width), nn.GELU(), nn.LayerNorm(shape.width))
        self.code_bias = nn.Parameter(torch.zeros(space.tokens))
        self.quantile = nn.Sequential(
            nn.Linear(2 * shape.width, shape.width), nn.GELU(), nn.Linear(shape.width, space.quantiles + 1)
        )
        if shape.is_causal:
            self.gap = nn.Linear(shape.width, len(GAP_BOUNDS))
            self.of_gap = nn.Embedding(len(GAP_BOUNDS), shape.width)
            nn.init.normal_(self.of_gap.weight, std=0.02)

    def forward(self, loss: Objective, batch: Batch, random: torch.Generator) -> Parts:
        """An objective's losses; the loop's wrapper (precision, several devices) sees every forward pass here."""
        return loss(self, batch, random)

    def states(self, batch: Batch) -> torch.Tensor:
        """The trunk's states (b, l, width)."""
        return self.network.states(batch)

    def code_logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits (k, tokens) of codes from states (k, width); special tokens are impossible."""
        embedding = self.network.embedding
        table = embedding.what(torch.arange(len(self.code_bias), device=states.device))
        logits = self.mix(states) @ table.T / math.sqrt(table.shape[1]) + self.code_bias
        impossible = torch.arange(len(self.code_bias), device=states.device) < FIRST_CODE
        return logits.masked_fill(impossible, -torch.inf)

    def quantile_logits(self, states: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Logits (k, quantiles + 1) of the number's quantile (0: none) from states (k, width) and codes (k,)."""
        return self.quantile(torch.cat([states, self.network.embedding.what(code)], dim=-1))


class Parts(NamedTuple):
    """Sums of losses over events, and how many events each is of."""

    sums: tuple[torch.Tensor, ...]
    counts: tuple[int, ...]

    @property
    def mean(self) -> torch.Tensor:
        """The sum of the parts' means."""
        return torch.stack([s / max(1, n) for s, n in zip(self.sums, self.counts, strict=True)]).sum()


Objective = Callable[[PretrainingNetwork, Batch, torch.Generator], Parts]


def masked_loss(model: PretrainingNetwork, batch: Batch, random: torch.Generator) -> Parts:
    """Cross-entropies of the codes and numbers that were hidden from the network (BERT; Devlin et al. 2019)."""
    hidden, codes, numbers = hide(batch, model.network.embedding, random)
    states = model.states(hidden)
    code = nn.functional.cross_entropy(model.code_logits(states[codes]), batch.code[codes], reduction="sum")
    told = codes | numbers
    logits = model.quantile_logits(states[told], batch.code[told])
    quantile = nn.functional.cross_entropy(logits, batch.quantile[told], reduction="sum")
    return Parts((code, quantile), (int(codes.sum()), int(told.sum())))


def hide(batch: Batch, embedding: EventEmbedding, random: torch.Generator) -> tuple[Batch, torch.Tensor, torch.Tensor]:
    """The batch with some events hidden, and which events' codes and which further events' numbers are (b, l) bool."""
    tokens, hidden_number = embedding.code.num_embeddings, embedding.quantile.num_embeddings - 1
    draw = torch.rand(3, *batch.code.shape, generator=random).to(batch.code.device)
    can = batch.is_event & (batch.code >= FIRST_CODE)
    codes = can & (draw[0] < HIDDEN_EVENTS)
    numbers = can & ~codes & (batch.quantile > 0) & (draw[1] < HIDDEN_NUMBERS)
    replaced = torch.randint(FIRST_CODE, max(tokens, FIRST_CODE + 1), batch.code.shape, generator=random)
    shown = torch.where(
        draw[2] < 1 - KEPT, torch.where(draw[2] < REPLACED, replaced.to(batch.code.device), MASK), batch.code
    )
    told = codes | numbers
    hidden = batch._replace(
        code=torch.where(codes, shown, batch.code),
        quantile=torch.where(told, hidden_number, batch.quantile),
        value=torch.where(told, 0.0, batch.value),
        note=None if batch.note is None else torch.where(told, 0, batch.note),
    )
    return hidden, codes, numbers


def next_loss(model: PretrainingNetwork, batch: Batch, random: torch.Generator) -> Parts:
    """Minus log likelihood of each next event: when, what, how much; the last event's wait is censored at `NOW`.

    The time is a discrete-time hazard over `GAP_BOUNDS`, so that a wait without an event counts too (the form of
    MOTOR's objective, Steinberg et al. 2024, for the very next event of any code).
    """
    states = model.states(batch)[:, :-1]
    following = batch.is_event[:, 1:] & (batch.code[:, :-1] != NOW)
    state, code, quantile, wait = (
        found[following] for found in (states, batch.code[:, 1:], batch.quantile[:, 1:], batch.gap[:, 1:])
    )
    bins, comes = gap_bin(wait), code != NOW
    gap = gap_loss(model.gap(state), wait, comes)
    given = state[comes] + model.of_gap(bins[comes])
    what = nn.functional.cross_entropy(model.code_logits(given), code[comes], reduction="sum")
    how_much = nn.functional.cross_entropy(model.quantile_logits(given, code[comes]), quantile[comes], reduction="sum")
    events = int(comes.sum())
    return Parts((gap, what, how_much), (len(bins), events, events))


def gap_bin(days: torch.Tensor) -> torch.Tensor:
    """The bin of each wait: 0 at once, i for up to the i-th bound, the last for all above."""
    bounds = torch.tensor(GAP_BOUNDS, dtype=torch.float32, device=days.device)
    return torch.bucketize(days.clamp(min=0), bounds).clamp(max=len(GAP_BOUNDS) - 1)


def share_of_bin(days: torch.Tensor, bins: torch.Tensor) -> torch.Tensor:
    """How much of its bin a wait (k,) has behind it, 0 to 1: on the log scale, in days in the first above 0."""
    low, high = bin_bounds(days.device)
    days = days.double()
    on_log_scale = (days / low[bins]).log() / (high[bins] / low[bins]).log()
    share = torch.where(bins > 1, on_log_scale, torch.where(bins == 1, days / high[1], 1.0))
    return share.clamp(0, 1)


def bin_bounds(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Lower and upper bounds of the bins in days, float64; 1 where a bin is no range of ratios."""
    bounds = torch.tensor(GAP_BOUNDS, dtype=torch.float64, device=device)
    low, high = torch.cat([bounds[:1], bounds[:-1]]), bounds.clone()
    high[-1] = LONGEST_WAIT_DAYS
    low[:2], high[0] = 1.0, 1.0
    return low, high


def gap_loss(logits: torch.Tensor, days: torch.Tensor, comes: torch.Tensor) -> torch.Tensor:
    """Minus log likelihood of hazards per bin (k, bins): an event in its bin, or none for so many days (k,).

    A wait that is censored within a bin counts by the share of the bin that was seen; left out it would be a wait that
    was never at risk there, and every hazard would come out too high.
    """
    bins = gap_bin(days)
    goes_on = nn.functional.logsigmoid(-logits).cumsum(dim=1)
    rows = torch.arange(len(bins), device=bins.device)
    before = torch.where(bins > 0, goes_on[rows, (bins - 1).clamp(min=0)], 0.0)
    here = logits[rows, bins]
    none = share_of_bin(days, bins).to(here.dtype) * nn.functional.logsigmoid(-here)
    return -(before + torch.where(comes, nn.functional.logsigmoid(here), none)).sum()


class PretrainingWork:
    """Pre-training on histories; validation on others, with the same events hidden each time."""

    def __init__(self, training: AnySequences, validation: AnySequences | None, recipe: Recipe) -> None:
        self.training, self.validation, self.recipe = training, validation, recipe
        self.lengths = training.lengths
        self.loss_of = next_loss if recipe.shape.is_causal else masked_loss

    def epoch_batches(self, epoch: int) -> list[np.ndarray]:
        """Rows of like length together, in another order each epoch."""
        random = np.random.default_rng([self.recipe.settings.seed, epoch])
        return batch_rows(self.lengths, self.recipe.settings.tokens, random=random)

    def loss(self, model: nn.Module, rows: np.ndarray, seed: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        """The loss of a batch; it counts by its events."""
        parts = self._parts(model, self.training, rows, seed)
        events = torch.tensor(float(max(1, parts.counts[0])))
        return parts.mean * events.to(parts.sums[0].device), events, int(self.lengths[rows].sum()) + len(rows)

    def _parts(self, model: nn.Module, sequences: AnySequences, rows: np.ndarray, seed: int) -> Parts:
        device = next(model.parameters()).device
        batch = batch_of(sequences, rows).to(device)
        random = torch.Generator().manual_seed(seed)
        return model(self.loss_of, batch, random)

    def validation_loss(self, model: nn.Module) -> float | None:
        """The sum of the mean losses over the validation rows."""
        if self.validation is None:
            return None
        sums, counts = np.zeros(3), np.zeros(3)
        for number, rows in enumerate(batch_rows(self.validation.lengths, PREDICTED_TOKENS)):
            parts = self._parts(model, self.validation, rows, VALIDATION_SEED + number)
            sums[: len(parts.sums)] += [float(s) for s in parts.sums]
            counts[: len(parts.counts)] += parts.counts
        return float((sums / np.maximum(counts, 1)).sum())


def pretrain_network(
    recipe: Recipe,
    space: TokenSpace,
    training: AnySequences,
    validation: AnySequences | None,
    *,
    checkpoint: Checkpoint | None = None,
    listener: Listener | None = None,
) -> tuple[PretrainingNetwork, list[float]]:
    """A network pre-trained on whole histories, and the validation loss of each epoch.

    A `causal_transformer` learns the next event and the time to it, the other trunks hidden events.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.settings.seed)
        model = PretrainingNetwork(space, recipe.shape)
    model.network.embedding.scale_notes(training)
    history = train(
        model, PretrainingWork(training, validation, recipe), recipe.settings, checkpoint=checkpoint, listener=listener
    )
    return model.eval(), history
