"""The texts of a plan page, one data file a language, all with the same keys."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml

from careloop import InputError

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")


@lru_cache(maxsize=len(LANGUAGES))
def plan_words(language: str) -> Mapping[str, Any]:
    """All texts of a language by key; InputError for one that there is no file of."""
    if language not in LANGUAGES:
        raise InputError(f"a plan page's language must be one of {', '.join(LANGUAGES)}, got {language!r}")
    text = Path(__file__).with_name(f"{language}.yaml").read_text(encoding="utf-8")
    words: dict[str, Any] = yaml.safe_load(text)
    return words
