"""The list of what patients can change: codes, the value that guidance names, and its source, from a YAML file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from careloop import InputError

_SHIPPED = Path(__file__).with_name("factors.yaml")
Language = Literal["en", "zh"]


class CodeTarget(BaseModel):
    """The value of one code that guidance names, and the UCUM units in which it is one (empty: no unit)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: float = Field(allow_inf_nan=False)
    units: tuple[str, ...] = ()


class Factor(BaseModel):
    """Something that a patient can change.

    `codes` are numbers with their targets, `presence` facts that stand for it, `with_it` codes that move by the same
    ratio as the number. `words` and `action` are by language.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    words: dict[Language, str]
    action: dict[Language, str]
    better: Literal["lower", "higher"]
    codes: dict[str, CodeTarget] = Field(default_factory=dict)
    presence: tuple[str, ...] = ()
    with_it: tuple[str, ...] = ()
    citation: str = Field(min_length=1)
    licence: str = Field(min_length=1)

    @field_validator("words", "action")
    @classmethod
    def _in_both_languages(cls, texts: dict[Language, str]) -> dict[Language, str]:
        if set(texts) != {"en", "zh"}:
            raise ValueError("must be given in en and zh")
        return texts


class FactorList(BaseModel):
    """The content of a factor file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str = Field(min_length=1)
    factors: tuple[Factor, ...]


def read_factors(path: Path) -> FactorList:
    """Read a factor file; `lifestyle/factors.yaml` shows the form. InputError if it is missing or malformed."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return FactorList.model_validate(content)
    except OSError:
        raise InputError(f"{path} cannot be read; give a YAML file of lifestyle factors") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise InputError(f"{path} is not valid YAML in UTF-8") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(f"{path}: {place}: {first['msg']}; see careloop's own lifestyle/factors.yaml") from None


@lru_cache(maxsize=1)
def shipped_factors() -> FactorList:
    """The factors that come with careloop."""
    return read_factors(_SHIPPED)
