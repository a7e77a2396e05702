"""The models section: defaults, names, references beside networks, and what it refuses."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from careloop import InputError
from careloop.train import ModelSection, SearchRange, TrainingData, TuningSection, default_models, with_references


def test_the_default_is_the_five_named_models() -> None:
    assert [m.name for m in default_models()] == [
        "logistic_regression", "lightgbm", "fully_connected", "cox", "boosted_hazard",
    ]  # fmt: skip


def test_a_name_is_taken_from_the_kind_and_kept_if_given() -> None:
    assert ModelSection(kind="sklearn.ensemble.RandomForestClassifier").name == "RandomForestClassifier"
    assert ModelSection(kind="cox", name="ridge").name == "ridge"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "lightgmb"}, "neither one of"),
        ({"kind": "cox", "name": "../cox"}, "folder name"),
        ({"kind": "cox", "paramters": {}}, "Extra inputs"),
        ({"kind": "cox", "tuning": {"trials": 0}}, "greater than or equal to 1"),
        ({"kind": "cox", "tuning": {"space": {}}}, "names no parameter"),
        ({"kind": "cox", "tuning": {"space": {"l2": {"low": 1, "high": 0}}}}, "low must be below high"),
        ({"kind": "cox", "tuning": {"space": {"l2": {"low": 0, "high": 1, "scale": "log"}}}}, "above 0 on a log scale"),
        ({"kind": "cox", "tuning": {"space": {"l2": {"low": 0}}}}, "either low and high, or choices"),
    ],
)
def test_a_wrong_section_is_refused_with_the_rule(values: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelSection(**values)


def test_references_are_added_beside_a_network_only() -> None:
    cox = ModelSection(kind="cox")
    assert with_references([cox]) == ([cox], [])
    network = ModelSection(kind="fully_connected")
    sections, notes = with_references([network, ModelSection(kind="lightgbm", name="trees")])
    assert [s.name for s in sections] == ["logistic_regression", "fully_connected", "trees"]
    assert len(notes) == 1
    assert "logistic_regression was added" in notes[0]


def test_a_hazard_network_is_a_network() -> None:
    sections, notes = with_references([ModelSection(kind="hazard_network"), ModelSection(kind="cox")])
    assert [s.name for s in sections] == ["logistic_regression", "lightgbm", "hazard_network", "cox"]
    assert len(notes) == 2


def test_an_added_reference_does_not_take_a_name_in_use() -> None:
    sections, _ = with_references([ModelSection(kind="fully_connected", name="lightgbm")])
    names = [s.name for s in sections]
    assert len(set(names)) == len(names) == 3


def test_every_field_is_described() -> None:
    for section in (ModelSection, TuningSection, SearchRange):
        assert all(field.description for field in section.model_fields.values())


def test_rows_and_features_must_be_the_same_rows(data: TrainingData) -> None:
    with pytest.raises(InputError, match="same rows"):
        TrainingData(data.rows.reverse(), data.matrix, data.recipe, data.horizon_days, 1)
    with pytest.raises(InputError, match="follow_up_days"):
        TrainingData(data.rows.drop("follow_up_days"), data.matrix, data.recipe, data.horizon_days, 1)
    with pytest.raises(InputError, match=r"recipe\.keep"):
        TrainingData(data.rows, data.matrix, data.recipe.keep(data.matrix.names[:2]), data.horizon_days, 1)
