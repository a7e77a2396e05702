"""Label sets: thresholds against closed forms, coverage in simulations with known truth, and figures by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.evaluate import LabelSets, Outcomes
from careloop.evaluate.conformal import (
    EVERY_LABEL,
    adaptive,
    binary,
    conformal_quantile,
    conformal_thresholds,
    coverage,
    least_ambiguous,
)


def expit(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def simulated(random: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Simulated: a badly calibrated risk, labels, and two groups in which the model errs differently."""
    score, group = random.normal(size=n), random.integers(0, 2, n)
    label = (random.random(n) < expit(score - 1.5 + 1.2 * group)).astype(int)
    return expit(2 * score), label, group


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.sampled_from([0.5, 0.8, 0.9, 0.95]))
def test_the_quantile_is_the_order_statistic_of_n_plus_1(seed: int, n: int, level: float) -> None:
    scores = np.random.default_rng(seed).random(n)
    place = int(np.ceil(np.round((n + 1) * level, 9)))
    expected = np.sort(scores)[place - 1] if place <= n else np.inf
    assert conformal_quantile(scores, level) == expected
    assert conformal_quantile(scores, level, np.full(n, 3.7)) == expected  # equal weights, whatever their size


def test_weights_are_a_quantile_of_the_weighted_scores() -> None:
    scores, weight = np.array([0.1, 0.2, 0.3, 0.4]), np.array([1.0, 1.0, 1.0, 5.0])
    # Effective rows 64 / 28 = 2.29; with the new row 3.29; half of it, 1.64, is reached only by the last score.
    assert conformal_quantile(scores, 0.5, weight) == 0.4
    assert conformal_quantile(scores, 0.25, weight) == 0.3  # 0.82 of 0.29, 0.57, 0.86
    assert conformal_quantile(scores, 0.9, weight) == np.inf


def test_coverage_equals_the_expected_order_statistic() -> None:
    """Exchangeable rows: mean coverage of n = 50 calibration rows is ceil(0.9 * 51) / 51, to Monte Carlo error."""
    random = np.random.default_rng(1)
    held = []
    for _ in range(400):
        risk, label, _ = simulated(random, 250)
        scores = least_ambiguous(binary(risk))
        found = conformal_thresholds(scores[:50], label[:50], level=0.9, condition="none").sets(scores[50:])
        held.append(found.member[np.arange(200), label[50:]].mean())
    error = np.std(held) / np.sqrt(len(held))
    assert np.mean(held) == pytest.approx(46 / 51, abs=3 * error)
    assert error < 0.003


def test_promises_by_label_and_group_hold_within_each() -> None:
    random = np.random.default_rng(2)
    cells: dict[tuple[int, int], list[float]] = {}
    plain: dict[tuple[int, int], list[float]] = {}
    for _ in range(100):
        risk, label, group = simulated(random, 1500)
        scores, names = least_ambiguous(binary(risk)), [(str(g),) for g in group]
        own = conformal_thresholds(scores[:500], label[:500], level=0.8, groups=names[:500])
        overall = conformal_thresholds(scores[:500], label[:500], level=0.8, condition="none")
        for found, sets in ((cells, own.sets(scores[500:], names[500:])), (plain, overall.sets(scores[500:]))):
            held = sets.member[np.arange(1000), label[500:]]
            for cell in ((0, 0), (0, 1), (1, 0), (1, 1)):
                rows = (label[500:] == cell[0]) & (group[500:] == cell[1])
                found.setdefault(cell, []).append(held[rows].mean())
    means = {cell: float(np.mean(values)) for cell, values in cells.items()}
    assert all(0.79 < mean < 0.82 for mean in means.values()), means
    assert max(abs(np.mean(values) - 0.8) for values in plain.values()) > 0.05  # which one threshold does not give


def test_censoring_weights_restore_coverage() -> None:
    """Rows with the outcome are seen early or late; those seen late are often censored and have other scores."""
    random = np.random.default_rng(3)
    held, naive = [], []
    for _ in range(200):
        late = random.random(1200) < 0.5
        score = np.where(late, random.uniform(0.5, 1, 1200), random.uniform(0, 0.5, 1200))
        seen = random.random(1200) < np.where(late, 0.2, 1.0)
        weight = np.where(seen, np.where(late, 5.0, 1.0), 0.0)[:600]
        kept = weight > 0
        held.append((score[600:] <= conformal_quantile(score[:600][kept], 0.9, weight[kept])).mean())
        naive.append((score[600:] <= conformal_quantile(score[:600][kept], 0.9)).mean())
    assert np.mean(held) == pytest.approx(0.9, abs=0.01)
    assert np.mean(naive) < 0.85


def test_a_group_with_too_few_of_a_label_is_cautious() -> None:
    """At level 0.8 a quantile needs 4 rows of a label. Of label 1: a has 12 rows, b 28; x none, y 40, z 2."""
    scores = np.column_stack([np.linspace(0, 0.5, 62), np.linspace(1, 0.5, 62)])
    label = (np.arange(62) >= 20).astype(int)
    groups = [("a", "x")] * 20 + [("a", "y")] * 12 + [("b", "y")] * 28 + [("b", "z")] * 2
    found = conformal_thresholds(scores, label, level=0.8, groups=groups)
    quantile = conformal_quantile(scores[20:32, 1], 0.8)
    assert found.groups["a", "y"][1] == quantile
    assert found.groups["a", "x"][1] == found.groups["b", "z"][1] == EVERY_LABEL  # x and z alone are too few, too
    assert found.groups["a", "y"][0] == EVERY_LABEL  # y has nobody without the outcome
    one = conformal_thresholds(scores, label, level=0.8, groups=[g[:1] for g in groups])
    assert one.groups["a",][1] == quantile
    # Two variables whose groups have enough each, and a combination that has not: the more cautious of the two.
    groups = [("a", "x")] * 20 + [("a", "y")] * 20 + [("b", "x")] * 20 + [("b", "y")] * 2
    found = conformal_thresholds(scores, np.ones(62, dtype=int), level=0.8, groups=groups)
    singly = [conformal_quantile(scores[rows, 1], 0.8) for rows in (slice(40, 62), np.r_[20:40, 60:62])]
    assert found.groups["b", "y"][1] == max(singly)
    np.testing.assert_array_equal(found.sets(scores[:1], [("c", "z")]).member, found.sets(scores[:1]).member)


def test_three_labels_are_covered_and_adaptive_sets_are_larger_where_it_is_hard() -> None:
    random = np.random.default_rng(4)
    logits = random.normal(size=(6000, 3)) * np.where(random.random(6000) < 0.5, 0.3, 3.0)[:, None]
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    label = (random.random(6000)[:, None] > np.cumsum(probability, axis=1)).sum(axis=1)
    uniform = random.random(6000)
    for scores in (least_ambiguous(probability), adaptive(probability, uniform)):
        found = conformal_thresholds(scores[:3000], label[:3000], level=0.9, condition="none").sets(scores[3000:])
        held = found.member[np.arange(3000), label[3000:]]
        assert held.mean() == pytest.approx(0.9, abs=0.02)
        size = found.member.sum(axis=1)
        hard = probability[3000:].max(axis=1) < 0.5
        assert size[hard].mean() > size[~hard].mean() + 0.5
    by_hand = adaptive(np.array([[0.2, 0.5, 0.3]]))
    np.testing.assert_allclose(by_hand, [[1.0, 0.5, 0.8]])
    np.testing.assert_allclose(adaptive(np.array([[0.2, 0.5, 0.3]]), np.array([1.0])), [[0.8, 0.0, 0.5]])


def test_figures_by_hand(binary_outcomes: Outcomes) -> None:
    # Labels 1 1 1 0 0 0; sets: both, outcome, none, no outcome, both, outcome.
    member = np.array([[1, 1], [0, 1], [0, 0], [1, 0], [1, 1], [0, 1]], dtype=bool)
    groups = {"sex": np.array(["f", "m", "f", "m", "f", "m"])}
    found = coverage(LabelSets(0.9, member), binary_outcomes, groups, resamples=100)
    expected = {
        "coverage": 4 / 6, "coverage_event": 2 / 3, "coverage_event_free": 2 / 3, "mean_size": 7 / 6,
        "single": 3 / 6, "empty": 1 / 6, "several": 2 / 6,
    }  # fmt: skip
    assert {name: figure.value for name, figure in found.figures.items()} == pytest.approx(expected)
    assert [(s.variable, s.group, s.rows.n) for s in found.subgroups] == [("sex", "f", 3), ("sex", "m", 3)]
    assert found.subgroups[0].figures["coverage"].value == pytest.approx(2 / 3)
    assert found.figures["coverage"].low is None
    assert "3 subjects with" in found.figures["coverage"].reason


def test_figures_of_censored_rows_are_those_of_all(simulated: tuple[np.ndarray, Outcomes, Outcomes]) -> None:
    """Simulated follow-up, fully observed and heavily censored: one coverage, and the interval holds it."""
    probability, full, seen = simulated
    sets = LabelSets(0.9, np.column_stack([probability < 0.6, probability > 0.25]))
    truth = coverage(sets, full, {}, resamples=100)
    found = coverage(sets, seen, {}, resamples=200)
    for name in ("coverage", "coverage_event", "coverage_event_free"):
        figure = found.figures[name]
        assert figure.low < truth.figures[name].value < figure.high, name
    assert found.figures["mean_size"].value == truth.figures["mean_size"].value
    known = seen.known
    naive = sets.member[np.arange(len(seen)), seen.label.astype(int)][known].mean()
    assert abs(naive - truth.figures["coverage"].value) > 0.01


@pytest.fixture
def binary_outcomes() -> Outcomes:
    return Outcomes(np.arange(6), np.array([1.0, 2, 3, 9, 9, 9]), np.array([1, 1, 1, 0, 0, 0]), 5.0)


def test_wrong_shapes_and_levels_are_refused(binary_outcomes: Outcomes) -> None:
    scores = np.ones((3, 2))
    for arguments in ((scores, np.zeros(2), 0.9), (scores[0], np.zeros(2), 0.9), (scores, np.zeros(3), 1.0)):
        with pytest.raises(InputError, match=r"conformal sets need scores \(n, k\)"):
            conformal_thresholds(arguments[0], arguments[1], level=arguments[2])
    with pytest.raises(InputError, match=r"sets must be \(rows, 2\)"):
        coverage(LabelSets(0.9, np.ones((5, 2), dtype=bool)), binary_outcomes, {})
