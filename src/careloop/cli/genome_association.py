"""The commands of association: every variant of a genotype file with a trait, and genes by their rare variants."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from careloop.cli.command import FOLDER, json_option
from careloop.cli.genome import NOT_CLINICAL, genome, named_paths, sample_file_option
from careloop.cli.output import counter, show

if TYPE_CHECKING:
    from collections.abc import Callable

    from careloop.genome.association.associate import AssociationSummary
    from careloop.genome.association.phenotypes import Phenotypes
    from careloop.genome.genotypes.source import GenotypeSource

_MOST_SHOWN = 10


def trait_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say whose trait and covariates are tested."""
    covariate_help = "A column of --covariates or --phenotypes, or sex; PC1-PC10 is a range; may be repeated."
    for option in (
        click.option(
            "--kind",
            type=click.Choice(["auto", "quantitative", "binary"]),
            default="auto",
            show_default=True,
            help="What the trait is; auto recognises case/control coded 1/2, 0/1 or in words, and says so.",
        ),
        click.option("--covariate", "covariates", multiple=True, metavar="NAME", help=covariate_help),
        click.option(
            "--covariates",
            "covariate_tables",
            multiple=True,
            type=FOLDER,
            metavar="TABLE",
            help="Covariates by sample id (principal components too); all columns without --covariate; repeatable.",
        ),
        click.option("--trait", metavar="NAME", help="The column to test, where the table has several."),
        click.option(
            "--phenotypes",
            required=True,
            type=FOLDER,
            metavar="TABLE",
            help="Traits by sample id: text, .csv or .parquet; NA and -9 are missing.",
        ),
        sample_file_option,
    ):
        command = option(command)
    return command


def _opened(
    genotypes: Path, sample_file: Path | None, phenotypes: Path, **asked: Any
) -> tuple[GenotypeSource, Phenotypes]:
    from careloop.genome.association.phenotypes import PhenotypeRequest, read_phenotypes
    from careloop.genome.genotypes.open_genotypes import open_genotypes

    source = open_genotypes(genotypes, sample_file=sample_file)
    return source, read_phenotypes(phenotypes, source.samples, request=PhenotypeRequest(**asked))


@genome.command()
@click.argument("genotypes", type=FOLDER)
@trait_options
@click.option(
    "--firth",
    type=click.Choice(["fallback", "always", "never"]),
    default="fallback",
    show_default=True,
    help="Penalised logistic regression: where the plain one has no estimate, always, or never.",
)
@click.option("--min-frequency", type=float, metavar="SHARE", help="Leave out variants whose rarer allele is rarer.")
@click.option("--region", "regions", multiple=True, metavar="CONTIG:FIRST-LAST", help="Only these; may be repeated.")
@click.option("--out", required=True, type=FOLDER, metavar="FILE", help="GWAS-SSF table: .tsv or .tsv.gz.")
@click.option("--page", type=FOLDER, metavar="HTML", help="Also a page with Manhattan and QQ pictures.")
@json_option
def associate(
    genotypes: Path,
    firth: Any,
    min_frequency: float | None,
    regions: tuple[str, ...],
    out: Path,
    page: Path | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Test every variant of GENOTYPES (PLINK, BGEN, VCF ...) for association with a trait.

    Linear regression of quantitative traits, logistic of case/control; whoever's genotype is missing is left out of
    that variant's test. The inflation of the statistics (lambda GC) is printed.
    """
    from careloop.genome.association.associate import AssociationOptions
    from careloop.genome.association.associate import associate as associated

    source, phenotypes = _opened(genotypes, **asked)
    rows = None
    if min_frequency is not None or regions:
        from careloop.genome.files.regions import Regions, parse_region
        from careloop.genome.genotypes.quality.select_variants import VariantFilter, select_variants

        inside = Regions(map(parse_region, regions)) if regions else None
        wanted = VariantFilter(regions=inside, min_frequency=min_frequency)
        rows = select_variants(source, wanted, samples=phenotypes.people).rows
    with counter() as progress:
        options = AssociationOptions(variants=rows, firth=firth)
        found = associated(source, phenotypes, out=out, options=options, progress=progress)
    if page:
        from careloop.report.association_page import write_association_page

        facts = [("Genotypes", genotypes.name), ("People", f"{found.people:,}{_cases(found)}"), ("Trait", found.kind)]
        facts.append(("Covariates", ", ".join(found.covariates) or "none"))
        noted = [*found.notes, *(f"{count:,} people {reason}" for reason, count in found.left_out.items())]
        write_association_page(found.table, page, title=found.name, facts=facts, notes=noted, lambda_gc=found.lambda_gc)
    shown = {**_facts(found), "out": str(out), "page": page and str(page), "not_for_clinical_use": True}
    wrote = "\n".join(f"Wrote {path}" for path in (out, page) if path)
    show(shown, f"{_text(found)}\n{wrote}\n{NOT_CLINICAL}", as_json=as_json)


def _facts(found: AssociationSummary) -> dict[str, Any]:
    names = ("name", "kind", "people", "cases", "covariates", "tested", "firth", "errors", "lambda_gc", "significant")
    return {name: getattr(found, name) for name in (*names, "notes", "left_out")}


def _cases(found: AssociationSummary) -> str:
    return "" if found.cases is None else f", {found.cases:,} of them cases"


def _text(found: AssociationSummary) -> str:
    from careloop.genome.association.summary_statistics import p_text

    lines = [*found.notes, *(f"{count:,} people {reason}" for reason, count in found.left_out.items())]
    beside = f" beside {', '.join(found.covariates)}" if found.covariates else ", without covariates"
    lines.append(f"{found.people:,} people analysed{_cases(found)}{beside}")
    counts = [f"{found.tested:,} variants tested"]
    counts += [f"{found.firth:,} of them by Firth's regression"] if found.firth else []
    counts += [f"{count:,} {error}" for error, count in found.errors.items()]
    lines.append("; ".join(counts))
    if found.lambda_gc is not None:
        lines.append(f"lambda GC {found.lambda_gc:.4f}; {found.significant:,} variants with P below 5e-8")
    best = found.table.filter(found.table["p_value"].is_not_null()).bottom_k(_MOST_SHOWN, by="p_value")
    lines += [
        f"  {row['chromosome']}:{row['base_pair_location']:<12,} {row['variant_id'] or '':<16} "
        f"{row['effect_allele'][:8]:<8} {row['beta']:>9.4f} ({row['standard_error']:.4f})  "
        f"P {p_text(row['neg_log_10_p_value'])}"
        for row in best.sort("neg_log_10_p_value", descending=True).iter_rows(named=True)
    ]
    return "\n".join(lines)


@genome.command()
@click.argument("genotypes", type=FOLDER)
@trait_options
@click.option(
    "--genes",
    "gene_table",
    required=True,
    type=FOLDER,
    metavar="TABLE",
    help="Columns gene and variant (an id, or chr:pos:ref:alt), weight if wanted; `genome annotate --table` fits.",
)
@click.option(
    "--mask", "masks", multiple=True, metavar="NAME=VALUE,...", help="Variants with these values; repeatable."
)
@click.option("--mask-column", default="impact", show_default=True, help="The column of --genes that --mask goes by.")
@click.option("--model", type=click.Choice(["carrier", "sum", "max"]), default="carrier", show_default=True)
@click.option("--weights", type=click.Choice(["equal", "beta", "table"]), default="equal", show_default=True)
@click.option("--max-frequency", type=float, default=0.01, show_default=True, help="Of the rarer allele.")
@click.option("--out", required=True, type=FOLDER, metavar="FILE", help="A row a gene: .tsv.")
@click.option("--scores", type=FOLDER, metavar="FILE", help="Also each person's burdens: .tsv, a column a gene.")
@json_option
def burden(
    genotypes: Path,
    gene_table: Path,
    masks: tuple[str, ...],
    mask_column: str,
    out: Path,
    scores: Path | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Test genes by the rare variants of GENOTYPES together: by their burden, and by a kernel test (SKAT).

    The rarer allele counts. A person's burden is 1 for carriers, the weighted sum of rare alleles, or the most at one
    variant.
    """
    from careloop.genome.association.burden import BurdenOptions, write_burdens
    from careloop.genome.association.burden import burden as burdened
    from careloop.genome.association.genes.gene_variants import read_gene_variants
    from careloop.genome.association.summary_statistics import p_text

    options = BurdenOptions(**{name: asked.pop(name) for name in ("model", "weights", "max_frequency")})
    source, phenotypes = _opened(genotypes, **asked)
    wanted = {name: frozenset(str(values).split(",")) for name, values in named_paths(masks, option="--mask").items()}
    genes = read_gene_variants(gene_table, source, masks=wanted, mask_column=mask_column)
    with counter() as progress:
        found = burdened(source, phenotypes, genes, out=out, options=options, progress=progress)
    if scores:
        write_burdens(source, genes, scores, options=options)
    names = ("name", "kind", "people", "tested", "lambda_gc", "notes", "left_out")
    shown = {name: getattr(found, name) for name in names} | {"out": str(out), "scores": scores and str(scores)}
    lines = [*found.notes, *(f"{count:,} {reason}" for reason, count in found.left_out.items())]
    lines.append(f"{found.people:,} people, {found.tested:,} genes tested")
    best = found.table.filter(found.table["p_value"].is_not_null()).bottom_k(_MOST_SHOWN, by="p_value").sort("p_value")
    lines += [
        f"  {row['gene']:<14} {row['mask']:<8} {row['variants']:>4} variants, {row['carriers']:>5} carriers  "
        f"{row['beta']:>9.4f} ({row['standard_error']:.4f})  P {p_text(row['neg_log_10_p_value'])}"
        for row in best.iter_rows(named=True)
    ]
    lines += [f"Wrote {path}" for path in (out, scores) if path]
    show({**shown, "not_for_clinical_use": True}, "\n".join([*lines, NOT_CLINICAL]), as_json=as_json)
