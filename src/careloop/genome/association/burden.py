"""Genes tested by their rare variants: a burden of each person through the same regressions, and a kernel test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.association.associate import genomic_inflation
from careloop.genome.association.chromosomes import VariantGroup, variant_groups
from careloop.genome.association.genes.gene_variants import GeneSet, GeneVariants
from careloop.genome.association.genes.kernel_test import KernelTest
from careloop.genome.association.phenotypes import Phenotypes
from careloop.genome.association.regression.design import Trait
from careloop.genome.association.regression.estimates import ERRORS, tails
from careloop.genome.association.regression.estimator import Firth, estimator
from careloop.genome.files.contigs import canonical_contig
from careloop.genome.genotypes.source import GenotypeSource
from careloop.record.whole_file import whole_file

Model = Literal["carrier", "sum", "max"]
Weights = Literal["equal", "beta", "table"]
BURDENS = pl.Schema(
    {
        "gene": pl.String(),
        "mask": pl.String(),
        "chromosome": pl.String(),
        "first_position": pl.Int64(),
        "last_position": pl.Int64(),
        "variants": pl.Int64(),
        "carriers": pl.Int64(),
        "beta": pl.Float64(),
        "standard_error": pl.Float64(),
        "p_value": pl.Float64(),
        "neg_log_10_p_value": pl.Float64(),
        "kernel_p_value": pl.Float64(),
        "n": pl.Int64(),
        "test": pl.String(),
        "error": pl.String(),
    }
)
_BATCH_VALUES = 2**22  # burdens of genes times people that are tested at once


@dataclass(frozen=True)
class BurdenOptions:
    """`model`: a person's burden is 1 for carriers, the weighted sum of rare alleles, or the most at one variant.

    `max_frequency` is that of the rarer allele among those analysed, above which a variant does not count. `weights`:
    equal, the table's, or Beta(1, 25) of the frequency (Wu 2011); they count in the sum and in the kernel test.
    """

    model: Model = "carrier"
    max_frequency: float = 0.01
    weights: Weights = "equal"
    firth: Firth = "fallback"

    def __post_init__(self) -> None:
        if not 0 < self.max_frequency <= 0.5:
            raise InputError(
                f"the largest frequency of rare alleles is above 0 and at most 0.5; got {self.max_frequency}"
            )


@dataclass(frozen=True)
class BurdenSummary:
    """What was tested: `table` has the columns of `BURDENS`, a row a gene and mask."""

    name: str
    kind: Trait
    people: int
    tested: int
    lambda_gc: float | None
    notes: tuple[str, ...]
    left_out: Mapping[str, int]
    table: pl.DataFrame = field(repr=False)


@dataclass(frozen=True)
class _Burden:
    """One gene's burden of each person analysed, and what it rests on."""

    genes: GeneSet
    values: NDArray[np.float32]
    variants: int
    carriers: int
    kernel_p: float


def burden(
    source: GenotypeSource,
    phenotypes: Phenotypes,
    genes: GeneVariants,
    *,
    out: Path | None = None,
    options: BurdenOptions = BurdenOptions(),
    progress: Callable[[str, int, int], None] | None = None,
) -> BurdenSummary:
    """Test each gene's rare variants together: linear, logistic or Firth regression on the burden, and SKAT.

    The rarer allele counts, whichever it is. A missing genotype is no carrier, and counts its expectation in the sum
    and the kernel test. With `out` the table is written there (tab-separated), whole or not at all.

    Raises:
        InputError: as `associate`.
    """
    rows = np.unique(np.concatenate([each.rows for each in genes.sets]))
    groups = variant_groups(source, phenotypes, rows)
    parts, done = [], 0
    for group in groups:
        sets = [each for each in genes.sets if np.isin(each.rows[0], group.rows)]
        for batch in _batches(sets, len(phenotypes.people)):
            parts.append(_tested(source, group, batch, options))
            done += len(batch)
            if progress:
                progress(f"testing genes for {phenotypes.name}", done, len(genes.sets))
    table = pl.concat(parts)
    if out:
        with whole_file(out) as draft:
            table.write_csv(draft, separator="\t", null_value="NA")
    p = table["p_value"].drop_nulls().to_numpy()
    notes = (*phenotypes.notes, *(group.note for group in groups if group.note))
    left_out = {f"rows of genes {reason}": count for reason, count in genes.left_out.items()}
    return BurdenSummary(
        phenotypes.name,
        phenotypes.kind,
        len(phenotypes.people),
        len(p),
        genomic_inflation(p),
        notes,
        {**phenotypes.left_out, **left_out},
        table,
    )


def burdens_of_people(
    source: GenotypeSource, genes: GeneVariants, *, options: BurdenOptions = BurdenOptions()
) -> pl.DataFrame:
    """A row a person of the genotype file: `sample_id`, and the burden of each gene in a column of its name.

    With several masks columns are called GENE.MASK.
    """
    everybody = np.arange(source.samples.height)
    several = len({each.mask for each in genes.sets}) > 1
    columns = {"sample_id": source.samples["sample_id"]}
    for each in genes.sets:
        name = f"{each.gene}.{each.mask}" if several else each.gene
        columns[name] = pl.Series(_burden(source, everybody, each, options, None).values)
    return pl.DataFrame(columns)


def write_burdens(
    source: GenotypeSource, genes: GeneVariants, path: Path, *, options: BurdenOptions = BurdenOptions()
) -> None:
    """Write `burdens_of_people` as tab-separated text, whole or not at all."""
    table = burdens_of_people(source, genes, options=options)
    with whole_file(path) as draft:
        table.write_csv(draft, separator="\t", null_value="NA")


def _batches(sets: list[GeneSet], people: int) -> Iterator[list[GeneSet]]:
    size = max(1, _BATCH_VALUES // people)
    return (sets[at : at + size] for at in range(0, len(sets), size))


def _tested(source: GenotypeSource, group: VariantGroup, batch: list[GeneSet], options: BurdenOptions) -> pl.DataFrame:
    """Rows of `BURDENS` of some genes of one kind of chromosome."""
    if group.design is None:
        return BURDENS.to_frame()
    design = group.design
    kernel = KernelTest(design)
    burdens = [_burden(source, design.people, each, options, kernel) for each in batch]
    found = estimator(design, options.firth)(np.stack([each.values for each in burdens]))
    degrees = (found.n - design.basis.shape[1] - 1).astype(np.float64) if design.kind == "quantitative" else None
    p, minus_log = tails(found.beta / found.standard_error, degrees)
    first, last = (source.variants["position"].to_numpy()[[each.rows[at] for each in batch]] for at in (0, -1))
    contigs = [canonical_contig(source.variants["contig"][int(each.rows[0])]) for each in batch]
    columns: dict[str, Any] = {
        "gene": [each.gene for each in batch],
        "mask": [each.mask for each in batch],
        "chromosome": contigs,
        "first_position": first,
        "last_position": last,
        "variants": [each.variants for each in burdens],
        "carriers": [each.carriers for each in burdens],
        "beta": found.beta,
        "standard_error": found.standard_error,
        "p_value": p,
        "neg_log_10_p_value": minus_log,
        "kernel_p_value": [each.kernel_p for each in burdens],
        "n": found.n,
        "test": [("BURDEN", "BURDEN-FIRTH")[int(each)] for each in found.firth],
        "error": [ERRORS[code] or None for code in found.code],
    }
    return pl.DataFrame(columns, schema=BURDENS, nan_to_null=True)


def _burden(
    source: GenotypeSource,
    people: NDArray[np.int64],
    genes: GeneSet,
    options: BurdenOptions,
    kernel: KernelTest | None,
) -> _Burden:
    """One gene's burdens of `people`, from variants whose rarer allele is rare enough and there at all."""
    copies = source.dosages(genes.rows, people).astype(np.float64)
    known = np.isfinite(copies)
    with np.errstate(invalid="ignore", divide="ignore"):
        frequency = np.where(known, copies, 0).sum(axis=1) / (2 * known.sum(axis=1))
    copies = np.where((frequency > 0.5)[:, None], 2 - copies, copies)
    rarer = np.minimum(frequency, 1 - frequency)
    kept = (rarer > 0) & (rarer <= options.max_frequency)
    copies, known, rarer = copies[kept], known[kept], rarer[kept]
    weights = {"equal": np.ones(len(rarer)), "beta": 25 * (1 - rarer) ** 24, "table": genes.weights[kept]}[
        options.weights
    ]
    expected = np.where(known, copies, 2 * rarer[:, None])
    certain = np.where(known, copies, 0)
    carrier: NDArray[np.bool_] = np.asarray((certain >= 0.5).any(axis=0))
    values: NDArray[Any] = carrier
    if options.model == "max":
        values = (certain * weights[:, None]).max(axis=0, initial=0)
    elif options.model == "sum":
        values = weights @ expected
    p = kernel.p_value(expected, weights) if kernel and len(rarer) else float("nan")
    return _Burden(genes, values.astype(np.float32), len(rarer), int(carrier.sum()), p)
