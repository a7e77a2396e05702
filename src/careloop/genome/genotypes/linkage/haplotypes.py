"""r squared of haplotypes from unphased genotypes, by the most likely frequencies of two variants' haplotypes.

Only people who are heterozygous at both could have either pair of haplotypes; the likelihood's turning points are the
roots of a cubic (Hill, Heredity 1974;33:229; Gaunt et al., BMC Bioinformatics 2007;8:428). PLINK 1.9's --clump and
--r2 dprime have this measure.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SMALL = 1e-12  # a frequency below this is none


def haplotype_r2(index: NDArray[Any], others: NDArray[np.int8]) -> NDArray[np.float64]:
    """R squared of one variant's haplotypes with those of each of some others: (others,); 0 where it is not defined.

    `index` (people,) and `others` (others, people): int8 genotypes; people without a call of either are left out.
    """
    return r2_of_counts(joint_counts(index, others))


def joint_counts(index: NDArray[Any], others: NDArray[np.int8]) -> NDArray[np.float64]:
    """People by both genotypes: (others, 3, 3), the index variant's first."""
    counts = np.empty((len(others), 3, 3))
    with_index = np.stack([index == copies for copies in range(3)]).astype(np.float32)
    for copies in range(3):
        counts[:, :, copies] = (others == copies).astype(np.float32) @ with_index.T
    return counts


def r2_of_counts(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """R squared of haplotypes for tables of joint genotypes (tables, 3, 3)."""
    people = np.maximum(counts.sum(axis=(1, 2)), 1)
    one, other = counts.sum(axis=2), counts.sum(axis=1)
    first = (one[:, 1] + 2 * one[:, 2]) / (2 * people)  # frequency of the index variant's alt
    second = (other[:, 1] + 2 * other[:, 2]) / (2 * people)
    both = (2 * counts[:, 2, 2] + counts[:, 2, 1] + counts[:, 1, 2]) / (2 * people)  # haplotypes alt-alt that are sure
    unsure = counts[:, 1, 1] / people / 2  # of each: alt-alt with ref-ref, or the two others
    unsure = np.where(unsure < _SMALL, 0, unsure)
    product = first * (1 - first) * second * (1 - second)
    defined = product > _SMALL
    most_likely = _most_likely(first, second, both, unsure)
    r2 = (most_likely - first * second) ** 2 / np.where(defined, product, 1)
    return np.where(defined, np.minimum(r2, 1), 0.0)


def _most_likely(
    first: NDArray[np.float64], second: NDArray[np.float64], both: NDArray[np.float64], unsure: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The frequency of alt-alt with the highest likelihood: (tables,).

    With x of the unsure ones added to alt-alt, the other haplotypes follow from the allele frequencies. A turning
    point has x / (u - x) = (alt-alt x ref-ref) / (alt-ref x ref-alt) at 2 u unsure haplotypes of the two kinds.
    """
    a, b, neither = first - both, second - both, 1 - first - second + both
    # x (a - x)(b - x) = (u - x)(both + x)(neither + x), where u = unsure, and alt-ref has a - x, ref-alt b - x
    coefficients = np.stack(
        [
            np.full_like(a, 2.0),
            both + neither - unsure - a - b,
            a * b + both * neither - unsure * (both + neither),
            -unsure * both * neither,
        ]
    )
    candidates = np.clip(_cubic_roots(coefficients), 0, unsure)
    candidates = np.concatenate([candidates, np.zeros_like(unsure)[None], unsure[None]])
    best = _log_likelihood(candidates, (both, a, b, neither), unsure).argmax(axis=0)
    return both + np.take_along_axis(candidates, best[None], axis=0)[0]


def _log_likelihood(
    x: NDArray[np.float64], frequencies: tuple[NDArray[np.float64], ...], unsure: NDArray[np.float64]
) -> NDArray[np.float64]:
    both, a, b, neither = frequencies
    sure = (both, a - unsure, b - unsure, neither)
    now = (both + x, a - x, b - x, neither + x)
    total = sum(_times_log(part, whole) for part, whole in zip(sure, now, strict=True))
    return total + _times_log(np.broadcast_to(unsure, x.shape), now[0] * now[3] + now[1] * now[2])


def _times_log(share: NDArray[np.float64], frequency: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(share > _SMALL, share * np.log(np.maximum(frequency, _SMALL)), 0.0)


def _cubic_roots(coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    """Real roots of cubics (4, tables), the highest power first: (3, tables); where there is one, it comes thrice."""
    lead, second, first, constant = coefficients
    second, first, constant = second / lead, first / lead, constant / lead
    shift = second / 3
    p, q = first - second**2 / 3, 2 * second**3 / 27 - second * first / 3 + constant
    inside = (q / 2) ** 2 + (p / 3) ** 3
    three = inside < 0
    root = np.sqrt(np.maximum(inside, 0))
    single = np.cbrt(-q / 2 + root) + np.cbrt(-q / 2 - root)
    radius = np.sqrt(np.where(three, -p / 3, 1))
    angle = np.arccos(np.clip(np.where(three, -q / 2, 0) / radius**3, -1, 1)) / 3
    turned = 2 * radius * np.cos(angle + np.array([0, 2, 4])[:, None] * np.pi / 3)
    return np.where(three, turned, single) - shift
