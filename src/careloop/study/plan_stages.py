"""The stages that compare treatments: the plan with its safety checks, and the target trial of strategies over time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from careloop import InputError
from careloop.cohort import label_outcomes
from careloop.record import Record
from careloop.study.folder import RunFolder, folder_digest
from careloop.study.sequence_stages import record_identity
from careloop.study.stages import KEYS, cohort_rows, feature_matrix, outcome_settings, write_json

if TYPE_CHECKING:
    from careloop.study.study import Study

PLAN_FILES = ("plan.parquet", "effects.json", "safety.parquet")


def make_plans(study: Study, facts: Record, run: RunFolder) -> None:
    """Write plan.parquet (every option for every patient, ranked), effects.json (what that rests on), safety.parquet.

    safety.parquet has every safety finding of the held-out patients; options held back by one have no rank any more.
    """
    from careloop.plan import make_plan
    from careloop.plan.safety import finding_table, safety_findings, unchecked, withhold

    section, treatment = study.plan, study.cohort.treatment
    if section is None or treatment is None:
        for earlier in PLAN_FILES:  # of the study before its plan was taken out
            (run.path / earlier).unlink(missing_ok=True)
        return
    options = list(treatment.arms)

    def work(out: Path) -> None:
        rows = cohort_rows(run)
        plan = make_plan(
            rows,
            feature_matrix(run),
            section,
            horizon_days=study.cohort.outcome.horizon_days,
            options=options,
            controls=negative_controls(study, facts, rows),
        )
        held_out, findings = cohort_rows(run, "held_out").select(KEYS), {}
        if section.safety is not None:
            findings = safety_findings(
                facts.events(),
                held_out,
                section.safety,
                codes=facts.code_metadata(),
                chosen=_chosen(study, facts, held_out),
            )
        judged = plan.table.join(held_out, on=KEYS, how="semi", maintain_order="left")
        others = plan.table.join(held_out, on=KEYS, how="anti", maintain_order="left")
        checked = unchecked(judged) if section.safety is None else withhold(judged, findings)
        table = plan.table.select(*KEYS, "option").join(
            pl.concat([checked, unchecked(others)]), on=[*KEYS, "option"], how="left", maintain_order="left"
        )
        table.write_parquet(out / "plan.parquet")
        finding_table(findings).write_parquet(out / "safety.parquet")
        write_json(out / "effects.json", plan.to_json())

    reads = ["cohort.parquet", "features.parquet"]
    rules = [] if section.safety is None else [folder_digest(folder) for folder in section.safety.folders if folder]
    settings = [section.model_dump(mode="json"), options, outcome_settings(study), record_identity(facts), rules]
    run.stage("plan", work, writes=list(PLAN_FILES), settings=settings, reads=reads)


def _chosen(study: Study, facts: Record, rows: pl.DataFrame) -> pl.DataFrame:
    """The events by which the rows got their arm: what the plan decides about, not drugs that were taken before."""
    treatment = study.cohort.treatment
    assert treatment is not None
    first, last = (pl.duration(days=1) * days for days in treatment.window_days)
    given = facts.events(codes=list(treatment.codes)).select("subject_id", "time", "code").collect()
    return given.join(rows, on="subject_id").filter(
        pl.col("time").is_between(pl.col("prediction_time") + first, pl.col("prediction_time") + last)
    )


def negative_controls(study: Study, facts: Record, rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Follow-up and event of each of the plan's negative-control outcomes, in the cohort rows' order."""
    assert study.plan is not None
    found = {}
    for name, codes in study.plan.negative_controls.items():
        outcome = study.cohort.outcome.model_copy(update={"codes": codes, "competing": (), "previous": "keep"})
        labels = label_outcomes(facts, rows.select(KEYS), study.cohort.model_copy(update={"outcome": outcome}))
        if not (labels["event"] == 1).any():
            raise InputError(
                f"plan.negative_controls.{name}: none of {', '.join(codes)} occurs after a prediction time; check the "
                "codes, or remove it"
            )
        found[name] = rows.select(KEYS).join(labels, on=KEYS, how="left", maintain_order="left")
    return found


def emulate(study: Study, facts: Record, run: RunFolder, *, on: str) -> None:
    """Write trial.json: the target trial of the study's strategies, emulated on training and tuning rows."""
    from careloop.plan.trial.emulate import emulate_trial
    from careloop.plan.trial.estimate import estimate_trial

    section = study.trial
    if section is None:
        (run.path / "trial.json").unlink(missing_ok=True)  # of the study before its trial was taken out
        return

    def work(out: Path) -> None:
        data = emulate_trial(
            facts,
            cohort_rows(run),
            section,
            features=section.features or study.features,
            horizon_days=study.cohort.outcome.horizon_days,
            on=on,
        )
        write_json(out / "trial.json", estimate_trial(data, section).to_json())

    settings = [section.model_dump(mode="json"), study.features.model_dump(mode="json"), outcome_settings(study)]
    run.stage(
        "trial", work, writes=["trial.json"], settings=[*settings, record_identity(facts)], reads=["cohort.parquet"]
    )
