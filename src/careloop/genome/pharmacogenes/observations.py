"""What is known of the two strands at each defining position, from what a variant file says of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from careloop.genome.files.sites import SiteCall
from careloop.genome.pharmacogenes.definitions import DefiningPosition, GeneDefinition
from careloop.genome.pharmacogenes.unlisted_variants import UnlistedVariant

# Insertions and deletions in a repeat can be written at any of its units; the longest repeat of the tables, the TATA
# box of UGT1A1, has 14 to 18 bases.
_REPEAT_BASES = 30
# How the file's reader says that a genotype has some alleles and lacks others; those it has are sure.
_CALLED_IN_PART = ("called in part", "not called")


@dataclass(frozen=True)
class Observation:
    """The bases of the two strands at a position, None where not known.

    `phase` is None where it is not known which of two different bases is on which strand; observations of one phase
    have their strands in one order.
    """

    position: DefiningPosition
    bases: tuple[str | None, str | None]
    phase: str | None = None
    reason: str = ""

    @property
    def known(self) -> bool:
        """Whether the bases of both strands are known."""
        return None not in self.bases


def observe(
    gene: GeneDefinition, calls: Sequence[SiteCall], unlisted: Iterable[UnlistedVariant] = ()
) -> list[Observation]:
    """Return what `calls`, one for each of the gene's positions in order, tell of the gene's two strands.

    A site is known only by a called genotype of two alleles, or where reference is proved. A site with an insertion or
    deletion is not known where the file has another one near by (`unlisted`), as that may be the same, written
    differently.
    """
    shifted = [each.variant for each in unlisted if len(each.variant.ref) != len(each.variant.alt)]
    observations = []
    for position, call in zip(gene.positions, calls, strict=True):
        found = _observation(position, call)
        site = call.site
        if position.changes_length and any(
            variant.start < site.end + _REPEAT_BASES and site.start - _REPEAT_BASES < variant.end for variant in shifted
        ):
            found = replace(
                found,
                bases=(None, None),
                reason="an insertion or deletion near by may be the same, written differently",
            )
        observations.append(found)
    return observations


def _observation(position: DefiningPosition, call: SiteCall) -> Observation:
    alleles = tuple(None if allele is None else allele.upper() for allele in call.alleles)
    if call.state == "reference" and not alleles:
        alleles = (call.site.ref, call.site.ref)  # both strands: none of these genes is on X or Y
    in_part = call.state == "no-call" and call.reason in _CALLED_IN_PART
    if len(alleles) != 2 or not (call.known or in_part):
        reason = call.reason if not call.known else f"{len(alleles)} alleles called where the gene has two"
        return Observation(position, (None, None), reason=f"{call.state}: {reason}" if reason else call.state)
    phase = f"{call.phase_set}" if call.phased else None
    return Observation(position, (alleles[0], alleles[1]), phase, "" if call.known else f"{call.state}: {call.reason}")
