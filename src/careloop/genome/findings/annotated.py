"""An annotated variant as one sample's findings: a finding for each gene in which it may matter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from careloop.genome.annotate.effect import Effect
from careloop.genome.findings.called import called_variant
from careloop.genome.findings.finding import PATHOGENIC, Evidence, VariantFinding

if TYPE_CHECKING:
    from careloop.genome.annotate.acmg.assess import Assessment
    from careloop.genome.annotate.annotator import AnnotatedVariant

IMPACTS = ("HIGH", "MODERATE")


def annotated_findings(
    found: AnnotatedVariant, sample: str, *, impacts: Sequence[str] = IMPACTS
) -> Iterator[VariantFinding]:
    """Yield the findings of one annotated allele in a sample; none where the sample does not have it.

    Of interest are genes in which the allele has one of the `impacts`, and an allele that its evidence suggests to be
    (likely) pathogenic, by rules or by points. Evidence and class belong to the gene of the gravest effect; where no
    criterion is met no class is suggested. The class is that of the published rules (Richards et al. 2015, table 5); a
    note says so where points lead to another.
    """
    called = called_variant(found.record, sample)
    if called is None:
        return
    named = replace(called, hgvs_g=found.hgvs_g)
    for effect in found.picked:
        assessment = found.assessment if effect is found.first else None
        classes = (assessment.by_rules, assessment.by_points) if assessment else ()
        if effect.impact in impacts or set(classes) & set(PATHOGENIC):
            finding = with_effect(named, effect)
            yield with_assessment(finding, assessment) if assessment and assessment.flags else finding


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


def with_assessment(finding: VariantFinding, assessment: Assessment) -> VariantFinding:
    """Return the finding with the ACMG/AMP criteria that are met, and the class that they suggest."""
    by_points = assessment.by_points
    note = (f"by points: {by_points}",) if by_points != assessment.by_rules else ()
    evidence = tuple(Evidence(flag.name, flag.reason) for flag in assessment.flags)
    return replace(finding, significance=assessment.by_rules, evidence=evidence, notes=(*finding.notes, *note))
