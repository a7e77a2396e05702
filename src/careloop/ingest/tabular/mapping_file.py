"""A mapping file (YAML) as a checked Mapping; what is wrong with it is said in one line with its place and remedy."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from careloop import InputError
from careloop.ingest.tabular.mapping import Deleted, Event, Mapping, Reading, Table, TimeOf

_KEYS = sorted({"tables", "defaults"}.union(*(model.model_fields for model in (Table, Event, TimeOf, Deleted))))
_MEANT = "did you mean"
_STATIC = ("literal['static']",)  # one of two ways to give a time: what is wrong is said of the other
_DEFAULTS = set(Reading.model_fields)


class _Loader(yaml.BaseLoader):
    """YAML where every scalar is the text that is written, so that `no`, `0123` and `1e5` stay as they are."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.MarkedYAMLError(problem=f"the key {twice!r} is there twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def read_mapping(file: Path) -> Mapping:
    """Read a mapping file.

    Raises:
        InputError: no such file, no YAML, an unknown or missing key, or a value that cannot be meant.
    """
    try:
        text = Path(file).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{file}: no such mapping file; write a first one with --suggest") from None
    except (OSError, ValueError):
        raise InputError(f"{file}: the mapping cannot be read; it must be a YAML file in UTF-8") from None
    return parse_mapping(text, where=str(file))


def parse_mapping(text: str, *, where: str = "mapping") -> Mapping:
    """Read a mapping from its text; `where` names it in errors.

    Raises:
        InputError: as `read_mapping`.
    """
    content = _content(text, where)
    defaults, tables = content.pop("defaults", None) or {}, content.get("tables")
    if tables in ("", {}):
        raise InputError(f"{where}: tables: there is none; describe one (a suggestion says what it could not find)")
    if not isinstance(defaults, dict) or not set(defaults) <= _DEFAULTS:
        raise InputError(f"{where}: defaults: may hold only {', '.join(sorted(_DEFAULTS))}; move the rest to a table")
    if isinstance(tables, dict):
        content["tables"] = {
            name: {**defaults, **table} if isinstance(table, dict) else table for name, table in tables.items()
        }
    try:
        return Mapping.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{where}: {_first(error)}") from None
    except RecursionError:
        raise InputError(f"{where}: the mapping refers to itself; write it without aliases (*name)") from None


def _content(text: str, where: str) -> dict[str, Any]:
    try:
        content = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{where}{line}: no YAML: {_one_line(error.problem)}; correct it") from None
    except (yaml.YAMLError, RecursionError, ValueError, TypeError):
        raise InputError(f"{where}: no YAML file; write one with --suggest") from None
    if not isinstance(content, dict):
        raise InputError(f"{where}: must hold the key `tables`; write a first mapping with --suggest")
    return content


def _first(error: ValidationError) -> str:
    """The first thing that is wrong, a misspelled key before what it leaves missing: where, what, remedy."""
    errors = error.errors(include_url=False, include_context=False)
    found = [each for each in errors if each["loc"][-1:] != _STATIC] or errors
    told = [_told(each["type"], each["loc"], each["msg"]) for each in found]
    return next((each for each in told if _MEANT in each), told[0])


def _told(kind: str, place: tuple[int | str, ...], message: str) -> str:
    steps = [_one_line(str(step)) for step in place if step != "TimeOf"]
    where = ".".join(steps) or "mapping"
    if kind == "extra_forbidden":
        near = [key for key in get_close_matches(steps[-1], _KEYS, n=2) if key != steps[-1]]
        remedy = f"{_MEANT} {near[0]}?" if near else "remove it or move it where it belongs"
        return f"{where}: unknown key here; {remedy}"
    if kind == "missing":
        return f"{where}: is missing; add it"
    return f"{where}: {_one_line(message.removeprefix('Value error, '))}"


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())[:300]
