"""Planted cases are all caught with their source; harmless look-alikes are not flagged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

CASES = yaml.safe_load((Path(__file__).parent / "cases.yaml").read_text(encoding="utf-8"))


def test_there_are_enough_of_each() -> None:
    assert len(CASES["planted"]) >= 60
    assert len(CASES["harmless"]) >= 60
    for cases in CASES.values():
        assert len({case["case"] for case in cases}) == len(cases)


@pytest.mark.parametrize("case", CASES["planted"], ids=lambda case: case["case"])
def test_planted_case_is_caught(case: Mapping[str, Any], people: SimpleNamespace) -> None:
    found = [finding for finding in people.checked(case) if case["find"] in finding.rule.split(", ")]
    assert [finding.severity for finding in found][:1] == [case["severity"]]
    assert all(case["cites"] in finding.citation for finding in found)
    assert all(finding.remedy and finding.text and finding.rules_version for finding in found)


@pytest.mark.parametrize("case", CASES["harmless"], ids=lambda case: case["case"])
def test_harmless_look_alike_is_not_flagged(case: Mapping[str, Any], people: SimpleNamespace) -> None:
    assert [finding for finding in people.checked(case) if finding.severity != "info"] == []
