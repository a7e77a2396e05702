"""How sure a detector's findings are and how many it shows, from tuning images; how good it is, in held-out ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop.evaluate.detection import Boxes, DetectionEvaluation, Hit, evaluate_detection, hits
from careloop.evaluate.estimate import to_json
from careloop.imaging.detect.dataset import DetectionCase, DetectionDataset
from careloop.imaging.detect.find import raw_findings
from careloop.imaging.detect.model import DetectorFile
from careloop.imaging.volume import spacing_mm

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

Progress = Callable[[str, int, int], None]

FEWEST_OF_EACH = 10  # hits and false findings, for a calibration
FALSE_AN_IMAGE = 1.0  # findings shown: as many false ones an image, in tuning images
IOU = 0.1  # of average precision: boxes of small findings are a few voxels wide
HOW = (
    "In images of subjects that nothing was fitted to or chosen by. A hit: the finding's centre is closer to the "
    "lesion's than the lesion's radius (LUNA16); boxes in mm."
)


@dataclass(frozen=True, eq=False)
class Compared:
    """Findings (scored by their logit) and true boxes of one label in some images, in mm; `subject_id` (images,)."""

    found: Boxes
    truth: Boxes
    subject_id: NDArray[np.intp]


def compare(
    cases: Sequence[DetectionCase],
    dataset: DetectionDataset,
    said: DetectorFile,
    network: nn.Module,
    *,
    progress: Progress,
) -> tuple[Compared, ...]:
    """What the detector finds in the cases and what there is, label by label; the score is the logit."""
    flat = len(said.patch) == 2
    columns = [1, 2, 4, 5] if flat else list(range(6))
    found: list[list[tuple[NDArray[Any], ...]]] = [[] for _ in said.labels]
    truth: list[list[tuple[NDArray[Any], ...]]] = [[] for _ in said.labels]
    for number, case in enumerate(cases):
        volume, boxes = dataset.read(case)
        scale = np.tile(spacing_mm(volume.affine), 2)[columns]
        raw = raw_findings(volume, said, network)
        names = np.array([said.labels.index(name) for name in case.labels], dtype=np.intp)
        for label in range(len(said.labels)):
            mine = raw.label == label
            found[label].append((np.full(mine.sum(), number), raw.box[mine][:, columns] * scale, raw.logit[mine]))
            there = names == label
            truth[label].append((np.full(there.sum(), number), boxes[there][:, columns] * scale))
        progress("finding in other images", number + 1, len(cases))
    subject = np.unique([case.subject for case in cases], return_inverse=True)[1]
    compared = []
    for label in range(len(said.labels)):
        image, box, logit = (np.concatenate(part) for part in zip(*found[label], strict=True))
        there_image, there_box = (np.concatenate(part) for part in zip(*truth[label], strict=True))
        compared.append(Compared(Boxes(image, box, score=logit), Boxes(there_image, there_box), subject))
    return tuple(compared)


def calibrated(said: DetectorFile, tuning: Sequence[Compared]) -> DetectorFile:
    """The description with slope and intercept fitted by logistic regression (Platt 1999), and with the threshold.

    Where there are fewer than ten hits or ten false findings, the network's own score is kept as it is.
    """
    from sklearn.linear_model import LogisticRegression

    logit, hit = [], []
    for part in tuning:
        flag = np.zeros(len(part.found), bool)
        flag[hits(part.found, part.truth, hit=Hit())[0]] = True
        assert part.found.score is not None
        logit.append(part.found.score)
        hit.append(flag)
    values, is_hit = np.concatenate(logit), np.concatenate(hit)
    if min(is_hit.sum(), (~is_hit).sum()) >= FEWEST_OF_EACH:
        fitted = LogisticRegression(C=np.inf).fit(values[:, None], is_hit)
        said = replace(said, slope=float(fitted.coef_[0, 0]), intercept=float(fitted.intercept_[0]))
    images = len(tuning[0].subject_id) if tuning else 0
    false = np.sort(said.probability(values[~is_hit]))[::-1]
    allowed = int(FALSE_AN_IMAGE * images)
    threshold = (false[allowed - 1] + false[allowed]) / 2 if 0 < allowed < len(false) else 0.0
    return replace(said, threshold=float(threshold))


def evaluation(held_out: Sequence[Compared], labels: Sequence[str]) -> dict[str, DetectionEvaluation]:
    """FROC, CPM, JAFROC and average precision of each label."""
    return {
        name: evaluate_detection(part.found, part.truth, part.subject_id, hit=Hit(iou=IOU))
        for name, part in zip(labels, held_out, strict=True)
    }


def as_json(figures: dict[str, DetectionEvaluation]) -> dict[str, Any]:
    """The figures as model.json holds them."""
    return {"how": HOW, **{name: to_json(value) for name, value in figures.items()}}
