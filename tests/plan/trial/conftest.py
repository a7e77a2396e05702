"""Simulated patients whose severity decides when they start a drug that eases it; intervening gives the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from careloop.plan.trial.definition import TrialSection
from careloop.plan.trial.emulate import Grid, TrialData

DAYS, INTERVALS, GRACE_INTERVALS = 30.0, 6, 2
HORIZON = DAYS * INTERVALS


@dataclass(frozen=True)
class Simulated:
    """Follow-up (n,), event (n,), start (n,), and severity (n, K) at each interval's start, NaN once not followed."""

    follow_up_days: np.ndarray
    event: np.ndarray
    start: np.ndarray
    severity: np.ndarray

    def risk(self) -> float:
        return float(((self.event == 1) & (self.follow_up_days <= HORIZON)).mean())

    def data(self) -> TrialData:
        row, interval = np.nonzero(np.isfinite(self.severity))
        n = len(self.event)
        return TrialData(
            subjects=np.arange(n),
            follow_up_days=self.follow_up_days,
            event=self.event,
            days={"DRUG": self.start},
            stops={},
            grid=Grid.of(DAYS, HORIZON),
            row=row,
            interval=interval,
            values=self.severity[row, interval][:, None],
            names=("severity",),
            eligible=n,
            prevalent=0,
        )


@pytest.fixture(scope="session")
def simulate() -> Callable[..., Simulated]:
    """Make n patients; `follow` makes all of them never start, or start within the grace period."""

    def make(n: int, seed: int, *, follow: str = "nature", log_ratio: float = -0.6) -> Simulated:
        random = np.random.default_rng(seed)
        severity = random.normal(size=n)
        alive, follow_up, event = np.ones(n, dtype=bool), np.full(n, HORIZON + 20), np.zeros(n, dtype=int)
        start, seen = np.full(n, np.inf), np.full((n, INTERVALS), np.nan)
        for k in range(INTERVALS):
            seen[alive, k] = severity[alive]
            begun, starting = start <= k * DAYS, np.logaddexp(0, -1.4 + 0.9 * severity)
            wait = random.exponential(size=n) / starting
            if follow == "start" and k == GRACE_INTERVALS - 1:
                wait = -np.log1p(random.random(n) * np.expm1(-starting)) / starting
            wait = np.where(begun | (follow == "never"), np.inf, wait)
            untreated = np.exp(-3.0 + 0.9 * severity)
            burden, before = random.exponential(size=n), np.where(begun, 0.0, np.minimum(wait, 1.0))
            late = before + (burden - untreated * before) / (untreated * np.exp(log_ratio))
            outcome = np.where(burden < untreated * before, burden / untreated, late)
            lost = random.exponential(size=n) * (30.0 if follow == "nature" else np.inf)
            competing = random.exponential(size=n) * 200.0
            end = np.minimum(np.minimum(outcome, lost), competing)
            starts = alive & ~begun & (wait <= np.minimum(end, 1.0))
            start[starts] = (k + wait[starts]) * DAYS
            done = alive & (end <= 1.0)
            follow_up[done] = (k + end[done]) * DAYS
            event[done] = np.select([outcome[done] == end[done], competing[done] == end[done]], [1, 2], 0)
            alive &= ~done
            severity = 0.7 * severity + random.normal(scale=0.7, size=n) - 0.4 * (start <= (k + 1) * DAYS)
        return Simulated(follow_up, event, start, seen)

    return make


@pytest.fixture(scope="session")
def section() -> TrialSection:
    """Start within 60 days against never."""
    strategies = {"never": {"never": "DRUG"}, "start": {"start": "DRUG", "within_days": DAYS * GRACE_INTERVALS}}
    return TrialSection.model_validate({"strategies": strategies, "resamples": 60})
