"""Decisions taken again and again for a patient: what a policy for them is worth, by episodes that were logged."""

from __future__ import annotations

from careloop.plan.policy.repeated.episodes import Episodes, episodes_of, logged_probabilities, states_of_features
from careloop.plan.policy.repeated.value import RepeatedValue, value_of_repeated

__all__ = [
    "Episodes",
    "RepeatedValue",
    "episodes_of",
    "logged_probabilities",
    "states_of_features",
    "value_of_repeated",
]
