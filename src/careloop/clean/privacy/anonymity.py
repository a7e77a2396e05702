"""How well patients hide among others in what is shared: k-anonymity, l-diversity, and what would help."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from careloop import InputError
from careloop.record import BIRTH, CARELOOP, DEATH, Record, code_matches

# What somebody who knows a patient is likely to know; the years are those of the (shifted) times.
DEFAULT = ("birth_decade", "GENDER//*", "RACE//*", "ETHNICITY//*", "first_event_year")
YEARS = ("birth_decade", "birth_year", "first_event_year", "last_event_year", "death_year")
_COARSER = (5, 10, 20)  # years
_MOST_ATTRIBUTES = 10  # 1,023 combinations; more is a wrong list rather than an attack
_MOST_CAUSES = 20


@dataclass(frozen=True)
class Cause:
    """A smallest combination of attributes that by itself leaves people in classes below k."""

    attributes: tuple[str, ...]
    people_below: int


@dataclass(frozen=True)
class Suggestion:
    """A generalisation, in words, and how many people it leaves in classes below k."""

    words: str
    people_below: int


@dataclass(frozen=True)
class AnonymityReport:
    """Equivalence classes of people with equal quasi-identifiers.

    `smallest_class` is the k that holds (Sweeney 2002). `people_below` are in classes below `k`, a `share_below` of
    all. `diversity` is the distinct l-diversity (Machanavajjhala 2007): the smallest number of different sensitive
    values in a class, one for all people with several sensitive columns each; None where none were named. `homogeneous`
    counts people in classes that have one sensitive value only. `causes` are the smallest combinations of attributes
    that single people out, worst first; `suggestions` are ordered by what they leave. `classes` lists the classes, the
    smallest first: it shows small cells, so it stays in the hospital.
    """

    k: int
    people: int
    quasi_identifiers: tuple[str, ...]
    smallest_class: int
    number_of_classes: int
    classes_below: int
    people_below: int
    share_below: float
    unique_people: int
    diversity: int | None
    homogeneous: int | None
    causes: tuple[Cause, ...]
    suggestions: tuple[Suggestion, ...]
    classes: pl.DataFrame

    @property
    def passed(self) -> bool:
        """Every class has at least `k` people."""
        return self.people_below == 0

    def to_json(self) -> dict[str, Any]:
        """Plain values, without `classes`."""
        content = {name: value for name, value in vars(self).items() if name != "classes"}
        return content | {
            "passed": self.passed,
            "quasi_identifiers": list(self.quasi_identifiers),
            "causes": [vars(cause) | {"attributes": list(cause.attributes)} for cause in self.causes],
            "suggestions": [vars(suggestion) for suggestion in self.suggestions],
        }


def check_anonymity(
    shared: Record | pl.DataFrame,
    *,
    quasi_identifiers: Sequence[str] = DEFAULT,
    k: int = 11,
    sensitive: Sequence[str] = (),
) -> AnonymityReport:
    """Count who shares each combination of `quasi_identifiers` with fewer than `k` people, and say what causes it.

    Of a record, a quasi-identifier is one of `YEARS`, or a code or `PREFIX*`, whose value is what follows the prefix,
    else the text, else whether the patient has it; all values of a patient count together. A record's patient has the
    `sensitive` codes (`ICD10CM//*`) as one value: their set. Of a table, one row a person, both are column names; null
    is a value of its own.

    Raises:
        InputError: an unknown column or quasi-identifier, none at all or more than ten, nobody in it, or k below 2.
    """
    names = tuple(dict.fromkeys(quasi_identifiers))
    if not 1 <= len(names) <= _MOST_ATTRIBUTES:
        raise InputError(f"quasi_identifiers must be 1 to {_MOST_ATTRIBUTES} attributes, got {len(names)}; name others")
    if k < 2:
        raise InputError(f"k must be at least 2, got {k}; 11 is usual")
    people = shared if isinstance(shared, pl.DataFrame) else people_of(shared, names, sensitive)
    hidden = tuple(sensitive) if isinstance(shared, pl.DataFrame) else (("sensitive",) if sensitive else ())
    unknown = [name for name in (*names, *hidden) if name not in people.columns]
    if unknown:
        raise InputError(f"no column {unknown[0]}; the table has {', '.join(people.columns)}")
    if people.is_empty():
        raise InputError("nobody to check: the table or record is empty")
    classes = people.group_by(names).agg(people=pl.len()).sort("people", *names)
    below = classes.filter(pl.col("people") < k)
    diversity, homogeneous = _diversity(people, names, hidden)
    return AnonymityReport(
        k=k,
        people=people.height,
        quasi_identifiers=names,
        smallest_class=int(classes["people"][0]),
        number_of_classes=classes.height,
        classes_below=below.height,
        people_below=int(below["people"].sum()),
        share_below=float(below["people"].sum() / people.height),
        unique_people=classes.filter(people=1).height,
        diversity=diversity,
        homogeneous=homogeneous,
        causes=_causes(classes, names, k),
        suggestions=_suggestions(people, classes, names, k),
        classes=classes,
    )


def people_of(record: Record, quasi_identifiers: Sequence[str], sensitive: Sequence[str] = ()) -> pl.DataFrame:
    """One row a patient of the record: the quasi-identifiers, and with `sensitive` codes their set as one text."""
    wrong = [name for name in quasi_identifiers if name not in YEARS and "//" not in name and not name.endswith("*")]
    codes = set(record.events().select(pl.col("code").unique()).collect()["code"]) if wrong else set()
    unknown = [name for name in wrong if name not in codes]
    if unknown:
        raise InputError(f"quasi-identifier {unknown[0]} is neither a code of the record nor one of {', '.join(YEARS)}")
    tables = []
    for shard in range(record.shards):
        events = record.events(shard).filter(~pl.col("code").str.starts_with(CARELOOP)).collect()
        people = events.select("subject_id").unique().sort("subject_id")
        for name in quasi_identifiers:
            values = _years(events, name) if name in YEARS else _coded(events, name)
            people = people.join(values, on="subject_id", how="left", maintain_order="left")
        if sensitive:
            found = events.filter(code_matches(sensitive)).group_by("subject_id")
            values = found.agg(sensitive=pl.col("code").unique().sort().str.join(" "))
            people = people.join(values, on="subject_id", how="left", maintain_order="left")
        tables.append(people)
    return pl.concat(tables).drop("subject_id")


def _years(events: pl.DataFrame, name: str) -> pl.DataFrame:
    chosen = {
        "birth_year": events.filter(code=BIRTH).group_by("subject_id").agg(pl.col("time").min()),
        "death_year": events.filter(code=DEATH).group_by("subject_id").agg(pl.col("time").min()),
        "last_event_year": events.filter(pl.col("code") != BIRTH).group_by("subject_id").agg(pl.col("time").max()),
        "first_event_year": events.filter(pl.col("code") != BIRTH).group_by("subject_id").agg(pl.col("time").min()),
    }["birth_year" if name == "birth_decade" else name]
    year = pl.col("time").dt.year()
    return chosen.select("subject_id", (year // 10 * 10 if name == "birth_decade" else year).alias(name))


def _coded(events: pl.DataFrame, name: str) -> pl.DataFrame:
    prefix = name.removesuffix("*")
    rest = pl.col("code").str.strip_prefix(prefix) if name.endswith("*") else pl.lit("")
    value = pl.when(rest == "").then(pl.col("text_value").fill_null("yes")).otherwise(rest)
    found = events.filter(code_matches([name])).select("subject_id", value.alias(name))
    return found.group_by("subject_id").agg(pl.col(name).unique().sort().str.join(" "))


def _diversity(
    people: pl.DataFrame, names: tuple[str, ...], sensitive: tuple[str, ...]
) -> tuple[int | None, int | None]:
    if not sensitive:
        return None, None
    different = people.group_by(names).agg(
        pl.len().alias("people"), *(pl.col(name).n_unique().alias(f"l_{place}") for place, name in enumerate(sensitive))
    )
    least = different.select("people", least=pl.min_horizontal(pl.col("^l_\\d+$")))
    return min(least["least"].to_list()), int(least.filter(least=1)["people"].sum())


def _causes(classes: pl.DataFrame, names: tuple[str, ...], k: int) -> tuple[Cause, ...]:
    """Combinations that leave people below k while none of their parts does."""
    found: list[Cause] = []
    for size in range(1, len(names) + 1):
        for chosen in itertools.combinations(names, size):
            if any(set(cause.attributes) < set(chosen) for cause in found):
                continue
            count = _below(classes, list(chosen), k)
            if count:
                found.append(Cause(chosen, count))
    return tuple(sorted(found, key=lambda cause: (-cause.people_below, cause.attributes))[:_MOST_CAUSES])


def _suggestions(people: pl.DataFrame, classes: pl.DataFrame, names: tuple[str, ...], k: int) -> tuple[Suggestion, ...]:
    now = _below(classes, list(names), k)
    if not now:
        return ()
    found = [Suggestion(f"drop the people in classes below {k}", 0)]
    for name in names:
        rest = [other for other in names if other != name]
        if rest:
            found.append(Suggestion(f"leave out {name}", _below(classes, rest, k)))
        if people.schema[name].is_integer():
            for width in _COARSER:
                coarser = classes.with_columns(pl.col(name) // width)
                found.append(Suggestion(f"{name} in steps of {width}", _below(coarser, list(names), k)))
        else:
            found.append(
                Suggestion(f"rare values of {name} as one", _below(_rare_as_one(classes, name, k), list(names), k))
            )
    helpful = [suggestion for suggestion in found if suggestion.people_below < now]
    return tuple(sorted(helpful, key=lambda suggestion: (suggestion.people_below, suggestion.words)))


def _rare_as_one(classes: pl.DataFrame, name: str, k: int) -> pl.DataFrame:
    total = classes.group_by(name).agg(pl.col("people").sum())
    common = total.filter(pl.col("people") >= k)[name]
    return classes.with_columns(pl.when(pl.col(name).is_in(common.implode(), nulls_equal=True)).then(name).alias(name))


def _below(classes: pl.DataFrame, names: list[str], k: int) -> int:
    """People in classes below k, once classes that agree in `names` are one."""
    merged = classes.group_by(names).agg(pl.col("people").sum())
    return int(merged.filter(pl.col("people") < k)["people"].sum())
