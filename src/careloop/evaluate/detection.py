"""How well boxes are found: which finding hits what, FROC, its mean sensitivity (CPM), JAFROC, average precision.

Every figure is a count of lesions and of false findings above a score, weighted by how often an image's subject was
drawn, so findings are matched and sorted once and a resample is one cumulative sum.

Sources: Setio et al. 2017, Med Image Anal 42:1 (LUNA16's rule of a hit, of second hits and of irrelevant lesions; CPM
as Niemeijer et al. 2011, IEEE TMI 30:215); Chakraborty and Berbaum 2004, Med Phys 31:2313 (JAFROC), Chakraborty 2017,
Observer Performance Methods, ch. 14 (JAFROC1); Swensson 1996, Med Phys 23:1709 (images by their highest rating);
Everingham et al. 2010, IJCV 88:303, and Lin et al. 2014, ECCV (average precision of PASCAL VOC and COCO).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from careloop import InputError
from careloop.evaluate.discrimination import Ranking, auroc
from careloop.evaluate.estimate import Band, Estimate, Support, band, draw_counts, estimate

FALSE_POSITIVES_PER_IMAGE = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # LUNA16's
COCO_RECALLS = np.linspace(0, 1, 101)
IOU_THRESHOLD = 0.5

Rule = Literal["radius", "box", "iou"]


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes of d axes in images: `image` (m,) int position of the image, `box` (m, 2 d) low edges then high edges.

    `score` (m,) of findings, the higher the surer. `irrelevant` (m,) of true boxes: neither a miss if not found nor a
    false positive if found. Lengths are in one unit along all axes (mm, or square pixels).
    """

    image: np.ndarray
    box: np.ndarray
    score: np.ndarray | None = None
    irrelevant: np.ndarray | None = None

    def __post_init__(self) -> None:
        image, box = np.asarray(self.image, dtype=np.int64), np.asarray(self.box, dtype=np.float64)
        if box.ndim != 2 or box.shape[1] not in (4, 6) or image.shape != box.shape[:1]:
            raise InputError(f"boxes must be (m, 4) or (m, 6) with m images, got {box.shape} and {image.shape}")
        half = box.shape[1] // 2
        if not (np.isfinite(box).all() and (box[:, half:] > box[:, :half]).all()):
            raise InputError("boxes must be finite, with every high edge above its low edge; correct them")
        object.__setattr__(self, "image", image)
        object.__setattr__(self, "box", box)
        for name in ("score", "irrelevant"):
            value = getattr(self, name)
            if value is not None and np.shape(value) != image.shape:
                raise InputError(f"boxes need one {name} each, got {np.shape(value)} for {len(image)} boxes")

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True)
class Hit:
    """When a finding hits a lesion.

    `radius`: the centres are closer than the lesion's radius (half of its mean side), as in LUNA16. `box`: the
    finding's centre lies in the lesion's box. `iou`: intersection over union is at least `iou`.
    """

    rule: Rule = "radius"
    iou: float = IOU_THRESHOLD

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule) or not 0 < self.iou <= 1:
            raise InputError(f"a hit is by {', '.join(get_args(Rule))}, and iou above 0 and at most 1; got {self}")


@dataclass(frozen=True, eq=False)
class Matched:
    """Ratings after matching; -inf is the rating of a lesion that nothing hit.

    `lesion` (k,) the best score that hit each relevant lesion, and `lesion_image` (k,) where it is; `false` (f,) scores
    of findings that hit no lesion at all, and `false_image` (f,).
    """

    lesion: np.ndarray
    lesion_image: np.ndarray
    false: np.ndarray
    false_image: np.ndarray


@dataclass(frozen=True)
class DetectionEvaluation:
    """Figures of a detector, each with its 95 % interval by subject.

    `froc`: sensitivity by lesion at `x` mean false positives an image; `cpm` its mean there. `jafroc`: how often a
    lesion is rated above the best false finding of a lesion-free image; `jafroc1`: of any image. `image_auroc`: how
    often an image with a lesion is rated above one without, each by its surest finding. `average_precision` is by
    intersection over union of at least `iou`, second hits false: COCO's 101 points and VOC's area.
    """

    images: int
    images_with_lesions: int
    subjects: int
    lesions: int
    findings: int
    hit: Hit
    froc: Band
    cpm: Estimate
    jafroc: Estimate
    jafroc1: Estimate
    image_auroc: Estimate
    iou: float
    average_precision_coco: Estimate
    average_precision_voc: Estimate


def evaluate_detection(
    found: Boxes,
    truth: Boxes,
    subject_id: np.ndarray,
    *,
    hit: Hit | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> DetectionEvaluation:
    """Compare findings with true boxes in images whose subjects are `subject_id` (n,); images may have no box.

    `hit` decides for FROC, CPM and JAFROC (by default LUNA16's radius); average precision is by IoU: `hit.iou`.

    Raises:
        InputError: findings without scores, boxes of other images than the n, or of different numbers of axes.
    """
    subject_id, rule = np.asarray(subject_id), hit or Hit()
    _check(found, truth, len(subject_id))
    matched = match(found, truth, hit=rule)
    precision = _Precision.of(found, truth, iou=rule.iou)
    highest, has = image_ratings(found, truth, len(subject_id))
    names = ("cpm", "jafroc", "jafroc1", "image_auroc", "coco", "voc")
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("froc", *names)}
    with np.errstate(invalid="ignore", divide="ignore"):
        for count in draw_counts(subject_id, resamples=resamples, seed=seed):
            sensitivity = froc_at(matched, count, FALSE_POSITIVES_PER_IMAGE)
            figures = (sensitivity.mean(axis=1), *_jafroc(matched, count), _image_auroc(highest, has, count),
                       *precision(count))  # fmt: skip
            parts["froc"].append(sensitivity)
            for name, value in zip(names, figures, strict=True):
                parts[name].append(value)
    replicates = {name: np.concatenate(part) for name, part in parts.items()}
    anywhere, normal = _supports(matched, subject_id)
    return DetectionEvaluation(
        images=len(subject_id),
        images_with_lesions=len(np.unique(matched.lesion_image)),
        subjects=anywhere.subjects,
        lesions=len(matched.lesion),
        findings=len(found),
        hit=rule,
        froc=band(FALSE_POSITIVES_PER_IMAGE, replicates["froc"], anywhere),
        cpm=estimate(replicates["cpm"], anywhere),
        jafroc=estimate(replicates["jafroc"], normal),
        jafroc1=estimate(replicates["jafroc1"], anywhere),
        image_auroc=estimate(replicates["image_auroc"], normal),
        iou=rule.iou,
        average_precision_coco=estimate(replicates["coco"], anywhere),
        average_precision_voc=estimate(replicates["voc"], anywhere),
    )


def match(found: Boxes, truth: Boxes, *, hit: Hit) -> Matched:
    """Rate each relevant lesion by the best finding that hits it; what hits nothing is false.

    As in LUNA16's evaluation, second hits of a lesion and hits of irrelevant ones are left out, and a finding that hits
    two lesions counts for both.
    """
    assert found.score is not None
    finding, lesion = hits(found, truth, hit=hit)
    rating = np.full(len(truth), -np.inf)
    np.maximum.at(rating, lesion, found.score[finding])
    false = np.ones(len(found), bool)
    false[finding] = False
    kept = _relevant(truth)
    return Matched(rating[kept], truth.image[kept], found.score[false], found.image[false])


def hits(found: Boxes, truth: Boxes, *, hit: Hit) -> tuple[np.ndarray, np.ndarray]:
    """Positions (p,) of findings and (p,) of the lesions that they hit, irrelevant ones included."""
    finding, lesion = _pairs(found, truth)
    are = _hits(found.box[finding], truth.box[lesion], hit)
    return finding[are], lesion[are]


def froc_at(matched: Matched, count: np.ndarray, rates: Sequence[float]) -> np.ndarray:
    """(b, r) sensitivity at mean false positives an image, the curve linear between its points and flat beyond them.

    `count` (b, n) is how often each image counts.
    """
    rate, sensitivity = froc_curve(matched, count)
    return np.array([np.interp(rates, x, y) for x, y in zip(rate, sensitivity, strict=True)])


def froc_curve(matched: Matched, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(b, p) mean false positives an image and (b, p) sensitivity at every score, falling, from (0, 0) on."""
    if not len(matched.lesion):
        return np.zeros((len(count), 1)), np.full((len(count), 1), np.nan)
    ranking, image = _ranking(matched.lesion, matched.lesion_image, matched.false, matched.false_image)
    lesions, false = ranking.above(count[:, image])
    shown = np.append(True, np.isfinite(ranking.value))  # a lesion that nothing hit is found at no threshold
    return false[:, shown] / count.sum(axis=1)[:, None], lesions[:, shown] / lesions[:, -1:]


def _jafroc(matched: Matched, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """JAFROC and JAFROC1 (b,): lesions' ratings against the best false finding of lesion-free images, and of all."""
    best = np.full(count.shape[1], -np.inf)
    np.maximum.at(best, matched.false_image, matched.false)
    with_lesion = np.isin(np.arange(count.shape[1]), matched.lesion_image)
    figures = []
    for images in (np.flatnonzero(~with_lesion), np.arange(count.shape[1])):
        if not len(images) or not len(matched.lesion):
            figures.append(np.full(len(count), np.nan))
            continue
        ranking, image = _ranking(matched.lesion, matched.lesion_image, best[images], images)
        figures.append(auroc(*ranking.above(count[:, image])))
    return figures[0], figures[1]


def image_ratings(found: Boxes, truth: Boxes, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each image its surest finding's score (-inf without one), and 1 with a lesion, 0 without one.

    It is NaN where all lesions are irrelevant.
    """
    assert found.score is not None
    highest, has = np.full(images, -np.inf), np.zeros(images)
    np.maximum.at(highest, found.image, found.score)
    has[truth.image] = np.nan
    has[truth.image[_relevant(truth)]] = 1
    return highest, has


def _image_auroc(highest: np.ndarray, has: np.ndarray, count: np.ndarray) -> np.ndarray:
    """(b,) AUROC of images' ratings."""
    known = np.flatnonzero(~np.isnan(has))
    if len(np.unique(has[known])) < 2:
        return np.full(len(count), np.nan)
    return auroc(*Ranking.of(highest[known], has[known]).above(count[:, known]))


@dataclass(frozen=True, eq=False)
class _Precision:
    """Findings in falling order of score, each a first hit (true) or not, and the images of relevant lesions."""

    image: np.ndarray
    true: np.ndarray
    lesion_image: np.ndarray

    @classmethod
    def of(cls, found: Boxes, truth: Boxes, *, iou: float) -> _Precision:
        """Match greedily as COCO does: the surest finding first takes the free lesion that it overlaps most."""
        assert found.score is not None
        finding, lesion = _pairs(found, truth)
        overlap = iou_of(found.box[finding], truth.box[lesion])
        start, relevant = np.searchsorted(finding, np.arange(len(found) + 1)), _relevant(truth)
        order = np.argsort(-found.score, kind="stable")
        taken, true, ignored = np.zeros(len(truth), bool), np.zeros(len(found), bool), np.zeros(len(found), bool)
        for i in order:
            mine = slice(start[i], start[i + 1])
            at, how = lesion[mine], overlap[mine]
            free = (how >= iou) & ~(taken[at] & relevant[at])  # an irrelevant lesion may be hit again and again
            if free.any():
                best = at[np.lexsort((how, relevant[at] & free, free))[-1]]
                taken[best], true[i], ignored[i] = True, relevant[best], not relevant[best]
        order = order[~ignored[order]]
        return cls(found.image[order], true[order], truth.image[relevant])

    def __call__(self, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Average precision (b,) by COCO's 101 recalls and by VOC's area, from images' counts (b, n)."""
        weight, lesions = count[:, self.image], count[:, self.lesion_image].sum(axis=1, keepdims=True)
        true = np.cumsum(weight * self.true, axis=1)
        called = np.cumsum(weight, axis=1)
        precision = np.divide(true, called, out=np.zeros_like(true), where=called > 0)
        highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]  # precision at this recall or above
        recall = true / lesions
        area = (np.diff(recall, axis=1, prepend=0) * highest).sum(axis=1)
        padded = np.hstack([highest, np.zeros((len(count), 1))])
        points = [p[np.searchsorted(r, COCO_RECALLS)].mean() for p, r in zip(padded, recall, strict=True)]
        return np.where(lesions[:, 0] > 0, points, np.nan), np.where(lesions[:, 0] > 0, area, np.nan)


def iou_of(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(m,) intersection over union of boxes (m, 2 d), pair by pair."""
    half = a.shape[-1] // 2
    inside = np.minimum(a[:, half:], b[:, half:]) - np.maximum(a[:, :half], b[:, :half])
    common = np.maximum(inside, 0).prod(axis=1)
    sizes = [(box[:, half:] - box[:, :half]).prod(axis=1) for box in (a, b)]
    return np.asarray(common / (sizes[0] + sizes[1] - common))


def _hits(finding: np.ndarray, lesion: np.ndarray, hit: Hit) -> np.ndarray:
    """(p,) bool: whether each finding hits the lesion that it is paired with."""
    if hit.rule == "iou":
        return iou_of(finding, lesion) >= hit.iou
    half = finding.shape[1] // 2
    centre = (finding[:, :half] + finding[:, half:]) / 2
    if hit.rule == "box":
        return np.asarray(((centre >= lesion[:, :half]) & (centre <= lesion[:, half:])).all(axis=1))
    radius = (lesion[:, half:] - lesion[:, :half]).mean(axis=1) / 2
    apart = centre - (lesion[:, :half] + lesion[:, half:]) / 2
    return np.asarray((apart**2).sum(axis=1) < radius**2)


def _pairs(found: Boxes, truth: Boxes) -> tuple[np.ndarray, np.ndarray]:
    """Positions of every finding and lesion of one image, in the order of findings."""
    order = np.argsort(truth.image, kind="stable")
    first, end = (np.searchsorted(truth.image[order], found.image, side=side) for side in ("left", "right"))
    finding = np.repeat(np.arange(len(found)), end - first)
    within = np.arange(len(finding)) - np.repeat(np.cumsum(end - first) - (end - first), end - first)
    return finding, order[np.repeat(first, end - first) + within]


def _relevant(truth: Boxes) -> np.ndarray:
    return np.ones(len(truth), bool) if truth.irrelevant is None else ~np.asarray(truth.irrelevant, dtype=bool)


def _ranking(
    positive: np.ndarray, positive_image: np.ndarray, negative: np.ndarray, negative_image: np.ndarray
) -> tuple[Ranking, np.ndarray]:
    """Ratings of both kinds sorted together, and the image of each."""
    label = np.repeat([1.0, 0.0], [len(positive), len(negative)])
    return Ranking.of(np.concatenate([positive, negative]), label), np.concatenate([positive_image, negative_image])


def _supports(matched: Matched, subject_id: np.ndarray) -> tuple[Support, Support]:
    """What is behind a figure with false findings of all images, and of lesion-free ones: subjects of each side."""
    n, subjects = len(subject_id), len(np.unique(subject_id))
    has = np.isin(np.arange(n), matched.lesion_image)
    with_lesion, without = (len(np.unique(subject_id[rows])) for rows in (has, ~has))
    rows = int(has.sum()), 0, int((~has).sum()), 0, n
    return Support(n, subjects, *rows, with_lesion, subjects), Support(n, subjects, *rows, with_lesion, without)


def _check(found: Boxes, truth: Boxes, images: int) -> None:
    if found.score is None or not np.isfinite(found.score).all():
        raise InputError("findings need a finite score each")
    if found.box.shape[1] != truth.box.shape[1]:
        raise InputError(f"findings and true boxes need as many edges, got {found.box.shape[1]}, {truth.box.shape[1]}")
    for boxes in (found, truth):
        if len(boxes) and not (boxes.image.min() >= 0 and boxes.image.max() < images):
            raise InputError(f"boxes must be of the {images} images (from 0), got image {boxes.image.max()}")
