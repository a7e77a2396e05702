"""The study file's `evaluation` section: threshold, bootstrap, label sets and subgroups."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class SubgroupSection(BaseModel):
    """A feature whose values divide the evaluated rows into subgroups."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    feature: str = Field(description="Feature or static code, as named in features.parquet, for example age_years.")
    cut_points: list[float] = Field(
        default=[],
        description="Increasing borders that make groups of a number, such as [40, 65]; none: one a value.",
    )

    @field_validator("cut_points")
    @classmethod
    def _increasing(cls, cut_points: list[float]) -> list[float]:
        if any(high <= low for low, high in pairwise(cut_points)):
            raise ValueError(f"cut_points must increase: got {cut_points}")
        return cut_points


class EvaluationSection(BaseModel):
    """How the models of a study are evaluated on held-out rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: Annotated[float, Field(gt=0, lt=1)] | Literal["youden"] = Field(
        default="youden",
        description="Probability from which a row is called positive. `youden` takes, for each model, the one with the "
        "greatest recall + specificity - 1 on the tuning rows, whatever the prevalence; a number should say from which "
        "risk one would act.",
    )
    resamples: int = Field(default=1000, ge=100, le=100_000, description="Bootstrap resamples of subjects.")
    seed: int = Field(default=0, ge=0, description="Seed of the bootstrap.")
    conformal_level: float = Field(
        default=0.9,
        ge=0.5,
        lt=1,
        description="Probability with which a row's label set is to hold the truth, among rows with and without the "
        "outcome and in every combination of the subgroups that has enough tuning rows.",
    )
    risk_categories: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        default=[],
        description="Increasing risks that part risk categories, such as [0.05, 0.2], between which a genome's columns "
        "reclassify patients; none: the threshold, or where that is `youden` the training rows' event rate.",
    )
    subgroups: list[SubgroupSection] = Field(default=[], description="Subgroups in which every model is evaluated too.")

    @field_validator("risk_categories")
    @classmethod
    def _increasing(cls, risk_categories: list[float]) -> list[float]:
        if any(high <= low for low, high in pairwise(risk_categories)):
            raise ValueError(f"risk_categories must increase: got {risk_categories}")
        return risk_categories
