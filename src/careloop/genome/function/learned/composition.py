"""What a protein is made of, in numbers: amino acids and short words of them, and how charge and grease are spread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
UNKNOWN = len(AMINO_ACIDS)  # what any other letter counts as
# Six kinds of amino acids (Dayhoff, Schwartz and Orcutt, Atlas of Protein Sequence and Structure 1978;5 suppl 3:345).
KINDS = ("AGPST", "C", "DENQ", "FWY", "HKR", "ILMV")
# Hydropathy of Kyte and Doolittle, J Mol Biol 1982;157:105, table 2, in the order of AMINO_ACIDS.
HYDROPATHY = np.array(
    [1.8, 2.5, -3.5, -3.5, 2.8, -0.4, -3.2, 4.5, -3.9, 3.8, 1.9, -3.5, -1.6, -3.5, -4.5, -0.8, -0.7, 4.2, -0.9, -1.3, 0]
)
MEMBRANE, GREASY = 19, 1.6  # a helix across a membrane: so many residues of at least this mean hydropathy (ibid.)
LAGS = 12  # residues apart at which hydropathy is correlated with itself
WORD = 4  # letters of a word of kinds

_CODES = np.full(256, UNKNOWN, dtype=np.int64)
_CODES[np.frombuffer(AMINO_ACIDS.encode(), dtype=np.uint8)] = np.arange(len(AMINO_ACIDS))
_KIND = np.array([*(next(k for k, kind in enumerate(KINDS) if a in kind) for a in AMINO_ACIDS), 0])
_CHARGE = np.array([{"K": 1, "R": 1, "D": -1, "E": -1}.get(a, 0) for a in AMINO_ACIDS] + [0], dtype=np.float64)


def residues(sequence: str) -> NDArray[np.int64]:
    """(length,) each amino acid's place in `AMINO_ACIDS`, `UNKNOWN` for other letters."""
    return _CODES[np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)]


def composition(sequences: Sequence[str]) -> NDArray[np.float32]:
    """(n, features) of proteins; none is empty.

    Shares of amino acids in the whole, in both ends and in thirds; hydropathy, charge, stretches that may cross a
    membrane or be a signal peptide; counts of pairs, of pairs one apart and of words of four kinds, over the root of
    the length, whose spread then does not hang on the length.
    """
    return np.stack([_of_one(residues(sequence)) for sequence in sequences])


def _of_one(code: NDArray[np.int64]) -> NDArray[np.float32]:
    parts = (code, code[:20], code[20:60], code[-50:], *np.array_split(code, 3))
    known = code[code < UNKNOWN]
    root = np.sqrt(len(code))
    kind = _KIND[code]
    words = sum(kind[k : len(kind) - WORD + 1 + k] * len(KINDS) ** (WORD - 1 - k) for k in range(WORD))
    return np.concatenate(
        [
            *map(_shares, parts),
            _physics(code),
            _autocorrelation(HYDROPATHY[code]),
            _pairs(known, 1) / root,
            _pairs(known, 2) / root,
            np.bincount(words if len(kind) >= WORD else [], minlength=len(KINDS) ** WORD) / root,
        ]
    ).astype(np.float32)


def _shares(code: NDArray[np.int64]) -> NDArray[np.float64]:
    counts = np.bincount(code, minlength=UNKNOWN + 1)[:UNKNOWN]
    return counts / max(len(code), 1)


def _pairs(code: NDArray[np.int64], apart: int) -> NDArray[np.int64]:
    return np.bincount(code[:-apart] * UNKNOWN + code[apart:], minlength=UNKNOWN**2)


def _means(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Of every stretch of `width`; the mean of all where there is none so long."""
    if len(values) < width:
        return np.array([values.mean() if len(values) else 0.0])
    sums = np.cumsum(np.concatenate([[0.0], values]))
    return (sums[width:] - sums[:-width]) / width


def _physics(code: NDArray[np.int64]) -> NDArray[np.float64]:
    hydropathy, charge = HYDROPATHY[code], _CHARGE[code]
    helices, start = _means(hydropathy, MEMBRANE), _means(hydropathy[:40], 9)
    length, crossings = np.log1p(len(code)) / 6, _crossings(helices)
    return np.array(
        [
            *(length, length**2),
            *(crossings, np.log1p(crossings), 100 * crossings / len(code)),
            *(helices.max(), np.quantile(helices, 0.9), helices.min()),
            *(start.max(), start.argmax() / 20),
            *(charge[:20].sum() / 5, charge[20:60].sum() / 5, 10 * charge.mean(), 10 * np.abs(charge).mean()),
            *(_means(np.abs(charge), 11).max(), _means(charge, 11).max(), _means(charge, 11).min()),
            *(hydropathy.mean(), hydropathy[:30].mean()),
            float(code[0] == AMINO_ACIDS.index("M")),
        ]
    )


def _crossings(helices: NDArray[np.float64]) -> int:
    """How many stretches that do not overlap may cross a membrane."""
    count, free = 0, 0
    for at in np.flatnonzero(helices > GREASY).tolist():
        if at >= free:
            count, free = count + 1, at + MEMBRANE
    return count


def _autocorrelation(values: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = values - values.mean()
    spread = np.mean(centred**2) + 1e-6
    return np.array(
        [np.mean(centred[lag:] * centred[:-lag]) / spread if len(values) > lag else 0.0 for lag in range(1, LAGS + 1)]
    )
