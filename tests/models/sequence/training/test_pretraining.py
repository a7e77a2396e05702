"""What pre-training hides is not seen, and what it learns comes near the best possible on a known process."""

from __future__ import annotations

import numpy as np
import pytest

from careloop.models.sequence.arrays import FIRST_CODE, MASK, Sequences, TokenSpace
from careloop.models.sequence.batches import padded

torch = pytest.importorskip("torch")
CHAIN = np.array([[0.8, 0.15, 0.05], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1]])
WAIT_DAYS = np.array([1.0, 10.0, 100.0])  # mean of the exponential wait after each code


def markov(rows: int, seed: int, *, events: int = 20) -> Sequences:
    """Codes of a Markov chain; waits are exponential with a mean of the code before."""
    random = np.random.default_rng(seed)
    code = np.zeros((rows, events), dtype=np.int64)
    for place in range(1, events):
        code[:, place] = (random.random((rows, 1)) > CHAIN[code[:, place - 1]].cumsum(axis=1)).sum(axis=1)
    wait = random.exponential(WAIT_DAYS[code])
    time = 10_000 + np.cumsum(np.hstack([np.zeros((rows, 1)), wait[:, :-1]]), axis=1)
    flat = (code + FIRST_CODE).astype(np.int32).ravel()
    number = np.zeros(len(flat), dtype=np.uint8), np.full(len(flat), np.nan, dtype=np.float32)
    return Sequences(np.arange(rows + 1) * events, flat, *number, time=time.ravel(), at=time[:, -1])


def test_hidden_events_do_not_reach_the_network(space: TokenSpace, sequences: Sequences) -> None:
    from careloop.models.sequence.network import EventEmbedding, NetworkShape
    from careloop.models.sequence.training.pretraining import HIDDEN_EVENTS, HIDDEN_NUMBERS, KEPT, REPLACED, hide

    batch, embedding = padded(sequences), EventEmbedding(space, NetworkShape("transformer", 16, 1, 2))
    hidden, codes, numbers = hide(batch, embedding, torch.Generator().manual_seed(0))
    told = codes | numbers
    assert not (codes & numbers).any()
    assert (hidden.quantile[told] == space.quantiles + 1).all()
    assert (hidden.value[told] == 0).all()
    assert (batch.quantile[numbers] > 0).all()
    for name in ("code", "quantile", "value"):
        assert torch.equal(getattr(hidden, name)[~told], getattr(batch, name)[~told])
    events = batch.is_event & (batch.code >= FIRST_CODE)
    assert codes[~events].sum() == 0
    assert float(codes.sum() / events.sum()) == pytest.approx(HIDDEN_EVENTS, abs=0.03)
    with_number = events & (batch.quantile > 0)
    assert float(numbers.sum() / with_number.sum()) == pytest.approx((1 - HIDDEN_EVENTS) * HIDDEN_NUMBERS, abs=0.03)
    masked = float((hidden.code[codes] == MASK).float().mean())
    assert masked == pytest.approx(1 - KEPT - REPLACED, abs=0.06)


def test_next_event_loss_comes_near_the_entropy_of_the_process() -> None:
    """The best code loss is the chain's conditional entropy; the best wait loss, that of the binned exponential."""
    from careloop.models.sequence.network import NetworkShape
    from careloop.models.sequence.training.fitting import Recipe
    from careloop.models.sequence.training.loop import LoopSettings
    from careloop.models.sequence.training.pretraining import next_loss, pretrain_network

    space = TokenSpace(FIRST_CODE + 3, 5, np.zeros((FIRST_CODE + 3, 0), dtype=np.int32))
    shape = NetworkShape("causal_transformer", 32, 1, 2, 0.0)
    settings = LoopSettings(learning_rate=5e-3, max_epochs=12, tokens=2048, device="cpu")
    model, history = pretrain_network(Recipe(shape, settings), space, markov(600, seed=1), markov(100, seed=2))
    held = markov(400, seed=3)
    with torch.no_grad():
        parts = model(next_loss, padded(held), torch.Generator())
    wait, code = (float(s) / n for s, n in zip(parts.sums[:2], parts.counts[:2], strict=True))
    before = held.code.reshape(400, -1)[:, :-1] - FIRST_CODE
    entropy = -(CHAIN * np.log(CHAIN)).sum(axis=1)
    assert code == pytest.approx(entropy[before].mean(), abs=0.06)
    assert wait == pytest.approx(binned_entropy(WAIT_DAYS)[before].mean() * before.size / parts.counts[0], abs=0.12)
    assert history[-1] < history[0]


def binned_entropy(mean_days: np.ndarray) -> np.ndarray:
    """The entropy of an exponential wait's bin."""
    from careloop.models.sequence.training.pretraining import GAP_BOUNDS

    below = 1 - np.exp(-GAP_BOUNDS[None] / mean_days[:, None])
    share = np.diff(np.hstack([np.zeros((len(below), 1)), below[:, :-1], np.ones((len(below), 1))]), axis=1)
    return -(share * np.log(np.where(share > 0, share, 1))).sum(axis=1)


def test_hidden_codes_are_told_from_their_neighbours() -> None:
    from careloop.models.sequence.network import NetworkShape
    from careloop.models.sequence.training.fitting import Recipe
    from careloop.models.sequence.training.loop import LoopSettings
    from careloop.models.sequence.training.pretraining import masked_loss, pretrain_network

    space = TokenSpace(FIRST_CODE + 3, 5, np.zeros((FIRST_CODE + 3, 0), dtype=np.int32))
    settings = LoopSettings(learning_rate=5e-3, max_epochs=15, tokens=2048, device="cpu")
    recipe = Recipe(NetworkShape("transformer", 32, 1, 2, 0.0), settings)
    model, _ = pretrain_network(recipe, space, markov(600, seed=1), None)
    held = markov(300, seed=3)
    with torch.no_grad():
        parts = model(masked_loss, padded(held), torch.Generator().manual_seed(0))
    code = held.code - FIRST_CODE
    marginal = np.bincount(code) / len(code)
    assert float(parts.sums[0]) / parts.counts[0] < -(marginal * np.log(marginal)).sum() - 0.1


def test_the_likelihood_of_waits_written_out() -> None:
    from careloop.models.sequence.training.pretraining import GAP_BOUNDS, gap_bin, gap_loss, share_of_bin

    random = np.random.default_rng(0)
    logits = torch.tensor(random.normal(size=(20, len(GAP_BOUNDS))))
    days = torch.tensor(np.append(random.uniform(0, 50, 18), [0.0, 1e6]), dtype=torch.float32)
    comes = torch.tensor(random.random(20) < 0.5)
    bins = gap_bin(days)
    assert bins[18] == 0
    assert bins[19] == len(GAP_BOUNDS) - 1
    hazard = 1 / (1 + np.exp(-logits.numpy()))
    share = share_of_bin(days, bins).numpy()
    middle = np.sqrt(GAP_BOUNDS[20] * GAP_BOUNDS[21])
    assert float(share_of_bin(torch.tensor([middle]), torch.tensor([21]))) == pytest.approx(0.5)
    expected = 0.0
    for row in range(20):
        here = hazard[row, bins[row]]
        expected -= np.log(1 - hazard[row, : bins[row]]).sum()
        expected -= np.log(here) if comes[row] else share[row] * np.log(1 - here)
    assert float(gap_loss(logits, days, comes)) == pytest.approx(expected)
