"""A study file's mistakes are reported with their line, the rule and the allowed values."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from careloop import InputError
from careloop.study.file import explain_mistakes, read_yaml


class Window(BaseModel):
    model_config = ConfigDict(extra="forbid")
    days: int = Field(gt=0)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    which: Literal["first", "last"] = "first"
    windows: list[Window] = []
    spans: list[int | Literal["all"]] = []


def mistake(tmp_path: Path, text: str) -> str:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    content, lines = read_yaml(path)
    with pytest.raises(ValidationError) as caught:
        Section.model_validate(content)
    return explain_mistakes(caught.value, Section, path, lines).removeprefix(f"{path}, ")


def test_unknown_key_names_the_nearest_one(tmp_path: Path) -> None:
    assert mistake(tmp_path, "name: a\nwhihc: first\n") == (
        "line 2: whihc: is not a known key; did you mean which? allowed: name, spans, which, windows"
    )
    assert mistake(tmp_path, "name: a\nwindows:\n  - days: 3\n    dyas: 3\n") == (
        "line 4: windows.0.dyas: is not a known key; did you mean days? allowed: days"
    )


def test_value_out_of_range_is_at_its_own_line(tmp_path: Path) -> None:
    text = "name: a\nwindows:\n  - days: 3\n  - days: -3\n"
    assert mistake(tmp_path, text) == "line 4: windows.1.days: input should be greater than 0, got -3"


def test_allowed_values_are_listed(tmp_path: Path) -> None:
    assert (
        mistake(tmp_path, "name: a\nwhich: middle\n")
        == "line 2: which: input should be 'first' or 'last', got 'middle'"
    )


def test_union_branches_do_not_show(tmp_path: Path) -> None:
    told = mistake(tmp_path, "name: a\nspans: [3, x]\n")
    assert told.startswith("line 2: spans.1: input should be a valid integer")
    assert told.endswith(", or input should be 'all', got 'x'")


def test_missing_key_is_reported_at_its_parent(tmp_path: Path) -> None:
    assert mistake(tmp_path, "which: first\n") == "line 1: name: is required and missing"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [1\n", "line 2: not valid YAML"),
        ("- a\n- b\n", "a study file is a mapping"),
        ("name: a\nname: b\n", "line 2: name is given twice"),
    ],
)
def test_broken_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_yaml(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="careloop new"):
        read_yaml(tmp_path / "none.yaml")
