"""Which people, covariates and scale the variants of a chromosome are tested with: autosomes, X, Y and mitochondria.

As PLINK 2 does by default: on X sex is a covariate and a man's one allele counts as two; on Y only men count, and there
and in mitochondria, where nobody has two copies, an allele counts as one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.association.people.covariates import sex_numbers
from careloop.genome.association.phenotypes import Phenotypes
from careloop.genome.association.regression.design import Design, make_design
from careloop.genome.files.contigs import canonical_contig
from careloop.genome.genotypes.source import GenotypeSource


@dataclass(frozen=True)
class VariantGroup:
    """Variants tested alike: `rows` of the source's variants, ascending; `design` None where no test can be made.

    `scale` turns copies on the scale 0 to 2 into alleles; `note` says what differs from the autosomes.
    """

    rows: NDArray[np.int64]
    design: Design | None
    scale: float
    note: str


def variant_groups(source: GenotypeSource, phenotypes: Phenotypes, rows: NDArray[np.int64]) -> list[VariantGroup]:
    """Split variants `rows` by how their chromosome is tested.

    Raises:
        InputError: a covariate that adds nothing, a trait of one value, or too few people for the autosomes' test.
    """
    contigs = source.variants["contig"].unique().to_list()
    kinds = {name: _kind(name) for name in contigs}
    of_row = source.variants["contig"].replace_strict(kinds, return_dtype=pl.String).to_numpy()[rows]
    whole = make_design(phenotypes.people, phenotypes.trait, phenotypes.covariates, kind=phenotypes.kind)
    if whole.dropped:
        name, why = next(iter(whole.dropped.items()))
        raise InputError(f"covariate {name} {why} among the {len(whole.people):,} people analysed; leave it out")
    groups = []
    for kind in dict.fromkeys(of_row):
        design, note = (whole, "") if kind in ("autosome", "MT") else _of_sexes(source, phenotypes, kind)
        groups.append(VariantGroup(rows[of_row == kind], design, 0.5 if kind in ("Y", "MT") else 1.0, note))
    return groups


def _kind(contig: str) -> str:
    name = canonical_contig(contig)
    return name if name in ("X", "Y", "MT") else "autosome"


def _of_sexes(source: GenotypeSource, phenotypes: Phenotypes, kind: str) -> tuple[Design | None, str]:
    """The design of X, with sex beside the covariates, or of Y, of men; and what is said of it."""
    sex = sex_numbers(source.samples["sex"])[phenotypes.people]
    kept = np.isfinite(sex) if kind == "X" else sex == 1
    covariates = {name: values[kept] for name, values in phenotypes.covariates.items()}
    if kind == "X" and not any(name.lower() == "sex" for name in covariates):
        covariates["sex"] = sex[kept]
    people, trait = phenotypes.people[kept], phenotypes.trait[kept]
    which = "people of known sex, and sex is a covariate" if kind == "X" else "men"
    note = f"{kind}: {len(people):,} {which}"
    try:
        design = make_design(people, trait, covariates, kind=phenotypes.kind)
    except InputError as error:
        return None, f"{note}; not tested: {error}"
    without = "".join(f"; without {name}, which {why}" for name, why in design.dropped.items())
    return design, note + without
