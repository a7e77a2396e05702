"""What an annotation says of a variant, put into its finding."""

from __future__ import annotations

from dataclasses import replace

from careloop.genome.annotate.effect import Effect
from careloop.genome.findings.finding import VariantFinding


def with_effect(finding: VariantFinding, effect: Effect) -> VariantFinding:
    """Return the finding with the gene, names and consequences of its allele's effect on one transcript.

    The name on the transcript carries the transcript's identifier; that on the protein has none, as gene files do not
    always name the protein.
    """
    transcript = effect.transcript
    return replace(
        finding,
        gene=(transcript.gene_name or transcript.gene_id) if transcript else "",
        hgvs_c=f"{transcript.id}:{effect.hgvs_c}" if transcript and effect.hgvs_c else "",
        hgvs_p=effect.hgvs_p,
        consequences=effect.terms,
    )
