"""The network with what it needs to be used: its terms, the scaling of its inputs; in a folder without pickles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.function.learned.composition import composition
from careloop.genome.function.learned.embeddings import embed, encoder_sha256
from careloop.record.whole_file import whole_file, write_whole

if TYPE_CHECKING:
    from careloop.genome.function.learned.network import ProteinNetwork

WEIGHTS, DESCRIPTION = "network.safetensors", "network.json"
FORMAT, FORMAT_VERSION = "careloop protein network", 1
BATCH = 64
FARTHEST = 5.0  # standard deviations beyond which an input counts as so far away
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Scaling:
    """Inputs to their signed roots, then to mean 0 and deviation 1 among the training proteins."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]

    @classmethod
    def fitted(cls, inputs: NDArray[np.float32]) -> Scaling:
        """The scaling of training proteins (n, features)."""
        rooted = _rooted(inputs)
        return cls(rooted.mean(axis=0), rooted.std(axis=0) + np.float32(1e-3))

    def applied(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, features) scaled."""
        return np.clip((_rooted(inputs) - self.mean) / self.deviation, -FARTHEST, FARTHEST)


def _rooted(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.sign(inputs) * np.sqrt(np.abs(inputs))


@dataclass(frozen=True, eq=False)
class LearnedFunction:
    """A trained network, the terms of its outputs, and the folder of the language model whose embeddings it reads."""

    network: ProteinNetwork
    terms: tuple[str, ...]
    scaling: Scaling
    embeddings: Path | None = None

    def predict(self, sequences: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """(n, terms) the probability of each term; no sequence is empty."""
        import torch

        from careloop.genome.function.learned.network import letters_of

        found = np.empty((len(sequences), len(self.terms)), dtype=np.float32)
        order = np.argsort([len(sequence) for sequence in sequences], kind="stable")
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            some = [sequences[row] for row in rows]
            composed = torch.from_numpy(self.scaling.applied(self._inputs(some)))
            with torch.inference_mode():
                found[rows] = torch.sigmoid(self.network(composed, torch.from_numpy(letters_of(some)))).numpy()
            if progress:
                progress("reading proteins", min(start + BATCH, len(order)), len(order))
        return found

    def _inputs(self, sequences: Sequence[str]) -> NDArray[np.float32]:
        made = composition(sequences)
        if self.embeddings is None:
            return made
        return np.hstack([made, embed(sequences, self.embeddings)])


def write_network(learned: LearnedFunction, folder: Path) -> None:
    """Write weights and, last, network.json with their digest."""
    from safetensors.torch import save_file

    weights = {f"network.{name}": value.contiguous() for name, value in learned.network.state_dict().items()}
    with whole_file(folder / WEIGHTS) as draft:
        save_file(weights, str(draft), metadata={"format": "pt"})
    said = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "weights": _digest(folder / WEIGHTS),
        "terms": list(learned.terms),
        "mean": learned.scaling.mean.tolist(),
        "deviation": learned.scaling.deviation.tolist(),
        "embeddings": None if learned.embeddings is None else str(learned.embeddings),
        "embeddings_sha256": None if learned.embeddings is None else encoder_sha256(learned.embeddings),
        "not_for_clinical_use": True,
    }
    write_whole(folder / DESCRIPTION, json.dumps(said) + "\n")


def require_torch() -> None:
    """InputError where PyTorch is not installed."""
    from importlib.util import find_spec

    if find_spec("torch") is None or find_spec("lightning_fabric") is None:
        raise InputError(
            'the network of gene function needs PyTorch: pip install "careloop[deep]", or make a library without one '
            "(function-library --no-network)"
        )


def read_network(folder: Path, *, embeddings: Path | None = None) -> LearnedFunction:
    """Open a network's folder; `embeddings` says where its language model lies now, if it has one.

    Raises:
        InputError: the folder has no network, or one that is damaged or of another version; or its language model is
            not where it was, or another lies there.
    """
    require_torch()
    from careloop.genome.function.learned.network import ProteinNetwork

    path = folder / DESCRIPTION
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        made = (said["format"], said["format_version"], said["weights"])
        scaling = Scaling(*(np.array(said[name], dtype=np.float32) for name in ("mean", "deviation")))
        terms, digest = tuple(said["terms"]), _digest(folder / WEIGHTS)
        found = (embeddings or Path(said["embeddings"])) if said["embeddings"] else None
        expected = said["embeddings_sha256"]
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read; build the library anew") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is damaged; build the library anew") from None
    if made[:2] != (FORMAT, FORMAT_VERSION):
        raise InputError(f"{path} is of another version of careloop; build the library anew")
    if made[2] != digest:
        raise InputError(f"{folder / WEIGHTS} is damaged: it is not what {DESCRIPTION} describes")
    if found is not None and encoder_sha256(found) != expected:
        raise InputError(f"the network was trained on embeddings of another model than {found} holds; name its folder")
    network = ProteinNetwork(len(scaling.mean), len(terms))
    _load_weights(network, folder / WEIGHTS)
    return LearnedFunction(network.eval(), terms, scaling, found)


def _load_weights(network: ProteinNetwork, path: Path) -> None:
    from safetensors.torch import load_file

    weights = {name.removeprefix("network."): value for name, value in load_file(path).items()}
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise InputError(f"{path} does not fit {DESCRIPTION}; build the library anew") from None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
