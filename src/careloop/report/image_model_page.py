"""The page of a trained image model: how good it is on held-out images, for each label and group, beside the baseline.

One self-contained HTML file without scripts, made from the evaluation that a training wrote: that of a classifier
(`careloop.imaging.classify.evaluate`), of one outcome (`careloop.evaluate.assess`), or of a detector, by label
(`careloop.evaluate.detection`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import careloop
from careloop import InputError
from careloop.report import charts
from careloop.report.image_charts import froc
from careloop.report.image_montage import NOT_CLINICAL
from careloop.report.model_card import ModelCard, card_rows
from careloop.report.page_parts import Row, template
from careloop.report.report import DECISION_FIGURES, signed, with_interval

Json = Mapping[str, Any]
MOST_OPEN = 2  # labels whose charts are unfolded from the start
FIGURES = (
    ("AUROC", ("figures", "auroc")),
    ("AUPRC", ("figures", "auprc")),
    ("Brier score", ("figures", "brier")),
    ("Calibration intercept", ("calibration", "intercept")),
    ("Calibration slope", ("calibration", "slope")),
    ("Observed : expected", ("calibration", "observed_expected")),
)
SUBGROUP_FIGURES = (
    ("AUROC", "auroc"), ("Recall", "recall"), ("Specificity", "specificity"), ("Precision", "precision"),
    ("Calibration slope", "slope"), ("Observed : expected", "observed_expected"),
)  # fmt: skip
SET_FIGURES = (
    ("Set holds the truth", "coverage"), ("Labels in a set", "mean_size"), ("One label", "single"),
    ("Several", "several"), ("None", "empty"),
)  # fmt: skip
COMPARED = (("AUROC", "auroc"), ("AUPRC", "auprc"), ("Brier score", "brier"), ("Net benefit", "net_benefit"))
DETECTED = (
    ("Mean sensitivity of the FROC curve (CPM)", "cpm"), ("JAFROC", "jafroc"), ("JAFROC1", "jafroc1"),
    ("AUROC of images by their surest finding", "image_auroc"),
    ("Average precision, COCO's 101 points", "average_precision_coco"),
    ("Average precision, VOC's area", "average_precision_voc"),
)  # fmt: skip
HITS = {
    "radius": "the finding's centre is closer to the lesion's than the lesion's radius",
    "box": "the finding's centre lies in the lesion's box",
    "iou": "finding and lesion overlap enough (intersection over union)",
}


@dataclass(frozen=True, eq=False)
class ImageModelFacts:
    """What the page is made of: the model's card, and its evaluation as JSON.

    `subject` is what the rows are of, in the plural (`patients`, `files`).
    """

    card: ModelCard
    evaluation: Json
    simulated: bool = False
    subject: str = "patients"


def write_image_model_page(facts: ImageModelFacts, path: Path) -> None:
    """Write `image_model_page` as HTML in UTF-8 to `path`; matplotlib loads here, on first use."""
    path.write_text(image_model_page(facts), encoding="utf-8")


def image_model_page(facts: ImageModelFacts) -> str:
    """The page as HTML text; InputError where the evaluation has none of the layouts."""
    evaluation = facts.evaluation
    labels, detections = _labels(evaluation), _detections(evaluation)
    if not labels and not detections:
        raise InputError(
            "an evaluation of an image model must have figures of labels or of findings: got neither; give the "
            "evaluation that the training wrote"
        )
    known = {name: label for name, label in labels.items() if "models" in label}
    with charts.style():
        drawn = [_label(name, label) for name, label in known.items()]
        froc_chart = froc(detections) if detections else ""
    return template("image_model_page.html.j2").render(
        not_clinical=NOT_CLINICAL,
        simulated=facts.simulated,
        software=f"careloop {careloop.__version__}",
        made_by=facts.card.made_by,
        subject=facts.subject,
        rows=evaluation.get("rows"),
        subjects=evaluation.get("subjects"),
        bootstrap=evaluation.get("bootstrap"),
        overview=[_overview(name, label) for name, label in known.items()],
        models=list(next(iter(known.values()))["models"]) if known else [],
        unknown={name: label["reason"] for name, label in labels.items() if "models" not in label},
        accuracy=evaluation.get("accuracy"),
        averages=_averages(evaluation.get("together")),
        sets=_sets(evaluation.get("label_sets")),
        refused=evaluation.get("refused"),
        labels=drawn,
        open=len(drawn) <= MOST_OPEN,
        detections=[_detection(name, found) for name, found in detections.items()],
        froc=froc_chart,
        how=evaluation.get("how", ""),
        card=card_rows(facts.card),
        warning=facts.card.warning,
        number=with_interval,
        signed=signed,
    )


def _labels(evaluation: Json) -> dict[str, Json]:
    """Evaluations by label; that of one outcome has its name from nowhere."""
    if "models" in evaluation:
        return {"the outcome": evaluation}
    return dict(evaluation.get("labels") or {})


def _detections(evaluation: Json) -> dict[str, Json]:
    """Evaluations of findings by label."""
    if "froc" in evaluation:
        return {"findings": evaluation}
    return {name: value for name, value in evaluation.items() if isinstance(value, Mapping) and "froc" in value}


def _overview(name: str, label: Json) -> Row:
    """AUROC of every model, the difference of the first two, and the first one's calibration slope."""
    models = label["models"]
    first = next(iter(models.values()))
    support = label["outcome"]["rows"]
    return {
        "name": name,
        "n": support["n"],
        "with": support["events"],
        "auroc": [model["figures"]["auroc"] for model in models.values()],
        "difference": label["comparisons"][0]["differences"]["auroc"] if label["comparisons"] else None,
        "slope": first["calibration"]["slope"],
    }


def _label(name: str, label: Json) -> Row:
    """Tables and charts of one label."""
    models = label["models"]
    primary = next(iter(models))
    rows = label["outcome"]["rows"]
    return {
        "name": name,
        "rows": rows,
        "models": list(models),
        "figures": _by_model(models, FIGURES),
        "thresholds": [model["threshold"] for model in models.values()],
        "decision": [
            (figure.replace("_", " ").capitalize(), [model["decision"][figure] for model in models.values()])
            for figure in DECISION_FIGURES
        ],
        "comparisons": [_comparison(pair) for pair in label["comparisons"]],
        "roc": charts.roc(models),
        "precision_recall": charts.precision_recall(models, label["outcome"]["prevalence"]["value"]),
        "calibration": [
            charts.calibration(model, which, predicted="probability", counted="images")
            for which, model in models.items()
        ],
        "decision_curve": charts.decision_curve(models) if _has_benefit(models) else "",
        "conformal": models[primary]["conformal"],
        "primary": primary,
        "subgroup_chart": _subgroup_chart(models[primary]),
        "subgroup_titles": [title for title, _ in SUBGROUP_FIGURES],
        "subgroups": [_subgroup(one) for one in models[primary]["subgroups"]],
        "fairness": (models[primary].get("fairness") or {}).get("words", []),
    }


def _by_model(models: Json, figures: Sequence[tuple[str, tuple[str, str]]]) -> list[tuple[str, list[Json]]]:
    return [(title, [model[part][name] for model in models.values()]) for title, (part, name) in figures]


def _comparison(pair: Json) -> Row:
    return {
        "pair": f"{pair['first']} − {pair['second']}",
        "differences": [(title, pair["differences"].get(name)) for title, name in COMPARED],
    }


def _has_benefit(models: Json) -> bool:
    """Whether following any model is of use at some threshold; a chart of none would be empty."""
    return any((value or 0) > 0 for model in models.values() for value in model["net_benefit"]["model"]["value"])


def _subgroup_chart(model: Json) -> str:
    named = [
        (f"{s['variable']} {s['group']} (n = {s['rows']['n']})", s["figures"]["auroc"]) for s in model["subgroups"]
    ]
    overall = model["figures"]["auroc"]["value"]
    return charts.forest(named, title="AUROC by subgroup", unit="AUROC", reference=overall) if named else ""


def _subgroup(one: Json) -> Row:
    return {
        "name": f"{one['variable']} {one['group']}",
        "n": one["rows"]["n"],
        "with": one["rows"]["events"],
        "figures": [one["figures"].get(name) for _, name in SUBGROUP_FIGURES],
    }


def _averages(together: Json | None) -> list[Row]:
    """Averages of AUROC, AUPRC and Brier score over labels, a row a kind of average and model."""
    if not together:
        return []
    return [
        {"kind": kind, "model": name, "figures": [model["averages"][kind].get(f) for f in ("auroc", "auprc", "brier")]}
        for name, model in together["models"].items()
        for kind in ("macro", "weighted", "micro")
    ]


def _sets(label_sets: Json | None) -> Row | None:
    """How often label sets hold the truth; None for a model without them."""
    if not label_sets:
        return None
    return {
        "level": f"{100 * label_sets['level']:.0f} %",
        "figures": [(title, label_sets["figures"][name]) for title, name in SET_FIGURES],
        "of": list(label_sets["coverage_of"].items()),
    }


def _detection(name: str, found: Json) -> Row:
    hit = found["hit"]
    return {
        "name": name,
        "counts": f"{found['lesions']:,} lesions in {found['images_with_lesions']:,} of {found['images']:,} images of "
        f"{found['subjects']:,} subjects; {found['findings']:,} findings",
        "hit": HITS[hit["rule"]] + (f", at least {hit['iou']:g}" if hit["rule"] == "iou" else ""),
        "iou": f"{found['iou']:g}",
        "figures": [(title, found[figure]) for title, figure in DETECTED],
        "froc": [
            (f"{rate:g}", {"value": value, "low": low, "high": high, "reason": "not estimable"})
            for rate, value, low, high in zip(*(found["froc"][p] for p in ("x", "value", "low", "high")), strict=True)
        ],
    }
