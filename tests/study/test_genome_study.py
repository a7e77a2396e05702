"""Clinic, genome and both in one study: trained on the same rows, told apart by chance or truly, and kept in order."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from scipy import sparse

from careloop.evaluate import Outcomes, Threshold, compare, reclassify
from careloop.features import Column, FeatureMatrix, Recipe
from careloop.genome.findings.scores.simulated_patients import simulated_patients
from careloop.record import Record
from careloop.report.summary import main_figures, summary
from careloop.study import Study, example_study
from careloop.study.genome_stages import compared_models, divided, event_rate, has_any, is_of_genome, notes
from careloop.study.genome_words import genome_words
from careloop.train import ModelSection, open_package

PEOPLE = 4_000
SIDES = ("events", "event_free")


@dataclass(frozen=True)
class Fused:
    """A finished run on simulated patients."""

    study: Study
    record: Record
    run: Path

    @property
    def fusion(self) -> Any:
        return json.loads((self.run / "fusion.json").read_text())

    def again(self, study: Study, run: Path | None = None) -> list[str]:
        """Run another form of the study on the record; the stages that ran."""
        ran: list[str] = []
        study.run(self.record, run or self.run, notify=lambda s, state: ran.append(s) if state == "done" else None)
        return ran


def study_of(**sections: Any) -> Study:
    """The packaged study with one model and few resamples, and other sections where given."""
    content = yaml.safe_load(example_study("genome").read_text(encoding="utf-8"))
    content["models"] = [{"kind": "logistic_regression"}]
    content["evaluation"]["resamples"] = 200
    return Study.model_validate({**content, **sections})


def fused(folder: Path, **drawn: Any) -> Fused:
    record, study = simulated_patients(folder / "record", people=PEOPLE, **drawn), study_of()
    study.run(record, folder / "run")
    return Fused(study, record, folder / "run")


@pytest.fixture(scope="module")
def as_drawn(tmp_path_factory: pytest.TempPathFactory) -> Fused:
    return fused(tmp_path_factory.mktemp("as_drawn"))


@pytest.fixture(scope="module")
def shuffled(tmp_path_factory: pytest.TempPathFactory) -> Fused:
    return fused(tmp_path_factory.mktemp("shuffled"), outcome="shuffled", seed=1)


# --- what is found


def test_three_forms_stand_side_by_side(as_drawn: Fused) -> None:
    entry = as_drawn.fusion["models"]["logistic_regression"]
    models, pairs = entry["evaluation"]["models"], entry["evaluation"]["comparisons"]
    assert set(models) == {"clinical", "genome", "both"}
    assert [(p["first"], p["second"]) for p in pairs] == [
        ("both", "clinical"), ("both", "genome"), ("clinical", "genome"),
    ]  # fmt: skip
    assert all(pair["differences"][f]["low"] is not None for pair in pairs for f in ("auroc", "brier", "net_benefit"))
    assert entry["reclassification"]["limits"] == [0.05, 0.1, 0.2]
    assert as_drawn.fusion["threshold"] == {"value": 0.1, "rule": "from the study file"}


def test_the_genome_adds_what_was_put_into_it(as_drawn: Fused) -> None:
    entry = as_drawn.fusion["models"]["logistic_regression"]
    gain = entry["evaluation"]["comparisons"][0]["differences"]
    assert gain["auroc"]["low"] > 0
    assert gain["brier"]["high"] < 0
    assert entry["evaluation"]["models"]["genome"]["figures"]["auroc"]["low"] > 0.5
    assert entry["reclassification"]["figures"]["idi"]["low"] > 0
    assert "The genome adds" in entry["words"][1]
    page = (as_drawn.run / "report.html").read_text(encoding="utf-8")
    assert "What the genome adds" in page
    assert entry["words"][0] in page
    assert "Simulated patients" in page
    figures = main_figures(as_drawn.run)
    assert figures["genome"]["models"]["logistic_regression"]["gain"]["auroc"] == gain["auroc"]
    assert f"- {entry['words'][0]}" in summary(figures)


def test_shuffled_outcomes_are_foretold_by_nothing(shuffled: Fused) -> None:
    """One seed; benchmarks/genome_fusion.py counts of how many seeds this is true (95 of 100 would be right)."""
    entry = shuffled.fusion["models"]["logistic_regression"]
    auroc = entry["evaluation"]["models"]["both"]["figures"]["auroc"]
    assert auroc["low"] < 0.5 < auroc["high"]
    gain = entry["evaluation"]["comparisons"][0]["differences"]
    assert gain["auroc"]["low"] <= 0 <= gain["auroc"]["high"]
    assert gain["net_benefit"]["low"] <= 0  # columns of noise can only do harm
    assert "No gain in AUROC can be told from chance" in entry["words"][1]


def test_figures_follow_from_the_packages_on_the_same_rows(as_drawn: Fused) -> None:
    run, entry = as_drawn.run, as_drawn.fusion["models"]["logistic_regression"]
    rows = pl.read_parquet(run / "cohort.parquet")
    held_out = rows.filter(pl.col("split") == "held_out")
    matrix = FeatureMatrix.from_frame(pl.read_parquet(run / "features.parquet")).filter(rows["split"] == "held_out")
    outcomes = Outcomes(*(held_out[c].to_numpy() for c in ("subject_id", "follow_up_days", "event")), 3650.0)
    parts = [open_package(run / "fusion/logistic_regression" / part) for part in ("clinical", "genome")]
    clinical, both = parts[0].risk(matrix), open_package(run / "models/logistic_regression").risk(matrix)
    threshold = Threshold(0.1, "stated")
    paired = compare(both, clinical, outcomes, threshold=threshold, resamples=200, seed=0)
    told = entry["evaluation"]["comparisons"][0]["differences"]["auroc"]
    assert (told["value"], told["low"]) == (paired.differences["auroc"].value, paired.differences["auroc"].low)
    moved = reclassify(clinical, both, outcomes, limits=(0.05, 0.1, 0.2), resamples=200, seed=0)
    assert entry["reclassification"]["figures"]["nri_events"]["high"] == moved.figures["nri_events"].high
    columns = [{is_of_genome(column.code) for column in package.recipe.columns} for package in parts]
    assert columns == [{False}, {True}]
    counts = {p.facts.training_rows for p in parts} | {
        open_package(run / "models/logistic_regression").facts.training_rows
    }
    assert counts == {(rows["split"] == "train").sum()}


def test_those_without_a_genome_are_counted_and_kept(as_drawn: Fused) -> None:
    fusion = as_drawn.fusion
    held_out = fusion["rows"]["held_out"]
    assert 0.9 * held_out < fusion["rows"]["with_genome"] < held_out
    assert (
        f"{held_out - fusion['rows']['with_genome']:,} of {held_out:,} held-out rows have no genome"
        in fusion["notes"][0]
    )
    evaluated = fusion["models"]["logistic_regression"]["evaluation"]["outcome"]["rows"]["n"]
    assert evaluated == held_out


# --- stages


def test_finished_stages_are_not_run_again(as_drawn: Fused) -> None:
    assert as_drawn.again(as_drawn.study) == []


def test_other_risk_categories_train_nothing_again(as_drawn: Fused, tmp_path: Path) -> None:
    evaluation = {**as_drawn.study.evaluation.model_dump(), "risk_categories": [0.15]}
    other = as_drawn.study.model_copy(update={"evaluation": type(as_drawn.study.evaluation)(**evaluation)})
    ran = as_drawn.again(other)
    assert "genome beside clinic" in ran
    assert "report" in ran
    assert not [stage for stage in ran if stage.startswith("model ")]
    assert as_drawn.fusion["models"]["logistic_regression"]["reclassification"]["limits"] == [0.15]
    as_drawn.again(as_drawn.study)  # as the other tests expect it


def test_without_genome_columns_there_is_no_comparison(as_drawn: Fused, tmp_path: Path) -> None:
    run = tmp_path / "run"
    features = {"windows_days": ["all"], "value": ["last"], "code": ["present"]}
    as_drawn.again(study_of(features={**features, "exclude_codes": ["LOINC//*"]}), run)
    assert (run / "fusion.json").exists()
    ran = as_drawn.again(study_of(features={**features, "exclude_codes": ["GENOME//*"]}), run)
    assert not [stage for stage in ran if "genome" in stage]
    assert not (run / "fusion.json").exists()
    assert not (run / "fusion").exists()
    assert "What the genome adds" not in (run / "report.html").read_text(encoding="utf-8")


def test_each_part_is_selected_from_its_own_columns(as_drawn: Fused, tmp_path: Path) -> None:
    """With room for two columns the clinical model gets two clinical ones, not what two of all columns leave it."""
    features = {"windows_days": ["all"], "value": ["last"], "code": ["present"], "selection": {"keep_top": 2}}
    as_drawn.again(study_of(features=features), tmp_path / "run")
    whole = Recipe.from_json((tmp_path / "run/recipe.json").read_text())
    columns = json.loads((tmp_path / "run/fusion.json").read_text())["columns"]
    assert len(whole.columns) == len(columns["clinical"]) == len(columns["genome"]) == 2
    assert {is_of_genome(column.code) for column in whole.columns} == {True, False}


def test_nothing_but_a_genome_is_said_and_not_compared(as_drawn: Fused, tmp_path: Path) -> None:
    features = {"age": "none", "codes": ["SIMULATED//CHECK_UP"], "static": ["GENOME//SCORE//SIMULATED_CAD"]}
    as_drawn.again(study_of(features={**features, "code": ["present"], "windows_days": ["all"]}), tmp_path / "run")
    fusion = json.loads((tmp_path / "run/fusion.json").read_text())
    assert (fusion["lead"], fusion["models"]) == (None, {})
    assert "nothing clinical" in fusion["notes"][0]
    assert "nothing clinical" in summary(main_figures(tmp_path / "run"))
    assert "nothing clinical" in (tmp_path / "run/report.html").read_text(encoding="utf-8")


# --- parts


def test_a_sequence_model_is_not_compared_by_columns() -> None:
    models = [{"kind": "gru"}, {"kind": "cox"}]
    chosen = compared_models(study_of(models=models, primary_model="gru"))
    assert [model.kind for model in chosen][1:] in (["logistic_regression", "lightgbm"], ["lightgbm"])
    assert "gru" not in [model.kind for model in chosen]
    assert compared_models(study_of(models=models, primary_model="cox"))[0].name == "cox"
    assert isinstance(chosen[0], ModelSection)


def test_columns_are_divided_by_their_codes() -> None:
    codes = ["MEDS_BIRTH", "GENOME//SCORE//A", "PGX//CYP2C19//PHENOTYPE", "LOINC//1", "GENOMES//x"]
    recipe = Recipe(tuple(Column(f"c{i}", "static_value", code, "value") for i, code in enumerate(codes)))
    assert divided(recipe) == {"clinical": ("c0", "c3", "c4"), "genome": ("c1", "c2")}


def test_a_row_has_a_genome_when_a_column_says_anything() -> None:
    recipe = Recipe(
        (
            Column("score", "static_value", "GENOME//SCORE//A", "value"),
            Column("text", "static_category", "PGX//B", "category"),
        )
    )
    values = np.array([[0, 0], [np.nan, 0], [np.nan, 1], [2, 1]], dtype=np.float32)
    keys = pl.DataFrame({"subject_id": range(4), "prediction_time": [None] * 4})
    dense = FeatureMatrix(keys, recipe.names, values)
    assert has_any(dense, recipe).tolist() == [True, False, True, True]
    stored = sparse.csr_matrix((values.ravel(), np.tile([0, 1], 4), np.arange(5) * 2), shape=(4, 2))

    class Wide(FeatureMatrix):
        def select(self, names: Any) -> FeatureMatrix:  # a matrix this narrow would become dense
            return self

    assert has_any(Wide(keys, recipe.names, stored), recipe).tolist() == [True, False, True, True]


def test_event_rate_accounts_for_censoring() -> None:
    """Half are censored before the horizon; of the others 30 % have the outcome: Kaplan-Meier's 30 %."""
    days = np.array([0.5] * 100 + [2.0] * 70 + [0.9] * 30)
    event = np.array([0] * 100 + [0] * 70 + [1] * 30)
    assert event_rate(Outcomes(np.arange(200), days, event, 1.0)) == pytest.approx(0.3)


def test_words_say_when_no_interval_can_be_given() -> None:
    few = {"value": 0.1, "low": None, "high": None, "reason": "3 subjects with"}
    entry = {
        "evaluation": {
            "models": {part: {"figures": {"auroc": few}} for part in ("both", "clinical", "genome")},
            "comparisons": [{"differences": {"auroc": few, "net_benefit": few}, "net_benefit_threshold": 0.1}],
        },
        "reclassification": {
            "limits": [0.1],
            "figures": dict.fromkeys([f"{way}_{side}" for way in ("up", "down", "nri") for side in SIDES], few),
        },
    }
    words = " ".join(genome_words("m", entry))
    assert "cannot be said: 3 subjects with" in words
    assert "None" not in words
    assert not [n for n in notes({"models": {"m": entry}, "rows": {"held_out": 5, "with_genome": 5}}) if "of 5" in n]


def test_simulated_patients_are_the_same_every_time(tmp_path: Path) -> None:
    first, second = (simulated_patients(tmp_path / name, people=300, seed=3) for name in ("a", "b"))
    one, two = (r.events().sort("subject_id", "code", "time", "numeric_value").collect() for r in (first, second))
    assert one.drop("asset").equals(two.drop("asset"))
    again = simulated_patients(tmp_path / "a", people=300, seed=3)
    assert again.version == first.version
