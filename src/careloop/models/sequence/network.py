"""Networks over event sequences: an embedding of events, a recurrent, convolutional or Transformer trunk, a head."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from careloop import InputError
from careloop.models.sequence.arrays import PADDING, AnySequences, TokenSpace, some_notes

if TYPE_CHECKING:
    from careloop.models.sequence.batches import Batch

TRUNKS = ("gru", "temporal_cnn", "transformer", "causal_transformer")
# Periods of the sine waves that a time is shown as: on the log scale, from minutes to a life.
WAVES = 8
DAYS_A_CENTURY = 36525.0
MOST_DEVIATIONS = 5.0  # of a note's numbers, as of all others
LEAST_DEVIATION = 0.01  # of the mean one: below it a note's number is rounding, in half precision
NEAR = 5  # events that a Transformer joins to each before it attends
KERNEL = 5  # positions that a convolution sees; each layer doubles the distance between them


@dataclass(frozen=True)
class NetworkShape:
    """Sizes of a network, as plain JSON values; `heads` must divide `width`, `outputs` are the head's numbers."""

    trunk: str
    width: int = 64
    layers: int = 2
    heads: int = 2
    dropout: float = 0.1
    outputs: int = 1

    def __post_init__(self) -> None:
        if self.trunk not in TRUNKS:
            raise InputError(f"network must be one of {', '.join(TRUNKS)}; got {self.trunk!r}")
        if min(self.width, self.layers, self.heads, self.outputs) < 1 or self.width % (2 * self.heads):
            raise InputError(
                "width, layers, heads and outputs must be at least 1 and width a multiple of 2 * heads; got "
                f"width {self.width}, layers {self.layers}, heads {self.heads}, outputs {self.outputs}"
            )
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout must be at least 0 and below 1; got {self.dropout}")

    @property
    def feed_forward(self) -> int:
        """Width inside a Transformer's gated feed-forward layer: 2.75 times the width, a multiple of 8."""
        return 8 * math.ceil(2.75 * self.width / 8)

    @property
    def is_causal(self) -> bool:
        """Whether an event's state may depend on earlier events only."""
        return self.trunk == "causal_transformer"


class EventEmbedding(nn.Module):
    """Events as vectors (b, l, width): what (the code and its ancestors), how much, and when.

    A code's vector is the sum of its own and its ancestors' rows of one table, so that rare codes borrow from their
    chapter (the sum in place of GRAM's attention, Choi et al. 2017, section 2.1). A number adds its quantile's vector
    and, times the standardised number, a vector of its code; a note adds a linear map of its vector, standardised by
    training rows (`scale_notes`), because encoders give all texts much in common and little to tell them apart by.
    Times enter as sine waves of their logarithm. `before`, the time up to the prediction, would tell a causal network
    its future, so that it is left out there.
    """

    def __init__(self, space: TokenSpace, shape: NetworkShape) -> None:
        super().__init__()
        self.code = nn.Embedding(space.tokens, shape.width, padding_idx=PADDING)
        self.by_value = nn.Embedding(space.tokens, shape.width, padding_idx=PADDING)
        self.quantile = nn.Embedding(space.quantiles + 2, shape.width, padding_idx=0)  # the last: a hidden number
        self.times = 2 if shape.is_causal else 3
        self.when = nn.Linear(self.times * (2 * WAVES + 1), shape.width)
        self.dropout = nn.Dropout(shape.dropout)
        self.note: nn.Linear | None = None
        if space.note_width:
            self.note = nn.Linear(space.note_width, shape.width)
            # A standardised vector is as long as the root of its width, so that a note begins as long as a code.
            nn.init.normal_(self.note.weight, std=1 / math.sqrt(space.note_width))
            nn.init.zeros_(self.note.bias)
            self.note_mean: torch.Tensor
            self.note_deviation: torch.Tensor
            self.register_buffer("note_mean", torch.zeros(space.note_width))
            self.register_buffer("note_deviation", torch.ones(space.note_width))
        for table, spread in ((self.code, 1.0), (self.by_value, 0.1), (self.quantile, 0.5)):
            # As large as the waves of time, or what happened would begin as noise on when.
            nn.init.normal_(table.weight, std=spread)
            with torch.no_grad():
                table.weight[0] = 0.0
        self.ancestors: torch.Tensor
        self.register_buffer("ancestors", torch.from_numpy(space.ancestors.astype("int64")), persistent=False)

    def forward(self, batch: Batch) -> torch.Tensor:
        """The vectors of a batch's events."""
        return self.dropout(self.content(batch) + self.when(self.time_waves(batch)))

    def content(self, batch: Batch) -> torch.Tensor:
        """What the events say, without their times: codes, numbers and notes."""
        said = self.what(batch.code) + self.how_much(batch)
        if self.note is None or batch.note is None or batch.notes is None:
            return said
        scaled = (batch.notes.float() - self.note_mean) / self.note_deviation
        vectors = self.note(scaled.clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS))
        table = torch.cat([vectors.new_zeros(1, vectors.shape[1]), vectors])
        return said + nn.functional.embedding(batch.note, table, padding_idx=0)

    def scale_notes(self, sequences: AnySequences) -> None:
        """Standardise notes by those of training rows; where these have fewer than two, vectors stay as they are."""
        vectors = torch.from_numpy(some_notes(sequences)).float()
        if self.note is None or len(vectors) < 2:
            return
        deviation, self.note_mean = torch.std_mean(vectors, dim=0)
        self.note_deviation = deviation.clamp(min=LEAST_DEVIATION * float(deviation.mean()) or 1.0)

    def what(self, code: torch.Tensor) -> torch.Tensor:
        """Vectors of codes (...) with their ancestors: (..., width)."""
        found: torch.Tensor = self.code(code)
        if self.ancestors.shape[1]:
            found = found + self.code(self.ancestors[code]).sum(dim=-2)
        return found

    def how_much(self, batch: Batch) -> torch.Tensor:
        """Vectors of the events' numbers."""
        return self.quantile(batch.quantile) + self.by_value(batch.code) * batch.value.unsqueeze(-1)

    def time_waves(self, batch: Batch) -> torch.Tensor:
        """Times as features (b, l, times * (2 WAVES + 1))."""
        times = [log_days(batch.gap), batch.age / DAYS_A_CENTURY]
        if self.times == 3:
            times.append(log_days(batch.before))
        return waves(torch.stack(times, dim=-1)).flatten(-2)


def log_days(days: torch.Tensor) -> torch.Tensor:
    """Logarithm of days, from -0.5 at a quarter of an hour or less to 1 at 60 years."""
    return days.clamp(min=0).add(0.01).log() / 10


def waves(scaled: torch.Tensor) -> torch.Tensor:
    """Numbers (...) with sine waves of them, each twice as fast as the one before: (..., 2 WAVES + 1)."""
    angles = scaled.unsqueeze(-1) * (2.0 ** torch.arange(WAVES, device=scaled.device))
    return torch.cat([scaled.unsqueeze(-1), angles.sin(), angles.cos()], dim=-1)


class Recurrent(nn.Module):
    """A gated recurrent unit over the events, oldest first."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        dropout = shape.dropout if shape.layers > 1 else 0.0
        self.gru = nn.GRU(shape.width, shape.width, shape.layers, batch_first=True, dropout=dropout)
        self.norm = nn.LayerNorm(shape.width)

    def forward(self, events: torch.Tensor, batch: Batch) -> torch.Tensor:
        """States (b, l, width); those of padded positions have no meaning, and later ones never reach earlier ones."""
        return self.norm(self.gru(events)[0])


class Convolutional(nn.Module):
    """Dilated causal convolutions with skips (Bai, Kolter and Koltun 2018, section 3)."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(shape.width, 2 * shape.width, KERNEL, dilation=2**depth) for depth in range(shape.layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(shape.width) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, events: torch.Tensor, batch: Batch) -> torch.Tensor:
        """States (b, l, width), each from its own and earlier events."""
        state = events
        for depth, (norm, layer) in enumerate(zip(self.norms, self.layers, strict=True)):
            reach = (KERNEL - 1) * 2**depth
            inside = nn.functional.pad(norm(state).transpose(1, 2), (reach, 0))
            state = state + self.dropout(nn.functional.glu(layer(inside), dim=1).transpose(1, 2))
        return self.norm(state)


class Transformer(nn.Module):
    """Hugging Face's Llama layers (rotary positions, RMS norms, gated feed-forward), causal or seeing both ways.

    Before them a short convolution adds to each event the `NEAR` - 1 before it: which neighbours an event has, and how
    far apart, is what attention alone learns late (So et al. 2021, Primer, section 4).
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        from transformers import LlamaConfig, LlamaModel

        config = LlamaConfig(
            vocab_size=1,  # events come embedded
            pad_token_id=None,
            hidden_size=shape.width,
            intermediate_size=shape.feed_forward,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            initializer_range=1 / math.sqrt(shape.width),
            max_position_embeddings=8192,
            use_cache=False,
            bos_token_id=None,
            eos_token_id=None,
        )
        config.is_causal = shape.is_causal
        self.model = LlamaModel(config)
        del self.model.embed_tokens
        self.near = nn.Conv1d(shape.width, shape.width, NEAR)

    def forward(self, events: torch.Tensor, batch: Batch) -> torch.Tensor:
        """States (b, l, width)."""
        mask = None if bool(batch.is_event.all()) else batch.is_event.long()
        return self.model(inputs_embeds=self.joined(events), attention_mask=mask).last_hidden_state

    def joined(self, events: torch.Tensor, before: torch.Tensor | None = None) -> torch.Tensor:
        """Events (b, l, width) with their neighbours; `before` (b, NEAR - 1, width) are those that come first."""
        if before is None:
            before = events.new_zeros(len(events), NEAR - 1, events.shape[-1])
        near = self.near(torch.cat([before, events], dim=1).transpose(1, 2)).transpose(1, 2)
        return events + near


class Head(nn.Module):
    """Outputs (b, outputs) from the state at the prediction time, the mean state, and the static columns."""

    def __init__(self, shape: NetworkShape, statics: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(shape.dropout)
        self.pooled = nn.Linear(2 * shape.width, shape.outputs)
        nn.init.normal_(self.pooled.weight, std=0.02)
        nn.init.zeros_(self.pooled.bias)
        self.static: nn.Module | None = None
        if statics:
            self.static = nn.Sequential(
                nn.Linear(statics, shape.width),
                nn.GELU(),
                nn.Dropout(shape.dropout),
                nn.Linear(shape.width, shape.outputs),
            )
            self.skip = nn.Linear(statics, shape.outputs, bias=False)
            nn.init.zeros_(self.skip.weight)

    def begin_at(self, outputs: torch.Tensor) -> None:
        """Let training begin near these outputs (k,)."""
        with torch.no_grad():
            self.pooled.bias.copy_(outputs)

    def forward(self, pooled: torch.Tensor, static: torch.Tensor) -> torch.Tensor:
        """The outputs."""
        found = self.pooled(self.dropout(pooled))
        return found if self.static is None else found + self.static(static) + self.skip(static)


class SequenceNetwork(nn.Module):
    """Embedding, trunk and head; `pooled` is the patient's representation."""

    def __init__(self, space: TokenSpace, shape: NetworkShape) -> None:
        super().__init__()
        trunks = {"gru": Recurrent, "temporal_cnn": Convolutional}
        self.shape = shape
        self.embedding = EventEmbedding(space, shape)
        self.trunk = trunks.get(shape.trunk, Transformer)(shape)
        self.head = Head(shape, space.statics)

    @property
    def note_width(self) -> int:
        """Numbers of the notes' vectors that it reads, 0 for none."""
        return 0 if self.embedding.note is None else self.embedding.note.in_features

    def forward(self, batch: Batch) -> torch.Tensor:
        """Outputs (b, outputs)."""
        return self.head(self.pooled(batch), batch.static)

    def forward_embedded(self, events: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Outputs (b, outputs) of a batch whose events' vectors (b, l, width) are given."""
        return self.head(pooled(self.trunk(events, batch), batch), batch.static)

    @property
    def transformer(self) -> Transformer:
        """The trunk of a Transformer."""
        assert isinstance(self.trunk, Transformer)
        return self.trunk

    def states(self, batch: Batch) -> torch.Tensor:
        """The trunk's states (b, l, width)."""
        return self.trunk(self.embedding(batch), batch)

    def pooled(self, batch: Batch) -> torch.Tensor:
        """The state at the prediction time beside the mean over all events (b, 2 width)."""
        return pooled(self.states(batch), batch)


def pooled(states: torch.Tensor, batch: Batch) -> torch.Tensor:
    """The last state beside the mean of all (b, 2 width)."""
    rows = torch.arange(len(states), device=states.device)
    seen = batch.is_event.unsqueeze(-1).to(states.dtype)
    mean = (states * seen).sum(dim=1) / seen.sum(dim=1)
    return torch.cat([states[rows, batch.last], mean], dim=-1)
