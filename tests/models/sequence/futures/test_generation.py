"""Roll-out: probabilities of a simulated process with known truth, elapsed time, waits in closed form, mechanics."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from careloop import InputError
from careloop.models.sequence.arrays import FIRST_CODE, PADDING, Sequences, TokenSpace
from careloop.models.sequence.batches import padded
from careloop.models.sequence.futures import generation
from careloop.models.sequence.futures.generation import RollOut, draw_wait, first_and_latest, roll_out
from careloop.models.sequence.futures.past import Past
from careloop.models.sequence.futures.simulated import Futures
from careloop.models.sequence.network import NetworkShape
from careloop.models.sequence.training.fitting import Recipe
from careloop.models.sequence.training.loop import LoopSettings
from careloop.models.sequence.training.pretraining import (
    GAP_BOUNDS,
    LONGEST_WAIT_DAYS,
    PretrainingNetwork,
    gap_bin,
    pretrain_network,
)

# A Markov renewal process: the code before decides the wait and the next code. Code 3 waits exactly ten days, the
# others exponentially with these means.
NEXT = np.array(
    [
        [0.1, 0.5, 0.2, 0.15, 0.05],
        [0.3, 0.1, 0.4, 0.1, 0.1],
        [0.2, 0.2, 0.0, 0.4, 0.2],
        [0.3, 0.3, 0.3, 0.1, 0.0],
        [0.6, 0.2, 0.1, 0.1, 0.0],
    ]
)
MEAN_WAIT = np.array([5.0, 15.0, 30.0, 10.0, 20.0])
FIXED, TARGET, CODES = 3, 4, 5
TARGETS = [FIRST_CODE + TARGET]
HORIZONS = (15.0, 60.0)
MANY = 20_000
SPACE = TokenSpace(FIRST_CODE + CODES, 3, np.full((FIRST_CODE + CODES, 1), PADDING, dtype=np.int32))


def process(
    random: np.random.Generator, state: NDArray[np.int64], days: NDArray[np.float64], passed: float = 0.0
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Run, code and time of all events up to `days` of each run; `passed` days of the first wait lie behind."""
    time, parts = np.zeros(len(state)), []
    first = passed
    while (time <= days).any():
        # An exponential wait has no memory; a fixed one has `passed` behind it.
        wait = np.where(state == FIXED, MEAN_WAIT[FIXED] - first, random.exponential(MEAN_WAIT[state]))
        first, time = 0.0, time + wait
        state = (NEXT[state].cumsum(axis=1) < random.random((len(state), 1))).sum(axis=1).clip(0, CODES - 1)
        runs = np.flatnonzero(time <= days)
        parts.append((runs, state[runs], time[runs]))
    run, code, at = (np.concatenate(part) for part in zip(*parts, strict=True))
    return run, code, at


def histories(seed: int, rows: int, days: tuple[float, float]) -> Sequences:
    """Rows of the process, each seen for a time of its own."""
    random = np.random.default_rng(seed)
    start, at = random.integers(0, CODES, rows), random.uniform(*days, rows)
    run, code, time = process(random, start, at)
    run, code, time = (np.concatenate(pair) for pair in ((np.arange(rows), run), (start, code), (np.zeros(rows), time)))
    order = np.lexsort((time, run))
    return sequences(np.bincount(run, minlength=rows), code[order] + FIRST_CODE, time[order], at)


def sequences(lengths: Any, code: Any, time: Any, at: Any) -> Sequences:
    """Events without numbers."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    code, time, at = np.asarray(code, np.int32), np.asarray(time, np.float64), np.asarray(at, np.float64)
    none = np.zeros(len(code), dtype=np.uint8)
    return Sequences(offsets, code, none, np.full(len(code), np.nan, np.float32), time, at)


def waiting(state: int, passed: float, rows: int) -> Sequences:
    """Rows that differ in what was before, with the last event `passed` days ago."""
    some = histories(7, 4 * rows, (200.0, 300.0))
    ends = np.flatnonzero(some.code == FIRST_CODE + state)
    ends = ends[np.unique(np.searchsorted(some.offsets, ends, side="right"), return_index=True)[1]]
    ends = ends[ends - some.offsets[np.searchsorted(some.offsets, ends, side="right") - 1] > 2][:rows]
    begins = some.offsets[np.searchsorted(some.offsets, ends, side="right") - 1]
    place = np.concatenate([np.arange(a, b + 1) for a, b in zip(begins, ends, strict=True)])
    return sequences(ends - begins + 1, some.code[place], some.time[place], some.time[ends] + passed)


def true_probability(state: int, passed: float, horizon: float) -> float:
    """The process's own probability of the target within the horizon, from many runs of it."""
    random = np.random.default_rng([state, int(horizon)])
    run, code, _ = process(random, np.full(MANY, state), np.full(MANY, horizon), passed)
    return len(np.unique(run[code == TARGET])) / MANY


@pytest.fixture(scope="module")
def model() -> PretrainingNetwork:
    """A small network that has learnt the process."""
    shape = NetworkShape("causal_transformer", width=32, layers=1, heads=2, dropout=0.0)
    loop = LoopSettings(learning_rate=1e-2, tokens=1024, max_epochs=8, patience=8, device="cpu")
    return pretrain_network(Recipe(shape, loop), SPACE, histories(0, 2000, (200.0, 400.0)), None)[0]


@pytest.fixture(scope="module")
def untrained() -> PretrainingNetwork:
    """A network whose states matter, with waits of days."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = PretrainingNetwork(SPACE, NetworkShape("causal_transformer", 16, 2, 2, 0.0)).eval()
    with torch.no_grad():
        found.gap.bias[:14] = -6.0  # the bins up to about seven days
    torch.nn.init.normal_(found.quantile[-1].weight, std=1.0, generator=torch.Generator().manual_seed(1))
    return found


@pytest.mark.parametrize("state", range(CODES))
def test_roll_out_gives_the_process_its_probabilities(model: PretrainingNetwork, state: int) -> None:
    rows = waiting(state, 0.0, 60)
    futures = roll_out(model, rows, settings=RollOut(max(HORIZONS), futures=50, seed=1))
    for horizon in HORIZONS:
        share, error = futures.probability(TARGETS, horizon_days=horizon)
        truth = true_probability(state, 0.0, horizon)
        # Three standard errors of both simulations, and a tenth of the truth for what the network has not learnt.
        noise = 3 * np.hypot(np.sqrt((error**2).sum()) / len(rows), np.sqrt(truth * (1 - truth) / MANY))
        assert share.mean() == pytest.approx(truth, abs=noise + 0.1 * truth + 0.01)


def test_risks_of_new_rows_are_calibrated(model: PretrainingNetwork) -> None:
    before = histories(11, 400, (150.0, 250.0))
    random = np.random.default_rng(12)
    last = before.code[before.offsets[1:] - 1] - FIRST_CODE
    passed = before.at - before.time[before.offsets[1:] - 1]
    happened = np.array(
        [
            (process(random, np.array([s]), np.array([30.0]), p if s == FIXED else 0.0)[1] == TARGET).any()
            for s, p in zip(last, passed, strict=True)
        ]
    )
    risk, _ = roll_out(model, before, settings=RollOut(30.0, futures=40)).probability(TARGETS)
    # Observed over expected; its standard error is about 0.09 with some 100 events.
    assert happened.sum() / risk.sum() == pytest.approx(1, abs=0.27)
    assert risk[happened].mean() > risk[~happened].mean()


def test_an_exponential_wait_has_no_memory(model: PretrainingNetwork) -> None:
    share = [
        roll_out(model, waiting(2, passed, 60), settings=RollOut(30.0, futures=50, seed=2))
        .probability(TARGETS)[0]
        .mean()
        for passed in (0.0, 20.0)
    ]
    assert share[1] == pytest.approx(share[0], abs=0.05)


def test_a_fixed_wait_of_which_most_has_passed_is_over_soon(model: PretrainingNetwork) -> None:
    every = range(FIRST_CODE, FIRST_CODE + CODES)
    fresh, late = (
        roll_out(model, waiting(FIXED, passed, 40), settings=RollOut(30.0, futures=50)).probability(
            every, horizon_days=2.0
        )
        for passed in (0.0, 9.0)
    )
    assert late[0].mean() > 0.97
    assert fresh[0].mean() < 0.03


@given(
    logits=st.lists(st.floats(-4, 2), min_size=len(GAP_BOUNDS), max_size=len(GAP_BOUNDS)),
    elapsed=st.one_of(st.none(), st.just(0.0), st.floats(1e-3, 40_000)),
)
@settings(max_examples=30, deadline=None)
def test_waits_follow_their_hazards(logits: list[float], elapsed: float | None) -> None:
    """Against the survival function in closed form, at places on the bins' own scale."""
    hazards = 1 / (1 + np.exp(-np.array(logits)))
    bounds = np.array(GAP_BOUNDS)
    bounds[-1] = LONGEST_WAIT_DAYS

    def survival(days: float) -> float:
        found = 1 - hazards[0]
        for number in range(1, len(bounds)):
            low, high = bounds[number - 1], bounds[number]
            share = np.log(max(days, low) / low) / np.log(high / low) if number > 1 else days / high
            found *= 1 - hazards[number] * np.clip(share, 0, 1)
        return float(found)

    # Evenly spread numbers in place of random ones: bins by a grid, places by multiples of the golden ratio.
    count = 4000
    steps = torch.arange(count, dtype=torch.float64)
    uniform = torch.stack([(steps + 0.5) / count, (steps * 0.6180339887498949) % 1])
    passed = torch.full((count,), np.nan if elapsed is None else elapsed, dtype=torch.float64)
    bins, days = draw_wait(torch.tensor([logits]).expand(count, -1), passed, uniform)
    waits, begin = days.numpy(), 1.0 if elapsed is None else survival(elapsed)
    for later in (0.005, 0.5, 12.0, 300.0, 20_000.0):
        moment = later + (elapsed or 0.0)
        assert (waits > moment).mean() == pytest.approx(min(1.0, survival(moment) / begin), abs=0.02)
    assert (waits >= (elapsed or 0.0) - 1e-9).all()
    comes = torch.from_numpy(np.isfinite(waits))
    # A time that lies on a bound up to rounding may fall on its other side.
    assert (gap_bin(days[comes] * (1 - 1e-9)) != bins[comes]).sum() <= count / 1000
    if elapsed is None:
        assert (waits == 0).mean() == pytest.approx(hazards[0], abs=0.02)


def test_the_past_gives_the_states_of_the_whole_sequence(untrained: PretrainingNetwork) -> None:
    whole = histories(3, 6, (20.0, 120.0))
    begun = whole.take(np.arange(6))
    short = begun.take(np.arange(6), most=None)
    keep = np.minimum(short.lengths - 1, np.arange(1, 7))
    first = np.concatenate([np.arange(o, o + k) for o, k in zip(whole.offsets[:-1], keep, strict=True)])
    begun = sequences(keep, whole.code[first], whole.time[first], whole.at)
    order = np.array([5, 0, 2, 2])
    with torch.inference_mode():
        past = Past.of(untrained.network, begun, order)
        place = whole.offsets[:-1][order] + keep[order]
        event = (torch.from_numpy(whole.code[place]).long(), torch.zeros(4).long(), torch.zeros(4))
        past.append(event, whole.time[place] - whole.time[place - 1], whole.time[place])
        expected = untrained.states(padded(whole))[order, keep[order]]
    torch.testing.assert_close(past.state, expected, atol=1e-5, rtol=1e-5)


def test_a_full_context_changes_nothing_while_all_events_fit(untrained: PretrainingNetwork) -> None:
    """A context that is begun anew holds the same events, so that the same futures are drawn."""
    rows = histories(4, 5, (5.0, 30.0))
    wide = RollOut(60.0, futures=6, seed=3, most_new_events=12, most_events=400)
    anew = []
    original = Past.width.fget
    assert original is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Past, "width", property(lambda self: anew.append(1) or (original(self) if len(anew) % 5 else 400))
        )
        again = roll_out(untrained, rows, settings=wide)
    same(again, roll_out(untrained, rows, settings=wide))
    assert len(anew) > 5


def test_the_seed_decides_the_futures_and_chunks_only_their_draws(
    untrained: PretrainingNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, wanted = histories(5, 8, (5.0, 40.0)), RollOut(40.0, futures=5, seed=1, most_events=64)
    once = roll_out(untrained, rows, settings=wanted)
    same(once, roll_out(untrained, rows, settings=wanted))
    other = roll_out(untrained, rows, settings=dataclasses.replace(wanted, seed=2))
    assert len(other.row) != len(once.row) or (other.days != once.days).any()
    heard: list[tuple[int, int]] = []
    monkeypatch.setattr(generation, "MOST_BYTES", 1)
    apart = roll_out(untrained, rows, settings=wanted, progress=lambda *so_far: heard.append(so_far))
    assert heard[-1] == (40, 40)
    assert np.bincount(apart.row, minlength=8).all()


def test_futures_end_where_they_should(untrained: PretrainingNetwork) -> None:
    rows, stop = histories(6, 6, (5.0, 40.0)), FIRST_CODE + 1
    found = roll_out(untrained, rows, settings=RollOut(50.0, 8, stop_codes=(stop,), most_new_events=9, most_events=24))
    path = found.row * found.futures + found.future
    assert (found.days >= 0).all()
    assert (found.days <= 50).all()
    assert (np.diff(path) >= 0).all()
    assert (np.diff(found.days)[np.diff(path) == 0] >= 0).all()
    counts = np.bincount(path, minlength=48)
    assert counts.max() == 9
    assert (found.cut.ravel()[counts < 9] == 0).all()
    last = np.flatnonzero(np.diff(path, append=-1))
    assert (last[found.token[last] == stop] == np.flatnonzero(found.token == stop)).all()
    assert (found.token >= FIRST_CODE).all()
    assert found.quantile.max() == 3


def test_numbers_enter_as_the_table_has_them(untrained: PretrainingNetwork) -> None:
    tokens = FIRST_CODE + CODES
    plain = generation.value_table(untrained, None).numpy()
    assert plain.shape == (tokens, 4)
    np.testing.assert_allclose(plain[5], [0, -0.967421, 0, 0.967421], atol=1e-5)  # normal quantiles of 1/6, 1/2, 5/6
    means = np.full((tokens, 3), np.nan, dtype=np.float32)
    means[5] = [-2, 1, 3]
    np.testing.assert_allclose(generation.value_table(untrained, means).numpy()[5], [0, -2, 1, 3])
    np.testing.assert_allclose(generation.value_table(untrained, means).numpy()[6], plain[6])
    rows, wanted = histories(8, 4, (5.0, 40.0)), RollOut(40.0, futures=5)
    other = roll_out(untrained, rows, settings=wanted, values=np.full((tokens, 3), 4.0, np.float32))
    ours = roll_out(untrained, rows, settings=wanted)
    assert len(other.row) != len(ours.row) or (other.token != ours.token).any()
    with pytest.raises(InputError, match=r"values must be \(tokens, quantiles\)"):
        roll_out(untrained, rows, settings=wanted, values=means[1:])


def test_a_long_history_keeps_its_beginning_and_its_end() -> None:
    rows = sequences([6, 2], np.arange(4, 12), [0, 0, 5, 6, 7, 8, -1, 9], [10, 10])
    kept = first_and_latest(rows, 4)
    assert kept.code.tolist() == [4, 5, 8, 9, 10, 11]
    assert kept.lengths.tolist() == [4, 2]


def test_rows_without_events_have_no_probability(untrained: PretrainingNetwork) -> None:
    rows = sequences([0, 2], [4, 5], [0, 3], [3, 4])
    found = roll_out(untrained, rows, settings=RollOut(20.0, futures=4))
    share, error = found.probability(range(FIRST_CODE, FIRST_CODE + CODES))
    assert np.isnan([share[0], error[0]]).all()
    assert not np.isnan([share[1], error[1]]).any()
    empty = roll_out(untrained, rows.take(np.array([0])), settings=RollOut(20.0, futures=4))
    assert len(empty.row) == 0


def test_what_futures_say() -> None:
    found = Futures(
        row=np.array([0, 0, 0, 1]), future=np.array([0, 0, 2, 3]), token=np.array([4, 5, 5, 4], dtype=np.int32),
        days=np.array([1.0, 2.0, 9.0, 3.0]), quantile=np.zeros(4, dtype=np.uint8), known=np.ones(2, dtype=bool),
        cut=np.zeros((2, 4), dtype=bool), horizon_days=10.0,
    )  # fmt: skip
    share, error = found.probability([5])
    assert share.tolist() == [0.5, 0]
    assert error.tolist() == [0.25, 0]
    assert found.probability([4, 5], horizon_days=2.5)[0].tolist() == [0.25, 0]
    assert found.first_event_days([5], (0.25, 0.5, 0.75)).tolist() == [[2, 9, np.inf], [np.inf] * 3]
    assert found.events_of(0, 0) == [(1.0, 4, 0), (2.0, 5, 0)]
    with pytest.raises(InputError, match="at most 10, as simulated; got 11"):
        found.probability([5], horizon_days=11)


def test_only_a_causal_network_can_be_rolled_out() -> None:
    masked = PretrainingNetwork(SPACE, NetworkShape("transformer", 16, 1, 2))
    with pytest.raises(InputError, match="needs a causal_transformer"):
        roll_out(masked, histories(1, 2, (5.0, 9.0)), settings=RollOut(5.0))
    with pytest.raises(InputError, match="horizon_days"):
        RollOut(0.0)
    with pytest.raises(InputError, match="futures and most_new_events"):
        RollOut(1.0, futures=0)


def same(one: Futures, other: Futures) -> None:
    """Equal futures; times up to rounding."""
    np.testing.assert_array_equal(one.row, other.row)
    np.testing.assert_array_equal(one.future, other.future)
    np.testing.assert_array_equal(one.token, other.token)
    np.testing.assert_array_equal(one.quantile, other.quantile)
    np.testing.assert_allclose(one.days, other.days, rtol=1e-5)
