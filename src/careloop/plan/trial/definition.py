"""The study file's `trial` section: the strategies that a target trial would have compared, and how it is emulated.

Eligibility, time zero, outcome and horizon are the cohort's; strategies, grace period and estimation stand here (the
protocol of Hernan & Robins 2016, Am J Epidemiol 183:758, table 1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from careloop import InputError
from careloop.cohort import CohortSection
from careloop.cohort.definition import Codes
from careloop.features import FeaturesSection

STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
GRID_TOLERANCE = 1e-9  # a grace period of 0.3 days is three intervals of 0.1 days, but not in binary
MOST_INTERVALS = 400


class Strategy(BaseModel):
    """What a patient assigned to this arm would do from time zero on; a patient who does otherwise departs from it."""

    model_config = STRICT

    start: Codes | None = Field(
        default=None, description="Code or codes of the treatment to start; a prefix ends in *."
    )
    within_days: float = Field(
        default=0,
        ge=0,
        description="Grace period: days from time zero within which the treatment is started (0: at time zero itself).",
    )
    never: Codes | None = Field(default=None, description="Code or codes of treatments never to start.")
    not_stopping: Codes | None = Field(
        default=None,
        description="Code or codes that record the end of the started treatment: the strategy is to stay on it.",
    )

    @model_validator(mode="after")
    def _complete(self) -> Strategy:
        if self.start is None and self.never is None:
            raise ValueError("a strategy says which treatment to start or never to start; give start, never or both")
        for name, given in (("within_days", self.within_days > 0), ("not_stopping", self.not_stopping)):
            if given and self.start is None:
                raise ValueError(f"{name} belongs to a treatment that is started; give start, or remove {name}")
        both = sorted(set(self.start or ()) & set(self.never or ()))
        if both:
            raise ValueError(f"{both[0]} cannot be started and never started; keep it in start or in never")
        return self

    @property
    def codes(self) -> tuple[str, ...]:
        """All codes that the strategy names."""
        return (*(self.start or ()), *(self.never or ()), *(self.not_stopping or ()))

    @property
    def words(self) -> str:
        """The strategy as a protocol would state it."""
        parts = []
        if self.start:
            when = f"within {self.within_days:g} days" if self.within_days else "at time zero"
            parts.append(f"start {' or '.join(self.start)} {when}")
        if self.not_stopping:
            parts.append("stay on it")
        if self.never:
            parts.append(f"never start {' or '.join(self.never)}")
        return ", ".join(parts)


class TrialSection(BaseModel):
    """The target trial: arms as strategies, and the grid of days on which departures and hazards are modelled."""

    model_config = STRICT

    strategies: dict[str, Strategy] = Field(
        min_length=2,
        description="Name of each arm and its strategy: {start: CODES, within_days: GRACE}, {never: CODES}, or both.",
    )
    reference: str | None = Field(
        default=None, description="Strategy that the others are compared with; default: first."
    )
    interval_days: float = Field(
        default=30,
        gt=0,
        description="Confounders are looked up, and hazards are constant, in intervals of so many days from time zero; "
        "grace periods are whole multiples.",
    )
    features: FeaturesSection | None = Field(
        default=None, description="Confounders as of each interval's start; default: the study's features."
    )
    previous: Literal["exclude", "keep"] = Field(
        default="exclude",
        description="Patients who had a treatment that some strategy starts or forbids before time zero: `exclude` "
        "(new users), or `keep`.",
    )
    weight_quantile: float = Field(
        default=1,
        gt=0.5,
        le=1,
        description="Weights above this quantile of a strategy's weights are set to it (1: none).",
    )
    minimum_effective_sample: float = Field(
        default=50, gt=0, description="Effective sample size under which a strategy has no estimate."
    )
    resamples: int = Field(default=500, ge=50, description="Bootstrap resamples of subjects.")
    seed: int = Field(default=0, ge=0, description="Seed of the resamples.")

    @model_validator(mode="after")
    def _consistent(self) -> TrialSection:
        names = list(self.strategies)
        if self.reference is not None and self.reference not in names:
            raise ValueError(f"reference must be one of the strategies {', '.join(names)}, got {self.reference}")
        for name, strategy in self.strategies.items():
            steps = strategy.within_days / self.interval_days
            if abs(steps - round(steps)) > GRID_TOLERANCE * max(1.0, steps):
                raise ValueError(
                    f"strategies.{name}.within_days must be a whole multiple of interval_days "
                    f"{self.interval_days:g}, got {strategy.within_days:g}"
                )
        for i, name in enumerate(names):
            for other in names[:i]:
                if self.strategies[name] == self.strategies[other]:
                    raise ValueError(f"strategies {other} and {name} are the same; change or drop one")
        return self

    @property
    def reference_name(self) -> str:
        """The strategy that the others are compared with."""
        return self.reference or next(iter(self.strategies))

    @property
    def codes(self) -> tuple[str, ...]:
        """All codes of all strategies, each once; they are never confounders."""
        return tuple(dict.fromkeys(code for strategy in self.strategies.values() for code in strategy.codes))

    @property
    def treatments(self) -> tuple[tuple[str, ...], ...]:
        """The treatments (as sets of codes) that some strategy starts or forbids, each once."""
        named = (codes for s in self.strategies.values() for codes in (s.start, s.never) if codes)
        return tuple(dict.fromkeys(named))

    def named_codes(self) -> Iterator[tuple[str, str]]:
        """Every code the section names, as (field, code), in the order of the study file."""
        for name, strategy in self.strategies.items():
            for field in ("start", "never", "not_stopping"):
                yield from ((f"strategies.{name}.{field}", code) for code in getattr(strategy, field) or ())


def check_trial(section: TrialSection, cohort: CohortSection) -> None:
    """Check the section against the cohort, whose index and eligibility are the trial's time zero and eligibility.

    Raises:
        InputError: the cohort chooses patients by what they are given later, or time zero is known in hindsight only;
            a grace period that reaches beyond the horizon; too many intervals.
    """
    horizon = cohort.outcome.horizon_days
    if cohort.treatment is not None:
        raise InputError(
            "trial compares strategies over time, so its cohort must not be chosen by later treatment; got "
            "cohort.treatment; remove it and name its codes in trial.strategies"
        )
    if cohort.index.which == "last":
        raise InputError(
            "trial needs a time zero that is known when it comes; got cohort.index.which: last; use first or every"
        )
    for name, strategy in section.strategies.items():
        if strategy.within_days > horizon:
            raise InputError(
                f"trial.strategies.{name}.within_days must lie within the horizon of {horizon:g} days, got "
                f"{strategy.within_days:g}; shorten the grace period"
            )
    if math.ceil(horizon / section.interval_days) > MOST_INTERVALS:
        raise InputError(
            f"trial.interval_days must divide the horizon of {horizon:g} days into at most {MOST_INTERVALS} "
            f"intervals, got {section.interval_days:g}; lengthen it"
        )
