"""What training is given: the study file's `models` section, and the rows with their features and outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from careloop import InputError
from careloop.evaluate import Outcomes
from careloop.features import FeatureMatrix, Recipe
from careloop.features.timelines import TimelineRecipe, Timelines
from careloop.models.sequence.kinds import KINDS
from careloop.models.sequence.training.fitting import Start
from careloop.train.calibration import Method
from careloop.train.conformal import DEFAULT_LEVEL
from careloop.train.subgroups import Grouping

DEFAULT_KINDS = ("logistic_regression", "lightgbm", "fully_connected", "cox", "boosted_hazard")
NAMED_KINDS = (*DEFAULT_KINDS, "hazard_network", *KINDS)
REFERENCES = ("logistic_regression", "lightgbm")
METRICS = Literal["log_loss", "brier", "auroc"]


class SearchRange(BaseModel):
    """Values that tuning may try for one parameter: an interval, or a list of choices."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: float | int | None = Field(
        default=None, description="smallest value; with `high`. Two whole numbers search whole numbers"
    )
    high: float | int | None = Field(default=None, description="largest value")
    scale: Literal["linear", "log"] = Field(default="linear", description="log for values that span powers of ten")
    choices: list[Any] | None = Field(default=None, description="the values to choose from, instead of low and high")

    @model_validator(mode="after")
    def _one_form(self) -> SearchRange:
        interval = self.low is not None and self.high is not None
        if interval == (self.choices is not None):
            raise ValueError("give either low and high, or choices")
        if interval and self.low >= self.high:  # type: ignore[operator]
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        if interval and self.scale == "log" and self.low <= 0:  # type: ignore[operator]
            raise ValueError(f"low must be above 0 on a log scale, got {self.low}")
        if self.choices is not None and len(self.choices) < 2:
            raise ValueError("choices needs at least two values")
        return self


class TuningSection(BaseModel):
    """How one model's parameters are chosen, by cross-validation inside the training rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trials: int = Field(
        default=20, ge=1, le=10_000, description="parameter settings tried; the first is the model's default"
    )
    folds: int = Field(default=5, ge=2, le=20, description="folds, by subject, inside the training rows")
    metric: METRICS = Field(
        default="log_loss", description="censoring-weighted figure at the horizon that is optimised"
    )
    space: dict[str, SearchRange] | None = Field(None, description="parameter -> {low, high, scale} or {choices: []}")

    @field_validator("space")
    @classmethod
    def _not_empty(cls, space: dict[str, SearchRange] | None) -> dict[str, SearchRange] | None:
        if space is not None and not space:
            raise ValueError("space names no parameter: leave it out to search the model's own small space")
        return space


class ModelSection(BaseModel):
    """One model of a study."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        default="", description="name in the run folder and in events; if left out, the last part of kind"
    )
    kind: str = Field(
        description=f"one of {', '.join(NAMED_KINDS)}, or the dotted path of any scikit-learn or scikit-survival "
        "estimator, such as sklearn.ensemble.RandomForestClassifier"
    )
    parameters: dict[str, Any] = Field(default_factory=dict, description="passed to the estimator as they are")
    tuning: TuningSection | None = Field(default=None, description="left out: the parameters are used untuned")
    calibration: Method = Field(
        default="logistic",
        description="how risks are mended on the tuning rows: logistic (intercept and slope, only where needed), "
        "temperature (slope alone), isotonic or venn_abers (any rising map, for many tuning rows), or none",
    )

    start: Literal["scratch", "pretrained"] = Field(
        default="scratch",
        description="transformer: from random weights, or from the study's pretraining, whose size it then has",
    )
    beside: Literal["none", "static", "all"] = Field(
        default="none",
        description="gru, temporal_cnn, transformer: which feature columns the head sees beside the event sequence: "
        "none, age and static facts, or all (images' and genomes' among them)",
    )

    @model_validator(mode="after")
    def _of_sequences(self) -> ModelSection:
        if self.kind not in KINDS and (self.start, self.beside) != ("scratch", "none"):
            raise ValueError(f"start and beside are for models of event sequences ({', '.join(KINDS)})")
        if self.start == "pretrained" and self.kind != "transformer":
            raise ValueError(f"start: pretrained is for transformer, got {self.kind}")
        return self

    @field_validator("kind")
    @classmethod
    def _known_kind(cls, kind: str) -> str:
        if kind not in NAMED_KINDS and "." not in kind:
            raise ValueError(f"{kind!r} is neither one of {', '.join(NAMED_KINDS)} nor a dotted path")
        return kind

    @model_validator(mode="before")
    @classmethod
    def _name_from_kind(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("name") and isinstance(values.get("kind"), str):
            return {**values, "name": values["kind"].rsplit(".", 1)[-1]}
        return values

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not name or not all(c.isalnum() or c in "_-." for c in name) or name.startswith("."):
            raise ValueError(f"a model's name is a folder name of letters, digits, _, - and ., got {name!r}")
        return name


def default_models() -> list[ModelSection]:
    """The five models a study trains when it names none."""
    return [ModelSection(kind=kind) for kind in DEFAULT_KINDS]


def with_references(sections: list[ModelSection]) -> tuple[list[ModelSection], list[str]]:
    """The study's models with logistic regression and LightGBM beside any network, and a note for each one added.

    A network here is whatever is not linear, Cox or boosted trees, any dotted path among it: what an estimator can do
    shows only beside a simple one.
    """
    present = {section.kind for section in sections}
    if present <= {"logistic_regression", "lightgbm", "cox", "boosted_hazard"}:
        return list(sections), []
    taken = {section.name for section in sections}
    added = [
        ModelSection(kind=kind, name=f"{kind}_reference" if kind in taken else kind)
        for kind in REFERENCES
        if kind not in present
    ]
    notes = [f"{section.kind} was added: it always stands beside a network on the same rows" for section in added]
    return [*added, *sections], notes


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Cohort rows with their features, row by row in the same order; all models of a study are trained on the same.

    `rows` are the cohort's (subject_id, prediction_time, split, follow_up_days, event, ...); `outcome` says in words
    what is predicted, for the model card; `threshold` and `conformal_level` are the evaluation section's, and
    `groups` its subgroups with each row's group (n,). For models of event sequences the matrix has timelines, made by
    the recipe `timelines`; `start` is a network pre-trained on such.
    """

    rows: pl.DataFrame
    matrix: FeatureMatrix
    recipe: Recipe
    horizon_days: float
    record_version: int
    outcome: str = "the study's outcome"
    threshold: float | Literal["youden"] = "youden"
    conformal_level: float = DEFAULT_LEVEL
    groups: Mapping[Grouping, np.ndarray] = field(default_factory=dict)
    timelines: TimelineRecipe | None = None
    start: Start | None = None

    def __post_init__(self) -> None:
        keys = ["subject_id", "prediction_time"]
        absent = [c for c in [*keys, "split", "follow_up_days", "event"] if c not in self.rows.columns]
        if absent:
            raise InputError(f"training rows lack column {absent[0]!r}: pass the rows of select_cohort")
        if not self.rows.select(keys).equals(self.matrix.keys.select(keys)):
            raise InputError("features and cohort rows must be the same rows in one order: extract with the rows' keys")
        if tuple(self.matrix.names) != self.recipe.names:
            raise InputError("features and recipe must name the same columns: pass recipe.keep(matrix.names)")

    def part(self, split: Literal["train", "tuning", "held_out"]) -> LabelledRows:
        """The rows of one split; InputError if there are none."""
        chosen = self.is_in(split)
        if not chosen.any():
            raise InputError(f"the cohort has no {split} rows: change cohort.split")
        rows = self.rows.filter(pl.Series(chosen))
        outcomes = Outcomes(
            rows["subject_id"].to_numpy(),
            rows["follow_up_days"].to_numpy(),
            rows["event"].to_numpy(),
            self.horizon_days,
        )
        matrix = self.matrix.filter(chosen)
        return LabelledRows(matrix.values, outcomes, matrix.timelines)

    def is_in(self, split: Literal["train", "tuning", "held_out"]) -> np.ndarray:
        """Which rows belong to the split, (n,) bool."""
        return (self.rows["split"] == split).to_numpy()


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Feature values (n, p), dense or CSR, what happened to each row, and its timeline where models read them."""

    values: Any
    outcomes: Outcomes
    timelines: Timelines | None = None

    def take(self, rows: np.ndarray) -> LabelledRows:
        """Chosen rows (mask or positions)."""
        positions = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        timelines = None if self.timelines is None else self.timelines.take(positions)
        return LabelledRows(self.values[positions], self.outcomes.take(positions), timelines)
