"""The TRIPOD+AI checklist, filled with what a run knows and marked where only the authors can answer.

Source: Collins et al. 2024, BMJ 385:e078378, table 2; items are paraphrased.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from careloop.features import Recipe

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Item:
    """One item of the checklist: its number, what it asks, the answer, and who gave it."""

    number: str
    topic: str
    answer: str
    status: Literal["from this run", "for the authors"]


def checklist(study: Json, flow: list[Json], recipe: Recipe, evaluation: Json) -> list[Item]:
    """Return all items in order, for the contents of study.yaml, flow.json and evaluation.json, and the recipe."""
    answers = {
        **_methods(study, recipe, evaluation),
        **_results(flow, recipe, evaluation),
        "1": f"Development and evaluation of models in the study {study['name']}.",
        **({"3b": study["description"]} if study.get("description") else {}),
        "4": f"To predict {_outcome(study)}.",
    }
    return [_item(number, topic, answers.get(number)) for number, topic in TOPICS]


def _item(number: str, topic: str, answer: str | None) -> Item:
    if answer is None:
        return Item(number, topic, "For the authors to write.", "for the authors")
    return Item(number, topic, answer, "from this run")


def _methods(study: Json, recipe: Recipe, evaluation: Json) -> dict[str, str]:
    cohort, split = study["cohort"], study["cohort"]["split"]
    rows = evaluation["outcome"]["rows"]
    index = f"Index event {_codes(cohort['index']['codes'])} ({cohort['index']['which']})"
    shares = ", ".join(f"{split[part]:.0%} {part.replace('_', ' ')}" for part in ("train", "tuning", "held_out"))
    arms = cohort.get("treatment")
    tuned = [m["name"] for m in study["models"] if m.get("tuning")]
    return {
        "6b": f"{index}; each rule is a step of the flow.",
        "6c": f"Arms: {', '.join(arms['arms'])}; arm codes are not predictors."
        if arms
        else "Treatments are not modelled.",
        "7": "Events are read as of the prediction time; everything fitted is fitted on training rows only.",
        "8a": f"{_outcome(study)}; competing: {_codes(cohort['outcome']['competing']) or 'none'}.",
        "9a": f"All codes that enough training subjects have; {len(recipe.columns)} columns after selection.",
        "9b": "Every column with its code, window, aggregation and unit is listed below and in recipe.json.",
        "10": f"{rows['events']} events among {rows['n']} held-out rows. No formal calculation was made.",
        "11": "Trees take missing values as they are; other models take training medians and 0/1 indicators.",
        "12a": f"Split by {split['by']}: {shares}.",
        "12b": "Skewed non-negative columns as log(1 + x); standardised by training rows.",
        "12c": f"{', '.join(m['kind'] for m in study['models'])}; tuned: {', '.join(tuned) or 'none'}.",
        "12e": "Discrimination, calibration, overall and decision measures, with 95 % bootstrap intervals by subject.",
        "12f": "Recalibrated on tuning rows only where the model card says so.",
        "12g": "Held-out rows are predicted by the saved package.",
        "13": "Classes were neither resampled nor reweighted.",
        "14": _subgroup_text(study),
        "15": "Probability by the horizon; a threshold chosen as stated beside each model.",
        "16": "Training and evaluation share source, eligibility, outcome and predictors.",
        "18f": "careloop is open source (Apache-2.0); study.yaml and the record's version repeat the run.",
    }


def _results(flow: list[Json], recipe: Recipe, evaluation: Json) -> dict[str, str]:
    rows = evaluation["outcome"]["rows"]
    chain = [step for step in flow if step["kind"] == "chain"]
    return {
        "20a": f"{chain[0]['kept']} subjects in the record, {chain[-1]['kept']} in the study; see the flow.",
        "20b": "See the table of characteristics.",
        "20c": "The table of characteristics has training, tuning and held-out rows side by side.",
        "21": f"{recipe.training_rows} training rows of {recipe.training_subjects} subjects.",
        "22": "Each model is in models/ with features, units, preprocessing and versions; careloop predict applies it.",
        "23a": f"{rows['n']} held-out rows, {rows['events']} events, {rows['censored']} censored early; see tables.",
        "23b": "See the subgroups."
        if any(m["subgroups"] for m in evaluation["models"].values())
        else "No subgroups given.",
        "24": "No model was updated after the evaluation.",
    }


def _outcome(study: Json) -> str:
    outcome = study["cohort"]["outcome"]
    return f"{_codes(outcome['codes'])} within {outcome['horizon_days']:g} days"


def _codes(codes: list[str]) -> str:
    return ", ".join(codes)


def _subgroup_text(study: Json) -> str:
    named = [s["feature"] for s in study["evaluation"]["subgroups"]]
    if not named:
        return "No subgroups were named in evaluation.subgroups, so fairness was not looked at."
    return f"Error rates and calibration by {', '.join(named)}, with intervals."


TOPICS = (
    ("1", "Title: development or evaluation, target population, outcome"),
    ("2", "Abstract: TRIPOD+AI for abstracts"),
    ("3a", "Background: healthcare context, rationale, existing models"),
    ("3b", "Background: target population and intended use"),
    ("3c", "Background: known health inequalities"),
    ("4", "Objectives"),
    ("5a", "Data: sources, and why they represent the target population"),
    ("5b", "Data: dates of accrual and follow-up"),
    ("6a", "Participants: setting, number and location of centres"),
    ("6b", "Participants: eligibility"),
    ("6c", "Participants: treatments, and how they were handled"),
    ("7", "Data preparation and quality checks"),
    ("8a", "Outcome: definition, horizon, how and when assessed"),
    ("8b", "Outcome: assessors, if judgement is needed"),
    ("8c", "Outcome: blinding"),
    ("9a", "Predictors: choice and selection before modelling"),
    ("9b", "Predictors: definitions, how and when measured"),
    ("9c", "Predictors: assessors, if judgement is needed"),
    ("10", "Sample size"),
    ("11", "Missing data"),
    ("12a", "Analysis: how data were divided"),
    ("12b", "Analysis: handling of predictors"),
    ("12c", "Analysis: type of model, building, hyperparameters, internal validation"),
    ("12d", "Analysis: differences between clusters"),
    ("12e", "Analysis: measures and plots of performance"),
    ("12f", "Analysis: model updating"),
    ("12g", "Analysis: how predictions were calculated"),
    ("13", "Class imbalance"),
    ("14", "Fairness"),
    ("15", "Model output"),
    ("16", "Differences between development and evaluation data"),
    ("17", "Ethical approval and consent"),
    ("18a", "Funding"),
    ("18b", "Conflicts of interest"),
    ("18c", "Protocol"),
    ("18d", "Registration"),
    ("18e", "Data sharing"),
    ("18f", "Code sharing"),
    ("19", "Patient and public involvement"),
    ("20a", "Results: flow of participants, numbers with and without the outcome, follow-up"),
    ("20b", "Results: characteristics, missing data"),
    ("20c", "Results: development and evaluation data compared"),
    ("21", "Results: participants and events in each analysis"),
    ("22", "Results: full model, so that it can be used"),
    ("23a", "Results: performance with intervals, also in subgroups"),
    ("23b", "Results: heterogeneity between clusters or groups"),
    ("24", "Results: model updating"),
    ("25", "Discussion: interpretation, also of fairness"),
    ("26", "Discussion: limitations"),
    ("27a", "Usability: poor or missing input when the model is used"),
    ("27b", "Usability: users' interaction and expertise"),
    ("27c", "Usability: next steps, applicability, generalisability"),
)
