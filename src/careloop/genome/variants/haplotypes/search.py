"""The largest part of two sets of variants that spells the same chromosomes, found by a search with bounds.

Both sets are played from left to right onto the reference, as in Cleary et al., Comparing variant call files for
performance benchmarking of next-generation sequencing variant calling pipelines, bioRxiv 2015, doi:10.1101/023754
(rtg vcfeval): at each variant a state branches into leaving it out and into each way of putting its alleles on the
chromosomes; states whose sequences differ end; states that can no longer be told apart are merged, the best is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from careloop.genome.variants.alleles import Fetch
from careloop.genome.variants.haplotypes.called import Allele

TRUTH, CALLS = 0, 1
MOST_STATES = 3_000  # held at once; a cluster that needs more is compared by spelling alone
_LEFT_OUT = -1
_SYNC = (-1, -1)
_SEVERAL = "candidate "  # before the number of a candidate of several parts, among the names of phase sets

Option = tuple[Allele | None, ...]  # for each chromosome its allele


@dataclass(frozen=True, slots=True)
class Candidate:
    """A variant that may be part of the match: `side`, its ways onto the chromosomes, and a weight that settles ties.

    Of a heterozygote the second option is the first with chromosomes exchanged. Candidates of one `group` (a phase
    set) all take the same option.
    """

    side: int
    options: tuple[Option, ...]
    weight: int
    group: str | None = None


class _Part(NamedTuple):
    """The alleles of a candidate that come at one place; an insertion comes before what replaces the base after it.

    `opens` and `closes`: the candidate's first and last part. `group` names the phase set of a part that opens,
    `group_closes` says that no later candidate is of it.
    """

    place: tuple[int, bool]  # start, and whether reference bases are replaced
    candidate: int
    options: tuple[Option, ...]
    opens: bool
    closes: bool
    group: str | None = None
    group_closes: bool = False

    @property
    def several(self) -> str | None:
        """The name of a candidate of several parts, under which its choice is remembered."""
        return None if self.opens and self.closes else f"{_SEVERAL}{self.candidate}"


class _Strand(NamedTuple):
    """One chromosome, as both sides spell it: twice the next reference base of each, and what one has in advance.

    Odd places are those after an insertion: a second insertion at the same place is refused, a base change is not.
    """

    truth_at: int
    calls_at: int
    ahead_truth: str
    ahead_calls: str


class _State(NamedTuple):
    """What decides how a state may go on."""

    strands: tuple[_Strand, ...]
    used: int  # bit 1: a truth variant since the strands last were equal, bit 2: a call
    chosen: tuple[tuple[str, int], ...]  # options settled for phase sets and for candidates of several parts


class _Trail(NamedTuple):
    """How a state was reached: the candidates taken, backwards."""

    before: _Trail | None
    step: tuple[int, int]


_Worth = tuple[int, int]
_States = dict[_State, tuple[_Worth, _Trail | None]]


def best_match(candidates: Sequence[Candidate], fetch: Fetch) -> list[list[int]] | None:
    """The largest matching subset, as groups of candidates' indices, each from both sides; None if too complex.

    Between two groups all chromosomes of both sides are equal, so that each group matches by itself.
    """
    parts = _parts(candidates)
    ploidy = len(candidates[0].options[0])
    place = parts[0].place[0]
    strand = _Strand(2 * place, 2 * place, "", "")
    states: _States = {_State((strand,) * ploidy, 0, ()): ((0, 0), None)}
    left = len(candidates)
    for part in parts:
        if (start := part.place[0]) > place:
            states = _advanced(states, place, start, fetch)
            place = start
        left -= part.opens
        states = _branched(states, part, candidates[part.candidate])
        states = _bounded(states, left)
        if len(states) > MOST_STATES:
            return None
    end = max(allele.end for one in candidates for option in one.options for allele in option if allele)
    states = _advanced(states, place, end + 1, fetch)
    ended = [value for state, value in states.items() if not state.used and _clean(state.strands)]
    return _groups(max(ended, key=lambda value: value[0])[1])


def _parts(candidates: Sequence[Candidate]) -> list[_Part]:
    """All candidates' alleles by place; those of one candidate that come at different places are parted."""
    parts: list[_Part] = []
    for index, one in enumerate(candidates):
        places = sorted({_place(allele) for option in one.options for allele in option if allele})
        for place in places:
            options = tuple(
                tuple(allele if allele and _place(allele) == place else None for allele in option)
                for option in one.options
            )
            opens = place == places[0]
            parts.append(_Part(place, index, options, opens, place == places[-1], one.group if opens else None))
    parts.sort(key=lambda part: (part.place, part.candidate))
    last = {part.group: number for number, part in enumerate(parts) if part.group}
    return [
        part._replace(group_closes=part.group is not None and last[part.group] == number)
        for number, part in enumerate(parts)
    ]


def _place(allele: Allele) -> tuple[int, bool]:
    return allele.start, allele.end > allele.start


def _advanced(states: _States, place: int, to: int, fetch: Fetch) -> _States:
    """All strands brought to the reference base `to`; states whose sides differ are dropped."""
    bases = fetch(place, to)
    kept: _States = {}
    for state, (worth, trail) in states.items():
        strands = []
        for strand in state.strands:
            moved = _moved(strand, place, to, bases)
            if moved is None:
                break
            strands.append(moved)
        else:
            used = state.used
            if used and not _half_put_on(state) and _clean(strands, to):
                if used != 3:  # variants of one side that cancel each other match nothing
                    continue
                used, trail = 0, _Trail(trail, _SYNC)
            _keep(kept, _State(tuple(strands), used, state.chosen), worth, trail)
    return kept


def _moved(strand: _Strand, place: int, to: int, bases: str) -> _Strand | None:
    """A strand whose sides both reach `to`; None where they differ."""
    truth_at, calls_at, truth, calls = strand
    if truth_at < 2 * to:
        truth += bases[(truth_at >> 1) - place :]
        truth_at = 2 * to
    if calls_at < 2 * to:
        calls += bases[(calls_at >> 1) - place :]
        calls_at = 2 * to
    return _compared(truth_at, calls_at, truth, calls)


def _compared(truth_at: int, calls_at: int, truth: str, calls: str) -> _Strand | None:
    """The strand without what both sides have; None where they differ."""
    if truth and calls:
        both = min(len(truth), len(calls))
        if truth[:both] != calls[:both]:
            return None
        truth, calls = truth[both:], calls[both:]
    return _Strand(truth_at, calls_at, truth, calls)


def _clean(strands: Sequence[_Strand], at: int | None = None) -> bool:
    """Whether no side is ahead of the other, and none has replaced bases after `at`."""
    return all(
        not one.ahead_truth
        and not one.ahead_calls
        and one.truth_at == one.calls_at
        and (at is None or one.truth_at == 2 * at)
        for one in strands
    )


def _half_put_on(state: _State) -> bool:
    """Whether a candidate was taken of which a part is still to come."""
    return any(way != _LEFT_OUT and name.startswith(_SEVERAL) for name, way in state.chosen)


def _branched(states: _States, part: _Part, candidate: Candidate) -> _States:
    """Each state with the part left out and put on in each way that its earlier choices allow."""
    kept: _States = {}
    for state, (worth, trail) in states.items():
        for way in _ways(dict(state.chosen), part):
            chosen = _chosen(state.chosen, part, way)
            if way == _LEFT_OUT:
                _keep(kept, state._replace(chosen=chosen), worth, trail)
                continue
            strands = _with(state.strands, part.options[way], candidate.side)
            if strands is None:
                continue
            taken = _State(strands, state.used | 1 << candidate.side, chosen)
            if part.opens:
                value = (worth[0] + 1, worth[1] + candidate.weight)
                _keep(kept, taken, value, _Trail(trail, (candidate.side, part.candidate)))
            else:
                _keep(kept, taken, worth, trail)
    return kept


def _ways(chosen: dict[str, int], part: _Part) -> list[int]:
    """The options of a part that earlier choices leave."""
    if part.several and not part.opens:
        return [chosen[part.several]]
    if part.group in chosen:
        return [_LEFT_OUT, chosen[part.group]]
    return [_LEFT_OUT, *range(len(part.options))]


def _chosen(before: tuple[tuple[str, int], ...], part: _Part, way: int) -> tuple[tuple[str, int], ...]:
    """The choices that bind later parts, after this one."""
    if not (part.several or part.group):
        return before
    chosen = dict(before)
    if part.several:
        chosen[part.several] = way
        if part.closes:
            del chosen[part.several]
    if part.group:
        if way != _LEFT_OUT:
            chosen[part.group] = way
        if part.group_closes:
            chosen.pop(part.group, None)
    return tuple(sorted(chosen.items()))


def _with(strands: tuple[_Strand, ...], option: Option, side: int) -> tuple[_Strand, ...] | None:
    """The strands with one side's alleles put on; None where they overlap others of that side, or sides differ."""
    new = []
    for strand, allele in zip(strands, option, strict=True):
        if allele is None:
            new.append(strand)
            continue
        inserted = allele.start == allele.end
        if (strand.truth_at, strand.calls_at)[side] > 2 * allele.start + (not inserted):
            return None
        at = 2 * allele.end + inserted
        truth_at, calls_at, truth, calls = strand
        if side == TRUTH:
            moved = _compared(at, calls_at, truth + allele.bases, calls)
        else:
            moved = _compared(truth_at, at, truth, calls + allele.bases)
        if moved is None:
            return None
        new.append(moved)
    return tuple(new)


def _keep(states: _States, state: _State, worth: _Worth, trail: _Trail | None) -> None:
    """Add a state, or keep the better of two alike; the two chromosomes of a pair are exchangeable."""
    if len(state.strands) == 2 and (state.strands[1] < state.strands[0] or state.chosen):
        flipped = tuple((name, 1 - way if way != _LEFT_OUT else way) for name, way in state.chosen)
        state = min(state, _State(state.strands[::-1], state.used, flipped))
    known = states.get(state)
    if known is None or worth > known[0]:
        states[state] = (worth, trail)


def _bounded(states: _States, left: int) -> _States:
    """Without the states that cannot reach what the best one has already made sure of."""
    sure = max((worth[0] for state, (worth, _) in states.items() if not state.used), default=0)
    if sure <= left:
        return states
    return {state: value for state, value in states.items() if value[0][0] + left >= sure}


def _groups(trail: _Trail | None) -> list[list[int]]:
    """The candidates taken, parted where all chromosomes were equal."""
    groups: list[list[int]] = [[]]
    while trail is not None:
        if trail.step == _SYNC:
            groups.append([])
        else:
            groups[-1].append(trail.step[1])
        trail = trail.before
    return [group[::-1] for group in groups[::-1] if group]
