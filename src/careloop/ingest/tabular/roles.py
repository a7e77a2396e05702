"""What each column of a table is for, from its name and its content together."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from careloop.ingest.tabular.contents import Content, content_of
from careloop.ingest.tabular.header_words import role_of, vocabulary_in, words_of

DATED = ("birth", "death", "known", "admission", "discharge", "version", "end", "time")  # roles that need dates
WHOLE = 1000
YEARS = (1850, 2149)


@dataclass
class Roles:
    """Columns, called as the file writes them, by role, the surest first; and the `content` of each.

    Those without a role are in `rest`.
    """

    content: dict[str, Content]
    by_role: dict[str, list[str]] = field(default_factory=dict)

    def first(self, role: str) -> str | None:
        """The column that is surest to have the role."""
        return next(iter(self.by_role.get(role, ())), None)

    def all(self, *roles: str) -> list[str]:
        """All columns with one of the roles, in the order of the table."""
        found = {name for role in roles for name in self.by_role.get(role, ())}
        return [name for name in self.content if name in found]

    def move(self, names: list[str], role: str) -> None:
        """Give columns another role."""
        for named in self.by_role.values():
            named[:] = [name for name in named if name not in names]
        self.by_role.setdefault(role, []).extend(names)


def roles_of(rows: pl.DataFrame, decimal: str, thousands: str | None, headings: dict[str, str]) -> Roles:
    """Look at all columns; those whose names a file lacks (they begin with NUL) are left out."""
    names = [name for name in rows.columns if not name.startswith("\0")]
    found = {headings.get(name, name): content_of(rows[name], decimal, thousands) for name in names}
    roles = Roles(found)
    weighed: dict[str, list[tuple[int, str]]] = {}
    for name, content in roles.content.items():
        role, weight = _role(name, content)
        weighed.setdefault(role, []).append((-weight, name))
    roles.by_role = {role: [name for _, name in sorted(found, key=lambda w: w[0])] for role, found in weighed.items()}
    _settle(roles)
    return roles


def _role(name: str, content: Content) -> tuple[str, int]:
    named = role_of(name)
    role, weight = (named.role, named.weight) if named else ("rest", 0)
    if content.kind == "empty":
        return "empty", 0
    if role in DATED and not is_date(content, role):
        role = {"death": "outcome"}.get(role, "rest")
    if content.kind == "clock":
        return "clock", weight
    if role == "rest" and content.kind == "date":
        return "date", 0
    if content.kind == "code" and role not in {"subject", "private"}:
        return "code", WHOLE + 1
    if role == "code" and content.kind == "number" and not vocabulary_in(name) and not _is_identifier(content):
        return "rest", 0
    if role == "value" and content.kind == "date":
        return "date", 0
    if role == "rest" and content.kind == "prose":
        return "text", 0
    return role, weight


def _is_identifier(content: Content) -> bool:
    return content.low >= 0 and float(content.low).is_integer() and float(content.high).is_integer()


def is_date(content: Content, role: str) -> bool:
    """True for dates; also for years of birth, and counts of seconds or days that lie in this age."""
    if content.kind == "date":
        return True
    if content.kind != "number":
        return False
    is_year = YEARS[0] <= content.low and content.high <= YEARS[1]
    return (is_year and role in {"birth", "death"}) or count_format(content) is not None


def count_format(content: Content) -> str | None:
    """The format of times that are written as a number."""
    for form, low, high in (
        ("excel", 14_000, 73_000),
        ("epoch", 3e8, 4.2e9),
        ("milliseconds since 1970-01-01", 3e11, 4.2e12),
    ):
        if content.kind == "number" and content.low >= low and content.high <= high:
            return form
    return None


def _settle(roles: Roles) -> None:
    """One column each for what a table has once; the others are what is left."""
    for role in ("subject", "unit", "value", "description", "vocabulary", "deleted", "sex"):
        others = roles.by_role.get(role, [])[1:]
        if others:
            roles.move(others, "key" if role == "subject" else "rest")
    if not roles.first("subject"):
        # A column that is called only "id" is the patient's more often than the row's; the suggestion asks.
        roles.move([name for name in roles.by_role.get("key", []) if words_of(name) == ["id"]][:1], "subject")
    for role in ("death", "birth", "known", "version"):
        others = roles.by_role.get(role, [])[1:]
        if others:
            roles.move(others, "date")
    if not roles.first("code") and roles.first("description") and roles.first("value"):
        roles.move(roles.by_role["description"], "code")
    if not roles.first("time") and not roles.all("admission"):
        dated = list(roles.by_role.get("date", []))
        if not dated and roles.all("code", "value"):
            # Of measurements or diagnoses, the only dates are when they were made, whatever the column is called.
            dated = [name for name in roles.by_role.get("rest", []) if roles.content[name].kind == "date"]
        if len(dated) == 1:
            roles.move(dated, "time")
