"""Notes as vectors: against transformers itself, as of the prediction time, on disk, and with the wrong encoder."""

from __future__ import annotations

import importlib.util
import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from careloop import InputError
from careloop.features.timelines import TimelineRecipe, Timelines, TimelinesSection, extract_timelines, fit_timelines
from careloop.features.timelines.notes import FOLDER_VARIABLE, NoteReader, identified, reader_of
from careloop.models.sequence.arrays import EVENT_ARRAYS
from careloop.record import Record

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

Row = dict[str, Any]
MakeRecord = Callable[..., Record]
MakeKeys = Callable[..., pl.DataFrame]
HALF = 2e-3  # half precision of numbers up to 4
TEXTS = ["no fever", "high fever today, the patient sleeps .", "the " * 30, "fevers", "", "the patient eats ? unknown"]


def _module(path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module
    specification.loader.exec_module(module)
    return module


small = _module(Path(__file__).parents[2] / "small_encoder.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text encoder's folder."""
    return small.write_encoder(tmp_path_factory.mktemp("models") / "small-bert")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches the network."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)


@pytest.fixture
def reader(folder: Path) -> NoteReader:
    return reader_of(identified(folder), folder)


def by_transformers(folder: Path, text: str) -> NDArray[np.float32]:
    """The mean of the last hidden states over all tokens of a text, cut into windows by hand."""
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    room, states = small.POSITIONS - 2, []
    step = room - room // 4
    for begin in range(0, max(1, len(tokens) - room // 4), step):
        window = [tokenizer.cls_token_id, *tokens[begin : begin + room], tokenizer.sep_token_id]
        with torch.inference_mode():
            states.append(model(input_ids=torch.tensor([window])).last_hidden_state[0])
    return torch.cat(states).mean(dim=0).numpy()


def test_vectors_are_mean_states_of_transformers(reader: NoteReader, folder: Path) -> None:
    found = reader.vectors(TEXTS)
    assert found.dtype == np.float16
    assert found.shape == (len(TEXTS), small.WIDTH)
    for text, vector in zip(TEXTS, found, strict=True):
        np.testing.assert_allclose(vector, by_transformers(folder, text), atol=HALF)
    assert np.abs(found[0].astype(float) - found[1]).max() > 10 * HALF


@pytest.mark.parametrize("words", [37, 38, 39, 67, 68, 200])
def test_long_notes_are_read_in_windows_that_overlap(reader: NoteReader, folder: Path, words: int) -> None:
    text = " ".join(np.random.default_rng(words).choice(small.FILLER, words))
    np.testing.assert_allclose(reader.vectors([text])[0], by_transformers(folder, text), atol=HALF)


def test_a_vector_does_not_depend_on_other_texts(reader: NoteReader, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    texts = [small.written_note(random, fever=bool(i % 2), words=int(random.integers(2, 90))) for i in range(30)]
    heard: list[tuple[int, int]] = []
    together = reader.vectors(texts, progress=lambda done, total: heard.append((done, total)))
    monkeypatch.setattr("careloop.features.timelines.notes.TEXTS_AT_ONCE", 7)
    order = random.permutation(len(texts))
    apart = reader.vectors([texts[i] for i in order], progress=lambda done, total: heard.append((done, total)))
    assert apart.tobytes() == together[order].tobytes()
    assert reader.vectors(texts[:1]).tobytes() == together[:1].tobytes()
    assert heard == [(30, 30), (7, 30), (14, 30), (21, 30), (28, 30), (30, 30)]


def test_windows_of_one_length_are_computed_together_on_a_gpu(
    reader: NoteReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    from careloop.features.timelines import notes

    monkeypatch.setattr(notes, "GPU_TOKENS", 30)
    assert list(notes._of_one_length([9, 0, 5, 9, 5, 9, 9], "cuda")) == [[2, 4], [0, 3, 5], [6]]
    assert list(notes._of_one_length([9, 0, 5, 9], "cpu")) == [[2], [0], [3]]


def damaged(folder: Path, target: Path, what: str) -> Path:
    """A copy of the encoder's folder with something wrong."""
    import shutil

    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    match what:
        case "no configuration":
            (target / "config.json").unlink()
        case "pickled":
            (target / "model.safetensors").rename(target / "pytorch_model.bin")
        case "no weights":
            (target / "model.safetensors").unlink()
        case "no tokenizer":
            for file in target.glob("*token*"):
                file.unlink()
        case "a decoder":
            (target / "config.json").write_text(json.dumps({"model_type": "t5", "is_encoder_decoder": True}))
        case "code":
            (target / "config.json").write_text(
                json.dumps({**config, "model_type": "x", "auto_map": {"AutoConfig": "x.X"}})
            )
            (target / "x.py").write_text("raise SystemExit('the code ran')")
        case "cut off":
            (target / "model.safetensors").write_bytes((target / "model.safetensors").read_bytes()[:-9])
        case "other sizes":
            (target / "config.json").write_text(json.dumps({**config, "vocab_size": 5}))
        case "layers lacking":
            (target / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    return target


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no configuration", "no config.json; write the folder"),
        ("pickled", "pytorch_model.bin is a pickle or another format, which careloop never opens; .*save_pretrained"),
        ("no weights", "no weights; write its weights as safetensors"),
        ("no tokenizer", "no tokenizer; write its tokenizer there"),
        ("a decoder", "t5 is an encoder with a decoder; give an encoder such as BERT"),
        ("code", r"transformers cannot open it \(ValueError.*without code of its own"),
        ("cut off", r"transformers cannot open it \(SafetensorError"),
        ("other sizes", "transformers cannot open it"),
        ("layers lacking", r"its weights lack encoder\.layer\.2"),
    ],
)
def test_what_is_no_encoder_is_refused(folder: Path, tmp_path: Path, what: str, message: str) -> None:
    place = damaged(folder, tmp_path / "damaged", what)
    with pytest.raises(InputError, match=message):
        reader_of(identified(place), place).vectors(["no fever"])


def test_nothing_is_looked_for_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder bert-base-uncased; nothing is downloaded"):
        identified("bert-base-uncased")
    with pytest.raises(InputError, match=r"no folder .*nowhere"):
        identified(tmp_path / "nowhere")


def test_the_encoder_is_told_by_its_files(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = identified(folder)
    assert (own.name, own.width) == ("small-bert", small.WIDTH)
    copy, other = damaged(folder, tmp_path / "copy", ""), small.write_encoder(tmp_path / "other", seed=1)
    (copy / "README.md").write_text("a copy")
    assert identified(copy).sha256 == own.sha256 != identified(other).sha256
    with pytest.raises(InputError, match=rf"small-bert \(SHA-256 {own.sha256[:12]}.*other holds another one"):
        reader_of(own, other)
    with pytest.raises(InputError, match=rf"no folder .*gone: set {FOLDER_VARIABLE}"):
        reader_of(own, tmp_path / "gone")
    monkeypatch.setenv(FOLDER_VARIABLE, str(copy))
    assert (
        reader_of(own, tmp_path / "gone").vectors(["fever"]).tobytes()
        == reader_of(own, copy).vectors(["fever"]).tobytes()
    )
    (copy / "vocab.txt").write_text("changed")
    with pytest.raises(InputError, match="holds another one"):
        reader_of(own, tmp_path / "gone")


NOTES = [small.written_note(np.random.default_rng(i), fever=bool(i % 2), words=30) for i in range(4)]
day = st.integers(-10, 10).map(float)
timed = st.fixed_dictionaries(
    {
        "subject_id": st.integers(1, 3),
        "time": day,
        "known_time": st.none() | day,
        "code": st.sampled_from(["NOTE", "LAB", "OTHER"]),
        "numeric_value": st.none() | st.floats(-16, 16, width=16),
        "text_value": st.sampled_from([None, "positive", *NOTES]),
    }
)
static = st.fixed_dictionaries(
    {
        "subject_id": st.integers(1, 3),
        "code": st.sampled_from(["NOTE", "SEX"]),
        "text_value": st.sampled_from(["F", *NOTES]),
    }
)
rows_of_events = st.lists(timed | static, max_size=15)
keys_of_rows = st.lists(st.tuples(st.integers(1, 4), day), min_size=1, max_size=4)
disk = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def recipe(folder: Path) -> TimelineRecipe:
    """A recipe with the encoder, in whose sequences each event can be told by its token."""
    from careloop.features.timelines import Token

    tokens = tuple(Token(code) for code in ("NOTE", "LAB", "SEX"))
    section = TimelinesSection(text_encoder=str(folder), most_events=4)
    return TimelineRecipe(tokens, section, encoder=identified(folder))


def known_time(row: Row) -> float:
    return row["time"] if row.get("known_time") is None else row["known_time"]


def arrays_of(timelines: Timelines) -> dict[str, NDArray[Any]]:
    some = timelines.sequences.take(np.arange(len(timelines)))
    return {name: getattr(some, name) for name in ("offsets", *EVENT_ARRAYS, "note", "notes", "at")}


def assert_same(one: Timelines, other: Timelines) -> None:
    expected = arrays_of(one)
    for name, values in arrays_of(other).items():
        assert values.dtype == expected[name].dtype
        assert values.tobytes() == expected[name].tobytes(), name


@disk
@given(rows=rows_of_events, keys=keys_of_rows)
def test_every_event_has_the_vector_of_its_own_note(
    make_record: MakeRecord,
    make_keys: MakeKeys,
    recipe: TimelineRecipe,
    reader: NoteReader,
    rows: list[Row],
    keys: list[tuple[int, float]],
) -> None:
    found = extract_timelines(make_record(rows), make_keys(*keys), recipe)
    vectors = {text: vector.tobytes() for text, vector in zip(NOTES, reader.vectors(NOTES), strict=True)}
    for number, (subject, now) in enumerate(keys):
        one = found.sequences.take(np.array([number]))
        assert one.note is not None
        assert one.notes is not None
        known = [r for r in rows if r["subject_id"] == subject and "time" in r and max(r["time"], known_time(r)) <= now]
        first = {(r["code"], r["text_value"]) for r in rows if r["subject_id"] == subject and "time" not in r}
        notes = [one.notes[i].tobytes() if i >= 0 else None for i in one.note]
        statics = len(one.code) - min(len(known), 4)
        assert sorted(notes[:statics], key=str) == sorted((vectors.get(text) for _, text in first), key=str)
        if len(known) <= 4:
            assert sorted(notes[statics:], key=str) == sorted((vectors.get(r["text_value"]) for r in known), key=str)
        assert len(one.notes) == len({note for note in notes if note is not None})


@disk
@given(rows=rows_of_events, later=rows_of_events, keys=keys_of_rows)
def test_notes_known_later_change_nothing(
    make_record: MakeRecord,
    make_keys: MakeKeys,
    recipe: TimelineRecipe,
    rows: list[Row],
    later: list[Row],
    keys: list[tuple[int, float]],
) -> None:
    last = max(day for _, day in keys)
    unknown = [{**row, "known_time": last + 0.5 + abs(row["known_time"] or 0)} for row in later if "time" in row]
    changed = [{**row, "text_value": "the patient sleeps " * 9, "time": row["time"] - 1} for row in unknown]
    known = [row for row in rows if "time" not in row or known_time(row) <= last]
    before = extract_timelines(make_record(known), make_keys(*keys), recipe)
    for more in (unknown, changed):
        assert_same(before, extract_timelines(make_record(known + more), make_keys(*keys), recipe))


def ward(make_record: MakeRecord, shards: int = 2) -> tuple[Record, NDArray[np.bool_]]:
    """Three hundred people with an admission and a note, which says with or without fever; nothing else tells them."""
    random = np.random.default_rng(0)
    fever = random.random(300) < 0.5
    rows: list[Row] = []
    for subject, has_fever in enumerate(fever.tolist()):
        rows.append({"subject_id": subject, "time": 0, "code": "ADMISSION"})
        note = small.written_note(random, fever=has_fever)
        rows.append({"subject_id": subject, "time": 1, "known_time": 2, "code": "NOTE", "text_value": note})
    return make_record(rows, shards=shards), fever


def test_a_folder_gives_back_the_same_mapped(
    make_record: MakeRecord, make_keys: MakeKeys, folder: Path, tmp_path: Path
) -> None:
    record, _ = ward(make_record)
    keys = make_keys(*((subject, 3) for subject in reversed(range(40))))
    section = TimelinesSection(text_encoder=str(folder))
    recipe = fit_timelines(record, keys, section)
    assert TimelineRecipe.from_json(recipe.to_json()) == recipe
    assert recipe.token_space().note_width == small.WIDTH
    heard: list[str] = []
    here = extract_timelines(record, keys, recipe, progress=lambda what, done, total: heard.append(what))
    assert set(heard) == {"timelines", "notes"}
    mapped = extract_timelines(record, keys, recipe, folder=tmp_path / "mapped")
    assert_same(here, mapped)
    parts = mapped.sequences.parts  # type: ignore[union-attr]
    assert all(isinstance(part.notes, np.memmap) for part in parts)
    assert not any(part.notes.flags.writeable for part in parts if part.notes is not None)
    some = mapped.take(np.array([7, 0, 7, 31]))
    some.save(tmp_path / "some")
    assert_same(some, Timelines.open(tmp_path / "some"))
    assert_same(some, here.take(np.array([7, 0, 7, 31])))
    assert sum(len(part.notes) for part in Timelines.open(tmp_path / "some").sequences.parts) == 3  # type: ignore
    notes = tmp_path / "mapped" / "00000.notes.npy"
    notes.write_bytes(notes.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"00000.notes.npy: missing or cut off"):
        Timelines.open(tmp_path / "mapped")


def test_without_an_encoder_timelines_are_as_ever(
    make_record: MakeRecord, make_keys: MakeKeys, folder: Path, tmp_path: Path
) -> None:
    record, _ = ward(make_record)
    keys = make_keys(*((subject, 3) for subject in range(40)))
    plain = fit_timelines(record, keys, TimelinesSection())
    with_notes = fit_timelines(record, keys, TimelinesSection(text_encoder=str(folder)))
    assert "text_encoder" not in json.loads(plain.to_json())
    assert plain.tokens == with_notes.tokens
    found = extract_timelines(record, keys, plain, folder=tmp_path / "plain")
    assert not list((tmp_path / "plain").glob("*.npy"))
    whole, other = (t.sequences.take(np.arange(40)) for t in (found, extract_timelines(record, keys, with_notes)))
    assert whole.note is None
    assert whole.note_width == 0
    for name in EVENT_ARRAYS:
        assert getattr(whole, name).tobytes() == getattr(other, name).tobytes()


def test_no_keys_give_no_rows(
    make_record: MakeRecord, make_keys: MakeKeys, recipe: TimelineRecipe, tmp_path: Path
) -> None:
    record = make_record([{"subject_id": 1, "time": 0, "code": "NOTE"}])
    for target in (None, tmp_path / "timelines"):
        found = extract_timelines(record, make_keys(), recipe, folder=target)
        assert (len(found), found.sequences.note_width) == (0, small.WIDTH)


def test_the_encoder_must_be_there_when_timelines_are_made(
    make_record: MakeRecord,
    make_keys: MakeKeys,
    recipe: TimelineRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = make_record([{"subject_id": 1, "time": 0, "code": "NOTE", "text_value": NOTES[0]}])
    with pytest.raises(InputError, match=r"text encoder: no folder .*gone"):
        fit_timelines(record, make_keys((1, 1)), TimelinesSection(text_encoder=str(tmp_path / "gone"), min_subjects=1))
    monkeypatch.setenv(FOLDER_VARIABLE, str(small.write_encoder(tmp_path / "other", seed=1)))
    with pytest.raises(InputError, match=f"other holds another one .*set {FOLDER_VARIABLE}"):
        extract_timelines(record, make_keys((1, 1)), recipe)


@pytest.mark.parametrize("network", ["gru", "transformer"])
def test_what_only_notes_tell_is_learnt_from_notes(
    make_record: MakeRecord, make_keys: MakeKeys, folder: Path, network: str
) -> None:
    """Chance without notes; with them nearly all, though the tiny encoder has never been trained."""
    from sklearn.metrics import roc_auc_score

    from careloop.models.sequence.estimators import SequenceClassifier

    record, fever = ward(make_record)
    keys = make_keys(*((subject, 3) for subject in range(300)))
    train, held_out = np.arange(220), np.arange(220, 300)
    settings = {"width": 16, "layers": 1, "heads": 2, "dropout": 0.0, "tokens": 128, "learning_rate": 1e-2}
    aurocs = []
    for encoder in (None, str(folder)):
        recipe = fit_timelines(record, keys[train], TimelinesSection(text_encoder=encoder))
        sequences = extract_timelines(record, keys, recipe).sequences
        model = SequenceClassifier(network=network, max_epochs=15, device="cpu", **settings)
        model.fit(sequences.take(train), fever[train], space=recipe.token_space())
        aurocs.append(roc_auc_score(fever[held_out], model.predict_proba(sequences.take(held_out))[:, 1]))
    assert aurocs[0] == 0.5
    assert aurocs[1] > 0.9


def test_notes_are_only_seen_when_known(make_record: MakeRecord, make_keys: MakeKeys, folder: Path) -> None:
    record, _ = ward(make_record)
    recipe = fit_timelines(record, make_keys(*((s, 3) for s in range(20))), TimelinesSection(text_encoder=str(folder)))
    early = extract_timelines(record, make_keys((0, 1.5), (0, 2)), recipe).sequences
    assert early.lengths.tolist() == [1, 2]
    assert early.take(np.array([0])).notes.shape == (0, small.WIDTH)  # type: ignore[union-attr]
    assert early.take(np.array([1])).note.tolist() == [-1, 0]  # type: ignore[union-attr]
    read: list[str] = []
    extract_timelines(record, make_keys((0, 1.5)), recipe, progress=lambda what, done, total: read.append(what))
    assert "notes" not in read
