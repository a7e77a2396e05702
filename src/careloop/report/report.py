"""report.html of a run: one self-contained page, made from the files of the run folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from careloop import __version__
from careloop.features import Column, Recipe
from careloop.features.words import is_yes_or_no, label, unit
from careloop.report import charts
from careloop.report.checklist import checklist
from careloop.report.genome_section import genome_section
from careloop.report.timeline_chart import timeline
from careloop.report.treatments import in_labels, policy_tree, treatment_charts, trial_chart

Json = Mapping[str, Any]
SPLITS = ("train", "tuning", "held_out")
MODEL_FIGURES = (
    ("AUROC", ("figures", "auroc")),
    ("AUPRC", ("figures", "auprc")),
    ("Brier score", ("figures", "brier")),
    ("calibration intercept", ("calibration", "intercept")),
    ("calibration slope", ("calibration", "slope")),
    ("observed : expected", ("calibration", "observed_expected")),
    ("Harrell's C", ("survival", "harrell_c")),
    ("Uno's C", ("survival", "uno_c")),
    ("integrated Brier", ("survival", "integrated_brier")),
)
DECISION_FIGURES = ("accuracy", "recall", "specificity", "precision", "f1", "net_benefit")
COMPARED = (("auroc", "AUROC"), ("auprc", "AUPRC"), ("brier", "Brier score"), ("net_benefit", "net benefit"))
# Beyond these the page would be unreadable; the complete tables are in the run folder.
MOST_CHARACTERISTICS, MOST_MISSING = 60, 30


@dataclass(frozen=True)
class Contents:
    """The files of a run folder that the report is made from."""

    study: Json
    record: Json
    flow: list[Json]
    recipe: Recipe
    evaluation: Json
    patients: list[Json]
    explanation: Json | None
    effects: Json | None
    trial: Json | None
    fusion: Json | None
    verdict: Json | None
    cohort: pl.DataFrame
    features: pl.DataFrame

    @classmethod
    def read(cls, run: Path) -> Contents:
        """Read the files; those of a study without a plan may be missing."""

        def content(name: str) -> Any:
            return json.loads((run / name).read_text()) if (run / name).exists() else None

        return cls(
            study=yaml.safe_load((run / "study.yaml").read_text()),
            record=content("record.json"),
            flow=content("flow.json"),
            recipe=Recipe.from_json((run / "recipe.json").read_text(encoding="utf-8")),
            evaluation=content("evaluation.json"),
            patients=content("patients.json") or [],
            explanation=content("explanation.json"),
            effects=content("effects.json"),
            trial=content("trial.json"),
            fusion=content("fusion.json"),
            verdict=content("outcome.json"),
            cohort=pl.read_parquet(run / "cohort.parquet"),
            features=pl.read_parquet(run / "features.parquet"),
        )


def write_report(run: Path, path: Path) -> None:
    """Write the report of the run folder `run` to `path`: tables, SVG charts and styles in one HTML file."""
    contents = Contents.read(run)
    environment = Environment(
        loader=PackageLoader("careloop.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    with charts.style():
        drawn, genome = _charts(contents), genome_section(contents.fusion)
    environment.filters["figure"] = with_interval
    environment.filters["signed"] = signed
    environment.filters["expected"] = expected
    environment.filters["sentence"] = sentence
    environment.filters["inline"] = inline
    environment.filters["in_labels"] = lambda words: in_labels(words, contents.recipe)
    page = environment.get_template("report.html.j2").render(
        version=__version__,
        study=contents.study,
        record=contents.record,
        flow=contents.flow,
        outcome=contents.evaluation["outcome"],
        bootstrap=contents.evaluation["bootstrap"],
        models=contents.evaluation["models"],
        primary=_primary(contents),
        model_table=_model_table(contents.evaluation["models"]),
        decision_table=_decision_table(contents.evaluation["models"]),
        comparisons=_comparisons(contents.evaluation),
        characteristics=list(_characteristics(contents)),
        columns=[(column, _title(column)) for column in contents.recipe.columns],
        notes=contents.recipe.notes,
        patients=contents.patients,
        explanation=contents.explanation,
        effects=contents.effects,
        tree=policy_tree(contents.effects, contents.recipe),
        trial=contents.trial,
        genome=genome,
        verdict=contents.verdict,
        checklist=checklist(contents.study, contents.flow, contents.recipe, contents.evaluation),
        charts=drawn,
    )
    path.write_text(page, encoding="utf-8")


def with_interval(estimate: Json | None, sign: Literal["", "+"] = "") -> Markup:
    """The value above its interval; a dash where nothing was computed."""
    if estimate is None:
        return Markup("–")
    if estimate["value"] is None:
        return Markup('<span title="{0}">not estimable<small>{0}</small></span>').format(estimate["reason"])
    size = abs(estimate["value"])
    form = f"{sign}.{3 if size < 2 else 2 if size < 10 else 1}f"
    if estimate["low"] is None:
        return Markup(f"{estimate['value']:{form}}")
    limits = f"{estimate['low']:{form}} to {estimate['high']:{form}}"
    return Markup(f'<span class="figure">{estimate["value"]:{form}}<small>{limits}</small></span>')


def signed(estimate: Json | None) -> Markup:
    """A difference with its sign, above its interval."""
    return with_interval(estimate, "+")


def inline(estimate: Json) -> str:
    """A difference with its sign and interval, for use in a sentence."""
    low, high = estimate["low"], estimate["high"]
    return f"{estimate['value']:+.3g}" + ("" if low is None else f" ({low:+.3g} to {high:+.3g})")


def expected(option: Json) -> str:
    """An option's expected value with its interval: a risk (0 to 1) in per cent, a measure as it is."""
    if option["expected"] is None:
        return "not estimable"
    low, middle, high = (option[side] for side in ("low", "expected", "high"))
    if option["kind"] == "event":
        return f"{middle:.0%} ({low:.0%} to {high:.0%})"
    if option["kind"] == "rmst":
        return f"{middle:.0f} days ({low:.0f} to {high:.0f})"
    return f"{middle:.4g} ({low:.4g} to {high:.4g})"


def sentence(words: str) -> str:
    """Words with a capital first letter and a full stop."""
    return f"{words[:1].upper()}{words[1:].rstrip('.')}."


def _primary(contents: Contents) -> str:
    named = contents.study.get("primary_model") or contents.study["models"][0]["name"]
    return str(named)


def _model_table(models: Json) -> dict[str, list[Json | None]]:
    """Figures by row title, one a model; rows that no model has are left out."""
    table: dict[str, list[Json | None]] = {}
    for title, (part, figure) in MODEL_FIGURES:
        values = [(model[part] or {}).get(figure) for model in models.values()]
        if any(value is not None for value in values):
            table[title] = values
    return table


def _decision_table(models: Json) -> dict[str, list[Json]]:
    return {name.replace("_", " "): [model["decision"][name] for model in models.values()] for name in DECISION_FIGURES}


def _comparisons(evaluation: Json) -> list[dict[str, Any]]:
    """Every pair of models with its paired differences, and whether AUROC and Brier tell them apart."""
    return [
        {
            "pair": f"{c['first']} - {c['second']}",
            "figures": [c["differences"][name] for name, _ in COMPARED],
            "apart": [title for name, title in COMPARED if _excludes_zero(c["differences"][name])],
        }
        for c in evaluation["comparisons"]
    ]


def _excludes_zero(estimate: Json) -> bool:
    return estimate["low"] is not None and (estimate["low"] > 0 or estimate["high"] < 0)


def _characteristics(contents: Contents) -> Iterator[tuple[str, list[str]]]:
    """Rows of the characteristics table: description, then the training, tuning and held-out subjects' figures."""
    split = contents.cohort["split"]
    chosen = contents.recipe.columns[:MOST_CHARACTERISTICS]
    yield "patients", [f"{(split == s).sum():,}" for s in SPLITS]
    yield "outcome within the horizon", [_share(contents.cohort.filter(split == s)["boolean_value"]) for s in SPLITS]
    for column in chosen:
        values = contents.features[column.name]
        yield _title(column), [_summary(values.filter(split == s), column) for s in SPLITS]


def _title(column: Column) -> str:
    measured = unit(column).strip()
    return f"{label(column)}, {measured}" if measured else label(column)


def _share(known: pl.Series) -> str:
    """Events as n (%) of those followed to the horizon, and how many were not."""
    followed = known.drop_nulls()
    lost = known.null_count()
    return f"{followed.sum():,} of {len(followed):,} followed" + (f"; {lost:,} censored before" if lost else "")


def _summary(values: pl.Series, column: Column) -> str:
    """`n (%)` of a 0/1 column, else the median and quartiles, with the number missing."""
    known = values.drop_nulls()
    if is_yes_or_no(column):
        having = int((known > 0).sum())
        return f"{having:,} ({having / max(len(known), 1):.0%})"
    if known.is_empty():
        return "none known"
    low, middle, high = (float(known.quantile(q, "linear") or 0.0) for q in (0.25, 0.5, 0.75))
    missing = f"; {values.null_count():,} missing" if values.null_count() else ""
    return f"{middle:.4g} [{low:.4g}, {high:.4g}]{missing}"


def _charts(contents: Contents) -> dict[str, Any]:
    models, outcome, primary = contents.evaluation["models"], contents.evaluation["outcome"], _primary(contents)
    drawn: dict[str, Any] = {
        "roc": charts.roc(models),
        "precision_recall": charts.precision_recall(models, outcome["prevalence"]["value"]),
        "calibration": {name: charts.calibration(model, name) for name, model in models.items()},
        "decision_curve": charts.decision_curve(models),
        "risk_groups": charts.risk_groups(models[primary]["risk_groups"], primary),
        "incidence": charts.incidence(outcome),
        "comparisons": _comparison_chart(contents.evaluation, primary),
        "subgroups": _subgroup_charts(models[primary]),
        "missingness": _missingness_chart(contents.recipe.columns),
        "patients": [_patient_chart(patient) for patient in contents.patients],
    }
    if contents.effects is not None:
        drawn |= treatment_charts(contents.effects, contents.recipe)
    if contents.trial is not None:
        drawn["trial"] = trial_chart(contents.trial)
    return drawn


def _comparison_chart(evaluation: Json, primary: str) -> str:
    """AUROC of the primary model against each other one, paired, whichever of the two the file names first."""
    rows = []
    for pair in evaluation["comparisons"]:
        if primary in (pair["first"], pair["second"]):
            other = pair["second"] if pair["first"] == primary else pair["first"]
            rows.append(
                (
                    f"{other}",
                    pair["differences"]["auroc"] if other == pair["first"] else _negated(pair["differences"]["auroc"]),
                )
            )
    return (
        charts.forest(rows, title=f"AUROC compared with {primary}", unit="difference on the same rows") if rows else ""
    )


def _negated(estimate: Json) -> Json:
    flipped = {"value": estimate["value"], "low": estimate["high"], "high": estimate["low"]}
    return {side: None if value is None else -value for side, value in flipped.items()}


def _subgroup_charts(model: Json) -> list[str]:
    if not model["subgroups"]:
        return []
    named = [(f"{s['variable']} {s['group']} (n = {s['rows']['n']})", s) for s in model["subgroups"]]
    overall = model["figures"]["auroc"]["value"]
    return [
        charts.forest(
            [(n, s["figures"]["auroc"]) for n, s in named], title="AUROC by subgroup", unit="AUROC", reference=overall
        ),
        charts.forest(
            [(n, s["figures"]["observed_expected"]) for n, s in named],
            title="Calibration by subgroup",
            unit="observed : expected",
            reference=1.0,
        ),
    ]


def _missingness_chart(columns: Sequence[Column]) -> str:
    shares = sorted(((label(c), c.missing_share) for c in columns if c.missing_share), key=lambda share: -share[1])
    return charts.missingness(shares[:MOST_MISSING]) if shares else ""


def _patient_chart(patient: Json) -> str:
    if patient.get("events"):
        return timeline(patient["events"], unit="share in the risk")
    return charts.contributions([(f["label"], f["contribution"]) for f in patient["factors"]], unit=patient["unit"])
