"""Association of one trait with every variant of a genotype file, read once in blocks, written as GWAS-SSF."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.association.chromosomes import VariantGroup, variant_groups
from careloop.genome.association.phenotypes import Phenotypes
from careloop.genome.association.regression.design import Trait
from careloop.genome.association.regression.estimates import ERRORS, Estimates, tails
from careloop.genome.association.regression.estimator import Firth, estimator
from careloop.genome.association.summary_statistics import STATISTICS, write_summary_statistics
from careloop.genome.files.contigs import canonical_contig
from careloop.genome.genotypes.blocks import blocks
from careloop.genome.genotypes.source import GenotypeSource

GENOME_WIDE = 5e-8
MEDIAN_CHI2 = 0.454936423119573  # of one degree of freedom
_BLOCK_VALUES = 2**19  # genotypes worked on at once: their double-precision copy stays in the processor's caches


@dataclass(frozen=True)
class AssociationOptions:
    """`variants` are the rows to test, ascending, all by default; `threads` work on blocks at the same time.

    `firth`: when the likelihood of a binary trait is penalised: where the plain fit has no finite or settled estimate,
    always, or never.
    """

    variants: NDArray[np.int64] | None = None
    firth: Firth = "fallback"
    threads: int = 2


@dataclass(frozen=True)
class AssociationSummary:
    """What was tested: `table` has the columns of `STATISTICS`, a row a variant, `errors` counts those not estimated.

    `lambda_gc` is the median chi-square of the tests by that of no association (Devlin and Roeder, Biometrics
    1999;55:997); `significant` counts P below 5e-8; `people` are those analysed, of whom `cases` are cases.
    """

    name: str
    kind: Trait
    people: int
    cases: int | None
    covariates: tuple[str, ...]
    tested: int
    firth: int
    errors: Mapping[str, int]
    lambda_gc: float | None
    significant: int
    notes: tuple[str, ...]
    left_out: Mapping[str, int]
    table: pl.DataFrame = field(repr=False)


def associate(
    source: GenotypeSource,
    phenotypes: Phenotypes,
    *,
    out: Path | None = None,
    options: AssociationOptions = AssociationOptions(),
    progress: Callable[[str, int, int], None] | None = None,
) -> AssociationSummary:
    """Test each variant's `alt` for association with a trait beside covariates: linear or logistic regression.

    Whoever's genotype is missing is left out of that variant's test. Effects are of one more copy of `alt`; alternative
    alleles of one place are tested one by one. With `out` the table is written there as GWAS-SSF, whole or not at all.
    Sums are in double precision for quantitative traits; logistic steps are in single precision, which moves estimates
    by about a hundred-thousandth of their standard error.

    Raises:
        InputError: the trait or covariates cannot be tested (see `variant_groups`), or genotypes cannot be read.
    """
    rows = np.arange(source.variants.height) if options.variants is None else options.variants
    if not rows.size:
        raise InputError(f"{source.path}: no variant is left to test; loosen the filters")
    groups = variant_groups(source, phenotypes, rows)
    parts, done = [], 0
    for group in groups:
        for estimates in _of_group(source, group, options):
            parts.append(estimates)
            done += len(estimates.beta)
            if progress:
                progress(f"testing {phenotypes.name}", done, rows.size)
    table = _table(source, groups, _joined(parts), phenotypes.kind)
    if out:
        write_summary_statistics(table, out, build=source.build)
    return _summary(phenotypes, groups, table)


def _of_group(source: GenotypeSource, group: VariantGroup, options: AssociationOptions) -> Iterator[Estimates]:
    """The group's estimates block by block, in order, some blocks at the same time."""
    from threadpoolctl import threadpool_limits

    if group.design is None:
        yield _untested(group.rows.size)
        return
    estimate, people = estimator(group.design, options.firth), group.design.people
    everybody = np.array_equal(people, np.arange(source.samples.height))
    reading = blocks(
        source,
        variants=group.rows,
        samples=None if everybody else people,
        size=max(1, _BLOCK_VALUES // len(people)),
        kind="genotypes" if source.hard_calls else "dosages",
    )

    def work(values: NDArray[Any]) -> Estimates:
        found = estimate(values)
        return replace(found, beta=found.beta / group.scale, standard_error=found.standard_error / group.scale)

    waiting: deque[Future[Estimates]] = deque()
    with threadpool_limits(1), ThreadPoolExecutor(options.threads, thread_name_prefix="association") as pool:
        for block in reading:
            waiting.append(pool.submit(work, block.values))
            if len(waiting) > 2 * options.threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _untested(count: int) -> Estimates:
    nothing, code = np.full(count, np.nan), np.full(count, ERRORS.index("TOO_FEW"), np.int8)
    return Estimates(nothing, nothing, np.zeros(count, np.int64), nothing, code, np.zeros(count, np.bool_))


def _joined(parts: list[Estimates]) -> Estimates:
    return Estimates(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Estimates)))


def _table(source: GenotypeSource, groups: list[VariantGroup], found: Estimates, kind: Trait) -> pl.DataFrame:
    """The columns of `STATISTICS`, in the order of the genotype file."""
    rows = np.concatenate([group.rows for group in groups])
    degrees = None
    if kind == "quantitative":
        predictors = [group.design.basis.shape[1] + 1 if group.design else 0 for group in groups]
        degrees = (found.n - np.repeat(predictors, [group.rows.size for group in groups])).astype(np.float64)
    p, minus_log = tails(found.beta / found.standard_error, degrees)
    variants = source.variants[rows]
    contigs = {name: canonical_contig(name) for name in variants["contig"].unique().to_list()}
    columns = {
        "chromosome": variants["contig"].replace(contigs),
        "base_pair_location": variants["position"],
        "effect_allele": variants["alt"],
        "other_allele": variants["ref"],
        "beta": found.beta,
        "standard_error": found.standard_error,
        "effect_allele_frequency": found.frequency,
        "p_value": p,
        "neg_log_10_p_value": minus_log,
        "variant_id": variants["variant_id"],
        "n": found.n,
        "test": pl.select(
            pl.when(pl.Series(found.firth)).then(pl.lit("ADD-FIRTH")).otherwise(pl.lit("ADD"))
        ).to_series(),
        "error": pl.Series(np.array(ERRORS, object)[found.code], dtype=pl.String).replace("", None),
    }
    table = pl.DataFrame(columns, schema=STATISTICS, nan_to_null=True)
    return table if np.all(rows[1:] > rows[:-1]) else table[np.argsort(rows)]


def _summary(phenotypes: Phenotypes, groups: list[VariantGroup], table: pl.DataFrame) -> AssociationSummary:
    tested = table.filter(pl.col("p_value").is_not_null())
    return AssociationSummary(
        name=phenotypes.name,
        kind=phenotypes.kind,
        people=len(phenotypes.people),
        cases=int(phenotypes.trait.sum()) if phenotypes.kind == "binary" else None,
        covariates=tuple(phenotypes.covariates),
        tested=tested.height,
        firth=int((tested["test"] == "ADD-FIRTH").sum()),
        errors=dict(table["error"].drop_nulls().value_counts().sort("error").iter_rows()),
        lambda_gc=genomic_inflation(tested["p_value"].to_numpy()),
        significant=int((tested["p_value"] < GENOME_WIDE).sum()),
        notes=(*phenotypes.notes, *(group.note for group in groups if group.note)),
        left_out=phenotypes.left_out,
        table=table,
    )


def genomic_inflation(p: NDArray[np.float64]) -> float | None:
    """Lambda GC of P values: the chi-square of their median by the median of chi-square; None without any."""
    from scipy.special import ndtri

    return float(ndtri(np.median(p) / 2) ** 2 / MEDIAN_CHI2) if len(p) else None
