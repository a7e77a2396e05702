"""The section refuses what cannot be computed, with the rule."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from careloop.features import FeaturesSection


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"windows_days": [30, 0]}, "looks back a positive number of days, got 0"),
        ({"windows_days": [-7]}, "looks back a positive number of days, got -7"),
        ({"windows_days": [float("inf")]}, "looks back a positive number of days, got inf"),
        ({"windows_days": []}, "at least one"),
        ({"windows_days": [30, 30.0]}, "differ"),
        ({"value": ["last", "last"]}, "each aggregation is named once"),
        ({"value": ["median"]}, "'first', 'last', 'min', 'max', 'mean', 'slope' or 'count'"),
        ({"codes": ["LAB//*//1"]}, "a prefix ending in \\*, got 'LAB//\\*//1'"),
        ({"codes": ["*"]}, "a prefix ending in \\*"),
        ({"min_subjects": 0}, "greater than or equal to 1"),
        ({"selection": {"correlation_above": 1.5}}, "less than or equal to 1"),
        ({"window_days": [30]}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_field_is_refused_with_its_rule(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FeaturesSection.model_validate(fields)


def test_defaults_and_description_of_every_field() -> None:
    section = FeaturesSection()
    assert section.windows_days == (30, 365, "all")
    assert section.value == ("last", "min", "max", "mean", "slope")
    assert all(field.description for field in FeaturesSection.model_fields.values())
    assert FeaturesSection.model_validate_json(section.model_dump_json()) == section
