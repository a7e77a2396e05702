"""The study file's `features` section: which windows, aggregations, codes and static facts become columns."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from careloop import InputError

Window = float | Literal["all"]
ValueAggregation = Literal["first", "last", "min", "max", "mean", "slope", "count"]
CodeAggregation = Literal["present", "count", "time_since"]


class SelectionSection(BaseModel):
    """Which columns are kept after extraction; decided on training rows only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    correlation_above: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Of two columns whose absolute correlation is above this, keep one; null keeps both.",
    )
    keep_top: int | None = Field(
        default=None, ge=1, description="Keep this many columns by importance; null keeps all."
    )
    by: Literal["gain", "permutation"] = Field(
        default="gain",
        description="Importance: total gain in a LightGBM, or loss of held-apart log loss when permuted.",
    )


class FeaturesSection(BaseModel):
    """Columns to compute for each (subject, prediction time) from facts known by then.

    Codes are written exactly, or as a prefix that ends in `*`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    windows_days: tuple[Window, ...] = Field(
        default=(30.0, 365.0, "all"),
        description="Look back this many days before the prediction time; `all` is the whole record.",
    )
    value: tuple[ValueAggregation, ...] = Field(
        default=("last", "min", "max", "mean", "slope"),
        description="Aggregations of codes with numbers, a window each (slope: least squares, per day).",
    )
    code: tuple[CodeAggregation, ...] = Field(
        default=("present", "count", "time_since"),
        description="Aggregations of codes without numbers (time_since: days since the last, in the longest window).",
    )
    missingness: Literal["present", "none"] = Field(
        default="present",
        description="`present` adds, for codes with numbers, a 0/1 column a window: was there any value?",
    )
    static: tuple[str, ...] | Literal["all"] = Field(
        default="all", description="Facts without a time: numbers as they are, texts one column a category, others 0/1."
    )
    age: Literal["years", "none"] = Field(default="years", description="Age at the prediction time, from MEDS_BIRTH.")
    codes: tuple[str, ...] | Literal["all"] = Field(
        default="all", description="Codes of timed events to use, or `all`."
    )
    exclude_codes: tuple[str, ...] = Field(default=(), description="Codes never to use, timed or static.")
    min_subjects: int = Field(
        default=10, ge=1, description="Leave out codes, categories and columns that fewer training subjects have."
    )
    selection: SelectionSection = Field(default_factory=SelectionSection, description="Keep only some of the columns.")

    @field_validator("windows_days")
    @classmethod
    def _windows_look_back(cls, windows: tuple[Window, ...]) -> tuple[Window, ...]:
        wrong = [w for w in windows if w != "all" and not 0 < w < float("inf")]
        if wrong:
            raise InputError(
                f"features.windows_days: a window looks back a positive number of days, got {wrong[0]:g};"
                " write for example 365, or all"
            )
        if not windows or len(set(windows)) < len(windows):
            raise InputError("features.windows_days: windows must be at least one and differ, e.g. [30, 365, all]")
        return windows

    @field_validator("value", "code")
    @classmethod
    def _aggregations_differ(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise InputError(
                f"features: each aggregation is named once, got {', '.join(names)}; remove the repeated one"
            )
        return names

    @field_validator("codes", "static", "exclude_codes")
    @classmethod
    def _codes_are_patterns(cls, codes: tuple[str, ...] | str) -> tuple[str, ...] | str:
        wrong = [code for code in codes if not code.strip("*") or "*" in code[:-1]]
        if not isinstance(codes, str) and wrong:
            raise InputError(
                f"features: a code is written exactly or as a prefix ending in *, got {wrong[0]!r};"
                " write for example ICD10CM//K74*"
            )
        return codes
