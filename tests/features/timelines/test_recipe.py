"""A recipe as JSON, and tokens in words."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from careloop import InputError
from careloop.features.timelines import TimelineRecipe, TimelinesSection, Token
from careloop.models.sequence.arrays import FIRST_CODE, UNKNOWN

RECIPE = TimelineRecipe(
    (
        Token("LAB", None, "Creatinine", 12, "mg/dL", (0.1, 1 / 3), 0.2, 0.1),
        Token("ICD10CM//K74.60", ancestors=(6,)),
        Token("ICD10CM//K00-K95"),
        Token("LAB", "high", "Creatinine", ancestors=(FIRST_CODE,)),
    ),
    TimelinesSection(codes=("LAB*",), exclude_codes=("X",), quantiles=3, text_encoder="/models/notes"),
    rolled_up={"LOCAL//1": 6},
    notes=("one",),
    training_subjects=12,
)


def test_a_recipe_survives_json() -> None:
    assert TimelineRecipe.from_json(RECIPE.to_json()) == RECIPE
    newer = RECIPE.to_json().replace('"format": 1', '"format": 2')
    with pytest.raises(InputError, match="reads format 1, got 2; install a newer careloop"):
        TimelineRecipe.from_json(newer)
    for broken in ("", "[]", "{}", '{"format": 1, "tokens": [{"nam": 1}]}', '{"format": "x"}'):
        with pytest.raises(InputError, match="not one of careloop's"):
            TimelineRecipe.from_json(broken)


def test_tokens_in_words() -> None:
    names = ["nothing", "unknown code", "hidden", "prediction time", "Creatinine", "K74.60"]
    assert [RECIPE.words(n) for n in range(8)] == [*names, "diseases of the digestive system", "Creatinine: high"]
    for outside in (-1, 8):
        with pytest.raises(InputError, match="token must be 0 to 7"):
            RECIPE.words(outside)


def test_the_token_of_an_event() -> None:
    assert RECIPE.number_of("LAB", "high") == 7
    assert RECIPE.number_of("LAB", "low") == RECIPE.number_of("LAB") == 4
    assert RECIPE.number_of("LOCAL//1") == RECIPE.number_of("ICD10CM//K70.3") == 6
    assert RECIPE.number_of("LOCAL//2") == UNKNOWN


@pytest.mark.parametrize(
    "wrong",
    [{"codes": ["A*B"]}, {"exclude_codes": ["*"]}, {"quantiles": 51}, {"quantiles": 1}, {"most_events": 0}, {"x": 1}],
)
def test_a_section_with_a_slip_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises((InputError, ValidationError)):
        TimelinesSection.model_validate(wrong)
