"""What one allele does to one transcript, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from careloop.genome.annotate.transcript import Transcript


@dataclass(frozen=True)
class Effect:
    """One allele's effect on one transcript; `transcript` is None for an intergenic variant.

    `terms` are Sequence Ontology terms, the most severe first, `impact` the rating of the first (HIGH, MODERATE, LOW,
    MODIFIER). `hgvs_c` (`c.76A>T`, `n.76A>T`) and `hgvs_p` (`p.(Arg26Ter)`) carry no accession, and are empty where no
    name can be given. `exon` and `intron` are (number from 1 along the transcript, how many). `cds_start` and `cds_end`
    are 0-based half-open in the coding part; `protein_start` is the first changed residue from 1; `ref_protein` and
    `alt_protein` are the residues (one letter, `*` stop) of the codons that the allele touches. `stop_codon` is the
    first stop of the changed protein, as a codon from 1, None where there is none or nothing is translated.
    `distance` is bases to the transcript for up- and downstream variants.
    """

    transcript: Transcript | None
    allele: str
    terms: tuple[str, ...]
    impact: str
    hgvs_c: str = ""
    hgvs_p: str = ""
    exon: tuple[int, int] | None = None
    intron: tuple[int, int] | None = None
    cds_start: int | None = None
    cds_end: int | None = None
    protein_start: int | None = None
    ref_protein: str = ""
    alt_protein: str = ""
    stop_codon: int | None = None
    distance: int | None = None
