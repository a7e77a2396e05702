"""The measures in which simulated patients differ, the ranges they are drawn from, and the tissues' HU."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal, get_args

import numpy as np

from careloop import InputError

Shapes = Literal["usual", "unusual"]
Phase = Literal["none", "pulmonary", "arterial", "venous"]
BEYOND = 0.25  # unusual measures lie outside the usual range by up to this part of it
UNUSUAL_PART = 0.5  # of an unusual patient's measures; the others are as in usual patients


def _between(low: float, high: float) -> float:
    """A measure's usual range, uniform between two values."""
    return field(metadata={"range": (low, high)})


@dataclass(frozen=True)
class Patient:
    """One simulated patient's measures, lengths in mm.

    Positions are LPS with the origin in the middle of the scan. Ranges are rounded from adults' anatomy (Gray's
    Anatomy, 41st ed., ch. 53-57) so that neighbouring organs meet; they are plausible, not a population's.
    """

    cavity_half_width: float = _between(106.0, 130.0)
    cavity_half_depth: float = _between(74.0, 94.0)
    apex_z: float = _between(108.0, 138.0)
    right_dome_z: float = _between(-88.0, -46.0)
    left_dome_lower: float = _between(4.0, 22.0)
    dome_height: float = _between(28.0, 56.0)
    mediastinum_half_width: float = _between(13.0, 26.0)
    fat: float = _between(5.0, 24.0)
    muscle: float = _between(0.75, 1.3)
    breast: float = _between(-0.8, 1.0)
    rib_slope: float = _between(0.25, 0.6)
    rib_pitch: float = _between(22.0, 29.0)
    vertebra_pitch: float = _between(21.0, 28.0)
    vertebra_half_width: float = _between(14.0, 20.0)
    kyphosis: float = _between(2.0, 22.0)
    scoliosis: float = _between(-6.0, 6.0)
    heart_size: float = _between(0.84, 1.16)
    heart_elongation: float = _between(0.86, 1.16)
    heart_turn_deg: float = _between(20.0, 62.0)
    heart_tip_deg: float = _between(8.0, 40.0)
    heart_x: float = _between(6.0, 22.0)
    left_ventricle: float = _between(0.85, 1.18)
    right_ventricle: float = _between(0.85, 1.2)
    atria: float = _between(0.8, 1.25)
    wall: float = _between(8.0, 14.0)
    heart_fat: float = _between(1.5, 7.0)
    aorta_radius: float = _between(10.5, 17.0)
    arch_z: float = _between(48.0, 72.0)
    lung_hu: float = _between(-885.0, -800.0)
    lung_gradient_hu: float = _between(10.0, 80.0)
    marrow_hu: float = _between(90.0, 230.0)
    blood_hu: float = _between(32.0, 48.0)
    liver_hu: float = _between(35.0, 66.0)
    warp: float = _between(2.0, 4.5)


@dataclass(frozen=True)
class Tissues:
    """HU of what contrast medium changes, by where the blood has got to."""

    right_heart: float
    left_heart: float
    pulmonary: float
    aorta: float
    myocardium: float
    liver: float
    liver_vessels: float
    spleen: float


def draw_patient(rng: np.random.Generator, *, shapes: Shapes) -> Patient:
    """A patient within the usual ranges, or `unusual`: about half of the measures lie outside of them."""
    if shapes not in get_args(Shapes):
        raise InputError(f"shapes must be one of {', '.join(get_args(Shapes))}, got '{shapes}'")
    values: dict[str, float] = {}
    for measure in fields(Patient):
        low, high = measure.metadata["range"]
        place, outside, side = rng.uniform(), rng.uniform(), rng.integers(2)
        if shapes == "unusual" and outside < UNUSUAL_PART:
            place = 1 + BEYOND * place if side else -BEYOND * place
        values[measure.name] = float(low + (high - low) * place)
    return Patient(**values)


def draw_phase(rng: np.random.Generator) -> Phase:
    """A contrast phase; two scans in five are without contrast medium, where the heart is hardest to see."""
    return str(rng.choice(get_args(Phase), p=(0.4, 0.15, 0.2, 0.25)))  # type: ignore[return-value]


def tissues(patient: Patient, phase: Phase, rng: np.random.Generator) -> Tissues:
    """HU by phase, varied between patients; without contrast medium blood and heart muscle are within a few HU."""
    if phase not in get_args(Phase):
        raise InputError(f"phase must be one of {', '.join(get_args(Phase))}, got '{phase}'")
    blood, liver, muscle = patient.blood_hu, patient.liver_hu, patient.blood_hu + float(rng.uniform(0, 9))
    more = {  # right heart, left heart, pulmonary, aorta, myocardium, liver, its vessels, spleen
        "none": (0, 0, 0, 0, 0, 0, -8, 0),
        "pulmonary": (330, 170, 320, 140, 35, 4, 10, 20),
        "arterial": (200, 310, 190, 320, 65, 12, 30, 70),
        "venous": (125, 125, 120, 125, 60, 52, 105, 75),
    }[phase]
    start = (blood, blood, blood, blood, muscle, liver, liver, 48.0)
    strength = float(rng.uniform(0.7, 1.25))
    return Tissues(*(s + m * strength for s, m in zip(start, more, strict=True)))
