"""Trains the caller's network on candidates of simulated samples whose variants are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from careloop.genome.call.candidates import Candidate, find_candidates
from careloop.genome.call.evidence import Evidence, Fetch, gather_evidence
from careloop.genome.simulate.variants import left_aligned
from careloop.genome.variant import Record

LEFT_ALIGNING_BASES = 300
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Examples:
    """Evidence of candidates with the true number of copies of each allele, `copies` (n,) int64 of 0, 1, 2.

    `log_priors` (n, 3) are those of the simulated sample, which has more variants than a person.
    """

    evidence: Evidence
    log_priors: Any
    copies: Any


@dataclass(frozen=True, slots=True)
class Density:
    """Variants planted a base, and the share that is heterozygous."""

    snvs: float
    indels: float
    heterozygous_share: float


def examples_of(
    reads: Path | str, reference: Path | str, region: tuple[str, int, int], *, truth: Sequence[Record], density: Density
) -> Examples:
    """The candidates of one simulated sample with their evidence and their truth (planted records of `region`)."""
    import pysam

    candidates = find_candidates(reads, reference, region)
    with pysam.AlignmentFile(str(reads)) as file, pysam.FastaFile(str(reference)) as bases:

        def fetch(contig: str, start: int, end: int) -> str:
            return str(bases.fetch(contig, start, end)).upper()

        evidence = gather_evidence(candidates, file, fetch)
        copies = _copies(candidates, truth, fetch)
    return Examples(evidence, _planted_priors(candidates, density), copies)


def _copies(candidates: Sequence[Candidate], truth: Sequence[Record], fetch: Fetch) -> Any:
    planted: dict[tuple[int, str, str], int] = {}
    for record in truth:
        (call,) = record.samples.values()
        for number, alt in enumerate(record.alts, start=1):
            key = _leftmost(record.contig, record.start, record.ref, alt, fetch=fetch)
            planted[key] = sum(allele == number for allele in call.alleles)
    return np.array(
        [planted.get(_leftmost(c.contig, c.start, c.ref, c.alt, fetch=fetch), 0) for c in candidates], dtype=np.int64
    )


def _leftmost(contig: str, start: int, ref: str, alt: str, *, fetch: Fetch) -> tuple[int, str, str]:
    if len(ref) == len(alt) == 1:
        return start, ref, alt
    low = max(start - LEFT_ALIGNING_BASES, 0)
    at, ref, alt = left_aligned(fetch(contig, low, start + len(ref)), start - low, ref, alt)
    return low + at, ref, alt


def _planted_priors(candidates: Sequence[Candidate], density: Density) -> Any:
    share = np.array([[density.indels if c.length_change else density.snvs / 3] for c in candidates])
    heterozygous = density.heterozygous_share
    return np.log(np.hstack([1 - share, share * heterozygous, share * (1 - heterozygous)]))


def joined_examples(parts: Sequence[Examples]) -> Examples:
    """The examples of several samples as one, padded to the most fragments of any."""
    width = max(part.evidence.present.shape[1] for part in parts)

    def padded(array: Any) -> Any:
        return np.pad(array, [(0, 0), (0, width - array.shape[1]), *[(0, 0)] * (array.ndim - 2)])

    evidence = Evidence(
        np.concatenate([padded(part.evidence.fragments) for part in parts]),
        np.concatenate([padded(part.evidence.present) for part in parts]),
        np.concatenate([part.evidence.sites for part in parts]),
    )
    return Examples(
        evidence,
        np.concatenate([part.log_priors for part in parts]),
        np.concatenate([part.copies for part in parts]),
    )


@dataclass(frozen=True, slots=True)
class Training:
    """How the network is trained: passes over the examples, candidates a step, and the first learning rate."""

    epochs: int = 16
    batch: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    seed: int = 0


def train(examples: Examples, plan: Training | None = None, *, progress: Progress | None = None) -> Any:
    """A GenotypeNetwork trained by cross-entropy with a one-cycle learning rate (Smith 2018, arXiv 1803.09820)."""
    import torch

    from careloop.genome.call.network import GenotypeNetwork

    plan = plan or Training()
    torch.manual_seed(plan.seed)
    inputs = tensors(examples)
    copies = torch.from_numpy(examples.copies)
    network = GenotypeNetwork(inputs[0].shape[-1], inputs[2].shape[-1])
    network.standardise(inputs[2])
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=plan.learning_rate, weight_decay=plan.weight_decay)
    batches = _batches(inputs[1], plan.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=plan.learning_rate, total_steps=plan.epochs * len(batches)
    )
    for epoch in range(plan.epochs):
        network.train()
        for number in torch.randperm(len(batches)).tolist():
            rows = batches[number]
            width = int(inputs[1][rows].sum(1).max().clamp_min(1))
            fragments, present, sites, priors = (tensor[rows] for tensor in inputs)
            optimiser.zero_grad()
            found = network(fragments[:, :width], present[:, :width], sites, priors)
            torch.nn.functional.nll_loss(found, copies[rows]).backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            schedule.step()
        if progress is not None:
            progress("training", epoch + 1, plan.epochs)
    return network.eval()


def calibrate(network: Any, validation: Examples) -> None:
    """Fits the network's two parameters of calibration by likelihood on samples that it was not trained on.

    Platt scaling (1999) of the evidence against 0/0, which leaves the prior as it is.
    """
    import torch

    inputs, copies = tensors(validation), torch.from_numpy(validation.copies)
    parameters = [network.evidence_scale, network.variant_shift]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimiser = torch.optim.LBFGS(parameters, max_iter=20, line_search_fn="strong_wolfe")

    def loss() -> Any:
        optimiser.zero_grad()
        value = torch.nn.functional.nll_loss(network(*inputs), copies)
        value.backward()
        return value

    optimiser.step(loss)
    for parameter in parameters:
        parameter.requires_grad_(False)


def tensors(examples: Examples) -> tuple[Any, Any, Any, Any]:
    """The network's inputs: fragments, present, sites, log_priors."""
    import torch

    evidence = examples.evidence
    return (
        torch.from_numpy(evidence.fragments),
        torch.from_numpy(evidence.present),
        torch.from_numpy(evidence.sites),
        torch.from_numpy(examples.log_priors.astype(np.float32)),
    )


def _batches(present: Any, size: int) -> list[Any]:
    """Random batches of candidates of about the same number of fragments, so that little of them is padding."""
    import torch

    keys = present.sum(1) + 4 * torch.rand(len(present))
    return list(torch.argsort(keys).split(size))


def export(network: Any, path: Path | str, *, metadata: Mapping[str, str]) -> None:
    """Writes the network as ONNX for any number of candidates and fragments, with `metadata` in the file."""
    import onnx
    import torch

    fragments, sites = network.fragment_features, network.site_features
    example = (torch.zeros(2, 3, fragments), torch.ones(2, 3), torch.zeros(2, sites), torch.zeros(2, 3))
    names = ["fragments", "present", "sites", "log_priors"]
    axes = {name: {0: "candidates"} for name in [*names, "log_probabilities"]}
    axes["fragments"][1] = axes["present"][1] = "reads"
    torch.onnx.export(
        network,
        example,
        str(path),
        input_names=names,
        output_names=["log_probabilities"],
        dynamic_axes=axes,
        dynamo=False,
    )
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, str(path))


def predict(network: Any, examples: Examples, *, batch: int = 2048) -> Any:
    """The network's probabilities (n, 3) for examples, with their own priors."""
    import torch

    inputs = tensors(examples)
    with torch.no_grad():
        parts = [
            network(*(tensor[low : low + batch] for tensor in inputs)).exp()
            for low in range(0, len(examples.copies), batch)
        ]
    return torch.cat(parts).numpy()
