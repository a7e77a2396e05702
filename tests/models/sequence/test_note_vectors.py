"""Notes' vectors go with their events: taken, stacked, hidden, explained; they are standardised by training rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from careloop import InputError
from careloop.models.sequence.arrays import EVENT_ARRAYS, SequenceParts, Sequences, TokenSpace, some_notes, stacked
from careloop.models.sequence.batches import padded
from careloop.models.sequence.estimators import SequenceClassifier
from careloop.models.sequence.explanation.attribution import Score, integrated_gradients, log_odds
from careloop.models.sequence.explanation.removal import kept_events, occlusion

torch = pytest.importorskip("torch")
E, U = 6, 20
LOG_ODDS = Score(outcome=1)


@pytest.fixture(scope="session")
def noted(sequences: Sequences) -> Sequences:
    """The simulated rows; about a third of the events have one of twenty notes, of which no event has the last."""
    random = np.random.default_rng(4)
    note = random.integers(0, U - 1, len(sequences.code)).astype(np.int32)
    note[random.random(len(note)) < 0.7] = -1
    return replace(sequences, note=note, notes=random.normal(3, 1, (U, E)).astype(np.float16))


@pytest.fixture(scope="session")
def note_space(space: TokenSpace) -> TokenSpace:
    return replace(space, note_width=E)


def vectors(sequences: Sequences) -> list[list[bytes | None]]:
    """Each row's events' vectors, None for no note."""
    assert sequences.note is not None
    assert sequences.notes is not None
    of = [sequences.notes[i].tobytes() if i >= 0 else None for i in sequences.note]
    return [of[begin:end] for begin, end in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)]


@settings(deadline=None)
@given(rows=st.lists(st.integers(0, 299), max_size=20), most=st.none() | st.integers(0, 6))
def test_rows_are_taken_with_their_own_notes(noted: Sequences, rows: list[int], most: int | None) -> None:
    whole, taken = vectors(noted), noted.take(np.array(rows, dtype=np.intp), most=most)
    expected = [whole[r] if most is None else whole[r][max(0, len(whole[r]) - most) :] for r in rows]
    assert vectors(taken) == expected
    assert taken.notes is not None
    assert {v.tobytes() for v in taken.notes} == {v for row in expected for v in row if v is not None}


@settings(deadline=None)
@given(seed=st.integers(0, 1000), rows=st.lists(st.integers(0, 49), max_size=20))
def test_parts_and_stacks_keep_notes_apart(noted: Sequences, seed: int, rows: list[int]) -> None:
    order = np.random.default_rng(seed).permutation(50)
    halves = (noted.take(order[:20]), noted.take(order[20:]))
    back = np.argsort(order)
    parts = SequenceParts(
        halves, np.repeat([0, 1], [20, 30])[back], np.concatenate([np.arange(20), np.arange(30)])[back]
    )
    chosen = np.array(rows, dtype=np.intp)
    assert vectors(parts.take(chosen)) == vectors(noted.take(chosen))
    assert vectors(stacked(halves)) == vectors(noted.take(order))
    assert parts.note_width == E


def test_parts_that_share_a_table_go_on_sharing_it(noted: Sequences, sequences: Sequences) -> None:
    twice = stacked([noted, noted])
    assert twice.notes is noted.notes
    assert vectors(twice) == vectors(noted) * 2
    with pytest.raises(InputError, match="with and without notes"):
        stacked([noted, sequences])
    with pytest.raises(InputError, match="come together"):
        replace(sequences, note=noted.note)
    with pytest.raises(InputError, match="note must match 300 rows"):
        replace(noted, note=noted.note[1:])  # type: ignore[index]


def small_shape() -> Any:
    from careloop.models.sequence.network import NetworkShape

    return NetworkShape("gru", width=16, layers=1, heads=2, dropout=0.0)


def new_embedding(space: TokenSpace) -> Any:
    from careloop.models.sequence.network import EventEmbedding

    torch.manual_seed(0)
    return EventEmbedding(space, small_shape()).eval()


def embedded(embedding: Any, sequences: Sequences) -> NDArray[np.float32]:
    """The events' vectors (T, width), without those of the prediction times."""
    batch = padded(sequences)
    place = torch.arange(batch.code.shape[1]) < batch.last.unsqueeze(1)
    with torch.no_grad():
        return embedding(batch)[place].numpy()


def test_a_note_adds_a_linear_map_of_its_standardised_vector(noted: Sequences, note_space: TokenSpace) -> None:
    some = noted.take(np.arange(40))
    assert some.note is not None
    assert some.notes is not None
    embedding = new_embedding(note_space)
    embedding.scale_notes(noted)
    without = embedded(embedding, replace(some, note=None, notes=None))
    seen = noted.notes[np.unique(noted.note[noted.note >= 0])].astype(float)  # type: ignore[index, operator]
    assert len(some_notes(noted)) == len(seen) == U - 1
    scaled = np.clip((some.notes - seen.mean(axis=0)) / seen.std(axis=0, ddof=1), -5, 5)
    added = scaled @ embedding.note.weight.detach().numpy().T + embedding.note.bias.detach().numpy()
    expected = without + np.where(some.note[:, None] >= 0, added[some.note], 0)
    np.testing.assert_allclose(embedded(embedding, some), expected, atol=2e-3)
    assert np.abs(embedded(embedding, some) - without).max() > 0.1


def test_notes_of_one_row_have_no_scale(noted: Sequences, note_space: TokenSpace) -> None:
    embedding = new_embedding(note_space)
    embedding.scale_notes(replace(noted.take(np.arange(0)), note=np.empty(0, dtype=np.int32)))
    assert embedding.note_mean.tolist() == [0] * E
    flat = replace(noted, notes=np.full((U, E), 2, dtype=np.float16))
    embedding.scale_notes(flat)
    assert embedding.note_deviation.tolist() == [1] * E


def test_a_hidden_event_hides_its_note(noted: Sequences, note_space: TokenSpace) -> None:
    from careloop.models.sequence.training.pretraining import PretrainingNetwork, hide, masked_loss

    batch, embedding = padded(noted), new_embedding(note_space)
    hidden, codes, numbers = hide(batch, embedding, torch.Generator().manual_seed(1))
    assert hidden.note is not None
    assert batch.note is not None
    told = codes | numbers
    assert (batch.note[told] > 0).any()
    assert not hidden.note[told].any()
    assert torch.equal(hidden.note[~told], batch.note[~told])
    torch.manual_seed(0)
    model, other = PretrainingNetwork(note_space, small_shape()).eval(), batch.notes.clone()  # type: ignore[union-attr]
    visible = torch.unique(hidden.note)
    gone = torch.tensor([i for i in range(len(other)) if i + 1 not in visible], dtype=torch.long)
    other[gone] = 9.0  # a table's rows that only hidden events have
    losses = [masked_loss(model, b, torch.Generator().manual_seed(1)) for b in (batch, batch._replace(notes=other))]
    assert torch.equal(losses[0].mean, losses[1].mean)
    losses[0].mean.backward()
    assert model.network.embedding.note.weight.grad.abs().sum() > 0  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def fitted(noted: Sequences, note_space: TokenSpace) -> SequenceClassifier:
    """A GRU fitted to a label that is the first number of the sum of the notes."""
    table = np.vstack([noted.notes, np.zeros((1, E))])  # type: ignore[list-item]
    row = np.repeat(np.arange(len(noted)), noted.lengths)
    sums = np.bincount(row, weights=table[noted.note, 0] - 3 * (noted.note >= 0), minlength=len(noted))  # type: ignore
    settings = {"width": 16, "layers": 1, "heads": 2, "dropout": 0.0, "tokens": 512, "learning_rate": 1e-2}
    model = SequenceClassifier(network="gru", max_epochs=20, device="cpu", members=2, **settings)
    return model.fit(noted, sums > 0, space=note_space)


def test_a_fitted_model_is_the_same_after_its_state_was_kept(fitted: SequenceClassifier, noted: Sequences) -> None:
    again = SequenceClassifier.from_state(*fitted.get_state())
    assert again.space_.note_width == E
    assert again.predict_proba(noted).tobytes() == fitted.predict_proba(noted).tobytes()
    blank = replace(noted, note=np.full_like(noted.note, -1))
    assert np.abs(fitted.predict_proba(noted) - fitted.predict_proba(blank)).mean() > 0.1


def test_states_without_notes_are_as_ever(sequences: Sequences, space: TokenSpace) -> None:
    model = SequenceClassifier(network="gru", width=8, layers=1, heads=2, max_epochs=1, device="cpu")
    state, arrays = model.fit(sequences, np.arange(300) % 2, space=space).get_state()
    assert "note_width" not in state
    assert not [name for name in arrays if "note" in name]


def test_networks_and_sequences_must_agree_on_notes(
    fitted: SequenceClassifier, noted: Sequences, sequences: Sequences, space: TokenSpace
) -> None:
    with pytest.raises(InputError, match="of width 6, the sequences have width 0"):
        fitted.predict_proba(sequences)
    with pytest.raises(InputError, match="of width 0, the sequences have width 6"):
        SequenceClassifier(device="cpu").fit(noted, np.arange(300) % 2, space=space)


def test_contributions_of_events_hold_those_of_their_notes(fitted: SequenceClassifier, noted: Sequences) -> None:
    """They add up to the patient's log-odds, and the reference does not know the notes."""
    rows = noted.take(np.arange(25))
    found = integrated_gradients(fitted, rows, score=LOG_ODDS)
    assert np.abs(found.error).max() < 0.02
    np.testing.assert_allclose(found.score, log_odds(fitted, rows, score=LOG_ODDS))
    assert rows.note is not None
    shuffled = replace(rows, note=np.where(rows.note >= 0, (rows.note + 1) % len(rows.notes), -1).astype(np.int32))  # type: ignore
    other = integrated_gradients(fitted, shuffled, score=LOG_ODDS)
    np.testing.assert_allclose(other.base, found.base, atol=1e-5)
    assert np.abs(other.score - found.score).max() > 0.5
    has_note = rows.note >= 0
    assert np.abs(found.events[has_note]).mean() > 2 * np.abs(found.events[~has_note]).mean()


def test_events_are_taken_out_with_their_notes(fitted: SequenceClassifier, noted: Sequences) -> None:
    rows = noted.take(np.arange(8))
    keep = np.arange(len(rows.code)) % 3 > 0
    left = kept_events(rows, keep)
    flat = [v for row in vectors(rows) for v in row]
    assert [v for row in vectors(left) for v in row] == [v for v, k in zip(flat, keep, strict=True) if k]
    found = occlusion(fitted, rows, score=LOG_ODDS)
    first = kept_events(rows, np.arange(len(rows.code)) != 0)
    expected = (log_odds(fitted, rows, score=LOG_ODDS) - log_odds(fitted, first, score=LOG_ODDS))[found.row[0]]
    assert found.difference[0] == pytest.approx(expected, abs=1e-5)
    assert set(EVENT_ARRAYS) < set(rows.event_arrays)


def test_a_context_that_is_cut_keeps_its_notes(noted: Sequences, note_space: TokenSpace) -> None:
    from careloop.models.sequence.futures.generation import RollOut, first_and_latest, roll_out
    from careloop.models.sequence.network import NetworkShape
    from careloop.models.sequence.training.pretraining import PretrainingNetwork

    rows = noted.take(np.flatnonzero(noted.lengths > 3)[:30])
    assert vectors(first_and_latest(rows, 4)) == [row[-4:] for row in vectors(rows)]
    torch.manual_seed(0)
    model = PretrainingNetwork(note_space, NetworkShape("causal_transformer", 16, 1, 2)).eval()
    settings = RollOut(3650.0, futures=3, most_events=8, most_new_events=12)  # rebuilds its context several times
    values = np.zeros((note_space.tokens, note_space.quantiles), dtype=np.float32)
    assert not torch.isnan(torch.from_numpy(roll_out(model, rows, settings=settings, values=values).days)).any()
