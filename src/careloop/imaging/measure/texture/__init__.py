"""Texture by the IBSI: a structure resampled and discretised, six matrices counted in it, and their features."""
