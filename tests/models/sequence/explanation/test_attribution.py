"""Integrated gradients in closed form, beside Captum's results, complete, and finding what a simulation planted."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from careloop import InputError
from careloop.models.sequence.arrays import FIRST_CODE, PADDING, SequenceParts, Sequences, TokenSpace
from careloop.models.sequence.estimators import SequenceClassifier, SequenceHazard
from careloop.models.sequence.explanation.attribution import (
    COMPLETE_WITHIN,
    Attribution,
    Score,
    integrated_gradients,
    log_odds,
)
from careloop.models.sequence.explanation.removal import (
    Occlusion,
    deletion_curve,
    kept_events,
    occlusion,
    rank_agreement,
)

torch = pytest.importorskip("torch")
TOKENS, QUANTILES = 16, 4
PLANTED = 7  # the one code that matters in the simulation
SMALL: dict[str, Any] = {"width": 8, "layers": 1, "heads": 2, "dropout": 0.0}


def space(statics: int = 0) -> TokenSpace:
    """16 tokens, each below one of two that no event has."""
    ancestors = np.where(np.arange(TOKENS) % 2, TOKENS - 1, TOKENS - 2).astype(np.int32)[:, None]
    ancestors[[*range(FIRST_CODE), TOKENS - 2, TOKENS - 1]] = PADDING
    return TokenSpace(TOKENS, QUANTILES, ancestors, statics)


def simulated(rows: int, *, longest: int = 10, statics: int = 0, seed: int = 0) -> Sequences:
    """Random codes at random times, half of them with a number; some rows without events."""
    random = np.random.default_rng(seed)
    lengths = random.integers(0, longest + 1, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    events = int(offsets[-1])
    quantile = (random.integers(1, QUANTILES + 1, events) * (random.random(events) < 0.5)).astype(np.uint8)
    return Sequences(
        offsets=offsets,
        code=random.integers(FIRST_CODE, TOKENS - 2, events).astype(np.int32),
        quantile=quantile,
        value=np.where(quantile > 0, random.normal(size=events), np.nan).astype(np.float32),
        time=np.concatenate([np.sort(random.uniform(0, 1000, length)) for length in lengths]),
        at=np.full(rows, 1000.0),
        static=random.normal(size=(rows, statics)).astype(np.float32),
    )


def with_weights(model: Any, network: str, *, outputs: int, statics: int, members: int = 1) -> Any:
    """The estimator with networks whose weights follow from NumPy's generator, the same in every version of torch."""
    from careloop.models.sequence.network import NetworkShape, SequenceNetwork

    random = np.random.default_rng(1)
    model.space_, model.networks_ = space(statics), []
    for _ in range(members):
        one = SequenceNetwork(model.space_, NetworkShape(network, outputs=outputs, **SMALL))
        for _, weight in sorted(one.named_parameters()):
            weight.data = torch.from_numpy(random.normal(scale=0.5, size=weight.shape).astype(np.float32))
        for table in (one.embedding.code, one.embedding.by_value, one.embedding.quantile):
            table.weight.data[0] = 0.0
        model.networks_.append(one.eval())
    return model


def classifier(network: str = "gru", *, statics: int = 0, members: int = 1) -> SequenceClassifier:
    model = SequenceClassifier(network=network, members=members, **SMALL)
    model.classes_, model.class_weights_ = np.array([0, 1]), np.array([0.6, 2.0])
    return with_weights(model, network, outputs=1, statics=statics, members=members)


def hazard(network: str = "gru", *, cuts: list[float], causes: int, statics: int = 0, members: int = 1) -> Any:
    model = SequenceHazard(network=network, members=members, **SMALL)
    model.cuts_, model.causes_ = np.array(cuts), causes
    model.unique_times_ = model.cuts_[1:]
    return with_weights(model, network, outputs=causes * (len(cuts) - 1), statics=statics, members=members)


class Identity(torch.nn.Module):
    """A trunk that lets the events' vectors through."""

    def forward(self, events: Any, batch: Any) -> Any:
        return events


def linear(model: Any) -> Any:
    """The estimator with identity for a trunk and a head that is linear in the mean event and the static columns."""
    for network in model.networks_:
        network.trunk = Identity()
        network.head.pooled.weight.data[:, :8] = 0.0  # the last state, that of the prediction time
        network.head.static = torch.nn.Linear(2, 1, bias=False)
        network.head.static.weight.data[:] = 0.0
    return model


@pytest.mark.parametrize("model", [classifier(statics=2), hazard(cuts=[0.0, 50.0], causes=1, statics=2)])
def test_a_linear_network_is_explained_in_closed_form(model: Any) -> None:
    """An event adds the vectors of its code, ancestor and number, times the weights, over the number of states."""
    sequences, model = simulated(20, statics=2), linear(model)
    found = integrated_gradients(model, sequences, score=Score(), steps=2)
    network = model.networks_[0]
    weights = network.head.pooled.weight.data[0, 8:].numpy()
    codes, by_value, quantiles = (
        getattr(network.embedding, name).weight.data.numpy() for name in ("code", "by_value", "quantile")
    )
    above = codes[space().ancestors[sequences.code, 0]]
    numbers = np.nan_to_num(sequences.value)[:, None] * by_value[sequences.code] + quantiles[sequences.quantile]
    states = np.repeat(sequences.lengths + 1, sequences.lengths)
    assert found.events == pytest.approx((codes[sequences.code] + above + numbers) @ weights / states, abs=1e-5)
    assert found.static == pytest.approx(sequences.static * network.head.skip.weight.data.numpy(), abs=1e-5)
    assert found.error == pytest.approx(np.zeros(20), abs=1e-4)


# Captum 0.9.0, IntegratedGradients of the network's output along the same path, Gauss-Legendre with 400 points, for the
# first row of four or more events; the static columns have the same values in both, their part of the head being alone.
OF_CAPTUM = {
    "gru": [-0.05361, -0.04425, -0.03664, -0.03356, 0.02581, 0.00643, -0.01431, 0.04500, 0.01005],
    "temporal_cnn": [0.12334, 0.09709, 0.06074, -0.00778, -0.00749, -0.00952, 0.02485, 0.07813, -0.00792],
    "transformer": [0.01604, -0.01813, -0.01758, 0.00240, 0.00398, 0.01382, 0.00780, -0.01610, 0.00980],
}


@pytest.mark.parametrize("network", OF_CAPTUM)
def test_contributions_are_those_of_captum(network: str) -> None:
    sequences = simulated(12, statics=2)
    row = np.flatnonzero(sequences.lengths >= 4)[:1]
    found = integrated_gradients(classifier(network, statics=2), sequences.take(row), score=Score(), steps=64)
    assert found.events == pytest.approx(np.array(OF_CAPTUM[network]), abs=2e-5)
    assert found.static[0] == pytest.approx(np.array([-0.00198, 0.44768]), abs=2e-5)


ALL = [
    (classifier(kind, statics=2, members=members), Score())
    for kind, members in itertools.product(("gru", "temporal_cnn", "transformer", "causal_transformer"), (1, 2))
]
ALL += [
    (hazard(kind, cuts=[0.0, 10.0, 50.0, 90.0], causes=2, statics=2, members=2), Score(2, horizon))
    for kind, horizon in itertools.product(("gru", "transformer"), (5.0, 60.0, 90.0))
]


@pytest.mark.parametrize(("model", "score"), ALL)
def test_contributions_add_up_to_the_distance_from_the_reference(model: Any, score: Score) -> None:
    sequences = simulated(12, statics=2)
    found = integrated_gradients(model, sequences, score=score)
    assert np.abs(found.error).max() <= COMPLETE_WITHIN
    assert np.abs(found.score - found.base).max() > 10 * COMPLETE_WITHIN
    if score.horizon is None:
        risk = model.predict_proba(sequences)[:, 1]
    else:
        risk = model.predict_incidence(sequences, [score.horizon], cause=2)[:, 0]
    assert 1 / (1 + np.exp(-found.score)) == pytest.approx(risk, abs=1e-6)


def test_the_reference_keeps_the_times_and_tells_no_code_or_number() -> None:
    """At the reference every code is padding, whose vector is zero; changing codes or numbers cannot move it."""
    model, sequences = classifier(statics=2), simulated(12, statics=2)
    other = replace(sequences, code=np.full_like(sequences.code, PLANTED), quantile=np.ones_like(sequences.quantile))
    first, second = (integrated_gradients(model, some, score=Score()) for some in (sequences, other))
    assert first.base == pytest.approx(second.base, abs=1e-6)
    silent = replace(
        sequences,
        code=np.zeros_like(sequences.code),
        quantile=np.zeros_like(sequences.quantile),
        static=np.zeros_like(sequences.static),
    )
    assert log_odds(model, silent, score=Score()) == pytest.approx(first.base, abs=1e-5)


def test_more_steps_are_taken_until_contributions_add_up() -> None:
    model, sequences = classifier(statics=2), simulated(12, statics=2)
    few = integrated_gradients(model, sequences, score=Score(), steps=1)
    many = integrated_gradients(model, sequences, score=Score(), steps=256)
    assert few.steps.max() > few.steps.min() == 1
    assert np.abs(few.error).max() <= COMPLETE_WITHIN
    assert many.events == pytest.approx(few.events, abs=0.1)
    assert np.abs(many.error).max() < 1e-4
    impossible = integrated_gradients(model, sequences, score=Score(), steps=512)
    assert (impossible.steps == 512).all()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 6))
def test_rows_are_explained_alike_alone_and_together(seed: int, rows: int) -> None:
    model, sequences = classifier(statics=2), simulated(rows, statics=2, seed=seed)
    together = integrated_gradients(model, sequences, score=Score(), steps=4)
    alone = [integrated_gradients(model, sequences.take(np.array([i])), score=Score(), steps=4) for i in range(rows)]
    assert together.events == pytest.approx(np.concatenate([one.events for one in alone]), abs=1e-4)
    assert together.static == pytest.approx(np.concatenate([one.static for one in alone]), abs=1e-4)


def test_sequences_in_parts_are_explained_as_they_are_asked_for() -> None:
    model, sequences = classifier(), simulated(6)
    order = np.array([4, 0, 3])
    parts = SequenceParts((sequences,), np.zeros(3, dtype=np.intp), order)
    found = integrated_gradients(model, parts, score=Score())
    assert found.events == pytest.approx(integrated_gradients(model, sequences.take(order), score=Score()).events)


def test_what_cannot_be_explained_is_said() -> None:
    sequences = simulated(3)
    with pytest.raises(InputError, match=r"a class, 0 to 1; got 2"):
        integrated_gradients(classifier(), sequences, score=Score(2))
    with pytest.raises(InputError, match="horizon above 0; got cause 1 and horizon 0"):
        integrated_gradients(hazard(cuts=[0.0, 9.0], causes=1), sequences, score=Score(1, 0.0))


@pytest.fixture(scope="module")
def planted() -> tuple[SequenceClassifier, Sequences]:
    """A trained network and 300 further rows of the simulation, whose risk is 0.9 with code 7 and 0.1 without."""
    sequences, random = simulated(1500, longest=8, seed=3), np.random.default_rng(4)
    risk = np.where(has_planted(sequences), 0.9, 0.1)
    labels = (random.random(1500) < risk).astype(int)
    training = np.arange(1200)
    model = SequenceClassifier(network="gru", learning_rate=1e-2, max_epochs=16, tokens=1024, **(SMALL | {"width": 16}))
    return model.fit(sequences.take(training), labels[training], space=space()), sequences.take(np.arange(1200, 1500))


def rows_of(sequences: Sequences) -> np.ndarray:
    return np.repeat(np.arange(len(sequences)), sequences.lengths)


def has_planted(sequences: Sequences) -> np.ndarray:
    return np.bincount(rows_of(sequences)[sequences.code == PLANTED], minlength=len(sequences)) > 0


def test_the_planted_code_is_found_and_removing_it_confirms_that(planted: Any) -> None:
    model, sequences = planted
    found, row = integrated_gradients(model, sequences, score=Score()), rows_of(sequences)
    removed = occlusion(model, sequences, score=Score(), groups=sequences.code)
    with_it = np.flatnonzero(has_planted(sequences))
    assert len(with_it) > 50
    for number in with_it:
        assert sequences.code[row == number][found.events[row == number].argmax()] == PLANTED
        mine = removed.row == number
        assert removed.group[mine][removed.difference[mine].argmax()] == PLANTED
    is_it = sequences.code == PLANTED
    assert found.events[is_it].mean() > 10 * np.abs(found.events[~is_it]).mean()
    several = rank_agreement(found, removed)
    assert np.isnan(several[sequences.lengths < 3]).all()
    assert np.nanmean(several) > 0.1


def test_the_explanation_beats_random_order_and_a_shuffled_one_does_not(planted: Any) -> None:
    model, sequences = planted
    found, row = integrated_gradients(model, sequences, score=Score()), rows_of(sequences)
    curve = deletion_curve(model, sequences, found, score=Score())
    assert curve.beats_random
    assert curve.rows == (sequences.lengths > 0).sum()
    assert (curve.explained.low > curve.random.high).all()
    assert (curve.explained.low < curve.explained.mean).all()
    for seed in range(3):
        order = np.lexsort((np.random.default_rng(seed).random(len(row)), row))
        shuffled = replace(found, events=found.events[order])
        assert not deletion_curve(model, sequences, shuffled, score=Score(), seed=seed).beats_random
    turned = deletion_curve(model, sequences, replace(found, events=-found.events), score=Score())
    assert turned.high < 0


def test_all_orders_end_alike_when_all_events_are_removed() -> None:
    model, sequences = classifier("transformer"), simulated(8)
    found = integrated_gradients(model, sequences, score=Score())
    curve = deletion_curve(model, sequences, found, score=Score(), fractions=(0.3, 1.0))
    assert curve.explained.mean[1] == pytest.approx(curve.random.mean[1], abs=1e-6)
    none = kept_events(sequences, np.zeros(len(sequences.code), dtype=bool))
    change = log_odds(model, sequences, score=Score()) - log_odds(model, none, score=Score())
    assert curve.explained.mean[1] == pytest.approx(change[sequences.lengths > 0].mean(), abs=1e-6)


@pytest.mark.parametrize("network", ["gru", "transformer"])
def test_occlusion_is_the_change_without_the_events(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each group's events are deleted by hand, one sequence after the other."""
    monkeypatch.setattr("careloop.models.sequence.explanation.removal.EVENTS_AT_ONCE", 50)
    model, sequences = classifier(network), simulated(6)
    for groups in (None, sequences.code % 3):
        found = occlusion(model, sequences, score=Score(), groups=groups)
        numbers = np.arange(len(sequences.code)) if groups is None else groups
        assert len(found.row) == len({*zip(rows_of(sequences), numbers, strict=True)})
        for row, group, difference in zip(found.row, found.group, found.difference, strict=True):
            one = sequences.take(np.array([row]))
            gone = np.flatnonzero(numbers[rows_of(sequences) == row] == group)
            arrays = {name: np.delete(getattr(one, name), gone) for name in ("code", "quantile", "value", "time")}
            less = replace(one, offsets=np.array([0, len(arrays["code"])]), **arrays)
            change = log_odds(model, one, score=Score()) - log_odds(model, less, score=Score())
            assert difference == pytest.approx(change[0], abs=1e-5)


def test_rank_agreement_is_spearmans_correlation_of_the_groups_sums() -> None:
    random, row = np.random.default_rng(0), np.array([0, 0, 0, 0, 1, 1, 2, 2, 2])
    difference = np.array([0.4, 0.1, 0.3, 0.3, 1.0, 2.0, 5.0, 5.0, 5.0])
    member = np.array([0, 0, 1, 2, 3, 3, 4, 5, 6, 7, 8])
    events = random.normal(size=len(member))
    offsets = np.array([0, 6, 8, 11])
    attribution = Attribution(offsets, events, np.zeros((3, 0)), np.zeros(3), np.zeros(3), np.zeros(3, dtype=int))
    found = rank_agreement(attribution, Occlusion(row, np.arange(9), difference, member))
    sums = [events[:2].sum(), events[2], events[3], events[4:6].sum()]
    assert found[0] == pytest.approx(spearmanr(sums, difference[:4]).statistic)
    assert np.isnan(found[1:]).all()  # two groups only; groups that are all alike


def test_rows_without_events() -> None:
    model, none = classifier(statics=2), simulated(3, longest=0, statics=2)
    found = integrated_gradients(model, none, score=Score())
    assert found.static.sum(axis=1) == pytest.approx(found.score - found.base, abs=COMPLETE_WITHIN)
    assert len(occlusion(model, none, score=Score()).row) == 0
    with pytest.raises(InputError, match="needs rows with events"):
        deletion_curve(model, none, found, score=Score())


def test_fractions_and_groups_are_checked() -> None:
    model, sequences = classifier(), simulated(3)
    found = integrated_gradients(model, sequences, score=Score())
    for wrong in ((0.2, 0.1), (0.0, 0.5), (0.5, 1.5), ()):
        with pytest.raises(InputError, match="fractions must rise"):
            deletion_curve(model, sequences, found, score=Score(), fractions=wrong)
    with pytest.raises(InputError, match=rf"one number for each of {len(sequences.code)} events"):
        occlusion(model, sequences, score=Score(), groups=np.zeros(1, dtype=int))
