"""Which methods' maps may be shown of a model: tested once, kept beside its weights, bound to those very weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from careloop import InputError
from careloop.imaging.explain.maps import Method, mapper
from careloop.imaging.explain.scored import Scored, batches, tensor
from careloop.imaging.explain.validity import Progress, Validity, check_maps
from careloop.record.whole_file import whole_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from careloop.imaging.classify.model import Classifier

    Floats = NDArray[np.floating[Any]]

CHECKED = "explanation.json"


@dataclass(frozen=True)
class Checked:
    """What explanation.json holds: verdicts by label and method, for the weights of this digest (SHA-256)."""

    weights: str
    labels: Mapping[str, Mapping[Method, Validity]] = field(default_factory=dict)
    format: Literal["careloop explanation check"] = "careloop explanation check"
    format_version: Literal[1] = 1

    def best(self, label: str) -> Method | None:
        """The valid method whose deletion is furthest ahead of random order; None where no method is valid."""
        valid = {m: v for m, v in self.labels.get(label, {}).items() if v.verdict == "valid" and v.deletion is not None}
        ahead = {method: v.deletion.area["random"].value for method, v in valid.items() if v.deletion is not None}
        return max(ahead, key=lambda method: ahead[method], default=None)


def check_explanations(
    classifier: Classifier,
    images: Floats,
    target: Floats,
    *,
    methods: Sequence[Method] = get_args(Method),
    progress: Progress | None = None,
) -> Checked:
    """Test each method's maps of each label on this model, and write the verdicts to its folder.

    `images` (n, channels, *size) are as `prepare` gives them, of patients that the model was not trained on, and
    `target` (n, labels) is 1 where a label is true, 0 where it is not, NaN where that is unknown. InputError: shapes
    that do not fit the model.
    """
    names, taken = classifier.said.labels.names, classifier.said.input
    if images.shape[1:] != (taken.channels, *taken.size) or np.shape(target) != (len(images), len(names)):
        raise InputError(
            f"Maps of this model are tested on images (n, {taken.channels}, {', '.join(map(str, taken.size))}) and "
            f"labels (n, {len(names)}); got shapes {images.shape} and {np.shape(target)}"
        )
    scored = Scored(classifier.network(), classifier.said.labels.kind)
    probability = probabilities(classifier, scored, images)
    found: dict[str, dict[Method, Validity]] = {name: {} for name in names}
    for done, (label, method) in enumerate((label, method) for label in range(len(names)) for method in methods):
        if progress is not None:
            progress("testing explanations", done, len(names) * len(methods))
        rows = np.isfinite(target[:, label])
        try:
            verdict = check_maps(
                scored,
                mapper(method),
                images[rows],
                probability=probability[rows, label],
                truth=target[rows, label] == 1,
                label=label,
            )
        except InputError as error:  # a method that this network gives no maps for
            verdict = Validity("rejected", (str(error),), 0)
        found[names[label]][method] = verdict
    checked = Checked(classifier.said.weights, found)
    _write(checked, classifier.folder / CHECKED)
    return checked


def read_checked(classifier: Classifier) -> Checked:
    """The verdicts of a model. InputError: it was not tested, or the file is damaged or of other weights."""
    from pydantic import TypeAdapter, ValidationError

    path, remedy = classifier.folder / CHECKED, "test its explanations with check_explanations first"
    try:
        found = TypeAdapter(Checked).validate_json(path.read_bytes())
    except OSError:
        raise InputError(
            f"no map is shown without a test on the very model, and {path} is not there; {remedy}"
        ) from None
    except ValidationError as error:
        raise InputError(f"{path} is damaged ({error.errors()[0]['msg']}); {remedy}") from error
    if found.weights != classifier.said.weights:
        raise InputError(f"{path} tests other weights than this model has; {remedy}")
    return found


def probabilities(classifier: Classifier, scored: Scored, images: Floats) -> NDArray[np.float64]:
    """Calibrated probabilities (n, labels) of prepared images."""
    import torch

    with torch.no_grad():
        logits = [scored.network(tensor(images[at], scored)).cpu().numpy() for at in batches(images)]
    return classifier.said.calibration.probability(np.concatenate(logits), classifier.said.labels)


def _write(checked: Checked, path: Path) -> None:
    from pydantic import TypeAdapter

    with whole_file(path) as draft:
        draft.write_bytes(TypeAdapter(Checked).dump_json(checked, indent=1))
