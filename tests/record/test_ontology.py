"""Ancestors of real codes, against the published hierarchies."""

from __future__ import annotations

import pytest

from careloop.record.ontology import (
    CHAPTERS,
    LEVELS,
    MOST_ANCESTORS,
    ancestors,
    at_level,
    blocks,
    chapter_title,
    parent_in_code,
    title_of,
)


@pytest.mark.parametrize(
    ("code", "above"),
    [
        ("ICD10CM//K74.60", ["K74.6", "K74", "K00-K95"]),
        ("ICD10CM//K7460", ["K746", "K74", "K00-K95"]),
        ("ICD10CM//S72.001A", ["S72.001", "S72.00", "S72.0", "S72", "S00-T88"]),
        ("ICD10CM//T36.0X1A", ["T36.0X1", "T36.0", "T36", "S00-T88"]),  # X fills a place, it is no level
        ("ICD10CM//C7A.8", ["C7A", "C00-D49"]),
        ("ICD10CM//D49", ["C00-D49"]),
        ("ICD10CM//O9A.11", ["O9A.1", "O9A", "O00-O9A"]),
        ("ICD10CM//U07.1", ["U07", "U00-U85"]),
        ("ICD10//D48.9", ["D48", "C00-D48"]),
        ("ICD10//E90", ["E00-E90"]),
        ("ICD10//I21.0", ["I21", "I00-I99"]),
        ("ICD9CM//571.5", ["571", "520-579"]),
        ("ICD9CM//25000", ["2500", "250", "240-279"]),
        ("ICD9CM//V10.11", ["V10.1", "V10", "V01-V91"]),
        ("ICD9CM//E850.1", ["E850", "E000-E999"]),
        ("ATC//A10BA02", ["A10BA", "A10B", "A10", "A"]),
        ("ATC//C09", ["C"]),
        ("DIAGNOSIS//ICD//10//K7460", ["K746", "K74", "K00-K95"]),
        ("DIAGNOSIS//ICD//9//5715", ["571", "520-579"]),
    ],
)
def test_ancestors_of_real_codes(code: str, above: list[str]) -> None:
    prefix = code.rpartition("//")[0]
    assert ancestors(code, {}) == [f"{prefix}//{name}" for name in above]


@pytest.mark.parametrize(
    "code",
    ["LOINC//2160-0", "RXNORM//6809", "DX", "ICD10CM//K00-K95", "ICD10CM//NODX", "ATC//A", "ATC//A1", "ICD9CM//57",
     "ICD10PCS//B2111ZZ", "PROCEDURE//ICD//10//B2111ZZ"],
)  # fmt: skip
def test_codes_that_show_no_parent(code: str) -> None:
    assert parent_in_code(code) is None
    assert ancestors(code, {}) == []


def test_the_codes_table_comes_before_the_form_and_goes_on_upwards() -> None:
    parents = {
        "ICD10CM//K74.60": ["SNOMED//19943007"],
        "SNOMED//19943007": ["SNOMED//235856003", "SNOMED//19943007"],
        "SNOMED//235856003": ["ICD10CM//K74.60"],  # a circle
    }
    assert ancestors("ICD10CM//K74.60", parents) == [
        "SNOMED//19943007",
        "ICD10CM//K74.6",
        "SNOMED//235856003",
        "ICD10CM//K74",
        "ICD10CM//K00-K95",
    ]
    assert ancestors("A", {"A": [str(n) for n in range(99)]}) == [str(n) for n in range(MOST_ANCESTORS)]


def test_titles_of_chapters() -> None:
    assert chapter_title("ICD10CM//K00-K95") == "diseases of the digestive system"
    assert chapter_title("ICD9CM//520-579") == "diseases of the digestive system"
    assert chapter_title("ICD10CM//K74") is None
    assert chapter_title("LAB") is None


@pytest.mark.parametrize(
    ("code", "levels"),
    [
        ("ICD10CM//K74.60", ("K00-K95", "K70-K77", "K74", "K74.60")),
        ("ICD10CM//C7A.8", ("C00-D49", "C7A", "C7A", "C7A.8")),  # a block of one category
        ("ICD10CM//W10.0", ("V00-Y99", "W00-W19", "W10", "W10.0")),  # within W00-X58 and V00-X58
        ("ICD10CM//O9A.11", ("O00-O9A", "O94-O9A", "O9A", "O9A.11")),
        ("ICD10//I11.0", ("I00-I99", "I10-I15", "I11", "I11.0")),
        ("ICD10//V05", ("V01-Y98", "V01-V09", "V05", "V05")),
        ("ICD9CM//571.5", ("520-579", "570-579", "571", "571.5")),
        ("ICD9CM//28521", ("280-289", "280-289", "285", "28521")),  # a chapter without blocks
        ("ICD9CM//E850.1", ("E000-E999", "E850-E858", "E850", "E850.1")),
        ("DIAGNOSIS//ICD//9//V1011", ("V01-V91", "V10-V19", "V10", "V1011")),
        ("ICD10CM//K70-K77", ("K00-K95", "K70-K77", None, "K70-K77")),
        ("ICD10CM//K00-K95", ("K00-K95", None, None, "K00-K95")),
        ("SNOMED//19943007", (None, None, None, "19943007")),
        ("ICD10CM//NODX", (None, None, None, "NODX")),
    ],
)
def test_levels_of_real_codes(code: str, levels: tuple[str | None, ...]) -> None:
    prefix = code.rpartition("//")[0]
    assert tuple(at_level(code, level) for level in LEVELS) == tuple(n and f"{prefix}//{n}" for n in levels)


def test_blocks_lie_in_one_chapter_each_and_are_the_published_ones() -> None:
    assert {name: len(blocks(name)) for name in ("ICD10CM", "ICD10", "ICD9CM")} == {
        "ICD10CM": 296, "ICD10": 274, "ICD9CM": 154,
    }  # fmt: skip
    for system in ("ICD10CM", "ICD10", "ICD9CM"):
        for first, last, _ in blocks(system):
            chapters = [(low, high) for low, high, _ in CHAPTERS[system] if low <= first <= last <= high]
            assert len(chapters) == 1, (system, first, last)
    assert title_of("ICD10CM//K70-K77") == title_of("ICD10//K70-K77") == "diseases of liver"
    assert title_of("ICD9CM//520-579") == "diseases of the digestive system"
    assert title_of("ICD10CM//B20") == "human immunodeficiency virus [HIV] disease"
    assert title_of("ICD10//E10-E14") == ""
    assert title_of("ICD10CM//K74") is None
    assert title_of("LAB") is None
