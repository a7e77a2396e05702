"""The page of one restored image: before and after, what was taken out, the expected error, noise, and checks.

One self-contained HTML file that loads nothing; without scripts every slice is shown before and after, side by side.
It names no patient, no date and no identifier of a study.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import careloop
from careloop import InputError
from careloop.imaging.finding import Finding
from careloop.imaging.volume import Volume
from careloop.report.image_montage import NOT_CLINICAL
from careloop.report.page_parts import Row, figure, finding_rows, template, unit_words
from careloop.report.restoration_pictures import MOST_CHANGED, RestorationPictures, colours, restoration_pictures

if TYPE_CHECKING:
    from numpy.typing import NDArray

TakenOut = Literal["noise", "blur", "shading"]
SHOULD_LOOK = {
    "noise": "which should look like noise, without outlines of anatomy or spots",
    "blur": "which should be no more than the blur along edges, without spots or structures of its own",
    "shading": "which should change slowly over the image, without outlines of anatomy or spots",
}
COLOUR_STOPS = 9  # of the bar beside the map of expected errors


@dataclass(frozen=True)
class Quality:
    """A figure of the image before and after; None where it has none. `how` says how it was found, in a sentence."""

    name: str
    before: float | None
    after: float | None
    how: str
    unit: str = ""


@dataclass(frozen=True, eq=False)
class RestorationFacts:
    """What the page is made of: an image, its restoration, and what is known of both.

    `restored` has the original's slices; its rows and columns may be whole multiples of the original's.
    `expected_error` has the restored image's shape, in the image's unit. `done` says what was done (`noise reduced`),
    `made_by` names the model or method and its version, `taken_out` says what the difference of both should be.
    `levels` are the noise levels of slices (one each, or none) in the image's unit. `findings` are added to those of
    both images.
    """

    original: Volume
    restored: Volume
    done: str
    made_by: str
    taken_out: TakenOut = "noise"
    expected_error: NDArray[Any] | None = None
    levels: tuple[float, ...] = ()
    findings: tuple[Finding, ...] = ()
    simulated: bool = False
    quality: tuple[Quality, ...] = ()

    def __post_init__(self) -> None:
        if len(self.levels) not in (0, len(self.original.voxels)):
            raise InputError(f"noise levels must be one a slice ({len(self.original.voxels)}), got {len(self.levels)}")


def write_restoration_page(facts: RestorationFacts, path: Path) -> None:
    """Write `restoration_page` as HTML in UTF-8 to `path`."""
    path.write_text(restoration_page(facts), encoding="utf-8")


def restoration_page(facts: RestorationFacts) -> str:
    """The page as HTML text, below about 8 MB.

    InputError where the restored image or its expected error does not lie on the original's slices, or its rows and
    columns are no whole multiples.
    """
    original, restored = facts.original, facts.restored
    findings = list(dict.fromkeys((*original.findings, *restored.findings, *facts.findings)))
    pictures = restoration_pictures(original, restored, facts.expected_error)
    unit = unit_words(original.unit, "arbitrary units")
    return template("restoration_page.html.j2").render(
        not_clinical=NOT_CLINICAL,
        simulated=facts.simulated or any(finding.check == "simulated" for finding in findings),
        software=f"careloop {careloop.__version__}",
        done=facts.done,
        made_by=facts.made_by,
        should_look=SHOULD_LOOK[facts.taken_out],
        changed=_changed(pictures, len(original.voxels)),
        unit=unit,
        count=len(original.voxels),
        slices=pictures.slices,
        first=_first(pictures),
        windows=_windows(pictures, unit),
        proportion=pictures.proportion,
        shrunk=pictures.shrunk,
        finer=original.voxels.shape[:3] != restored.voxels.shape[:3],
        sides=list(zip(("top", "bottom", "left", "right"), pictures.turn.down + pictures.turn.right, strict=True)),
        sides_known=any(pictures.turn.down),
        difference_limit=figure(pictures.difference_limit),
        error=facts.expected_error is not None,
        error_half=figure(pictures.error_limit / 2),
        error_limit=figure(pictures.error_limit),
        colours=[f"rgb({r} {g} {b})" for r, g, b in colours()[:: 255 // (COLOUR_STOPS - 1)].tolist()],
        levels=_levels(facts.levels, unit),
        chart=_chart(facts.levels, unit),
        quality=_quality(facts.quality),
        series=_series(original, restored),
        findings=finding_rows(findings),
    )


def _changed(pictures: RestorationPictures, count: int) -> str:
    """What became of the pixels, in a sentence."""
    if not pictures.unchanged:
        return "Every pixel was changed."
    if pictures.unchanged == count:
        return "Nothing was taken out of this image: it is as it was."
    slices = "slice is" if pictures.unchanged == 1 else "slices are"
    return f"Every pixel was changed, save that {pictures.unchanged} of {count} {slices} as before."


def _first(pictures: RestorationPictures) -> int:
    """Which slice is shown first: the one changed most, so that nobody has to look for it."""
    return next((place for place, one in enumerate(pictures.slices) if one.note == MOST_CHANGED), 0)


def _windows(pictures: RestorationPictures, unit: str) -> list[Row]:
    return [
        {
            "name": window.name or "1st to 99th percentile of the original",
            "range": f"{figure(window.low)} to {figure(window.high)} {unit}",
        }
        for window in pictures.windows
    ]


def _levels(levels: Sequence[float], unit: str) -> str:
    """Noise levels in a sentence; empty without any."""
    if not levels:
        return ""
    if min(levels) == max(levels):
        return f"Noise level (standard deviation): {figure(levels[0])} {unit}."
    low, middle, high = (figure(float(np.percentile(levels, part))) for part in (0, 50, 100))
    return f"Noise level (standard deviation) of slices: median {middle} {unit}, from {low} to {high}."


def _chart(levels: Sequence[float], unit: str) -> str:
    from careloop.report import charts
    from careloop.report.image_charts import noise_levels

    if len(levels) < 2:
        return ""
    with charts.style():
        return noise_levels(levels, unit)


def _quality(quality: Sequence[Quality]) -> list[Row]:
    return [
        {
            "name": one.name,
            "before": "" if one.before is None else f"{figure(one.before)} {one.unit}",
            "after": "" if one.after is None else f"{figure(one.after)} {one.unit}",
            "how": one.how,
        }
        for one in quality
    ]


def _series(original: Volume, restored: Volume) -> list[tuple[str, str]]:
    facts = [
        ("Modality", original.modality or "not stated"),
        ("Body part", original.body_part.lower() or "not stated"),
        ("Slices × rows × columns", _size(original)),
        ("Voxel", _voxel(original)),
    ]
    if restored.voxels.shape != original.voxels.shape:
        facts += [("Restored: slices × rows × columns", _size(restored)), ("Restored: voxel", _voxel(restored))]
    unit = unit_words(original.unit, "arbitrary unit")
    for name, volume in (("Intensities before", original), ("Intensities after", restored)):
        low, high = (figure(float(limit(volume.voxels))) for limit in (np.nanmin, np.nanmax))
        facts.append((name, f"{low} to {high} ({unit})"))
    return facts


def _size(volume: Volume) -> str:
    return " × ".join(map(str, volume.voxels.shape[:3]))


def _voxel(volume: Volume) -> str:
    return " × ".join(f"{step:.3g}" for step in volume.spacing_mm) + " mm"
