"""Explanations of a classifier's images: maps by a method that was found valid on that very model, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop import InputError
from careloop.imaging.classify.prepare import prepare
from careloop.imaging.explain.checked import Checked, probabilities, read_checked
from careloop.imaging.explain.maps import SIGNED, Method, mapper
from careloop.imaging.explain.scored import Scored
from careloop.imaging.explain.validity import Progress, Validity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from careloop.imaging.classify.model import Classifier
    from careloop.imaging.volume import Volume

    Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Explanation:
    """What in one image speaks for a label.

    `image` (channels, *size) is what the network saw and `map` (*size) lies on the same grid; `signed`: values below 0
    speak against the label, else there are none. `probability` is calibrated.
    """

    label: str
    probability: float
    method: Method
    signed: bool
    image: NDArray[np.float32]
    map: NDArray[np.float32]
    made_by: str
    warning: str
    validity: Validity


def explain(
    volumes: Volume | Sequence[Volume],
    classifier: Classifier,
    method: Method | None = None,
    *,
    label: str | None = None,
    progress: Progress | None = None,
) -> list[Explanation]:
    """Explain images: one map each, of `label` or else of the most probable label that has a valid method.

    `method` None takes the valid method whose deletion curve is best. Images that the model refuses as unlike its
    training are explained as well; `classify` says which they are.

    Raises:
        InputError: the model's maps were never tested (`check_explanations`), or the method's were rejected, with why.
    """
    checked, taken = read_checked(classifier), classifier.said.input
    listed = [volumes] if not isinstance(volumes, Sequence) else list(volumes)
    images = np.stack([prepare(volume, taken) for volume in listed]) if listed else np.empty((0, 1, *taken.size))
    return explain_prepared(images, classifier, method, label=label, checked=checked, progress=progress)


def explain_prepared(
    images: Floats,
    classifier: Classifier,
    method: Method | None = None,
    *,
    label: str | None = None,
    checked: Checked | None = None,
    progress: Progress | None = None,
) -> list[Explanation]:
    """`explain` for images (n, channels, *size) that `prepare` has made."""
    checked = checked or read_checked(classifier)
    if not len(images):
        return []
    scored = Scored(classifier.network(), classifier.said.labels.kind)
    probability, found = probabilities(classifier, scored, images), []
    for row, image in enumerate(images):
        if progress is not None:
            progress("explaining", row, len(images))
        name = label if label is not None else _most_probable(classifier, checked, method, probability[row])
        by = allowed(checked, name, method)
        number = classifier.said.labels.names.index(name)
        found.append(
            Explanation(
                label=name,
                probability=float(probability[row, number]),
                method=by,
                signed=SIGNED[by],
                image=np.asarray(image, dtype=np.float32),
                map=mapper(by)(scored, image[None], number)[0],
                made_by=classifier.made_by,
                warning=classifier.said.warning,
                validity=checked.labels[name][by],
            )
        )
    return found


def allowed(checked: Checked, label: str, method: Method | None) -> Method:
    """The method if its maps of the label are valid, or the best that is. InputError with the reasons otherwise."""
    if label not in checked.labels:
        raise InputError(f"the model tells apart {', '.join(checked.labels)}, not '{label}'")
    tested = checked.labels[label]
    if method is None:
        best = checked.best(label)
        if best is None:
            said = "; ".join(f"{name}: {', '.join(v.reasons)}" for name, v in tested.items()) or "none was tested"
            raise InputError(f"no method's maps of '{label}' are valid for this model ({said})")
        return best
    if method not in tested:
        raise InputError(f"maps by {method} were not tested on this model; run check_explanations with it")
    if tested[method].verdict != "valid":
        raise InputError(f"maps of '{label}' by {method}: {tested[method].text} Use another method or model.")
    return method


def _most_probable(
    classifier: Classifier, checked: Checked, method: Method | None, probability: NDArray[np.float64]
) -> str:
    """The most probable label that may be explained; where there is none, the most probable one, to say why not."""
    names = [classifier.said.labels.names[i] for i in np.argsort(-probability, kind="stable")]
    for name in names:
        verdicts = checked.labels.get(name, {})
        if any(v.verdict == "valid" for m, v in verdicts.items() if method in (None, m)):
            return name
    return names[0]
