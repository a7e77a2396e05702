"""Riley's minimum sample size for developing a prediction model: how many patients a number of parameters asks for.

Each criterion gives a number of patients, and the largest is needed. Published examples and the package pmsampsize
(Ensor) are reproduced by the tests. Two of its criteria are computed here as the papers define them, alone: precision
of the overall risk (time-to-event) and of the mean (continuous), which pmsampsize reports as the largest of the others.

Sources: Riley et al., Stat Med 2019;38:1262 (part I, continuous) and 1276 (part II, binary and time-to-event);
Riley et al., BMJ 2020;368:m441; Riley, Van Calster and Collins, Stat Med 2021;40:859 (R2 from a C statistic);
van Smeden et al., Stat Methods Med Res 2019;28:2455 (mean absolute error of predicted risks).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from careloop import InputError

Kind = Literal["binary", "time_to_event", "continuous"]

SHRINKAGE = 0.9
# Largest difference between apparent and adjusted R2 (Nagelkerke's for binary and time-to-event).
OPTIMISM = 0.05
# Half-width of the 95 % interval of the overall risk.
MARGIN = 0.05
# The 95 % interval of mean and residual standard deviation within this factor of the truth.
RELATIVE_MARGIN = 1.1
# Patients beyond the parameters that give the residual standard deviation to within 10 % (part I, section 3.3).
RESIDUAL_SD_ROWS = 234
NORMAL_95 = 1.96
# What the BMJ paper advises to assume where nothing is known of the model: 15 % of the largest possible R2.
ASSUMED_SHARE = 0.15
# The formula of van Smeden et al. was fitted to simulations with at most this many parameters.
MOST_PARAMETERS_OF_ERROR = 30
QUADRATURE_POINTS = 100
BISECTIONS = 60
# Beyond this the search for a number gives up: more patients than any record has.
MOST_PATIENTS = 10**10


@dataclass(frozen=True)
class Criterion:
    """One criterion, in words, the number of patients that it asks for, and the shrinkage expected with that many."""

    name: str
    n: int
    shrinkage: float


@dataclass(frozen=True)
class SampleSize:
    """The patients needed, which is the largest of the criteria's, and what was assumed.

    `events` are expected among `n` patients, `events_per_parameter` with them (patients per parameter for a continuous
    outcome, whose `events` are None); `r2` Cox and Snell's (plain R2 if continuous), `max_r2` its largest possible
    value; `shrinkage` the expected shrinkage with `n` patients.
    """

    kind: Kind
    parameters: int
    n: int
    events: float | None
    events_per_parameter: float
    r2: float
    max_r2: float
    shrinkage: float
    criteria: tuple[Criterion, ...]

    @property
    def deciding(self) -> Criterion:
        """The criterion that asks for most patients."""
        return max(self.criteria, key=lambda criterion: criterion.n)

    @property
    def nagelkerke_r2(self) -> float:
        """R2 as a share of its largest possible value."""
        return self.r2 / self.max_r2


def binary_sample_size(
    parameters: int, prevalence: float, r2: float, *, shrinkage: float = SHRINKAGE, mean_error: float | None = None
) -> SampleSize:
    """Patients for a model of a binary outcome with `prevalence` and an anticipated Cox-Snell `r2`.

    `mean_error` adds the criterion of the BMJ paper that pmsampsize leaves out: the mean absolute error of predicted
    risks, such as 0.05; it has been fitted for at most 30 parameters. Raises InputError for values out of range.
    """
    _check(parameters, shrinkage)
    _between("prevalence", prevalence, 0, 1)
    largest = max_r2_binary(prevalence)
    numbers = _overfitting(parameters, r2, largest, shrinkage)
    numbers[f"overall risk within {MARGIN:g}"] = math.ceil((NORMAL_95 / MARGIN) ** 2 * prevalence * (1 - prevalence))
    if mean_error is not None:
        name = f"mean absolute error of predicted risks {mean_error:g}"
        numbers[name] = _mean_error_patients(parameters, prevalence, mean_error)
    return _result("binary", parameters, r2, largest, numbers, prevalence)


def time_to_event_sample_size(
    parameters: int, rate: float, mean_follow_up: float, *, timepoint: float, r2: float, shrinkage: float = SHRINKAGE
) -> SampleSize:
    """Patients for a model of the time to an event with overall `rate` a unit of time, predicted at `timepoint`.

    `rate`, `mean_follow_up` and `timepoint` are in one unit of time; `r2` is the anticipated Cox-Snell R2. The overall
    risk's precision assumes a constant rate. Raises InputError for values out of range.
    """
    _check(parameters, shrinkage)
    for name, value in (("rate", rate), ("mean_follow_up", mean_follow_up), ("timepoint", timepoint)):
        _between(name, value, 0, math.inf)
    largest = max_r2_time_to_event(rate, mean_follow_up)
    numbers = _overfitting(parameters, r2, largest, shrinkage)
    # The side of the interval that is farther from the risk 1 - exp(-rate t) is its lower one.
    half_width = math.log1p(MARGIN * math.exp(rate * timepoint)) / timepoint
    precise = math.ceil(rate * (NORMAL_95 / half_width) ** 2 / mean_follow_up)
    numbers[f"overall risk at {timepoint:.4g} within {MARGIN:g}"] = precise
    return _result("time_to_event", parameters, r2, largest, numbers, rate * mean_follow_up)


def continuous_sample_size(
    parameters: int, r2: float, *, mean: float, standard_deviation: float, shrinkage: float = SHRINKAGE
) -> SampleSize:
    """Patients for a linear model of an outcome with this mean and standard deviation and an anticipated `r2`.

    Raises InputError for values out of range, and for a mean of 0, to which no relative margin can be kept.
    """
    _check(parameters, shrinkage)
    _between("r2", r2, 0, 1)
    _between("standard_deviation", standard_deviation, 0, math.inf)
    if mean == 0 or not math.isfinite(mean):
        raise InputError(f"mean must not be 0, since its interval is judged in relation to it: got {mean:g}")

    def shrunk(n: int) -> float:
        return _linear_shrinkage(n, parameters, r2)

    def mean_is_precise(n: int) -> bool:
        from scipy.stats import t

        half_width = t.isf(0.025, n - parameters - 1) * standard_deviation * math.sqrt((1 - r2) / n)
        return bool(half_width <= (RELATIVE_MARGIN - 1) * abs(mean))

    first = parameters + 2
    numbers = {
        f"expected shrinkage {shrinkage:g}": _smallest(first, lambda n: shrunk(n) >= shrinkage),
        f"optimism of R2 at most {OPTIMISM:g}": max(first, math.ceil(1 + parameters * (1 - r2) / OPTIMISM)),
        "residual standard deviation within 10 %": RESIDUAL_SD_ROWS + parameters,
        "mean within 10 %": _smallest(first, mean_is_precise),
    }
    criteria = tuple(Criterion(name, n, shrunk(n)) for name, n in numbers.items())
    n = max(numbers.values())
    return SampleSize("continuous", parameters, n, None, n / parameters, r2, 1.0, shrunk(n), criteria)


def max_r2_binary(prevalence: float) -> float:
    """The largest Cox-Snell R2 that a model of an outcome with this prevalence can have (part II, equation 23)."""
    _between("prevalence", prevalence, 0, 1)
    return -math.expm1(2 * _null_log_likelihood(prevalence))


def max_r2_time_to_event(rate: float, mean_follow_up: float) -> float:
    """The largest Cox-Snell R2 of a time-to-event model, from the null model with a constant rate.

    Not rounded to the events of 10,000 patients as in pmsampsize, whose criterion of optimism can differ by a patient.
    """
    events_a_patient = rate * mean_follow_up
    if not 0 < events_a_patient < 1:
        raise InputError(
            f"rate times mean_follow_up is the share of patients with the event, so above 0 and below 1: got "
            f"{events_a_patient:.4g}; give both in one unit of time"
        )
    return -math.expm1(2 * (events_a_patient * math.log(events_a_patient) - events_a_patient))


def r2_from_c_statistic(c_statistic: float, prevalence: float) -> float:
    """Cox-Snell R2 of a binary outcome's model with this C statistic (Riley, Van Calster and Collins 2021).

    They simulate a million linear predictors, normal with one variance among patients with and without the outcome, and
    fit a logistic model; here the same expectation is integrated numerically, which is their result without its random
    error. Raises InputError unless the C statistic is above 0.5.
    """
    from scipy.special import ndtri

    _between("c_statistic", c_statistic, 0.5, 1)
    _between("prevalence", prevalence, 0, 1)
    distance = math.sqrt(2) * float(ndtri(c_statistic))
    intercept = math.log(prevalence / (1 - prevalence)) - distance**2 / 2
    at, weight = np.polynomial.hermite_e.hermegauss(QUADRATURE_POINTS)
    weight /= weight.sum()
    with_outcome = -np.logaddexp(0, -(intercept + distance * (at + distance))) @ weight
    without = -np.logaddexp(0, intercept + distance * at) @ weight
    fitted = prevalence * with_outcome + (1 - prevalence) * without
    return float(-math.expm1(2 * (_null_log_likelihood(prevalence) - fitted)))


def parameters_for(patients: int, size_of: Callable[[int], SampleSize]) -> int:
    """The most parameters for which `size_of(parameters)` asks for no more than `patients`; 0 if even one is too many.

    `size_of` must not fall with the parameters, as the functions of this file do not.
    """
    if patients < size_of(1).n:
        return 0
    low, high = 1, 2
    while size_of(high).n <= patients:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size_of(middle).n <= patients else (low, middle)
    return low


def expected_shrinkage(n: int, parameters: int, r2: float) -> float:
    """The shrinkage S of a binary or time-to-event model fitted to n patients (part II, equation 11, solved for S)."""
    low, high = r2, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if _patients_at(parameters, r2, middle) < n else (low, middle)
    return (low + high) / 2


def _overfitting(parameters: int, r2: float, largest: float, shrinkage: float) -> dict[str, int]:
    """The two criteria that binary and time-to-event models share: shrinkage, and optimism of Nagelkerke's R2."""
    _between("r2", r2, 0, min(largest, shrinkage))
    little_optimism = r2 / (r2 + OPTIMISM * largest)
    return {
        f"expected shrinkage {shrinkage:g}": math.ceil(_patients_at(parameters, r2, shrinkage)),
        f"optimism of R2 at most {OPTIMISM:g}": math.ceil(_patients_at(parameters, r2, little_optimism)),
    }


def _patients_at(parameters: int, r2: float, shrinkage: float) -> float:
    """Patients at which the expected (Van Houwelingen and Le Cessie) shrinkage has this value, above `r2`."""
    return parameters / ((shrinkage - 1) * math.log1p(-r2 / shrinkage))


def _mean_error_patients(parameters: int, prevalence: float, mean_error: float) -> int:
    _between("mean_error", mean_error, 0, 1)
    if parameters > MOST_PARAMETERS_OF_ERROR:
        raise InputError(
            f"mean_error: its formula holds for at most {MOST_PARAMETERS_OF_ERROR} parameters, got {parameters}; "
            "leave it out"
        )
    rarer = min(prevalence, 1 - prevalence)
    log_n = (-0.508 + 0.259 * math.log(rarer) + 0.504 * math.log(parameters) - math.log(mean_error)) / 0.544
    return math.ceil(math.exp(log_n))


def _linear_shrinkage(n: int, parameters: int, r2: float) -> float:
    """Expected shrinkage of a linear model fitted to n patients with adjusted R2 `r2` (part I, equation 7)."""
    apparent = (r2 * (n - parameters - 1) + parameters) / (n - 1)
    return 1 + (parameters - 2) / (n * math.log1p(-apparent))


def _smallest(first: int, holds: Callable[[int], bool]) -> int:
    """The smallest n from `first` for which `holds`, which stays true once it is."""
    if holds(first):
        return first
    low, high = first, 2 * first
    while not holds(high):
        if high > MOST_PATIENTS:
            raise InputError(f"more than {MOST_PATIENTS:,} patients would be needed: check the values given")
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _result(
    kind: Kind, parameters: int, r2: float, largest: float, numbers: dict[str, int], events_a_patient: float
) -> SampleSize:
    criteria = tuple(Criterion(name, n, expected_shrinkage(n, parameters, r2)) for name, n in numbers.items())
    n = max(numbers.values())
    events, shrunk = n * events_a_patient, expected_shrinkage(n, parameters, r2)
    return SampleSize(kind, parameters, n, events, events / parameters, r2, largest, shrunk, criteria)


def _null_log_likelihood(prevalence: float) -> float:
    """Log likelihood a patient of the model that gives everybody the prevalence."""
    return prevalence * math.log(prevalence) + (1 - prevalence) * math.log1p(-prevalence)


def _check(parameters: int, shrinkage: float) -> None:
    if parameters < 1:
        raise InputError(f"parameters must be at least 1, got {parameters}")
    _between("shrinkage", shrinkage, 0, 1)


def _between(name: str, value: float, low: float, high: float) -> None:
    if not low < value < high:
        upper = "" if high == math.inf else f" and below {high:.4g}"
        raise InputError(f"{name} must be above {low:g}{upper}, got {value:g}")
