"""Ancestors of real codes, against the published hierarchies."""

from __future__ import annotations

import pytest

from careloop.record.ontology import MOST_ANCESTORS, ancestors, chapter_title, parent_in_code


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
