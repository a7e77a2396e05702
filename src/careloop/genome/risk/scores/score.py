"""Polygenic scores of everyone in a genotype file: many score files in one pass, with what each of them could use.

Wray, Goddard and Visscher, Genome Res 2007;17:1520; summed up as plink2 --score does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.genotypes.source import GenotypeSource
from careloop.genome.risk.scores.frequencies import read_frequencies
from careloop.genome.risk.scores.matching import Matching, MatchOptions, match
from careloop.genome.risk.scores.overlap import Overlap, overlap
from careloop.genome.risk.scores.pgs_file import ScoreFile, read_pgs
from careloop.genome.risk.scores.placing.fitting import ambiguous
from careloop.genome.risk.scores.summing.sums import Missing, Sums, sum_scores

Progress = Callable[[str, int, int], None]
Unit = Literal["sum", "average"]
LEAST_PEOPLE = 50  # with fewer founders their own frequencies are no guide to a missing genotype, as plink2 has it


@dataclass(frozen=True)
class ScoreOptions:
    """How scores are computed.

    `missing`: `mean` adds what is expected at the variant's frequency, `none` nothing. `frequencies`: a plink2 .afreq
    file, for variants that it has; those of the people scored otherwise. `unit`: the sum, or the average per allele
    that was called (plink2's SCORE_AVG: with `mean`, per allele of the score). Scores that use less than
    `min_overlap` of their variants are left out, and said to be.
    """

    matching: MatchOptions = field(default_factory=MatchOptions)
    missing: Missing = "mean"
    unit: Unit = "sum"
    frequencies: Path | None = None
    min_overlap: float = 0.0

    def __post_init__(self) -> None:
        for name, allowed in (("missing", Missing), ("unit", Unit)):
            if getattr(self, name) not in get_args(allowed):
                raise InputError(f"{name} of a score is {' or '.join(get_args(allowed))}, not {getattr(self, name)!r}")
        if not 0 <= self.min_overlap <= 1:
            raise InputError(f"an overlap is a share from 0 to 1, not {self.min_overlap}")


@dataclass(frozen=True)
class Scored:
    """One score file's part: what it is, what was used of it and why the rest was not."""

    file: ScoreFile
    matching: Matching
    overlap: Overlap
    left_out: bool  # for too small an overlap

    @property
    def name(self) -> str:
        """What the score's column is called."""
        return self.file.name


@dataclass(frozen=True)
class Scores:
    """Scores of people. `table`: sample_id, a column a score, and `n_variants_NAME`, those called in this person."""

    table: pl.DataFrame
    scored: tuple[Scored, ...]


def score(
    source: GenotypeSource,
    files: Sequence[str | Path | ScoreFile],
    *,
    options: ScoreOptions = ScoreOptions(),
    progress: Progress | None = None,
) -> Scores:
    """Score everyone in `source` by each of `files` (PGS Catalog scoring files, plain tables, or opened ones).

    A score's names must differ. Missing genotypes that would need the frequency of fewer than 50 people are refused.

    Raises:
        InputError: a file cannot be read, two scores of one name, or frequencies are needed and not given.
    """
    opened = [one if isinstance(one, ScoreFile) else read_pgs(one, build=source.build) for one in files]
    _require_names(opened)
    given = None if options.frequencies is None else read_frequencies(options.frequencies, source.variants)
    known = _for_strands(source, given) if options.matching.ambiguous == "frequency" else None
    scored = []
    for one in opened:
        found = match(one, source.variants, build=source.build, options=options.matching, frequencies=known)
        share = overlap(one, found)
        scored.append(Scored(one, found, share, left_out=share.variants < options.min_overlap))
    kept = [one for one in scored if not one.left_out]
    sums = sum_scores(
        source,
        [one.matching.terms for one in kept],
        missing=options.missing,
        frequencies=given,
        progress=progress,
    )
    _require_frequencies(source, sums, given, options)
    columns = {"sample_id": source.samples["sample_id"]}
    columns |= {one.name: pl.Series(_in_unit(sums, at, options)) for at, one in enumerate(kept)}
    columns |= {f"n_variants_{one.name}": pl.Series(sums.variants[at]) for at, one in enumerate(kept)}
    return Scores(pl.DataFrame(columns), tuple(scored))


def _require_names(opened: Sequence[ScoreFile]) -> None:
    if not opened:
        raise InputError("name one score file at least")
    seen: dict[str, Path] = {}
    for one in opened:
        if one.name in seen:
            raise InputError(
                f"{one.path}: {seen[one.name]} holds a score of the name {one.name} too; rename one of them"
            )
        seen[one.name] = one.path


def _for_strands(source: GenotypeSource, given: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """Frequencies of `alt` where no letter tells the strand: those given, or counted where there are people enough."""
    if given is not None or source.samples.height < LEAST_PEOPLE:
        return given
    from careloop.genome.genotypes.quality.statistics import variant_statistics

    unclear = source.variants.select(ambiguous())["ref"].arg_true().to_numpy().astype(np.int64)
    known = np.full(source.variants.height, np.nan)
    if unclear.size:
        known[unclear] = variant_statistics(source, variants=unclear).frequency
    return known


def _require_frequencies(
    source: GenotypeSource, sums: Sums, given: NDArray[np.float64] | None, options: ScoreOptions
) -> None:
    """Refuse to fill missing genotypes by the frequencies of a few people."""
    founders = int((source.samples["father_id"].is_null() & source.samples["mother_id"].is_null()).sum())
    if options.missing == "none" or given is not None or (founders or source.samples.height) >= LEAST_PEOPLE:
        return
    if (sums.variants < sums.possible).any():
        raise InputError(
            f"{source.path}: missing genotypes are filled by the variant's frequency, which takes {LEAST_PEOPLE} "
            f"people; it has {founders or source.samples.height}; give --frequencies FILE.afreq, or --missing none"
        )


def _in_unit(sums: Sums, at: int, options: ScoreOptions) -> NDArray[np.float64]:
    if options.unit == "sum":
        return sums.sums[at]
    alleles = sums.alleles[at] if options.missing == "none" else sums.possible_alleles[at]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(alleles > 0, sums.sums[at] / alleles, np.nan)
