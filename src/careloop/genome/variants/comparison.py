"""How far a call set agrees with a truth set: counts, precision, recall and F1 with intervals, by type and stratum."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

Interval = tuple[float, float]
KINDS = ("snp", "indel", "all")
WHOLE = "all regions"  # the stratum of everything that is assessed
_Z = 1.959963984540054  # of a two-sided 95 % interval


def wilson_interval(hits: float, trials: float) -> Interval | None:
    """The 95 % interval of a share, None without trials (Wilson, J Am Stat Assoc 1927;22:209)."""
    if not trials:
        return None
    share, square = hits / trials, _Z**2
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    half = _Z * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2)) / (1 + square / trials)
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Counts:
    """Variants of one type and stratum: true positives as the truth and as the calls spell them, missed, false.

    Genotype and phase errors have the right alleles and are among both `missed` and `false`, as in hap.py.
    """

    truth_matched: int = 0
    missed: int = 0
    calls_matched: int = 0
    false: int = 0
    genotype_errors: int = 0
    phase_errors: int = 0

    @property
    def recall(self) -> float | None:
        """Matched share of the truth; None where there is no truth."""
        return _share(self.truth_matched, self.truth_matched + self.missed)

    @property
    def precision(self) -> float | None:
        """Matched share of the calls; None where there are no calls."""
        return _share(self.calls_matched, self.calls_matched + self.false)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; None where either has no denominator, 0 where nothing matches."""
        if self.recall is None or self.precision is None:
            return None
        both = self.recall + self.precision
        return 2 * self.recall * self.precision / both if both else 0.0

    @property
    def recall_interval(self) -> Interval | None:
        """95 % interval of recall (Wilson)."""
        return wilson_interval(self.truth_matched, self.truth_matched + self.missed)

    @property
    def precision_interval(self) -> Interval | None:
        """95 % interval of precision (Wilson)."""
        return wilson_interval(self.calls_matched, self.calls_matched + self.false)

    @property
    def f1_interval(self) -> Interval | None:
        """95 % interval of F1: that of the matched share of all variants J = TP/(TP+FP+FN), since F1 = 2J/(1+J).

        TP is the mean of both spellings where they differ; variants count as independent.
        """
        matched = (self.truth_matched + self.calls_matched) / 2
        if self.f1 is None or (found := wilson_interval(matched, matched + self.missed + self.false)) is None:
            return None
        low, high = (2 * limit / (1 + limit) for limit in found)
        return min(low, self.f1), max(high, self.f1)


@dataclass(frozen=True)
class CurvePoint:
    """What is left when only calls with a score of at least `threshold` count; below the first, calls without one."""

    threshold: float
    truth_matched: int
    calls_matched: int
    false: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Comparison:
    """Two call sets compared.

    Types: `indel` changes the length, `snp` does not (an MNP counts as one), `all` is both. Each record counts once.
    `strata` {stratum: {type: Counts}} has the stratum `all regions` and those asked for; `curve` {type: points} goes
    by `score`. `not_assessed` and `outside` count, by set (`truth`, `calls`), records that are no errors: by reason,
    and for lying outside the confident regions. `missed_at_no_call` are missed variants where the calls say no-call;
    `too_complex` are clusters in which only equal spellings were matched.
    """

    strata: Mapping[str, Mapping[str, Counts]]
    curve: Mapping[str, tuple[CurvePoint, ...]]
    score: str
    not_assessed: Mapping[str, Mapping[str, int]]
    outside: Mapping[str, int]
    missed_at_no_call: int = 0
    clusters: int = 0
    too_complex: int = 0
    unreadable_lines: Mapping[str, int] = field(default_factory=dict)

    @property
    def counts(self) -> Mapping[str, Counts]:
        """Counts by type (`snp`, `indel`, `all`) over all regions."""
        return self.strata[WHOLE]

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for each stratum and type, with every figure and interval, as a table or JSON wants them."""
        for stratum, by_kind in self.strata.items():
            for kind, counts in by_kind.items():
                figures = {
                    name: getattr(counts, name)
                    for figure in ("precision", "recall", "f1")
                    for name in (figure, f"{figure}_interval")
                }
                yield {"stratum": stratum, "type": kind, **asdict(counts), **figures}

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON: `figures` are the rows, `curve` {type: points}."""
        plain = {name: value for name, value in vars(self).items() if name not in ("strata", "curve")}
        curve = {kind: [asdict(point) for point in points] for kind, points in self.curve.items()}
        return {"figures": list(self.rows()), **plain, "curve": curve}


class Tally:
    """Counts while a comparison runs."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._scores: dict[tuple[str, str], Counter[float]] = {}

    def add(self, kind: str, what: str, strata: list[str]) -> None:
        """Count a variant as one of the fields of Counts, over all regions and in its strata."""
        for stratum in (WHOLE, *strata):
            self._counts[stratum, kind, what] += 1

    def add_score(self, kind: str, what: str, score: float | None) -> None:
        """Note the score that an added variant is found at, rounded down to whole units."""
        floor = -1.0 if score is None or score < 0 or math.isnan(score) else float(math.floor(min(score, 1e9)))
        self._scores.setdefault((kind, what), Counter())[floor] += 1

    def strata(self, names: list[str]) -> dict[str, dict[str, Counts]]:
        """Counts of all regions and of each stratum by type."""
        return {name: {kind: self._counts_of(name, kind) for kind in KINDS} for name in (WHOLE, *names)}

    def _counts_of(self, stratum: str, kind: str) -> Counts:
        kinds = KINDS[:2] if kind == "all" else (kind,)
        fields = Counts.__dataclass_fields__
        return Counts(**{what: sum(self._counts[stratum, one, what] for one in kinds) for what in fields})

    def curve(self) -> dict[str, tuple[CurvePoint, ...]]:
        """Figures at each threshold of the score, lowest first, by type."""
        return {kind: tuple(self._points(kind)) for kind in KINDS}

    def _points(self, kind: str) -> Iterator[CurvePoint]:
        kinds = KINDS[:2] if kind == "all" else (kind,)
        found = {
            what: sum((self._scores.get((one, what), Counter()) for one in kinds), Counter[float]())
            for what in ("truth_matched", "calls_matched", "false")
        }
        whole = self._counts_of(WHOLE, kind)
        left = {what: sum(by_score.values()) for what, by_score in found.items()}
        for threshold in sorted(set().union(*found.values())):
            truth = whole.truth_matched + whole.missed
            now = Counts(left["truth_matched"], truth - left["truth_matched"], left["calls_matched"], left["false"])
            yield CurvePoint(
                threshold, now.truth_matched, now.calls_matched, now.false, now.precision, now.recall, now.f1
            )
            for what, by_score in found.items():
                left[what] -= by_score[threshold]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
