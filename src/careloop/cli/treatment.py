"""The commands about treatment: a run's plan, one patient's plan as page and FHIR, safety of drugs, and decisions."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from careloop import InputError
from careloop.cli.command import FOLDER, MOMENT, cli, json_option, record_option
from careloop.cli.output import show

if TYPE_CHECKING:
    import polars as pl

    from careloop.plan import Plan
    from careloop.plan.safety import Finding

NOT_CLINICAL = "Research software, not for clinical use."


@cli.command()
@click.argument("run", type=FOLDER)
@click.option("--subject", "subjects", type=int, multiple=True, help="Also show this subject's ranked options.")
@click.option(
    "--at",
    type=MOMENT,
    metavar="TIME",
    help="With --page, --pdf, --fhir: prediction time, UTC; default: the last.",
)
@click.option("--page", type=FOLDER, help="With one --subject: write its plan as an HTML page to print.")
@click.option("--pdf", type=FOLDER, help="The same as PDF (extra `pdf`).")
@click.option("--fhir", type=FOLDER, help="The same as a FHIR R4 bundle: RiskAssessment, CarePlan, DetectedIssue.")
@click.option("--language", type=click.Choice(["en", "zh"]), default="en", show_default=True, help="Of page and PDF.")
@json_option
def plan(
    run: Path,
    subjects: tuple[int, ...],
    at: datetime | None,
    page: Path | None,
    pdf: Path | None,
    fhir: Path | None,
    language: str,
    as_json: bool,
) -> None:
    """Show what RUN's treatments do, what is advised and why, and for whom."""
    import polars as pl

    from careloop.study import RunFolder, read_plan

    folder, documents = RunFolder.reopen(run), {"page": page, "pdf": pdf, "fhir": fhir}
    wanted = {kind: path for kind, path in documents.items() if path is not None}
    if wanted and len(subjects) != 1:
        raise click.UsageError("--page, --pdf and --fhir go with exactly one --subject")
    found = read_plan(folder)
    if found is None and not wanted:
        raise InputError(f"{run} has no plan; add cohort.treatment and plan to the study, and run it again")
    text, shown = ([], {}) if found is None else _effects(found, run)
    if found is not None and subjects:
        rows = found.table.filter(pl.col("subject_id").is_in(list(subjects)))
        unknown = sorted(set(subjects) - set(rows["subject_id"]))
        if unknown:
            raise InputError(
                f"{run} has no plan for subject {unknown[0]}; plan.parquet has those that entered the study"
            )
        text.append(_ranked(found, rows))
        shown["options_by_subject"] = rows.sort("subject_id", "prediction_time", "rank").to_dicts()
    if wanted:
        _write_documents(
            folder, subjects[0], wanted, at=None if at is None else at.replace(tzinfo=UTC), language=language
        )
        text += [f"Wrote {path}" for path in wanted.values()]
        shown["written"] = {kind: str(path) for kind, path in wanted.items()}
    show({**shown, "not_for_clinical_use": True}, "\n".join([*text, NOT_CLINICAL]), as_json=as_json)


def _effects(found: Plan, run: Path) -> tuple[list[str], dict[str, Any]]:
    """The plan in sentences, a readable rule with its features in words, and the plan as JSON."""
    from careloop.features import Recipe
    from careloop.report.treatments import in_labels, policy_tree

    content, sentences = found.to_json(), [*found.words[:-1], *found.checks.words, found.words[-1]]
    recipe = Recipe.from_json((run / "recipe.json").read_text(encoding="utf-8"))
    lines = [f"- {in_labels(sentence, recipe)}" for sentence in sentences]
    tree = policy_tree(content, recipe)
    if tree is not None:
        lines.append(f"A rule that can be read, {'' if tree['shown_better'] else 'not '}shown to be better:")
        lines += [f"  {' and '.join(rule['conditions'])}: {rule['option']}" for rule in tree["rules"]]
    return lines, content


def _ranked(found: Plan, rows: pl.DataFrame) -> str:
    """Each subject's options: rank, expected value, status, and what safety says."""
    import polars as pl

    from careloop.report.summary import table

    limits = pl.format("{} to {}", pl.col("low").round_sig_figs(3), pl.col("high").round_sig_figs(3))
    advice = pl.when("recommended").then(pl.lit("recommended")).otherwise("status")
    columns = [
        "subject",
        "prediction time, UTC",
        "option",
        "rank",
        f"expected {found.goals[0].goal}",
        "95 % interval",
        "advice",
        "safety",
    ]
    shown = rows.sort("subject_id", "prediction_time", "rank", nulls_last=True).select(
        "subject_id", pl.col("prediction_time").dt.strftime("%Y-%m-%dT%H:%M:%S"), "option", "rank",
        pl.col("expected").round_sig_figs(3), limits, advice,
        pl.col("safety").list.eval(pl.element().str.replace(r" \[[^\]]*\]$", "")).list.join("; "),
    )  # fmt: skip
    return table(columns, shown.rows())


def _write_documents(folder: Any, subject: int, wanted: dict[str, Path], *, at: datetime | None, language: str) -> None:
    import json

    from careloop.plan.document.fhir import plan_bundle
    from careloop.report.plan_page import write_plan_page, write_plan_pdf
    from careloop.study import Study
    from careloop.study.patient_plans import read_patient_plan

    mine = read_patient_plan(Study.read(folder.path / "study.yaml"), folder, subject, at=at)
    if "page" in wanted:
        write_plan_page(mine, wanted["page"], language="zh" if language == "zh" else "en")
    if "pdf" in wanted:
        write_plan_pdf(mine, wanted["pdf"], language="zh" if language == "zh" else "en")
    if "fhir" in wanted:
        text = json.dumps(plan_bundle(mine), ensure_ascii=False, indent=2)
        wanted["fhir"].write_text(text, encoding="utf-8")


@cli.command()
@record_option(required=True)
@click.option("--subject", type=int, required=True, help="The patient.")
@click.option("--drug", "drugs", multiple=True, required=True, help="Ingredient, brand or code, such as RXNORM//36567.")
@click.option("--at", type=MOMENT, metavar="TIME", help="Facts as known then, UTC; default: when the last was known.")
@click.option("--rules", type=FOLDER, multiple=True, help="Folder of rules that add to careloop's, or replace some.")
@json_option
def safety(
    record_path: Path, subject: int, drugs: tuple[str, ...], at: datetime | None, rules: tuple[Path, ...], as_json: bool
) -> None:
    """Check drugs for one patient: allergies, conditions, organ function, pregnancy, interactions, doses, genes.

    What a rule needs to know and the record does not say is asked for, never passed over.
    """
    from dataclasses import asdict

    from careloop.plan.safety import SafetySection, safety_findings
    from careloop.plan.safety.definition import SHIPPED
    from careloop.predict.recorded import patient_keys
    from careloop.record import Record

    record = Record.open(record_path)
    named = {drug: [{"code" if "//" in drug else "ingredient": drug}] for drug in drugs}
    section = SafetySection.model_validate({"options": named, "rules": [SHIPPED, *map(str, rules)]})
    key = patient_keys(record, [subject], None if at is None else at.replace(tzinfo=UTC))
    found = safety_findings(record.events(), key, section, codes=record.code_metadata())
    (by_option,) = found.values()
    lines = [_finding(option, finding) for option, each in by_option.items() for finding in each]
    lines += [f"{option}: no rule applies" for option, each in by_option.items() if not each]
    shown = {option: [asdict(finding) for finding in each] for option, each in by_option.items()}
    content = {"subject_id": subject, "as_of": key["prediction_time"][0].isoformat(), "findings": shown}
    show({**content, "not_for_clinical_use": True}, "\n".join([*lines, NOT_CLINICAL]), as_json=as_json)


def _finding(option: str, finding: Finding) -> str:
    from careloop.plan.safety.apply import sentence

    words = {"block": "DO NOT GIVE", "ask": "ASK FIRST", "caution": "caution", "info": "note"}
    return f"{words[finding.severity]}: {sentence(finding)}"


@cli.command()
@click.argument("action", type=click.Choice(["accept", "change", "reject"]))
@record_option(required=True)
@click.option("--plan", "plan_name", required=True, help="The study whose plan it is.")
@click.option("--subject", type=int, required=True, help="The patient.")
@click.option("--at", type=MOMENT, metavar="TIME", required=True, help="Prediction time of the plan, UTC.")
@click.option("--chosen", help="With change: the option given instead.")
@click.option("--reason", help="With change and reject: why.")
@click.option("--actor", help="Who decided, as the hospital wants it kept.")
@json_option
def decide(
    action: Any, record_path: Path, plan_name: str, subject: int, at: datetime, as_json: bool, **said: str | None
) -> None:
    """Record what a clinician decided about a patient's plan: ACTION is accept, change or reject."""
    from careloop.plan.decisions import Decision, record_decision

    decision = Decision(
        plan=plan_name,
        subject_id=subject,
        prediction_time=at.replace(tzinfo=UTC),
        action=action,
        at=datetime.now(UTC),
        **said,
    )
    record = record_decision(record_path, decision)
    text = f"Recorded at version {record.version}: {action} plan {plan_name} for subject {subject}."
    show({"record_version": record.version, "action": action, "subject_id": subject}, text, as_json=as_json)
