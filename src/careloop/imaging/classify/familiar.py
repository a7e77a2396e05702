"""The check for images unlike those of training, under the name that classification knows it by."""

from careloop.imaging.familiar import Familiar, Familiarity, fit_familiar

__all__ = ["Familiar", "Familiarity", "fit_familiar"]
