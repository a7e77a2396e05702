"""The plan section refuses what it does not know, and speaks of one kind of goal only."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from careloop.plan import EventGoal, MeasureGoal, PlanSection


def test_defaults_and_both_kinds_of_goal() -> None:
    assert PlanSection().goals == (EventGoal(event="outcome"),)
    section = PlanSection.model_validate({"goals": [{"measure": "cd4", "better": "higher"}, {"event": "outcome"}]})
    assert section.goals == (MeasureGoal(measure="cd4", better="higher"), EventGoal(event="outcome"))
    assert [goal.better for goal in section.goals] == ["higher", "lower"]


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"goals": []}, ("goals",)),
        ({"goals": [{"event": "death"}]}, ("goals", 0, "event", "event")),
        ({"goals": [{"measure": "cd4"}]}, ("goals", 0, "measure", "better")),
        ({"folds": 1}, ("folds",)),
        ({"assignment": "random"}, ("assignment",)),
        ({"arms": {}}, ("arms",)),
    ],
)
def test_mistakes_are_placed(content: dict[str, object], place: tuple[object, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        PlanSection.model_validate(content)
    assert [error["loc"] for error in caught.value.errors()] == [place]


def test_every_field_is_described() -> None:
    for model in (PlanSection, EventGoal, MeasureGoal):
        assert all(field.description for field in model.model_fields.values())
