"""The study file's evaluation section accepts what it documents and nothing else."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from careloop.evaluate import EvaluationSection


def test_defaults_are_a_stated_rule_and_a_thousand_resamples() -> None:
    section = EvaluationSection()
    assert (section.threshold, section.resamples, section.subgroups) == ("youden", 1000, [])
    assert all(field.description for field in EvaluationSection.model_fields.values())


def test_a_full_section_is_read() -> None:
    section = EvaluationSection.model_validate(
        {"threshold": 0.2, "resamples": 200, "subgroups": [{"feature": "age_years", "cut_points": [40, 65]}]}
    )
    assert section.threshold == 0.2
    assert section.subgroups[0].cut_points == [40, 65]


@pytest.mark.parametrize(
    "section",
    [
        {"threshold": 1.0},
        {"threshold": "best"},
        {"resamples": 10},
        {"subgroups": [{"feature": "age_years", "cut_points": [65, 40]}]},
        {"thresholds": 0.2},
    ],
)
def test_anything_else_is_refused(section: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        EvaluationSection.model_validate(section)
