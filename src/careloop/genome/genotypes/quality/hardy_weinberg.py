"""The exact test of Hardy-Weinberg proportions, for many variants at once.

Source: Wigginton, Cutler and Abecasis, Am J Hum Genet 2005;76:887. With both alleles' counts fixed, the number of
heterozygous samples has a known distribution; p is the probability of all numbers that are no likelier than the one
observed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_TIES = 1e-8  # probabilities nearer than this share are equal: they were reached by different sums
_WORTH_PARTING = 0.75  # below this share of variants whose tail goes on, the others are left out
_NEGLIGIBLE = 1e-17  # of the largest term, under which the rest of a tail changes no sum


def hardy_weinberg_p(
    hom_ref: NDArray[np.int64], het: NDArray[np.int64], hom_alt: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Two-sided exact p of each variant's counts of diploid samples (variants,); 1 where there is none.

    What is below some 1e-300 is 0.
    """
    hom_ref, het, hom_alt = (np.asarray(counts, np.int64) for counts in (hom_ref, het, hom_alt))
    samples = hom_ref + het + hom_alt
    rare = 2 * np.minimum(hom_ref, hom_alt) + het
    middle = _likeliest(rare, samples)
    limit = np.exp(_log_term(het, rare, samples) - _log_term(middle, rare, samples)) * (1 + _TIES)
    total, tail = np.ones(het.size), np.where(limit >= 1, 1.0, 0.0)
    for step in (2, -2):
        more = _sums(middle, rare, samples, limit, step=step)
        total += more[0]
        tail += more[1]
    return np.minimum(tail / total, 1.0)


def _likeliest(rare: NDArray[np.int64], samples: NDArray[np.int64]) -> NDArray[np.int64]:
    """The likeliest number of heterozygous samples, or one beside it: of `rare`'s parity."""
    middle = rare * (2 * samples - rare) // np.maximum(2 * samples, 1)
    return middle + (middle % 2 != rare % 2)


def _log_term(het: NDArray[np.int64], rare: NDArray[np.int64], samples: NDArray[np.int64]) -> NDArray[np.float64]:
    """The log of a number of heterozygous samples' probability, but for what all numbers share."""
    from scipy.special import gammaln

    hom_rare = (rare - het) // 2
    return np.asarray(
        het * np.log(2) - gammaln(het + 1) - gammaln(hom_rare + 1) - gammaln(samples - het - hom_rare + 1), np.float64
    )


def _sums(
    middle: NDArray[np.int64],
    rare: NDArray[np.int64],
    samples: NDArray[np.int64],
    limit: NDArray[np.float64],
    *,
    step: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of all terms to one side of the middle's, which is 1, and of those among them that are at most `limit`.

    `step` leads to the next number of heterozygous samples, 2 or -2.
    """
    total, tail = np.zeros(middle.size), np.zeros(middle.size)
    active = np.arange(middle.size)
    state = np.stack([middle, rare, 2 * samples - rare, np.ones(middle.size), limit])
    while active.size:
        het, minor, major, term, most = state
        if step > 0:
            state[3] = term * (minor - het) * (major - het) / ((het + 2) * (het + 1))
        else:
            state[3] = term * het * (het - 1) / ((minor - het + 2) * (major - het + 2))
        state[0] += step
        going = state[3] > np.minimum(most, 1) * _NEGLIGIBLE
        if going.mean() < _WORTH_PARTING:  # terms that are negligible may stay: they change no sum
            active, state = active[going], state[:, going]
        total[active] += state[3]
        tail[active] += np.where(state[3] <= state[4], state[3], 0)
    return total, tail
