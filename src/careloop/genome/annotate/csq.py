"""INFO of an annotated variant: effects as CSQ in VEP's layout, and keys for known files and criteria."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from careloop.genome.annotate.annotator import AnnotatedVariant
from careloop.genome.annotate.effect import Effect

COLUMNS = (
    "Allele", "Consequence", "IMPACT", "SYMBOL", "Gene", "Feature_type", "Feature", "BIOTYPE", "EXON", "INTRON",
    "HGVSc", "HGVSp", "CDS_position", "Protein_position", "Amino_acids", "DISTANCE", "STRAND", "PICK", "CANONICAL",
    "MANE_SELECT",
)  # fmt: skip
GENOMIC, FLAGS, SUGGESTION = "HGVSg", "ACMG", "ACMG_suggestion"
_RESERVED = str.maketrans({"|": "&", ",": "&", ";": "&", " ": "_"})  # as VEP writes them within CSQ


def header_lines(keys: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Yield the header lines of what is added; `keys` are those of known files by their name."""
    layout = "|".join(COLUMNS)
    yield f'##INFO=<ID=CSQ,Number=.,Type=String,Description="Consequences by careloop. Format: {layout}">'
    yield f'##INFO=<ID={GENOMIC},Number=1,Type=String,Description="Name on the genome by HGVS">'
    yield f'##INFO=<ID={FLAGS},Number=.,Type=String,Description="ACMG/AMP 2015 criteria met, of the picked transcript">'
    yield (
        f"##INFO=<ID={SUGGESTION},Number=1,Type=String,"
        'Description="What the criteria met add up to; a suggestion that needs a geneticist">'
    )
    for name, taken in keys.items():
        for key in taken:
            yield f'##INFO=<ID={name}_{key},Number=1,Type=String,Description="{key} of {name}">'


def info_of(found: AnnotatedVariant) -> dict[str, Any]:
    """The INFO values that are added for a variant."""
    info: dict[str, Any] = {
        "CSQ": tuple(csq_entry(effect, pick=effect in found.picked) for effect in found.effects),
        GENOMIC: found.hgvs_g,
    }
    for name, values in found.known.items():
        info |= {f"{name}_{key}": value for key, value in values.items()}
    if found.assessment is not None and found.assessment.flags:
        info[FLAGS] = tuple(flag.name for flag in found.assessment.flags)
        info[SUGGESTION] = found.assessment.suggestion.translate(_RESERVED)
    return info


def csq_entry(effect: Effect, *, pick: bool) -> str:
    """One effect as VEP writes it; positions from 1, empty where there is none."""
    transcript = effect.transcript
    fields: dict[str, str] = {
        "Allele": effect.allele,
        "Consequence": "&".join(effect.terms),
        "IMPACT": effect.impact,
        "EXON": _of(effect.exon),
        "INTRON": _of(effect.intron),
        "CDS_position": _cds_position(effect),
        "Protein_position": str(effect.protein_start or ""),
        "Amino_acids": "/".join(dict.fromkeys(part or "-" for part in (effect.ref_protein, effect.alt_protein))),
        "DISTANCE": "" if effect.distance is None else str(effect.distance),
        "PICK": "1" if pick else "",
    }
    if effect.protein_start is None:
        fields["Amino_acids"] = ""
    if transcript is not None:
        fields |= {
            "SYMBOL": transcript.gene_name,
            "Gene": transcript.gene_id,
            "Feature_type": "Transcript",
            "Feature": transcript.id,
            "BIOTYPE": transcript.biotype,
            "HGVSc": named(transcript.id, effect.hgvs_c),
            "HGVSp": named(transcript.id, effect.hgvs_p),
            "STRAND": str(transcript.strand),
            "CANONICAL": "YES" if transcript.canonical else "",
            "MANE_SELECT": "YES" if transcript.mane else "",
        }
    return "|".join(fields.get(column, "").translate(_RESERVED) for column in COLUMNS)


def named(reference: str, name: str) -> str:
    """A name with its reference sequence before it; empty where there is no name."""
    return f"{reference}:{name}" if name else ""


def _of(numbers: tuple[int, int] | None) -> str:
    return f"{numbers[0]}/{numbers[1]}" if numbers else ""


def _cds_position(effect: Effect) -> str:
    """First and last base from 1; for an insertion the two bases between which it is."""
    if effect.cds_start is None or effect.cds_end is None:
        return ""
    first, last = effect.cds_start + 1, effect.cds_end
    if first > last:
        return f"{last}-{first}"
    return str(first) if first == last else f"{first}-{last}"
