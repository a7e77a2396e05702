"""Zero-shot questions: what they count, whom they refuse, that nothing known later matters, and the command."""

from __future__ import annotations

import dataclasses
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import binomtest, norm

from careloop import InputError
from careloop.cli import main
from careloop.features.timelines import TimelinesSection, Token, extract_timelines, fit_timelines
from careloop.models.sequence.arrays import FIRST_CODE
from careloop.models.sequence.training.pretraining import PretrainingNetwork
from careloop.predict.futures import (
    NOTE,
    Question,
    ask,
    asked_keys,
    futures_in_words,
    simulate,
    tokens_of,
    value_table,
    wilson,
    zero_shot_risk,
)
from careloop.record import Record
from careloop.record.schema import DEATH
from careloop.train.pretraining import Pretrained, PretrainingSection, save_pretrained

DAY_0 = datetime(2020, 1, 1, tzinfo=UTC)
SUBJECTS = 40
QUESTION = Question(("ICD10CM//K74*",), 20.0, futures=20)


def events(subject: int, random: np.random.Generator) -> list[dict[str, Any]]:
    """Visits two weeks apart, each with a laboratory value, some with a diagnosis."""
    rows: list[dict[str, Any]] = [{"code": "SEX//F"}, {"code": "MEDS_BIRTH", "time": DAY_0 - timedelta(days=18_000)}]
    for visit in range(6):
        time = DAY_0 + timedelta(days=14 * visit + float(random.random()))
        rows.append(
            {"code": "LOINC//718-7", "time": time, "numeric_value": float(random.normal(13, 2)), "unit": "g/dL"}
        )
        rows += [{"code": f"ICD10CM//K7{d}.0", "time": time} for d in (4, 5) if random.random() < 0.3]
    return [{"subject_id": subject, **row} for row in rows]


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A record of patients with visits."""
    random = np.random.default_rng(0)
    rows = [row for subject in range(SUBJECTS) for row in events(subject, random)]
    schema = {"subject_id": pl.Int64, "code": pl.String, "time": pl.Datetime("us", "UTC"),
              "numeric_value": pl.Float32, "unit": pl.String}  # fmt: skip
    found = Record.create(tmp_path_factory.mktemp("futures") / "record", shards=2)
    return found.append(pl.DataFrame(rows, schema=schema), key="visits")


@pytest.fixture(scope="module")
def pretrained(record: Record) -> Pretrained:
    """A network with the record's timelines that has learnt nothing: waits of days, any code."""
    keys = asked_keys(record, range(SUBJECTS), None)
    recipe = fit_timelines(record, keys, TimelinesSection(min_subjects=3, most_events=64, quantiles=4))
    section = PretrainingSection(objective="next", size="tiny")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = PretrainingNetwork(recipe.token_space(), section.recipe.shape)
    with torch.no_grad():
        network.gap.bias[:14] = -6.0
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    return Pretrained(section, recipe, weights, np.arange(SUBJECTS // 2), (), record.version)


def test_an_answer_is_the_share_of_futures_with_an_event(record: Record, pretrained: Pretrained) -> None:
    found = ask(pretrained, record, QUESTION, subjects=[30, 3])
    assert found["subject_id"].to_list() == [30, 3]
    keys = asked_keys(record, [30, 3], None)
    assert found["prediction_time"].to_list() == keys["prediction_time"].to_list()
    timelines = extract_timelines(record, keys, pretrained.recipe)
    tokens = [
        n for n, token in enumerate(pretrained.recipe.tokens, FIRST_CODE) if token.code.startswith("ICD10CM//K74")
    ]
    futures = simulate(pretrained, timelines.sequences, QUESTION, ends=tokens)
    hits = np.array([[any(t in tokens for _, t, _ in futures.events_of(r, f)) for f in range(20)] for r in range(2)])
    assert found["probability"].to_list() == hits.mean(axis=1).tolist()
    assert 0 < hits.mean() < 1
    limits = [binomtest(int(k), 20).proportion_ci(0.95, "wilson") for k in hits.sum(axis=1)]
    np.testing.assert_allclose(found["low"], [c.low for c in limits], atol=1e-12)
    np.testing.assert_allclose(found["high"], [c.high for c in limits], atol=1e-12)
    for share, days in found.select("probability", "median_days").iter_rows():
        assert (days is None) == (share < 0.5)


def test_nothing_known_later_changes_an_answer(record: Record, pretrained: Pretrained, tmp_path: Path) -> None:
    at = DAY_0 + timedelta(days=40)
    before = ask(pretrained, record, QUESTION, subjects=[5, 6], prediction_time=at)
    later = pl.DataFrame(
        {"subject_id": [5, 6, 6], "code": ["ICD10CM//K74.0"] * 3, "time": [at - timedelta(days=d) for d in (1, 2, 3)],
         "known_time": [at + timedelta(days=d) for d in (1, 2, 3)]}
    )  # fmt: skip
    copy = Record.create(tmp_path / "copy", shards=2).append(record.events().collect(), key="visits")
    assert ask(pretrained, copy.append(later, key="later"), QUESTION, subjects=[5, 6], prediction_time=at).equals(
        before
    )


def test_a_subject_without_events_has_no_answer(record: Record, pretrained: Pretrained) -> None:
    plain = pretrained.recipe
    section = plain.section.model_copy(update={"exclude_codes": ("SEX//*",)})
    model = dataclasses.replace(pretrained, recipe=dataclasses.replace(plain, section=section))
    early = DAY_0 - timedelta(days=1)
    found = ask(model, record, QUESTION, subjects=[1], prediction_time=early)
    assert found.row(0)[2:] == (None,) * 5
    with pytest.raises(InputError, match="no event of subject 1 is known"):
        futures_in_words(model, record, QUESTION, subject=1, prediction_time=early)


def test_zero_shot_risk_is_of_people_the_network_has_not_seen(record: Record, pretrained: Pretrained) -> None:
    unseen = extract_timelines(record, asked_keys(record, [30, 31], None), pretrained.recipe)
    risk = zero_shot_risk(pretrained, unseen, QUESTION)
    assert risk.tolist() == ask(pretrained, record, QUESTION, subjects=[30, 31])["probability"].to_list()
    seen = extract_timelines(record, asked_keys(record, [3], None), pretrained.recipe)
    with pytest.raises(InputError, match="pre-trained on"):
        zero_shot_risk(pretrained, seen, QUESTION)


def test_futures_end_with_death(record: Record, pretrained: Pretrained) -> None:
    recipe = dataclasses.replace(pretrained.recipe, tokens=(*pretrained.recipe.tokens, Token(DEATH)))
    section = pretrained.section
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = PretrainingNetwork(recipe.token_space(), section.recipe.shape)
    with torch.no_grad():
        network.gap.bias[:14] = -6.0
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    model = dataclasses.replace(pretrained, recipe=recipe, weights=weights)
    timelines = extract_timelines(record, asked_keys(record, [1, 2], None), recipe)
    found = simulate(model, timelines.sequences, QUESTION)
    path = found.row * found.futures + found.future
    deaths = np.flatnonzero(found.token == recipe.numbers[DEATH, None])
    assert len(deaths)
    assert set(deaths) <= set(np.flatnonzero(np.diff(path, append=-1)))


def test_tokens_of_codes(pretrained: Pretrained) -> None:
    recipe = pretrained.recipe
    assert tokens_of(recipe, ["LOINC//718-7"]) == (recipe.numbers["LOINC//718-7", None],)
    both = {n for (code, _), n in recipe.numbers.items() if code.startswith("ICD10CM//K7")}
    assert set(tokens_of(recipe, ["ICD10CM//K7*", "ICD10CM//K74.0"])) == both
    with pytest.raises(
        InputError, match=r"no token of the network is ICD10CM//K74\.09; it stands under ICD10CM//K74\.0"
    ):
        tokens_of(recipe, ["ICD10CM//K74.09"])
    with pytest.raises(InputError, match="did you mean LOINC//718-7"):
        tokens_of(recipe, ["LOINC//718-8"])


def test_numbers_of_quantiles_lie_within_their_edges(pretrained: Pretrained) -> None:
    token = pretrained.recipe.numbers["LOINC//718-7", None]
    one, row = pretrained.recipe.tokens[token - FIRST_CODE], value_table(pretrained.recipe)[token]
    edges = (np.array(one.edges) - one.mean) / one.standard_deviation
    assert (np.searchsorted(edges, row) == np.arange(4)).all()
    # The values are normal, so that the inner middles are near the normal distribution's.
    np.testing.assert_allclose(row[1:3], norm.ppf([3 / 8, 5 / 8]), atol=0.15)
    assert np.isnan(value_table(pretrained.recipe)[pretrained.recipe.numbers["SEX//F", None]]).all()


def test_a_network_of_hidden_events_cannot_be_asked(record: Record, pretrained: Pretrained) -> None:
    section = PretrainingSection(objective="masked", size="tiny")
    network = PretrainingNetwork(pretrained.recipe.token_space(), section.recipe.shape)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    masked = dataclasses.replace(pretrained, section=section, weights=weights)
    with pytest.raises(InputError, match="objective: next"):
        ask(masked, record, QUESTION, subjects=[1])
    with pytest.raises(InputError, match="no facts about subject 999"):
        ask(pretrained, record, QUESTION, subjects=[1, 999])


def test_wilson_at_the_ends() -> None:
    low, high = wilson(np.array([0.0, 1.0, np.nan]), 20)
    assert low[0] == 0
    assert high[1] == 1
    assert high[0] == pytest.approx(binomtest(0, 20).proportion_ci(0.95, "wilson").high)
    assert np.isnan(low[2])


def test_the_command_answers_in_words_and_in_json(
    record: Record,
    pretrained: Pretrained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import careloop.cli.ask  # noqa: F401

    save_pretrained(pretrained, tmp_path / "pretrained")
    asked = ["careloop", "ask", str(tmp_path / "pretrained"), "--record", str(record.path), "--subject", "30",
             "--code", "ICD10CM//K74*", "--horizon-days", "20", "--futures", "20"]  # fmt: skip
    expected = ask(pretrained, record, QUESTION, subjects=[30])

    def run(*more: str) -> str:
        monkeypatch.setattr(sys, "argv", [*asked, *more])
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
        return capsys.readouterr().out

    content = json.loads(run("--json", "--show-futures"))
    assert content["answers"][0]["probability"] == expected["probability"][0]
    assert content["not_for_clinical_use"] is True
    assert len(content["shown_futures"]) == 3
    text = run("--show-futures")
    assert f"{expected['probability'][0]:.1%}" in text
    assert "Future 3 of subject 30\nday " in text
    assert text.rstrip().endswith(NOTE)
