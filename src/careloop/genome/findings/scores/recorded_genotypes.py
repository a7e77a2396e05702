"""Genotypes that a record holds of a genotype file's people, to tell whether the file is of the same people."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from careloop import InputError
from careloop.genome.findings.scores.score_events import CODES, SampleSubjects, subjects_of
from careloop.genome.findings.scores.score_table import SAMPLE
from careloop.genome.genotypes.source import GenotypeSource
from careloop.record import Record

KNOWN = pl.Schema({SAMPLE: pl.String(), "variant_id": pl.String(), "copies": pl.Float64()})


def recorded_genotypes(path: Path, source: GenotypeSource, *, subjects: SampleSubjects | None = None) -> pl.DataFrame:
    """Copies of `alt` that the record in folder `path` has of the file's people, as `match_known` takes them.

    Those are the events `GENOME//DOSAGE//ID_ALLELE` of variants that the file has, whichever of its alleles they count.

    Raises:
        InputError: there is no record, or it has none of these of anybody in the file.
    """
    record = Record.open(path)
    people, _ = subjects_of(record, source.samples[SAMPLE], subjects or SampleSubjects())
    named = source.variants.filter(pl.col("variant_id") != ".").select(
        "variant_id",
        pl.format(f"{CODES['dosage']}//{{}}_{{}}", "variant_id", "alt").alias("counts_alt"),
        pl.format(f"{CODES['dosage']}//{{}}_{{}}", "variant_id", "ref").alias("counts_ref"),
    )
    codes = named.unpivot(["counts_alt", "counts_ref"], index="variant_id", variable_name="counted", value_name="code")
    held = (
        record.events()
        .filter(pl.col("code").str.starts_with(f"{CODES['dosage']}//") & pl.col("numeric_value").is_not_null())
        .select("subject_id", "code", pl.col("numeric_value").cast(pl.Float64).alias("copies"))
        .collect()
    )
    found = held.join(people, on="subject_id", how="inner").join(codes, on="code", how="inner")
    if found.is_empty():
        raise InputError(f"{path}: the record has no {CODES['dosage']} of this file's variants and people")
    copies = pl.when(pl.col("counted") == "counts_ref").then(2 - pl.col("copies")).otherwise("copies")
    known = found.select(SAMPLE, "variant_id", copies.alias("copies"))
    return known.unique([SAMPLE, "variant_id"]).sort(SAMPLE, "variant_id")
