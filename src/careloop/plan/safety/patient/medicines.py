"""Ingredients and drug classes: how a code, a name or a product's words are recognised as one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Drug:
    """An ingredient by its United States adopted name, with the classes it is a member of."""

    name: str
    classes: frozenset[str]
    codes: tuple[str, ...]
    synonyms: tuple[str, ...]


@dataclass(frozen=True)
class DrugClass:
    """A class: one of the FDA's established pharmacologic classes (EPC), or a group that rules speak of."""

    name: str
    kind: str
    codes: tuple[str, ...]
    synonyms: tuple[str, ...]


@dataclass(frozen=True)
class Formulary:
    """All ingredients and classes that rules know, by their names in lower case.

    A substance is named by its ingredient, or by its class where no more is known ("allergic to penicillins").
    """

    drugs: Mapping[str, Drug]
    classes: Mapping[str, DrugClass]

    def groups_of(self, substance: str) -> frozenset[str]:
        """The substance itself and the classes it is a member of: what a rule may call it."""
        drug = self.drugs.get(substance)
        return frozenset({substance}) | (drug.classes if drug else frozenset())

    def recognise(self, code: str | None, *words: str | None) -> tuple[str, ...]:
        """The substances that a code of the record names, by the code, else by its words; empty where none is known.

        Words are names as a product bears them ("simvastatin 20 MG Oral Tablet"): whole words of any case count,
        longer names first, so that salts, strengths and forms do not matter.
        """
        known = self._by_code.get(code) if code else None
        if known is not None:
            return (known,)
        body = (code or "").rpartition("//")[2]
        texts = [text for text in words if text] or ([body] if body else [])
        found = (self._by_name[match.lower()] for text in texts for match in self._pattern.findall(text))
        return tuple(dict.fromkeys(found))

    def named(self, name: str) -> str | None:
        """The substance of exactly this name or synonym, in any case."""
        return self._by_name.get(name.strip().lower())

    @cached_property
    def _by_code(self) -> Mapping[str, str]:
        return {code: item.name for item in self._items() for code in item.codes}

    @cached_property
    def _by_name(self) -> Mapping[str, str]:
        return {word.lower(): item.name for item in self._items() for word in (item.name, *item.synonyms)}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        names = sorted(self._by_name, key=len, reverse=True)
        return re.compile(rf"(?<![A-Za-z])(?:{'|'.join(map(re.escape, names))})(?![A-Za-z])", re.IGNORECASE)

    def _items(self) -> Iterable[Drug | DrugClass]:
        # Ingredients come last: a name that is both stands for the ingredient.
        return (*self.classes.values(), *self.drugs.values())
