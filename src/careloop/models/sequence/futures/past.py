"""What a causal network keeps of a path's events, so that one more event costs one step and not all of them again."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from careloop.models.sequence.arrays import Sequences
from careloop.models.sequence.batches import Batch, padded
from careloop.models.sequence.network import NEAR, SequenceNetwork

Event = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # code (p,), quantile (p,), value (p,)


class Past:
    """Keys and values of the events so far, and the `state` (p, width) after the last event of each path.

    `recent` (p, NEAR - 1, width) are the last events as embedded, which the next one is joined to.

    `seen` (p, width) says which positions of the cache are events: histories are padded on the right, new events stand
    behind the longest. An event's position for the network is its place in its own path.
    """

    def __init__(self, network: SequenceNetwork, cache: Any, seen: torch.Tensor, state: torch.Tensor) -> None:
        self.network, self.cache, self.seen, self.state = network, cache, seen, state
        self.recent = state.new_zeros(len(state), NEAR - 1, network.shape.width)

    @classmethod
    def of(cls, network: SequenceNetwork, histories: Sequences, place: NDArray[np.int64]) -> Past:
        """The past of paths that continue the histories at `place` (p,); each history is computed once."""
        from transformers import DynamicCache

        device = network.embedding.code.weight.device
        batch = padded(histories).to(device)
        seen = batch.is_event[:, 1:].long()  # without NOW, from which nothing is predicted
        past = cls(network, DynamicCache(), seen[:, :0], batch.static)
        rows, events = torch.arange(len(seen), device=device), network.embedding(batch)[:, :-1]
        states = past._states(network.transformer.joined(events), seen, seen.cumsum(dim=1) - 1)
        past.state = states[rows, batch.last - 1]
        padded_left = torch.cat([past.recent, events], dim=1)
        past.recent = torch.stack([padded_left[rows, batch.last + step] for step in range(NEAR - 1)], dim=1)
        past.keep(torch.from_numpy(place).to(device))
        return past

    @property
    def width(self) -> int:
        """Positions of the cache."""
        return self.seen.shape[1]

    def keep(self, paths: torch.Tensor) -> None:
        """Only these paths, in this order."""
        if len(paths) != len(self.state) or bool((paths != torch.arange(len(paths), device=paths.device)).any()):
            self.cache.batch_select_indices(paths)
            self.seen, self.state, self.recent = self.seen[paths], self.state[paths], self.recent[paths]

    def append(self, event: Event, gap: NDArray[np.float64], age: NDArray[np.float64]) -> None:
        """One more event of each path, `gap` (p,) days after the one before, at `age` (p,) days."""
        if not len(gap):
            return
        code, quantile, value = (part.unsqueeze(1) for part in event)
        days = [torch.from_numpy(part.astype(np.float32)).to(code.device).unsqueeze(1) for part in (gap, age)]
        none = torch.zeros_like(days[0])
        one = torch.ones_like(code)
        batch = Batch(code, quantile, value, days[0], none, days[1], one.bool(), none[:, 0].long(), none[:, :0])
        position = self.seen.sum(dim=1, keepdim=True)
        embedded = self.network.embedding(batch)
        self.state = self._states(self.network.transformer.joined(embedded, self.recent), one, position)[:, -1]
        self.recent = torch.cat([self.recent[:, 1:], embedded], dim=1)

    def _states(self, events: torch.Tensor, new: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """States (p, l, width) of events, embedded and joined to their neighbours, which the cache then has."""
        self.seen = torch.cat([self.seen, new], dim=1)
        model: Any = self.network.transformer.model
        found: torch.Tensor = model(
            inputs_embeds=events,
            attention_mask=self.seen,
            position_ids=position.clamp(min=0),
            cache=self.cache,
            use_cache=True,
        ).last_hidden_state
        return found
