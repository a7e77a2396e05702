"""Folders of trained models, each format read into one description of a model."""
