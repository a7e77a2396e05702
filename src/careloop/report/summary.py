"""The main figures of a run as plain values and as tables for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Json = Mapping[str, Any]
FIGURES = ("auroc", "auprc", "brier")
CALIBRATION = ("slope", "observed_expected")


def main_figures(run: Path) -> dict[str, Any]:
    """What `careloop run --json` prints: where the run is, and its main figures, each with its 95 % interval."""
    evaluation, verdict = _read(run / "evaluation.json"), _read(run / "outcome.json")
    effects, fusion = (_read(run / name) if (run / name).exists() else None for name in ("effects.json", "fusion.json"))
    return {
        "run": str(run.resolve()),
        "report": str((run / "report.html").resolve()),
        "record_version": _read(run / "record.json")["version"],
        "rows": evaluation["outcome"]["rows"],
        "models": {name: _model_figures(model) for name, model in evaluation["models"].items()},
        "genome": None if fusion is None else _genome_figures(fusion),
        "effects": None if effects is None else {goal["goal"]: goal["contrasts"] for goal in effects["goals"]},
        "decision": None if effects is None else effects["policy"],
        "verdict": verdict["words"],
        "patients": _read(run / "patients.json"),
        "not_for_clinical_use": True,
    }


def summary(figures: Json) -> str:
    """The main figures as text: a table of models, the patients, the treatments, the verdict, the report's path."""
    decision = figures["decision"]
    parts = [_model_table(figures), _patient_table(figures["patients"], decision)]
    parts += [_effect_table(goal, contrasts) for goal, contrasts in (figures["effects"] or {}).items()]
    said = [
        *figures["verdict"],
        *_genome_words(figures["genome"]),
        *([_sentence(decision["reason"])] if decision else []),
    ]
    lines = [
        *(_rendered(part) for part in parts),
        "In words, with 95 % intervals in brackets:",
        *(f"- {sentence}" for sentence in said),
        "",
        f"Report: {figures['report']}",
        "Research software, not for clinical use.",
    ]
    return "\n".join(lines)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "") -> str:
    """A plain table as text."""
    drawn = _table(title, columns)
    for row in rows:
        drawn.add_row(*("" if cell is None else str(cell) for cell in row))
    return _rendered(drawn)


def _model_figures(model: Json) -> dict[str, Any]:
    found = {name: model["figures"][name] for name in FIGURES}
    found |= {name: model["calibration"][name] for name in CALIBRATION}
    return found | ({"harrell_c": model["survival"]["harrell_c"]} if model["survival"] else {})


def _genome_figures(fusion: Json) -> dict[str, Any]:
    """What a genome adds: AUROC of the three forms of each model, paired gains over the clinical one, and in words."""
    models = {}
    for name, entry in fusion["models"].items():
        evaluation = entry["evaluation"]
        models[name] = {
            "auroc": {form: model["figures"]["auroc"] for form, model in evaluation["models"].items()},
            "gain": evaluation["comparisons"][0]["differences"],
            "words": entry["words"],
        }
    return {"models": models, "lead": fusion["lead"], "notes": fusion["notes"]}


def _genome_words(genome: Json | None) -> list[str]:
    """The sentences on the compared model of first interest, or why none was compared."""
    if genome is None:
        return []
    found: list[str] = genome["models"][genome["lead"]]["words"] if genome["lead"] else genome["notes"]
    return found


def _model_table(figures: Json) -> Table:
    rows = figures["rows"]
    title = f"{rows['n']} held-out rows, {rows['events']} events; 95 % intervals"
    drawn = _table(title, ["model", "AUROC", "AUPRC", "Brier", "slope", "observed : expected", "Harrell's C"])
    for name, model in figures["models"].items():
        drawn.add_row(name, *(_interval(model.get(f), ".2f") for f in (*FIGURES, *CALIBRATION, "harrell_c")))
    return drawn


def _patient_table(patients: Sequence[Json], decision: Json | None) -> Table:
    drawn = _table("Held-out patients", ["patient", "risk", "interval", "advice", "given", "what happened"])
    for patient in patients:
        interval = f"{patient['low']:.0%} to {patient['high']:.0%}"
        advice = _advice(patient["options"], decision["worse"] if decision else [])
        drawn.add_row(
            patient["name"], f"{patient['probability']:.0%}", interval, advice, patient["given"] or "", patient["later"]
        )
    return drawn


def _advice(options: Sequence[Json], worse: Sequence[str]) -> str:
    advised = [option["option"] for option in options if option["recommended"]]
    if advised or not options:
        return ", ".join(advised)
    return f"no single one; not {' or '.join(worse)}" if worse else "none"


def _effect_table(goal: str, contrasts: Sequence[Json]) -> Table:
    drawn = _table(f"Effects on {goal}", ["option", "compared with", "adjusted", "plain difference between arms"])
    for contrast in contrasts:
        figures = (_interval(contrast[kind], "+.3g") for kind in ("adjusted", "plain"))
        drawn.add_row(contrast["option"], contrast["versus"], *figures)
    return drawn


def _interval(estimate: Json | None, form: str) -> str:
    if estimate is None:
        return ""
    if estimate["value"] is None:
        return "not estimable"
    if estimate["low"] is None:
        return f"{estimate['value']:{form}}"
    return f"{estimate['value']:{form}} [{estimate['low']:{form}}, {estimate['high']:{form}}]"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _table(title: str, columns: Sequence[str]) -> Table:
    drawn = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for position, column in enumerate(columns):
        drawn.add_column(column, no_wrap=position == 0)
    return drawn


def _rendered(drawn: Table) -> str:
    width = None if Console().is_terminal else 170
    # Names of codes and arms are text: neither [x] nor :x: in them means anything.
    console = Console(width=width, force_terminal=False, no_color=True, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(drawn)
    return capture.get()


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
