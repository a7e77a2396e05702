"""The page of images that a model classified: probabilities, what cannot be excluded, refusals, maps, similar images.

One self-contained HTML file without scripts; it names no patient, no date and no identifier of a study. Of a refused
image no probability is shown, and of a map that failed its test no picture.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

import careloop
from careloop import InputError
from careloop.imaging.finding import Finding
from careloop.imaging.volume import Volume
from careloop.report.image_montage import NOT_CLINICAL
from careloop.report.image_planes import evenly_spread, shades, shrink, turn_of, window_words, windows_for
from careloop.report.image_windows import Window, grey
from careloop.report.model_card import ModelCard, card_figures, card_rows
from careloop.report.page_parts import PNG, Row, finding_rows, png_base64, template
from careloop.report.report import with_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]

MOST_SLICES = 6  # of a volume
MOST_PIXELS = 1024  # along a side of a picture


@dataclass(frozen=True)
class LabelFacts:
    """One label: its calibrated probability, and whether the label set leaves it possible, and its absence.

    `present` is the decision at the label's threshold, None where exactly one label is true.
    """

    name: str
    probability: float
    possible: bool = True
    may_be_absent: bool = True
    present: bool | None = None


@dataclass(frozen=True, eq=False)
class ExplanationMap:
    """A map over the image (`picture`, PNG) of what spoke for a label, and what its validity test on this model said.

    `verdict` is the test's sentence. The picture of a map that is not `valid` is never shown.
    """

    label: str
    method: str
    valid: bool
    verdict: str
    picture: bytes = b""


@dataclass(frozen=True, eq=False)
class SimilarImage:
    """A past image: cosine similarity of its embedding, its labels, a note and a picture (PNG); no patient data."""

    similarity: float
    labels: tuple[str, ...] = ()
    note: str = ""
    picture: bytes = b""


@dataclass(frozen=True, eq=False)
class ClassifiedImage:
    """One image and its result; `window` is chosen for it where None.

    `reason` says why an image was refused, or why there is no full answer (`abstained`). `none_similar` says why no
    past image is called similar.
    """

    volume: Volume
    labels: tuple[LabelFacts, ...] = ()
    verdict: Literal["answered", "abstained", "refused"] = "answered"
    reason: str = ""
    view: str = ""
    window: Window | None = None
    maps: tuple[ExplanationMap, ...] = ()
    similar: tuple[SimilarImage, ...] = ()
    none_similar: str = ""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, eq=False)
class ClassificationFacts:
    """What the page is made of.

    `kind`: `single`, exactly one label is true, or `multi`, any number is. `level` is the share of images whose label
    sets are made to hold the truth, None for a model without label sets.
    """

    card: ModelCard
    images: tuple[ClassifiedImage, ...]
    kind: Literal["single", "multi"] = "single"
    level: float | None = None
    simulated: bool = False


def write_classification_page(facts: ClassificationFacts, path: Path) -> None:
    """Write `classification_page` as HTML in UTF-8 to `path`."""
    path.write_text(classification_page(facts), encoding="utf-8")


def classification_page(facts: ClassificationFacts) -> str:
    """The page as HTML text; InputError where a picture of a map or of a similar image is not PNG."""
    findings = [finding for image in facts.images for finding in (*image.volume.findings, *image.findings)]
    return template("classification_page.html.j2").render(
        not_clinical=NOT_CLINICAL,
        simulated=facts.simulated or any(finding.check == "simulated" for finding in findings),
        software=f"careloop {careloop.__version__}",
        made_by=facts.card.made_by,
        kind=facts.kind,
        level=None if facts.level is None else f"{100 * facts.level:.0f} %",
        images=[_image(image, facts) for image in facts.images],
        card=card_rows(facts.card),
        figures=card_figures(facts.card),
        warning=facts.card.warning,
        number=with_interval,
    )


def _image(image: ClassifiedImage, facts: ClassificationFacts) -> Row:
    volume = image.volume
    window = image.window or windows_for(volume)[0]
    refused = image.verdict == "refused"
    return {
        "pictures": [png_base64(picture) for picture in _pictures(volume, window)],
        "window": window_words(volume, window),
        "kind": ", ".join(words for words in (volume.modality, volume.body_part.lower(), image.view) if words),
        "refused": refused,
        "abstained": image.verdict == "abstained",
        "reason": image.reason or "no reason was given",
        "set_words": "" if refused else set_words(image.labels, facts.kind, facts.level),
        "labels": [] if refused else [_label(label, facts) for label in image.labels],
        "maps": [] if refused else [_map(one) for one in image.maps],
        "none_similar": image.none_similar,
        "similar": [_similar(one) for one in image.similar],
        "findings": finding_rows(list(dict.fromkeys((*volume.findings, *image.findings)))),
    }


def _pictures(volume: Volume, window: Window) -> list[Picture]:
    """Evenly spread slices, turned as radiologists look, with pixels as broad as high; 8-bit colour stays as it is."""
    turn, pictures = turn_of(volume), []
    for index in evenly_spread(MOST_SLICES, len(volume.voxels)):
        plane = turn(volume.voxels[index])
        if plane.ndim == 3 and plane.dtype == np.uint8:
            pictures.append(_fitted(plane, turn.step_mm))
            continue
        values = grey(plane, 2)
        values = shrink(values, max(1, int(np.ceil(max(values.shape) / MOST_PIXELS))))
        pictures.append(_fitted(shades(values, window.low, window.high), turn.step_mm))
    return pictures


def _fitted(picture: Picture, step_mm: tuple[float, float]) -> Picture:
    """The picture at its proportions in mm, no side longer than `MOST_PIXELS`."""
    from PIL import Image

    height, width = picture.shape[0] * step_mm[0], picture.shape[1] * step_mm[1]
    scale = min(MOST_PIXELS / max(height, width), 1 / min(step_mm))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size, Image.Resampling.BILINEAR))


def set_words(labels: Iterable[LabelFacts], kind: str, level: float | None) -> str:
    """The label set in words; empty for a model without label sets."""
    if level is None:
        return ""
    labels = list(labels)
    if kind == "single":
        possible = [label.name for label in labels if label.possible]
        if not possible:
            return "No label fits at this level: the image is unlike those that label sets were made with. Do not use."
        if len(possible) == 1:
            return f"Cannot exclude: {possible[0]}. All other labels are excluded at this level."
        return f"Cannot exclude: {', '.join(possible)}."
    unsure = [label.name for label in labels if label.possible and label.may_be_absent]
    present = [label.name for label in labels if label.possible and not label.may_be_absent]
    unlike = [label.name for label in labels if not label.possible and not label.may_be_absent]
    excluded = [label.name for label in labels if not label.possible and label.may_be_absent]
    said = (("Found", present), ("Cannot exclude", unsure), ("Excluded", excluded), ("No answer fits", unlike))
    return " ".join(f"{words}: {', '.join(names)}." for words, names in said if names)


def _label(label: LabelFacts, facts: ClassificationFacts) -> Row:
    if facts.level is None:
        words = ""
    elif facts.kind == "single":
        words = "cannot be excluded" if label.possible else "excluded"
    else:
        words = {
            (True, True): "cannot be excluded",
            (True, False): "found",
            (False, True): "excluded",
            (False, False): "no answer fits",
        }[label.possible, label.may_be_absent]
    decision = "" if label.present is None else "above the threshold" if label.present else "below the threshold"
    return {
        "name": label.name,
        "percent": f"{100 * label.probability:.1f} %",
        "width": f"{100 * min(max(label.probability, 0.0), 1.0):.1f}",
        "set": words,
        "decision": decision,
    }


def _map(one: ExplanationMap) -> Row:
    shown = one.valid and bool(one.picture)
    picture = _given(one.picture) if shown else ""
    return {"label": one.label, "method": one.method, "picture": picture, "valid": one.valid, "verdict": one.verdict}


def _similar(one: SimilarImage) -> Row:
    return {
        "similarity": f"{one.similarity:.2f}",
        "labels": ", ".join(one.labels) or "none known",
        "note": one.note,
        "picture": _given(one.picture) if one.picture else "",
    }


def _given(picture: bytes) -> str:
    """A picture that was made elsewhere, in base 64."""
    if not picture.startswith(PNG):
        raise InputError("pictures for a page must be PNG, got other bytes; give them as PNG")
    return base64.b64encode(picture).decode()
