"""A classification model: what its folder says, how it is written, and how it is opened again."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from careloop import InputError
from careloop.imaging.model_folder import (
    DESCRIPTION,
    WARNING,
    WEIGHTS,
    check_file,
    file_digest,
    read_said,
    versioned_json,
)
from careloop.record.whole_file import whole_file, write_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from careloop.imaging.classify.networks import ImageClassifier
    from careloop.imaging.familiar import Familiar

FAMILIAR = "familiar.npz"


@dataclass(frozen=True)
class Intensities:
    """How stored values become 0 to 1 (`prepare` gives the order of steps).

    `window`: [low, high] in the image's unit, clipped (of a CT in Hounsfield units). `percentiles`: the image's own
    percentiles low and high, clipped. `range`: all values lie in [low, high], as 0 to 255 of 8-bit pictures; others
    are refused, not clipped.
    """

    rule: Literal["window", "percentiles", "range"] = "percentiles"
    low: float = 0.5
    high: float = 99.5

    def __post_init__(self) -> None:
        inside = self.rule != "percentiles" or (self.low >= 0 and self.high <= 100)
        if not self.low < self.high or not inside:
            raise InputError(f"Intensities must go from low to a higher high, got {self.low:g} to {self.high:g}")


@dataclass(frozen=True)
class InputFormat:
    """What the network takes: `size` is (rows, columns) or (slices, rows, columns), `channels` 1 (grey) or 3 (colour).

    Values scaled to 0 to 1 have `mean` taken off and are divided by `std`, one value for all channels or one each.
    `spacing_mm` (an axis each) fixes the scale, and what does not fit is cut off evenly; without it the whole image is
    fitted in with its proportions kept. `orientation` turns a placed volume so that (slice, row, column) run towards
    these letters (`SPL`).
    """

    size: tuple[int, ...]
    channels: int = 1
    intensities: Intensities = field(default_factory=Intensities)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    spacing_mm: tuple[float, ...] | None = None
    orientation: str | None = None

    def __post_init__(self) -> None:
        if len(self.size) not in (2, 3) or min(self.size) < 1:
            raise InputError(f"The input's size must be 2 or 3 whole numbers from 1, got {self.size}")
        if self.channels not in (1, 3):
            raise InputError(f"The input must have 1 (grey) or 3 (colour) channels, got {self.channels}")
        if not {len(self.mean), len(self.std)} <= {1, self.channels} or min(self.std) <= 0:
            raise InputError("The input's mean and std must have one value or one a channel, and std be above 0")
        if self.spacing_mm is not None and (len(self.spacing_mm) != self.dimensions or min(self.spacing_mm) <= 0):
            raise InputError(f"The input's spacing must be {self.dimensions} values above 0, got {self.spacing_mm}")
        axes = sorted("LRPASI".index(letter) // 2 for letter in self.orientation or "" if letter in "LRPASI")
        if self.orientation is not None and (axes != [0, 1, 2] or len(self.orientation) != 3):
            raise InputError(f"The input's orientation must be three letters such as SPL, got '{self.orientation}'")

    @property
    def dimensions(self) -> int:
        """2 for pictures, 3 for volumes."""
        return len(self.size)


@dataclass(frozen=True)
class Labels:
    """What is told apart: `single`, exactly one label is true (softmax); `multi`, any number is (a sigmoid each)."""

    names: tuple[str, ...]
    kind: Literal["single", "multi"] = "single"

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names) or len(self.names) < (2 if self.kind == "single" else 1):
            raise InputError(f"Labels must be different, and at least two where one is true, got {len(self.names)}")


@dataclass(frozen=True)
class Calibration:
    """Logits to calibrated ones: divided by `temperature`, or `slope` x logit + `intercept`, a value a label.

    Temperature scaling: Guo et al. 2017 (ICML), section 4.2; with slopes and intercepts their vector scaling, and of
    independent labels Platt's.
    """

    temperature: float = 1.0
    slope: tuple[float, ...] = ()
    intercept: tuple[float, ...] = ()

    def probability(self, logits: NDArray[np.floating[Any]], labels: Labels) -> NDArray[np.float64]:
        """Calibrated probabilities (n, k) of logits (n, k)."""
        values = np.asarray(logits, np.float64)
        values = values * self.slope + self.intercept if self.slope else values / self.temperature
        if labels.kind == "multi":
            return np.asarray(0.5 * (1 + np.tanh(values / 2)))
        likely = np.exp(values - values.max(axis=1, keepdims=True))
        return np.asarray(likely / likely.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class Conformal:
    """Which labels cannot be ruled out at `level` (evaluate/conformal.py, scores `least_ambiguous`).

    `thresholds` (k): a label stays while 1 - its probability is at most this. Of independent labels, `absent` (k) says
    the same of the label's absence: it stays possible while the probability is at most this.
    """

    level: float
    thresholds: tuple[float, ...]
    absent: tuple[float, ...] = ()

    def possible(self, probability: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether each label (n, k) may be present, and whether it may be absent (True where nothing is said of it)."""
        present = 1 - probability <= np.asarray(self.thresholds)
        absent = probability <= np.asarray(self.absent) if self.absent else np.ones_like(present)
        return present, absent


@dataclass(frozen=True)
class ClassifierFile:
    """What model.json says.

    `architecture` as `shape_of` reads it; `modalities`, `views` and `body_parts` are what images may be, empty for
    anything. `thresholds` (k) are the probabilities from which independent labels count as present, 0.5 where empty.
    `embedding_size`, `weights` and `familiar` are filled in as it is written, the last two with the SHA-256 of the
    files beside it (`familiar` empty: no check for images unlike those of training); `version` is the first 12 hex
    digits of one over all the rest.
    """

    name: str
    architecture: dict[str, Any]
    input: InputFormat
    labels: Labels
    intended_use: str = ""
    modalities: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    calibration: Calibration = field(default_factory=Calibration)
    conformal: Conformal | None = None
    thresholds: tuple[float, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    warning: str = WARNING
    embedding_size: int = 0
    weights: str = ""
    familiar: str = ""
    format: Literal["careloop classification model"] = "careloop classification model"
    format_version: Literal[1] = 1
    version: str = ""

    def to_json(self) -> str:
        """The text of model.json, with the version that follows from it."""
        return versioned_json(self)


@dataclass(frozen=True)
class Classifier:
    """A model folder that was found whole; its weights are read when the network is built."""

    folder: Path
    said: ClassifierFile

    @property
    def made_by(self) -> str:
        """Name and version, as results carry them."""
        return f"{self.said.name} {self.said.version}"

    def network(self) -> ImageClassifier:
        """The network with its weights, in evaluation mode. InputError where the two do not fit."""
        from safetensors.torch import load_file

        from careloop.imaging.classify.networks import build_classifier

        said, path = self.said, self.folder / WEIGHTS
        outputs = len(said.labels.names)
        network = build_classifier(said.architecture, channels=said.input.channels, outputs=outputs)
        try:
            network.load_state_dict(load_file(str(path)))
        except Exception as error:
            raise InputError(f"{path} does not fit the network of {DESCRIPTION} ({type(error).__name__})") from error
        return network.eval()

    def familiar(self) -> Familiar | None:
        """The check for images unlike those of training; None for a model without one."""
        if not self.said.familiar:
            return None
        from careloop.imaging.familiar import Familiar

        with np.load(self.folder / FAMILIAR, allow_pickle=False) as file:
            return Familiar.from_arrays(dict(file))


def write_classifier(
    network: ImageClassifier, said: ClassifierFile, folder: Path, *, familiar: Familiar | None = None
) -> Classifier:
    """Write weights, familiar.npz and, last, model.json with their digests; returns the model as it was written."""
    from safetensors.torch import save_file

    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with whole_file(folder / WEIGHTS) as draft:
        save_file(weights, str(draft), metadata={"format": "pt"})
    known = ""
    if familiar is not None:
        with whole_file(folder / FAMILIAR) as draft, draft.open("wb") as file:  # a path would get a second suffix
            np.savez(file, allow_pickle=False, **familiar.to_arrays())
        known = file_digest(folder / FAMILIAR)
    whole = replace(
        said, embedding_size=network.embedding_size, weights=file_digest(folder / WEIGHTS), familiar=known, version=""
    )
    # Numbers as they are read again (0.0, not 0), so that a model that is written again keeps its version.
    write_whole(folder / DESCRIPTION, _parsed(whole.to_json().encode()).to_json())
    return read_classifier(folder)


def is_classifier(folder: Path) -> bool:
    """Whether a folder holds a classification model."""
    try:
        document = json.loads((folder / DESCRIPTION).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and document.get("format") == "careloop classification model"


def read_classifier(folder: Path) -> Classifier:
    """The model that `write_classifier` wrote; nothing in it is ever unpickled.

    Raises:
        InputError: a file is missing or damaged, of a later format, or not the one that model.json speaks of.
    """
    said = read_said(ClassifierFile, folder, what="classification model")
    check_file(folder / WEIGHTS, said.weights)
    if said.familiar:
        check_file(folder / FAMILIAR, said.familiar)
    _check_lengths(said, folder / DESCRIPTION)
    return Classifier(folder, said)


def _parsed(text: bytes) -> ClassifierFile:
    from pydantic import TypeAdapter

    return TypeAdapter(ClassifierFile).validate_json(text)


def _check_lengths(said: ClassifierFile, path: Path) -> None:
    """Stop where a value a label is not there for each label."""
    wanted = len(said.labels.names)
    conformal = said.conformal
    lists = {
        "thresholds": said.thresholds,
        "calibration.slope": said.calibration.slope,
        "calibration.intercept": said.calibration.intercept,
        "conformal.thresholds": conformal.thresholds if conformal else (),
        "conformal.absent": conformal.absent if conformal else (),
    }
    for name, values in lists.items():
        if values and len(values) != wanted:
            raise InputError(f"{path}: {name} must have {wanted} values, one a label, got {len(values)}")
