"""Read an ACES task file (Automatic Cohort Extraction System, es-aces 0.7) into a checked, ordered task."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import polars as pl
import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    StringConstraints,
    Tag,
    ValidationError,
    model_validator,
)

from careloop import InputError

TRIGGER = "trigger"
ANY_EVENT = "_ANY_EVENT"
RECORD_START = "_RECORD_START"
RECORD_END = "_RECORD_END"
SPECIAL_PREDICATES = {ANY_EVENT, RECORD_START, RECORD_END}

_REFERENCE = re.compile(r"trigger|start|end|\w+\.(start|end)")
_UNITS = {
    "weeks": "w|wks?|weeks?",
    "days": "d|dys?|days?",
    "hours": "h|hrs?|hours?",
    "minutes": "m|mins?|minutes?",
    "seconds": "s|secs?|seconds?",
}
_DURATION = re.compile(
    "".join(rf"(?:(?P<{unit}>\d+(?:\.\d+)?)\s*(?:{spelling})\s*[,/]?\s*)?" for unit, spelling in _UNITS.items()), re.I
)


@dataclass(frozen=True)
class Code:
    """The codes that a predicate counts: those listed, or those in which `regex` (Rust's syntax) finds a match."""

    listed: tuple[str, ...] = ()
    regex: str | None = None


@dataclass(frozen=True)
class Bound:
    """One end of a window: `reference` moved by `delta`, or the nearest event of `predicate` in `direction` from it."""

    reference: str
    delta: timedelta = timedelta(0)
    predicate: str | None = None
    direction: Literal["forward", "backward"] = "forward"


def _code(code: Any) -> Code:
    """Read `CODE`, `{any: [CODES]}` or `{regex: PATTERN}`."""
    how, value = next(iter(code.items())) if isinstance(code, dict) and len(code) == 1 else ("any", [code])
    if how == "any" and isinstance(value, list) and value and all(isinstance(item, str) and item for item in value):
        return Code(listed=tuple(value))
    if how != "regex" or not isinstance(value, str) or not value:
        raise ValueError(f"write one code as (quoted) text, {{any: [codes]}} or {{regex: pattern}}; got {code!r}")
    try:
        pl.Series([""]).str.contains(value)
    except pl.exceptions.ComputeError:
        raise ValueError(f"{value!r} is no regular expression in Rust's syntax; correct it") from None
    return Code(regex=value)


def _duration(text: str) -> timedelta:
    parts = _DURATION.fullmatch(text)
    amounts = {unit: float(amount) for unit, amount in parts.groupdict().items() if amount} if parts else {}
    length = timedelta(**amounts)
    if not amounts or length.microseconds:
        raise ValueError(f"write whole seconds in w, d, h, m, s, the largest first, such as `1 day 12h`; got {text!r}")
    return length


def _bound(text: Any) -> Bound:
    """Read `R`, `R + duration`, `R - duration`, `R -> predicate` or `R <- predicate`."""
    parts = re.split(r"(->|<-|\+|-)", text, maxsplit=1) if isinstance(text, str) else [""]
    reference = parts[0].strip()
    if not _REFERENCE.fullmatch(reference):
        raise ValueError(
            f"it must start with trigger, start, end, WINDOW.start or WINDOW.end, or be null; got {text!r}"
        )
    if len(parts) == 1:
        return Bound(reference)
    sign, operand = parts[1], parts[2].strip()
    if sign in ("->", "<-"):
        return Bound(reference, predicate=operand, direction="forward" if sign == "->" else "backward")
    return Bound(reference, delta=_duration(operand) * (1 if sign == "+" else -1))


def _start(text: Any) -> Bound:
    return Bound("end", predicate=RECORD_START, direction="backward") if text is None else _bound(text)


def _end(text: Any) -> Bound:
    return Bound("start", predicate=RECORD_END) if text is None else _bound(text)


def _limits(text: Any) -> tuple[int | None, int | None]:
    """Read `(least, greatest)`, None or nothing where a side is open."""
    parts = [part.strip() for part in text.strip("() ").split(",")] if isinstance(text, str) else []
    if len(parts) != 2 or not all(re.fullmatch(r"-?\d+|None|", part) for part in parts):
        raise ValueError(f"write `(least, greatest)`, None where a side is open; got {text!r}")
    least, greatest = (None if part in ("None", "") else int(part) for part in parts)
    if (least is None and greatest is None) or (least is not None and greatest is not None and greatest < least):
        raise ValueError(f"give at least one side, and the lesser first; got {text!r}")
    return least, greatest


class PlainPredicate(BaseModel):
    """Counts facts by code, by value and by the columns named in `other_cols` or as further keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    code: Annotated[Code, BeforeValidator(_code)]
    value_min: float | None = None
    value_max: float | None = None
    value_min_inclusive: bool | None = None
    value_max_inclusive: bool | None = None
    static: bool = False
    other_cols: dict[str, str | int | float | bool] = {}
    __pydantic_extra__: dict[str, str | int | float | bool]

    @property
    def columns(self) -> dict[str, str | int | float | bool]:
        """Columns of the events and the values that they must have."""
        return {**self.other_cols, **(self.model_extra or {})}


class DerivedPredicate(BaseModel):
    """Holds at a moment at which all (`and`) or any (`or`) of its input predicates occur."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    expr: Annotated[str, StringConstraints(pattern=r"^(and|or)\([^,()]+(,[^,()]+)+\)$")]
    static: bool = False

    @property
    def combine(self) -> str:
        """`and` or `or`."""
        return self.expr.split("(")[0]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the input predicates."""
        return tuple(name.strip() for name in self.expr[len(self.combine) + 1 : -1].split(","))


class Window(BaseModel):
    """A stretch of a subject's time; `has` gives the least and the greatest allowed count of each predicate in it."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    start: Annotated[Bound, BeforeValidator(_start)]
    end: Annotated[Bound, BeforeValidator(_end)]
    start_inclusive: bool
    end_inclusive: bool
    has: dict[str, Annotated[tuple[int | None, int | None], BeforeValidator(_limits)]] = {}
    label: str | None = None
    index_timestamp: Literal["start", "end"] | None = None

    @property
    def sides(self) -> tuple[Literal["start", "end"], Literal["start", "end"]]:
        """The root first: the side that hangs on the trigger or on another window; the other side hangs on the root."""
        return ("end", "start") if self.start.reference == "end" else ("start", "end")

    @property
    def parent(self) -> str:
        """The moment that the root refers to: `trigger`, `WINDOW.start` or `WINDOW.end`."""
        return (self.start if self.sides[0] == "start" else self.end).reference

    @property
    def uses(self) -> set[str]:
        """The predicates that its bounds, its constraints and its label name."""
        return {name for name in (self.start.predicate, self.end.predicate, self.label, *self.has) if name}

    @model_validator(mode="after")
    def _check(self) -> Window:
        start, end = self.start, self.end
        if (start.reference == "end") == (end.reference == "start") or self.parent in ("start", "end"):
            raise ValueError("one of start and end must refer to the other, and that to the trigger or another window")
        far, direction, sign = (end, "forward", 1) if self.sides[0] == "start" else (start, "backward", -1)
        if (far.predicate and far.direction != direction) or far.delta * sign < timedelta(0):
            raise ValueError("start must precede end; use `start + ..`, `start -> ..`, `end - ..` or `end <- ..`")
        if not far.predicate and not far.delta and (self.has or self.label or self.index_timestamp):
            raise ValueError(
                "it has no extent, where ACES ignores `has` and fails on label and index_timestamp; give it one"
            )
        if self.index_timestamp and far.delta < timedelta(0):
            raise ValueError(
                "ACES swaps start and end where start is `end - ..`; move index_timestamp to another window"
            )
        nowhere = {(RECORD_START, "forward"), (RECORD_END, "backward")}
        if nowhere & {(bound.predicate, bound.direction) for bound in (start, end)}:
            raise ValueError(f"nothing lies before {RECORD_START} or after {RECORD_END}; turn the arrow round")
        return self


def _kind_of_predicate(entry: Any) -> str:
    return "derived" if isinstance(entry, dict) and "expr" in entry else "plain"


_Name = Annotated[str, StringConstraints(pattern=r"^\w+$")]
_Predicate = Annotated[
    Annotated[PlainPredicate, Tag("plain")] | Annotated[DerivedPredicate, Tag("derived")],
    Discriminator(_kind_of_predicate),
]


class _TaskFile(BaseModel):
    """The file's own sections."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    description: Any = None
    metadata: Any = None
    predicates: dict[_Name, _Predicate] = {}
    patient_demographics: dict[_Name, PlainPredicate] = {}
    trigger: str
    windows: dict[_Name, Window] | None = None


@dataclass(frozen=True)
class AcesTask:
    """A task file as read: the predicates it uses (inputs first), its trigger, its windows by name (parents first).

    `prediction_time` names the moment (`WINDOW.start` or `WINDOW.end`) that is each row's prediction_time,
    `label_window` the window whose label's presence is the row's boolean_value, `static` the predicates that every
    subject must have.
    """

    path: Path
    predicates: Mapping[str, PlainPredicate | DerivedPredicate]
    static: tuple[str, ...]
    trigger: str
    windows: Mapping[str, Window]
    prediction_time: str
    label_window: str | None

    @property
    def uses(self) -> set[str]:
        """The predicates that the trigger and the windows name, special ones included."""
        return {self.trigger}.union(*(window.uses for window in self.windows.values()))


def is_aces(path: Path) -> bool:
    """Whether a YAML file looks like an ACES task file: it has a trigger, which no study file has."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    return isinstance(content, dict) and "trigger" in content


def read_aces(path: Path) -> AcesTask:
    """Read and check one ACES task file.

    The format is ACES's "Configuration Language Specification" (https://eventstreamaces.readthedocs.io) as es-aces
    0.7.3 reads it: a window needs start, end, start_inclusive and end_inclusive; a key of a predicate that ACES does
    not know is a condition on the column of that name.

    Raises:
        InputError: for what ACES refuses or fails on, and for what it accepts but gets wrong: `index_timestamp` on a
            window that starts at `end - ..` (it swaps the two), `has` on a window without extent (it ignores it). A
            file without `index_timestamp` is refused too, as its rows would have no prediction_time.

    """
    file = _read_sections(path)
    windows = file.windows or {}
    indexed = _only_one(path, windows, "index_timestamp")
    if indexed is None:
        _refuse(path, "windows", "the rows have no prediction_time; add `index_timestamp: end` to the input window")
    predicates = {**file.predicates, **file.patient_demographics}
    used = {file.trigger}.union(*(window.uses for window in windows.values()))
    ordered = _in_use(path, predicates, used - SPECIAL_PREDICATES | set(file.patient_demographics))
    static = tuple(name for name in ordered if name in file.patient_demographics or ordered[name].static)
    for name in sorted(used.intersection(static)):
        _refuse(
            path,
            f"predicates.{name}",
            "a static predicate selects subjects; it cannot be trigger, bound, constraint or label",
        )
    return AcesTask(
        path=path,
        predicates=ordered,
        static=static,
        trigger=file.trigger,
        windows=_parents_first(path, windows),
        prediction_time=f"{indexed}.{windows[indexed].index_timestamp}",
        label_window=_only_one(path, windows, "label"),
    )


class _TaskLoader(yaml.SafeLoader):
    """YAML as ACES reads it (1.2): only true and false are booleans, so that `code: NO` is text; no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [str(key.value) for key, _ in node.value]
        if len(set(keys)) < len(keys):
            raise yaml.constructor.ConstructorError(None, None, "a key occurs twice in this block", node.start_mark)
        return super().construct_mapping(node, deep=True)


_BOOLEAN = "tag:yaml.org,2002:bool"
_TaskLoader.yaml_implicit_resolvers = {
    first: [rule for rule in rules if rule[0] != _BOOLEAN]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_TaskLoader.add_implicit_resolver(_BOOLEAN, re.compile("^(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


_ADVICE = {
    "missing": "this key is needed; add it",
    "extra_forbidden": "ACES has no such key here; remove it or correct its name",
    "model_type": "a block of `key: value` lines is needed; write one",
    "dict_type": "a block of `key: value` lines is needed; write one",
    "string_pattern_mismatch": "write a name in letters, digits and _, an expr as `and(a, b, ..)` or `or(a, b, ..)`",
}


def _refuse(path: Path, where: str, message: str) -> NoReturn:
    raise InputError(f"{path}: {where}: {message}")


def _read_sections(path: Path) -> _TaskFile:
    try:
        return _TaskFile.model_validate(yaml.load(path.read_bytes(), Loader=_TaskLoader))
    except OSError as error:
        _refuse(path, "file", f"it cannot be read ({error.strerror}); give the path of an ACES task file")
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", "not UTF-8 text")
        _refuse(path, f"line {mark.line + 1}" if mark else "file", f"this is not YAML ({problem}); correct it there")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("plain", "derived", "[key]")) or "file"
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] != "value_error":
            message = _ADVICE.get(first["type"], f"{message}; got {first['input']!r}; correct it")
        _refuse(path, where, message)


def _only_one(path: Path, windows: Mapping[str, Window], key: str) -> str | None:
    """The name of the only window that has `key`, None if there is none."""
    having = [name for name, window in windows.items() if getattr(window, key)]
    if len(having) > 1:
        _refuse(path, "windows", f"only one window may have `{key}`; got {', '.join(having)}; remove it elsewhere")
    if having and windows[having[0]].label in SPECIAL_PREDICATES:
        _refuse(path, f"windows.{having[0]}.label", "a label must be a predicate of the file; define one")
    return having[0] if having else None


def _in_use(
    path: Path, predicates: Mapping[str, PlainPredicate | DerivedPredicate], used: set[str]
) -> dict[str, PlainPredicate | DerivedPredicate]:
    """The predicates in use, inputs before what derives from them."""
    graph: dict[str, tuple[str, ...]] = {}
    waiting = sorted(used)
    while waiting:
        name = waiting.pop()
        predicate = predicates.get(name)
        if predicate is None or name in ("subject_id", "time"):
            _refuse(path, f"predicates.{name}", "it is used but not defined (or called subject_id or time); define it")
        graph[name] = predicate.inputs if isinstance(predicate, DerivedPredicate) else ()
        waiting += [source for source in graph[name] if source not in graph]
    return {name: predicates[name] for name in _sorted(path, "predicates", graph)}


def _parents_first(path: Path, windows: Mapping[str, Window]) -> dict[str, Window]:
    graph = {name: {window.parent.split(".")[0]} - {TRIGGER} for name, window in windows.items()}
    for name, parents in graph.items():
        for parent in parents - set(windows):
            _refuse(
                path, f"windows.{name}", f"it refers to the window `{parent}`, which the file lacks; add or rename it"
            )
    return {name: windows[name] for name in _sorted(path, "windows", graph)}


def _sorted(path: Path, where: str, graph: Mapping[str, Iterable[str]]) -> list[str]:
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        _refuse(path, where, f"{' -> '.join(error.args[1])} refer to each other in a circle; break it")
