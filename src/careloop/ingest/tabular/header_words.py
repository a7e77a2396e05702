"""What a column's name says about what is in it, in English, German, French, Spanish and Chinese."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

WORDS_FILE = Path(__file__).with_name("header_words.yaml")
# Single words that mean this only when they are the whole name: "stress test", "care unit", "smoking status".
_ALONE = ("code", "value", "unit", "clock")
_WEAK = {"status", "event", "days", "duration"}
VOCABULARIES = {
    "loinc": "LOINC", "icd10cm": "ICD10CM", "icd10": "ICD10", "icd 10": "ICD10", "cim10": "ICD10", "cie10": "ICD10",
    "icd9": "ICD9CM", "icd 9": "ICD9CM", "atc": "ATC", "snomed": "SNOMED", "rxnorm": "RXNORM", "rxcui": "RXNORM",
    "ndc": "NDC", "cpt": "CPT4", "hcpcs": "HCPCS", "cvx": "CVX", "ops": "OPS", "pzn": "PZN",
}  # fmt: skip
_UNIT_IN_NAME = re.compile(r"[\[(]\s*([^\[\]()]{1,20}?)\s*[\])]\s*$")
_HAN = re.compile(r"[\u3400-\u9fff]")


@dataclass(frozen=True)
class Named:
    """A role and how sure the name is of it: the letters of the words that say so, more being surer; 1000 for all."""

    role: str
    weight: int


def role_of(name: str) -> Named | None:
    """The role that a column's name speaks for; None where it says nothing."""
    words = words_of(_UNIT_IN_NAME.sub("", name))
    spaced, together = f" {' '.join(words)} ", "".join(words)
    best: Named | None = None
    for role, entries in _roles().items():
        for entry in entries:
            if entry.replace(" ", "") == together:
                weight = 1000
            elif _is_weak(role, entry):
                continue
            elif f" {entry} " in spaced or (_HAN.search(entry) and entry in together):
                weight = len(entry) * (3 if _HAN.search(entry) else 1)
            else:
                continue
            if best is None or weight > best.weight:
                best = Named(role, weight)
    return best


def _is_weak(role: str, entry: str) -> bool:
    is_single = role in _ALONE and " " not in entry and not _HAN.search(entry)
    return (is_single and entry not in VOCABULARIES) or entry in _WEAK


def vocabulary_in(name: str) -> str | None:
    """The terminology that a column's name mentions."""
    spaced = f" {' '.join(words_of(name))} "
    return next(
        (prefix for word, prefix in VOCABULARIES.items() if f" {word} " in spaced or f" {word}code " in spaced), None
    )


def without_unit(name: str) -> str:
    """The name without the unit at its end."""
    return _UNIT_IN_NAME.sub("", name).strip() or name.strip()


def unit_in(name: str) -> str | None:
    """The unit in brackets at the end of a column's name."""
    found = _UNIT_IN_NAME.search(name)
    return found[1] if found else None


def words_of(name: str) -> list[str]:
    """The words of a name in lower case, without accents and signs; ß as ss, ä as ae."""
    text = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    text = text.lower().replace("ß", "ss").replace("ä", "ae").replace("ö", "oe").replace("ü", "ue")
    text = "".join(sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))
    return re.findall(r"[a-z0-9\u3400-\u9fff]+", text)


@cache
def _roles() -> dict[str, list[str]]:
    words = yaml.load(WORDS_FILE.read_text(encoding="utf-8"), yaml.BaseLoader)
    return {role: list(entries) for role, entries in words.items()}
