"""Whether samples of one file are the people of another file that they are said to be, or somebody else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.genotypes.source import MISSING, GenotypeSource
from careloop.genome.population.components import autosomal_rows
from careloop.genome.population.identity.kinship import SAME_PERSON
from careloop.genome.population.identity.pair_counts import PairCounts
from careloop.genome.population.shared_variants import SharedVariants, require_shared, shared_variants

Progress = Callable[[str, int, int], None]
FEWEST_SHARED = 50  # variants, under which relatives cannot be told from the same person
MOST_VARIANTS = 10_000  # compared, spread over the genome: many more than are needed
_AT_ONCE = 1_000
FEWEST_KNOWN = 10  # known genotypes of a person, under which nothing is said
ERROR_RATE = 0.01  # of a known genotype
CONVINCING = np.log(1000.0)  # log likelihood ratio, beyond the number of people, from which a match is one
SWAPS = pl.Schema(
    {
        "sample_id": pl.String(),  # of the second file, or of the known genotypes
        "best_match": pl.String(),  # of the first; null where nobody is the same person
        "verdict": pl.String(),  # same, swapped, new, other person, not clear
        "closest": pl.String(),
        "similarity": pl.Float64(),  # to the closest: kinship, or log likelihood ratio
        "own_similarity": pl.Float64(),  # to the sample of the same id
        "concordance": pl.Float64(),  # share of equal genotypes with the closest
        "variants": pl.Int64(),
    }
)


@dataclass(frozen=True)
class SampleMatches:
    """Each sample's best match (a table of the columns of `SWAPS`), and the matrices behind it.

    `similarity` (first, second): kinship, or log likelihood ratios of being the same person. `shared`: the variants
    that were compared, None where genotypes were given as a table.
    """

    table: pl.DataFrame
    similarity: NDArray[np.float64]
    shared: SharedVariants | None


def match_samples(first: GenotypeSource, second: GenotypeSource, *, progress: Progress | None = None) -> SampleMatches:
    """Find each sample of `second` among those of `first`, by KING-robust kinship over autosomes' shared variants.

    Verdicts: "same" (the sample of the same id is the same person), "swapped" (another id is), "other person" (the id
    is in both files but it is not the same person, and nobody else is), "new" (the id is not in the first file, and
    nobody is the same person), "renamed" (the id is not in the first file, but another is the same person). Identical
    twins cannot be told apart: one's own id is preferred.

    Raises:
        InputError: fewer than 50 shared variants, different assemblies, or a file that cannot be read to its end.
    """
    shared = shared_variants(first.variants, second.variants, builds=(first.build, second.build))
    autosomal = np.isin(shared.first, autosomal_rows(first))
    picked = np.flatnonzero(autosomal)[:: max(1, -(-int(autosomal.sum()) // MOST_VARIANTS))]
    used = SharedVariants(
        shared.first[picked], shared.second[picked], shared.swapped[picked], shared.by, shared.left_out
    )
    require_shared(used, (first.path, second.path), least=FEWEST_SHARED)
    counts = PairCounts(first.samples.height, second.samples.height)
    for at in range(0, picked.size, _AT_ONCE):
        counts.add(*_both(first, second, used, slice(at, at + _AT_ONCE)))
        if progress:
            progress("comparing samples", min(at + _AT_ONCE, picked.size), picked.size)
    with np.errstate(invalid="ignore", divide="ignore"):
        concordance = counts.equal / counts.called
    ids = first.samples["sample_id"].to_list(), second.samples["sample_id"].to_list()
    kinship = np.nan_to_num(counts.kinship, nan=-np.inf)
    table = _judged(ids, kinship, SAME_PERSON, concordance, counts.called)
    return SampleMatches(table, kinship, used)


def _both(
    first: GenotypeSource, second: GenotypeSource, shared: SharedVariants, part: slice
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Genotypes of both files' samples at some shared variants, counting the first's alt in both."""
    one = first.genotypes(shared.first[part])
    order = np.argsort(shared.second[part], kind="stable")
    other = np.empty((order.size, second.samples.height), np.int8)
    other[order] = second.genotypes(shared.second[part][order])
    turned = shared.swapped[part][:, None] & (other != MISSING)
    return one, np.where(turned, 2 - other, other)


def match_known(source: GenotypeSource, known: pl.DataFrame, *, error_rate: float = ERROR_RATE) -> SampleMatches:
    """Find people whose genotypes are known from elsewhere (columns sample_id, variant_id, copies of alt) in a file.

    Known genotypes are few: those of an earlier test, or those in a patient's record. For each pair, log of how much
    likelier the known genotypes are for this sample than for anybody, by the file's frequencies, Hardy-Weinberg
    proportions and `error_rate`; variants count as independent, so give such as are not neighbours. A match has odds
    of a thousand to one after counting how many people it was sought among. "not clear": fewer than 10 known genotypes,
    or none and no other is convincing.

    Raises:
        InputError: none of the known variants is in the file, or one is there twice.
    """
    variants = source.variants.with_row_index("row").join(
        known.select(pl.col("variant_id").unique()), on="variant_id", how="inner"
    )
    if variants.is_empty() or variants["variant_id"].is_duplicated().any():
        problem = "none is there" if variants.is_empty() else "one is there twice"
        raise InputError(f"{source.path}: known genotypes must be of variants in this file, by id; {problem}")
    rows = variants["row"].cast(pl.Int64).to_numpy()
    copies = source.genotypes(rows)
    people = known["sample_id"].unique(maintain_order=True).to_list()
    claimed = _claimed(known, people, variants["variant_id"].to_list())
    ratio, called, equal = _likelihood_ratios(copies, claimed, error_rate)
    ids = source.samples["sample_id"].to_list(), people
    least = CONVINCING + np.log(len(ids[0]))
    with np.errstate(invalid="ignore"):
        table = _judged(ids, ratio, least, equal / called, called)
    few = pl.Series((claimed != MISSING).sum(axis=0) < FEWEST_KNOWN)
    unclear = few | (pl.col("best_match").is_null() & (pl.col("own_similarity").fill_null(-np.inf) > -least))
    return SampleMatches(
        table.with_columns(
            pl.when(unclear).then(pl.lit("not clear")).otherwise("verdict").alias("verdict"),
            pl.when(few).then(None).otherwise("best_match").alias("best_match"),
        ),
        ratio,
        None,
    )


def read_known(path: Path) -> pl.DataFrame:
    """Read known genotypes: CSV or TSV with columns sample_id, variant_id and copies (of the file's alt, 0 to 2).

    Raises:
        InputError: no such file or columns, or copies that are none.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, UnicodeDecodeError):
        raise InputError(f"{path}: no such file, or no text; known genotypes are a CSV or TSV table") from None
    separator = "\t" if "\t" in text.split("\n", 1)[0] else ","
    table = pl.read_csv(text.encode(), separator=separator, infer_schema=False, truncate_ragged_lines=True)
    if absent := sorted({"sample_id", "variant_id", "copies"} - set(table.columns)):
        raise InputError(f"{path}: known genotypes have columns sample_id, variant_id, copies; {absent[0]} is absent")
    found = table.select("sample_id", "variant_id", pl.col("copies").cast(pl.Float64, strict=False))
    wrong = found.filter(~pl.col("copies").is_between(0, 2).fill_null(value=False) & table["copies"].is_not_null())
    if wrong.height:
        raise InputError(f"{path}: copies of an allele are numbers from 0 to 2; {wrong.height} rows have others")
    return found


def _claimed(known: pl.DataFrame, people: list[str], variant_ids: list[str]) -> NDArray[np.int8]:
    """Known copies as (variants, people), `MISSING` where not known."""
    claimed = np.full((len(variant_ids), len(people)), MISSING, np.int8)
    at = {name: number for number, name in enumerate(variant_ids)}
    of = {name: number for number, name in enumerate(people)}
    for sample_id, variant_id, copies in known.select("sample_id", "variant_id", "copies").iter_rows():
        if variant_id in at and copies is not None:
            claimed[at[variant_id], of[sample_id]] = round(copies)
    return claimed


def _likelihood_ratios(
    copies: NDArray[np.int8], claimed: NDArray[np.int8], error_rate: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Log likelihood ratios of being the same person, variants called in both, equal ones: (samples, people) each."""
    seen = copies != MISSING
    alt = (np.where(seen, copies, 0).sum(axis=1) + 1) / (2 * seen.sum(axis=1) + 2)  # one of each allele added
    chances = np.stack([(1 - alt) ** 2, 2 * alt * (1 - alt), alt**2], axis=1)
    both = seen.T.astype(np.float64) @ (claimed != MISSING)
    equal = np.zeros_like(both)
    ratio = np.log(error_rate) * both
    for genotype in (0, 1, 2):
        has, is_said = (copies == genotype).T.astype(np.float64), (claimed == genotype).astype(np.float64)
        equal += has @ is_said
        chance = chances[:, genotype]
        gain = np.log((1 - error_rate) / chance + error_rate) - np.log(error_rate)
        ratio += has @ (is_said * gain[:, None])
    return ratio, both, equal


def _judged(
    ids: tuple[list[str], list[str]],
    similarity: NDArray[np.float64],
    least: float,
    concordance: NDArray[np.floating[Any]],
    variants: NDArray[np.floating[Any]],
) -> pl.DataFrame:
    """The table of `SWAPS`: each of the second ids beside those of the first that `similarity` is of."""
    place = {name: number for number, name in enumerate(ids[0])}
    rows = []
    for number, name in enumerate(ids[1]):
        column = similarity[:, number]
        own, closest = place.get(name), int(np.argmax(column))
        if own is not None and column[own] > least:
            closest = own  # a twin may be as close
        same = bool(column[closest] > least)
        verdict = _verdict(closest == own, same, named=own is not None)
        figures = (_finite(column[closest]), None if own is None else _finite(column[own]))
        share, compared = _finite(concordance[closest, number]), int(variants[closest, number])
        rows.append((name, ids[0][closest] if same else None, verdict, ids[0][closest], *figures, share, compared))
    return pl.DataFrame(rows, schema=SWAPS, orient="row")


def _verdict(own: bool, same: bool, *, named: bool) -> str:
    if same:
        return "same" if own else ("swapped" if named else "renamed")
    return "other person" if named else "new"


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
