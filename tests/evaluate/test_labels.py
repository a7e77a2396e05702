"""Many labels at once: scikit-learn's figures, a study's figures of one outcome, and recall written out."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from careloop import InputError
from careloop.evaluate import Outcomes, Predictions, Threshold, compare, evaluate_all, to_json
from careloop.evaluate.labels import LabelOutcomes, evaluate_labels, highest

AVERAGE = {"auroc": roc_auc_score, "auprc": average_precision_score}
NAMES = tuple(f"label {place}" for place in range(7))


def simulated(rows: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Subjects with two rows each, true probabilities (n, 7), and labels drawn of them."""
    random = np.random.default_rng(seed)
    p = 1 / (1 + np.exp(2 - np.linspace(0, 2, 7) - random.normal(size=(rows, 7))))
    return np.arange(rows) // 2, p, (random.random(p.shape) < p).astype(float)


def test_figures_and_averages_are_scikit_learn_s() -> None:
    subject, p, y = simulated()
    p = p.round(2)  # ties
    found = evaluate_labels({"m": p}, LabelOutcomes.of_values(NAMES, subject, y), resamples=20).models["m"]
    for place, label in enumerate(found.labels):
        column = y[:, place], p[:, place]
        assert label.figures["auroc"].value == pytest.approx(roc_auc_score(*column))
        assert label.figures["auprc"].value == pytest.approx(average_precision_score(*column))
        assert label.figures["brier"].value == pytest.approx(brier_score_loss(*column))
        assert label.figures["prevalence"].value == pytest.approx(column[0].mean())
    for kind in ("macro", "weighted", "micro"):
        for figure, score in AVERAGE.items():
            assert found.averages[kind][figure].value == pytest.approx(score(y, p, average=kind))
    assert found.averages["micro"]["brier"].value == pytest.approx(((p - y) ** 2).mean())


def test_unknown_labels_do_not_count() -> None:
    subject, p, y = simulated()
    y[np.random.default_rng(1).random(y.shape) < 0.3] = np.nan
    found = evaluate_labels({"m": p}, LabelOutcomes.of_values(NAMES, subject, y), resamples=20).models["m"]
    scores = []
    for place, label in enumerate(found.labels):
        known = ~np.isnan(y[:, place])
        scores.append(roc_auc_score(y[known, place], p[known, place]))
        assert label.figures["auroc"].value == pytest.approx(scores[-1])
        assert label.rows.n == known.sum()
    known = ~np.isnan(y)
    assert found.averages["macro"]["auroc"].value == pytest.approx(np.mean(scores))
    assert found.averages["micro"]["auroc"].value == pytest.approx(roc_auc_score(y[known], p[known]))


def censored(seed: int = 3) -> tuple[np.ndarray, LabelOutcomes]:
    subject, p, _ = simulated(seed=seed)
    random = np.random.default_rng(seed)
    happens = random.exponential(-30 / np.log1p(-p.clip(0.01, 0.9)))
    competes, stops = random.exponential(120, (400, 1)), random.exponential(60, (400, 1))
    days = np.minimum(happens, np.minimum(competes, stops))
    event = np.where(days == happens, 1, np.where(days == competes, 2, 0)).astype(np.int8)
    return p, LabelOutcomes(NAMES, subject, event, days, random.random(p.shape) > 0.2, 30.0)


def test_a_label_under_censoring_is_evaluated_as_a_study_s_outcome_is() -> None:
    p, outcomes = censored()
    outcomes = LabelOutcomes(NAMES, outcomes.subject_id, outcomes.event, outcomes.follow_up_days,
                             np.ones_like(outcomes.at_risk), 30.0)  # fmt: skip
    found = evaluate_labels({"m": p}, outcomes, resamples=100, seed=5)
    for place in (0, 3):
        one = Outcomes(outcomes.subject_id, outcomes.follow_up_days[:, place], outcomes.event[:, place], 30.0)
        alone = evaluate_all({"m": Predictions(p[:, place], Threshold(0.5, "given"))}, one, resamples=100, seed=5)
        for figure in ("auroc", "auprc", "brier", "prevalence"):
            expected, label = alone.models["m"].figures[figure], found.models["m"].labels[place].figures[figure]
            assert (label.value, label.low, label.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_a_single_label_s_averages_and_paired_differences_are_its_own() -> None:
    p, outcomes = censored()
    single = LabelOutcomes(("a",), outcomes.subject_id, outcomes.event[:, :1], outcomes.follow_up_days[:, :1],
                           np.ones((400, 1), dtype=bool), 30.0)  # fmt: skip
    both = {"m": p[:, :1], "worse": p[:, :1] ** 3 / 2}
    paired = evaluate_labels(both, single, resamples=100, seed=5).comparisons[0].averages
    one = Outcomes(outcomes.subject_id, outcomes.follow_up_days[:, 0], outcomes.event[:, 0], 30.0)
    pair = (values[:, 0] for values in both.values())
    expected = compare(*pair, one, threshold=Threshold(0.5, "given"), resamples=100, seed=5).differences["brier"]
    for kind in ("macro", "weighted", "micro"):  # of one label all are the same
        found_brier = paired[kind]["brier"]
        assert (found_brier.value, found_brier.low, found_brier.high) == pytest.approx(
            (expected.value, expected.low, expected.high)
        )


def test_recall_at_k_written_out() -> None:
    subject, p, y = simulated(rows=60)
    at_risk = np.random.default_rng(2).random(y.shape) > 0.2
    y[~at_risk] = np.nan
    found = evaluate_labels({"m": p}, LabelOutcomes.of_values(NAMES, subject, y), resamples=20)
    events = hits = 0
    for row in range(60):
        order = sorted((-p[row, j], j) for j in range(7) if at_risk[row, j])
        best = {j for _, j in order[:5]}
        events += int(np.nansum(y[row]))
        hits += sum(y[row, j] == 1 for j in best)
    assert found.models["m"].averages["recall_at"]["5"].value == pytest.approx(hits / events)
    assert list(found.models["m"].averages["recall_at"]) == ["5"]  # there are only 7 labels
    assert (highest(p, at_risk, 5).sum(axis=1) == np.minimum(at_risk.sum(axis=1), 5)).all()


def test_recall_under_censoring_is_that_of_everybody_followed() -> None:
    """Simulated with known truth: the weighted figures of half-censored rows are those without censoring."""
    subject, p, y = simulated(rows=20_000, seed=8)
    whole = evaluate_labels({"m": p}, LabelOutcomes.of_values(NAMES, subject, y), resamples=20).models["m"].averages
    random = np.random.default_rng(9)
    happens = np.where(y == 1, random.uniform(0, 30, y.shape), np.inf)
    stops = np.broadcast_to(random.uniform(0, 60, (len(y), 1)), y.shape)
    days = np.minimum(happens, np.minimum(stops, 30.0))
    event = np.where(happens <= np.minimum(stops, 30), 1, 0).astype(np.int8)
    outcomes = LabelOutcomes(NAMES, subject, event, days, np.ones_like(y, dtype=bool), 30.0)
    found = evaluate_labels({"m": p}, outcomes, resamples=20).models["m"].averages
    for kind, figure in (("recall_at", "5"), ("micro", "auroc"), ("macro", "brier"), ("weighted", "auprc")):
        assert found[kind][figure].value == pytest.approx(whole[kind][figure].value, abs=0.01)


def test_labels_with_too_few_events_are_shown_as_such() -> None:
    subject, p, y = simulated()
    y[:, 1] = 0
    y[:12, 1] = 1  # of six subjects
    y[:, 2] = np.nan
    found = evaluate_labels({"m": p}, LabelOutcomes.of_values(NAMES, subject, y), resamples=50)
    assert found.too_few == ("label 1", "label 2")
    rare, none = found.models["m"].labels[1:3]
    assert rare.figures["auroc"].value == pytest.approx(roc_auc_score(y[:, 1], p[:, 1]))
    assert rare.figures["auroc"].low is None
    assert "6 subjects with" in str(rare.figures["auroc"].reason)
    assert none.figures["auroc"].value is None
    rest = [0, 3, 4, 5, 6]
    assert found.models["m"].averages["macro"]["auroc"].value == pytest.approx(roc_auc_score(y[:, rest], p[:, rest]))
    assert found.models["m"].averages["micro"]["auroc"].value == pytest.approx(
        roc_auc_score(y[:, [0, 1, *rest[1:]]].ravel(), p[:, [0, 1, *rest[1:]]].ravel())
    )
    to_json(found)
    few = evaluate_labels({"m": p[:, 1:3]}, LabelOutcomes.of_values(NAMES[1:3], subject, y[:, 1:3]), resamples=50)
    assert few.models["m"].averages["macro"]["auroc"].value is None
    assert "no label has 10 subjects" in str(few.models["m"].averages["macro"]["auroc"].reason)


def test_intervals_of_averages_hold_the_truth() -> None:
    """Simulated: over 60 data sets of independent subjects, the 95 % interval of the macro AUROC covers its mean."""
    values, held = [], []
    for seed in range(60):
        _, p, y = simulated(rows=200, seed=100 + seed)
        found = evaluate_labels({"m": p}, LabelOutcomes.of_values(NAMES, np.arange(200), y), resamples=100)
        values.append(found.models["m"].averages["macro"]["auroc"])
    truth = np.mean([one.value for one in values])
    held = [one.low <= truth <= one.high for one in values]
    assert np.mean(held) >= 0.85  # 95 % of 60 lies above it with a probability of 99.9 %


def test_resamples_do_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    p, outcomes = censored()
    whole = to_json(evaluate_labels({"m": p}, outcomes, resamples=30))
    monkeypatch.setattr("careloop.evaluate.labels.BLOCK_SIZE", 1)
    parts = to_json(evaluate_labels({"m": p}, outcomes, resamples=30))
    for kind, figures in whole["models"]["m"]["averages"].items():
        for name, one in figures.items():
            assert parts["models"]["m"]["averages"][kind][name]["high"] == pytest.approx(one["high"])


def test_what_does_not_fit_is_refused() -> None:
    subject, p, y = simulated()
    outcomes = LabelOutcomes.of_values(NAMES, subject, y)
    with pytest.raises(InputError, match=r"model 'm': probabilities must have shape \(400, 7\)"):
        evaluate_labels({"m": p[:, :3]}, outcomes)
    with pytest.raises(InputError, match="must lie between 0 and 1; 1 do not"):
        evaluate_labels({"m": np.where(np.arange(p.size).reshape(p.shape) == 5, np.nan, p)}, outcomes)
    with pytest.raises(InputError, match="names that all differ"):
        LabelOutcomes.of_values(["a"] * 7, subject, y)
    with pytest.raises(InputError, match="at_risk must have shape"):
        LabelOutcomes(NAMES, subject, outcomes.event, outcomes.follow_up_days, np.ones(400, dtype=bool), 1.0)
