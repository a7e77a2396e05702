"""Protein language models from a folder: residues to their tokens, windows, batches, and folders that are refused.

The reference is transformers' own model and tokenizer, one protein at a time. The models are tiny and random.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from careloop import InputError
from careloop.genome.function.learned import embeddings
from careloop.genome.function.learned.embeddings import embed, encoder_sha256, open_encoder, window_starts
from careloop.genome.function.learned.model import read_network, write_network
from careloop.genome.function.learned.train import LearnSettings, train_network
from careloop.genome.function.proteins import AMINO_ACIDS, Proteins
from careloop.genome.function.terms.ontology import Term, made_ontology

pytest.importorskip("transformers")
PROTEINS = ["MKTAYIAKQRQISFVK", "MVLSPADKTNVKAAWGKVGAHAGEYGAEALERMFLSF", "GX", "MUKBWZC"]


def esm_folder(folder: Path, **changed: object) -> Path:
    from transformers import EsmConfig, EsmModel, EsmTokenizer

    folder.mkdir()
    tokens = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWC", *"XBUZO", ".", "-", "<null_1>", "<mask>"]
    (folder / "vocab.txt").write_text("\n".join(tokens))
    EsmTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    settings = {"position_embedding_type": "rotary", "max_position_embeddings": 1026, "token_dropout": True}
    config = EsmConfig(vocab_size=len(tokens), pad_token_id=1, mask_token_id=32, **{**sizes, **settings, **changed})
    saved(EsmModel(config), folder)
    return folder


def t5_folder(folder: Path) -> Path:
    """As ProtT5: every residue is a word, after which the sequence ends with </s>; and a decoder that is not used."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5Model

    folder.mkdir()
    tokens = ["<pad>", "</s>", "<unk>", *(f"\u2581{letter}" for letter in AMINO_ACIDS + "X")]
    raw = Tokenizer(models.Unigram([(token, -2.0) for token in tokens], unk_id=2))
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    saved(T5Model(T5Config(vocab_size=len(tokens), d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)), folder)
    return folder


def saved(model: object, folder: Path) -> None:
    import torch

    torch.manual_seed(0)
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    model.save_pretrained(folder)


def by_transformers(folder: Path, kind: str, sequence: str) -> np.ndarray:
    """(length, width) by the library's own tokenizer and model, special tokens cut."""
    import torch
    from transformers import AutoTokenizer, EsmModel, T5EncoderModel

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = {"esm": EsmModel, "t5": T5EncoderModel}[kind].from_pretrained(folder).eval()
    text = sequence if kind == "esm" else " ".join(sequence)
    with torch.inference_mode():
        states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].numpy()
    return states[1:-1] if kind == "esm" else states[:-1]


@pytest.fixture(scope="module")
def esm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return esm_folder(tmp_path_factory.mktemp("encoders") / "esm")


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return t5_folder(tmp_path_factory.mktemp("encoders") / "t5")


@pytest.mark.parametrize("kind", ["esm", "t5"])
def test_vectors_are_those_of_the_model_by_itself(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    encoder = open_encoder(folder)
    letters = [protein if kind == "esm" else protein.translate(str.maketrans("UBZ", "XXX")) for protein in PROTEINS]
    found = encoder.embed(PROTEINS)  # of unequal lengths, so padded together
    for protein, read, vector in zip(PROTEINS, letters, found, strict=True):
        expected = by_transformers(folder, kind, read)
        assert expected.shape == (len(protein), 16)
        np.testing.assert_allclose(encoder.residues(protein), expected, atol=2e-5)
        np.testing.assert_allclose(vector, expected.mean(axis=0), atol=2e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-2


def test_a_long_protein_is_read_in_windows_that_cover_it(esm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "WINDOW", 20)
    monkeypatch.setattr(embeddings, "OVERLAP", 8)
    embeddings._opened.cache_clear()
    encoder = open_encoder(esm)
    long = (PROTEINS[1] * 2)[:50]
    read = {start: by_transformers(esm, "esm", long[start : start + 20]) for start in (0, 12, 24, 30)}
    expected = np.stack([np.mean([read[s][i - s] for s in read if s <= i < s + 20], axis=0) for i in range(50)])
    np.testing.assert_allclose(encoder.residues(long), expected, atol=2e-5)
    np.testing.assert_allclose(encoder.embed(["MK", long])[1], expected.mean(axis=0), atol=2e-5)
    embeddings._opened.cache_clear()


@pytest.mark.parametrize("length", [0, 1, 1021, 1022, 1023, 1788, 1789, 5000])
def test_windows_end_with_the_protein_and_leave_no_gap(length: int) -> None:
    starts = window_starts(length, embeddings.WINDOW)
    covered = {i for start in starts for i in range(start, min(start + embeddings.WINDOW, length))}
    assert covered == set(range(length))
    assert all(start + embeddings.WINDOW <= length for start in starts) or length < embeddings.WINDOW


def test_learned_positions_bound_what_is_read_at_once(tmp_path: Path) -> None:
    # ESM-1b: 34 positions, of which the first two are the padding's; two of the others are special tokens'.
    folder = esm_folder(tmp_path / "esm1", position_embedding_type="absolute", max_position_embeddings=34)
    encoder = open_encoder(folder)
    assert encoder.window == 30
    protein = PROTEINS[1][:30]
    np.testing.assert_allclose(encoder.residues(protein), by_transformers(folder, "esm", protein), atol=2e-5)
    assert encoder.residues(PROTEINS[1]).shape == (37, 16)


def test_an_empty_protein_is_zeros_and_progress_counts_windows(esm: Path) -> None:
    heard: list[tuple[int, int]] = []
    found = embed(["", "MK"], esm, progress=lambda _, done, total: heard.append((done, total)))
    assert not found[0].any()
    assert found[1].any()
    assert heard[-1] == (1, 1)
    assert embed([], esm).shape == (0, 16)


def test_hash_goes_by_the_weights(esm: Path, t5: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(esm, tmp_path / "copied"))
    assert open_encoder(copied).sha256 == open_encoder(esm).sha256 != open_encoder(t5).sha256
    assert encoder_sha256(copied) == open_encoder(esm).sha256


def test_folders_that_hold_no_such_model_are_refused(esm: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json"):
        open_encoder(tmp_path)
    pickled = Path(shutil.copytree(esm, tmp_path / "pickled"))
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(InputError, match="never a pickle"):
        open_encoder(pickled)
    damaged = Path(shutil.copytree(esm, tmp_path / "damaged"))
    (damaged / "model.safetensors").write_bytes(b"\x08" * 64)
    with pytest.raises(InputError, match="cannot open"):
        open_encoder(damaged)
    folding = Path(shutil.copytree(esm, tmp_path / "folding"))
    text = (folding / "config.json").read_text()
    (folding / "config.json").write_text(text.replace('"is_folding_model": false', '"is_folding_model": true'))
    with pytest.raises(InputError, match="folds"):
        open_encoder(folding)


def test_weights_that_lack_a_layer_are_refused(esm: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    lacking = Path(shutil.copytree(esm, tmp_path / "lacking"))
    weights = load_file(lacking / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "layer.1." not in name}
    save_file(kept, lacking / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lack encoder\.layer\.1"):
        open_encoder(lacking)


def test_a_vocabulary_of_words_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "the": 2, "heart": 3}, unk_token="[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(tmp_path)
    small = BertConfig(vocab_size=4, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    saved(BertModel(small), tmp_path)
    with pytest.raises(InputError, match="token for each residue"):
        open_encoder(tmp_path)


def test_a_network_on_embeddings_is_read_with_its_own_model_only(esm: Path, t5: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    sequences = tuple("M" + "".join(random.choice(list(AMINO_ACIDS), 30)) for _ in range(120))
    ontology = made_ontology(
        {"GO:1": Term("root", "molecular_function"), "GO:2": Term("one", "molecular_function", ["GO:1"])}
    )
    truth = csr_matrix(np.column_stack([np.ones(120, bool), np.arange(120) % 2 == 0]))
    folder = Path(shutil.copytree(esm, tmp_path / "model"))
    proteins = Proteins(tuple(map(str, range(120))), sequences)
    learned = train_network(proteins, truth, ontology, settings=LearnSettings(epochs=1, embeddings=folder))
    write_network(learned, tmp_path / "network")
    moved = folder.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"config\.json"):
        read_network(tmp_path / "network")
    with pytest.raises(InputError, match="another model"):
        read_network(tmp_path / "network", embeddings=t5)
    again = read_network(tmp_path / "network", embeddings=moved)
    expected = replace(learned, embeddings=moved).predict(sequences[:5])
    np.testing.assert_allclose(again.predict(sequences[:5]), expected, atol=1e-6)
