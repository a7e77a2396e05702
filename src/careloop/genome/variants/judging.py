"""From matches to figures: what counts as found, missed, false or not assessed, in which regions."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence

from careloop.genome.files.regions import Regions
from careloop.genome.variants.comparison import Comparison, Tally
from careloop.genome.variants.haplotypes.called import Called
from careloop.genome.variants.haplotypes.matching import ClusterMatch, Match
from careloop.genome.variants.haplotypes.search import CALLS, TRUTH
from careloop.genome.variants.verdicts import NO_GROUP, Verdict, Verdicts

SETS = ("truth", "calls")
TRUTH_NO_CALL = "truth says no-call"
_MATCHED = ("truth_matched", "calls_matched")
_UNMATCHED = ("missed", "false")
_VERDICTS: Mapping[Match | None, Verdict] = {
    "genotype": Verdict.MATCHED,
    "phase": Verdict.PHASE_ERROR,
    "allele": Verdict.GENOTYPE_ERROR,
    None: Verdict.UNMATCHED,
}
_ERRORS: Mapping[Match | None, str] = {"phase": "phase_errors", "allele": "genotype_errors"}


class Spans:
    """Stretches of one contig, added in the order of their starts."""

    def __init__(self) -> None:
        self._spans: list[tuple[int, int]] = []

    def add(self, start: int, end: int) -> None:
        """Add the stretch from `start` to before `end`, joined with the last one where they touch."""
        if self._spans and start <= self._spans[-1][1]:
            self._spans[-1] = (self._spans[-1][0], max(end, self._spans[-1][1]))
        else:
            self._spans.append((start, end))

    def overlap(self, start: int, end: int) -> bool:
        """Whether a stretch shares a base with one of these (an empty one: lies before one of its bases)."""
        place = bisect_left(self._spans, (max(end, start + 1),)) - 1
        return place >= 0 and self._spans[place][1] > start


class Judge:
    """Counts the variants of two sets as they are matched, and keeps each record's verdict.

    `regions` are those in which the truth can be trusted (None: everywhere), `strata` {name: regions}.
    """

    def __init__(self, regions: Regions | None, strata: Mapping[str, Regions]) -> None:
        self.verdicts = (Verdicts(), Verdicts())
        self._regions = regions
        self._strata = strata
        self._tally = Tally()
        self._not_assessed: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        self._outside: Counter[str] = Counter()
        self._missed_at_no_call = 0
        self._clusters = self._too_complex = self._groups = 0

    def skip(self, side: int, place: int, reason: str) -> None:
        """Count a record that cannot be assessed."""
        self._not_assessed[side][reason] += 1
        self.verdicts[side].set(place, Verdict.NOT_ASSESSED)

    def cluster(
        self,
        contig: str,
        sides: tuple[Sequence[Called], Sequence[Called]],
        match: ClusterMatch,
        no_calls: tuple[Spans, Spans],
    ) -> None:
        """Count the variants of one cluster; `no_calls` are where either set says that it does not know."""
        self._clusters += 1
        self._too_complex += match.too_complex
        assessed = self._assessed_groups(contig, sides, match)
        scores = _group_scores(sides[CALLS], match.groups[CALLS])
        for side, variants in enumerate(sides):
            for place, one in enumerate(variants):
                kind, group = match.kinds[side].get(place), match.groups[side].get(place)
                inside = group in assessed if group is not None else self._is_inside(contig, one)
                if not inside:
                    self._outside[SETS[side]] += 1
                    self.verdicts[side].set(one.index, Verdict.NOT_ASSESSED)
                elif side == CALLS and kind is None and no_calls[TRUTH].overlap(*one.span):
                    self.skip(CALLS, one.index, TRUTH_NO_CALL)
                else:
                    self._count(contig, one, kind, scores.get(group) if side == TRUTH else one.score)
                    self._missed_at_no_call += side == TRUTH and kind is None and no_calls[CALLS].overlap(*one.span)
                    number = NO_GROUP if group is None else self._groups + group
                    self.verdicts[side].set(one.index, _VERDICTS[kind], number)
        self._groups += match.count

    def _assessed_groups(
        self, contig: str, sides: tuple[Sequence[Called], Sequence[Called]], match: ClusterMatch
    ) -> set[int]:
        """The groups of which any variant lies in the regions: spelling must not move a match over their borders."""
        return {
            group
            for side in (TRUTH, CALLS)
            for place, group in match.groups[side].items()
            if self._is_inside(contig, sides[side][place])
        }

    def _is_inside(self, contig: str, one: Called) -> bool:
        return self._regions is None or self._regions.covers(contig, *one.span)

    def _count(self, contig: str, one: Called, kind: Match | None, score: float | None) -> None:
        matched = kind == "genotype"
        strata = [name for name, regions in self._strata.items() if regions.covers(contig, *one.span)]
        what = (_MATCHED if matched else _UNMATCHED)[one.side]
        self._tally.add(one.kind, what, strata)
        error = _ERRORS.get(kind)
        if error and one.side == CALLS:
            self._tally.add(one.kind, error, strata)
        if matched or one.side == CALLS:
            self._tally.add_score(one.kind, what, score)

    def comparison(self, score: str, unreadable_lines: Mapping[str, int]) -> Comparison:
        """The figures of everything counted."""
        return Comparison(
            strata=self._tally.strata(list(self._strata)),
            curve=self._tally.curve(),
            score=score,
            not_assessed={name: dict(self._not_assessed[side]) for side, name in enumerate(SETS)},
            outside={name: self._outside[name] for name in SETS},
            missed_at_no_call=self._missed_at_no_call,
            clusters=self._clusters,
            too_complex=self._too_complex,
            unreadable_lines=unreadable_lines,
        )


def _group_scores(calls: Sequence[Called], groups: Mapping[int, int]) -> dict[int | None, float | None]:
    """The lowest score of each group's calls: all of them are needed to find the truth."""
    scores: dict[int | None, float | None] = {}
    for place, group in groups.items():
        score = calls[place].score
        known = scores.get(group, score)
        scores[group] = None if score is None or known is None else min(score, known)
    return scores
