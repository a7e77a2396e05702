"""The commands of variants: one spelling, two call sets compared, and what each variant does."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from careloop.cli.command import FOLDER, cli, json_option
from careloop.cli.output import counter, show

if TYPE_CHECKING:
    from collections.abc import Callable

    from careloop.genome.variants.comparison import Comparison, Counts

NOT_CLINICAL = "Research software, not for clinical use."


@cli.group()
def genome() -> None:
    """Genomes: variants from reads and what they do, genes that decide on drugs, disease risk, and gene function."""


def reference_option(*, required: bool) -> Callable[[Any], Any]:
    """The option `--reference FASTA`."""
    return click.option(
        "--reference",
        required=required,
        type=FOLDER,
        metavar="FASTA",
        help="The reference that the file was made with.",
    )


def sample_file_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option `--sample-file FILE` of commands that read genotypes of many people."""
    return click.option("--sample-file", type=FOLDER, metavar="FILE", help="The .sample file of a BGEN file.")(command)


def ambiguous_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option `--ambiguous` of commands that match a table's alleles with those of genotypes."""
    return click.option(
        "--ambiguous",
        type=click.Choice(["drop", "keep", "frequency"]),
        default="drop",
        show_default=True,
        help="A/T and C/G variants: left out, taken as written, or told by the frequency of the effect allele.",
    )(command)


def named_paths(given: tuple[str, ...], *, option: str) -> dict[str, Path]:
    """`NAME=PATH` as users type it; UsageError otherwise."""
    parted = [text.partition("=") for text in given]
    if any(not name or not path for name, _, path in parted):
        raise click.UsageError(f"{option} is given as NAME=PATH, got {' '.join(given)}")
    return {name: Path(path) for name, _, path in parted}


@genome.command()
@click.argument("variants", type=FOLDER)
@reference_option(required=True)
@click.option("--out", required=True, type=FOLDER, help="The file to write: .vcf, .vcf.gz (with index) or .bcf.")
@click.option(
    "--level",
    type=click.Choice(["whole", "split", "snvs", "primitives"]),
    default="split",
    show_default=True,
    help="whole: multi-allelic records stay; split: a record an allele; snvs: MNPs taken apart; primitives: all.",
)
@json_option
def normalise(variants: Path, reference: Path, out: Path, level: Any, as_json: bool) -> None:
    """Write VARIANTS (VCF or BCF) in one spelling: left-aligned, trimmed, split, REF checked against the reference."""
    from careloop.genome.variants.normalise import NormaliseOptions, normalise_file

    with counter() as progress:
        done = normalise_file(variants, reference, out, options=NormaliseOptions(level=level), progress=progress)
    lines = [f"{what:<44} {count:>10,}" for what, count in done.counts.items()]
    lines += [f"  {one.contig}:{one.start + 1}: {one.reason}" for one in done.rejects[:10]]
    shown = {"out": str(out), "counts": dict(done.counts), "rejects": [asdict(one) for one in done.rejects]}
    show(shown, "\n".join([*lines, f"Wrote {out}"]), as_json=as_json)


@genome.command()
@click.argument("truth", type=FOLDER)
@click.argument("calls", type=FOLDER)
@reference_option(required=True)
@click.option(
    "--regions", type=FOLDER, metavar="BED", help="Where the truth can be trusted; what lies outside is no error."
)
@click.option("--strata", multiple=True, metavar="NAME=BED", help="Regions that are counted by themselves as well.")
@click.option("--truth-sample", help="Needed where the file has several samples.")
@click.option("--calls-sample", help="The same of the calls.")
@click.option("--filters", type=click.Choice(["passed", "all"]), default="passed", show_default=True)
@click.option("--score", default="QUAL", show_default=True, help="What the threshold curve goes by: QUAL, or e.g. GQ.")
@click.option("--out", type=FOLDER, metavar="DIR", help="Folder for truth.vcf.gz and calls.vcf.gz with each verdict.")
@json_option
def compare(
    truth: Path,
    calls: Path,
    reference: Path,
    regions: Path | None,
    strata: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Compare CALLS with TRUTH by the chromosomes that they spell, whatever the spelling of each variant.

    Precision, recall and F1 of SNVs and indels with 95 % intervals; genotype errors apart.
    """
    from careloop.genome.variants.compare import CompareOptions
    from careloop.genome.variants.compare import compare as compared

    asked = CompareOptions(strata=named_paths(strata, option="--strata"), **options)
    with counter() as progress:
        found = compared(truth, calls, reference, regions=regions, options=asked, progress=progress)
    curve = {kind: [asdict(point) for point in points] for kind, points in found.curve.items()}
    left = {"not_assessed": found.not_assessed, "outside": found.outside, "too_complex": found.too_complex}
    shown = {"figures": list(found.rows()), "curve": curve, **left, "unreadable_lines": found.unreadable_lines}
    show(shown, _compared_text(found), as_json=as_json)


def _compared_text(found: Comparison) -> str:
    lines = [f"{'':<14} {'truth':>8} {'missed':>7} {'false':>7} {'genotype':>9}   {'precision':<22} {'recall':<22} F1"]
    for stratum, by_kind in found.strata.items():
        lines += [stratum, *(_counts_text(kind, counts) for kind, counts in by_kind.items())]
    for name, reasons in found.not_assessed.items():
        lines += [f"{name}: {count:,} records not assessed: {reason}" for reason, count in reasons.items()]
    lines += [f"{name}: {count:,} records outside the regions" for name, count in found.outside.items() if count]
    lines += [f"{name}: {count:,} lines could not be read" for name, count in found.unreadable_lines.items() if count]
    if found.missed_at_no_call:
        lines.append(f"{found.missed_at_no_call:,} of those missed are where the calls say no-call")
    if found.too_complex:
        lines.append(
            f"{found.too_complex:,} of {found.clusters:,} places too complex: only equal spellings matched there"
        )
    return "\n".join(lines)


def _counts_text(kind: str, counts: Counts) -> str:
    total = counts.truth_matched + counts.missed
    figures = "   ".join(
        _share_text(getattr(counts, name), getattr(counts, f"{name}_interval"))
        for name in ("precision", "recall", "f1")
    )
    errors = f"{total:>8,} {counts.missed:>7,} {counts.false:>7,} {counts.genotype_errors:>9,}"
    return f"  {kind:<12} {errors}   {figures}"


def _share_text(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None or interval is None:
        return f"{'-':<20}"
    return f"{value:.4f} ({interval[0]:.4f}-{interval[1]:.4f})"
