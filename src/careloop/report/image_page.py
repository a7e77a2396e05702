"""The page of one segmentation: pictures, what was found in the series, measurements, and how it was computed.

One self-contained HTML file without scripts; it names no patient, no date and no identifier of a study.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

import careloop
from careloop.imaging.finding import Finding
from careloop.imaging.volume import LabelMap, Volume
from careloop.report.image_montage import NOT_CLINICAL, panels, shown_segments
from careloop.report.page_parts import UNITS, Row, figure, finding_rows, png_base64, template, unit_words

if TYPE_CHECKING:
    from careloop.imaging.segment.stages import Stage

MAX_DETAILED = 30  # structures whose every quantity is on the page; with more the table is a file's
NOTED = ("volume", "area", "components", "intensity_mean")


@dataclass(frozen=True)
class ImageFacts:
    """What the page is made of: an image, its labels, their measurements (`careloop.imaging.measure.measure`).

    `findings` are those of the image and of its segmentation, `stages` those of the run, and `backend` is what ran the
    networks.
    """

    volume: Volume
    label_map: LabelMap
    table: pl.DataFrame
    findings: tuple[Finding, ...] = ()
    stages: tuple[Stage, ...] = ()
    backend: str = ""


def write_image_page(facts: ImageFacts, path: Path) -> None:
    """Write `image_page` as HTML in UTF-8 to `path`."""
    path.write_text(image_page(facts), encoding="utf-8")


def image_page(facts: ImageFacts) -> str:
    """The page as HTML text; InputError where labels and image do not lie on one grid."""
    volume, label_map, table = facts.volume, facts.label_map, facts.table
    shown = shown_segments(label_map)
    found = {segment.number for segment in shown}
    findings = list(dict.fromkeys((*volume.findings, *facts.findings)))
    return template("image_page.html.j2").render(
        not_clinical=NOT_CLINICAL,
        simulated=any(finding.check == "simulated" for finding in findings),
        software=f"careloop {careloop.__version__}",
        made_by=label_map.made_by or "not stated",
        series=_series(volume),
        unit=unit_words(volume.unit, "image's unit"),
        picture=png_base64(panels(volume, label_map)),
        legend=[{"name": _plain(s.name), "colour": _hex(s.colour or (0, 0, 0))} for s in shown],
        absent=[_plain(s.name) for s in label_map.segments if s.number not in found],
        findings=finding_rows(findings),
        rows=_rows(table),
        detail=_detail(table) if len(shown) <= MAX_DETAILED else [],
        stages=[_stage(stage) for stage in facts.stages],
        total=_seconds(sum(stage.seconds for stage in facts.stages)),
        backend=facts.backend,
    )


def _series(volume: Volume) -> list[tuple[str, str]]:
    slices, rows, columns = volume.voxels.shape[:3]
    z, y, x = volume.spacing_mm
    unit = unit_words(volume.unit, "arbitrary unit")
    low, high = (figure(float(limit(volume.voxels))) for limit in (np.nanmin, np.nanmax))
    facts = [
        ("Modality", volume.modality or "not stated"),
        ("Body part", volume.body_part.lower() or "not stated"),
        ("Slices × rows × columns", f"{slices} × {rows} × {columns}"),
        ("Voxel", f"{z:.3g} × {y:.3g} × {x:.3g} mm"),
        ("Intensities", f"{low} to {high} ({unit})"),
    ]
    return facts if volume.placed else [*facts, ("Place in the patient", "not stated: sides are not marked")]


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _rows(table: pl.DataFrame) -> list[Row]:
    """A row a structure with its main quantities, and what was noted of them, each note once."""
    rows = []
    for _, part in table.group_by("segment", maintain_order=True):
        values = dict(part.select("quantity", "value").iter_rows())
        notes = part.filter(pl.col("quantity").is_in(NOTED) & (pl.col("note") != ""))["note"]
        rows.append(
            {
                "name": _plain(part["name"][0]),
                "size": _joined(values, ("volume",)) or f"{_joined(values, ('area',))} cm²" * ("area" in values),
                "longest_diameter": _joined(values, ("longest_diameter",)),
                "axes": _joined(values, ("long_axis", "short_axis"), " × "),
                "components": f"{values.get('components', 0):.0f}",
                "mean": _joined(values, ("intensity_mean", "intensity_sd"), " ± "),
                "spread": _joined(values, ("intensity_p10", "intensity_median", "intensity_p90"), " / "),
                "notes": "; ".join(_once(notes)),
            }
        )
    return rows


def _joined(values: dict[str, float], names: tuple[str, ...], between: str = "") -> str:
    """The values of these quantities; empty where the first is not there."""
    return between.join(figure(values[name]) for name in names) if names[0] in values else ""


def _once(notes: pl.Series) -> list[str]:
    """The parts of notes, each once, in their order."""
    return list(dict.fromkeys(part for note in notes for part in note.split("; ")))


def _detail(table: pl.DataFrame) -> list[Row]:
    """Every quantity of each structure."""
    structures = []
    for _, part in table.group_by("segment", maintain_order=True):
        rows = [
            {
                "quantity": _plain(row["quantity"]),
                "value": figure(row["value"]),
                "unit": UNITS.get(row["unit"], row["unit"]),
                "code": f"{row['concept']['scheme']} {row['concept']['value']}",
                "meaning": row["concept"]["meaning"],
                "note": row["note"],
            }
            for row in part.iter_rows(named=True)
        ]
        structures.append({"name": _plain(part["name"][0]), "rows": rows})
    return structures


def _stage(stage: Stage) -> Row:
    return {"name": stage.name, "seconds": _seconds(stage.seconds), "peak": f"{stage.peak_bytes / 2**20:,.0f} MB"}


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def _plain(name: str) -> str:
    return name.replace("_", " ")
