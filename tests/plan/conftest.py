"""Simulated trials and observational data whose true effects are known in closed form given the covariates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from careloop.features import FeatureMatrix

HORIZON = 365.0
OPTIONS = ("control", "drug")


@dataclass(frozen=True)
class Simulated:
    """Covariates, arms and both goals of n patients, with the truth: mean under each option in the population."""

    covariates: np.ndarray
    arm: np.ndarray
    propensity: np.ndarray  # true P(option)
    follow_up_days: np.ndarray
    event: np.ndarray
    measured: np.ndarray
    true_risk: np.ndarray
    true_mean: np.ndarray
    true_days: np.ndarray  # mean days free of any event until the horizon
    expected_risk: np.ndarray  # true risk of each patient under each option

    @property
    def subjects(self) -> np.ndarray:
        return np.arange(len(self.arm))

    def rows(self, *, held_out: int = 0) -> pl.DataFrame:
        n = len(self.arm)
        known = (self.event != 0) | (self.follow_up_days >= HORIZON)
        happened = (self.event == 1) & (self.follow_up_days <= HORIZON)
        return pl.DataFrame(
            {
                "subject_id": self.subjects,
                "prediction_time": pl.Series([datetime(2020, 1, 1, tzinfo=UTC)] * n, dtype=pl.Datetime("us", "UTC")),
                "split": ["held_out" if i < held_out else "train" if i % 4 else "tuning" for i in range(n)],
                "boolean_value": pl.Series([bool(h) if k else None for h, k in zip(happened, known, strict=True)]),
                "follow_up_days": self.follow_up_days,
                "event": self.event.astype(np.int8),
                "treatment": [OPTIONS[a] for a in self.arm],
                "measure_score": pl.Series(self.measured).fill_nan(None),
            },
            schema_overrides={"subject_id": pl.Int64},
        )

    def matrix(self) -> FeatureMatrix:
        names = tuple(f"LAB//{i}|all|last" for i in range(self.covariates.shape[1]))
        return FeatureMatrix(self.rows().select("subject_id", "prediction_time"), names, self.covariates)


def _rates(x: np.ndarray, interaction: float) -> tuple[np.ndarray, np.ndarray]:
    """Daily hazards of the outcome under each option (n, 2), and of the competing event (n,)."""
    base = 0.0012 * np.exp(0.7 * x[:, 0] + 0.4 * x[:, 1])
    effect = np.exp(-0.5 + interaction * x[:, 2])
    return np.column_stack([base, base * effect]), 0.0004 * np.exp(0.3 * x[:, 1])


def _risk(x: np.ndarray, interaction: float) -> np.ndarray:
    outcome, competing = _rates(x, interaction)
    total = outcome + competing[:, None]
    return outcome / total * (1 - np.exp(-total * HORIZON))


def _days(x: np.ndarray, interaction: float) -> np.ndarray:
    outcome, competing = _rates(x, interaction)
    total = outcome + competing[:, None]
    return (1 - np.exp(-total * HORIZON)) / total


def _mean(x: np.ndarray, interaction: float) -> np.ndarray:
    base = 10 * x[:, 0] + 5 * x[:, 1]
    return np.column_stack([base, base + 8 - 20 * interaction * x[:, 2]])


@pytest.fixture(scope="session")
def simulate() -> Callable[..., Simulated]:
    """Make n patients; `confounding` is the log odds of the drug per unit of x0, `interaction` scales x2's effect."""

    def make(n: int, seed: int, *, confounding: float = 0.0, interaction: float = 0.0) -> Simulated:
        random = np.random.default_rng(seed)
        x = random.normal(size=(n, 4))
        drug = 1 / (1 + np.exp(-confounding * x[:, 0]))
        arm = (random.random(n) < drug).astype(int)
        rate, competing_rate = _rates(x, interaction)
        time = random.exponential(1 / rate[np.arange(n), arm])
        competing = random.exponential(1 / competing_rate)
        censoring = random.uniform(60, np.where(arm == 1, 900, 700))
        follow_up = np.minimum(np.minimum(time, competing), censoring)
        event = np.where(censoring <= follow_up, 0, np.where(time <= competing, 1, 2))
        measured = _mean(x, interaction)[np.arange(n), arm] + random.normal(scale=10, size=n)
        measured[random.random(n) < 1 / (1 + np.exp(2 - x[:, 0]))] = np.nan
        population = np.random.default_rng(0).normal(size=(200_000, 4))
        return Simulated(
            covariates=x,
            arm=arm,
            propensity=np.column_stack([1 - drug, drug]),
            follow_up_days=np.ceil(follow_up),
            event=event,
            measured=measured,
            true_risk=_risk(population, interaction).mean(axis=0),
            true_mean=_mean(population, interaction).mean(axis=0),
            true_days=_days(population, interaction).mean(axis=0),
            expected_risk=_risk(x, interaction),
        )

    return make
