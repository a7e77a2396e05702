"""The bootstrap by subject: what is drawn, when an interval is refused, and how often intervals cover the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from careloop.evaluate import Estimate, Outcomes, to_json
from careloop.evaluate import estimate as module
from careloop.evaluate.censoring import HorizonWeights
from careloop.evaluate.discrimination import DiscriminationStatistic
from careloop.evaluate.estimate import Band, Support, draw_counts, estimate, replicate


def test_whole_subjects_are_drawn() -> None:
    subject = np.array([7, 3, 7, 5, 3, 3])
    counts = np.vstack(list(draw_counts(subject, resamples=50, seed=1)))
    assert counts.shape == (51, 6)
    assert (counts[0] == 1).all()
    assert (counts[:, 0] == counts[:, 2]).all()
    assert (counts[:, [1, 1]] == counts[:, [4, 5]]).all()
    assert (counts[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert len(np.unique(counts[1:], axis=0)) > 5


def test_draws_do_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = np.arange(40)
    whole = np.vstack(list(draw_counts(subject, resamples=30, seed=2)))
    monkeypatch.setattr(module, "BLOCK_SIZE", 7 * 40)
    blocks = list(draw_counts(subject, resamples=30, seed=2))
    assert len(blocks) == 5
    assert (np.vstack(blocks) == whole).all()


def test_a_resample_is_the_rows_copied(simulated) -> None:
    probability, _, seen = simulated
    counts = np.vstack(list(draw_counts(seen.subject_id, resamples=3, seed=5)))
    statistic = {"d": DiscriminationStatistic.of(probability, seen, threshold=0.4)}
    found = replicate(seen, statistic, resamples=3, seed=5)["d"]
    again = np.repeat(np.arange(len(seen)), counts[2].astype(int))
    copied = seen.take(again)
    ones = np.ones((1, len(again)))
    statistic_of_copies = DiscriminationStatistic.of(probability[again], copied, threshold=0.4)
    direct = statistic_of_copies(ones, HorizonWeights.of(copied)(ones))
    for name, value in direct.items():
        assert found[name][2] == pytest.approx(value[0], rel=1e-10), name


def test_interval_is_the_percentiles() -> None:
    support = Support(100, 100, 50, 0, 50, 0, 50, 50, 50)
    assert estimate(np.concatenate([[0.3], np.arange(101)]), support) == Estimate(0.3, 2.5, 97.5)


@pytest.mark.parametrize(
    ("values", "support", "reason"),
    [
        ([0.3, 0.2, 0.4], Support(30, 30, 9, 0, 21, 0, 21, 9, 21), "9 subjects with and 21 without the event"),
        ([0.3, np.nan, 0.4], Support(30, 30, 15, 0, 15, 0, 15, 15, 15), "not defined in 50% of the resamples"),
        ([np.nan, 0.2, 0.4], Support(30, 30, 0, 0, 30, 0, 30, 0, 30), "not defined: 0 rows with and 30 without"),
        ([np.nan, 0.2, 0.4], Support(30, 30, 10, 0, 0, 20, 0, 10, 0), "nobody is followed to the horizon"),
    ],
)
def test_what_cannot_be_given_has_a_reason(values: list[float], support: Support, reason: str) -> None:
    result = estimate(np.array(values), support)
    assert result.low is None
    assert result.high is None
    assert (result.value is None) == math.isnan(values[0])
    assert reason in str(result.reason)


def test_support_counts_rows_and_subjects() -> None:
    outcomes = Outcomes(
        np.array([1, 1, 2, 3, 4]), np.array([1.0, 2, 3, 4, 9]), np.array([1, 1, 0, 2, 0]), horizon_days=5.0
    )
    rows = {"n": 5, "subjects": 4, "events": 2, "competing": 1, "event_free": 2, "censored": 1, "followed": 1}
    assert Support.of(outcomes) == Support(**rows, event_subjects=1, event_free_subjects=2)


def test_json_is_plain_and_refuses_nan() -> None:
    band = Band((0.0,), (None,), (None,), (np.float64(1 / 3),))
    assert to_json({"a": band, 1: np.arange(2)}) == {
        "a": {"x": [0.0], "value": [None], "low": [None], "high": [1 / 3]},
        "1": [0, 1],
    }
    with pytest.raises(ValueError, match="NaN"):
        to_json(Estimate(float("nan")))


def covered(simulate, truth: float, figure: str, studies: int = 200) -> float:
    """Share of simulated studies whose interval holds the truth."""
    hits = 0
    for study in range(studies):
        probability, outcomes = simulate(np.random.default_rng(study))
        statistic = {"d": DiscriminationStatistic.of(probability, outcomes, threshold=0.5)}
        found = replicate(outcomes, statistic, resamples=200, seed=study)["d"]
        result = estimate(found[figure], Support.of(outcomes))
        assert result.low is not None
        assert result.high is not None
        hits += result.low <= truth <= result.high
    return hits / studies


def test_interval_of_auroc_covers_the_truth_under_censoring() -> None:
    """Binormal scores one standard deviation apart: AUROC = Phi(1 / sqrt(2)). Two thirds are censored, at random."""

    def simulate(generator: np.random.Generator) -> tuple[np.ndarray, Outcomes]:
        label = generator.random(300) < 0.4
        score = generator.normal(size=300) + label
        days, end = np.where(label, generator.uniform(0, 5, 300), 10.0), generator.uniform(0, 7, 300)
        event = np.where(days <= end, 1, 0) * label
        return 1 / (1 + np.exp(-score)), Outcomes(np.arange(300), np.minimum(days, end), event, 5.0)

    assert 0.91 <= covered(simulate, 0.5 * (1 + math.erf(0.5)), "auroc") <= 0.985


def test_interval_of_prevalence_covers_the_truth_with_repeated_rows() -> None:
    """Ten rows of each subject share one fate: an interval by row would be three times too narrow."""

    def simulate(generator: np.random.Generator) -> tuple[np.ndarray, Outcomes]:
        label = np.repeat(generator.random(60) < 0.4, 10)
        return np.full(600, 0.5), Outcomes(np.repeat(np.arange(60), 10), np.where(label, 1.0, 9.0), label * 1, 5.0)

    assert 0.90 <= covered(simulate, 0.4, "prevalence") <= 0.985
