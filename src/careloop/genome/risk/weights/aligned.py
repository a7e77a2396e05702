"""Summary statistics laid beside the variants of a reference: effects per copy of `alt`, one row a variant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.association.summary_statistics import SummaryStatistics
from careloop.genome.risk.scores.matching import MatchOptions, match
from careloop.genome.risk.scores.pgs_file import ScoreFile
from careloop.genome.risk.scores.placing.fitting import SAME, STRAND
from careloop.genome.risk.scores.reading.rows import REJECTS, SCORE_VARIANTS

Trait = Literal["quantitative", "binary"]


@dataclass(frozen=True)
class Aligned:
    """Marginal effects at some variants of a reference.

    `rows` (variants,): ascending rows of the reference's variants. `beta`, of one copy of `alt`, `standard_error`,
    `people`, `p_value`, and the study's own `frequency` of `alt` (NaN where it has none), each (variants,). `reasons`
    count the statistics that are not here.
    """

    rows: NDArray[np.int64]
    beta: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    people: NDArray[np.float64]
    p_value: NDArray[np.float64]
    frequency: NDArray[np.float64]
    reasons: dict[str, int]
    notes: tuple[str, ...] = ()

    @property
    def scale(self) -> NDArray[np.float64]:
        """What turns an effect on the standardised scale into one of a copy of `alt`: (variants,).

        The trait's standard deviation over the genotype's, as effect and standard error imply it.
        """
        return np.sqrt(self.people * self.standard_error**2 + self.beta**2)

    @property
    def marginal(self) -> NDArray[np.float64]:
        """Effects of standardised genotypes on the standardised trait: (variants,), a correlation."""
        return self.beta / self.scale

    @property
    def chi_squared(self) -> NDArray[np.float64]:
        """Test statistics: (variants,)."""
        return (self.beta / self.standard_error) ** 2

    def only(self, kept: NDArray[np.bool_], reasons: dict[str, int]) -> Aligned:
        """Those that are kept; `reasons` count the others."""
        columns = ("rows", "beta", "standard_error", "people", "p_value", "frequency")
        parts = {name: getattr(self, name)[kept] for name in columns}
        return replace(self, **parts, reasons={**self.reasons, **reasons})


def align(
    statistics: SummaryStatistics,
    variants: pl.DataFrame,
    *,
    build: str | None = None,
    frequencies: NDArray[np.float64] | None = None,
    options: MatchOptions | None = None,
) -> Aligned:
    """Find the variants of summary statistics in a reference's table of VARIANTS, as a score's are found.

    `build` is the reference's; `frequencies` of `alt` (variants,) are needed where A/T and C/G are told by frequency.

    Raises:
        InputError: the statistics have no effects, standard errors or numbers of people, or share no variant.
    """
    statistics.require("beta", "standard_error", "n")
    whole = pl.all_horizontal(pl.col("beta", "standard_error", "n").is_not_null()) & (pl.col("standard_error") > 0)
    table = statistics.table.filter(whole)
    unfit = statistics.table.height - table.height
    placed = place(replace(statistics, table=table), variants, build=build, frequencies=frequencies, options=options)
    reasons = dict(placed.reasons) | ({"no effect, standard error or number of people": unfit} if unfit else {})
    chosen, of_alt = placed.table, placed.of_alt
    frequency = chosen["effect_allele_frequency"].fill_null(float("nan")).to_numpy()
    return Aligned(
        rows=placed.rows,
        beta=chosen["beta"].to_numpy() * np.where(of_alt, 1, -1),
        standard_error=chosen["standard_error"].to_numpy(),
        people=chosen["n"].to_numpy().astype(np.float64),
        p_value=p_values(chosen),
        frequency=np.where(of_alt, frequency, 1 - frequency),
        reasons=reasons,
        notes=placed.notes,
    )


@dataclass(frozen=True)
class Placed:
    """Rows of summary statistics that are variants of a reference, by ascending `rows` of its table.

    `table` has the columns of STATISTICS; `of_alt` (variants,) tells whether the effect allele is `alt`, on either
    strand; `reasons` count those that are not here.
    """

    table: pl.DataFrame
    rows: NDArray[np.int64]
    of_alt: NDArray[np.bool_]
    reasons: dict[str, int]
    notes: tuple[str, ...]


def place(
    statistics: SummaryStatistics,
    variants: pl.DataFrame,
    *,
    build: str | None = None,
    frequencies: NDArray[np.float64] | None = None,
    options: MatchOptions | None = None,
) -> Placed:
    """Find the variants of summary statistics in a table of VARIANTS; arguments as of `align`.

    Raises:
        InputError: they share no variant.
    """
    score = _as_score(statistics)
    found = match(score, variants, build=build, options=options or MatchOptions(), frequencies=frequencies)
    used = found.table.with_row_index("row").filter(pl.col("reason").is_null()).sort("variant")
    if not used.height:
        raise InputError(
            f"{statistics.path}: none of its {statistics.table.height:,} variants is in the reference; check the build"
        )
    counts = found.table["reason"].drop_nulls().value_counts(sort=True)
    return Placed(
        table=statistics.table[used["row"].cast(pl.Int64)],
        rows=used["variant"].to_numpy().astype(np.int64),
        of_alt=used["kind"].is_in([SAME, STRAND]).to_numpy(),
        reasons={str(reason): int(count) for reason, count in counts.iter_rows()},
        notes=found.notes,
    )


def _as_score(statistics: SummaryStatistics) -> ScoreFile:
    """Statistics as a score of one weight a variant, so that its matching serves both."""
    beta = pl.col("beta").fill_null(0.0)
    rows = statistics.table.select(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("line"),
        "variant_id",
        "chromosome",
        pl.col("base_pair_location").alias("position"),
        "effect_allele",
        "other_allele",
        weight_0=pl.lit(0.0),
        weight_1=beta,
        weight_2=2 * beta,
        effect_allele_frequency=pl.col("effect_allele_frequency"),
    )
    rows, nothing = rows.select(*SCORE_VARIANTS).cast(SCORE_VARIANTS), pl.DataFrame(schema=REJECTS)
    return ScoreFile(statistics.path, statistics.path.name, statistics.build, {}, rows, nothing, ())


def p_values(table: pl.DataFrame) -> NDArray[np.float64]:
    """P values of rows of STATISTICS, from effect and standard error where there is none: (rows,)."""
    if not table["p_value"].null_count():
        return table["p_value"].to_numpy()
    from scipy.special import chdtrc

    chi_squared = (table["beta"].to_numpy() / table["standard_error"].to_numpy()) ** 2
    return np.where(table["p_value"].is_null(), chdtrc(1, chi_squared), table["p_value"].fill_null(0.0).to_numpy())
