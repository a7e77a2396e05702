"""The facts about an image model on its pages: trained on what, how good on held-out images, meant for what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from careloop.report.page_parts import Row

Json = Mapping[str, Any]
NETWORK = "network"  # beside the baseline in the evaluation of classifiers


@dataclass(frozen=True)
class HeldOutFigures:
    """Held-out figures of one label: estimates {"value", "low", "high", "reason"}; `reason` says why there are none."""

    label: str
    auroc: Json | None = None
    slope: Json | None = None
    reason: str = ""


@dataclass(frozen=True)
class ModelCard:
    """What a page says about a model.

    `trained_on` names the data; `images` and `patients` count those of training, `held_out` says in words what the
    figures are of. `takes` is what images may be (modality, view, body part), empty for anything.
    """

    name: str
    version: str
    intended_use: str = ""
    trained_on: str = ""
    images: int | None = None
    patients: int | None = None
    takes: tuple[str, ...] = ()
    held_out: str = ""
    figures: tuple[HeldOutFigures, ...] = ()
    warning: str = ""

    @property
    def made_by(self) -> str:
        """Name and version, as results carry them."""
        return f"{self.name} {self.version}".strip()


def card_of(document: Json) -> ModelCard:
    """The card of a classification or detection model from its model.json; what it does not say stays empty."""
    training, evaluation = document.get("training") or {}, document.get("evaluation") or {}
    images, subjects = (training.get(name) or {} for name in ("images", "subjects"))
    whose = training.get("split by") != "file"  # else nobody knows how many patients there are
    detection = next((one for one in evaluation.values() if isinstance(one, Mapping) and "froc" in one), None)
    rows, people = (
        (detection["images"], detection["subjects"]) if detection else map(evaluation.get, ("rows", "subjects"))
    )
    takes = [value for name in ("modalities", "views", "body_parts") for value in document.get(name) or ()]
    takes += [document["modality"]] if document.get("modality") else []  # a detector's is one
    return ModelCard(
        name=str(document["name"]),
        version=str(document.get("version", "")),
        intended_use=document.get("intended_use", ""),
        trained_on=str(training.get("data", "")),
        images=images.get("train"),
        patients=subjects.get("train") if whose else None,
        takes=tuple(takes),
        held_out=_counted(rows, people if whose else None),
        figures=tuple(_figures(name, label) for name, label in (evaluation.get("labels") or {}).items()),
        warning=document.get("warning", ""),
    )


def _figures(name: str, label: Json) -> HeldOutFigures:
    if "reason" in label:
        return HeldOutFigures(name, reason=label["reason"])
    network = label[NETWORK]
    return HeldOutFigures(name, network["auroc"], network["slope"])


def _counted(images: int | None, patients: int | None) -> str:
    """Both in words; empty where neither is known."""
    counts = ((images, "images"), (patients, "patients"))
    return " of ".join(f"{count:,} {what}" for count, what in counts if count is not None)


def card_rows(card: ModelCard) -> list[tuple[str, str]]:
    """Names and values of the card, for a table; figures apart."""
    trained = ": ".join(words for words in (card.trained_on, _counted(card.images, card.patients)) if words)
    return [
        ("Model", card.name),
        ("Version", card.version or "not stated"),
        ("Intended use", card.intended_use or "not stated"),
        ("Trained on", trained or "not stated"),
        ("Takes", ", ".join(card.takes) or "any image: the model does not say what images must be"),
        ("Checked on", card.held_out or "not stated"),
    ]


def card_figures(card: ModelCard) -> list[Row]:
    """AUROC and calibration slope of each label on held-out images."""
    return [{"label": f.label, "auroc": f.auroc, "slope": f.slope, "reason": f.reason} for f in card.figures]
