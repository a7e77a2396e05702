"""The section of the study file: a drug by one name, folders in order."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from careloop.plan.safety import SafetySection


def test_options_with_and_without_drugs() -> None:
    section = SafetySection.model_validate(
        {
            "options": {"statin": [{"ingredient": "simvastatin", "daily_dose": 20}], "diet": []},
            "rules": ["shipped", "own"],
        }
    )
    assert section.options["statin"][0].dose_unit == "mg"
    assert section.options["diet"] == ()
    assert section.folders == (None, Path("own"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"options": {}},
        {"options": {"a": [{}]}},
        {"options": {"a": [{"ingredient": "x", "code": "RXNORM//1"}]}},
        {"options": {"a": [{"ingredient": "x", "daily_dose": 0}]}},
        {"options": {"a": []}, "lab_days": 0},
        {"options": {"a": []}, "rules": []},
        {"options": {"a": []}, "rule": ["own"]},
    ],
)
def test_what_is_wrong_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SafetySection.model_validate(wrong)
