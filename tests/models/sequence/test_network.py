"""Networks do not see padding or the other rows of a batch, and causal ones do not see what comes later."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from careloop import InputError
from careloop.models.sequence.arrays import FIRST_CODE, Sequences, TokenSpace
from careloop.models.sequence.batches import padded

torch = pytest.importorskip("torch")
TRUNKS = ("gru", "temporal_cnn", "transformer", "causal_transformer")


def made(trunk: str, space: TokenSpace) -> torch.nn.Module:
    from careloop.models.sequence.network import NetworkShape, SequenceNetwork

    torch.manual_seed(0)
    return SequenceNetwork(space, NetworkShape(trunk, 16, 2, 2, 0.1, 3)).eval()


@pytest.mark.parametrize("trunk", TRUNKS)
@torch.no_grad()
def test_a_row_gives_the_same_alone_and_in_a_batch(trunk: str, space: TokenSpace, sequences: Sequences) -> None:
    network, rows = made(trunk, space), np.arange(30)
    together = network(padded(sequences.take(rows)))
    alone = torch.cat([network(padded(sequences.take(np.array([row])))) for row in rows])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("trunk", ["gru", "temporal_cnn", "causal_transformer"])
@torch.no_grad()
def test_later_events_do_not_reach_earlier_states(trunk: str, space: TokenSpace, sequences: Sequences) -> None:
    """Nor does the prediction time, in the trunk that is pre-trained on next events."""
    row = sequences.take(np.flatnonzero(sequences.lengths == 10)[:1])
    changed = replace(
        row,
        code=np.append(row.code[:6], [FIRST_CODE] * 4).astype(np.int32),
        time=np.append(row.time[:6], row.time[6:] + 0.5),
        at=row.at + (100 if trunk == "causal_transformer" else 0),
    )
    network = made(trunk, space)
    before, after = (network.states(padded(one))[0] for one in (row, changed))
    torch.testing.assert_close(before[:6], after[:6], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(before[6:], after[6:], atol=1e-3)


@torch.no_grad()
def test_a_code_is_the_sum_of_itself_and_its_ancestors(space: TokenSpace) -> None:
    embedding = made("gru", space).embedding
    code = torch.tensor([FIRST_CODE])
    ancestor = torch.tensor([space.ancestors[FIRST_CODE, 0]])
    torch.testing.assert_close(embedding.what(code), embedding.code(code) + embedding.code(ancestor))


def test_sizes_that_do_not_fit_are_refused() -> None:
    from careloop.models.sequence.network import NetworkShape

    with pytest.raises(InputError, match="width a multiple of 2"):
        NetworkShape("transformer", width=30, heads=4)
    with pytest.raises(InputError, match="network must be one of gru"):
        NetworkShape("lstm")
    with pytest.raises(InputError, match="dropout must be at least 0"):
        NetworkShape("gru", dropout=1.0)
