"""CAFA's figures against cafaeval on the same files, against hand-made cases and by their properties."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.evaluate.ontology_terms import (
    difference,
    evaluate_terms,
    fmax,
    information_accretion,
)

ROWS, TERMS = 60, 40


def made_case(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores and truth that hold along a random ontology (first column the root), and its edges (child, parent)."""
    generator = np.random.default_rng(seed)
    edges = [
        (child, parent)
        for child in range(1, TERMS)
        for parent in generator.choice(child, min(child, int(generator.integers(1, 3))), replace=False)
    ]
    truth = generator.random((ROWS, TERMS)) < 0.05
    truth[np.arange(ROWS), generator.integers(1, TERMS, ROWS)] = True
    scores = np.round(np.clip(0.4 * truth + 0.6 * generator.random((ROWS, TERMS)) - 0.2, 0, 1), 2)
    scores[:3] = 0  # rows that nothing is predicted for
    for child, parent in sorted(edges, reverse=True):
        truth[:, parent] |= truth[:, child]
        scores[:, parent] = np.maximum(scores[:, parent], scores[:, child])
    return scores, truth, np.array(edges)


def run_cafaeval(folder: Path, scores: np.ndarray, truth: np.ndarray, edges: np.ndarray, bits: np.ndarray):  # type: ignore[no-untyped-def]
    """The table of cafaeval and its best rows on the case written as files, without the root."""
    evaluation = pytest.importorskip("cafaeval.evaluation")
    stanzas = []
    for term in range(TERMS):
        above = "".join(f"is_a: GO:{parent:07d}\n" for child, parent in edges if child == term)
        stanzas.append(f"[Term]\nid: GO:{term:07d}\nname: t{term}\nnamespace: biological_process\n{above}")
    (folder / "go.obo").write_text("format-version: 1.2\n\n" + "\n".join(stanzas))
    (folder / "predictions").mkdir()
    shown = [f"p{i}\tGO:{j:07d}\t{scores[i, j]:.2f}" for i, j in zip(*np.nonzero(scores), strict=True)]
    (folder / "predictions" / "model.tsv").write_text("\n".join(shown))
    (folder / "truth.tsv").write_text("\n".join(f"p{i}\tGO:{j:07d}" for i, j in zip(*np.nonzero(truth), strict=True)))
    (folder / "ia.tsv").write_text("\n".join(f"GO:{j:07d}\t{value!r}" for j, value in enumerate(bits.tolist())))
    return evaluation.cafa_eval(
        str(folder / "go.obo"),
        str(folder / "predictions"),
        str(folder / "truth.tsv"),
        ia=str(folder / "ia.tsv"),
        no_orphans=True,
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_figure_and_curve_is_cafaevals(tmp_path: Path, seed: int) -> None:
    scores, truth, edges = made_case(seed)
    bits = information_accretion(made_case(seed + 100)[1], edges)
    table, best = run_cafaeval(tmp_path, scores, truth, edges, bits)
    found = evaluate_terms(scores[:, 1:], truth[:, 1:], information=bits[1:], resamples=20)
    curve, theirs = found.curve, table.reset_index()
    covered = curve.coverage > 0
    assert np.allclose(curve.thresholds[covered], theirs["tau"])
    for ours, name in {
        "precision": "pr", "recall": "rc", "f": "f", "coverage": "cov", "weighted_f": "f_w", "uncertainty": "ru_w",
        "misinformation": "mi_w", "s": "s_w", "micro_precision": "pr_micro", "micro_recall": "rc_micro",
        "weighted_precision": "pr_w", "weighted_recall": "rc_w",
    }.items():  # fmt: skip
        assert np.allclose(getattr(curve, ours)[covered], theirs[name], atol=1e-12), ours
    for figure, key in {"fmax": "f", "weighted_fmax": "f_w", "micro_fmax": "f_micro"}.items():
        assert found.figures[figure].value == pytest.approx(best[key][key].iloc[0], abs=1e-12)
    assert found.figures["smin"].value == pytest.approx(theirs["s_w"].min(), abs=1e-12)
    assert found.at["fmax"] == pytest.approx(best["f"].index[0][2])


def test_without_information_a_term_counts_one(tmp_path: Path) -> None:
    scores, truth, edges = made_case(5)
    _, best = run_cafaeval(tmp_path, scores, truth, edges, np.ones(TERMS))
    found = evaluate_terms(scores[:, 1:], truth[:, 1:], resamples=0)
    assert found.figures["smin"].value == pytest.approx(best["s"]["s"].iloc[0])
    assert found.figures["weighted_fmax"].value == found.figures["fmax"].value
    assert found.figures["fmax"].low is None
    assert found.figures["fmax"].reason


def test_figures_of_each_term_are_scikit_learns_on_terms_with_enough_rows() -> None:
    from sklearn.metrics import roc_auc_score

    scores, truth, _ = made_case(7)
    found = evaluate_terms(scores[:, 1:], truth[:, 1:], resamples=0)
    enough = [j for j in range(1, TERMS) if 10 <= truth[:, j].sum() <= ROWS - 10]
    assert found.terms_averaged == len(enough) > 0
    assert found.term_auroc == pytest.approx(np.mean([roc_auc_score(truth[:, j], scores[:, j]) for j in enough]))


def test_area_is_that_of_a_known_curve() -> None:
    # Four terms of one row, scored by falling certainty as true, false, true, false.
    scores = np.array([[0.8, 0.6, 0.4, 0.2]])
    truth = np.array([[True, False, True, False]])
    found = evaluate_terms(scores, truth, resamples=0)
    # Points (recall, precision) by falling threshold: (.5, 1), (.5, .5), (1, 2/3), (1, .5).
    assert found.figures["aupr"].value == pytest.approx(0.5 * (0.5 + 2 / 3) / 2)
    assert found.figures["fmax"].value == pytest.approx(0.8)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(st.integers(0, 10_000))
def test_perfect_scores_are_best_and_rows_may_come_in_any_order(seed: int) -> None:
    scores, truth, _ = made_case(seed)
    scores, truth = scores[:, 1:], truth[:, 1:]
    order = np.random.default_rng(seed).permutation(ROWS)
    assert fmax(scores[order], truth[order])[0] == pytest.approx(fmax(scores, truth)[0])
    assert fmax(truth.astype(float), truth)[0] == 1
    assert 0 <= fmax(scores, truth)[0] <= 1


def test_a_better_model_differs_by_a_paired_interval() -> None:
    scores, truth, _ = made_case(11)
    better = np.clip(scores + 0.3 * truth, 0, 1)
    first, second = (evaluate_terms(values[:, 1:], truth[:, 1:], resamples=200) for values in (better, scores))
    gain = difference(first, second)
    assert gain.low is not None
    assert gain.value is not None
    assert 0 < gain.low < gain.value
    same = difference(first, first)
    assert same.value == same.low == same.high == 0


def test_information_is_that_of_the_share_among_rows_with_the_parents() -> None:
    truth = np.array([[1, 1, 0, 1], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 0]], dtype=bool)
    bits = information_accretion(truth, np.array([[1, 0], [2, 0], [3, 1]]))
    assert bits.tolist() == [0, 1, 2, 1]


@pytest.mark.parametrize(
    ("scores", "truth", "match"),
    [
        (np.zeros((2, 3)), np.ones((2, 2), bool), "one shape"),
        (np.full((2, 2), 1.5), np.ones((2, 2), bool), "between 0 and 1"),
        (np.full((2, 2), np.nan), np.ones((2, 2), bool), "between 0 and 1"),
        (np.zeros((2, 2)), np.zeros((2, 2), bool), "have none"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(scores: np.ndarray, truth: np.ndarray, match: str) -> None:
    with pytest.raises(InputError, match=match):
        evaluate_terms(scores, truth)
