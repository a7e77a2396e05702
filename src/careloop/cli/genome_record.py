"""The command that writes scores, principal components, burdens and dosages of many people into a record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from careloop.cli.command import FOLDER, json_option, record_option
from careloop.cli.genome import genome
from careloop.cli.output import show

if TYPE_CHECKING:
    import polars as pl


@genome.command("record")
@click.argument("table", type=FOLDER)
@record_option(required=True)
@click.option(
    "--kind",
    required=True,
    type=click.Choice(["score", "pc", "burden", "dosage"]),
    help="What the columns are; they become GENOME//SCORE//NAME, GENOME//PC//1, GENOME//BURDEN//GENE, ...",
)
@click.option("--column", "columns", multiple=True, metavar="NAME[=NEW]", help="Only this column; may be repeated.")
@click.option("--variant", "variants", multiple=True, metavar="ID", help="TABLE is a genotype file: this variant.")
@click.option("--sample-file", type=FOLDER, metavar="FILE", help="With --variant: the .sample file of a BGEN file.")
@click.option("--samples", type=FOLDER, metavar="CSV", help="Whose each sample is: columns sample, subject.")
@click.option(
    "--named-by",
    type=click.Choice(["identifier", "subject_id"]),
    default="identifier",
    show_default=True,
    help="What names a patient: the hospital's identifier, or the record's own subject_id.",
)
@click.option("--rejects", type=FOLDER, metavar="CSV", help="Write what was not recorded to this file, with reasons.")
@json_option
def record_command(
    table: Path,
    record_path: Path,
    kind: Any,
    columns: tuple[str, ...],
    variants: tuple[str, ...],
    sample_file: Path | None,
    samples: Path | None,
    named_by: Any,
    rejects: Path | None,
    as_json: bool,
) -> None:
    """Write the numbers in TABLE, one row a person, into a record as facts that hold for life.

    TABLE is CSV, TSV or parquet with a column sample_id or IID, such as plink2's .sscore and .eigenvec. A study's
    features then have them beside everything else, and its report says what they add to the clinic's. The weights of a
    score must come from other people than the study's.
    """
    from careloop.genome.findings.scores.score_events import SampleSubjects, record_scores
    from careloop.ingest.links import read_links
    from careloop.record.whole_file import whole_file

    if variants and (kind != "dosage" or columns):
        raise click.UsageError("--variant goes with --kind dosage, and without --column")
    found = _dosages(table, variants, sample_file) if variants else _table(table, kind, columns)
    subjects = SampleSubjects(read_links(samples), named_by)
    done = record_scores(record_path, found, kind=kind, subjects=subjects, table_path=table)
    if rejects is not None:
        with whole_file(rejects) as draft:
            done.rejects.write_csv(draft)
    reasons = dict(done.rejects.group_by("reason").len().sort("reason").iter_rows())
    shown = {
        "record": str(done.record.path),
        "record_version": done.record.version,
        "events": done.events,
        "changed": done.changed,
        "missing": done.missing,
        "rejected": reasons,
    }
    lines = [f"{done.events:,} values, {done.changed:,} of them new or changed; {done.missing:,} missing"]
    lines += [f"not recorded, {reason}: {count:,}" for reason, count in reasons.items()]
    show(shown, "\n".join([*lines, f"{done.record.path} is at version {done.record.version}."]), as_json=as_json)


def _table(path: Path, kind: Any, columns: tuple[str, ...]) -> pl.DataFrame:
    from careloop.genome.findings.scores.score_table import read_score_table

    return read_score_table(path, kind=kind, columns=columns)


def _dosages(path: Path, variants: tuple[str, ...], sample_file: Path | None) -> pl.DataFrame:
    from careloop.genome.findings.scores.dosage_table import dosage_table
    from careloop.genome.genotypes.open_genotypes import open_genotypes

    return dosage_table(open_genotypes(path, sample_file=sample_file), variants)
