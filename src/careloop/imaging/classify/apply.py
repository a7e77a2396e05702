"""Images through a classification model: calibrated probabilities, label sets, and refusal of what is unlike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from careloop import InputError
from careloop.imaging.classify.expected import check_image
from careloop.imaging.classify.model import Classifier, ClassifierFile
from careloop.imaging.classify.prepare import prepare
from careloop.imaging.finding import Finding, RefusedSeriesError
from careloop.imaging.segment.model import NetworkSource
from careloop.imaging.segment.runtime import Network, open_network
from careloop.imaging.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from careloop.imaging.familiar import Familiar

BATCH = 8  # pictures that the network sees at once; of volumes one
EVEN = 0.5  # the probability from which a label counts as present where the model states none
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class ApplySettings:
    """Where the network runs (`auto`, `cpu`, `cuda`), and with how many threads (all cores if not given)."""

    device: str = "auto"
    threads: int | None = None


@dataclass(frozen=True, eq=False)
class Classified:
    """What a model says of one image, or of one slice of it.

    `image` counts the volumes given and `slice` their slices, both from 0; `slice` is None where the image is one
    picture or was taken as a whole. `probability` (k) is calibrated, NaN where `verdict` is `refused`: the image is not
    what the model was made for, or unlike those it was trained on (`p_value`: how many of those are as unlike; None
    without that check). `label_set` are the labels that cannot be ruled out at `level`, empty with `level` 0 where
    the model has no label sets. `answer` are the labels said to be present. Of one true label `verdict` is `abstained`
    and the answer empty where its set is not one label; of independent labels, where the presence of any is open, and
    `undecided` names these. `reason` says why there is no full answer. `embedding` (d) is None for what no network saw.
    """

    image: int
    slice: int | None
    made_by: str
    labels: tuple[str, ...]
    verdict: Literal["answered", "abstained", "refused"]
    probability: NDArray[np.float64]
    answer: tuple[str, ...] = ()
    label_set: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()
    level: float = 0.0
    p_value: float | None = None
    reason: str = ""
    embedding: NDArray[np.float32] | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether the image must not be classified by this model."""
        return self.verdict == "refused"


def classify(
    volumes: Sequence[Volume],
    classifier: Classifier,
    *,
    settings: ApplySettings | None = None,
    progress: Progress | None = None,
) -> list[Classified]:
    """One result an image in their order; a model of pictures gives one a slice, in the order of slices.

    An image that the model was not made for is a result that says so, not an error. Volumes are asked for one after
    the other, so that a sequence may read them as they come.

    Raises:
        InputError: the model's weights or its check for unlike images do not fit its description.
    """
    run = _Run(classifier, settings or ApplySettings())
    found: list[Classified] = []
    waiting: list[_Waiting] = []
    for at in range(len(volumes)):
        if progress is not None:
            progress("classifying", at, len(volumes))
        for item in _prepared(volumes[at], at, classifier):
            if isinstance(item, Classified):
                found.append(item)
                continue
            waiting.append(item)
            if len(waiting) == run.batch:
                found += run(waiting)
                waiting = []
    found += run(waiting)
    if progress is not None:
        progress("classifying", len(volumes), len(volumes))
    return sorted(found, key=lambda one: (one.image, one.slice or 0))


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A prepared picture or volume (channels, *size), and its result as far as it is known."""

    pixels: NDArray[np.float32]
    result: Classified


def _prepared(volume: Volume, at: int, classifier: Classifier) -> list[_Waiting | Classified]:
    """The volume's slices (or the whole of it) as the network takes them; refusals as results."""
    said = classifier.said
    none = np.full(len(said.labels.names), np.nan)
    result = Classified(at, None, classifier.made_by, said.labels.names, "refused", none, findings=volume.findings)
    try:
        result = replace(result, findings=(*volume.findings, *check_image(volume, said)))
    except RefusedSeriesError as error:
        reasons = "; ".join(finding.message for finding in error.findings if finding.verdict == "refused")
        return [replace(result, reason=reasons, findings=(*volume.findings, *error.findings))]
    if said.input.dimensions == 3 or len(volume.voxels) == 1:
        return [_one(volume, result, said)]
    parts = ((place, replace(volume, voxels=volume.voxels[place : place + 1])) for place in range(len(volume.voxels)))
    return [_one(part, replace(result, slice=place), said) for place, part in parts]


def _one(volume: Volume, result: Classified, said: ClassifierFile) -> _Waiting | Classified:
    try:
        return _Waiting(prepare(volume, said.input), result)
    except InputError as error:
        return replace(result, reason=str(error))


class _Run:
    """The network, opened when it is first needed, and what follows from its outputs."""

    def __init__(self, classifier: Classifier, settings: ApplySettings) -> None:
        self.classifier, self.settings = classifier, settings
        self.batch = BATCH if classifier.said.input.dimensions == 2 else 1
        self._network: Network | None = None
        self._familiar: Familiar | None = None

    def __call__(self, waiting: Sequence[_Waiting]) -> list[Classified]:
        """Results of at most `batch` images."""
        if not waiting:
            return []
        if self._network is None:
            self._network = open_classifier(self.classifier, batch=self.batch, settings=self.settings)
            self._familiar = self.classifier.familiar()
        said, pixels = self.classifier.said, np.stack([one.pixels for one in waiting])
        outputs = np.array(self._network(pixels))
        logits, embeddings = np.split(outputs, [len(said.labels.names)], axis=1)
        probability = said.calibration.probability(logits, said.labels)
        results = [replace(one.result, embedding=row) for one, row in zip(waiting, embeddings, strict=True)]
        if self._familiar is not None:
            checked = self._familiar.assess(embeddings, pixels)
            results = [
                replace(result, p_value=one.p_value, reason=one.reason if one.refused else "")
                for result, one in zip(results, checked, strict=True)
            ]
        return [
            result if result.reason else decided(result, row, said)  # a reason by now is one to refuse the image
            for result, row in zip(results, probability, strict=True)
        ]


def decided(result: Classified, probability: NDArray[np.float64], said: ClassifierFile) -> Classified:
    """The result with its label set and answer, from the calibrated probabilities (k)."""
    names, single = np.array(said.labels.names), said.labels.kind == "single"
    result = replace(result, verdict="answered", probability=probability)
    threshold = np.array(said.thresholds or (EVEN,) * len(names))
    chosen = np.arange(len(names)) == probability.argmax() if single else probability >= threshold
    if said.conformal is None:
        return replace(result, answer=_named(names, chosen))
    present, absent = (rows[0] for rows in said.conformal.possible(probability[None]))
    result = replace(result, label_set=_named(names, present), level=said.conformal.level)
    if single:
        if present.sum() == 1:
            return replace(result, answer=result.label_set)
        reason = "several labels are possible" if present.any() else "no label fits the image"
        return replace(result, verdict="abstained", undecided=result.label_set, reason=reason)
    unsure = present == absent if said.conformal.absent else np.zeros(len(names), bool)
    result = replace(result, answer=_named(names, chosen & ~unsure), undecided=_named(names, unsure))
    if not unsure.any():
        return result
    return replace(result, verdict="abstained", reason=f"{', '.join(result.undecided)}: presence is open")


def _named(names: NDArray[np.str_], chosen: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(str(name) for name in names[chosen])


def open_classifier(classifier: Classifier, *, batch: int, settings: ApplySettings | None = None) -> Network:
    """The network on images (n, channels, *size): its call gives logits and, after them, embeddings (n, k + d)."""
    said, settings = classifier.said, settings or ApplySettings()
    source = NetworkSource(f"{said.weights} {said.version}", build=partial(build_joined, classifier))
    return open_network(
        source,
        patch=said.input.size,
        channels=said.input.channels,
        outputs=len(said.labels.names) + said.embedding_size,
        device=settings.device,
        threads=settings.threads,
        batch=batch,
    )


def build_joined(classifier: Classifier) -> nn.Module:
    """The classifier's network with logits and embeddings as one output."""
    from careloop.imaging.classify.joined import Joined

    return Joined(classifier.network()).eval()
