"""What the `trial` section allows, and what it says about the rest."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from careloop import InputError
from careloop.cohort import CohortSection
from careloop.plan.trial.definition import Strategy, TrialSection, check_trial

NEVER, START = {"never": "A"}, {"start": "A", "within_days": 60}
COHORT: dict[str, Any] = {"index": {"code": "INDEX"}, "outcome": {"codes": "OUTCOME", "horizon_days": 180}}


def test_codes_and_treatments_are_each_named_once() -> None:
    staying = {"start": ["A", "B"], "within_days": 30, "not_stopping": "END//A", "never": "C"}
    section = TrialSection.model_validate({"strategies": {"a": {"never": "A"}, "b": START, "c": staying}})
    assert section.codes == ("A", "B", "C", "END//A")
    assert section.treatments == (("A",), ("A", "B"), ("C",))
    assert section.reference_name == "a"
    assert ("strategies.c.not_stopping", "END//A") in list(section.named_codes())


def test_a_strategy_reads_like_a_protocol() -> None:
    strategy = Strategy.model_validate({"start": ["A", "B"], "within_days": 30, "not_stopping": "S", "never": "C"})
    assert strategy.words == "start A or B within 30 days, stay on it, never start C"
    assert Strategy.model_validate({"start": "A"}).words == "start A at time zero"


@pytest.mark.parametrize(
    ("strategies", "more", "words"),
    [
        ({"a": NEVER, "b": {}}, {}, "give start, never or both"),
        ({"a": NEVER, "b": {"never": "B", "within_days": 30}}, {}, "within_days belongs to a treatment"),
        ({"a": NEVER, "b": {"never": "B", "not_stopping": "S"}}, {}, "not_stopping belongs to a treatment"),
        ({"a": NEVER, "b": {"start": "A", "never": "A"}}, {}, "A cannot be started and never started"),
        ({"a": NEVER}, {}, "at least 2"),
        ({"a": NEVER, "b": NEVER}, {}, "a and b are the same"),
        ({"a": NEVER, "b": START}, {"reference": "c"}, "one of the strategies a, b, got c"),
        ({"a": NEVER, "b": START}, {"interval_days": 45}, "whole multiple of interval_days 45, got 60"),
        ({"a": NEVER, "b": START}, {"interval": 30}, "Extra inputs"),
    ],
)
def test_mistakes_are_told(strategies: dict[str, Any], more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TrialSection.model_validate({"strategies": strategies, **more})


def test_a_grace_period_may_be_a_multiple_of_a_fraction() -> None:
    strategies = {"a": NEVER, "b": {"start": "A", "within_days": 0.3}}
    TrialSection.model_validate({"strategies": strategies, "interval_days": 0.1})


@pytest.mark.parametrize(
    ("cohort", "more", "words"),
    [
        ({"treatment": {"arms": {"a": "A", "b": "B"}}}, {}, "must not be chosen by later treatment"),
        ({"index": {"code": "INDEX", "which": "last"}}, {}, "use first or every"),
        ({"outcome": {"codes": "OUTCOME", "horizon_days": 30}}, {}, "within the horizon of 30 days, got 60"),
        ({}, {"interval_days": 0.1}, "at most 400"),
    ],
)
def test_the_cohort_must_allow_a_trial(cohort: dict[str, Any], more: dict[str, Any], words: str) -> None:
    section = TrialSection.model_validate({"strategies": {"a": NEVER, "b": START}, **more})
    with pytest.raises(InputError, match=words):
        check_trial(section, CohortSection.model_validate(COHORT | cohort))


def test_an_ordinary_cohort_passes() -> None:
    section = TrialSection.model_validate({"strategies": {"a": NEVER, "b": START}})
    check_trial(section, CohortSection.model_validate(COHORT))
