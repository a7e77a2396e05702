"""Similar past patients: the rows nearest to a patient in the model's own space, and what happened to them.

A row's coordinates are what each code contributes to the model's score (log-odds or log hazard), summed over the code's
features, among which credit is shared arbitrarily where they say the same. What the model ignores has no say in who is
similar, and what it heeds has as much say as it moves the risk.

Past patients should be rows that the model was not fitted to, such as tuning rows: a flexible model has memorised some
of what happened to its training rows, and sees those as similar that had the outcome. In a simulation of LightGBM with
much noise the 95 % interval of 20 training neighbours held the true risk of 70 % of patients, of 20 tuning neighbours
that of 97 %.

Sources: Lundberg, Erion and Lee, arXiv 1802.03888, 2018 (supervised clustering on SHAP values); Clopper and Pearson,
Biometrika 1934;26:404, and Dorey and Korn, Stat Med 1987;6:679 (interval; effective number of patients with censoring).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import numpy as np

from careloop import InputError
from careloop.evaluate import Estimate, Outcomes, aalen_johansen
from careloop.features import Column, FeatureMatrix
from careloop.features.words import code_words, is_yes_or_no, number, stated
from careloop.models import contributions
from careloop.predict.explanation import code_groups, has_exact
from careloop.train import Package
from careloop.train.preprocess import row_blocks

# Rows, of which a model on sequences needs the keys only -> coordinates (n, d).
Coordinates = Callable[[FeatureMatrix], np.ndarray]
MOST_SHARED = 3
# Numbers of patient and neighbours that spread over more than this part of the training range are not in common.
WIDE = 0.5
# A code is shared if its coordinate points the same way in the patient and in this share of the neighbours, and its
# size, the smaller of both, is at least this part of the patient's distance from the average patient.
SHARED_BY, SMALLEST_PART = 0.8, 0.1
NOT_FITTED_TO = "The model was not fitted to these patients. What happened to them is no promise for this one."


@dataclass(frozen=True)
class Neighbour:
    """One past patient: how far away, what they share with the patient, how follow-up ended (`event` as `Outcomes`)."""

    subject_id: int
    prediction_time: datetime
    distance: float
    shared: tuple[str, ...]
    event: int
    follow_up_days: float


@dataclass(frozen=True)
class Similar:
    """The nearest past patients of one patient, nearest first; `share` of them had the outcome by the horizon.

    `typical_distance` is the median distance of this patient from all past patients; `shared` says in words what most
    of the neighbours have in common with the patient.
    """

    neighbours: tuple[Neighbour, ...]
    share: Estimate
    known: int
    typical_distance: float
    shared: tuple[str, ...]
    space: str
    horizon_days: float
    outcome: str

    @property
    def text(self) -> str:
        """The result in a few sentences."""
        nearest, furthest = self.neighbours[0].distance, self.neighbours[-1].distance
        lines = [
            f"{len(self.neighbours)} similar past patients, by {self.space}; distance {nearest:.2g} to {furthest:.2g}, "
            f"against {self.typical_distance:.2g} for the median past patient.",
            _outcome_words(self),
            *([f"In common: {'; '.join(self.shared)}."] if self.shared else []),
            NOT_FITTED_TO,
        ]
        return "\n".join(lines)


def _outcome_words(found: Similar) -> str:
    what = f"{found.outcome} within {found.horizon_days:g} days"
    share = found.share
    if share.value is None:
        return f"What became of them by day {found.horizon_days:g} is not known: {share.reason}."
    lost = len(found.neighbours) - found.known
    aside = f"; {lost} of them followed for less" if lost else ""
    return f"Of them {share.value:.0%} had {what} (95 % interval {share.low:.0%} to {share.high:.0%}{aside})."


@dataclass(frozen=True, eq=False)
class Space:
    """Where rows are compared: how to get coordinates (n, d), in words, and which code each coordinate stands for.

    `codes` is empty where coordinates have no meaning of their own, such as those of an embedding.
    """

    words: str
    coordinates: Coordinates
    codes: tuple[str, ...] = ()


def model_space(package: Package) -> Space:
    """The package's own space: contributions by code, or standardised features where there are none."""
    if package.timelines is not None:
        words = "the network's representation of the whole history"
        return Space(words, lambda matrix: package.estimators[0].embed(package.inputs(matrix)))
    if has_exact(package.estimators[0]):
        words, codes = "what each factor contributes to the model's score", tuple(code_groups(package))
        return Space(words, lambda matrix: contributed(package, package.aligned(matrix)), codes)
    words = "standardised features (this model's contributions are not known)"
    codes = tuple(column.code or column.name for column in package.recipe.columns)
    return Space(words, lambda matrix: standardised(package, package.aligned(matrix)), codes)


def contributed(package: Package, values: Any) -> np.ndarray:
    """Contributions (n, codes) of each code to the score of feature rows (n, p), on the model's own log scale."""
    preprocessing, codes = package.preprocessing, list(code_groups(package).values())
    member = np.zeros((len(preprocessing.names), len(codes)))
    for i, places in enumerate(codes):
        member[places, i] = 1.0
    blocks = []
    for block in row_blocks(values):
        inputs = preprocessing.apply(block)
        inputs = inputs.toarray() if hasattr(inputs, "toarray") else inputs
        background, horizon = preprocessing.reference(), package.horizon_days
        found = contributions(package.estimators[0], inputs, background=background, horizon=horizon)
        blocks.append(found.values @ member[preprocessing.owners])
    return np.concatenate(blocks)


def standardised(package: Package, values: Any) -> np.ndarray:
    """Features (n, p) less the training mean in training standard deviations; a missing value lies at the mean."""
    population = package.population
    return np.concatenate([np.nan_to_num((b - population.mean) / population.scale) for b in row_blocks(values)])


@dataclass(frozen=True, eq=False)
class PastPatients:
    """Past rows with their coordinates (n, d), ready to be searched for many patients; build with `PastPatients.of`."""

    package: Package
    space: Space
    past: FeatureMatrix
    coordinates: np.ndarray
    outcomes: Outcomes

    @classmethod
    def of(cls, package: Package, past: FeatureMatrix, outcomes: Outcomes, *, space: Space | None = None) -> Self:
        """Coordinates of the past rows, which are from the package's study but not fitted to, with an outcome each.

        `space` replaces the package's own (`model_space`), as with the embedding of a sequence model. InputError: other
        numbers of rows and outcomes, or a missing column.
        """
        if past.keys.height != len(outcomes):
            raise InputError(f"similar: {past.keys.height} past rows need as many outcomes, got {len(outcomes)}")
        space = space or model_space(package)
        return cls(package, space, past, space.coordinates(past), outcomes)

    def similar(self, patient: FeatureMatrix, *, k: int = 10, without: Collection[int] = ()) -> Similar:
        """The `k` past patients nearest to the one row of `patient`, of each subject's rows the nearest.

        `without`: subjects to leave out, such as the patient, if they are in the same record. Distance is Euclidean.
        InputError: other than one row, or fewer than `k` past patients.
        """
        if patient.keys.height != 1:
            raise InputError(f"similar: one patient at a time, got {patient.keys.height} rows; filter the matrix")
        mine = self.space.coordinates(patient)[0]
        distance = np.sqrt(((self.coordinates - mine) ** 2).sum(axis=1))
        places = self._nearest(distance, k, without)
        share, known = outcome_share(self.outcomes.take(places))
        return Similar(
            neighbours=tuple(self._neighbour(int(place), float(distance[place]), mine) for place in places),
            share=share,
            known=known,
            typical_distance=float(np.median(distance)),
            shared=self._in_common(patient, mine, places),
            space=self.space.words,
            horizon_days=self.outcomes.horizon_days,
            outcome=self.package.facts.outcome,
        )

    def _nearest(self, distance: np.ndarray, k: int, without: Collection[int]) -> np.ndarray:
        """Rows (k,) of different subjects, nearest first."""
        subjects = self.past.keys["subject_id"].to_numpy()
        order = np.argsort(distance, kind="stable")
        order = order[~np.isin(subjects[order], list(without))]
        _, first = np.unique(subjects[order], return_index=True)
        if not 1 <= k <= len(first):
            raise InputError(f"similar: k must be 1 to {len(first)}, the number of past patients; got {k}")
        return order[np.sort(first)[:k]]

    def _neighbour(self, place: int, distance: float, mine: np.ndarray) -> Neighbour:
        key, names = self.past.keys.row(place, named=True), {}
        if self.space.codes:
            names = {c.code or c.name: "age" if c.kind == "age" else code_words(c) for c in self.package.recipe.columns}
        shared = shared_codes(self.space.codes, mine, self.coordinates[[place]])
        follow_up_days, event = self.outcomes.follow_up_days[place], self.outcomes.event[place]
        return Neighbour(
            subject_id=int(key["subject_id"]),
            prediction_time=key["prediction_time"],
            distance=distance,
            shared=tuple(names[code] for code in shared),
            event=int(event),
            follow_up_days=float(follow_up_days),
        )

    def _in_common(self, patient: FeatureMatrix, mine: np.ndarray, places: np.ndarray) -> tuple[str, ...]:
        """What most neighbours share with the patient: a feature of the code, the patient's value and theirs."""
        shared = shared_codes(self.space.codes, mine, self.coordinates[places])
        if not shared:
            return ()
        nearest = FeatureMatrix(self.past.keys[places], self.past.names, self.past.values[places])
        here, there = (next(row_blocks(self.package.aligned(matrix))) for matrix in (patient, nearest))
        groups, columns, texts = code_groups(self.package), self.package.recipe.columns, []
        for code in shared:
            j = next((j for j in groups[code] if not np.isnan(here[0, j])), groups[code][0])
            texts.append(in_common(columns[j], float(here[0, j]), there[:, j]))
        return tuple(text for text in texts if text)


def similar(
    package: Package,
    patient: FeatureMatrix,
    *,
    past: FeatureMatrix,
    outcomes: Outcomes,
    k: int = 10,
    space: Space | None = None,
) -> Similar:
    """The past patients nearest to the one row of `patient`, whose own past rows are left out; see `PastPatients`."""
    searched = PastPatients.of(package, past, outcomes, space=space)
    return searched.similar(patient, k=k, without=patient.keys["subject_id"])


def shared_codes(codes: Sequence[str], mine: np.ndarray, theirs: np.ndarray) -> list[str]:
    """The few codes whose coordinates point the same way in the patient (d,) and in most of the neighbours (k, d).

    Coordinates of one code are taken together; largest common size first.
    """
    if not codes:
        return []
    alike = (np.sign(theirs) == np.sign(mine)).mean(axis=0) >= SHARED_BY
    common = np.where(alike, np.minimum(np.abs(mine), np.median(np.abs(theirs), axis=0)), 0.0)
    sizes: dict[str, float] = {}
    for code, size in zip(codes, common.tolist(), strict=True):
        sizes[code] = max(sizes.get(code, 0.0), size)
    least = SMALLEST_PART * float(np.linalg.norm(mine))
    ranked = sorted((code for code in sizes if sizes[code] > least), key=lambda code: -sizes[code])
    return ranked[:MOST_SHARED]


def in_common(column: Column, mine: float, theirs: np.ndarray) -> str:
    """What is shared: `CD4 count 210 /uL (they: 180 to 260)`, or `male: yes (9 of 10 of them)`; empty if little is."""
    if np.isnan(mine) or is_yes_or_no(column):
        same = int((theirs == mine).sum() + (np.isnan(mine) & np.isnan(theirs)).sum())
        return f"{stated(column, mine)} ({same} of {len(theirs)} of them)"
    known = theirs[~np.isnan(theirs)]
    if not len(known) or np.ptp(np.append(known, mine)) > WIDE * ((column.high or 0.0) - (column.low or 0.0)):
        return ""
    return f"{stated(column, mine)} (they: {number(known.min())} to {number(known.max())})"


def outcome_share(outcomes: Outcomes) -> tuple[Estimate, int]:
    """The share with the outcome by the horizon, with an interval for few rows, and how many rows' fate is known.

    The share is the Aalen-Johansen estimate; the interval is Clopper and Pearson's for as many rows as have a known
    fate, which is exact without censoring and too wide rather than too narrow with it.
    """
    from scipy.stats import beta

    known = int(outcomes.known.sum())
    followed = bool((outcomes.follow_up_days >= outcomes.horizon_days).any())
    if not known or not (followed or outcomes.known.all()):
        return Estimate(None, reason="nobody is followed to the horizon"), known
    times, incidence = aalen_johansen(outcomes.follow_up_days, outcomes.event)
    share = float(np.append(0.0, incidence)[np.searchsorted(times, outcomes.horizon_days, side="right")])
    events = share * known
    low = float(beta.ppf(0.025, events, known - events + 1)) if share > 0 else 0.0
    high = float(beta.ppf(0.975, events + 1, known - events)) if share < 1 else 1.0
    return Estimate(share, low, high), known
