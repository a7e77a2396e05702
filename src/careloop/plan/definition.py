"""The study file's `plan` section: what is compared, by which goals, and how treatment came to be given."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator

from careloop.cohort.definition import Codes
from careloop.plan.safety.definition import SafetySection


class EventGoal(BaseModel):
    """Fewer outcome events by the study's horizon."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    event: Literal["outcome"] = Field(description="the study's outcome; a lower risk by the horizon is better")

    @property
    def name(self) -> str:
        """The name under which results are reported."""
        return self.event

    @property
    def better(self) -> Literal["lower", "higher"]:
        """A lower risk is better."""
        return "lower"


class RmstGoal(BaseModel):
    """More days without any event until the study's horizon (restricted mean survival time)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    days_without: Literal["outcome"] = Field(description="days until the horizon free of the outcome; more are better")

    @property
    def name(self) -> str:
        """The name under which results are reported."""
        return f"days without {self.days_without}"

    @property
    def better(self) -> Literal["lower", "higher"]:
        """More days are better."""
        return "higher"


class MeasureGoal(BaseModel):
    """A numeric measure of the cohort, such as CD4 after 20 weeks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    measure: str = Field(min_length=1, description="name of one of the cohort's measures")
    better: Literal["lower", "higher"] = Field(description="whether a lower or a higher value is better")

    @property
    def name(self) -> str:
        """The name under which results are reported."""
        return self.measure


def _goal_kind(value: Any) -> str:
    """Tell the kinds of goal apart, so that an error speaks about one of them only."""
    if isinstance(value, dict):
        return next((kind for field, kind in GOAL_KINDS.items() if field in value), "measure")
    return "event" if isinstance(value, EventGoal) else "rmst" if isinstance(value, RmstGoal) else "measure"


GOAL_KINDS = {"event": "event", "days_without": "rmst"}
Goal = Annotated[
    Annotated[EventGoal, Tag("event")] | Annotated[RmstGoal, Tag("rmst")] | Annotated[MeasureGoal, Tag("measure")],
    Discriminator(_goal_kind),
]


class PlanSection(BaseModel):
    """Options are the study's treatment arms; the first goal decides, the others are reported beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reference: str | None = Field(None, description="arm that the others are compared with; default: the first arm")
    assignment: Literal["randomised", "observed"] = Field(
        "observed",
        description="randomised: each arm's probability is the same for everybody; "
        "observed: it depends on the patient and is estimated from the features",
    )
    goals: tuple[Goal, ...] = Field(
        (EventGoal(event="outcome"),),
        description="`{event: outcome}`, `{days_without: outcome}` or `{measure: NAME, better: higher|lower}`; "
        "the first decides",
    )
    folds: int = Field(5, ge=2, le=20, description="folds of the cross-fitting, by subject")
    seed: int = Field(0, ge=0, description="seed of the folds")
    minimum_per_arm: int = Field(20, ge=10, description="fewest training and tuning patients an arm may have")
    minimum_effective_sample: float = Field(
        50.0, gt=0, description="effective sample size under which an option's effect is not used for plans"
    )
    negative_controls: dict[str, Codes] = Field(
        default_factory=dict,
        description="outcomes that no option can change but that share the reasons for choosing one, each with its "
        "codes, such as {injury: ICD10CM//S*}; an effect found on one speaks of confounding that is left",
    )
    safety: SafetySection | None = Field(
        None, description="the options' drugs, for checks of allergies, interactions, organ function, pregnancy, genes"
    )

    @field_validator("goals")
    @classmethod
    def _some_goal(cls, goals: tuple[Goal, ...]) -> tuple[Goal, ...]:
        # Not min_length: pydantic counts only valid items, and would add a second error to a misspelt goal.
        if not goals:
            raise ValueError("a plan needs at least one goal, such as {event: outcome}")
        return goals
