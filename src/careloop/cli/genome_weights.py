"""The commands that turn summary statistics into weights: linkage of a reference, clumps, and shrunk effects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from careloop.cli.command import FOLDER, json_option
from careloop.cli.genome import NOT_CLINICAL, ambiguous_option, genome
from careloop.cli.output import counter, show

if TYPE_CHECKING:
    from careloop.genome.association.summary_statistics import SummaryStatistics
    from careloop.genome.genotypes.linkage.linkage import Linkage
    from careloop.genome.risk.weights.heritability import Heritability
    from careloop.genome.risk.weights.make import WeightsOptions
    from careloop.genome.risk.weights.tuning import Tuning

_MOST_SHOWN = 20
_PEOPLE_HELP = "The number of people, where the statistics do not say."


@genome.command()
@click.argument("genotypes", type=FOLDER)
@click.option("--out", required=True, type=FOLDER, metavar="NPZ", help="The file to write: .npz.")
@click.option("--block-variants", type=int, default=500, show_default=True, help="The most variants of a block.")
@json_option
def linkage(genotypes: Path, out: Path, block_variants: int, as_json: bool) -> None:
    """Measure the linkage of a reference panel's variants, in blocks, for `weights` to use again and again."""
    from careloop.genome.genotypes.linkage.linkage import linkage_of
    from careloop.genome.genotypes.linkage.stored import write_linkage
    from careloop.genome.genotypes.open_genotypes import open_genotypes

    with counter() as progress:
        found = linkage_of(open_genotypes(genotypes), max_size=block_variants, progress=progress)
    write_linkage(found, out)
    facts = {"variants": found.variants.height, "blocks": len(found.blocks), "people": found.people}
    text = f"{facts['variants']:,} variants in {facts['blocks']:,} blocks, of {facts['people']:,} people\n"
    text += f"r2 of a variant with those of other blocks, in sum: {found.parted:.3f}\nWrote {out}"
    show({**facts, "parted": found.parted, "out": str(out)}, text, as_json=as_json)


@genome.command()
@click.argument("statistics", type=FOLDER)
@click.option("--reference", required=True, type=FOLDER, metavar="GENOTYPES", help="Whose linkage counts.")
@click.option("--p1", type=float, default=1e-4, show_default=True, help="An index variant is at most this significant.")
@click.option("--p2", type=float, default=1e-2, show_default=True, help="A member of a clump is at most this.")
@click.option("--r2", type=float, default=0.5, show_default=True, help="A member has this with the index variant.")
@click.option("--kb", type=float, default=250.0, show_default=True, help="And is this near, in thousand bases.")
@click.option(
    "--measure",
    type=click.Choice(["haplotype", "genotype"]),
    default="haplotype",
    show_default=True,
    help="r2 of the most likely haplotypes, as PLINK 1.9 has it, or of genotypes.",
)
@click.option("--out", type=FOLDER, metavar="TSV", help="Write the clumps to this table.")
@json_option
def clump(statistics: Path, reference: Path, out: Path | None, as_json: bool, **asked: Any) -> None:
    """Find the most significant variant of each place in STATISTICS, and the variants in linkage with it.

    STATISTICS are GWAS-SSF, or as PLINK 2, REGENIE and others write them.
    """
    from careloop.genome.association.summary_statistics import read_summary_statistics
    from careloop.genome.genotypes.open_genotypes import open_genotypes
    from careloop.genome.risk.scores.matching import MatchOptions
    from careloop.genome.risk.weights.aligned import p_values, place
    from careloop.genome.risk.weights.clump import ClumpOptions
    from careloop.genome.risk.weights.clump import clump as clumped
    from careloop.record.whole_file import whole_file

    read, source = read_summary_statistics(statistics), open_genotypes(reference)
    read.require("p_value")
    placed = place(read, source.variants, build=source.build, options=MatchOptions(ambiguous="keep"))
    found_p = p_values(placed.table)
    with counter() as progress:
        found = clumped(found_p, source, rows=placed.rows, options=ClumpOptions(**asked), progress=progress)
    table = found.table(source.variants[placed.rows], found_p)
    if out:
        with whole_file(out) as draft:
            table.write_csv(draft, separator="\t")
    lines = [*_recognised(read), *_counted(placed.reasons), f"{found.size:,} clumps"]
    lines += [
        f"  {row['contig']}:{row['position']:<12,} {row['variant_id']:<16} P {row['p_value']:.2e}  "
        f"and {row['n_members']:,} more"
        for row in table.head(_MOST_SHOWN).iter_rows(named=True)
    ]
    shown = {"clumps": table.to_dicts(), "reasons": placed.reasons, "rejects": read.rejects.height}
    show({**shown, "out": out and str(out)}, "\n".join([*lines, *_wrote(out)]), as_json=as_json)


@genome.command()
@click.argument("statistics", type=FOLDER)
@click.option(
    "--reference",
    required=True,
    type=FOLDER,
    metavar="GENOTYPES",
    help="People of the statistics' ancestry, whose linkage counts; or what `linkage` wrote (.npz).",
)
@click.option("--out", required=True, type=FOLDER, metavar="FILE", help="PGS Catalog scoring file: .txt or .txt.gz.")
@click.option(
    "--method",
    type=click.Choice(["auto", "infinitesimal", "threshold"]),
    default="auto",
    show_default=True,
    help="LDpred2-auto; all variants causal; or clumping and thresholding, chosen in tuning people.",
)
@click.option(
    "--trait",
    type=click.Choice(["quantitative", "binary"]),
    default="quantitative",
    show_default=True,
    help="What the statistics are of; effects on a binary trait are log odds.",
)
@click.option("--n", type=int, help=_PEOPLE_HELP)
@ambiguous_option
@click.option("--chains", type=int, default=10, show_default=True, help="Of the sampler.")
@click.option("--sweeps", type=int, default=300, show_default=True, help="Of a chain's burn-in, and again that count.")
@click.option("--kept", type=float, default=0.95, show_default=True, help="What correlations are multiplied by.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--tuning", type=FOLDER, metavar="GENOTYPES", help="People whom thresholds are chosen in.")
@click.option("--tuning-phenotypes", type=FOLDER, metavar="TABLE", help="Their trait.")
@click.option("--tuning-trait", metavar="NAME", help="The column of it, where the table has several.")
@click.option("--name", help="The score's name; by default that of the file.")
@json_option
def weights(
    statistics: Path,
    reference: Path,
    out: Path,
    method: Any,
    n: int | None,
    tuning: Path | None,
    tuning_phenotypes: Path | None,
    tuning_trait: str | None,
    name: str | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Make a polygenic score's weights from STATISTICS and the linkage of a reference.

    The score is for people of the reference's ancestry, and must not be judged in people of the study itself.
    """
    from careloop.genome.association.summary_statistics import read_summary_statistics

    thresholded = method == "threshold"
    if thresholded != (tuning is not None and tuning_phenotypes is not None):
        raise click.UsageError(
            "--method threshold goes with --tuning and --tuning-phenotypes, and no other method does"
        )
    read = read_summary_statistics(statistics, n=n)
    about = (out, name or out.name.partition(".")[0])
    if tuning is None or tuning_phenotypes is None:
        shown, lines = _shrunk(read, reference, _options(method, asked), about)
    else:
        people = _tuning(tuning, tuning_phenotypes, tuning_trait)
        shown, lines = _thresholded(read, reference, people, asked["ambiguous"], about)
    shown |= {"method": method, "rejects": read.rejects.height, "out": str(out), "not_for_clinical_use": True}
    show(shown, "\n".join([*_recognised(read), *lines, *_wrote(out), NOT_CLINICAL]), as_json=as_json)


def _options(method: Any, asked: Mapping[str, Any]) -> WeightsOptions:
    from careloop.genome.risk.scores.matching import MatchOptions
    from careloop.genome.risk.weights.make import WeightsOptions
    from careloop.genome.risk.weights.shrinkage.gibbs import Schedule
    from careloop.genome.risk.weights.shrinkage.shrink import AutoOptions

    auto = AutoOptions(asked["chains"], asked["kept"], Schedule(asked["sweeps"], asked["sweeps"], asked["seed"]))
    return WeightsOptions(method, asked["trait"], auto=auto, matching=MatchOptions(ambiguous=asked["ambiguous"]))


def _shrunk(
    read: SummaryStatistics, reference: Path, options: WeightsOptions, about: tuple[Path, str]
) -> tuple[dict[str, Any], list[str]]:
    from careloop.genome.risk.scores.write_pgs import write_pgs
    from careloop.genome.risk.weights.make import make_weights

    with counter() as progress:
        linkage = _linkage(read, reference, options, progress)
        made = make_weights(read, linkage, options=options, progress=progress)
    write_pgs(made.table, about[0], name=about[1], build=linkage.build)
    lines = [*made.notes, *_counted(made.reasons), _regression_text(made.h2)]
    lines.append(f"{made.table.height:,} variants weighted; linkage of {linkage.people:,} people")
    lines += [f"{name.replace('_', ' ')} {value:.4f}" for name, value in made.facts.items()]
    chains = [] if made.chains is None else made.chains.to_dicts()
    left = [row for row in chains if row["left_out"]]
    lines += [f"{len(chains) - len(left)} of {len(chains)} chains kept"] if chains else []
    shown = {"variants": made.table.height, "people_in_reference": linkage.people, "regression": asdict(made.h2)}
    return {**shown, "reasons": dict(made.reasons), "notes": made.notes, **made.facts, "chains": chains}, lines


def _linkage(read: SummaryStatistics, reference: Path, options: WeightsOptions, progress: Any) -> Linkage:
    from careloop.genome.genotypes.linkage.stored import read_linkage
    from careloop.genome.genotypes.open_genotypes import open_genotypes
    from careloop.genome.risk.weights.make import panel_linkage

    if reference.suffix == ".npz":
        return read_linkage(reference)
    return panel_linkage(read, open_genotypes(reference), options=options, progress=progress)


def _thresholded(
    read: SummaryStatistics, reference: Path, tuning: Tuning, ambiguous: Any, about: tuple[Path, str]
) -> tuple[dict[str, Any], list[str]]:
    from careloop.genome.genotypes.open_genotypes import open_genotypes
    from careloop.genome.risk.scores.matching import MatchOptions
    from careloop.genome.risk.scores.write_pgs import write_pgs
    from careloop.genome.risk.weights.make import make_threshold_weights

    source = open_genotypes(reference)
    with counter() as progress:
        table, found, aligned = make_threshold_weights(
            read, source, tuning, matching=MatchOptions(ambiguous=ambiguous), progress=progress
        )
    write_pgs(table, about[0], name=about[1], build=source.build)
    best = max(found.tried["r2"])
    lines = [*aligned.notes, *_counted(aligned.reasons)]
    lines.append(f"{table.height:,} variants weighted: P up to {found.p:g} after clumping at r2 {found.r2:g}")
    lines.append(
        f"R2 in the {tuning.samples.size:,} tuning people {best:.4f}: chosen by it, so too good for a judgement"
    )
    shown = {"variants": table.height, "p": found.p, "r2": found.r2, "tried": found.tried.to_dicts()}
    return {**shown, "reasons": aligned.reasons, "notes": aligned.notes}, lines


def _tuning(genotypes: Path, phenotypes: Path, trait: str | None) -> Tuning:
    from careloop.genome.association.phenotypes import PhenotypeRequest, read_phenotypes
    from careloop.genome.genotypes.open_genotypes import open_genotypes
    from careloop.genome.risk.weights.tuning import Tuning

    source = open_genotypes(genotypes)
    found = read_phenotypes(phenotypes, source.samples, request=PhenotypeRequest(trait=trait))
    return Tuning(source, found.people, found.trait)


def _regression_text(found: Heritability) -> str:
    error = f" ({found.intercept_error:.4f})" if found.intercept_error is not None else ""
    return f"LD score regression: h2 {found.h2:.4f} ({found.h2_error:.4f}), intercept {found.intercept:.4f}{error}"


def _recognised(read: SummaryStatistics) -> list[str]:
    rejects = [f"{read.rejects.height:,} lines of the statistics rejected"] if read.rejects.height else []
    return [f"Columns of the statistics: {read.recognised.said}", *rejects]


def _counted(reasons: Mapping[str, int]) -> list[str]:
    return [f"{count:,} variants left out: {reason}" for reason, count in reasons.items()]


def _wrote(out: Path | None) -> list[str]:
    return [f"Wrote {out}"] if out else []
