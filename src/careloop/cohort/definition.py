"""The study file's cohort section: who enters and when, what is predicted, treatment arms and splits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

FRACTION_TOLERANCE = 1e-9  # 0.6 + 0.2 + 0.2 is not exactly 1 in binary

STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | int | float) else value


def _not_every_code(code: str) -> str:
    if code == "*":
        raise ValueError("* alone would mean every code; name the codes, or a longer prefix such as ICD10CM//K74*")
    return code


Code = Annotated[str, Field(min_length=1), AfterValidator(_not_every_code)]
AnyCodes = Annotated[tuple[Code, ...], BeforeValidator(_as_list)]
Codes = Annotated[AnyCodes, Field(min_length=1)]
CODES_ALIAS = AliasChoices("codes", "code")


class IndexEvent(BaseModel):
    """The event that lets a subject enter; the prediction time is the time at which it became known."""

    model_config = STRICT

    codes: Codes = Field(
        validation_alias=CODES_ALIAS, description="Code or codes of the index event; a prefix ends in *."
    )
    which: Literal["first", "last", "every"] = Field(
        default="first",
        description="Which index event of a subject counts, before eligibility is looked at; `last` is only known in "
        "hindsight, so use it for description, not for prediction.",
    )
    every_days: float | None = Field(
        default=None,
        gt=0,
        description="With `every`: at most one prediction time in each stretch of this many days, counted from the "
        "subject's first index event.",
    )

    @model_validator(mode="after")
    def _every_days_belongs_to_every(self) -> IndexEvent:
        if self.every_days is not None and self.which != "every":
            raise ValueError(f"every_days goes with which: every, not with which: {self.which}; remove one of them")
        return self


class AgeRange(BaseModel):
    """Age in completed years at the prediction time, both ends included (`max: 80` ends the day before 81)."""

    model_config = STRICT

    min: int | None = Field(default=None, ge=0, le=150, description="Youngest age that enters, in completed years.")
    max: int | None = Field(default=None, ge=0, le=150, description="Oldest age that enters, in completed years.")

    @model_validator(mode="after")
    def _range(self) -> AgeRange:
        _check_range(self.min, self.max)
        return self


class ValueRange(BaseModel):
    """Numeric values that count, both ends included; an event without a numeric value does not count."""

    model_config = STRICT

    min: float | None = Field(default=None, description="Smallest value that counts.")
    max: float | None = Field(default=None, description="Largest value that counts.")

    @model_validator(mode="after")
    def _range(self) -> ValueRange:
        _check_range(self.min, self.max)
        return self


PastDays = Annotated[float, Field(le=0)]


class Criterion(BaseModel):
    """Facts, known by the prediction time, that a subject must have (`require`) or must not have (`exclude`)."""

    model_config = STRICT

    codes: Codes = Field(validation_alias=CODES_ALIAS, description="Code or codes looked for; a prefix ends in *.")
    window_days: tuple[PastDays, PastDays] | None = Field(
        default=None,
        description="[from, to] in days relative to the prediction time, at most 0, ends included; without it all "
        "facts known by then count, also facts without a time.",
    )
    at_least: int = Field(default=1, ge=1, description="Number of matching events that meets the criterion.")
    value: ValueRange | None = Field(default=None, description="Only events with a numeric value in this range count.")
    name: str | None = Field(
        default=None, min_length=1, description="What the cohort flow calls the criterion, in plain words."
    )

    @model_validator(mode="after")
    def _window(self) -> Criterion:
        _check_window(self.window_days)
        return self


class Eligibility(BaseModel):
    """Rules on the subject at the prediction time; each has its own step in the cohort flow."""

    model_config = STRICT

    age_years: AgeRange | None = Field(
        default=None,
        description="Age at the prediction time, from MEDS_BIRTH; where the record gives the age as a value instead, "
        "use `require` with its code and `value`.",
    )
    history_days: float = Field(
        default=0,
        ge=0,
        description="Least number of days between the subject's first known event (birth and facts without a time "
        "aside) and the prediction time.",
    )
    require: tuple[Criterion, ...] = Field(default=(), description="Criteria that must all be met.")
    exclude: tuple[Criterion, ...] = Field(default=(), description="Criteria of which none may be met.")


class Outcome(BaseModel):
    """What is predicted: the first outcome event after the prediction time, within the horizon."""

    model_config = STRICT

    codes: Codes = Field(validation_alias=CODES_ALIAS, description="Code or codes of the outcome; a prefix ends in *.")
    horizon_days: float = Field(gt=0, description="Days after the prediction time within which the outcome counts.")
    competing: AnyCodes = Field(
        default=(), description="Events after which the outcome can no longer happen, such as MEDS_DEATH."
    )
    censoring: AnyCodes = Field(
        default=(),
        description="Events that end follow-up. The subject's last event in the record always ends it (CARELOOP// "
        "events never count), and so does MEDS_DEATH unless it is the outcome or competing.",
    )
    previous: Literal["exclude", "keep"] = Field(
        default="exclude",
        description="A subject who already had the outcome, known or dated at or before the prediction time: "
        "`exclude` (a new outcome is predicted), or `keep` (an outcome that can happen again).",
    )

    @model_validator(mode="after")
    def _codes_have_one_role(self) -> Outcome:
        roles = {"codes": self.codes, "competing": self.competing, "censoring": self.censoring}
        _check_disjoint(roles)
        return self


class Measure(BaseModel):
    """A numeric value measured after the prediction time, such as CD4 at 20 weeks."""

    model_config = STRICT

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="The column will be called measure_NAME.")
    code: Code = Field(description="Code of the measurement; a prefix ends in *.")
    at_days: float = Field(gt=0, description="Days after the prediction time at which it is wanted.")
    within_days: float = Field(ge=0, description="The nearest value at most this many days away from at_days is taken.")
    change_from_baseline_code: Code | None = Field(
        default=None,
        description="If given, the last value of this code known at the prediction time is subtracted.",
    )


class Treatment(BaseModel):
    """Treatment arms that the study compares; a subject belongs to the arm whose code lies in the window."""

    model_config = STRICT

    arms: dict[str, Codes] = Field(min_length=2, description="Name of each arm and its code or codes.")
    window_days: tuple[float, float] = Field(
        default=(0, 0),
        description="[from, to] in days relative to the prediction time, ends included. Keep it short: those who have "
        "the outcome before their treatment starts are lost from the arm (immortal time).",
    )
    minimum_per_arm: int = Field(default=20, ge=1, description="Fewest subjects an arm may have.")

    @property
    def codes(self) -> tuple[str, ...]:
        """All codes of all arms."""
        return tuple(code for codes in self.arms.values() for code in codes)

    @model_validator(mode="after")
    def _window_and_arms(self) -> Treatment:
        _check_window(self.window_days)
        _check_disjoint(self.arms)
        return self


class Split(BaseModel):
    """How subjects are divided; a subject is in one split, that of the first prediction time."""

    model_config = STRICT

    by: Literal["subject", "site", "calendar"] = Field(
        default="subject",
        description="`subject`: a seeded hash of subject_id; `site`: whole sites are held out; `calendar`: later "
        "prediction times are held out.",
    )
    train: float = Field(default=0.6, gt=0, lt=1, description="Fraction of subjects for training.")
    tuning: float = Field(default=0.2, ge=0, lt=1, description="Fraction of subjects for tuning and early stopping.")
    held_out: float = Field(default=0.2, gt=0, lt=1, description="Fraction of subjects for evaluation.")
    seed: int = Field(default=0, ge=0, lt=2**63, description="Another seed gives another division.")
    site_code: Code | None = Field(
        default=None,
        description="With `site`: the code whose text value names the site, or a prefix ending in * whose remainder "
        "does (SITE//* for SITE//Leeds); the latest known at the prediction time counts.",
    )
    held_out_sites: tuple[str, ...] = Field(
        default=(), description="With `site`: sites held out; the others are divided as train : tuning by subject."
    )
    boundaries: tuple[date, date] | None = Field(
        default=None,
        description="With `calendar`: train before the first date, tuning before the second, held out from it on.",
    )

    @model_validator(mode="after")
    def _complete(self) -> Split:
        total = self.train + self.tuning + self.held_out
        if abs(total - 1) > FRACTION_TOLERANCE:
            shown = f"{self.train} + {self.tuning} + {self.held_out} = {round(total, 6)}"
            raise ValueError(f"train + tuning + held_out must sum to 1, got {shown}")
        for field, by in (("site_code", "site"), ("held_out_sites", "site"), ("boundaries", "calendar")):
            if bool(getattr(self, field)) != (self.by == by):
                verb = "needs" if self.by == by else "does not use"
                raise ValueError(f"by: {self.by} {verb} {field}")
        if self.boundaries and self.boundaries[0] >= self.boundaries[1]:
            raise ValueError("boundaries must be two dates, the earlier one first")
        return self


class CohortSection(BaseModel):
    """Who enters the study and when, what is predicted for them, and how they are divided."""

    model_config = STRICT

    index: IndexEvent = Field(description="The event at which a prediction is made.")
    eligibility: Eligibility = Field(default=Eligibility(), description="Rules on the subject at the prediction time.")
    outcome: Outcome = Field(description="What is predicted, and when follow-up ends.")
    measures: tuple[Measure, ...] = Field(default=(), description="Numeric values measured after the prediction time.")
    treatment: Treatment | None = Field(default=None, description="Treatment arms, if the study compares treatments.")
    split: Split = Field(default=Split(), description="How subjects are divided into train, tuning and held_out.")

    @model_validator(mode="after")
    def _measure_names_differ(self) -> CohortSection:
        names = [measure.name for measure in self.measures]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"two measures are called {repeated[0]}; give each its own name")
        return self

    def named_codes(self) -> Iterator[tuple[str, str]]:
        """Every code the section names, as (field, code), in the order of the study file."""
        outcome, rules = self.outcome, self.eligibility
        fields: list[tuple[str, Sequence[str]]] = [("index.codes", self.index.codes)]
        fields += [(f"eligibility.require[{i}].codes", rule.codes) for i, rule in enumerate(rules.require)]
        fields += [(f"eligibility.exclude[{i}].codes", rule.codes) for i, rule in enumerate(rules.exclude)]
        fields += [("outcome.codes", outcome.codes), ("outcome.competing", outcome.competing)]
        fields += [("outcome.censoring", outcome.censoring)]
        for i, measure in enumerate(self.measures):
            fields.append((f"measures[{i}].code", (measure.code,)))
            if measure.change_from_baseline_code:
                fields.append((f"measures[{i}].change_from_baseline_code", (measure.change_from_baseline_code,)))
        if self.treatment:
            fields += [(f"treatment.arms.{name}", codes) for name, codes in self.treatment.arms.items()]
        if self.split.site_code:
            fields.append(("split.site_code", (self.split.site_code,)))
        yield from ((field, code) for field, codes in fields for code in codes)


def _check_range(low: float | None, high: float | None) -> None:
    if low is None and high is None:
        raise ValueError("give min, max or both")
    if low is not None and high is not None and low > high:
        raise ValueError(f"min must not be above max, got min {low:g} and max {high:g}")


def _check_window(window_days: tuple[float, float] | None) -> None:
    if window_days and window_days[0] > window_days[1]:
        raise ValueError(f"window_days must be [from, to] with from <= to, got {list(window_days)}")


def _check_disjoint(roles: dict[str, Sequence[str]] | dict[str, tuple[str, ...]]) -> None:
    """One code cannot mean two things; prefixes that overlap are found as well."""
    named = [(role, code) for role, codes in roles.items() for code in codes]
    for i, (role, code) in enumerate(named):
        for other_role, other in named[i + 1 :]:
            if role != other_role and (_covers(code, other) or _covers(other, code)):
                raise ValueError(f"{other} of {other_role} is also meant by {code} of {role}; keep it in one of them")


def _covers(code: str, other: str) -> bool:
    return other == code or (code.endswith("*") and other.removesuffix("*").startswith(code[:-1]))
