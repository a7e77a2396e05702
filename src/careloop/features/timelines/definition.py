"""The study file's `timelines` section: which events become tokens, and how many of them a sequence holds."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from careloop import InputError


class TimelinesSection(BaseModel):
    """How events known by a prediction time become a sequence of tokens.

    Codes are written exactly, or as a prefix that ends in `*`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    codes: tuple[str, ...] | Literal["all"] = Field(
        default="all", description="Codes of events to use, timed or static, or `all`."
    )
    exclude_codes: tuple[str, ...] = Field(default=(), description="Codes never to use, timed or static.")
    min_subjects: int = Field(
        default=10,
        ge=1,
        description="A code that fewer training subjects have becomes its nearest ancestor that as many have.",
    )
    quantiles: int = Field(
        default=10, ge=2, le=50, description="Into how many quantiles of its training values a code's numbers fall."
    )
    most_events: int = Field(
        default=512, ge=1, description="Keep this many of the latest events before a prediction time, and all statics."
    )
    text_encoder: str | None = Field(
        default=None,
        description="Folder of a Hugging Face text encoder (config.json, safetensors, tokenizer) for notes, which are "
        "texts of more than 100 characters; null leaves notes out. Vectors of notes can reveal what notes say: they "
        "stay in the run folder.",
    )

    @field_validator("codes", "exclude_codes")
    @classmethod
    def _codes_are_patterns(cls, codes: tuple[str, ...] | str) -> tuple[str, ...] | str:
        wrong = [code for code in codes if not code.strip("*") or "*" in code[:-1]]
        if not isinstance(codes, str) and wrong:
            raise InputError(
                f"timelines: a code is written exactly or as a prefix ending in *, got {wrong[0]!r};"
                " write for example ICD10CM//K74*"
            )
        return codes
