"""The caller's network: torch and ONNX agree, order does not matter, and the shipped one finds what was planted."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from careloop.genome.call import scorer
from careloop.genome.call.candidates import find_candidates, log_priors
from careloop.genome.call.evidence import FRAGMENT_FEATURES, MOST_FRAGMENTS, Evidence, gather_evidence
from careloop.genome.call.genotypes import joined
from careloop.genome.call.scorer import probabilities, score
from careloop.genome.call.site_features import SITE_FEATURES
from careloop.genome.call.train import (
    Density,
    Examples,
    Training,
    calibrate,
    examples_of,
    export,
    joined_examples,
    predict,
    train,
)
from careloop.genome.simulate.sample import SimulatedSample

torch = pytest.importorskip("torch")
onnxruntime = pytest.importorskip("onnxruntime")

DENSITY = Density(snvs=1e-3, indels=5e-4, heterozygous_share=0.6)


@pytest.fixture(scope="module")
def examples(simulated: SimulatedSample, random_reference: Path) -> Examples:
    return examples_of(simulated.bam, random_reference, ("c", 0, 40_000), truth=simulated.records, density=DENSITY)


def random_evidence(candidates: int, fragments: int) -> Evidence:
    """Noise, each candidate's fragments before its padding."""
    draw = np.random.default_rng(3)
    counts = draw.integers(1, fragments + 1, candidates)
    present = (np.arange(fragments) < counts[:, None]).astype(np.float32)
    features = draw.normal(size=(candidates, fragments, len(FRAGMENT_FEATURES))).astype(np.float32)
    sites = draw.normal(size=(candidates, len(SITE_FEATURES))).astype(np.float32)
    return Evidence(features * present[..., None], present, sites)


def test_examples_know_what_was_planted(examples: Examples, simulated: SimulatedSample) -> None:
    alleles = sum(len(record.alts) for record in simulated.records)
    assert alleles - 3 <= (examples.copies > 0).sum() <= alleles
    assert examples.evidence.fragments.shape[0] == len(examples.copies)
    ratios = (examples.evidence.fragments[..., 0] * examples.evidence.present).sum(axis=1)
    assert ratios[examples.copies == 2].min() > 0


def test_before_training_it_is_the_textbook_likelihood() -> None:
    """With no doubt about fragments and no correction: Li 2011, equation 2, and Bayes' rule."""
    from careloop.genome.call.network import GenotypeNetwork

    network = GenotypeNetwork(len(FRAGMENT_FEATURES), len(SITE_FEATURES)).eval()
    network.trust.bias.data[1] = -100.0
    ratios = [3.0, -2.0, 5.0]
    evidence = Evidence(
        np.zeros((1, 4, len(FRAGMENT_FEATURES)), np.float32),
        np.array([[1, 1, 1, 0]], np.float32),
        np.zeros((1, len(SITE_FEATURES)), np.float32),
    )
    evidence.fragments[0, :3, 0] = ratios
    priors = np.log([[0.9, 0.06, 0.04]])
    found = predict(network, Examples(evidence, priors, np.zeros(1, dtype=np.int64)))
    likelihoods = [1.0, math.prod(0.5 + 0.5 * math.exp(r) for r in ratios), math.exp(sum(ratios))]
    expected = np.exp(priors[0]) * likelihoods
    assert found[0] == pytest.approx(expected / expected.sum(), rel=1e-4)


def test_training_lowers_the_loss_and_the_export_agrees(
    examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = train(joined_examples([examples, examples]), Training(epochs=3, batch=16))
    found = predict(network, examples)
    rows = np.arange(len(examples.copies))
    assert -np.log(found[rows, examples.copies]).mean() < 0.3
    export(network, tmp_path / "network.onnx", metadata={"trained_on": "a test"})
    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"))
    assert session.get_modelmeta().custom_metadata_map == {"trained_on": "a test"}
    monkeypatch.setattr(scorer, "_session", lambda: session)
    assert np.abs(probabilities(examples.evidence, examples.log_priors) - found).max() < 1e-4
    other = random_evidence(7, 5)
    other.fragments[..., 0] *= 20 * np.exp(2)  # beyond the largest ratio that the network may make of any
    priors = np.log(np.full((7, 3), 1 / 3))
    expected = predict(network, Examples(other, priors, np.zeros(7, dtype=np.int64)))
    assert np.abs(probabilities(other, priors) - expected).max() < 1e-4


def test_calibration_finds_the_scale_and_shift_of_the_evidence() -> None:
    """Copies drawn from the network's own probabilities, whose evidence is then halved and shifted."""
    from careloop.genome.call.network import GenotypeNetwork

    network = GenotypeNetwork(len(FRAGMENT_FEATURES), len(SITE_FEATURES)).eval()
    evidence = random_evidence(4000, 6)
    evidence.fragments[..., 0] *= 2
    priors = np.log(np.tile([0.8, 0.12, 0.08], (4000, 1)))
    stated = predict(network, Examples(evidence, priors, np.zeros(4000, dtype=np.int64)))
    draws = np.random.default_rng(6).random((4000, 1))
    copies = (draws > stated.cumsum(axis=1)[:, :2]).sum(axis=1).astype(np.int64)
    with torch.no_grad():
        network.evidence_scale.fill_(0.5)
        network.variant_shift.fill_(1.0)
    calibrate(network, Examples(evidence, priors, copies))
    assert network.evidence_scale.item() == pytest.approx(1.0, abs=0.1)
    assert network.variant_shift.item() == pytest.approx(0.0, abs=0.15)


def test_the_order_of_fragments_and_padding_change_nothing() -> None:
    evidence = random_evidence(20, 9)
    priors = np.log(np.full((20, 3), 1 / 3))
    fragments = evidence.fragments.copy()
    for row, count in enumerate(evidence.present.sum(axis=1).astype(int)):
        fragments[row, :count] = fragments[row, :count][::-1]
    wider = [(0, 0), (0, 4)]
    changed = Evidence(np.pad(fragments, [*wider, (0, 0)]), np.pad(evidence.present, wider), evidence.sites)
    assert np.abs(probabilities(changed, priors) - probabilities(evidence, priors)).max() < 1e-5


def test_the_shipped_network_finds_what_was_planted(simulated: SimulatedSample, random_reference: Path) -> None:
    """On a sample simulated from random bases, which has nothing in common with its training."""
    import pysam

    found = find_candidates(simulated.bam, random_reference, ("c", 0, 40_000))
    with pysam.AlignmentFile(str(simulated.bam)) as reads, pysam.FastaFile(str(random_reference)) as bases:
        table = score(found, reads, bases.fetch)
        again = score(found, reads, bases.fetch)
        nothing = score([], reads, bases.fetch)
    assert table.shape == (len(found), 3)
    assert table.sum(axis=1) == pytest.approx(1)
    assert (table == again).all()
    assert nothing.shape == (0, 3)
    calls = {(call.start, tuple(sorted(call.alts))): call for call in joined(found, table) if call.passed}
    planted = {
        (record.start, tuple(sorted(record.alts))): tuple(sorted(next(iter(record.samples.values())).alleles))
        for record in simulated.records
        if len(record.alts) == 1
    }
    missed = set(planted) - set(calls)
    assert len(missed) <= 2
    assert len(set(calls) - set(planted)) <= 4  # places with two alleles among them
    wrong = [key for key in set(planted) & set(calls) if calls[key].alleles != planted[key]]
    assert len(wrong) <= 1


def test_evidence_is_bounded_and_joins_mates(simulated: SimulatedSample, random_reference: Path) -> None:
    import pysam

    found = find_candidates(simulated.bam, random_reference, ("c", 0, 10_000))
    with pysam.AlignmentFile(str(simulated.bam)) as reads, pysam.FastaFile(str(random_reference)) as bases:
        evidence = gather_evidence(found, reads, bases.fetch)
        one = found[len(found) // 2]
        names = {read.query_name for read in reads.fetch("c", one.start, one.end) if not read.is_duplicate}
    assert evidence.fragments.shape[1] <= MOST_FRAGMENTS
    assert evidence.present[len(found) // 2].sum() == pytest.approx(len(names), abs=3)  # soft-clipped ones count too
    assert np.isfinite(evidence.sites).all()
    assert np.isfinite(evidence.fragments).all()
    assert log_priors(found).shape == (len(found), 3)
