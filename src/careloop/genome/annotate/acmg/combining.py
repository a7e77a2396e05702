"""What flags add up to: by the combining rules of 2015 and by points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from careloop.genome.annotate.acmg.criteria import Classification, Flag


def points(flags: Iterable[Flag]) -> int:
    """The sum of the flags' points."""
    return sum(flag.points for flag in flags)


def by_points(flags: Sequence[Flag]) -> Classification:
    """The class by points (Tavtigian et al. 2020, table 3); BA1 alone is benign, against pathogenic flags uncertain.

    One point against is likely benign, as printed; the paper notes that two would match the rules of 2015.
    """
    if any(flag.strength == "stand-alone" for flag in flags):
        return "uncertain significance" if any(flag.pathogenic for flag in flags) else "benign"
    total = points(flags)
    if total >= 6:
        return "pathogenic" if total >= 10 else "likely pathogenic"
    if total >= 0:
        return "uncertain significance"
    return "likely benign" if total >= -6 else "benign"


def by_rules(flags: Sequence[Flag]) -> Classification:
    """The class by the combining rules of 2015 (Richards et al., table 5), strengths as given.

    PVS1 with PM2 at supporting strength is likely pathogenic, as ClinGen's recommendation on PM2 (version 1.0, 2020)
    adds. A benign flag of moderate strength, which the table does not have, counts as supporting. Pathogenic against
    benign is uncertain significance.
    """
    pathogenic = _pathogenic(flags)
    benign = _benign(flags)
    if pathogenic and benign:
        return "uncertain significance"
    return pathogenic or benign or "uncertain significance"


def _pathogenic(flags: Sequence[Flag]) -> Classification | None:
    count = Counter(flag.strength for flag in flags if flag.pathogenic)
    very, strong, moderate, supporting = (count[s] for s in ("very strong", "strong", "moderate", "supporting"))
    lesser = moderate >= 2 or (moderate and supporting) or supporting >= 2
    if (
        (very and (strong or lesser))
        or very >= 2
        or strong >= 2
        or (strong and (moderate >= 3 or (moderate == 2 and supporting >= 2) or (moderate == 1 and supporting >= 4)))
    ):
        return "pathogenic"
    rare = any(flag.code == "PM2" and flag.strength == "supporting" for flag in flags)
    if (
        (very and (moderate or rare))
        or (strong and (moderate or supporting >= 2))
        or moderate >= 3
        or (moderate == 2 and supporting >= 2)
        or (moderate == 1 and supporting >= 4)
    ):
        return "likely pathogenic"
    return None


def _benign(flags: Sequence[Flag]) -> Classification | None:
    count = Counter(flag.strength for flag in flags if not flag.pathogenic)
    strong, supporting = count["strong"] + count["very strong"], count["supporting"] + count["moderate"]
    if count["stand-alone"] or strong >= 2:
        return "benign"
    if (strong and supporting) or supporting >= 2:
        return "likely benign"
    return None
