"""Which codes, texts and ancestors become tokens, and the scale of their numbers: by what training rows know."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl

from careloop import InputError
from careloop.features.extract import checked_keys, of_shard, of_subjects, shards_of
from careloop.features.timelines.definition import TimelinesSection
from careloop.features.timelines.notes import identified
from careloop.features.timelines.numbers import Numbers
from careloop.features.timelines.recipe import MOST_DEPTH, MOST_TEXT, TimelineRecipe, Token
from careloop.features.vocabulary import named_codes
from careloop.models.sequence.arrays import FIRST_CODE
from careloop.record import Record, history
from careloop.record.ontology import Parents, ancestors
from careloop.record.schema import BIRTH, CARELOOP, code_matches
from careloop.record.shards import HERE, each_shard

# With more common texts than this, a timed code's texts are descriptions, no categories.
# Death stays: a network that learns next events must know that histories end.
NEVER = (BIRTH, f"{CARELOOP}*")
MOST_TEXTS = 50
Unit = str | None


@dataclass(frozen=True)
class Survey:
    """What training rows know by their prediction times.

    `codes`: code, subjects (with it or a code beneath it), own_subjects (with the code itself, 0 for an ancestor that
    no event has); `texts`: code, text, subjects, static_subjects; `units`: code, unit, subjects, numbers (rows);
    `numbers`: the distribution of each code and unit.
    """

    codes: pl.DataFrame
    texts: pl.DataFrame
    units: pl.DataFrame
    numbers: Mapping[tuple[str, Unit], Numbers]


def fit_timelines(
    record: Record,
    train_keys: pl.DataFrame,
    section: TimelinesSection,
    exclude_codes: Sequence[str] = (),
    *,
    on: str = HERE,
) -> TimelineRecipe:
    """The recipe that training rows justify: what each of their subjects knows by its last prediction time.

    `train_keys` (subject_id, prediction_time) are training rows only; with a column `split`, those with `train`.
    `exclude_codes` (exact or prefix ending in `*`) are left out as the section's own are; so are MEDS_BIRTH,
    MEDS_DEATH and careloop's own events. The record is read shard by shard, `on` as `each_shard` has it.

    A code that `min_subjects` training subjects have is a token; so is an ancestor that as many have beneath it, and a
    text of at most `MOST_TEXT` characters that as many have (of a timed code only where it has at most `MOST_TEXTS`
    such texts). A code's numbers count in its most common unit, where as many subjects have them.

    Raises:
        InputError: no training rows; a named code that no training row has; no code that enough subjects have; no text
            encoder where the section names one.
    """
    encoder = None if section.text_encoder is None else identified(section.text_encoder)
    if "split" in train_keys.columns:
        train_keys = train_keys.filter(pl.col("split") == "train")
    last = checked_keys(train_keys).group_by("subject_id").agg(pl.col("prediction_time").max()).sort("subject_id")
    if last.is_empty():
        raise InputError("timelines: no training rows to fit on; check the cohort's size and its split fractions")
    section = section.model_copy(update={"exclude_codes": (*section.exclude_codes, *exclude_codes)})
    metadata = record.code_metadata()
    parents = parents_of(metadata)
    work = partial(_survey_shard, last=last, section=section, parents=parents)
    survey = _added_up(each_shard(record, work, on=on, shards=shards_of(record, last)))
    _check_named(record, section, survey)
    recipe = _recipe(survey, section, metadata, parents, training_subjects=last.height)
    return dataclasses.replace(recipe, encoder=encoder)


def parents_of(metadata: pl.DataFrame) -> dict[str, tuple[str, ...]]:
    """Code to parent codes, of a record's codes table."""
    some = metadata.filter(pl.col("parent_codes").list.len() > 0).select("code", "parent_codes")
    return {code: tuple(parents) for code, parents in some.iter_rows()}


def is_wanted(section: TimelinesSection) -> pl.Expr:
    """True for events that the section lets become tokens."""
    allowed = ~code_matches((*NEVER, *section.exclude_codes))
    return allowed if isinstance(section.codes, str) else code_matches(section.codes) & allowed


def result_text() -> pl.Expr:
    """The text of an event that has no number and whose text is short; null for any other."""
    text = pl.col("text_value")
    return pl.when(~has_number() & (text.str.len_chars() <= MOST_TEXT)).then(text)


def note_text() -> pl.Expr:
    """The text of an event that is a note; null for any other."""
    text = pl.col("text_value")
    return pl.when(text.str.len_chars() > MOST_TEXT).then(text)


def has_number() -> pl.Expr:
    """True for an event with a finite number."""
    return pl.col("numeric_value").is_finite().fill_null(False)


def _survey_shard(
    record: Record, shard: int, *, last: pl.DataFrame, section: TimelinesSection, parents: Parents
) -> Survey:
    members = of_shard(record, shard, last)
    known = history(of_subjects(record.events(shard), members).filter(is_wanted(section)), members)
    happened = pl.col("time").is_null() | (pl.col("time") <= pl.col("prediction_time"))
    rows = (
        known.filter(happened)
        .select("subject_id", "time", "code", "unit", "numeric_value", text=result_text())
        .collect()
    )
    subject = pl.col("subject_id")
    subjects = subject.n_unique().alias("subjects")
    static_subjects = subject.filter(pl.col("time").is_null()).n_unique().alias("static_subjects")
    texts = rows.lazy().filter(pl.col("text").is_not_null()).group_by("code", "text")
    numbers = rows.lazy().filter(has_number()).group_by("code", "unit")
    codes, text_counts, units, values = pl.collect_all(
        [
            _code_counts(rows, parents),
            texts.agg(subjects, static_subjects),
            numbers.agg(subjects, numbers=pl.len()),
            numbers.agg("numeric_value"),
        ]
    )
    found = zip(values["code"], values["unit"], values["numeric_value"], strict=True)
    return Survey(codes, text_counts, units, {(code, unit): Numbers.of(some.to_numpy()) for code, unit, some in found})


def _code_counts(rows: pl.DataFrame, parents: Parents) -> pl.LazyFrame:
    """Subjects of each code and of each ancestor of one; a subject with several codes beneath an ancestor counts once.

    Names are numbered within the shard, so that the pairs of subject and name stay small.
    """
    lines = pl.DataFrame(
        [(code, name) for code in rows["code"].unique() for name in (code, *ancestors(code, parents))],
        schema={"own": pl.String, "code": pl.String},
        orient="row",
    )
    names = lines.select(pl.col("code").unique().sort()).with_row_index("number")
    above = lines.join(names, on="code").join(names, left_on="own", right_on="code", suffix="_own")
    pairs = rows.lazy().join(names.lazy(), on="code").select("subject_id", number_own="number").unique()
    beneath = pairs.join(above.lazy(), on="number_own").select("subject_id", "number").unique()
    counted = beneath.group_by("number").agg(subjects=pl.len())
    own = pairs.group_by(number="number_own").agg(own_subjects=pl.len())
    found = names.lazy().join(counted, on="number").join(own, on="number", how="left")
    return found.select("code", "subjects", pl.col("own_subjects").fill_null(0))


def _added_up(parts: Iterable[Survey]) -> Survey:
    """One survey of all shards, added as they come."""
    total: Survey | None = None
    for part in parts:
        if total is None:
            total = part
            continue
        numbers = dict(total.numbers)
        for key, found in part.numbers.items():
            numbers[key] = numbers[key].plus([found]) if key in numbers else found
        total = Survey(
            _sum(total.codes, part.codes), _sum(total.texts, part.texts), _sum(total.units, part.units), numbers
        )
    assert total is not None  # there are training rows, so there is a shard
    return total


def _sum(a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame:
    by = [name for name, dtype in a.schema.items() if dtype == pl.String]
    return pl.concat([a, b]).group_by(by).agg(pl.all().sum())


def _check_named(record: Record, section: TimelinesSection, survey: Survey) -> None:
    """Stop at a code that the section names and that is excluded or that no training row knows."""
    own = survey.codes.filter(pl.col("own_subjects") > 0)
    for name in named_codes(section.codes):
        if pl.select(code=pl.lit(name)).filter(code_matches((*NEVER, *section.exclude_codes))).height:
            raise InputError(
                f"timelines.codes: {name} is excluded (by exclude_codes, as a treatment, or as one of {NEVER});"
                " name it in one place only"
            )
        if own.filter(code_matches([name])).is_empty():
            hint = _why_unknown(record, name)
            raise InputError(f"timelines.codes: no training row knows {name} by its prediction time; {hint}")


def _why_unknown(record: Record, name: str) -> str:
    # The one look past the prediction times: at which codes there are, no value of them.
    codes = record.events().select(pl.col("code").unique().sort()).collect()
    if codes.filter(code_matches([name])).height:
        return "the record has it, but later or of others; remove it"
    close = difflib.get_close_matches(name, codes["code"], n=3)
    return f"did you mean {', '.join(close)}?" if close else "check its spelling against the record's codes"


def _recipe(
    survey: Survey, section: TimelinesSection, metadata: pl.DataFrame, parents: Parents, *, training_subjects: int
) -> TimelineRecipe:
    notes: list[str] = []
    chosen = _tokens(survey, section, dict(metadata.select("code", "description").iter_rows()), notes)
    if not chosen:
        raise InputError(
            f"timelines: no code that {section.min_subjects} training subjects have; lower timelines.min_subjects,"
            " or widen timelines.codes"
        )
    number = {token.code: place for place, token in enumerate(chosen, start=FIRST_CODE) if token.text is None}
    tokens = tuple(dataclasses.replace(token, ancestors=_above(token, number, parents)) for token in chosen)
    plain = TimelineRecipe(tokens, section, training_subjects=training_subjects)
    rolled_up = _rolled_up({*survey.codes["code"], *parents}, plain, parents)
    recipe = dataclasses.replace(plain, rolled_up=rolled_up)
    return dataclasses.replace(recipe, notes=(*notes, *_notes_on_rare(survey, recipe)))


def _tokens(
    survey: Survey, section: TimelinesSection, descriptions: Mapping[str, str | None], notes: list[str]
) -> list[Token]:
    """Tokens without their ancestors, those of most subjects first."""
    excluded = code_matches((*NEVER, *section.exclude_codes))
    codes = survey.codes.filter(pl.col("subjects") >= section.min_subjects, ~excluded).sort("code")
    with_text = _texts(survey.texts, section, notes)
    tokens = [
        Token(code, None, descriptions.get(code) or "", subjects, **_scale(code, survey, section, notes))
        for code, subjects in codes.select("code", "subjects").iter_rows()
    ]
    tokens += [Token(code, text, descriptions.get(code) or "", n) for code, text, n in with_text.iter_rows()]
    return sorted(tokens, key=lambda token: (-token.subjects, token.code, token.text is not None, token.text or ""))


def _above(token: Token, number: Mapping[str, int], parents: Parents) -> tuple[int, ...]:
    """The nearest ancestors of a token that are tokens; a text's first is its code."""
    names = [*([token.code] if token.text is not None else []), *ancestors(token.code, parents)]
    return tuple(number[name] for name in names if name in number)[:MOST_DEPTH]


def _texts(texts: pl.DataFrame, section: TimelinesSection, notes: list[str]) -> pl.DataFrame:
    """code, text and subjects of the texts that become tokens."""
    common = texts.filter(pl.col("subjects") >= section.min_subjects)
    is_static = pl.col("static_subjects") >= section.min_subjects
    few = pl.len().over("code") <= MOST_TEXTS
    many = common.filter(~few & ~is_static)["code"].unique().sort()
    notes += [f"{code}: its texts are left out, more than {MOST_TEXTS} of them are common" for code in many]
    return common.filter(few | is_static).select("code", "text", "subjects")


def _scale(code: str, survey: Survey, section: TimelinesSection, notes: list[str]) -> dict[str, Any]:
    """Unit, edges, mean and deviation of a code's numbers in its most common unit, if enough subjects have them."""
    units = survey.units.filter(pl.col("code") == code).sort(
        "numbers", "unit", descending=[True, False], nulls_last=True
    )
    if units.is_empty() or units["subjects"][0] < section.min_subjects:
        return {}
    unit, numbers = units["unit"][0], units["numbers"].to_list()
    if sum(numbers[1:]):
        notes.append(
            f"{code}: {sum(numbers[1:])} training numbers of {sum(numbers)} are left out, their unit is not"
            f" {unit or 'empty'}; convert them before"
        )
    found = survey.numbers[code, unit]
    mean, deviation = found.mean_and_deviation()
    return {"unit": unit, "edges": found.edges(section.quantiles), "mean": mean, "standard_deviation": deviation}


def _rolled_up(codes: Iterable[str], recipe: TimelineRecipe, parents: Parents) -> dict[str, int]:
    """Codes that are no tokens, to the token of their nearest ancestor, where only the codes table knows it."""
    found: dict[str, int] = {}
    for code in sorted(codes):
        if (code, None) in recipe.numbers:
            continue
        above = (recipe.numbers[name, None] for name in ancestors(code, parents) if (name, None) in recipe.numbers)
        nearest = next(above, None)
        if nearest is not None and nearest != recipe.number_of(code):
            found[code] = nearest
    return found


def _notes_on_rare(survey: Survey, recipe: TimelineRecipe) -> Iterator[str]:
    rare = [
        code for code in survey.codes.filter(pl.col("own_subjects") > 0)["code"] if (code, None) not in recipe.numbers
    ]
    unknown = sum(recipe.number_of(code) < FIRST_CODE for code in rare)
    least = recipe.section.min_subjects
    if len(rare) > unknown:
        yield f"{len(rare) - unknown} codes with fewer than {least} training subjects are replaced by their ancestors"
    if unknown:
        yield f"{unknown} codes with fewer than {least} training subjects and no common ancestor are unknown codes"
