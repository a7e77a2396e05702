"""A genotype file's people checked at once: gaps, heterozygosity, sex, relatives, and parents who are stated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.genotypes.quality.statistics import variant_statistics
from careloop.genome.genotypes.source import GenotypeSource
from careloop.genome.population.components import autosomal_rows
from careloop.genome.population.identity.heterozygosity import Heterozygosity, heterozygosity
from careloop.genome.population.identity.kinship import RELATIONS, THIRD_DEGREE, Relatedness, relatedness
from careloop.genome.population.identity.sex import check_sex

Progress = Callable[[str, int, int], None]
FAR_OUT = 5.0  # of heterozygosity, in robust standard deviations (1.4826 x median absolute deviation)
FAR_OUT_F = 0.05  # and in F, so that a very even file has no outliers
FEWEST_PEOPLE = 20  # for outliers to be told
FEWEST_VARIANTS = 100  # of autosomes, for kinship
MIN_FREQUENCY, MAX_MISSING = 0.05, 0.1  # of the variants that kinship is judged by
# Kinship of strangers by n variants strays by 0.7 / sqrt(n) (of (x1 - x2)^2 / (4 x 2pq) at common frequencies); among a
# million pairs chance reaches 4.5 times that.
CHANCE_BY_ROOT_OF_VARIANTS = 4.5 * 0.7
_PAIR = ("sample_id_1", "sample_id_2", "relation")
PARENTS = pl.Schema(
    {
        "sample_id": pl.String(),
        "role": pl.String(),  # father or mother
        "stated": pl.String(),
        "kinship": pl.Float64(),  # null where it is below what was looked for
        "verdict": pl.String(),  # confirmed, refuted
    }
)


@dataclass(frozen=True)
class CheckOptions:
    """`max_missing`: the largest share of gaps of a person. `min_kinship`: of pairs that are listed.

    With few variants, those that chance may have brought are not. At most `most_variants`, spread over the autosomes,
    are looked at; more add little.
    """

    max_missing: float = 0.05
    min_kinship: float = THIRD_DEGREE
    most_variants: int = 20_000

    def __post_init__(self) -> None:
        if not 0 <= self.max_missing <= 1 or not 0 < self.min_kinship <= 0.5 or self.most_variants < FEWEST_VARIANTS:
            raise InputError(
                "a check needs a missing share from 0 to 1, a kinship above 0 and at most 0.5, and "
                f"{FEWEST_VARIANTS} variants or more"
            )


@dataclass(frozen=True)
class SampleCheck:
    """What was found. `people`: sample_id, missing, inbreeding, the columns of `sex.SEX` but its id, and `problems`.

    `relatives`: pairs of some kinship. `parents`: the columns of `PARENTS`. `notes`: what could not be looked at.
    """

    people: pl.DataFrame
    relatives: Relatedness | None
    parents: pl.DataFrame
    notes: tuple[str, ...]

    @property
    def problems(self) -> pl.DataFrame:
        """The people of whom something was found, with what it is."""
        return self.people.filter(pl.col("problems") != "")


def check_samples(
    source: GenotypeSource, options: CheckOptions = CheckOptions(), *, progress: Progress | None = None
) -> SampleCheck:
    """Check everybody in a genotype file.

    Relatives are no problem by themselves; the same person twice is (or twins), and so is a stated parent who is none.

    Raises:
        InputError: the file cannot be read to its end.
    """
    autosomal = _spread(autosomal_rows(source), options.most_variants)
    calls = heterozygosity(source, autosomal, progress=progress)
    sexes = check_sex(source, progress=progress)
    found = variant_statistics(source, variants=autosomal, progress=progress)
    common = (found.minor_allele_frequency >= MIN_FREQUENCY) & (found.missing_share <= MAX_MISSING)
    relatives, notes = None, []
    if common.sum() >= FEWEST_VARIANTS and source.samples.height > 1:
        chance = CHANCE_BY_ROOT_OF_VARIANTS / np.sqrt(common.sum())
        least = max(options.min_kinship, float(chance))
        relatives = relatedness(source, min_kinship=least, variants=autosomal[common], progress=progress)
        if least > options.min_kinship:
            notes.append(f"pairs of a kinship below {least:.3f} are not listed: with few variants, chance brings such")
    elif source.samples.height > 1:
        notes.append(f"relatives were not looked for: fewer than {FEWEST_VARIANTS} common variants of autosomes")
    if (sexes["verdict"] == "not clear").all() and sexes.height:
        notes.append("sex is not clear for anybody: too few variants of X, or none")
    parents = _parents(source.samples, relatives)
    people = pl.DataFrame({"sample_id": sexes["sample_id"], "missing": calls.missing, "inbreeding": calls.inbreeding})
    people = people.with_columns(pl.col("inbreeding").fill_nan(None)).hstack(sexes.drop("sample_id"))
    problems = _problems(people, calls, relatives, parents, options)
    return SampleCheck(people.with_columns(pl.Series("problems", problems)), relatives, parents, tuple(notes))


def _spread(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    return rows[:: max(1, -(-rows.size // most))]


def _parents(samples: pl.DataFrame, relatives: Relatedness | None) -> pl.DataFrame:
    """Stated parents who are in the file, and whether genotypes agree."""
    stated = pl.concat(
        samples.select("sample_id", pl.lit(role).alias("role"), pl.col(f"{role}_id").alias("stated"))
        for role in ("father", "mother")
    ).filter(pl.col("stated").is_in(samples["sample_id"].implode()))
    if relatives is None or stated.is_empty():
        return pl.DataFrame(schema=PARENTS)
    pairs = relatives.pairs.select("sample_id_1", "sample_id_2", "kinship", "relation")
    both = pl.concat(
        [pairs, pairs.rename({"sample_id_1": "sample_id_2", "sample_id_2": "sample_id_1"}).select(pairs.columns)]
    )
    found = stated.join(
        both,
        left_on=["sample_id", "stated"],
        right_on=["sample_id_1", "sample_id_2"],
        how="left",
        maintain_order="left",
    )
    confirmed = pl.when(pl.col("relation") == RELATIONS[1]).then(pl.lit("confirmed")).otherwise(pl.lit("refuted"))
    return found.select("sample_id", "role", "stated", "kinship", confirmed.alias("verdict"))


def _problems(
    people: pl.DataFrame,
    calls: Heterozygosity,
    relatives: Relatedness | None,
    parents: pl.DataFrame,
    options: CheckOptions,
) -> list[str]:
    """What is wrong with each person, in words, "" where nothing is."""
    said: dict[str, list[str]] = {name: [] for name in people["sample_id"]}
    for name, missing, out in zip(people["sample_id"], people["missing"], _outlying(calls), strict=True):
        if missing > options.max_missing:
            said[name].append(f"{100 * missing:.1f} % of genotypes are missing")
        if out < 0:
            said[name].append("more heterozygous than the others: perhaps two people in one sample")
        if out > 0:
            said[name].append("less heterozygous than the others: related parents, other ancestry, or poor calls")
    for name, stated, found, verdict, note in people.select(
        "sample_id", "stated", "found", "verdict", "note"
    ).iter_rows():
        if verdict == "differs":
            said[name].append(f"stated {stated}, genotypes of a {found}")
        elif verdict == "not clear" and note and not note.startswith("fewer"):
            said[name].append(f"sex not clear: {note}")
    for one, other, kind in () if relatives is None else relatives.pairs.select(_PAIR).iter_rows():
        if kind == RELATIONS[0]:
            said[one].append(f"the same genotypes as {other}: the same person, or twins")
            said[other].append(f"the same genotypes as {one}: the same person, or twins")
    for name, role, stated in parents.filter(verdict="refuted").select("sample_id", "role", "stated").iter_rows():
        said[name].append(f"{stated} is stated as {role}, but is not a parent")
    return ["; ".join(said[name]) for name in people["sample_id"]]


def _outlying(calls: Heterozygosity) -> NDArray[np.int64]:
    """-1 for people far more, 1 for people far less heterozygous than the others, else 0."""
    f = calls.inbreeding
    known = np.isfinite(f)
    if known.sum() < FEWEST_PEOPLE:
        return np.zeros(f.size, np.int64)
    away = f - np.median(f[known])
    spread = 1.4826 * np.median(np.abs(away[known]))
    far = known & (np.abs(away) > max(FAR_OUT * spread, FAR_OUT_F))
    return np.where(far, np.sign(away), 0).astype(np.int64)
