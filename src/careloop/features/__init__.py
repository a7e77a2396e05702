"""Features of each (subject, prediction time): windows of facts, static facts and age, as of then."""

from __future__ import annotations

from careloop.features.definition import FeaturesSection, SelectionSection
from careloop.features.extract import extract
from careloop.features.fit import fit_features, fit_recipe
from careloop.features.matrix import FeatureMatrix
from careloop.features.recipe import Column, Recipe
from careloop.features.selection import select_columns

__all__ = [
    "Column",
    "FeatureMatrix",
    "FeaturesSection",
    "Recipe",
    "SelectionSection",
    "extract",
    "fit_features",
    "fit_recipe",
    "select_columns",
]
