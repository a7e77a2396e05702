"""Hold options back after ranking: what is blocked or must be asked first is not ranked, what calls for caution last.

No silent jump: where the recommended option is held back, or cautions put others before it, the row recommends nothing
and says which option comes next. That one is recommended only by a policy that was asked about it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import polars as pl

from careloop.plan.safety.check import OptionFindings
from careloop.plan.safety.finding import Finding
from careloop.plan.safety.patient.facts import Key
from careloop.record.schema import TIME

KEYS = ["subject_id", "prediction_time"]
Status = Literal["offered", "demoted", "withheld", "ask"]
STATUS: dict[str, Status] = {"block": "withheld", "ask": "ask", "caution": "demoted", "info": "offered"}
HELD_BACK = ("withheld", "ask")
CLEAR = "no safety rule applies"
NOT_LISTED = "the drugs of this option are not listed in plan.safety.options, so nothing was checked"
FINDINGS = pl.Schema(
    {
        "subject_id": pl.Int64(), "prediction_time": TIME, "option": pl.String(), "drug": pl.String(),
        "kind": pl.String(), "severity": pl.String(), "rule": pl.String(), "text": pl.String(), "remedy": pl.String(),
        "facts": pl.List(pl.String()), "citation": pl.String(), "rules_version": pl.String(),
    }
)  # fmt: skip


def withhold(table: pl.DataFrame, findings: Mapping[Key, OptionFindings]) -> pl.DataFrame:
    """A plan's table (`Plan.table`) with `status` and `safety` for every option, ranked anew without those held back.

    `status`: offered, demoted (a caution), ask (a fact is missing) or withheld (a block). `safety`: one sentence for
    every finding, the gravest first, or that there is none. Options held back have no rank; demoted ones rank below
    those offered. The recommendation stays only if it still comes first; else the row abstains, with the reason.
    A row or an option without findings of its own was not checked, and is `ask`.
    """
    judged = [
        _judged(findings.get((row["subject_id"], row["prediction_time"]), {}).get(row["option"]))
        for row in table.select(*KEYS, "option").iter_rows(named=True)
    ]
    place = table.with_row_index("place").with_columns(
        status=pl.Series([status for status, _ in judged], dtype=pl.String),
        safety=pl.Series([sentences for _, sentences in judged], dtype=pl.List(pl.String)),
    )
    held = pl.col("status").is_in(HELD_BACK)
    order = pl.struct(pl.col("status") == "demoted", pl.col("rank")).rank("ordinal").over(KEYS).cast(pl.Int32)
    ranked = place.filter(~held & pl.col("rank").is_not_null()).select("place", new_rank=order)
    joined = place.join(ranked, on="place", how="left", maintain_order="left").sort("place")
    return _recommended(joined.with_columns(rank="new_rank").drop("place", "new_rank"))


def unchecked(table: pl.DataFrame) -> pl.DataFrame:
    """The same table with `status` and `safety` null: no rule was asked."""
    return table.with_columns(status=pl.lit(None, pl.String), safety=pl.lit(None, pl.List(pl.String)))


def finding_table(findings: Mapping[Key, OptionFindings]) -> pl.DataFrame:
    """All findings, one row each, with the columns of `FINDINGS`."""
    rows = [
        {"subject_id": subject, "prediction_time": time, **finding.__dict__, "facts": list(finding.facts)}
        for (subject, time), options in findings.items()
        for found in options.values()
        for finding in found
    ]
    return pl.DataFrame(rows, schema=FINDINGS)


def sentence(finding: Finding) -> str:
    """A finding as one sentence with its facts, remedy and source."""
    facts = f" ({'; '.join(finding.facts)})" if finding.facts and finding.severity != "ask" else ""
    return f"{finding.drug}: {finding.text.rstrip('.')}{facts}. {finding.remedy} [{finding.citation}; {finding.rule}]"


def _judged(found: Sequence[Finding] | None) -> tuple[Status, list[str]]:
    if found is None:
        return "ask", [NOT_LISTED]
    if not found:
        return "offered", [CLEAR]
    gravest = min((STATUS[finding.severity] for finding in found), key=list(STATUS.values()).index)
    return gravest, [sentence(finding) for finding in found]


def _recommended(table: pl.DataFrame) -> pl.DataFrame:
    """Keep a recommendation that still ranks first; where it does not, the whole row abstains and says why."""
    keeps = (pl.col("recommended") & (pl.col("rank") == 1).fill_null(False)).any().over(KEYS)
    loses = pl.col("recommended").any().over(KEYS) & ~keeps
    first = pl.col("option").filter(pl.col("rank") == 1).first().over(KEYS)
    was = pl.col("option").filter("recommended").first().over(KEYS)
    its = [pl.col(name).filter("recommended").first().over(KEYS) for name in ("status", "safety")]
    why = pl.format("{} would be recommended, but is {}: {}", was, _in_words(its[0]), its[1].list.first())
    then = (
        pl.when(first.is_null())
        .then(pl.lit("no option is left"))
        .otherwise(pl.format("{} comes next, and needs a decision of its own", first))
    )
    is_ranked = pl.col("rank").is_not_null() | pl.col("recommended")
    return table.with_columns(
        recommended=pl.col("recommended") & ~loses,
        abstained=pl.col("abstained") | loses,
        reason=pl.when(loses & is_ranked).then(pl.format("{}; {}", why, then)).otherwise("reason"),
    )


def _in_words(status: pl.Expr) -> pl.Expr:
    words = {"withheld": "withheld", "ask": "held back until a fact is known", "demoted": "demoted"}
    return status.replace_strict(words, default=status)
