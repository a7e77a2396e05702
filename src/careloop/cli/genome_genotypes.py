"""The command of genotype files: any format as PLINK 1 files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from careloop.cli.command import FOLDER, json_option
from careloop.cli.genome import genome, sample_file_option
from careloop.cli.output import counter, show

if TYPE_CHECKING:
    from careloop.genome.genotypes.convert import ConvertSummary
    from careloop.genome.genotypes.quality.select_variants import VariantFilter

SHARE = click.FloatRange(0, 1)


@genome.command()
@click.argument("genotypes", type=FOLDER)
@click.option("--out", required=True, type=FOLDER, metavar="PREFIX", help="Writes PREFIX.bed, .bim and .fam.")
@sample_file_option
@click.option("--keep", type=FOLDER, metavar="FILE", help="Only these samples: ids, or family ids and ids.")
@click.option("--extract", type=FOLDER, metavar="FILE", help="Only these variants: ids, one a line.")
@click.option("--region", "regions", multiple=True, metavar="CONTIG:FIRST-LAST", help="Only there; may be repeated.")
@click.option("--min-maf", "min_frequency", type=SHARE, help="The least frequency of the rarer allele.")
@click.option("--max-maf", "max_frequency", type=SHARE, help="The largest frequency of the rarer allele.")
@click.option("--max-missing", type=SHARE, help="The largest share of samples without a genotype.")
@click.option("--min-hwe", "min_hardy_weinberg_p", type=SHARE, help="The least p of Hardy-Weinberg proportions.")
@json_option
def convert(
    genotypes: Path, out: Path, sample_file: Path | None, keep: Path | None, as_json: bool, **asked: Any
) -> None:
    """Write GENOTYPES (PLINK 1 or 2, BGEN, VCF, BCF or VCF-Zarr) as PLINK 1 files, a row an alternative allele.

    A dosage becomes the genotype within 0.1 of it, else missing. What is left out is counted by its reason.
    """
    from careloop.genome.genotypes.convert import convert as converted
    from careloop.genome.genotypes.id_lists import read_sample_ids, rows_of_samples
    from careloop.genome.genotypes.open_genotypes import open_genotypes

    source = open_genotypes(genotypes, sample_file=sample_file)
    samples = None if keep is None else rows_of_samples(source, read_sample_ids(keep))
    with counter() as progress:
        done = converted(source, out, wanted=_wanted(**asked), samples=samples, progress=progress)
    unread = dict(source.rejects.reasons) if hasattr(source, "rejects") else {}
    shown = {**asdict(done), "build": source.build, "unreadable_lines": unread}
    show(shown, _text(done, unread), as_json=as_json)


def _wanted(*, extract: Path | None, regions: tuple[str, ...], **figures: float | None) -> VariantFilter:
    from careloop.genome.files.regions import Regions, parse_region
    from careloop.genome.genotypes.id_lists import read_variant_ids
    from careloop.genome.genotypes.quality.select_variants import VariantFilter

    return VariantFilter(
        ids=None if extract is None else read_variant_ids(extract),
        regions=Regions(parse_region(text) for text in regions) if regions else None,
        **figures,
    )


def _text(done: ConvertSummary, unread: dict[str, int]) -> str:
    missing = done.missing / (done.variants * done.samples)
    lines = [f"{done.variants:,} variants of {done.samples:,} samples, {missing:.2%} of genotypes missing"]
    lines += [f"{count:,} variants left out: {reason}" for reason, count in done.left_out.items()]
    lines += [f"{count:,} lines could not be read: {reason}" for reason, count in unread.items()]
    if done.from_dosages:
        lines.append("Genotypes are those within 0.1 of the dosages; where none is, they are missing")
    return "\n".join([*lines, f"Wrote {done.bed}"])
