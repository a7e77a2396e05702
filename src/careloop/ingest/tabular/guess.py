"""A table's keys and events from the roles of its columns: long tables, lists of codes, wide tables, people."""

from __future__ import annotations

from collections.abc import Iterator

from careloop.ingest.tabular.contents import Content
from careloop.ingest.tabular.draft import Draft, Raw, quoted
from careloop.ingest.tabular.header_words import role_of, unit_in, vocabulary_in, without_unit, words_of
from careloop.ingest.tabular.look import Looked
from careloop.ingest.tabular.roles import Roles, count_format
from careloop.record import BIRTH, DEATH

_SEX = {
    "M": "m male man mann maennlich homme h masculin hombre masculino varon 男 男性",
    "F": "f female woman w weiblich frau femme feminin mujer femenino 女 女性",
    "other": "d divers diverse other x autre otro",
    "unknown": "u unknown unbekannt inconnu desconocido 未知 不详",
}
_DRUG_CODES = {"ATC", "RXNORM", "NDC", "CVX", "PZN"}
_DRUG_WORDS = {"drug", "medication", "medikament", "wirkstoff", "medicament", "medicamento", "farmaco", "药品", "药物"}
_WORD = {word: code for code, words in _SEX.items() for word in words.split()}


def guess_table(draft: Draft, roles: Roles, looked: Looked) -> None:
    """Write all keys and events of a table."""
    subject = roles.first("subject")
    if subject is None:
        draft.line(
            "# check: no column names the patient; write it here and remove the # before each line of this table"
        )
        draft.line("subject: TODO")
    else:
        draft.key(
            "subject", quoted(subject), *(["is this the patient's number?"] if words_of(subject) == ["id"] else [])
        )
    _key(draft, roles, looked, subject)
    _times(draft, roles)
    if not has_people_apart(roles):
        _people(draft, roles)
    _visits(draft, roles)
    code, value = roles.first("code"), roles.first("value")
    if code and value:
        _long(draft, roles, code, value)
    else:
        _codes(draft, roles)
        _wide(draft, roles)
    if not draft.events:
        draft.line("# check: nothing here is an event yet; write some and remove the # before each line of this table")
    _left_out(draft, roles, is_long=bool(code and value))


def has_people_apart(roles: Roles) -> bool:
    """True where facts about people are repeated in each row of something else: they are a table of their own then."""
    about = roles.first("subject") and roles.all("birth", "death", "sex")
    return bool(about and roles.all("time", "admission", "known", "code"))


def guess_people(draft: Draft, roles: Roles) -> None:
    """Write keys and events of the table of facts about people that other rows repeat."""
    subject = quoted(str(roles.first("subject")))
    draft.key("subject", subject)
    draft.key("key", subject)
    draft.key("time", "static")
    _people(draft, roles)


def _key(draft: Draft, roles: Roles, looked: Looked, subject: str | None) -> None:
    """The column that numbers the rows: called so and different in each row, else the patient where it has one row."""
    named = [name for name in roles.by_role.get("key", []) if roles.content[name].unique]
    is_people = not roles.all("time", "admission", "known", "code")
    one_row_each = [subject] if subject is not None and is_people and roles.content[subject].unique else []
    check = [] if looked.complete else ["no number is there twice in the first rows"]
    chosen = next(iter(named + one_row_each), None)
    if chosen is None:
        draft.line(
            "# check: key: the columns that number the rows, if there are any, so that a later file corrects them"
        )
        return
    draft.key("key", quoted(chosen), *check)
    version, deleted = roles.first("version"), roles.first("deleted")
    if version is not None:
        draft.key("version", _time(version, roles))
    if deleted is not None:
        draft.line(f"# check: deleted: {{column: {quoted(deleted)}, values: [write what marks a withdrawn row]}}")


def _times(draft: Draft, roles: Roles) -> None:
    """The time of all events of a row, and when they were known."""
    plain, visit = roles.first("time"), roles.first("admission")
    time = plain or visit or roles.first("known")
    if time is None:
        check = "no column with a date was found: all facts count as known from the beginning; nothing that was"
        is_plain = not roles.all("rest", "value", "code", "date", "unit")
        draft.key("time", "static", *([] if is_plain else [f"{check} found out later may be among them"]))
        return
    checks = _time_checks(roles.content[time])
    if role_of(time) is None:
        checks.append("taken because it has dates: is it when the facts of the row happened?")
    if plain is None and visit is not None:
        checks.append("everything here is dated by the admission; was it known then?")
    draft.key("time", _time(time, roles, with_clock=True), *checks)
    known = roles.first("known")
    if known is not None and known != time:
        draft.key("known_time", _time(known, roles))


def _time(name: str, roles: Roles, *, with_clock: bool = False) -> str:
    content, clock = roles.content[name], roles.first("clock") if with_clock else None
    form = _format(content)
    column = f"[{quoted(name)}, {quoted(clock)}]" if clock else quoted(name)
    return f"{{column: {column}, format: {form}}}" if form else column


def _format(content: Content) -> str | None:
    """The format that a column needs of its own."""
    if content.kind == "number" and not _is_year(content):
        return quoted(count_format(content) or "iso")
    if content.kind == "date" and content.short_year:
        if content.order == "?" and content.sign != ".":
            return "TODO"
        day = ("%m{}%d" if content.order == "month-first" else "%d{}%m").format(content.sign)
        date = f"{day}{content.sign}%y"
        return f'["{date} %H:%M:%S", "{date} %H:%M", "{date}"]'
    return None


def _is_year(content: Content) -> bool:
    return content.low > 1800 and content.high < 2200


def _time_checks(content: Content) -> list[str]:
    if content.kind == "number" and not _is_year(content):
        return ["the format of these numbers is a guess"]
    if content.short_year:
        return ["years have two digits, of which 69 and less are read as 20..; the order must be that of the format"]
    return []


def _people(draft: Draft, roles: Roles) -> None:
    birth, death, sex = (roles.first(role) for role in ("birth", "death", "sex"))
    if birth is not None:
        draft.event({"code": BIRTH, "time": Raw(_time(birth, roles))}, *_time_checks(roles.content[birth]))
    if death is not None:
        draft.event({"code": DEATH, "time": Raw(_time(death, roles))}, *_time_checks(roles.content[death]))
    if sex is not None:
        found = roles.content[sex].distinct
        codes = {text: _WORD["".join(words_of(text))] for text in found if "".join(words_of(text)) in _WORD}
        unknown = len(codes) < len(found) or not found
        event: dict[str, object] = {"code_column": sex, "vocabulary": "GENDER"}
        event |= {"codes": codes} if codes else {}
        check = ["say which text is M and which F, as in codes: {1: M, 2: F}"] if unknown else []
        draft.event({**event, "time": "static"}, *check)


def _visits(draft: Draft, roles: Roles) -> None:
    for role, code in (("admission", "VISIT_START"), ("discharge", "VISIT_END")):
        column = roles.first(role)
        if column is not None:
            draft.event({"code": f"{code}//UNKNOWN", "time": Raw(_time(column, roles))})


def _long(draft: Draft, roles: Roles, code: str, value: str) -> None:
    """A row is one measurement, or one drug with its dose: its code, its value, its unit."""
    is_drug = _is_drug(code, roles)
    event: dict[str, object] = {"code_column": code, **dict(_meaning(code, roles)), "value": value}
    unit = roles.first("unit")
    event |= {"unit_column": unit} if unit else {}
    event |= {"value_missing": "keep"} if is_drug else {}
    draft.event(event, *_unnamed(event))
    if is_drug:
        _ends(draft, roles, code, "STOPPED")


def _codes(draft: Draft, roles: Roles) -> None:
    """Columns of diagnoses, drugs, procedures; with an end where a column has it."""
    is_late = roles.all("admission") and not roles.all("time")
    for column in roles.all("code"):
        event = {"code_column": column, **dict(_meaning(column, roles))}
        checks = _unnamed(event) + (["a discharge diagnosis is not known at admission"] if is_late else [])
        draft.event(event, *checks)
        _ends(draft, roles, column, "STOPPED" if _is_drug(column, roles) else "RESOLVED")


def _ends(draft: Draft, roles: Roles, column: str, prefix: str) -> None:
    end = roles.first("end")
    if end is not None:
        event = {"code_column": column, **dict(_meaning(column, roles)), "prefix": prefix}
        draft.event({**event, "time": Raw(_time(end, roles))})


def _meaning(column: str, roles: Roles) -> Iterator[tuple[str, object]]:
    """The terminology of a column's codes, and the column that says what they mean."""
    named, description = roles.first("vocabulary"), roles.first("description")
    vocabulary = vocabulary_in(column) or roles.content[column].vocabulary
    if named is not None:
        yield "vocabulary_column", named
    elif vocabulary:
        yield "vocabulary", vocabulary
    if description is not None:
        yield "description_column", description


def _unnamed(event: dict[str, object]) -> list[str]:
    is_named = "vocabulary" in event or "vocabulary_column" in event
    return [] if is_named else ["add the vocabulary of the codes, such as LOINC or ICD10, if they have one"]


def _is_drug(column: str, roles: Roles) -> bool:
    vocabulary = vocabulary_in(column) or roles.content[column].vocabulary
    return vocabulary in _DRUG_CODES or bool(_DRUG_WORDS.intersection(words_of(column)))


def _wide(draft: Draft, roles: Roles) -> None:
    """Columns that are a measurement or a category each."""
    names = roles.all("rest", "value", "key", "unit", "date", "end", "known", "time", "clock")
    used = {
        roles.first("time"),
        roles.first("known"),
        roles.first("clock"),
        roles.first("end") if roles.all("code") else None,
    }
    for name in names:
        content, unit = roles.content[name], unit_in(name)
        code = f"LOCAL//{without_unit(name).replace('//', '/').lower()[:80].strip()}"
        if name in used or name in roles.by_role.get("key", []):
            continue
        if content.kind == "date":
            draft.event({"code": code, "time": Raw(_time(name, roles))}, *_time_checks(content))
        elif content.kind == "number":
            kind = "number" if content.pure else "value"
            draft.event({"code": code, kind: name, **({"unit": unit} if unit else {})})
        elif content.kind == "words" and content.distinct:
            draft.event({"code": code, "text": name})
        else:
            draft.note(
                f"check: left out: {quoted(name)}: many different texts; to store it name it as `text` of an event"
            )


_WHY = {
    "private": "may identify a person",
    "text": "free text, which may identify a person",
    "outcome": "may be an outcome, which must not count as known before it happened; to store it give it a time",
    "empty": "empty",
    "key": "numbers something other than the rows",
    "version": "says when the row was changed; it needs a key",
    "deleted": "may mark withdrawn rows; it needs a key",
}


def _left_out(draft: Draft, roles: Roles, *, is_long: bool) -> None:
    for role, why in _WHY.items():
        for name in roles.all(role):
            taken = (f"{role}: {quoted(name)}", f"{role}: {{column: {quoted(name)}", f"# check: {role}: {{")
            if not any(line.startswith(taken) for line in draft.keys):
                draft.note(f"check: left out: {quoted(name)}: {why}")
    if is_long:
        named = " ".join(draft.keys + draft.events)
        for name in roles.all("rest", "date", "end", "time", "clock"):
            if quoted(name) not in named:
                draft.note(f"check: left out: {quoted(name)}: nothing is known about it")
