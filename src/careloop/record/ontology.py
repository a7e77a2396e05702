"""Ancestors of a code: from a record's codes table, and from the code itself where its form shows the hierarchy."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Literal

Level = Literal["chapter", "block", "category", "code"]
LEVELS: tuple[Level, ...] = ("chapter", "block", "category", "code")  # of ICD, the widest first
Chapters = Sequence[tuple[str, str, str]]
Parents = Mapping[str, Sequence[str]]
MOST_ANCESTORS = 32  # looked at for one code; a code of SNOMED CT has as many, of which few are near

# First and last category of each chapter. ICD-10-CM: NCHS tabular list; ICD-10: WHO, version 2019; ICD-9-CM: NCHS.
ICD10CM: Chapters = (
    ("A00", "B99", "certain infectious and parasitic diseases"),
    ("C00", "D49", "neoplasms"),
    ("D50", "D89", "diseases of the blood and certain immune disorders"),
    ("E00", "E89", "endocrine, nutritional and metabolic diseases"),
    ("F01", "F99", "mental, behavioral and neurodevelopmental disorders"),
    ("G00", "G99", "diseases of the nervous system"),
    ("H00", "H59", "diseases of the eye and adnexa"),
    ("H60", "H95", "diseases of the ear and mastoid process"),
    ("I00", "I99", "diseases of the circulatory system"),
    ("J00", "J99", "diseases of the respiratory system"),
    ("K00", "K95", "diseases of the digestive system"),
    ("L00", "L99", "diseases of the skin and subcutaneous tissue"),
    ("M00", "M99", "diseases of the musculoskeletal system and connective tissue"),
    ("N00", "N99", "diseases of the genitourinary system"),
    ("O00", "O9A", "pregnancy, childbirth and the puerperium"),
    ("P00", "P96", "certain conditions originating in the perinatal period"),
    ("Q00", "Q99", "congenital malformations and chromosomal abnormalities"),
    ("R00", "R99", "symptoms, signs and abnormal findings"),
    ("S00", "T88", "injury, poisoning and other consequences of external causes"),
    ("U00", "U85", "codes for special purposes"),
    ("V00", "Y99", "external causes of morbidity"),
    ("Z00", "Z99", "factors influencing health status and contact with health services"),
)
_WHO = {"D49": "D48", "E89": "E90", "F01": "F00", "K95": "K93", "O9A": "O99", "T88": "T98", "V00": "V01", "Y99": "Y98"}
ICD10: Chapters = tuple((_WHO.get(first, first), _WHO.get(last, last), title) for first, last, title in ICD10CM)
ICD9CM: Chapters = (
    ("001", "139", "infectious and parasitic diseases"),
    ("140", "239", "neoplasms"),
    ("240", "279", "endocrine, nutritional and metabolic diseases, and immunity disorders"),
    ("280", "289", "diseases of the blood and blood-forming organs"),
    ("290", "319", "mental disorders"),
    ("320", "389", "diseases of the nervous system and sense organs"),
    ("390", "459", "diseases of the circulatory system"),
    ("460", "519", "diseases of the respiratory system"),
    ("520", "579", "diseases of the digestive system"),
    ("580", "629", "diseases of the genitourinary system"),
    ("630", "679", "complications of pregnancy, childbirth and the puerperium"),
    ("680", "709", "diseases of the skin and subcutaneous tissue"),
    ("710", "739", "diseases of the musculoskeletal system and connective tissue"),
    ("740", "759", "congenital anomalies"),
    ("760", "779", "certain conditions originating in the perinatal period"),
    ("780", "799", "symptoms, signs and ill-defined conditions"),
    ("800", "999", "injury and poisoning"),
    ("E000", "E999", "external causes of injury and poisoning"),
    ("V01", "V91", "factors influencing health status and contact with health services"),
)
# The last two are how MIMIC-IV's MEDS data name the systems.
CHAPTERS: dict[str, Chapters] = {
    "ICD10CM": ICD10CM, "ICD10": ICD10, "ICD9CM": ICD9CM, "DIAGNOSIS//ICD//10": ICD10CM, "DIAGNOSIS//ICD//9": ICD9CM,
}  # fmt: skip
SYSTEMS = (*CHAPTERS, "ATC")
ICD10_CODE = re.compile(r"([A-Z]\d[0-9A-Z])(?:\.?([0-9A-Z]{1,4}))?")
ICD9_CODE = re.compile(r"(\d{3}|V\d\d|E\d{3})(?:\.?(\d{1,2}))?")
ATC_CODE = re.compile(r"[A-Z](?:\d\d(?:[A-Z](?:[A-Z](?:\d\d)?)?)?)?")
ATC_LENGTHS = {7: 5, 5: 4, 4: 3, 3: 1}


def ancestors(code: str, parents: Parents) -> list[str]:
    """The ancestors of a code, nearest first: those of a codes table (code to parent codes), then those in the code.

    `ICD10CM//K74.60` has K74.6, K74 and the chapter K00-K95 above it, each with the code's own prefix. At most
    `MOST_ANCESTORS`; a circle in the table ends where it closes.
    """
    found: dict[str, None] = {}
    waiting = deque([code])
    while waiting and len(found) < MOST_ANCESTORS:
        child = waiting.popleft()
        inside = parent_in_code(child)
        for parent in (*parents.get(child, ()), *([inside] if inside else [])):
            if parent != code and parent not in found:
                found[parent] = None
                waiting.append(parent)
    return list(found)[:MOST_ANCESTORS]


def parent_in_code(code: str) -> str | None:
    """The parent that a code of ICD-10, ICD-10-CM, ICD-9-CM or ATC shows by its own form; None for any other."""
    prefix, system, body = _parts(code)
    if system is None:
        return None
    parent = _atc_parent(body) if system == "ATC" else _icd_parent(body, system)
    return f"{prefix}//{parent}" if parent else None


def chapter_title(code: str) -> str | None:
    """The title of a chapter such as `ICD10CM//K00-K95`; None for any other code."""
    _, system, body = _parts(code)
    return _title(CHAPTERS.get(system or "", ()), body)


def title_of(code: str) -> str | None:
    """The title of a chapter or of a block such as `ICD10CM//K70-K77`; None for any other code."""
    _, system, body = _parts(code)
    return chapter_title(code) or (_title(blocks(system), body) if system in CHAPTERS else None)


def at_level(code: str, level: Level) -> str | None:
    """What a code is counted as at a level of its hierarchy; None where that cannot be seen in the code.

    `ICD10CM//K74.60` is itself at level `code`, K74 at `category`, K70-K77 at `block`, K00-K95 at `chapter`. A code of
    any system is itself at level `code`; the other levels are those of ICD. Of blocks that lie in one another the
    smallest counts; a category outside all blocks (ICD-9-CM: 280-289, 740-759) has its chapter for a block. A block
    has its chapter above it, and is itself at level `block`.
    """
    prefix, system, body = _parts(code)
    if level == "code":
        return code
    if system not in CHAPTERS:
        return None
    spans = CHAPTERS[system] if level == "chapter" else blocks(system)
    if level != "category" and _title(spans, body) is not None:
        return code
    category = _category(body, system)
    if category is None or (level == "category" and "-" in body):
        return None
    inside = category if level == "category" else _span_around(category, spans)
    inside = inside or _span_around(category, CHAPTERS[system])
    return f"{prefix}//{inside}" if inside else None


@cache
def blocks(system: str) -> Chapters:
    """First and last category and title of each block of an ICD system, as its tabular list has them.

    ICD-10-CM: NCHS, April 2026. ICD-9-CM: NCHS, 2015. ICD-10: WHO, version 2019, with the title of the same block
    of ICD-10-CM, or none.
    """
    same = next(name for name in ("ICD10CM", "ICD10", "ICD9CM") if CHAPTERS[name] is CHAPTERS[system])
    with (files("careloop.record") / "icd_blocks.csv").open(encoding="utf-8") as text:
        return tuple((r["first"], r["last"], r["title"]) for r in csv.DictReader(text) if r["system"] == same)


def _title(spans: Chapters, body: str) -> str | None:
    return next((title for first, last, title in spans if body == _span(first, last)), None)


def _span(first: str, last: str) -> str:
    """How a chapter or block is written; one of a single category as this."""
    return first if first == last else f"{first}-{last}"


def _span_around(category: str, spans: Chapters) -> str | None:
    """The smallest of the spans that holds the category: of several, all holding it, the one that begins last."""
    around = [(first, last) for first, last, _ in spans if first <= category <= last]
    around.sort(key=lambda span: span[1])
    return _span(*max(around, key=lambda span: span[0])) if around else None


def _category(body: str, system: str) -> str | None:
    """The category of a code; of a block its first."""
    if "-" in body and _title(blocks(system), body) is not None:
        return body.partition("-")[0]
    match = (ICD9_CODE if CHAPTERS[system] is ICD9CM else ICD10_CODE).fullmatch(body)
    return match[1] if match else None


def _parts(code: str) -> tuple[str, str | None, str]:
    """The prefix of a code, the system that the prefix ends in (None for one without a form), and the rest."""
    prefix, _, body = code.rpartition("//")
    system = next((name for name in SYSTEMS if prefix == name or prefix.endswith(f"//{name}")), None)
    return prefix, system, body


def _icd_parent(body: str, system: str) -> str | None:
    """One character less down to the category, whose parent is its chapter; X only fills a place, so it is no level."""
    match = (ICD9_CODE if CHAPTERS[system] is ICD9CM else ICD10_CODE).fullmatch(body)
    if match is None:
        return None
    category, detail = match.groups()
    if detail is None:
        return _span_around(category, CHAPTERS[system])
    shorter = detail[:-1].rstrip("X")
    return f"{category}{'.' if '.' in body and shorter else ''}{shorter}"


def _atc_parent(body: str) -> str | None:
    if ATC_CODE.fullmatch(body) is None or len(body) == 1:
        return None
    return body[: ATC_LENGTHS[len(body)]]
