"""The commands of data quality: check what is wrong with a record, and clean it; each a thin function."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from careloop import InputError
from careloop.cli.command import FOLDER, cli, json_option, on_option, record_option
from careloop.cli.output import counter, show


@cli.command()
@record_option(required=True)
@click.option("--out", type=FOLDER, help="Also write the report with charts to this HTML file.")
@click.option(
    "--shared", is_flag=True, help="For readers outside: no single events, no counts of fewer than 11 patients."
)
@click.option(
    "--threshold",
    "limits",
    multiple=True,
    metavar="CHECK=SHARE",
    help="Share of violations (0 to 1) above which a check fails; may be repeated.",
)
@on_option
@json_option
def check(record_path: Path, out: Path | None, shared: bool, limits: tuple[str, ...], on: str, as_json: bool) -> None:
    """Check a record's quality: conformance, completeness, plausibility (Kahn et al.), with offending examples.

    Nothing is changed; `careloop clean` mends what can be mended.
    """
    from careloop.clean import check_record
    from careloop.record import Record
    from careloop.report import quality_summary, write_quality

    with counter() as progress:
        report = check_record(Record.open(record_path), thresholds=_thresholds(limits), on=on, progress=progress)
    if out is not None:
        write_quality(report, out, audience="shared" if shared else "internal")
    written = f"\nWrote {out}." if out is not None else ""
    show(report.to_json() | {"report": str(out) if out else None}, quality_summary(report) + written, as_json=as_json)


@cli.command()
@record_option(required=True)
@click.option("--rule", "rules", multiple=True, help="Only this rule; may be repeated. Default: all.")
@click.option("--vocabulary", type=FOLDER, help="Also map codes by the OMOP vocabulary files in this folder.")
@click.option(
    "--learn-until",
    type=click.DateTime(),
    help="Learn what is usual from facts known before this time only (UTC), such as the start of the test period.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, with examples; change nothing.")
@click.option("--undo", "take_back", is_flag=True, help="Take earlier fixes back (of the rules named, or all).")
@json_option
def clean(record_path: Path, dry_run: bool, take_back: bool, as_json: bool, **options: Any) -> None:
    """Mend a record: units, sentinel values, unit mix-ups, impossible values, duplicates, time travel, codes.

    Every fix is an event-level note beside the event, and can be taken back. Cleaning twice changes nothing.
    """
    from careloop.clean import clean_record, find, undo
    from careloop.record import Record

    record = Record.open(record_path)
    if take_back:
        restored = undo(record, list(options["rules"]) or None)
        shown = {"record": str(record_path), "record_version": restored.version}
        show(shown, f"Fixes taken back; the record is at version {restored.version}.", as_json=as_json)
        return
    wanted = _cleaning(record, **options)
    if dry_run:
        found = find(record, **wanted)
        shown = {"counts": found.counts, "examples": found.examples.to_dicts(), "record_version": found.record_version}
        show(shown, f"{_counted(found.counts)}Nothing was changed.", as_json=as_json)
        return
    with counter() as progress:
        summary = clean_record(record, progress=progress, **wanted)
    text = f"{_counted(summary.counts)}The record is at version {summary.record_version}."
    show({"counts": summary.counts, "record_version": summary.record_version}, text, as_json=as_json)


def _thresholds(limits: tuple[str, ...]) -> dict[str, float]:
    found: dict[str, float] = {}
    for limit in limits:
        name, _, share = limit.partition("=")
        try:
            found[name] = float(share)
        except ValueError:
            raise InputError(f"--threshold: must be CHECK=SHARE, such as duplicate=0.01, got {limit}") from None
    return found


def _cleaning(
    record: Any, *, rules: tuple[str, ...], vocabulary: Path | None, learn_until: datetime | None
) -> dict[str, Any]:
    """What `clean_record` and `find` take."""
    import polars as pl

    from careloop.clean import read_mapping
    from careloop.clean.apply import ALL

    also = []
    if vocabulary is not None:
        mapping = read_mapping(record, vocabulary)
        record.describe_codes(mapping.described)
        also = [mapping.step]
    learn_from = None if learn_until is None else pl.col("known_time") < learn_until.replace(tzinfo=UTC)
    return {"rules": list(rules) or ALL, "also": also, "learn_from": learn_from}


def _counted(counts: Any) -> str:
    from careloop.report.summary import table

    rows = [
        (rule, *(f"{actions.get(action, 0):,}" for action in ("changed", "removed", "flagged")))
        for rule, actions in counts.items()
    ]
    return table(["rule", "changed", "removed", "flagged"], rows) if rows else "Nothing to mend.\n"
