"""Whether an image is like those that a network was made for, so that one that is not can be refused."""

from careloop.imaging.familiar.fit import Familiar, Familiarity, fit_familiar

__all__ = ["Familiar", "Familiarity", "fit_familiar"]
