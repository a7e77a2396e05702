"""Detection figures against cases by hand, LUNA16's rules written out, MONAI, and scikit-learn."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics

from careloop import InputError
from careloop.evaluate.detection import (
    FALSE_POSITIVES_PER_IMAGE,
    Boxes,
    Hit,
    evaluate_detection,
    froc_curve,
    iou_of,
    match,
)


def cubes(image: list[int], centres: list[list[float]], side: float, **more: object) -> Boxes:
    at = np.array(centres, dtype=float)
    return Boxes(np.array(image), np.hstack([at - side / 2, at + side / 2]), **more)  # type: ignore[arg-type]


def simulated(seed: int, *, images: int = 40, axes: int = 3) -> tuple[Boxes, Boxes, np.ndarray]:
    """Lesions of random sizes in some images, findings near them, twice for some, and false ones."""
    rng = np.random.default_rng(seed)
    lesions = rng.integers(0, 4, images)
    lesions[rng.random(images) < 0.3] = 0
    where = np.repeat(np.arange(images), lesions)
    centre, side = rng.uniform(0, 100, (len(where), axes)), rng.uniform(4, 12, (len(where), 1))
    truth = Boxes(where, np.hstack([centre - side / 2, centre + side / 2]))
    near = np.repeat(np.arange(len(where)), rng.integers(0, 3, len(where)))
    at = centre[near] + rng.normal(0, 1.5, (len(near), axes))
    wide = side[near] * rng.uniform(0.7, 1.3, (len(near), 1))
    elsewhere = rng.integers(0, images, 60)
    at = np.vstack([at, rng.uniform(0, 100, (60, axes))])
    wide = np.vstack([wide, rng.uniform(4, 12, (60, 1))])
    score = np.concatenate([rng.normal(1, 1, len(near)), rng.normal(0, 1, 60)])
    found = Boxes(np.concatenate([where[near], elsewhere]), np.hstack([at - wide / 2, at + wide / 2]), score=score)
    return found, truth, np.arange(images)


def test_a_case_by_hand() -> None:
    truth = cubes([0, 0, 1], [[10, 10, 10], [40, 40, 40], [20, 20, 20]], 10)
    found = cubes(
        [0, 0, 0, 1, 2],
        [[11, 10, 10], [12, 10, 10], [70, 70, 70], [20, 20, 24], [5, 5, 5]],
        10,
        score=np.array([0.9, 0.95, 0.8, 0.3, 0.5]),
    )
    matched = match(found, truth, hit=Hit("radius"))
    assert matched.lesion.tolist() == [0.95, -np.inf, 0.3]
    assert sorted(matched.false.tolist()) == [0.5, 0.8]
    rate, sensitivity = froc_curve(matched, np.ones((1, 3)))
    assert rate[0] == pytest.approx([0, 0, 1 / 3, 2 / 3, 2 / 3])
    assert sensitivity[0] == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3, 2 / 3])
    result = evaluate_detection(found, truth, np.arange(3), resamples=20)
    assert result.froc.value == pytest.approx([1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3][:1] * 3 + [2 / 3] * 4)
    assert result.cpm.value == pytest.approx((3 / 3 + 4 * 2 / 3) / 7)
    # Lesions 0.95, none, 0.3 against 0.5, the best of the lesion-free image: one of three; and against 0.8, none, 0.5.
    assert result.jafroc.value == pytest.approx(1 / 3)
    assert result.jafroc1.value == pytest.approx((3 + 0.5 + 1) / 9)
    assert "an interval needs" in str(result.cpm.reason)


def luna16(found: Boxes, truth: Boxes, images: int, irrelevant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """noduleCADEvaluationLUNA16's loop over annotations and candidates, and its computeFROC, written anew."""
    assert found.score is not None
    labels, scores, excluded = [], [], []
    for image in range(images):
        marks = {int(i): (found.box[i, :3] + found.box[i, 3:]) / 2 for i in np.flatnonzero(found.image == image)}
        left = dict(marks)
        for j in np.flatnonzero(truth.image == image):
            centre = (truth.box[j, :3] + truth.box[j, 3:]) / 2
            radius = (truth.box[j, 3] - truth.box[j, 0]) / 2
            hits = [key for key, at in marks.items() if ((at - centre) ** 2).sum() < radius**2]
            for key in hits:
                left.pop(key, None)
            if not irrelevant[j]:
                labels.append(1.0)
                scores.append(max(found.score[key] for key in hits) if hits else -1000.0)
                excluded.append(not hits)
        labels += [0.0] * len(left)
        scores += [found.score[key] for key in left]
        excluded += [False] * len(left)
    kept = ~np.array(excluded)
    fpr, tpr, _ = metrics.roc_curve(np.array(labels)[kept], np.array(scores)[kept])
    detected = np.array(labels)[kept].sum()
    return fpr * (kept.sum() - detected) / images, tpr * detected / sum(labels)


@pytest.mark.parametrize("seed", range(4))
def test_froc_and_cpm_are_luna16s(seed: int) -> None:
    found, truth, subjects = simulated(seed)
    irrelevant = np.random.default_rng(seed).random(len(truth)) < 0.2
    truth = Boxes(truth.image, truth.box, irrelevant=irrelevant)
    rate, sensitivity = luna16(found, truth, len(subjects), irrelevant)
    result = evaluate_detection(found, truth, subjects, resamples=50)
    expected = np.interp(FALSE_POSITIVES_PER_IMAGE, rate, sensitivity)
    assert result.froc.value == pytest.approx(expected)
    assert result.cpm.value == pytest.approx(expected.mean())


@pytest.mark.parametrize("seed", range(3))
def test_froc_is_monais(seed: int) -> None:
    from monai.metrics import compute_froc_curve_data, compute_froc_score

    found, truth, subjects = simulated(seed, axes=2)
    matched = match(found, truth, hit=Hit("box"))
    hit = matched.lesion[np.isfinite(matched.lesion)]
    rate, sensitivity = compute_froc_curve_data(matched.false, hit, len(matched.lesion), len(subjects))
    ours = froc_curve(matched, np.ones((1, len(subjects))))
    assert ours[0][0][:-1][::-1] == pytest.approx(rate)  # MONAI leaves out the lowest threshold
    assert ours[1][0][:-1][::-1] == pytest.approx(sensitivity)
    assert compute_froc_score(rate, sensitivity, (0.25, 0.5, 1)) == pytest.approx(
        np.mean(evaluate_detection(found, truth, subjects, hit=Hit("box"), resamples=1).froc.value[1:4])
    )


@pytest.mark.parametrize(("axes", "iou"), [(2, 0.5), (3, 0.1), (3, 0.5)])
def test_average_precision_is_monais_coco(axes: int, iou: float) -> None:
    from monai.apps.detection.metrics.coco import COCOMetric
    from monai.apps.detection.metrics.matching import matching_batch
    from monai.data.box_utils import box_iou

    found, truth, subjects = simulated(5, axes=axes)
    assert found.score is not None
    rows = [[np.flatnonzero(boxes.image == i) for i in subjects] for boxes in (found, truth)]
    metric = COCOMetric(classes=["nodule"], iou_list=[iou], max_detection=[100])
    matches = matching_batch(
        iou_fn=box_iou,
        iou_thresholds=metric.iou_thresholds,
        pred_boxes=[found.box[r] for r in rows[0]],
        pred_classes=[np.zeros(len(r), int) for r in rows[0]],
        pred_scores=[found.score[r] for r in rows[0]],
        gt_boxes=[truth.box[r] for r in rows[1]],
        gt_classes=[np.zeros(len(r), int) for r in rows[1]],
    )
    peer = metric(matches)[0]
    result = evaluate_detection(found, truth, subjects, hit=Hit(iou=iou), resamples=1)
    name = f"AP_IoU_{iou:.2f}_MaxDet_100"
    assert result.average_precision_coco.value == pytest.approx(peer[name], abs=1e-6)
    assert 0 < peer[name] < 1


def test_average_precision_by_hand() -> None:
    truth = Boxes(np.array([0, 0, 1]), np.array([[0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 10, 10]]))
    found = Boxes(
        np.array([0, 0, 1, 1]),
        np.array([[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60], [0, 0, 10, 8]]),
        score=np.array([0.9, 0.8, 0.7, 0.6]),
    )
    result = evaluate_detection(found, truth, np.arange(2), resamples=1)
    # True, second hit, false, true: recall 1/3 at precision 1, 2/3 at 1/2.
    assert result.average_precision_voc.value == pytest.approx((1 + 0.5) / 3)
    assert result.average_precision_coco.value == pytest.approx((34 * 1 + 33 * 0.5) / 101)


def test_jafroc_is_the_mann_whitney_of_its_definition() -> None:
    found, truth, subjects = simulated(9)
    matched = match(found, truth, hit=Hit())
    lesion_free = np.setdiff1d(subjects, matched.lesion_image)

    def statistic(images: np.ndarray) -> float:
        best = [max(matched.false[matched.false_image == i], default=-np.inf) for i in images]
        return float(np.mean([(y > x) + (y == x) / 2 for x in best for y in matched.lesion]))

    result = evaluate_detection(found, truth, subjects, resamples=1)
    assert result.jafroc.value == pytest.approx(statistic(lesion_free))
    assert result.jafroc1.value == pytest.approx(statistic(subjects))


def test_images_are_ranked_by_their_surest_finding_as_scikit_learn_does() -> None:
    found, truth, subjects = simulated(9)
    assert found.score is not None
    irrelevant = truth.image == truth.image[0]  # an image that says nothing then
    highest = [max(found.score[found.image == i], default=-100.0) for i in subjects]
    has = np.isin(subjects, truth.image)
    result = evaluate_detection(found, truth, subjects, resamples=1)
    assert result.image_auroc.value == pytest.approx(metrics.roc_auc_score(has, highest))
    told = subjects != truth.image[0]
    result = evaluate_detection(found, replace(truth, irrelevant=irrelevant), subjects, resamples=1)
    assert result.image_auroc.value == pytest.approx(metrics.roc_auc_score(has[told], np.array(highest)[told]))


def test_intervals_are_those_of_copied_subjects_and_cover_the_truth() -> None:
    found, truth, subjects = simulated(1)
    patients = subjects // 2
    result = evaluate_detection(found, truth, patients, resamples=400)
    rng, values = np.random.default_rng(0), []
    for _ in range(150):
        drawn = np.concatenate([np.flatnonzero(patients == p) for p in rng.integers(0, 20, 20)])
        rows = [[np.flatnonzero(boxes.image == i) for i in drawn] for boxes in (found, truth)]
        image = [np.repeat(np.arange(len(drawn)), [len(r) for r in part]) for part in rows]
        assert found.score is not None
        picked = [np.concatenate(part) for part in rows]
        copied = Boxes(image[0], found.box[picked[0]], score=found.score[picked[0]])
        again = evaluate_detection(copied, Boxes(image[1], truth.box[picked[1]]), np.arange(len(drawn)), resamples=1)
        values.append(again.cpm.value)
    assert result.cpm.low == pytest.approx(np.percentile(values, 2.5), abs=0.04)
    assert result.cpm.high == pytest.approx(np.percentile(values, 97.5), abs=0.04)
    assert result.subjects == 20


def test_iou_and_rules_of_a_hit() -> None:
    a, b = np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 1, 3, 3]])
    assert iou_of(a, b) == pytest.approx(1 / 7)
    truth = Boxes(np.array([0]), np.array([[0.0, 0, 4, 4]]))
    corner = Boxes(np.array([0]), np.array([[3.0, 3, 4.8, 4.8]]), score=np.array([1.0]))
    assert np.isfinite(match(corner, truth, hit=Hit("box")).lesion).all()
    assert not np.isfinite(match(corner, truth, hit=Hit("radius")).lesion).any()
    assert not np.isfinite(match(corner, truth, hit=Hit("iou", 0.1)).lesion).any()


def test_nothing_found_and_nothing_there() -> None:
    none = Boxes(np.zeros(0, int), np.zeros((0, 4)), score=np.zeros(0))
    some = Boxes(np.arange(12), np.tile([0.0, 0, 4, 4], (12, 1)), score=np.ones(12))
    missed = evaluate_detection(none, some, np.arange(24), resamples=50)
    assert missed.cpm.value == missed.average_precision_coco.value == 0
    assert missed.jafroc.value == 0.5
    clean = evaluate_detection(some, none, np.arange(24), resamples=50)
    assert clean.cpm.value is None
    assert clean.average_precision_voc.value is None
    perfect = evaluate_detection(some, some, np.arange(24), resamples=50)
    assert perfect.cpm.value == perfect.jafroc.value == perfect.average_precision_coco.value == 1
    assert not math.isnan(perfect.cpm.low or math.nan)


def test_what_cannot_be_compared_is_refused() -> None:
    good = Boxes(np.array([0]), np.array([[0.0, 0, 4, 4]]), score=np.array([1.0]))
    with pytest.raises(InputError, match="high edge"):
        Boxes(np.array([0]), np.array([[4.0, 0, 4, 4]]))
    with pytest.raises(InputError, match="finite score"):
        evaluate_detection(Boxes(good.image, good.box), good, np.arange(1))
    with pytest.raises(InputError, match="1 images"):
        evaluate_detection(good, Boxes(np.array([1]), good.box), np.arange(1))
    with pytest.raises(InputError, match="as many edges"):
        evaluate_detection(good, Boxes(np.array([0]), np.array([[0.0, 0, 0, 4, 4, 4]])), np.arange(1))
