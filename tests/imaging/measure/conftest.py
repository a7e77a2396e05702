"""The IBSI's digital phantom and the published values of its features; an image with labels in space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from careloop.imaging.volume import LabelMap, Segment, Source, Volume

# 5 x 4 x 4 voxels of 2 mm. Image Biomarker Standardisation Initiative, github.com/theibsi/data_sets,
# ibsi_1_digital_phantom, CC BY 4.0.
VOXELS = np.array(
    [
        [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [1, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 1, 1, 1], [1, 1, 9, 1, 1], [1, 1, 6, 1, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
    ],
    dtype=np.int16,
)
OUTSIDE = ((1, 2, 0), (2, 0, 3), (2, 0, 4), (2, 2, 2), (3, 0, 3), (3, 0, 4))


@dataclass(frozen=True)
class Phantom:
    """The phantom; `reference` has a row a feature, with the values of the phantom and of the IBSI's CT.

    Values and tolerances: github.com/theibsi/ibsi-doc, docs/03_Image_features.rst at b952e71 (`dig. phantom` and
    `config. C`, aggregation 3D or 3D merged), as in the manual arXiv:1612.07003 and in Zwanenburg et al., Radiology
    2020;295:328. Volumes are in mm3 and areas in mm2 there.
    """

    voxels: NDArray[np.int16]
    mask: NDArray[np.bool_]
    axes_mm: NDArray[np.float64]
    reference: pl.DataFrame


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    mask = np.ones(VOXELS.shape, dtype=bool)
    mask[tuple(np.transpose(OUTSIDE))] = False
    reference = pl.read_csv(Path(__file__).with_name("ibsi_reference_values.csv"))
    return Phantom(VOXELS, mask, np.eye(3) * 2.0, reference)


@pytest.fixture(scope="session")
def is_reference() -> Callable[[float, float, float | None], bool]:
    """True within a tolerance, or where that is none within half a unit of the third figure that is published."""

    def check(value: float, reference: float, tolerance: float | None) -> bool:
        half = 0.5005 * 10.0 ** (np.floor(np.log10(abs(reference))) - 2) if reference else 1e-12
        return bool(abs(value - reference) <= (tolerance or 0) + half)

    return check


MakeImage = Callable[..., tuple[LabelMap, Volume]]


@pytest.fixture(scope="session")
def make_image() -> MakeImage:
    """Make a label map and its volume from labels (slices, rows, columns): axial, 2 x 1 x 1 mm, HU of 40 by default."""

    def make(
        labels: NDArray[np.unsignedinteger],
        voxels: NDArray[np.generic] | None = None,
        *,
        names: tuple[str, ...] = ("heart", "lung nodule", "spleen"),
        unit: str = "[hnsf'U]",
        acquired: datetime | None = datetime(2021, 5, 6, 7, tzinfo=UTC),
    ) -> tuple[LabelMap, Volume]:
        affine = np.array([[0, 0, 1.0, -20], [0, 1, 0, -30], [2, 0, 0, 100], [0, 0, 0, 1]])
        source = Source(study="1.2.3", series="1.2.3.4", patient_id="p1", acquired=acquired)
        segments = tuple(
            Segment(n, name, type=("SCT", "80891009", "Heart") if name == "heart" else None)
            for n, name in enumerate(names, start=1)
        )
        filled = np.full(labels.shape, 40, dtype=np.int16) if voxels is None else voxels
        volume = Volume(filled, affine, modality="CT", unit=unit, source=source)
        return LabelMap(labels, affine, segments, made_by="chest 1.0", source=source), volume

    return make
