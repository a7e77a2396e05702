"""What the report's part on treatments shows beside the plan's own values: charts, and rules in a reader's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from careloop.features import Recipe
from careloop.features.words import label
from careloop.report import charts

Json = Mapping[str, Any]


def treatment_charts(effects: Json, recipe: Recipe) -> dict[str, Any]:
    """SVG charts by name: effects (one a goal), balance, overlap, heterogeneity (one an option)."""
    words = _labels(recipe)
    balance = effects["balance"]
    differences = [(words.get(c["covariate"], c["covariate"]), c["before"], c["after"]) for c in balance["covariates"]]
    return {
        "effects": [_effect_chart(goal) for goal in effects["goals"]],
        "curves": charts.strategies([(curve["option"], curve["risk"]) for curve in effects["curves"]]),
        "balance": charts.love_plot(differences),
        "overlap": charts.overlap(balance["options"], balance["overlap_floor"]),
        "heterogeneity": [_group_chart(found) for found in effects["checks"]["heterogeneity"]],
    }


def trial_chart(trial: Json) -> str:
    """Cumulative incidence of the outcome under each strategy, with bands."""
    curves = [(each["strategy"], each["curve"]) for each in trial["emulated"]["strategies"] if each["curve"]["x"]]
    return charts.strategies(curves)


def policy_tree(effects: Json | None, recipe: Recipe) -> Json | None:
    """The plan's tree with its features called by their labels; None where it has none or asks nothing."""
    if effects is None or effects["tree"] is None or not effects["tree"]["rules"][0]["conditions"]:
        return None
    rules = [
        {**rule, "conditions": [in_labels(text, recipe) for text in rule["conditions"]]}
        for rule in effects["tree"]["rules"]
    ]
    return {**effects["tree"], "rules": rules}


def _labels(recipe: Recipe) -> dict[str, str]:
    return {column.name: label(column) for column in recipe.columns}


def in_labels(words: str, recipe: Recipe) -> str:
    """Words with the names of features replaced by their labels."""
    for name, shown in sorted(_labels(recipe).items(), key=lambda item: -len(item[0])):
        words = words.replace(name, shown)
    return words


def all_in_labels(content: Any, recipe: Recipe) -> Any:
    """Plain values with every text in labels."""
    if isinstance(content, str):
        return in_labels(content, recipe)
    if isinstance(content, Mapping):
        return {name: all_in_labels(value, recipe) for name, value in content.items()}
    return [all_in_labels(value, recipe) for value in content] if isinstance(content, list | tuple) else content


def _effect_chart(goal: Json) -> str:
    rows = [
        (f"{c['option']} vs {c['versus']}, {kind}", c[kind])
        for c in goal["contrasts"]
        for kind in ("adjusted", "plain")
    ]
    units = {"event": "difference in risk", "rmst": "difference in days"}
    unit = units.get(goal["kind"], f"difference in {goal['goal']}")
    return charts.forest(rows, title=f"Effects on {goal['goal']} ({goal['better']} is better)", unit=unit)


def _group_chart(found: Json) -> str:
    rows = [
        (f"fifth {group['group']}: estimated {group['estimated']:+.3g}", group["found"]) for group in found["groups"]
    ]
    title = f"{found['option']} vs {found['versus']}, by estimated effect"
    return charts.forest(rows, title=title, unit="difference found")
