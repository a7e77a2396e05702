"""Which tokens training rows justify: codes, texts, ancestors, units; and errors that say what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from careloop import InputError
from careloop.features.timelines import TimelineRecipe, TimelinesSection, Token, extract_timelines, fit_timelines
from careloop.features.timelines.vocabulary import MOST_TEXTS
from careloop.models.sequence.arrays import FIRST_CODE, MASK, NOW, PADDING, UNKNOWN
from careloop.record import Record

Row = dict[str, Any]
MakeRecord = Callable[..., Record]
MakeKeys = Callable[..., pl.DataFrame]
TWO = TimelinesSection(min_subjects=2)


def event(subject: int, code: str, **more: Any) -> Row:
    return {"subject_id": subject, "time": 1, "code": code, **more}


def token(recipe: TimelineRecipe, code: str, text: str | None = None) -> Token:
    return recipe.tokens[recipe.numbers[code, text] - FIRST_CODE]


def codes_of(recipe: TimelineRecipe, record: Record, keys: pl.DataFrame) -> list[list[str]]:
    """The words of each row's events."""
    sequences = extract_timelines(record, keys, recipe).sequences
    rows = (sequences.take(np.array([row])).code for row in range(keys.height))
    return [["?" if code == UNKNOWN else recipe.tokens[code - FIRST_CODE].name for code in row] for row in rows]


def test_a_code_that_only_held_out_subjects_have_is_unknown(make_record: MakeRecord, make_keys: MakeKeys) -> None:
    record = make_record([event(s, code) for s in range(4) for code in ("DX//A", "DX//B" if s > 1 else "DX//A")])
    keys = make_keys(*((s, 5) for s in range(4)), splits=["train", "train", "tuning", "held_out"])
    recipe = fit_timelines(record, keys, TWO)
    assert [one.name for one in recipe.tokens] == ["DX//A"]
    assert codes_of(recipe, record, keys) == [["DX//A"] * 2, ["DX//A"] * 2, ["?", "DX//A"], ["?", "DX//A"]]
    everyone = fit_timelines(record, keys.drop("split"), TWO)
    assert {one.name for one in everyone.tokens} == {"DX//A", "DX//B"}


def test_rare_codes_become_their_nearest_common_ancestor(make_record: MakeRecord, make_keys: MakeKeys) -> None:
    names = ["K74.60", "K74.60", "K74.69", "K70.30", "A01.0", "K74.0"]
    record = make_record([event(s, f"ICD10CM//{name}") for s, name in enumerate(names)])
    keys = make_keys(*((s, 5) for s in range(6)), splits=["train"] * 5 + ["held_out"])
    recipe = fit_timelines(record, keys, TWO)
    assert codes_of(recipe, record, keys) == [
        ["ICD10CM//K74.60"],
        ["ICD10CM//K74.60"],
        ["ICD10CM//K74.6"],
        ["ICD10CM//K00-K95"],
        ["?"],
        ["ICD10CM//K74"],  # seen by no training row, and yet below what they have
    ]
    above = token(recipe, "ICD10CM//K74.60").ancestors
    assert [recipe.tokens[number - FIRST_CODE].code for number in above] == [
        "ICD10CM//K74.6",
        "ICD10CM//K74",
        "ICD10CM//K00-K95",
    ]
    subjects = {"K74.60": 2, "K74.6": 3, "K74": 3, "K00-K95": 4}
    assert {one.code: one.subjects for one in recipe.tokens} == {f"ICD10CM//{k}": n for k, n in subjects.items()}
    assert recipe.notes == (
        "2 codes with fewer than 2 training subjects are replaced by their ancestors",
        "1 codes with fewer than 2 training subjects and no common ancestor are unknown codes",
    )


def test_a_subject_with_two_codes_beneath_an_ancestor_counts_once(make_record: MakeRecord, make_keys: MakeKeys) -> None:
    record = make_record([event(1, "ATC//A10BA02"), event(1, "ATC//A10BB01"), event(2, "DX"), event(3, "DX")])
    recipe = fit_timelines(record, make_keys((1, 5), (2, 5), (3, 5)), TWO)
    assert [one.name for one in recipe.tokens] == ["DX"]


def test_ancestors_from_the_codes_table(make_record: MakeRecord, make_keys: MakeKeys) -> None:
    record = make_record([event(s, f"LOCAL//{s}", numeric_value=1.0) for s in range(3)] + [event(0, "TREAT")])
    parents = {f"LOCAL//{s}": ["LOCAL//GROUP"] for s in range(3)} | {"LOCAL//GROUP": ["LOCAL//TOP"]}
    table = {"code": [*parents, "LOCAL//TOP"], "parent_codes": [*parents.values(), None]}
    record = record.describe_codes(pl.DataFrame({**table, "description": [*"abc", "Group", "Top"]}))
    keys = make_keys(*((s, 5) for s in range(3)), splits=["train", "train", "held_out"])
    recipe = fit_timelines(record, keys, TWO, ["TREAT"])
    assert codes_of(recipe, record, keys) == [["LOCAL//GROUP"]] * 3
    # Numbers of different codes are on different scales, so an ancestor has none.
    assert np.isnan(extract_timelines(record, keys, recipe).sequences.take(np.arange(3)).value).all()
    assert recipe.words(recipe.number_of("LOCAL//2")) == "Group"
    assert TimelineRecipe.from_json(recipe.to_json()).number_of("LOCAL//2") == recipe.number_of("LOCAL//2")
    without = fit_timelines(record, keys, TWO, ["TREAT", "LOCAL//GROUP"])
    assert [one.name for one in without.tokens] == ["LOCAL//TOP"]


def test_texts_that_are_categories_become_tokens(make_record: MakeRecord, make_keys: MakeKeys) -> None:
    texts = ["positive", "positive", "negative", None]
    rows = [event(s, "TEST", text_value=text) for s, text in enumerate(texts)]
    rows += [event(s, "NOTE", text_value=f"{'long ' * 30}") for s in range(4)]
    rows += [event(s, "LAB", text_value="high", numeric_value=5.0) for s in range(4)]
    rows += [event(s, "MANY", text_value=str(n)) for s in range(2) for n in range(MOST_TEXTS + 1)]
    rows += [{"subject_id": s, "code": "SEX", "text_value": "F" if s < 3 else "M"} for s in range(4)]
    rows += [{"subject_id": s, "code": "SITE", "text_value": str(n)} for s in range(2) for n in range(MOST_TEXTS + 1)]
    record, keys = make_record(rows), make_keys(*((s, 5) for s in range(4)))
    recipe = fit_timelines(record, keys, TWO)
    names = {one.name for one in recipe.tokens}
    sites = {f"SITE={n}" for n in range(MOST_TEXTS + 1)}
    assert names - sites == {"TEST", "TEST=positive", "NOTE", "LAB", "MANY", "SEX", "SEX=F", "SITE"}
    assert sites <= names
    assert f"MANY: its texts are left out, more than {MOST_TEXTS} of them are common" in recipe.notes
    found = codes_of(recipe, record, keys)
    assert [row[0] for row in found] == ["SEX=F", "SEX=F", "SEX=F", "SEX"]
    assert [row[-1] for row in found] == ["TEST=positive", "TEST=positive", "TEST", "TEST"]
    assert token(recipe, "TEST", "positive").ancestors == (recipe.numbers["TEST", None],)
    assert recipe.words(recipe.numbers["TEST", "positive"]) == "TEST: positive"


def test_numbers_in_the_most_common_unit_count(make_record: MakeRecord, make_keys: MakeKeys) -> None:
    rows = [event(s, "LAB", numeric_value=float(v), unit="mg/dL") for s in range(4) for v in range(5)]
    rows += [event(s, "LAB", numeric_value=88.4, unit="umol/L") for s in range(3)]
    rows += [event(0, "FEW", numeric_value=float(v)) for v in range(9)] + [event(1, "FEW")]
    record, keys = make_record(rows), make_keys(*((s, 9) for s in range(4)))
    recipe = fit_timelines(record, keys, TimelinesSection(min_subjects=2, quantiles=5))
    lab, few = token(recipe, "LAB"), token(recipe, "FEW")
    assert (lab.unit, lab.edges, lab.mean) == ("mg/dL", (0, 1, 2, 3), 2)
    assert lab.standard_deviation == pytest.approx(np.std(range(5)))
    assert "LAB: 3 training numbers of 23 are left out, their unit is not mg/dL; convert them before" in recipe.notes
    assert few.edges == ()  # numbers of a single subject
    one = extract_timelines(record, keys, recipe).sequences.take(np.array([2]))
    assert one.quantile.tolist() == [1, 2, 3, 4, 5, 0]  # the number in another unit is lost, its event is not
    assert np.isnan(one.value).tolist() == [False] * 5 + [True]


def test_own_events_and_excluded_codes_are_never_tokens_and_death_is_one(
    make_record: MakeRecord, make_keys: MakeKeys
) -> None:
    names = ["MEDS_BIRTH", "MEDS_DEATH", "CARELOOP//PREDICTION//x", "DRUG//1", "DX//1", "LAB"]
    record = make_record([event(s, code) for s in range(3) for code in names])
    keys = make_keys(*((s, 5) for s in range(3)))
    section = TimelinesSection(min_subjects=2, exclude_codes=("DX*",))
    recipe = fit_timelines(record, keys, section, ["DRUG//1"])
    assert sorted(one.name for one in recipe.tokens) == ["LAB", "MEDS_DEATH"]
    assert [sorted(row) for row in codes_of(recipe, record, keys)] == [["LAB", "MEDS_DEATH"]] * 3
    only = fit_timelines(record, keys, TimelinesSection(min_subjects=2, codes=("DX*", "DRUG//1")))
    assert codes_of(only, record, keys) == [["DRUG//1", "DX//1"]] * 3


def test_the_token_space(make_record: MakeRecord, make_keys: MakeKeys) -> None:
    rows = [event(s, code) for s in range(2) for code in ("ICD10CM//K74.60", "DX")]
    recipe = fit_timelines(make_record(rows), make_keys((0, 5), (1, 5)), TWO)
    space = recipe.token_space(statics=3)
    assert (space.tokens, space.quantiles, space.statics) == (FIRST_CODE + len(recipe.tokens), 10, 3)
    assert space.ancestors[[PADDING, UNKNOWN, MASK, NOW, recipe.numbers["DX", None]]].tolist() == [[PADDING] * 3] * 5
    names = [recipe.words(number) for number in space.ancestors[recipe.numbers["ICD10CM//K74.60", None]]]
    assert names == ["K74.6", "K74", "diseases of the digestive system"]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"codes": ["LAB//a"]}, r"timelines.codes: no training row knows LAB//a .*; did you mean LAB//A"),
        ({"codes": ["ZZZZ*"]}, r"knows ZZZZ\* by its prediction time; check its spelling"),
        ({"codes": ["LATE"]}, "knows LATE by its prediction time; the record has it, but later or of others"),
        ({"codes": ["TREAT"]}, "timelines.codes: TREAT is excluded"),
        ({"min_subjects": 13}, "no code that 13 training subjects have; lower timelines.min_subjects"),
    ],
)
def test_what_cannot_be_a_token_stops_with_its_name(
    make_record: MakeRecord, make_keys: MakeKeys, section: dict[str, Any], message: str
) -> None:
    record = make_record([event(1, "LAB//A"), event(1, "TREAT"), event(1, "LATE", known_time=9)])
    with pytest.raises(InputError, match=message):
        fit_timelines(record, make_keys((1, 5)), TimelinesSection.model_validate(section), ["TREAT"])


def test_no_training_rows_is_refused(make_record: MakeRecord, make_keys: MakeKeys) -> None:
    with pytest.raises(InputError, match="no training rows"):
        fit_timelines(make_record([event(1, "DX")]), make_keys((1, 5), splits=["held_out"]), TWO)
