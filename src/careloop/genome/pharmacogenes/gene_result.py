"""One gene's result from what the file says of its positions: status, diplotypes, phenotype, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from careloop.genome.files.sites import SiteCall
from careloop.genome.pharmacogenes.definitions import GeneDefinition
from careloop.genome.pharmacogenes.diplotypes import TooManyArrangementsError, consistent_diplotypes
from careloop.genome.pharmacogenes.limits import gene_limits
from careloop.genome.pharmacogenes.observations import Observation, observe
from careloop.genome.pharmacogenes.phenotypes import INDETERMINATE, Genotype, genotype
from careloop.genome.pharmacogenes.results import DefiningSite, Diplotype, GeneResult, Status
from careloop.genome.pharmacogenes.unlisted_variants import UnlistedVariant

_NAMED_SITES = 5  # sites that a reason names; the result's `sites` have all


def gene_result(
    gene: GeneDefinition, build: str, calls: Sequence[SiteCall], unlisted: tuple[UnlistedVariant, ...] = ()
) -> GeneResult:
    """Return what `calls`, one for each of the gene's positions in order, say of the gene; without recommendations."""
    observations = observe(gene, calls, unlisted)
    too_many = False
    try:
        diplotypes = consistent_diplotypes(gene, observations)
    except TooManyArrangementsError:
        diplotypes, too_many = (), True
    status = _status(observations, diplotypes, too_many)
    found = [genotype(gene.gene, str(pair)) for pair in diplotypes]
    reasons = [*_reasons(observations, diplotypes, status)]
    if too_many:
        reasons.append("there are too many ways to place its variants on the two strands to list them")
    return GeneResult(
        gene=gene.gene,
        status=status,
        diplotypes=diplotypes,
        genotype=_settled(gene, status, diplotypes, found),
        possible_phenotypes=tuple(sorted({each.phenotype for each in found})),
        sites=tuple(
            DefiningSite(seen.position.name, call, seen.known, seen.reason)
            for seen, call in zip(observations, calls, strict=True)
        ),
        unlisted_variants=unlisted,
        reasons=tuple(reasons),
        caveats=(*_of_unlisted(unlisted), *gene_limits(gene, build)),
        table_version=gene.version,
    )


def _status(observations: Sequence[Observation], diplotypes: Sequence[Diplotype], too_many: bool) -> Status:
    if not all(seen.known for seen in observations) or too_many:
        return "indeterminate"
    if not diplotypes:
        return "unlisted"
    return "called" if len(diplotypes) == 1 else "ambiguous"


def _settled(
    gene: GeneDefinition, status: Status, diplotypes: Sequence[Diplotype], found: Sequence[Genotype]
) -> Genotype:
    """The phenotype where all diplotypes agree; of independent variants that of the two lowest activities.

    CPIC's guideline counts the two least active variants of DPYD, whatever their phase where it is not known (Amstutz
    et al., Clin Pharmacol Ther 2018): the arrangement with the lowest sum.
    """
    if status not in ("called", "ambiguous"):
        return Genotype(gene.gene, INDETERMINATE, "")
    if gene.kind == "variants" and all(each.score is not None for each in found):
        return min(found, key=lambda each: each.score or 0.0)
    return genotype(gene.gene, " or ".join(map(str, diplotypes)))


def _reasons(observations: Sequence[Observation], diplotypes: Sequence[Diplotype], status: Status) -> Iterator[str]:
    unknown = [seen for seen in observations if not seen.known]
    if unknown:
        told = "; ".join(f"{seen.position.name} ({seen.reason})" for seen in unknown[:_NAMED_SITES])
        more = f"; and {len(unknown) - _NAMED_SITES} more" if len(unknown) > _NAMED_SITES else ""
        yield f"{len(unknown)} of {len(observations)} defining positions are not known: {told}{more}"
        if differing := _differing(observations):
            yield f"known are, differing from the reference allele: {differing}"
    if status == "ambiguous":
        mixed = [s.position.name for s in observations if len(set(s.bases)) > 1]
        yield f"{len(diplotypes)} diplotypes fit, as it is not known how these lie on the strands: {', '.join(mixed)}"
    if status == "unlisted":
        yield f"no two alleles of the table have these bases together: {_differing(observations)}"


def _differing(observations: Sequence[Observation]) -> str:
    """The positions whose known bases are not the reference allele's, with these bases."""
    differing = [seen for seen in observations if set(seen.bases) - {seen.position.base, None}]
    return ", ".join(f"{seen.position.name} {seen.bases[0] or '?'}/{seen.bases[1] or '?'}" for seen in differing)


def _of_unlisted(unlisted: Sequence[UnlistedVariant]) -> Iterator[str]:
    exonic = [each for each in unlisted if each.in_exon]
    if exonic:
        told = ", ".join(str(each.variant) for each in exonic[:_NAMED_SITES])
        more = f" and {len(exonic) - _NAMED_SITES} more" if len(exonic) > _NAMED_SITES else ""
        yield (
            f"{len(exonic)} variants in or beside exons belong to no allele of the table: {told}{more}. What they do "
            "is not known, and the result does not count them."
        )
    if len(unlisted) > len(exonic):
        yield f"{len(unlisted) - len(exonic)} further variants in introns and flanks belong to no allele of the table."
