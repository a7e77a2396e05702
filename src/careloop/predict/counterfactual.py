"""What if this lab were normal: a patient's risk with one code's values changed, and the smallest change that matters.

A counterfactual of a model, not of the world: the value is changed in what the model reads, all of the code's features
together, and everything else stays. Anything with a `Patient`'s methods can be asked, feature rows and sequences alike.
Source: Wachter, Mittelstadt and Russell, Harvard Journal of Law & Technology 2018;31:841 (nearest other decision).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from careloop import InputError
from careloop.features.words import number

NOT_AN_EFFECT = (
    "This describes the model, not the effect of treating. All values of the lab were changed in what the model reads, "
    "and nothing else; how often it was measured stays. A treatment that changes the lab may change the patient's risk "
    "otherwise, or not at all."
)
# Values tried of each lab: 100 steps between the 0.1 and 99.9 percentiles of the training rows.
GRID_POINTS = 101
# A smaller change of the risk is printed as none.
SMALLEST_CHANGE = 0.0005

# By code, the value that every feature of the code is to show; None: as if it had never been measured.
Values = Mapping[str, float | None]


@dataclass(frozen=True)
class Lab:
    """A code with numbers that a model reads, as one patient has it.

    `value` is the patient's last number, None where there is none; `typical` the training median, `low` and `high` the
    0.1 and 99.9 percentiles and `spread` the standard deviation among training rows with a value. `names` are what a
    user may call it. `changes` is False for a fact without a time, which nobody can change.
    """

    code: str
    words: str
    unit: str
    value: float | None
    typical: float
    low: float
    high: float
    spread: float
    names: tuple[str, ...] = ()
    changes: bool = True


class Patient(Protocol):
    """One patient as a model sees them, with a way to change what it sees."""

    @property
    def labs(self) -> Mapping[str, Lab]:
        """The codes that can be changed."""
        ...

    @property
    def threshold(self) -> float:
        """The risk from which the model calls positive."""
        ...

    def risks(self, variants: Sequence[Values]) -> np.ndarray:
        """The risk (k,) under each of k variants; the empty variant is the patient as they are."""
        ...

    def outside(self, variants: Sequence[Values]) -> list[str | None]:
        """For each variant: why the model has not seen its like, or None."""
        ...


@dataclass(frozen=True)
class Change:
    """One lab changed: its value before and after (None: not measured), and where a value not chosen comes from."""

    code: str
    words: str
    unit: str
    before: float | None
    after: float | None
    basis: str

    @property
    def text(self) -> str:
        """The change: `CD4 count 350 /uL (the training median) instead of 210`."""
        before = "none" if self.before is None else number(self.before)
        if self.after is None:
            return f"{self.words} not measured instead of {before}{self.unit if self.before is not None else ''}"
        basis = f" ({self.basis})" if self.basis else ""
        return f"{self.words} {number(self.after)}{self.unit}{basis} instead of {before}"


@dataclass(frozen=True)
class WhatIf:
    """The risk with some labs changed beside the risk as it is; `outside` says why the altered patient is no patient.

    With `outside` the model has not seen the like of the altered patient, and its risk is not to be used.
    """

    changes: tuple[Change, ...]
    risk: float
    changed_risk: float
    outside: str | None

    @property
    def difference(self) -> float:
        """The changed risk less the risk."""
        return self.changed_risk - self.risk

    @property
    def text(self) -> str:
        """The answer: `With CD4 count 350 /uL (the training median) instead of 210 the model's risk would fall ...`."""
        changed = " and ".join(change.text for change in self.changes)
        if self.outside is not None:
            return f"With {changed} the model cannot be asked: {self.outside}."
        if abs(self.difference) < SMALLEST_CHANGE:
            return f"With {changed} the model's risk would stay {self.risk:.1%}."
        verb = "fall" if self.difference < 0 else "rise"
        return f"With {changed} the model's risk would {verb} from {self.risk:.1%} to {self.changed_risk:.1%}."


@dataclass(frozen=True)
class SmallestChange:
    """The smallest change of one lab, in training standard deviations, after which the model no longer calls positive.

    `found` is None where the risk is below the threshold already, or where no single change does; `tried` labs.
    """

    risk: float
    threshold: float
    tried: int
    found: WhatIf | None
    deviations: float | None

    @property
    def text(self) -> str:
        """The result as a sentence."""
        if self.risk < self.threshold:
            return f"The risk of {self.risk:.1%} is below the threshold of {self.threshold:.1%} already."
        if self.found is None:
            return (
                f"No single change does: with none of {self.tried} labs, each anywhere within its training range, does "
                f"the risk fall below the threshold of {self.threshold:.1%}."
            )
        return (
            f"Smallest single change that brings the risk below the threshold of {self.threshold:.1%}: "
            f"{self.found.changes[0].text}, {self.deviations:.2g} standard deviations, "
            f"risk {self.found.changed_risk:.1%}."
        )


def what_if(patient: Patient, values: Values) -> WhatIf:
    """The risk with these codes' values changed together.

    A code may be given as the model's code, its last part, or its description. InputError for a code whose numbers the
    model does not read (with close matches), a value that is no number, or no value at all.
    """
    chosen = {lab_named(patient, name).code: value for name, value in values.items()}
    if not chosen:
        raise InputError("what if needs at least one code with a value, such as LOINC//718-7=14")
    wrong = [code for code, value in chosen.items() if value is not None and not np.isfinite(value)]
    if wrong:
        raise InputError(f"what if: the value of {wrong[0]} must be a finite number")
    return _asked(patient, [chosen], basis="")[0]


def what_if_typical(patient: Patient, *, among: Sequence[str] = ()) -> tuple[WhatIf, ...]:
    """Each measured lab (or those named in `among`) at its training median, one at a time; largest change first.

    The training median stands for a normal value, since records hold no reference ranges (plausible limits are far
    wider). A hospital's patients are not healthy people, so it is called typical, not normal. Altered patients unlike
    the training rows come last.
    """
    variants: list[Values] = [{lab.code: lab.typical} for lab in _measured(patient, among)]
    found = _asked(patient, variants, basis="the training median") if variants else ()
    return tuple(sorted(found, key=lambda w: (w.outside is not None, -abs(w.difference))))


def smallest_change(patient: Patient, *, among: Sequence[str] = ()) -> SmallestChange:
    """The smallest change of one measured lab (or of those named in `among`) that brings the risk below the threshold.

    Over a grid of `GRID_POINTS` values each, compared in standard deviations of the training rows. Values whose altered
    patient lies outside the training population do not count.
    """
    risk, threshold, labs = float(patient.risks([{}])[0]), patient.threshold, _measured(patient, among)
    best: tuple[float, WhatIf] | None = None
    for lab in labs if risk >= threshold else ():
        nearest = _nearest_below(patient, lab, threshold)
        if nearest is None:
            continue
        found = _asked(patient, [{lab.code: nearest}], basis="")[0]
        deviations = abs(nearest - (lab.value or 0.0)) / lab.spread
        if best is None or deviations < best[0]:
            best = (deviations, found)
    return SmallestChange(risk, threshold, len(labs), best[1] if best else None, best[0] if best else None)


def _nearest_below(patient: Patient, lab: Lab, threshold: float) -> float | None:
    """The grid value nearest to the lab's own whose risk is below the threshold and whose patient is no outsider."""
    grid = np.unique([float(f"{value:.4g}") for value in np.linspace(lab.low, lab.high, GRID_POINTS)])
    variants: list[Values] = [{lab.code: float(value)} for value in grid]
    low = np.flatnonzero(patient.risks(variants) < threshold)
    inside = [reason is None for reason in patient.outside([variants[place] for place in low])]
    allowed = grid[low[np.array(inside, dtype=bool)]]
    return float(min(allowed, key=lambda v: abs(v - (lab.value or 0.0)))) if len(allowed) else None


def _measured(patient: Patient, among: Sequence[str]) -> list[Lab]:
    """Labs that this patient has a value of and that can change; those named, if any are."""
    labs = [lab_named(patient, name) for name in among] if among else list(patient.labs.values())
    return [lab for lab in labs if lab.changes and lab.value is not None]


def _asked(patient: Patient, variants: Sequence[Values], *, basis: str) -> tuple[WhatIf, ...]:
    """The model's answer to each variant."""
    risks, outside = patient.risks([{}, *variants]), patient.outside(variants)
    return tuple(
        WhatIf(tuple(_change(patient.labs[c], v, basis) for c, v in variant.items()), float(risks[0]), float(risk), why)
        for variant, risk, why in zip(variants, risks[1:], outside, strict=True)
    )


def _change(lab: Lab, after: float | None, basis: str) -> Change:
    return Change(lab.code, lab.words, lab.unit, lab.value, after, basis)


def lab_named(patient: Patient, name: str) -> Lab:
    """The lab that the user means; InputError where there is none, or several."""
    wanted = name.strip().lower()
    found = [lab for lab in patient.labs.values() if wanted in {lab.code.lower(), *(n.lower() for n in lab.names)}]
    if len(found) == 1:
        return found[0]
    known = sorted({n for lab in patient.labs.values() for n in (lab.code, *lab.names)})
    if found:
        raise InputError(f"what if: {name!r} may be {' or '.join(lab.code for lab in found)}; give the code")
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    meant = f"did you mean {', '.join(close)}?" if close else f"it reads {', '.join(list(patient.labs)[:8]) or 'none'}"
    raise InputError(f"what if: the model reads no numbers of {name!r}; {meant}")
