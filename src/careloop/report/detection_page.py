"""The page of one image that a detector looked at: every finding in a picture, how sure, how large, and what is missed.

One self-contained HTML file without scripts; it names no patient, no date and no identifier of a study.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import careloop
from careloop.imaging.volume import Volume
from careloop.report.image_montage import NOT_CLINICAL
from careloop.report.image_planes import evenly_spread, shades, turn_of, window_words, windows_for
from careloop.report.image_windows import HU, Window, grey, window_in_hu
from careloop.report.model_card import ModelCard, card_figures, card_rows
from careloop.report.page_parts import Row, finding_rows, png_base64, template
from careloop.report.report import with_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from careloop.imaging.detect import Detection
    from careloop.report.image_planes import Turn

MOST_PICTURES = 24  # findings of a volume that are shown, the surest
SIDE = 640  # pixels of the longer side of a picture
BOX_COLOUR, OTHER_COLOUR = (255, 176, 0), (120, 190, 255)  # the finding, and others in the same slice
LINE, LABEL = 2, 18  # pixels: width of a rectangle, height of a number
BROAD = 2.0  # a close picture is so many times as wide as its finding
LEAST_CLOSE_MM = 24.0
WITHOUT_FINDINGS = 4  # slices of a volume in which nothing was found


@dataclass(frozen=True, eq=False)
class DetectionFacts:
    """What the page is made of: the image, its findings (surest first), the model's card and its evaluation by label.

    `threshold` is the least calibrated probability that is shown, and `chosen` says that it is the model's own.
    """

    volume: Volume
    found: Sequence[Detection]
    labels: Sequence[str]
    card: ModelCard
    evaluation: Mapping[str, Any]
    threshold: float
    chosen: bool


@dataclass(frozen=True)
class _Frame:
    """A slice as it is shown: the picture, and how stored rows and columns become its pixels."""

    picture: NDArray[np.uint8]
    turn: Turn
    shape: tuple[int, int]
    scale: tuple[float, float]

    def place(self, box: Sequence[float]) -> tuple[float, float, float, float]:
        """Left, top, right and bottom in the picture of a box (slice, row, column; low edges, then high ones)."""
        ends = [(box[1], box[4]), (box[2], box[5])]
        lengths = list(self.shape)
        if self.turn.exchanged:
            ends, lengths = ends[::-1], lengths[::-1]
        (top, bottom), (left, right) = (
            (length - high, length - low) if against else (low, high)
            for (low, high), length, against in zip(ends, lengths, self.turn.reversed, strict=True)
        )
        down, across = self.scale
        return left * across, top * down, right * across, bottom * down


def write_detection_page(facts: DetectionFacts, path: Path) -> None:
    """Write `detection_page` as HTML in UTF-8 to `path`."""
    path.write_text(detection_page(facts), encoding="utf-8")


def detection_page(facts: DetectionFacts) -> str:
    """The page as HTML text."""
    volume, window = facts.volume, windows_for(facts.volume)[0]
    flat = len(volume.voxels) == 1
    return template("detection_page.html.j2").render(
        not_clinical=NOT_CLINICAL,
        simulated=any(finding.check == "simulated" for finding in volume.findings),
        software=f"careloop {careloop.__version__}",
        made_by=facts.card.made_by,
        kind=", ".join(words for words in (volume.modality, volume.body_part.lower()) if words),
        window=window_words(volume, window),
        flat=flat,
        slices=len(volume.voxels),
        overview=[_drawn(volume, window, index, facts.found if flat else ()) for index in _overview(facts, flat)],
        rows=[_row(number, one, facts) for number, one in enumerate(facts.found, start=1)],
        pictures=[_pictured(number, facts) for number in _shown_apart(facts, flat)],
        unpictured=max(0, len(facts.found) - MOST_PICTURES) if not flat else 0,
        labels=", ".join(facts.labels),
        threshold=f"{100 * facts.threshold:.{'0f' if facts.threshold >= 0.01 else '2g'}} %",
        chosen=facts.chosen,
        known=[_known(name, facts.evaluation[name]) for name in facts.labels if name in facts.evaluation],
        findings=finding_rows(list(volume.findings)),
        card=card_rows(facts.card),
        figures=card_figures(facts.card),
        warning=facts.card.warning,
        number=with_interval,
    )


def _overview(facts: DetectionFacts, flat: bool) -> list[int]:
    """Slices shown whole before all else: the picture, or some of a volume without findings."""
    if flat:
        return [0]
    return [] if facts.found else evenly_spread(WITHOUT_FINDINGS, len(facts.volume.voxels))


def _shown_apart(facts: DetectionFacts, flat: bool) -> range:
    """Numbers of the findings that have pictures of their own; those of a picture are all in it."""
    return range(1, 1 + (0 if flat else min(len(facts.found), MOST_PICTURES)))


def _row(number: int, one: Detection, facts: DetectionFacts) -> Row:
    x, y, z = one.centre_mm
    placed = facts.volume.placed  # else nothing is known of place or size
    return {
        "number": number,
        "label": one.label,
        "percent": f"{100 * one.probability:.0f} %",
        "width": f"{100 * min(max(one.probability, 0.0), 1.0):.1f}",
        "diameter": f"{one.diameter_mm:.1f} {'mm' if placed else 'pixels'}",
        "slice": _middle_slice(one, facts.volume) + 1,
        "where": f"{x:.0f}, {y:.0f}, {z:.0f} mm" if placed else "",
    }


def _middle_slice(one: Detection, volume: Volume) -> int:
    return int(np.clip(int((one.box[0] + one.box[3]) / 2), 0, len(volume.voxels) - 1))


def _pictured(number: int, facts: DetectionFacts) -> Row:
    """The slice through the middle of a finding of a volume, whole and close."""
    one, volume = facts.found[number - 1], facts.volume
    index, window = _middle_slice(one, volume), _window_around(one, volume)
    others = [other for other in facts.found if other.box[0] <= index < other.box[3] and other is not one]
    boxes = [*((other, "", OTHER_COLOUR) for other in others), (one, str(number), BOX_COLOUR)]
    return {
        "number": number,
        "label": one.label,
        "slice": index + 1,
        "percent": f"{100 * one.probability:.0f} %",
        "window": window_words(volume, window),
        "others": bool(others),
        "whole": png_base64(_painted(_frame(volume, window, index, SIDE), boxes)),
        "close": png_base64(_close(volume, window, index, one)),
    }


def _window_around(one: Detection, volume: Volume) -> Window:
    """In Hounsfield units a window for what surrounds the finding (a nodule of the lung in that of the lung)."""
    if volume.unit != HU:
        return windows_for(volume)[0]
    low, high = np.reshape(one.box, (2, 3))
    around = [
        slice(max(0, int(2 * a - b)), min(n, int(np.ceil(2 * b - a))))
        for a, b, n in zip(low, high, volume.voxels.shape, strict=False)
    ]
    median = float(np.median(grey(volume.voxels[tuple(around)], 3)))
    return window_in_hu(one.label, median, body_part=volume.body_part)


def _drawn(volume: Volume, window: Window, index: int, found: Sequence[Detection]) -> str:
    """A slice with all findings in it, numbered, in base 64."""
    frame = _frame(volume, window, index, SIDE)
    return png_base64(_painted(frame, [(one, str(n), BOX_COLOUR) for n, one in enumerate(found, start=1)]))


def _frame(volume: Volume, window: Window, index: int, side: int) -> _Frame:
    """A slice turned as it is shown, with pixels as broad as high, its longer side `side`."""
    from PIL import Image

    turn = turn_of(volume)
    stored = grey(volume.voxels[index], 2)
    values = shades(turn(stored), window.low, window.high)
    height, width = values.shape[0] * turn.step_mm[0], values.shape[1] * turn.step_mm[1]
    factor = side / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    image = Image.fromarray(np.ascontiguousarray(values)).resize(size, Image.Resampling.BILINEAR)
    scale = size[1] / values.shape[0], size[0] / values.shape[1]
    return _Frame(np.asarray(image), turn, (stored.shape[0], stored.shape[1]), scale)


def _painted(frame: _Frame, boxes: Sequence[tuple[Detection, str, tuple[int, int, int]]]) -> NDArray[np.uint8]:
    """The slice in colours with rectangles around findings, each with its number beside it."""
    from PIL import Image, ImageDraw, ImageFont

    picture: Image.Image = Image.fromarray(frame.picture).convert("RGB")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(16)
    for one, words, colour in boxes:
        left, top, right, bottom = frame.place(one.box)
        draw.rectangle((left - LINE, top - LINE, right + LINE, bottom + LINE), outline=colour, width=LINE)
        if words:
            place = left - LINE, top - LINE - LABEL if top > LABEL + LINE else bottom + LINE
            wide = draw.textlength(words, font) + 6
            draw.rectangle((*place, place[0] + wide, place[1] + LABEL), fill=colour)
            draw.text((place[0] + 3, place[1] + LABEL / 2), words, fill=(0, 0, 0), font=font, anchor="lm")
    return np.asarray(picture)


def _close(volume: Volume, window: Window, index: int, one: Detection) -> NDArray[np.uint8]:
    """The surroundings of a finding without anything drawn over them."""
    from PIL import Image

    turn = turn_of(volume)
    sharp = _frame(volume, window, index, max(SIDE, 2 * max(volume.voxels.shape[1:3])))
    left, top, right, bottom = sharp.place(one.box)
    pixels_a_mm = sharp.scale[0] / turn.step_mm[0]
    half = max(BROAD * max(right - left, bottom - top), LEAST_CLOSE_MM * pixels_a_mm) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    part = Image.fromarray(sharp.picture).crop((int(x - half), int(y - half), int(x + half), int(y + half)))
    return np.asarray(part.resize((SIDE // 2, SIDE // 2), Image.Resampling.BILINEAR))


def _known(label: str, evaluation: Mapping[str, Any]) -> Row:
    """What held-out images say of a label: the sensitivity at one false finding an image."""
    froc = evaluation["froc"]
    at = list(froc["x"]).index(1.0)
    value, low, high = (froc[name][at] for name in ("value", "low", "high"))
    if value is None or np.isnan(value):
        return {"label": label, "words": "nothing is known of how many are missed"}
    interval = "" if low is None or np.isnan(low) else f" (95 % interval {100 * low:.0f} to {100 * high:.0f} %)"
    return {
        "label": label,
        "words": f"of {evaluation['lesions']:,} in held-out images {100 * value:.0f} % were found{interval}, where one "
        "false finding an image is shown",
    }
