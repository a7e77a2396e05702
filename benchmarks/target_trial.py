"""Emulated trials and repeated treatment on simulated patients whose true effects are known: bias and coverage.

    python benchmarks/target_trial.py                                     # 200 repetitions of each
    python benchmarks/target_trial.py --intervals 100 --resamples 100     # intervals of the first 100 only
    python benchmarks/target_trial.py --repetitions 20 --resamples 50     # a quick try
    python benchmarks/target_trial.py --zepid VENV/bin/python             # and zEpid's g-formula on the same rows

Part 1, a trial of "start within 90 days" against "never start", on 2,000 simulated patients over 360 days: the worse
start sooner, treatment improves what decides about starting, some are lost, some die of other causes, and nobody
starts after dying (immortal time). Once with a treatment that helps, once with one that does nothing. The truth is the
same simulation with 4 million patients made to follow each strategy.

Part 2, three decisions about treatment, on 4,000 simulated patients: always against never treating, with an unseen
cause behind covariate and outcome. An ordinary regression on all treatments fails with the covariates (treatment works
through them, and they open a path from the unseen cause) and without (confounding). zEpid 0.9.1 (`pip install zepid`,
in an environment of its own) has the iterated g-formula for survival.

Both parts use careloop at the level of arrays. All data are simulated.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from careloop.plan.longitudinal.courses import Courses, Kind
from careloop.plan.longitudinal.regimes import Method, regime_effects
from careloop.plan.trial.definition import TrialSection
from careloop.plan.trial.emulate import Grid, TrialData
from careloop.plan.trial.estimate import estimate_trial
from careloop.plan.trial.result import Analysis

DAYS, INTERVALS, GRACE_INTERVALS = 30.0, 12, 3
HORIZON = DAYS * INTERVALS
PATIENTS, TRUTH_PATIENTS = 2000, 4_000_000
REPEATED_PATIENTS = 4000
STRATEGIES = {"never": {"never": "DRUG"}, "start": {"start": "DRUG", "within_days": DAYS * GRACE_INTERVALS}}
TIMES = 3
REGIMES = {"never": (0,) * TIMES, "always": (1,) * TIMES}
METHODS: tuple[Method, ...] = ("g_computation", "weighting", "doubly_robust")
ZEPID = """
import sys, pandas
from zepid.causal.gformula import IterativeCondGFormula
for path in sys.argv[1:]:
    rows = pandas.read_csv(path)
    model = IterativeCondGFormula(rows, exposures=["A0", "A1", "A2"], outcomes=["Y0", "Y1", "Y2"])
    model.outcome_model(models=["A0 + L0", "A1 + A0 + L1 + L0", "A2 + A1 + L2 + L1"], print_results=False)
    risks = []
    for treatments in ([0, 0, 0], [1, 1, 1]):
        model.fit(treatments=treatments)
        risks.append(model.marginal_outcome)
    print(risks[1] - risks[0])
"""


def simulate_trial(n: int, seed: int, *, log_ratio: float, follow: str = "nature") -> dict[str, np.ndarray]:
    """Follow-up, event, start and confounders of n patients, who follow nature or are made to follow a strategy."""
    random = np.random.default_rng(seed)
    severity, frailty = random.normal(size=n), random.normal(size=n)
    alive, follow_up, event = np.ones(n, dtype=bool), np.full(n, HORIZON + 1), np.zeros(n, dtype=int)
    start = np.full(n, np.inf)
    rows, intervals, values = [], [], []
    for k in range(INTERVALS):
        seen = np.flatnonzero(alive)
        if follow == "nature":
            rows.append(seen)
            intervals.append(np.full(len(seen), k))
            values.append(np.column_stack([severity, frailty])[seen])
        begun = start <= k * DAYS
        starting = np.logaddexp(0, -2.0 + 0.5 * severity + 0.3 * frailty)
        wait = random.exponential(size=n) / starting
        if follow == "start" and k == GRACE_INTERVALS - 1:  # all who are left start, when they would if they did
            wait = -np.log1p(random.random(n) * np.expm1(-starting)) / starting
        wait = np.where(begun | (follow == "never"), np.inf, wait)
        untreated = np.exp(-3.4 + 0.6 * severity + 0.3 * frailty)
        burden, before = random.exponential(size=n), np.where(begun, 0.0, np.minimum(wait, 1.0))
        late = before + (burden - untreated * before) / (untreated * np.exp(log_ratio))
        outcome = np.where(burden < untreated * before, burden / untreated, late)
        lost = random.exponential(size=n) / np.logaddexp(0, -4 + 0.3 * severity)
        lost = lost if follow == "nature" else np.full(n, np.inf)
        competing = random.exponential(size=n) / 0.004
        end = np.minimum(np.minimum(outcome, lost), competing)
        starts = alive & ~begun & (wait <= np.minimum(end, 1.0))
        start[starts] = (k + wait[starts]) * DAYS
        done = alive & (end <= 1.0)
        follow_up[done] = (k + end[done]) * DAYS
        event[done] = np.select([outcome[done] == end[done], competing[done] == end[done]], [1, 2], 0)
        alive &= ~done
        eased = np.where(log_ratio < 0, 0.4, 0.0) * (start <= (k + 1) * DAYS)
        severity = 0.7 * severity + 0.15 * frailty + random.normal(scale=0.6, size=n) - eased
    found = {"follow_up": follow_up, "event": event, "start": start}
    if follow == "nature":
        found |= {"row": np.concatenate(rows), "interval": np.concatenate(intervals), "values": np.vstack(values)}
    return found


def trial_truth(log_ratio: float) -> float:
    """True risk difference, start minus never; of a treatment that does nothing it is 0."""
    if log_ratio == 0:
        return 0.0
    risks = []
    for follow in ("start", "never"):
        found = simulate_trial(TRUTH_PATIENTS, 1, log_ratio=log_ratio, follow=follow)
        risks.append(float(((found["event"] == 1) & (found["follow_up"] <= HORIZON)).mean()))
    return risks[0] - risks[1]


def trial_data(seed: int, *, log_ratio: float) -> TrialData:
    """One simulated data set as `emulate_trial` would read it."""
    found = simulate_trial(PATIENTS, seed, log_ratio=log_ratio)
    return TrialData(
        subjects=np.arange(PATIENTS),
        follow_up_days=found["follow_up"],
        event=found["event"],
        days={"DRUG": found["start"]},
        stops={},
        grid=Grid.of(DAYS, HORIZON),
        row=found["row"],
        interval=found["interval"],
        values=found["values"],
        names=("severity", "frailty"),
        eligible=PATIENTS,
        prevalent=0,
    )


def emulations(repetitions: int, intervals: int, resamples: int, *, log_ratio: float) -> None:
    """Print bias and coverage (of the first `intervals` repetitions) of the risk difference by every analysis."""
    truth, begin = trial_truth(log_ratio), time.perf_counter()
    section = TrialSection.model_validate({"strategies": STRATEGIES, "resamples": resamples})
    found: dict[str, list[tuple[float, float, float]]] = {}
    sizes = []
    for repetition in range(repetitions):
        asked = section if repetition < intervals else section.model_copy(update={"resamples": 1})
        result = estimate_trial(trial_data(repetition, log_ratio=log_ratio), asked)
        sizes.append([each.effective_sample for each in result.following])
        for analysis in (result.emulated, *result.naive):
            value, *limits = _difference(analysis)
            found.setdefault(analysis.analysis, []).append(
                (value, *(limits if repetition < intervals else (np.nan, np.nan)))
            )
    print(f"\nStart within 90 days against never, true risk difference {truth:+.4f} ({repetitions} repetitions)")
    _table({name: np.array(values) for name, values in found.items()}, truth)
    never, start = np.mean(sizes, axis=0)
    seconds = (time.perf_counter() - begin) / repetitions
    print(f"effective sample size {never:.0f} (never), {start:.0f} (start); {seconds:.1f} s a trial")


def _difference(analysis: Analysis) -> tuple[float, float, float]:
    estimate = analysis.contrasts[0].risk_difference
    return tuple(np.nan if v is None else v for v in (estimate.value, estimate.low, estimate.high))


def _table(found: dict[str, np.ndarray], truth: float) -> None:
    print(f"{'analysis':38} {'mean':>8} {'bias':>8} {'+-':>7} {'of effect':>9} {'sd':>7} {'covers':>7}")
    for name, every in found.items():
        values = every[np.isfinite(every[:, 0])]
        mean, sd = float(values[:, 0].mean()), float(values[:, 0].std(ddof=1))
        share = f"{abs(mean - truth) / abs(truth):9.1%}" if abs(truth) > 0.01 else f"{'':9}"
        told = values[np.isfinite(values).all(axis=1)] if values.shape[1] > 1 else values[:0]
        covers = f"{((told[:, 1] <= truth) & (truth <= told[:, 2])).mean():7.1%} of {len(told)}" if len(told) else ""
        error = 1.96 * sd / np.sqrt(len(values))
        abstained = f"  abstained {len(every) - len(values)} times" if len(values) < len(every) else ""
        print(f"{name:38} {mean:+8.4f} {mean - truth:+8.4f} {error:7.4f} {share} {sd:7.4f} {covers}{abstained}")


def simulate_courses(n: int, seed: int, kind: Kind, given: Sequence[int] | None = None) -> Courses | float:
    """Courses of n patients; or, with treatments `given`, their mean outcome (risk by the end, for survival)."""
    random = np.random.default_rng(seed)

    def chance(log_odds: np.ndarray) -> np.ndarray:
        return (random.random(n) < 1 / (1 + np.exp(-log_odds))).astype(float)

    cause = random.normal(size=n)  # unseen: behind covariate and outcome, not behind treatment
    covariate = 0.7 * cause + random.normal(size=n)
    covariates, treatments, events = [], [], []
    for t in range(TIMES):
        covariates.append(covariate)
        treatments.append(chance(0.2 + 0.4 * covariate) if given is None else np.full(n, float(given[t])))
        events.append(chance(-2.5 + 0.6 * cause + 0.4 * covariate - 0.5 * treatments[t]))
        covariate = 0.5 * covariate - 0.5 * treatments[t] + 0.7 * cause + random.normal(size=n)
    treatment, happened = np.column_stack(treatments), np.column_stack(events)
    if kind == "survival":
        earlier = np.cumsum(happened, axis=1) - happened > 0
        outcome = np.where(earlier, np.nan, happened)
    else:
        outcome = cause + 0.5 * covariate - 0.4 * treatment.sum(axis=1) + random.normal(size=n)
    if given is not None:
        return float(happened.any(axis=1).mean() if kind == "survival" else outcome.mean())
    known = np.stack(covariates, axis=1)[:, :, None]
    if kind == "survival":
        known = np.where(earlier[:, :, None], np.nan, known)
    return Courses(known, treatment, outcome, kind)


def ordinary_regression(courses: Courses, *, covariates: bool) -> float:
    """Always minus never, by least squares of the outcome on all treatments, with or without all covariates."""
    columns = [np.ones(len(courses)), *courses.treatment.T]
    if covariates:
        columns += list(courses.covariates[:, :, 0].T)
    coefficients = np.linalg.lstsq(np.column_stack(columns), courses.outcome, rcond=None)[0]
    return float(coefficients[1 : 1 + TIMES].sum())


def repeated(repetitions: int, intervals: int, resamples: int, *, kind: Kind, zepid: str | None) -> None:
    """Print bias and coverage (of the first `intervals` repetitions) of always against never by every method."""
    sides = [simulate_courses(TRUTH_PATIENTS, 1, kind, given) for given in (REGIMES["always"], REGIMES["never"])]
    truth = sides[0] - sides[1]
    found: dict[str, list[list[float]]] = {}
    drawn = [simulate_courses(REPEATED_PATIENTS, 100 + repetition, kind) for repetition in range(repetitions)]
    for repetition, courses in enumerate(drawn):
        draws = resamples if repetition < intervals else 1
        for method in METHODS:
            effect = regime_effects(courses, REGIMES, method=method, resamples=draws).contrasts[0].difference
            limits = [effect.low, effect.high] if draws > 1 or method == "doubly_robust" else [np.nan, np.nan]
            found.setdefault(method, []).append([effect.value, *limits])
        if kind != "survival":
            for name, adjusts in (("regression on treatments", False), ("regression with covariates", True)):
                found.setdefault(name, []).append([ordinary_regression(courses, covariates=adjusts)])
    if zepid and kind == "survival":
        found["zEpid IterativeCondGFormula"] = [[value] for value in by_zepid(drawn, zepid)]
    print(f"\nAlways against never, {kind} outcome, true difference {truth:+.4f} ({repetitions} repetitions)")
    _table({name: np.array(values, dtype=float) for name, values in found.items()}, truth)


def by_zepid(drawn: Sequence[Courses], python: str) -> list[float]:
    """Differences of risk by zEpid for the same rows."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, courses in enumerate(drawn):
            parts = (("L", courses.covariates[:, :, 0]), ("A", courses.treatment), ("Y", courses.outcome))
            columns = {f"{name}{t}": values[:, t] for name, values in parts for t in range(TIMES)}
            paths.append(str(Path(folder) / f"{number}.csv"))
            pl.DataFrame(columns).fill_nan(None).write_csv(paths[-1])
        done = subprocess.run([python, "-W", "ignore", "-c", ZEPID, *paths], check=True, capture_output=True, text=True)
    return [float(line) for line in done.stdout.split()]


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--intervals", type=int, help="repetitions with intervals (default: all); the others are quick")
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--part", type=int, choices=(1, 2), help="only this part")
    parser.add_argument("--outcome", choices=("continuous", "survival"), help="only this outcome of part 2")
    parser.add_argument("--zepid", help="python of an environment with zEpid")
    arguments = parser.parse_args()
    intervals = arguments.repetitions if arguments.intervals is None else arguments.intervals
    if arguments.part != 2:
        for log_ratio in (-0.4, 0.0):
            emulations(arguments.repetitions, intervals, arguments.resamples, log_ratio=log_ratio)
    if arguments.part != 1:
        for kind in (arguments.outcome,) if arguments.outcome else ("continuous", "survival"):
            repeated(arguments.repetitions, intervals, arguments.resamples, kind=kind, zepid=arguments.zepid)


if __name__ == "__main__":
    sys.exit(main())
