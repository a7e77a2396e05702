"""The sex that genotypes show, by heterozygosity on X and calls on Y, beside the sex that is stated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop.genome.call.ploidy import borders
from careloop.genome.files.contigs import canonical_contig
from careloop.genome.genotypes.blocks import blocks
from careloop.genome.genotypes.quality.statistics import variant_statistics
from careloop.genome.genotypes.source import MISSING, GenotypeSource
from careloop.genome.population.identity.heterozygosity import heterozygosity

Progress = Callable[[str, int, int], None]
FEMALE_BELOW, MALE_ABOVE = 0.2, 0.8  # F on X, as plink 1.9's --check-sex
Y_ABSENT_BELOW, Y_PRESENT_ABOVE = 0.2, 0.8  # share of Y's variants that are called
FEWEST_VARIANTS = 20  # of a chromosome, under which it says nothing
MIN_FREQUENCY = 0.05  # of X's variants; rarer ones say little
_BUILDS = ("GRCh37", "GRCh38")
SEX = pl.Schema(
    {
        "sample_id": pl.String(),
        "stated": pl.String(),
        "found": pl.String(),  # null where genotypes do not say
        "x_inbreeding": pl.Float64(),
        "x_variants": pl.Int64(),
        "y_called": pl.Float64(),  # share
        "y_variants": pl.Int64(),
        "verdict": pl.String(),  # agrees, differs, not stated, not clear
        "note": pl.String(),
    }
)


def check_sex(source: GenotypeSource, *, progress: Progress | None = None) -> pl.DataFrame:
    """Find each person's sex and compare it with the stated one: a table of the columns of `SEX`.

    F on X (outside of what X and Y share; variants with a rarer allele of 5 % at least) near 1 means one X, near 0 two.
    Where Y has variants it must agree: one X without Y (45,X or a lost Y) and two X with Y (47,XXY, or two people in a
    tube) are not clear, and the note says which. Neither is where there are fewer than 20 variants of X.

    Raises:
        InputError: the file cannot be read to its end.
    """
    x, y = _own_part(source, "X"), _own_part(source, "Y")
    x = x[variant_statistics(source, variants=x, progress=progress).minor_allele_frequency >= MIN_FREQUENCY]
    male = (source.samples["sex"] == "male").fill_null(value=False).to_numpy()
    on_x = heterozygosity(source, x, copies=np.where(male, 1, 2), progress=progress)
    on_y = _called(source, y)
    people = []
    for number, (sample_id, stated) in enumerate(source.samples.select("sample_id", "sex").iter_rows()):
        f = float(on_x.inbreeding[number]) if x.size >= FEWEST_VARIANTS else float("nan")
        share = float(on_y[number]) if y.size >= FEWEST_VARIANTS else float("nan")
        found, note = found_sex(f, share)
        counts = (None if np.isnan(f) else f, int(on_x.called[number]), None if np.isnan(share) else share, y.size)
        people.append((sample_id, stated, found, *counts, _verdict(stated, found), note))
    return pl.DataFrame(people, schema=SEX, orient="row")


def found_sex(x_inbreeding: float, y_called: float) -> tuple[str | None, str | None]:
    """The sex by F on X and the share of Y's variants called (NaN: not known), None where not clear; and a note."""
    if np.isnan(x_inbreeding):
        return None, f"fewer than {FEWEST_VARIANTS} variants of X"
    one_x, two_x = x_inbreeding > MALE_ABOVE, x_inbreeding < FEMALE_BELOW
    if not one_x and not two_x:
        return None, "heterozygosity on X is between the sexes'"
    if one_x and y_called < Y_ABSENT_BELOW:
        return None, "one X and no Y"
    if two_x and y_called > Y_PRESENT_ABOVE:
        return None, "two X and a Y, or two people in one sample"
    return ("male" if one_x else "female"), None


def _verdict(stated: str | None, found: str | None) -> str:
    if found is None:
        return "not clear"
    if stated is None:
        return "not stated"
    return "agrees" if stated == found else "differs"


def _own_part(source: GenotypeSource, chromosome: str) -> NDArray[np.int64]:
    """Rows of X or Y outside of what they share; where the assembly is not known, outside of both assemblies'."""
    contigs = source.variants["contig"]
    names = [name for name in contigs.unique().to_list() if canonical_contig(name) == chromosome]
    inside = contigs.is_in(names).to_numpy()
    starts = source.variants["position"].to_numpy() - 1
    for build in (source.build,) if source.build in _BUILDS else _BUILDS:
        places = borders(chromosome, build)
        for first, last in zip(places[::2], places[1::2], strict=True):
            inside &= (starts < first) | (starts >= last)
    return np.flatnonzero(inside).astype(np.int64)


def _called(source: GenotypeSource, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """The share of variants with a call, of each person."""
    called = np.zeros(source.samples.height, np.int64)
    for block in blocks(source, variants=rows):
        called += (block.values != MISSING).sum(axis=0)
    return called / max(rows.size, 1)
