"""Lifestyle as options: what a patient can change, by which guidance, and the model's risk with the value changed."""

from __future__ import annotations

from careloop.plan.document.lifestyle.factors import CodeTarget, Factor, FactorList, read_factors, shipped_factors
from careloop.plan.document.lifestyle.options import CAVEAT, EffectEstimate, LifestyleOption, lifestyle_options

__all__ = [
    "CAVEAT",
    "CodeTarget",
    "EffectEstimate",
    "Factor",
    "FactorList",
    "LifestyleOption",
    "lifestyle_options",
    "read_factors",
    "shipped_factors",
]
