"""The command that calls variants from reads."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from careloop.cli.command import FOLDER, json_option
from careloop.cli.genome import NOT_CLINICAL, genome, reference_option
from careloop.cli.output import counter, show

if TYPE_CHECKING:
    from careloop.genome.call.germline import CallSettings, CallSummary
    from careloop.genome.files.regions import Region

FASTQ = (".fastq", ".fq", ".fastq.gz", ".fq.gz")
THREADS_OF_ALIGNER = 2


@genome.command()
@click.argument("reads", nargs=-1, required=True, type=FOLDER, metavar="READS...")
@reference_option(required=True)
@click.option("--out", required=True, type=FOLDER, help="The file to write: .vcf, .vcf.gz (with index) or .bcf.")
@click.option(
    "--region", "regions", multiple=True, metavar="CONTIG:FIRST-LAST", help="Call there only; may be repeated."
)
@click.option("--covered", type=FOLDER, metavar="BED", help="Write the bases that were judged, to this file.")
@click.option("--sex", type=click.Choice(["female", "male"]), help="Decides on the copies of X and Y.")
@click.option("--sample", help="Name of the sample, where the reads do not say it; needed for FASTQ.")
@click.option(
    "--scorer",
    type=click.Choice(["network", "engine"]),
    default="network",
    show_default=True,
    help="What judges candidates: the network that comes with careloop, or bcftools' likelihoods alone.",
)
@click.option("--mother", type=FOLDER, metavar="BAM", help="With --father: READS are a child's.")
@click.option("--father", type=FOLDER, metavar="BAM", help="See --mother.")
@click.option("--normal", type=FOLDER, metavar="BAM", help="READS are a tumour's: somatic variants.")
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="Regions called at once.")
@json_option
def call(
    reads: tuple[Path, ...],
    reference: Path,
    out: Path,
    regions: tuple[str, ...],
    covered: Path | None,
    mother: Path | None,
    father: Path | None,
    normal: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Call variants from READS: one BAM or CRAM, or FASTQ (one file, or two of pairs), aligned to OUT.reads.bam.

    The file has variants, possible ones (LowQual), and blocks of covered reference as in gVCF: what is in none of them
    could not be judged, and the summary says why. A run that was killed goes on when it is started again. Of a trio
    (new mutations are named) and of a tumour beside its normal only variants are written.
    """
    from careloop.genome.call.germline import CallSettings, call_variants, write_covered
    from careloop.genome.files.regions import parse_region

    settings = CallSettings(**given)
    asked = [parse_region(text) for text in regions]
    several = _several(reads, (mother, father), normal, covered)
    if several:
        _refuse_unused(settings, scorer_used=normal is None)
        _call_several(several, reference, out, asked, settings, as_json)
        return
    with counter() as progress:
        aligned = _aligned(reads, reference, out, settings.sample, progress)
        done = call_variants(aligned, reference, out, regions=asked, settings=settings, progress=progress)
    if covered is not None:
        write_covered(out, covered)
    shown = asdict(done) | {"ts_tv": done.transitions_to_transversions, "not_for_clinical_use": True}
    show(shown, f"{_called_text(done)}\nWrote {out}\n{NOT_CLINICAL}", as_json=as_json)


def _several(
    reads: tuple[Path, ...], parents: tuple[Path | None, Path | None], normal: Path | None, covered: Path | None
) -> tuple[Path, ...]:
    """The files of a trio (child, mother, father) or of a tumour and its normal; none for a sample alone."""
    others = tuple(path for path in (*parents, normal) if path is not None)
    if not others:
        return ()
    if (normal is not None and len(others) > 1) or (normal is None and len(others) < 2):
        raise click.UsageError("give --mother and --father for a trio, or --normal for a tumour")
    if len(reads) != 1 or covered is not None:
        raise click.UsageError("of a trio or a tumour, READS is one BAM or CRAM file, and there is no --covered")
    return (reads[0], *others)


def _refuse_unused(settings: CallSettings, *, scorer_used: bool) -> None:
    """UsageError for options that would be without effect on a trio or a tumour."""
    given = {"--sex": settings.sex, "--sample": settings.sample, "--processes": settings.processes > 1}
    given["--scorer"] = settings.scorer == "engine" and not scorer_used
    unused = [name for name, value in given.items() if value]
    if unused:
        raise click.UsageError(f"{', '.join(unused)} cannot be given here: a trio or a tumour is called without")


def _call_several(
    files: tuple[Path, ...], reference: Path, out: Path, regions: list[Region], settings: CallSettings, as_json: bool
) -> None:
    from careloop.genome.call.somatic import call_somatic
    from careloop.genome.call.trio import call_trio

    with counter() as progress:
        if len(files) == 3:
            family, scorer = (files[0], files[1], files[2]), settings.scorer
            done: Any = call_trio(family, reference, out, regions=regions, scorer=scorer, progress=progress)
        else:
            done = call_somatic((files[0], files[1]), reference, out, regions=regions, progress=progress)
    shown = asdict(done)
    lines = [f"{name.replace('_', ' '):<24} {_plain(value)}" for name, value in shown.items()]
    text = "\n".join([*lines, f"Wrote {out}", NOT_CLINICAL])
    show(shown | {"out": str(out), "not_for_clinical_use": True}, text, as_json=as_json)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count:,}" for name, count in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _aligned(reads: tuple[Path, ...], reference: Path, out: Path, sample: str | None, progress: Any) -> Path:
    """The BAM or CRAM file given, or one made of FASTQ files: beside `out`, where a killed run finds it again."""
    fastq = [path for path in reads if path.name.lower().endswith(FASTQ)]
    if not fastq and len(reads) == 1:
        return reads[0]
    if len(fastq) != len(reads) or len(reads) > 2:
        raise click.UsageError("READS is one BAM or CRAM file, or one or two FASTQ files")
    if not sample:
        raise click.UsageError("FASTQ does not name its sample: give --sample")
    from careloop.genome.files.align import align_reads

    made = out.with_name(f"{out.name}.reads.bam")
    if not _newer(made, (*fastq, reference)):
        align_reads(fastq, reference, out=made, sample=sample, threads=THREADS_OF_ALIGNER, progress=progress)
    return made


def _newer(made: Path, sources: tuple[Path, ...]) -> bool:
    """Whether a file is there and younger than all that it is made of."""
    try:
        return made.stat().st_mtime_ns > max(source.stat().st_mtime_ns for source in sources)
    except OSError:
        return False


def _called_text(done: CallSummary) -> str:
    lines = [f"sample {done.sample}"]
    lines += [f"  {name:<22} {count:>14,}" for name, count in done.variants.items()]
    ratio = done.transitions_to_transversions
    lines += [f"  transitions / transversions {ratio:>9.2f}"] if ratio is not None else []
    lines += ["bases", *(f"  {name:<22} {count:>14,}" for name, count in done.bases.items())]
    return "\n".join(lines)
