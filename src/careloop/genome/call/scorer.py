"""Genotype probabilities of candidates from the shipped network (ONNX), without torch."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

from careloop import InputError
from careloop.genome.call.candidates import Candidate, log_priors
from careloop.genome.call.evidence import Evidence, Fetch, gather_evidence

WEIGHTS = "germline.onnx"
BATCH = 2048  # candidates at once: below 100 MB with 64 fragments each


def score(candidates: Sequence[Candidate], reads: Any, fetch: Fetch) -> Any:
    """Calibrated probabilities (n, 3) of 0/0, 0/1 and 1/1 of each candidate's alternative allele.

    `candidates` are one region's, sorted by start; `reads` is an open, indexed pysam.AlignmentFile; `fetch` gives the
    reference's bases (contig, start, end). A candidate of another allele at the same place counts as 0 copies.
    Raises InputError where onnxruntime is missing.
    """
    if not candidates:
        return np.zeros((0, 3))
    return probabilities(gather_evidence(candidates, reads, fetch), log_priors(candidates))


def probabilities(evidence: Evidence, priors: Any) -> Any:
    """The network's probabilities (n, 3) for evidence and log-priors (n, 3)."""
    session = _session()
    counts = evidence.present.sum(axis=1)
    order = np.argsort(counts, kind="stable")
    found = np.empty((len(order), 3))
    for low in range(0, len(order), BATCH):
        rows = order[low : low + BATCH]
        width = max(int(counts[rows].max()), 1)
        (logs,) = session.run(
            ["log_probabilities"],
            {
                "fragments": _leading(evidence.fragments[rows], width),
                "present": _leading(evidence.present[rows], width),
                "sites": evidence.sites[rows],
                "log_priors": priors[rows].astype(np.float32),
            },
        )
        found[rows] = np.exp(logs.astype(float))
    return found / found.sum(axis=1, keepdims=True)


def _leading(array: Any, width: int) -> Any:
    return np.ascontiguousarray(array[:, :width])


@functools.cache
def _session() -> Any:
    """The network, opened once a process; one thread, as regions run in processes of their own."""
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError('The learned caller needs onnxruntime: pip install "careloop[genome]"') from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(_weights(), options, providers=["CPUExecutionProvider"])


def weights_digest() -> str:
    """SHA-256 of the shipped network, which says whether two runs were judged alike."""
    return hashlib.sha256(_weights()).hexdigest()


def _weights() -> bytes:
    return resources.files("careloop.genome.call").joinpath("weights", WEIGHTS).read_bytes()
