"""Alignments against the recursion written out cell by cell, and against DIAMOND's scores."""

from __future__ import annotations

import numpy as np
import pytest

from careloop.genome.function.proteins import AMINO_ACIDS
from careloop.genome.function.search.diamond import diamond_path
from careloop.genome.function.search.smith_waterman import (
    GAP_EXTEND,
    GAP_OPEN,
    SUBSTITUTION,
    align,
    best_scores,
    bit_scores,
    encoded,
    evalues,
    local_correction,
)


def plain_score(query: np.ndarray, target: np.ndarray, correction: np.ndarray) -> int:
    """Gotoh's recursion, one cell after the other."""
    rows, columns = len(query) + 1, len(target) + 1
    best = np.zeros((rows, columns), dtype=int)
    down, along = np.full((rows, columns), -9999), np.full((rows, columns), -9999)
    for i in range(1, rows):
        for j in range(1, columns):
            down[i, j] = max(best[i - 1, j] - GAP_OPEN, down[i - 1, j] - GAP_EXTEND)
            along[i, j] = max(best[i, j - 1] - GAP_OPEN, along[i, j - 1] - GAP_EXTEND)
            match = int(SUBSTITUTION[query[i - 1], target[j - 1]]) + int(correction[i - 1])
            best[i, j] = max(0, best[i - 1, j - 1] + match, down[i, j], along[i, j])
    return int(best.max())


def made_pair(generator: np.random.Generator) -> tuple[str, str]:
    """A sequence, and one like it with residues changed, left out and put in."""
    query = "".join(generator.choice(list(AMINO_ACIDS), int(generator.integers(20, 45))))
    cut = int(generator.integers(5, len(query) - 8))
    inserted = "".join(generator.choice(list(AMINO_ACIDS), int(generator.integers(0, 6))))
    target = query[2:cut] + inserted + query[cut + int(generator.integers(0, 5)) :]
    letters = np.array(list(target))
    changed = generator.random(len(letters)) < 0.2
    letters[changed] = generator.choice(list(AMINO_ACIDS), changed.sum())
    return query, "".join(letters)


@pytest.mark.parametrize("seed", range(6))
def test_scores_are_those_of_the_recursion_and_spans_spell_them(seed: int) -> None:
    generator = np.random.default_rng(seed)
    query = made_pair(generator)[0]
    targets = [made_pair(generator)[1] for _ in range(3)]
    generator = np.random.default_rng(seed)
    query, first = made_pair(generator)
    targets.append(first)
    codes, encoded_targets = encoded(query), [encoded(target) for target in targets]
    correction = local_correction(codes) if seed % 2 else np.zeros(len(query), dtype=np.int16)
    found = align(codes, encoded_targets, correction)
    wanted = [plain_score(codes, target, correction) for target in encoded_targets]
    assert found.score.tolist() == wanted == best_scores(codes, encoded_targets, correction).tolist()
    for place, target in enumerate(targets):
        (start, end), (low, high) = found.query_span[place], found.target_span[place]
        part = align(codes[start:end], [encoded(target[low:high])], correction[start:end])
        assert part.score[0] == found.score[place]
        assert max(end - start, high - low) <= found.columns[place] <= (end - start) + (high - low)
        assert 0 <= found.identical[place] <= min(end - start, high - low)


def test_a_gap_counts_in_the_columns_and_not_as_identical() -> None:
    query = "MKVLAWTRRNDEFHIKLMNPQRSTVWYACDEFGHIKLMNPQ"
    target = query[:20] + query[25:]
    found = align(encoded(query), [encoded(target), encoded(query)], np.zeros(len(query), dtype=np.int16))
    own = int(SUBSTITUTION[encoded(query), encoded(query)].sum())
    lost = int(SUBSTITUTION[encoded(query[20:25]), encoded(query[20:25])].sum())
    assert found.score.tolist() == [own - lost - GAP_OPEN - 4 * GAP_EXTEND, own]
    assert found.columns.tolist() == [len(query), len(query)]
    assert found.identical.tolist() == [len(query) - 5, len(query)]


def test_nothing_alike_scores_nothing() -> None:
    found = align(encoded("WWWW"), [encoded("GGGGG")], np.zeros(4, dtype=np.int16))
    assert found.score.tolist() == found.columns.tolist() == [0]


def test_bits_and_evalues_follow_karlin_and_altschul() -> None:
    # BLAST's bits of raw score 100 with BLOSUM62, 11/1: (0.267 * 100 - ln 0.041) / ln 2.
    assert bit_scores(np.array([100]))[0] == pytest.approx(43.13, abs=0.01)
    assert evalues(np.array([100]), 200, 10_000_000)[0] == pytest.approx(0.041 * 200 * 1e7 * np.exp(-26.7), rel=1e-9)


def test_correction_takes_from_what_is_common_nearby() -> None:
    generator = np.random.default_rng(2)
    mixed = "".join(generator.choice(list(AMINO_ACIDS), 60))
    correction = local_correction(encoded(mixed + "Q" * 60))
    assert correction[80:110].max() <= -4  # a Q in a stretch of Q
    assert abs(correction[:40].mean()) < 1


@pytest.mark.skipif(diamond_path() is None, reason="DIAMOND is not installed")
def test_scores_are_diamonds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its corrections; it searches around seeds only, so that few of its scores may be lower."""
    from careloop.genome.function.search import diamond
    from careloop.genome.function.search.hits import SearchOptions

    run = diamond._run
    more = ["--comp-based-stats", "0", "--masking", "0"]
    monkeypatch.setattr(diamond, "_run", lambda command: run(command + more * ("blastp" in command)))
    generator = np.random.default_rng(5)
    query = "".join(generator.choice(list(AMINO_ACIDS), 160))
    targets = [
        "".join(np.where(generator.random(160) < share, generator.choice(list(AMINO_ACIDS), 160), list(query)))
        for share in np.linspace(0.1, 0.6, 12)
    ]
    hits = diamond.search_by_diamond([query], targets, options=SearchOptions(largest_evalue=1e-6))
    found = align(encoded(query), [encoded(target) for target in targets], np.zeros(160, dtype=np.int16))
    assert len(hits) >= 10
    assert np.abs(hits.bit_score - bit_scores(found.score)[hits.target]).max() < 1
    assert np.abs(hits.identity - (found.identical / found.columns)[hits.target]).max() < 0.01
    assert (hits.query_span == found.query_span[hits.target]).mean() > 0.8
