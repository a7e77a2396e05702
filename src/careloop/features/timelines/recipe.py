"""A recipe for timelines: the tokens that training rows justified, with their values' scale, as plain JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from careloop import InputError
from careloop.features.timelines.definition import TimelinesSection
from careloop.features.timelines.notes import TextEncoder
from careloop.models.sequence.arrays import FIRST_CODE, MASK, NOW, PADDING, UNKNOWN, TokenSpace
from careloop.record.ontology import ancestors, chapter_title

TIMELINE_RECIPE_FORMAT = 1
MOST_DEPTH = 6  # ancestors of a token that a network sees
# Longer texts are notes, not results such as "positive".
MOST_TEXT = 100
SPECIAL_WORDS = {PADDING: "nothing", UNKNOWN: "unknown code", MASK: "hidden", NOW: "prediction time"}


@dataclass(frozen=True)
class Token:
    """One token and what training rows showed of it.

    `code`, with `text` where the token is one of the code's texts; `subjects` is how many training subjects have it or
    a code beneath it. `edges` are the values between quantiles, in `unit`, none where the code has no numbers; `mean`
    and `standard_deviation` are of the numbers clipped at their 0.5 and 99.5 percentiles. `ancestors` are tokens,
    nearest first.
    """

    code: str
    text: str | None = None
    description: str = ""
    subjects: int = 0
    unit: str | None = None
    edges: tuple[float, ...] = ()
    mean: float = 0.0
    standard_deviation: float = 1.0
    ancestors: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """`CODE`, or `CODE=TEXT`."""
        return self.code if self.text is None else f"{self.code}={self.text}"


@dataclass(frozen=True)
class TimelineRecipe:
    """How to turn a history into a sequence.

    The first of `tokens` has the number `FIRST_CODE`. `section` is as the study file has it, with the study's other
    excluded codes among `exclude_codes`. `rolled_up`: codes that are no tokens, and the tokens of the ancestors that
    stand for them by the record's codes table; what a code shows by its own form needs no entry. `encoder`: which text
    encoder makes vectors of notes, where the section names one.
    """

    tokens: tuple[Token, ...]
    section: TimelinesSection
    rolled_up: Mapping[str, int] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    training_subjects: int = 0
    encoder: TextEncoder | None = None

    def token_space(self, statics: int = 0) -> TokenSpace:
        """What the numbers in its sequences mean to a network; `statics`: static columns beside them."""
        depth = max(1, *(len(token.ancestors) for token in self.tokens))
        table = np.full((FIRST_CODE + len(self.tokens), depth), PADDING, dtype=np.int32)
        for number, token in enumerate(self.tokens, start=FIRST_CODE):
            table[number, : len(token.ancestors)] = token.ancestors
        note_width = 0 if self.encoder is None else self.encoder.width
        return TokenSpace(len(table), self.section.quantiles, table, statics, note_width)

    def number_of(self, code: str, text: str | None = None) -> int:
        """The token of an event: of its text, else of its code, else of the nearest ancestor, else `UNKNOWN`."""
        if text is not None and (code, text) in self.numbers:
            return self.numbers[code, text]
        if (code, None) in self.numbers:
            return self.numbers[code, None]
        if code in self.rolled_up:
            return self.rolled_up[code]
        return next((self.numbers[a, None] for a in ancestors(code, {}) if (a, None) in self.numbers), UNKNOWN)

    @cached_property
    def numbers(self) -> dict[tuple[str, str | None], int]:
        """The token of each code and text."""
        return {(token.code, token.text): number for number, token in enumerate(self.tokens, start=FIRST_CODE)}

    def words(self, token: int) -> str:
        """A token in words that a clinician reads: its code's description, else the code's last part, and its text."""
        if not 0 <= token < FIRST_CODE + len(self.tokens):
            raise InputError(f"token must be 0 to {FIRST_CODE + len(self.tokens) - 1}, got {token}")
        if token < FIRST_CODE:
            return SPECIAL_WORDS[token]
        one = self.tokens[token - FIRST_CODE]
        code = one.description or chapter_title(one.code) or one.code.rsplit("//", 1)[-1]
        return code if one.text is None else f"{code}: {one.text}"

    def to_json(self) -> str:
        """The recipe as a JSON text; `from_json` gives an equal recipe."""
        content = {
            "format": TIMELINE_RECIPE_FORMAT,
            "section": self.section.model_dump(mode="json"),
            "training_subjects": self.training_subjects,
            "notes": self.notes,
            "rolled_up": dict(self.rolled_up),
            "tokens": [dataclasses.asdict(token) for token in self.tokens],
        }
        if self.encoder is not None:
            content["text_encoder"] = dataclasses.asdict(self.encoder)
        return json.dumps(content, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> TimelineRecipe:
        """Read what `to_json` wrote; InputError if it is no recipe or was written by a newer careloop."""
        try:
            content: dict[str, Any] = json.loads(text)
            version = content.pop("format")
            if version > TIMELINE_RECIPE_FORMAT:
                raise InputError(
                    f"timeline recipe: this careloop reads format {TIMELINE_RECIPE_FORMAT}, got {version};"
                    " install a newer careloop"
                )
            tokens = tuple(_token(**token) for token in content.pop("tokens"))
            section = TimelinesSection.model_validate(content.pop("section"))
            encoder = TextEncoder(**content.pop("text_encoder")) if "text_encoder" in content else None
            return cls(tokens, section, notes=tuple(content.pop("notes")), encoder=encoder, **content)
        except InputError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(
                f"timeline recipe: not one of careloop's ({type(error).__name__}); write it again with to_json"
            ) from error


def _token(edges: list[float], ancestors: list[int], **others: Any) -> Token:
    return Token(edges=tuple(edges), ancestors=tuple(ancestors), **others)
