"""Classification: a network from labelled images, and labels with calibrated doubt for new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from careloop.imaging.classify.apply import classify
    from careloop.imaging.classify.model import read_classifier
    from careloop.imaging.classify.train import train_classifier

__all__ = ["classify", "read_classifier", "train_classifier"]

_HOMES = {"classify": "apply", "read_classifier": "model", "train_classifier": "train"}


def __getattr__(name: str) -> Any:
    """The verbs, from the files that import what is heavy, when they are first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
