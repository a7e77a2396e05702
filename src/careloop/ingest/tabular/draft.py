"""The text of a suggested table: YAML lines, each with its comment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./%^()+-]*(?: [A-Za-z0-9_./%^()+-]+)*")


class Raw(str):
    """YAML that is not to be quoted again."""


@dataclass
class Draft:
    """Lines of a table: `keys` of its own, `events`, and `notes` on what was left out."""

    keys: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def key(self, name: str, value: str, *checks: str) -> None:
        """Add a key with its value, which is YAML already."""
        self.line(f"{name}: {value}{_check(*checks)}")

    def line(self, text: str) -> None:
        """Add a line as it is."""
        self.keys.append(text)

    def event(self, event: Mapping[str, object], *checks: str) -> None:
        """Add an event; columns and codes are quoted where YAML needs it."""
        self.events.append(f"- {flow(event)}{_check(*checks)}")

    def note(self, text: str) -> None:
        """Add a comment that ends the table."""
        self.notes.append(f"# {text}")

    def text(self, name: str) -> str:
        """The table as YAML."""
        lines = [*self.keys, "events:", *(f"  {event}" for event in self.events), *self.notes]
        return f"  {quoted(name)}:\n" + "".join(f"    {line}\n" for line in lines)

    def commented(self, name: str) -> str:
        """The table as a comment, where something is missing without which it cannot be read."""
        lines = self.text(name).removesuffix("\n").split("\n")
        return "".join(f"  # {line.removeprefix('  ')}\n" for line in lines)


def flow(value: object) -> str:
    """A value as YAML in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{quoted(str(key))}: {flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(flow, value)) + "]"
    return value if isinstance(value, Raw) else quoted(str(value))


def quoted(text: str) -> str:
    """A text as a YAML scalar (YAML 1.1, section 5.7): plain where it is safe, else in double quotes with escapes."""
    if _PLAIN.fullmatch(text):
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(sign: str) -> str:
    if sign in '"\\':
        return f"\\{sign}"
    if " " <= sign <= "~" or "\xa1" <= sign <= "\u2027" or "\u2030" <= sign <= "\ud7ff":
        return sign
    return f"\\U{ord(sign):08X}"


def _check(*checks: str) -> str:
    return f"  # check: {'; '.join(checks)}" if checks else ""
