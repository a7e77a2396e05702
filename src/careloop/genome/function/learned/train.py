"""Training of the network on proteins whose terms are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.function.learned.composition import composition
from careloop.genome.function.learned.model import LearnedFunction, Scaling, require_torch
from careloop.genome.function.proteins import Proteins
from careloop.genome.function.terms.ontology import ASPECTS, Ontology
from careloop.genome.function.terms.prior import informative

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csr_matrix
    from torch import nn

    from careloop.genome.function.learned.network import ProteinNetwork
    from careloop.models.sequence.training.loop import Step

BUCKET = 16  # batches that are cut from proteins of one draw, sorted by length: little padding, still mixed
FEWEST_PROTEINS = 100
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class LearnSettings:
    """How the network is trained.

    Terms of fewer than `fewest` training proteins are left to the neighbours and the prior. `embeddings` is a folder of
    a protein language model (ESM or ProtT5), whose mean embedding is read beside the composition.
    """

    epochs: int = 12
    fewest: int = 10
    batch: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    seed: int = 0
    device: str = "auto"
    embeddings: Path | None = None


def train_network(
    proteins: Proteins,
    truth: csr_matrix,
    ontology: Ontology,
    *,
    settings: LearnSettings = LearnSettings(),
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> LearnedFunction:
    """Learn terms from sequences: cross-entropy over terms, of each aspect among the proteins that have any of it.

    `truth` (proteins, t) bool has all terms above those annotated. Training that was killed goes on from `checkpoint`.

    Raises:
        InputError: fewer than `FEWEST_PROTEINS` proteins, or no term is frequent enough.
    """
    require_torch()
    from careloop.models.sequence.training.loop import Checkpoint, LoopSettings, train

    if len(proteins.ids) < FEWEST_PROTEINS:
        raise InputError(f"a network needs at least {FEWEST_PROTEINS} annotated proteins; got {len(proteins.ids)}")
    places = _learned_terms(truth, ontology, settings.fewest)
    inputs = _inputs(proteins.sequences, settings.embeddings, progress)
    scaling = Scaling.fitted(inputs)
    work = _Work(
        composed=scaling.applied(inputs),
        sequences=proteins.sequences,
        truth=truth[:, places],
        counted=_counted(truth, ontology, places),
        settings=settings,
    )
    network = _new_network(inputs.shape[1], work)
    loop = LoopSettings(
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        max_epochs=settings.epochs,
        patience=settings.epochs,
        seed=settings.seed,
        device=settings.device,
    )
    kept = None if checkpoint is None else Checkpoint(checkpoint)
    train(network, work, loop, checkpoint=kept, listener=_heard(progress))
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    terms = tuple(ontology.terms[place] for place in places)
    return LearnedFunction(network, terms, scaling, settings.embeddings)


def _learned_terms(truth: csr_matrix, ontology: Ontology, fewest: int) -> NDArray[np.int64]:
    counts = np.asarray(truth.sum(axis=0)).ravel()
    places = np.flatnonzero((counts >= fewest) & ~ontology.is_root)
    if not len(places):
        raise InputError(f"no term has {fewest} annotated proteins, which the network needs; annotate more proteins")
    return places


def _inputs(sequences: tuple[str, ...], embeddings: Path | None, progress: Progress | None) -> NDArray[np.float32]:
    made = composition(sequences)
    if embeddings is None:
        return made
    from careloop.genome.function.learned.embeddings import embed

    return np.hstack([made, embed(sequences, embeddings, progress=progress)])


def _counted(truth: csr_matrix, ontology: Ontology, places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(proteins, terms): a protein without a term of an aspect was not looked at for it, and says nothing there."""
    by_aspect = np.column_stack([informative(truth, ontology, aspect) for aspect in range(len(ASPECTS))])
    return by_aspect[:, ontology.aspects[places]]


def _new_network(features: int, work: _Work) -> ProteinNetwork:
    import torch

    from careloop.genome.function.learned.network import ProteinNetwork

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(work.settings.seed)
        network = ProteinNetwork(features, work.truth.shape[1])
    shares = np.asarray(work.truth.sum(axis=0)).ravel() / np.maximum(work.counted.sum(axis=0), 1)
    network.start_at(shares)
    return network


def _heard(progress: Progress | None) -> Callable[[Step], None] | None:
    if progress is None:
        return None
    return lambda step: progress("training the network", step.step, step.steps)


@dataclass(eq=False)
class _Work:
    """What the training loop asks (`models.sequence.training.loop.Work`)."""

    composed: NDArray[np.float32]
    sequences: tuple[str, ...]
    truth: csr_matrix
    counted: NDArray[np.bool_]
    settings: LearnSettings
    validation: Any = None

    def epoch_batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Rows of each batch: alike in length, drawn anew each epoch."""
        random = np.random.default_rng([self.settings.seed, epoch])
        lengths = np.array([len(sequence) for sequence in self.sequences])
        batches: list[NDArray[np.int64]] = []
        drawn = random.permutation(len(lengths))
        for rows in np.split(drawn, range(self.settings.batch * BUCKET, len(drawn), self.settings.batch * BUCKET)):
            rows = rows[np.argsort(lengths[rows], kind="stable")]
            batches += np.split(rows, range(self.settings.batch, len(rows), self.settings.batch))
        return [batches[k] for k in random.permutation(len(batches))]

    def loss(self, model: nn.Module, rows: NDArray[np.int64], seed: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Cross-entropy summed over terms and proteins, the number of proteins, and of residues."""
        import torch

        from careloop.genome.function.learned.network import letters_of

        device = next(model.parameters()).device
        letters = torch.from_numpy(letters_of([self.sequences[row] for row in rows])).to(device)
        logits = model(torch.from_numpy(self.composed[rows]).to(device), letters)
        wanted = torch.from_numpy(self.truth[rows].toarray().astype(np.float32)).to(device)
        counted = torch.from_numpy(self.counted[rows].astype(np.float32)).to(device)
        lost = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, weight=counted, reduction="sum")
        return lost, torch.tensor(float(len(rows)), device=device), letters.numel()

    def validation_loss(self, model: nn.Module) -> float | None:
        """None: all epochs are run."""
        return None
