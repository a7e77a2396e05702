"""Which reference groups people are like: probabilities, a test of being like none, and mixtures between groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from careloop import InputError

LIKE_NONE_BELOW = 1e-3  # chance of lying so far out in a group
SEPARATES_BELOW = 1e-6  # p of an analysis of variance between groups, for a component to be looked at
_SPARE_PEOPLE = 10  # that a group has beyond the components


@dataclass(frozen=True)
class Groups:
    """Reference groups as normal clouds on some components (`components`, numbers from 0).

    `means` (groups, k), `covariances` (groups, k, k), `sizes` (groups,) people. `too_small`: groups left out.
    """

    names: tuple[str, ...]
    components: NDArray[np.int64]
    means: NDArray[np.float64]
    covariances: NDArray[np.float64]
    sizes: NDArray[np.int64]
    too_small: tuple[str, ...]


@dataclass(frozen=True)
class GroupPlaces:
    """Where people are among groups; NaN for people whose scores are not known.

    `probabilities` (people, groups): of each group, all equally likely beforehand, were the person of one of them.
    `p_values` (people, groups): the chance that a member of the group lies as far out. `mixtures` (people, groups):
    shares of the groups whose mix lies nearest, None with more groups than components can tell apart.
    """

    probabilities: NDArray[np.float64]
    p_values: NDArray[np.float64]
    mixtures: NDArray[np.float64] | None

    @property
    def nearest(self) -> NDArray[np.int64]:
        """The likeliest group: (people,)."""
        return np.argmax(np.nan_to_num(self.probabilities), axis=1)

    @property
    def like_none(self) -> NDArray[np.bool_]:
        """Whether a person lies too far out of every group, or cannot be placed: (people,)."""
        return ~(np.nan_to_num(self.p_values).max(axis=1) >= LIKE_NONE_BELOW)


def fit_groups(scores: NDArray[np.float64], groups: list[str]) -> Groups:
    """Describe reference groups by their people's scores (people, count) on the components that tell them apart.

    Raises:
        InputError: fewer than two groups that are large enough.
    """
    labels = np.array(groups)
    components = _separating(scores, labels)
    names, sizes = np.unique(labels, return_counts=True)
    large = sizes >= components.size + _SPARE_PEOPLE
    if large.sum() < 2:
        raise InputError(
            f"a reference panel needs two groups of {components.size + _SPARE_PEOPLE} people or more; it has "
            f"{int(large.sum())}"
        )
    used = scores[:, components]
    clouds = [used[labels == name] for name in names[large]]
    means = np.stack([cloud.mean(axis=0) for cloud in clouds])
    covariances = np.stack([np.cov(cloud, rowvar=False).reshape(2 * (components.size,)) for cloud in clouds])
    too_small = tuple(map(str, names[~large]))
    return Groups(tuple(map(str, names[large])), components, means, covariances, sizes[large], too_small)


def place_among(groups: Groups, scores: NDArray[np.float64]) -> GroupPlaces:
    """Compare people's scores (people, count) with groups, by the predictive distribution of each group's next member.

    That is a multivariate t with n - k degrees of freedom (Gelman et al., Bayesian Data Analysis, 3rd edition, section
    3.6), which allows for what a small group does not tell; distances follow Hotelling's T-squared.
    """
    from scipy.special import gammaln, logsumexp
    from scipy.stats import f as f_distribution

    points = scores[:, groups.components]
    k = groups.components.size
    log_density, p_values = (np.empty((len(points), len(groups.names))) for _ in range(2))
    for number, (mean, covariance, n) in enumerate(zip(groups.means, groups.covariances, groups.sizes, strict=True)):
        away = points - mean
        distance = np.einsum("ij,ij->i", away @ np.linalg.inv(covariance), away) * n / (n + 1)
        p_values[:, number] = f_distribution.sf(distance * (n - k) / (k * (n - 1)), k, n - k)
        constant = gammaln(n / 2) - gammaln((n - k) / 2) - np.linalg.slogdet(covariance)[1] / 2
        constant -= k / 2 * np.log(np.pi * (n * n - 1) / n)
        log_density[:, number] = constant - n / 2 * np.log1p(distance / (n - 1))
    probabilities = np.exp(log_density - logsumexp(log_density, axis=1, keepdims=True))
    return GroupPlaces(probabilities, p_values, _mixtures(groups, points))


def _separating(scores: NDArray[np.float64], labels: NDArray[np.str_]) -> NDArray[np.int64]:
    """Components on which groups differ: those that tell nothing apart would only add noise. The first in any case."""
    from scipy.stats import f_oneway

    clouds = [scores[labels == name] for name in np.unique(labels)]
    clouds = [cloud for cloud in clouds if len(cloud) > 1]
    if len(clouds) < 2:
        raise InputError("a reference panel needs two groups of people or more")
    p = np.asarray(f_oneway(*clouds, axis=0).pvalue)
    found = np.flatnonzero(p < SEPARATES_BELOW)
    return found if found.size else np.zeros(1, np.int64)


def _mixtures(groups: Groups, points: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Shares of 0 and above that add up to 1, whose mean of the groups' means is nearest.

    Components are linear in allele frequencies, so that a person of mixed ancestry lies between the groups.
    """
    from scipy.optimize import nnls

    if len(groups.names) > groups.components.size + 1:
        return None
    scale = groups.means.std(axis=0) + 1e-12
    weight = 1e3  # of the sum being 1, beside distances of about 1
    design = np.vstack([(groups.means / scale).T, np.full(len(groups.names), weight)])
    found = np.full((len(points), len(groups.names)), np.nan)
    for number, point in enumerate(points):
        if np.isfinite(point).all():
            shares = nnls(design, np.append(point / scale, weight))[0]
            found[number] = shares / shares.sum()
    return found
