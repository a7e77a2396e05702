"""A study file's YAML with the line of every value, so that a mistake is reported where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from careloop import InputError

Location = tuple[str | int, ...]


def example_study(name: str) -> Path:
    """The study file of a published example, as it comes with the package; InputError for an unknown name."""
    folder = Path(__file__).parents[1] / "studies"
    if not (folder / f"{name}.yaml").is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        raise InputError(f"example must be one of {known}, got {name}")
    return folder / f"{name}.yaml"


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[Location, int]]:
    """Return the file's mapping, and the line (from 1) of each location in it, such as ("cohort", "index", "code").

    Raises InputError when the file is missing, is not YAML, repeats a key, or is not a mapping.
    """
    if not path.is_file():
        raise InputError(f"study file {path} does not exist; `careloop new {path}` writes one to start from")
    try:
        tree = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise InputError(f"{path}, line {mark.line + 1 if mark else '?'}: not valid YAML: {error.problem}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not a text file in UTF-8 with YAML in it ({error})") from None
    if not isinstance(tree, yaml.MappingNode):
        raise InputError(f"{path}: a study file is a mapping with keys such as name, cohort and models")
    lines: dict[Location, int] = {}
    _note_lines(tree, (), lines, path)
    return yaml.safe_load(path.read_text(encoding="utf-8")), lines


def _note_lines(node: yaml.Node, location: Location, lines: dict[Location, int], path: Path) -> None:
    lines.setdefault(location, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = (*location, key.value)
            if place in lines:
                raise InputError(f"{path}, line {key.start_mark.line + 1}: {key.value} is given twice; keep one")
            lines[place] = key.start_mark.line + 1
            _note_lines(value, place, lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            _note_lines(value, (*location, position), lines, path)


def explain_mistakes(error: ValidationError, model: type[BaseModel], path: Path, lines: Mapping[Location, int]) -> str:
    """Return the first mistake as one line (file, line, field, rule, allowed values) and how many more there are."""
    mistakes: dict[Location, list[ErrorDetails]] = {}
    # A misspelt key is also a missing one: what is written in the file is told first.
    for found in sorted(error.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden"):
        mistakes.setdefault(_written_location(found, lines), []).append(found)
    location, first = next(iter(mistakes.items()))
    field = ".".join(str(part) for part in location) or "the file"
    # A value that may have several types has one mistake for each.
    rule = ", or ".join(dict.fromkeys(_rule(found, model, location) for found in first))
    text = f"{path}, line {lines.get(_nearest(location, lines), 1)}: {field}: {rule}{_got(first[0])}"
    return text + (f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else "")


def _written_location(mistake: ErrorDetails, lines: Mapping[Location, int]) -> Location:
    """Return where the mistake stands in the file, without the names that pydantic adds for the branches of a union."""
    kept: Location = ()
    for part in mistake["loc"]:
        if (*kept, part) in lines:
            kept = (*kept, part)
    return (*kept, mistake["loc"][-1]) if mistake["type"] == "missing" else kept


def _nearest(location: Location, lines: Mapping[Location, int]) -> Location:
    while location and location not in lines:
        location = location[:-1]
    return location


def _rule(mistake: ErrorDetails, model: type[BaseModel], location: Location) -> str:
    if mistake["type"] == "extra_forbidden":
        allowed = _fields_at(model, location[:-1])
        near = get_close_matches(str(location[-1]), allowed, n=1)
        meant = f" did you mean {near[0]}?" if near else ""
        return f"is not a known key;{meant} allowed: {', '.join(allowed)}"
    if mistake["type"] == "missing":
        return "is required and missing"
    message = mistake["msg"].removeprefix("Value error, ")
    return message[0].lower() + message[1:]


def _got(mistake: ErrorDetails) -> str:
    value = mistake["input"]
    named = mistake["type"] in {"extra_forbidden", "missing"}
    return f", got {value!r}" if not named and isinstance(value, str | int | float | None) else ""


def _fields_at(model: type[BaseModel], location: Location) -> list[str]:
    """Return the keys allowed at a location, following the models' own annotations."""
    models = [model]
    for part in location:
        if isinstance(part, str):
            fields = (m.model_fields[part].annotation for m in models if part in m.model_fields)
            models = [found for annotation in fields for found in _models_in(annotation)]
    return sorted({key for m in models for key in m.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]
