"""The cohort section: what is accepted, and errors that name the place and the allowed values."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from careloop.cohort import CohortSection, definition

GOOD: dict[str, Any] = {"index": {"code": "INDEX"}, "outcome": {"codes": ["OUT*"], "horizon_days": 365}}


@pytest.mark.parametrize(
    ("change", "place", "message"),
    [
        ({"outcome": {"codes": "OUT", "horizon_days": -3}}, ("outcome", "horizon_days"), "greater than 0"),
        ({"outcome": {"codes": "OUT", "horizon_days": 0}}, ("outcome", "horizon_days"), "greater than 0"),
        ({"index": {"code": "A", "which": "frist"}}, ("index", "which"), "'first', 'last' or 'every'"),
        ({"index": {}}, ("index", "codes"), "Field required"),
        ({"index": {"codes": []}}, ("index", "codes"), "at least 1 item"),
        ({"index": {"code": 250}}, ("index", "code", 0), "valid string"),
        ({"index": {"code": "*"}}, ("index", "code", 0), "every code"),
        ({"index": {"code": "A", "every_days": 30}}, ("index",), "every_days goes with which: every"),
        ({"typo": 1}, ("typo",), "not permitted"),
        ({"split": {"train": 0.7}}, ("split",), "must sum to 1, got 0.7 + 0.2 + 0.2 = 1.1"),
        ({"split": {"by": "site", "site_code": "SITE"}}, ("split",), "by: site needs held_out_sites"),
        ({"split": {"boundaries": ["2020-01-01", "2021-01-01"]}}, ("split",), "does not use boundaries"),
        (
            {"split": {"by": "calendar", "boundaries": ["2021-01-01", "2020-01-01"]}},
            ("split",),
            "the earlier one first",
        ),
        ({"treatment": {"arms": {"a": "X"}}}, ("treatment", "arms"), "at least 2 items"),
        ({"treatment": {"arms": {"a": "X//1", "b": "X*"}}}, ("treatment",), "also meant by"),
        ({"treatment": {"arms": {"a": "X", "b": "Y"}, "window_days": [3, 1]}}, ("treatment",), "from <= to"),
        (
            {"outcome": {"codes": "OUT", "horizon_days": 1, "competing": ["OUT"]}},
            ("outcome",),
            "OUT of competing is also meant by OUT of codes",
        ),
        ({"eligibility": {"age_years": {"min": 80, "max": 18}}}, ("eligibility", "age_years"), "min 80 and max 18"),
        ({"eligibility": {"age_years": {}}}, ("eligibility", "age_years"), "give min, max or both"),
        (
            {"eligibility": {"require": [{"code": "A", "window_days": [-30, 1]}]}},
            ("eligibility", "require", 0, "window_days", 1),
            "less than or equal to 0",
        ),
        (
            {"measures": [{"name": "CD4 gain", "code": "A", "at_days": 1, "within_days": 1}]},
            ("measures", 0, "name"),
            "pattern",
        ),
        ({"measures": [{"name": "m", "code": "A", "at_days": 1, "within_days": 1}] * 2}, (), "two measures"),
    ],
)
def test_errors_name_place_and_rule(change: dict[str, Any], place: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        CohortSection.model_validate({**GOOD, **change})
    (only,) = error.value.errors()
    assert only["loc"] == place
    assert message in only["msg"]


def test_one_code_or_several() -> None:
    several = {"index": {"codes": ["INDEX"]}, "outcome": {"code": "OUT*", "horizon_days": 365}}
    assert CohortSection.model_validate(several) == CohortSection.model_validate(GOOD)


def test_a_section_survives_json() -> None:
    split = {"by": "calendar", "boundaries": ["2020-01-01", "2021-01-01"]}
    section = CohortSection.model_validate({**GOOD, "split": split})
    assert CohortSection.model_validate_json(section.model_dump_json()) == section


def test_every_field_says_what_it_is() -> None:
    models = [m for m in vars(definition).values() if isinstance(m, type) and issubclass(m, BaseModel)]
    silent = [f"{m.__name__}.{n}" for m in models for n, field in m.model_fields.items() if not field.description]
    assert len(models) > 5
    assert silent == []
