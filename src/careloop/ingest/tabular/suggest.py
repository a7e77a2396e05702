"""A first mapping for files that nobody has described, guessed from their columns, with what to check."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from careloop import InputError
from careloop.ingest.tabular.contents import signs_of
from careloop.ingest.tabular.draft import Draft, quoted
from careloop.ingest.tabular.files import Delivered, delivered_files
from careloop.ingest.tabular.guess import guess_people, guess_table, has_people_apart
from careloop.ingest.tabular.look import Looked, look_at
from careloop.ingest.tabular.mapping_file import parse_mapping
from careloop.ingest.tabular.roles import Roles, roles_of

_TOP = """\
# A first mapping, guessed from the names of the columns and the first rows of each file.
# Look at every line with "check:", correct what is wrong, remove what is not wanted. A column that is not named here
# is not stored.
# A table may also have: key, version, deleted, only, skip, known_time, columns, thousands, missing, origin, time_zone.
# An event has: code | code_column, vocabulary | vocabulary_column, codes, prefix, number | value | text,
# unit | unit_column, value_missing, asset, time (a column, or static), known_time, description | description_column.
# A time may be {column: [date, clock], format: day-first, time_zone: Europe/Berlin}; the format may also be iso,
# month-first, excel, epoch, "days since 2000-01-01" or a pattern such as "%d.%m.%y %H:%M".
defaults:
  time_zone: UTC  # check: the hospital's zone, such as Europe/Berlin; it counts where a time is written without one
tables:
"""
_ORDER = "TODO  # check: dates such as 03/04/2020 only: write day-first or month-first"


def suggest_mapping(paths: Sequence[Path]) -> str:
    """Return a first mapping file (YAML with comments) for the CSV, parquet and Excel files at the paths.

    The same files give the same text. It can be read as it is, unless no table has a column for the patient or the
    order of day and month cannot be told from the data: that is never guessed. No cell is repeated in it but the
    categories of a column for sex. Columns of names, addresses and free text are left out.

    Raises:
        InputError: nothing to read at a path; an Excel file, and the library that reads it is missing.
    """
    delivered = delivered_files(paths)
    text, names = _TOP, set[str]()
    for group in _groups([looked for each in delivered for looked in look_at(each)]):
        text += _table(group, delivered, names)
    return text


def _groups(tables: list[Looked]) -> list[list[Looked]]:
    """Files with the same columns and, but for digits, the same name are parts of one table."""
    groups: dict[object, list[Looked]] = {}
    for table in tables:
        stem = re.sub(r"[0-9]+", "#", _stem(table.each))
        key = (stem, table.sheet, tuple(table.sample.columns), tuple(table.written.items()), table.problem)
        groups.setdefault(key, []).append(table)
    return list(groups.values())


def _stem(each: Delivered) -> str:
    return re.sub(r"(\.(csv|tsv|txt|gz|parquet|xlsx|xlsm|xlsb|xls|ods))+$", "", Path(each.name).name.lower())


def _table(group: list[Looked], delivered: Sequence[Delivered], names: set[str]) -> str:
    first = group[0]
    files = ", ".join(quoted(table.each.name) for table in group)
    if first.problem:
        return f"  # check: left out: {files}: {first.problem}\n"
    decimal, thousands, doubt = signs_of(first.sample)
    roles = roles_of(first.sample, decimal, thousands, first.headings)
    keys = [*_written(group, delivered), *_signs(decimal, thousands, doubt, roles)]
    draft = Draft(list(keys))
    guess_table(draft, roles, first)
    text = _checked(draft, _name(group, names), roles)
    if has_people_apart(roles):
        people = Draft(list(keys))
        guess_people(people, roles)
        text += _checked(people, _name(group, names, "_people"), roles)
    return text


def _written(group: list[Looked], delivered: Sequence[Delivered]) -> Iterator[str]:
    """The keys that say where the rows stand and how."""
    yield f"files: {_pattern(group, delivered)}"
    if group[0].sheet:
        yield f"sheet: {quoted(group[0].sheet)}"
    for key, value in group[0].written.items():
        if key != "decimal":
            yield f"{key}: {quoted(value)}{_doubt(key, value)}"


def _checked(draft: Draft, name: str, roles: Roles) -> str:
    """The table, as a comment where it cannot be read as it is."""
    text = draft.text(name)
    return text if roles.first("subject") and _loads(text) else draft.commented(name)


def _doubt(key: str, value: str) -> str:
    if key != "header_rows":
        return ""
    if value == "0":
        return "  # check: the first row looks like data, so the columns are called column_1, column_2, ..."
    return f"  # check: a column's names in {value} header rows are joined"


def _signs(decimal: str, thousands: str | None, doubt: str, roles: Roles) -> Iterator[str]:
    if decimal != ".":
        yield f"decimal: {quoted(decimal)}"
    if thousands:
        yield f"thousands: {quoted(thousands)}"
    if doubt:
        yield f"# check: {doubt}"
    dates = {content.order for content in roles.content.values() if content.kind == "date" and not content.short_year}
    plain = [c for c in roles.content.values() if c.kind == "date" and c.order == "?" and not c.short_year]
    known = dates & {"day-first", "month-first"}
    if len(known) == 1:
        yield f"dates: {known.pop()}" + ("  # check: in some columns no day is above 12" if plain else "")
    elif len(known) == 2:
        yield f"dates: {_ORDER}; they differ between columns, which then need a format each"
    elif plain and all(content.sign == "." for content in plain):
        yield "dates: day-first  # check: no day is above 12; dates with points are nearly always written day first"
    elif plain:
        yield f"dates: {_ORDER}"


def _pattern(group: list[Looked], delivered: Sequence[Delivered]) -> str:
    """One pattern for all parts of a table, if no other file fits it; else their names."""
    names = [_exact(table.each.name) for table in group]
    if len(names) > 1:
        pattern = re.sub(r"[0-9]+", "*", names[0].lower())
        fitting = [each.name for each in delivered if fnmatch.fnmatchcase(each.name.lower(), pattern)]
        if len(fitting) == len(names):
            return quoted(pattern)
    return quoted(names[0]) if len(names) == 1 else f"[{', '.join(map(quoted, names))}]"


def _exact(name: str) -> str:
    """A pattern for one name."""
    return re.sub(r"([\[*?])", r"[\1]", name)


def _name(group: list[Looked], taken: set[str], ending: str = "") -> str:
    """A table's name: its file's, without the number of a part; it becomes part of what its rows are called."""
    stem = _stem(group[0].each)
    stem = re.sub(r"[-_. ]*[0-9]+$", "", stem) if len(group) > 1 else stem
    stem += f"_{group[0].sheet}" if group[0].sheet else ""
    plain = re.sub(r"[^\w-]+", "_", stem).strip("_").lower() or "table"
    plain += ending
    name, number = plain, 2
    while name in taken:
        name, number = f"{plain}_{number}", number + 1
    taken.add(name)
    return name


def _loads(text: str) -> bool:
    try:
        parse_mapping("tables:\n" + re.sub("(dates|format): TODO", r"\1: iso", text))
    except InputError:
        return False
    return True
