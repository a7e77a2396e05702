"""Images with boxes: from a table, or from a segmentation data set by its connected structures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from careloop import InputError
from careloop.imaging.detect.boxes import boxes_of_mask, spheres_in_voxels
from careloop.imaging.read.volumes import Choice, read_volume
from careloop.imaging.volume import Volume

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

Split = Literal["train", "tuning", "held_out"]

FLAT = ("row_low", "column_low", "row_high", "column_high")
SOLID = ("slice_low", "row_low", "column_low", "slice_high", "row_high", "column_high")
SPHERE = ("x_mm", "y_mm", "z_mm", "diameter_mm")
FINDING = "finding"  # the label where the table has none
SHARES = {"train": 0.7, "tuning": 0.15, "held_out": 0.15}  # of the subjects, where the table has no split


@dataclass(frozen=True, eq=False)
class DetectionCase:
    """One image, whose it is, and its boxes as the table gives them: `edges` (k, 4 or 6) and the label of each."""

    image: Path
    subject: str
    split: Split
    edges: NDArray[np.float64]
    labels: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class DetectionDataset:
    """Images with boxes of one kind of columns (`FLAT`, `SOLID` or `SPHERE`); `labels` are the names that occur."""

    table: Path
    columns: tuple[str, ...]
    labels: tuple[str, ...]
    cases: tuple[DetectionCase, ...]
    modality: str = ""

    def of(self, split: Split) -> tuple[DetectionCase, ...]:
        """The cases of one split."""
        return tuple(case for case in self.cases if case.split == split)

    @property
    def digest(self) -> str:
        """SHA-256 of the table and of each image's size and time: other data, another."""
        known = hashlib.sha256(self.table.read_bytes())
        for case in self.cases:
            facts = case.image.stat()
            known.update(f"{case.image.name} {facts.st_size} {facts.st_mtime_ns}\n".encode())
        return known.hexdigest()

    def read(self, case: DetectionCase) -> tuple[Volume, NDArray[np.float64]]:
        """The image and its boxes (k, 6) in voxels (see `careloop.imaging.detect.boxes`)."""
        volume = read_volume(case.image, choice=Choice(modality=self.modality))
        if self.columns == SPHERE:
            return volume, spheres_in_voxels(case.edges[:, :3], case.edges[:, 3], volume.affine)
        if self.columns == SOLID:
            return volume, case.edges
        ends = np.zeros((len(case.edges), 1)), np.ones((len(case.edges), 1))
        return volume, np.hstack([ends[0], case.edges[:, :2], ends[1], case.edges[:, 2:]])


def open_table(path: Path, *, modality: str = "", seed: int = 0) -> DetectionDataset:
    """A CSV with a row a box: image (relative to the table), subject_id, the box, and where given label and split.

    The box is `row_low`, `column_low`, `row_high`, `column_high` in pixels (pixel i reaches from i to i + 1), with
    `slice_low` and `slice_high` too in a volume, or a sphere in the patient: `x_mm`, `y_mm`, `z_mm` (LPS) and
    `diameter_mm`. An image without a box has one row with the box left empty. `split` is train, tuning or held_out;
    without it subjects are split 70 : 15 : 15 by `seed`. `modality` is of images that do not say theirs.

    Raises:
        InputError: columns are missing, a box is half empty, a subject is in two splits, or an image does not exist.
    """
    import polars as pl

    try:
        rows = pl.read_csv(path, schema_overrides={"subject_id": pl.String, "image": pl.String, "label": pl.String})
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from error
    columns = next((c for c in (SOLID, SPHERE, FLAT) if set(c) <= set(rows.columns)), None)
    if columns is None or not {"image", "subject_id"} <= set(rows.columns):
        raise InputError(
            f"{path} must have image, subject_id and the box ({', '.join(FLAT)}, as a rule); see the guide"
        )
    rows = _with_split(rows, path, seed).with_columns(
        _boxed=pl.sum_horizontal(pl.col(c).is_not_null().cast(pl.Int32) for c in columns)
    )
    if not rows["_boxed"].is_in([0, len(columns)]).all():
        raise InputError(f"{path}: a box must be whole or empty; {', '.join(columns)} are filled in part in some rows")
    if "label" not in rows.columns:
        rows = rows.with_columns(label=pl.lit(FINDING))
    cases = tuple(_case(path, part, columns) for part in rows.partition_by("image", maintain_order=True))
    labels = tuple(sorted({label for case in cases for label in case.labels}))
    if not labels:
        raise InputError(f"{path} has no box at all; a detector is trained on some")
    return DetectionDataset(path, columns, labels, cases, modality)


def boxes_table(folder: Path, out: Path, *, structure: str) -> Path:
    """Write the table of a segmentation data set (nnU-Net's layout): a box a connected part of `structure`.

    Only the first channel's images are used. Returns `out`.

    Raises:
        InputError: the data set cannot be used, or has no such structure.
    """
    import polars as pl

    from careloop.imaging.learn.dataset import open_dataset
    from careloop.imaging.learn.fingerprint import read_case

    dataset = open_dataset(folder)
    if structure not in dataset.labels.names:
        raise InputError(f"{folder} has no structure '{structure}', only {', '.join(dataset.labels.names)}")
    numbers = dataset.labels.numbers[dataset.labels.names.index(structure)]
    rows: list[dict[str, object]] = []
    for case in dataset.cases:
        found = boxes_of_mask(np.isin(read_case(case, dataset).labels.labels, numbers))
        about: dict[str, object] = {
            "image": str(case.images[0].resolve()),
            "subject_id": case.subject,
            "label": structure,
        }
        rows += [about | dict(zip(SOLID, box, strict=True)) for box in found.tolist()] or [about]
    schema = {"image": pl.String, "subject_id": pl.String, "label": pl.String} | dict.fromkeys(SOLID, pl.Float64)
    pl.DataFrame(rows, schema=schema).write_csv(out)
    return out


def _with_split(rows: pl.DataFrame, path: Path, seed: int) -> pl.DataFrame:
    import polars as pl

    if "split" in rows.columns:
        if not rows["split"].is_in(get_args(Split)).all():
            raise InputError(f"{path}: split must be {', '.join(get_args(Split))} in every row")
    else:
        subjects = rows["subject_id"].unique().sort()
        order = np.random.default_rng(seed).permutation(len(subjects))
        bounds = np.cumsum([round(share * len(subjects)) for share in (SHARES["train"], SHARES["tuning"])])
        part = np.searchsorted(bounds, np.argsort(order), side="right")
        names = pl.Series("split", [get_args(Split)[i] for i in part])
        rows = rows.join(pl.DataFrame({"subject_id": subjects, "split": names}), on="subject_id")
    both = rows.group_by("subject_id").agg(pl.col("split").n_unique()).filter(pl.col("split") > 1)
    if both.height:
        raise InputError(f"{path}: {both.height} subjects are in more than one split; keep each in one")
    return rows


def _case(path: Path, rows: pl.DataFrame, columns: Iterable[str]) -> DetectionCase:
    """The rows of one image."""
    image = path.parent / rows["image"][0]
    if not image.exists():
        raise InputError(f"{path} names {rows['image'][0]}, which does not exist beside it")
    if rows["subject_id"].n_unique() > 1:
        raise InputError(f"{path}: {rows['image'][0]} is given to {rows['subject_id'].n_unique()} subjects")
    boxed = rows.filter(rows["_boxed"] > 0)
    edges = boxed.select(columns).to_numpy().astype(float)
    names = tuple(name or FINDING for name in boxed["label"])
    return DetectionCase(image, str(rows["subject_id"][0]), rows["split"][0], edges, names)
