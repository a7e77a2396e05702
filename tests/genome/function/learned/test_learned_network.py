"""The network of gene function learns motifs, is kept without pickles, and says where a prediction comes from."""

import json

import numpy as np
import pytest
from scipy.sparse import csr_matrix

pytest.importorskip("torch")

import torch

from careloop import InputError
from careloop.genome.function.learned.composition import AMINO_ACIDS, composition, residues
from careloop.genome.function.learned.model import read_network, write_network
from careloop.genome.function.learned.network import LONGEST, ProteinNetwork, letters_of
from careloop.genome.function.learned.positions import replaced, stretches
from careloop.genome.function.learned.train import LearnSettings, train_network
from careloop.genome.function.library import FunctionLibrary, with_network
from careloop.genome.function.proteins import Proteins
from careloop.genome.function.terms.ontology import Term, made_ontology

MOTIFS = {"GO:1": "HEXXHWCWCW".replace("X", "D"), "GO:2": "KKRKRKKKRK"}
ROOT = "GO:0"


def _proteins(n, seed):
    """Random proteins; half have a term's motif somewhere, and only those have the term."""
    random = np.random.default_rng(seed)
    sequences, truth, places = [], np.zeros((n, 3), dtype=bool), []
    for row in range(n):
        letters = random.choice(list(AMINO_ACIDS), random.integers(80, 120))
        motif = row % 3
        at = int(random.integers(30, 60))
        if motif:
            letters[at : at + 10] = list(MOTIFS[f"GO:{motif}"])
            truth[row, motif] = True
        truth[row, 0] = True
        sequences.append("".join(letters))
        places.append(at if motif else None)
    return Proteins(tuple(f"P{k}" for k in range(n)), tuple(sequences)), csr_matrix(truth), places


@pytest.fixture(scope="module")
def ontology():
    aspect = "molecular_function"
    terms = {ROOT: Term(name="root", aspect=aspect)}
    terms |= {name: Term(name=name, aspect=aspect, parents=[ROOT]) for name in MOTIFS}
    return made_ontology(terms, version="test")


@pytest.fixture(scope="module")
def learned(ontology):
    proteins, truth, _ = _proteins(420, seed=0)
    settings = LearnSettings(epochs=8, batch=32, learning_rate=4e-3)
    order = [ontology.places[name] for name in (ROOT, *MOTIFS)]
    spread = csr_matrix(truth.toarray()[:, np.argsort(order)])
    # Proteins of the root alone were not looked at: give them the other term's absence by a row that counts.
    return train_network(proteins, spread, ontology, settings=settings)


def test_terms_of_new_proteins_are_found(learned):
    proteins, truth, _ = _proteins(300, seed=1)
    found = learned.predict(proteins.sequences)
    assert set(learned.terms) == set(MOTIFS)
    has = truth.toarray()[:, 1:]
    rows = has.any(axis=1)
    order = [learned.terms.index(name) for name in MOTIFS]
    assert ((found[:, order] > 0.5) == has)[rows].mean() > 0.95


def test_the_stretch_named_is_where_the_motif_is(learned):
    proteins, _, places = _proteins(60, seed=2)
    hits = named = 0
    for row in range(60):
        term = {1: "GO:1", 2: "GO:2"}.get(row % 3)
        if term is None:
            continue
        for stretch in stretches(learned, proteins.sequences[row], [term]):
            named += 1
            hits += stretch.start < places[row] + 10 and stretch.end > places[row]
            assert stretch.drop > 0
    assert named > 12
    assert hits / named > 0.9


def test_random_weights_name_other_stretches(learned):
    """Adebayo et al., NeurIPS 2018: a map that does not change when the weights are random explains nothing."""
    torch.manual_seed(0)
    features = len(learned.scaling.mean)
    random = type(learned)(ProteinNetwork(features, len(learned.terms)).eval(), learned.terms, learned.scaling)
    proteins, _, places = _proteins(60, seed=2)
    hits = [
        stretch.start < places[row] + 10 and stretch.end > places[row]
        for row in range(60)
        if row % 3
        for stretch in stretches(random, proteins.sequences[row], [f"GO:{row % 3}"])
    ]
    assert len(hits) < 10 or np.mean(hits) < 0.6


def test_padding_and_company_do_not_matter(learned):
    proteins, _, _ = _proteins(30, seed=3)
    together = learned.predict(proteins.sequences)
    alone = np.vstack([learned.predict([sequence]) for sequence in proteins.sequences])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_network_comes_back_from_its_folder(learned, tmp_path):
    write_network(learned, tmp_path)
    again = read_network(tmp_path)
    proteins, _, _ = _proteins(10, seed=4)
    np.testing.assert_array_equal(learned.predict(proteins.sequences), again.predict(proteins.sequences))
    said = json.loads((tmp_path / "network.json").read_text())
    (tmp_path / "network.json").write_text(json.dumps(said | {"format_version": 99}))
    with pytest.raises(InputError, match="another version"):
        read_network(tmp_path)
    (tmp_path / "network.json").write_text(json.dumps(said | {"weights": "0"}))
    with pytest.raises(InputError, match="damaged"):
        read_network(tmp_path)


def test_training_is_the_same_twice(ontology):
    proteins, truth, _ = _proteins(120, seed=5)
    order = np.argsort([ontology.places[name] for name in (ROOT, *MOTIFS)])
    truth = csr_matrix(truth.toarray()[:, order])
    settings = LearnSettings(epochs=1)
    first, second = (train_network(proteins, truth, ontology, settings=settings) for _ in range(2))
    np.testing.assert_array_equal(first.predict(proteins.sequences[:5]), second.predict(proteins.sequences[:5]))


def test_killed_training_of_a_library_goes_on(ontology, tmp_path):
    proteins, truth, _ = _proteins(120, seed=5)
    order = np.argsort([ontology.places[name] for name in (ROOT, *MOTIFS)])
    library = FunctionLibrary(proteins, csr_matrix(truth.toarray()[:, order]), ontology)
    settings, folder = LearnSettings(epochs=3), tmp_path / "library"
    ends = []

    def killed(what, done, total):
        ends.append(done)
        if done == 2 * total // 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        with_network(library, settings=settings, folder=folder, progress=killed)
    assert len(list(tmp_path.iterdir())) == 1
    heard = []
    gone_on = with_network(library, settings=settings, folder=folder, progress=lambda _, done, __: heard.append(done))
    assert min(heard) > min(ends)
    assert not list(tmp_path.iterdir())
    straight = with_network(library, settings=settings)
    some = proteins.sequences[:5]
    np.testing.assert_array_equal(gone_on.network.predict(some), straight.network.predict(some))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="holds other files"):
        with_network(library, settings=settings, folder=tmp_path / "other")


def test_without_torch_the_remedy_is_named(learned, ontology, tmp_path, monkeypatch):
    write_network(learned, tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"careloop\[deep\]"):
        read_network(tmp_path)
    proteins, truth, _ = _proteins(120, seed=6)
    with pytest.raises(InputError, match="--no-network"):
        train_network(proteins, truth, ontology)


def test_too_few_proteins_or_terms_are_refused(ontology):
    proteins, truth, _ = _proteins(120, seed=6)
    with pytest.raises(InputError, match="at least 100"):
        train_network(proteins.take(np.arange(50)), truth[:50], ontology)
    with pytest.raises(InputError, match="no term has 100"):
        train_network(proteins, truth, ontology, settings=LearnSettings(fewest=100))


def test_composition_counts_what_is_there():
    whole = composition(["ACDEFGHIKLMNPQRSTVWY", "A", "MKKLLAXX"])
    assert whole.shape[0] == 3
    assert np.isfinite(whole).all()
    np.testing.assert_allclose(whole[0, :20], 0.05)
    np.testing.assert_allclose(whole[1, :20], np.eye(20)[0])
    assert whole[2, AMINO_ACIDS.index("K")] == pytest.approx(2 / 8)


def test_long_proteins_keep_both_ends():
    sequence = "A" * 400 + "W" * 500 + "C" * 400
    (row,) = letters_of([sequence])
    assert len(row) == LONGEST
    assert set(row[:300]) == {AMINO_ACIDS.index("A") + 1}
    assert set(row[-300:]) == {AMINO_ACIDS.index("C") + 1}


def test_replaced_keeps_the_rest():
    sequence = "".join(np.random.default_rng(0).choice(list(AMINO_ACIDS), 100))
    other = replaced(sequence, 40, np.random.default_rng(1))
    assert other[:40] == sequence[:40]
    assert other[60:] == sequence[60:]
    assert other[40:60] != sequence[40:60]
    assert len(residues(other)) == 100
