"""The study file's `plan.safety` section: the drugs of the options, the rules, how old facts may be."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

SHIPPED = "shipped"


class OptionDrug(BaseModel):
    """One drug of an option, by its ingredient or by a code of the record; a dose only where a rule is to check it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ingredient: str | None = Field(None, min_length=1, description="name, such as simvastatin; a brand will do")
    code: str | None = Field(None, min_length=1, description="code, such as RXNORM//36567")
    daily_dose: float | None = Field(None, gt=0, description="total of a day, in dose_unit")
    dose_unit: str = Field("mg", min_length=1, description="UCUM unit of the dose")

    @model_validator(mode="after")
    def _one_name(self) -> OptionDrug:
        if (self.ingredient is None) == (self.code is None):
            raise ValueError("a drug is named by its ingredient or by its code; give one of them")
        return self

    @property
    def name(self) -> str:
        """What the study file calls it."""
        return self.ingredient or self.code or ""


class SafetySection(BaseModel):
    """Options without drugs (a diet, an operation) have an empty list; every option of the plan must be listed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    options: dict[str, tuple[OptionDrug, ...]] = Field(
        min_length=1, description="each option's drugs, such as {statin: [{ingredient: simvastatin, daily_dose: 20}]}"
    )
    rules: tuple[str, ...] = Field(
        (SHIPPED,),
        min_length=1,
        description="folders of rules, as seen from where careloop is run; later ones replace rules of the same id; "
        "`shipped` are those of careloop",
    )
    lab_days: float = Field(180.0, gt=0, description="days after which a laboratory value or a weight is missing")
    medication_days: float = Field(
        180.0, gt=0, description="days for which a drug that was ordered, dispensed or reported counts as being taken"
    )

    @property
    def folders(self) -> tuple[Path | None, ...]:
        """The folders of rules in order; None stands for careloop's own."""
        return tuple(None if name == SHIPPED else Path(name) for name in self.rules)
