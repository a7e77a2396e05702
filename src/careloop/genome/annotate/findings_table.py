"""The findings of an annotation as a table: one row a variant and gene, in CSV or parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from careloop import InputError
from careloop.genome.annotate.annotator import AnnotatedVariant
from careloop.genome.annotate.csq import named
from careloop.genome.files.variant_writing import genotype_text
from careloop.genome.variant import Record
from careloop.record.whole_file import whole_file

ENDINGS = (".csv", ".parquet")
_OF_INTEREST = ("pathogenic", "likely pathogenic")


@dataclass(frozen=True)
class FindingRow:
    """One variant in one gene's picked transcript; texts are empty where nothing is known.

    `variant` is `chr:pos:ref:alt` with pos from 1, `evidence` the ACMG/AMP criteria met with their reasons and
    `suggestion` what they add up to; both belong to the variant's most severe picked transcript, and are empty on its
    other rows.
    """

    gene: str
    transcript: str
    variant: str
    consequence: str
    impact: str
    hgvs_g: str
    hgvs_c: str
    hgvs_p: str
    genotype: str
    known: str
    evidence: str
    suggestion: str


def rows_of(found: AnnotatedVariant, samples: Sequence[str], impacts: Sequence[str]) -> Iterator[FindingRow]:
    """Yield the rows of a variant, for genes in which it has one of the impacts or is suggested to matter."""
    for effect in found.picked:
        assessment = found.assessment if effect is found.first else None
        classes = () if assessment is None else (assessment.by_rules, assessment.by_points)
        if effect.impact not in impacts and not set(classes) & set(_OF_INTEREST):
            continue
        transcript = effect.transcript
        reference = transcript.id if transcript else ""
        yield FindingRow(
            gene=transcript.gene_name if transcript else "",
            transcript=reference,
            variant=str(found.variant),
            consequence="&".join(effect.terms),
            impact=effect.impact,
            hgvs_g=found.hgvs_g,
            hgvs_c=named(reference, effect.hgvs_c),
            hgvs_p=effect.hgvs_p,
            genotype=_genotype(found.record, samples),
            known="; ".join(f"{n} {key}={value}" for n, values in found.known.items() for key, value in values.items()),
            evidence="; ".join(f"{flag.name}: {flag.reason}" for flag in assessment.flags) if assessment else "",
            suggestion=assessment.suggestion if assessment else "",
        )


def _genotype(record: Record, samples: Sequence[str]) -> str:
    """GT of one sample; of several, each with its name."""
    texts = [(name, genotype_text(record.samples[name])) for name in samples if name in record.samples]
    return texts[0][1] if len(samples) == 1 and texts else " ".join(f"{name}={text}" for name, text in texts)


def require_table_name(path: Path) -> None:
    """Refuse a file name that says no known format.

    Raises:
        InputError: another ending than .csv or .parquet.
    """
    if path.suffix.lower() not in ENDINGS:
        raise InputError(f"{path}: findings are written to a file ending in {' or '.join(ENDINGS)}")


def write_rows(path: Path, rows: Sequence[FindingRow]) -> None:
    """Write the table, whole or not at all."""
    import polars as pl

    schema = {column.name: pl.String for column in fields(FindingRow)}
    frame = pl.DataFrame([asdict(row) for row in rows], schema=schema)
    try:
        with whole_file(path) as draft:
            if path.suffix.lower() == ".csv":
                frame.write_csv(draft)
            else:
                frame.write_parquet(draft)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or 'error'}); check folder and space") from None
