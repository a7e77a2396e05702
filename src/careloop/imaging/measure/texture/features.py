"""Features of texture matrices by the formulas, names and codes of the IBSI reference manual (arXiv:1612.07003)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from careloop.imaging.measure.texture.matrices import (
    DIRECTIONS,
    cooccurrence,
    dependence,
    distance_zones,
    run_lengths,
    size_zones,
    tone_difference,
    zones,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Real = NDArray[np.float64]

FLAT_COARSENESS = 1e6  # of a structure of one level, whose sum of differences is 0 (IBSI section 3.10.1)
# Family, then name, IBSI code and the meaning that DICOM PS3.16 gives it (CID 7467, 7468, 7500, 7501).
_GLCM = (
    ("joint_maximum", "GYBY", "Joint Maximum of GLCM"),
    ("joint_average", "60VM", "Joint Average of GLCM"),
    ("joint_variance", "UR99", "Joint Variance of GLCM"),
    ("joint_entropy", "TU9B", "Joint Entropy of GLCM"),
    ("difference_average", "TF7R", "Difference Average of GLCM"),
    ("difference_variance", "D3YU", "Difference Variance of GLCM"),
    ("difference_entropy", "NTRS", "Difference Entropy of GLCM"),
    ("sum_average", "ZGXS", "Sum Average of GLCM"),
    ("sum_variance", "OEEB", "Sum Variance of GLCM"),
    ("sum_entropy", "P6QZ", "Sum Entropy of GLCM"),
    ("angular_second_moment", "8ZQL", "Angular Second Moment of GLCM"),
    ("contrast", "ACUI", "Contrast of GLCM"),
    ("dissimilarity", "8S9J", "Dissimilarity of GLCM"),
    ("inverse_difference", "IB1Z", "Inverse Difference of GLCM"),
    ("normalised_inverse_difference", "NDRX", "Normalized Inverse Difference of GLCM"),
    ("inverse_difference_moment", "WF0Z", "Inverse Difference Moment of GLCM"),
    ("normalised_inverse_difference_moment", "1QCO", "Normalized Inverse Difference Moment of GLCM"),
    ("inverse_variance", "E8JP", "Inverse Variance of GLCM"),
    ("correlation", "NI2N", "Correlation of GLCM"),
    ("autocorrelation", "QWB0", "Autocorrelation of GLCM"),
    ("cluster_tendency", "DG8W", "Cluster Tendency of GLCM"),
    ("cluster_shade", "7NFM", "Cluster Shade of GLCM"),
    ("cluster_prominence", "AE86", "Cluster Prominence of GLCM"),
    ("information_correlation_1", "R8DG", "First Measure of Information Correlation of GLCM"),
    ("information_correlation_2", "JN9H", "Second Measure of Information Correlation of GLCM"),
)
_GLRLM = (
    ("short_runs_emphasis", "22OV", "Short Runs Emphasis"),
    ("long_runs_emphasis", "W4KF", "Long Runs Emphasis"),
    ("low_grey_level_run_emphasis", "V3SW", "Low Gray Level Run Emphasis"),
    ("high_grey_level_run_emphasis", "G3QZ", "High Gray Level Run Emphasis"),
    ("short_run_low_grey_level_emphasis", "HTZT", "Short Run Low Gray Level Emphasis"),
    ("short_run_high_grey_level_emphasis", "GD3A", "Short Run High Gray Level Emphasis"),
    ("long_run_low_grey_level_emphasis", "IVPO", "Long Run Low Gray Level Emphasis"),
    ("long_run_high_grey_level_emphasis", "3KUM", "Long Run High Gray Level Emphasis"),
    ("grey_level_non_uniformity", "R5YN", "Gray Level Nonuniformity in Runs"),
    ("normalised_grey_level_non_uniformity", "OVBL", "Normalized Gray Level Nonuniformity in Runs"),
    ("run_length_non_uniformity", "W92Y", "Run Length Nonuniformity"),
    ("normalised_run_length_non_uniformity", "IC23", "Normalized Run Length Nonuniformity"),
    ("run_percentage", "9ZK5", "Run Percentage"),
    ("grey_level_variance", "8CE5", "Gray Level Variance in Runs"),
    ("run_length_variance", "SXLW", "Run Length Variance"),
    ("run_entropy", "HJ9O", "Run Entropy"),
)
_GLSZM = (
    ("small_zone_emphasis", "5QRC", "Small Zone Emphasis"),
    ("large_zone_emphasis", "48P8", "Large Zone Emphasis"),
    ("low_grey_level_zone_emphasis", "XMSY", "Low Gray Level Zone Emphasis"),
    ("high_grey_level_zone_emphasis", "5GN9", "High Gray Level Zone Emphasis"),
    ("small_zone_low_grey_level_emphasis", "5RAI", "Small Zone Low Gray Level Emphasis"),
    ("small_zone_high_grey_level_emphasis", "HW1V", "Small Zone High Gray Level Emphasis"),
    ("large_zone_low_grey_level_emphasis", "YH51", "Large Zone Low Gray Level Emphasis"),
    ("large_zone_high_grey_level_emphasis", "J17V", "Large Zone High Gray Level Emphasis"),
    ("grey_level_non_uniformity", "JNSA", "Gray Level Nonuniformity of Size Zone Counts"),
    ("normalised_grey_level_non_uniformity", "Y1RO", "Normalized Gray Level Nonuniformity of Size Zone Counts"),
    ("zone_size_non_uniformity", "4JP3", "Zone Size Nonuniformity"),
    ("normalised_zone_size_non_uniformity", "VB3A", "Normalized Zone Size Nonuniformity"),
    ("zone_percentage", "P30P", "Size Zone Percentage"),
    ("grey_level_variance", "BYLV", "Gray Level Variance in Size Zones"),
    ("zone_size_variance", "3NSA", "Zone Size Variance"),
    ("zone_size_entropy", "GU8N", "Zone Size Entropy"),
)
_GLDZM = (
    ("small_distance_emphasis", "0GBI", "Small Distance Emphasis"),
    ("large_distance_emphasis", "MB4I", "Large Distance Emphasis"),
    ("low_grey_level_zone_emphasis", "S1RA", "Low Grey Level Zone Emphasis"),
    ("high_grey_level_zone_emphasis", "K26C", "High Grey Level Zone Emphasis"),
    ("small_distance_low_grey_level_emphasis", "RUVG", "Small Distance Low Grey Level Emphasis"),
    ("small_distance_high_grey_level_emphasis", "DKNJ", "Small Distance High Grey Level Emphasis"),
    ("large_distance_low_grey_level_emphasis", "A7WM", "Large Distance Low Grey Level Emphasis"),
    ("large_distance_high_grey_level_emphasis", "KLTH", "Large Distance High Grey Level Emphasis"),
    ("grey_level_non_uniformity", "VFT7", "Grey Level Non-uniformity of Distance Zone Counts"),
    ("normalised_grey_level_non_uniformity", "7HP3", "Normalized Grey Level Non-uniformity of Distance Zone Counts"),
    ("zone_distance_non_uniformity", "V294", "Zone Distance Non-uniformity"),
    ("normalised_zone_distance_non_uniformity", "IATH", "Normalized Zone Distance Non-uniformity"),
    ("zone_percentage", "VIWW", "Distance Zone Percentage"),
    ("grey_level_variance", "QK93", "Grey Level Variance in Distance Zones"),
    ("zone_distance_variance", "7WT1", "Zone Distance Variance"),
    ("zone_distance_entropy", "GBDU", "Zone Distance Entropy"),
)
_NGLDM = (
    ("low_dependence_emphasis", "SODN", "Low dependence emphasis"),
    ("high_dependence_emphasis", "IMOQ", "High dependence emphasis"),
    ("low_grey_level_count_emphasis", "TL9H", "Low grey level count emphasis"),
    ("high_grey_level_count_emphasis", "OAE7", "High grey level count emphasis"),
    ("low_dependence_low_grey_level_emphasis", "EQ3F", "Low dependence low grey level emphasis"),
    ("low_dependence_high_grey_level_emphasis", "JA6D", "Low dependence high grey level emphasis"),
    ("high_dependence_low_grey_level_emphasis", "NBZI", "High dependence low grey level emphasis"),
    ("high_dependence_high_grey_level_emphasis", "9QMG", "High dependence high grey level emphasis"),
    ("grey_level_non_uniformity", "FP8K", "Grey level non-uniformity of NGLDM"),
    ("normalised_grey_level_non_uniformity", "5SPA", "Normalized grey level non-uniformity of NGLDM"),
    ("dependence_count_non_uniformity", "Z87G", "Dependence count non-uniformity"),
    ("normalised_dependence_count_non_uniformity", "OKJI", "Dependence count non-uniformity normalized"),
    ("dependence_count_percentage", "6XV8", "Dependence count percentage"),
    ("grey_level_variance", "1PFV", "Grey level variance of NGLDM"),
    ("dependence_count_variance", "DNX2", "Dependence count variance"),
    ("dependence_count_entropy", "FCBV", "Dependence count entropy"),
)
_NGTDM = (
    ("coarseness", "QCDE", "Coarseness of NGTDM"),
    ("contrast", "65HE", "Contrast of NGTDM"),
    ("busyness", "NQ30", "Busyness of NGTDM"),
    ("complexity", "HDEZ", "Complexity of NGTDM"),
    ("strength", "1X9X", "Strength of NGTDM"),
)
FAMILIES = {"glcm": _GLCM, "glrlm": _GLRLM, "glszm": _GLSZM, "gldzm": _GLDZM, "ngtdm": _NGTDM, "ngldm": _NGLDM}


def texture_features(levels: NDArray[np.int32]) -> dict[str, float]:
    """Return all features of a structure (`levels` as `grid.levels_in_space` gives them, not empty), by name.

    A name begins with its matrix, as `glcm_joint_maximum`. Features of neighbours are left out where no voxel has one.
    """
    voxels = int((levels > 0).sum())
    of_voxel, level = zones(levels)
    sizes, size_counts = size_zones(of_voxel, level)
    found = {
        "glrlm": _emphases(run_lengths(levels), voxels * len(DIRECTIONS)),
        "glszm": _emphases(size_counts, voxels, sizes),
        "gldzm": _emphases(distance_zones(levels, of_voxel, level), voxels),
        "ngldm": _emphases(dependence(levels), voxels),
    }
    pairs = cooccurrence(levels)
    if pairs.any():
        found |= {"glcm": _glcm(pairs), "ngtdm": _ngtdm(*tone_difference(levels))}
    return {
        f"{family}_{name}": value
        for family, values in found.items()
        for (name, *_), value in zip(FAMILIES[family], values, strict=True)
    }


def _emphases(counts: NDArray[np.int64], most: int, sizes: NDArray[np.int64] | None = None) -> list[float]:
    """The 16 features that runs, zones, distances and dependences share; `sizes` are what columns stand for."""
    j = np.arange(1, counts.shape[1] + 1, dtype=np.float64) if sizes is None else sizes.astype(np.float64)
    i = np.arange(1, len(counts) + 1, dtype=np.float64)
    total = int(counts.sum())
    p = counts / total
    by_level, by_size = p.sum(axis=1), p.sum(axis=0)
    return [
        float(value)
        for value in (
            by_size @ j**-2,
            by_size @ j**2,
            by_level @ i**-2,
            by_level @ i**2,
            i**-2 @ p @ j**-2,
            i**2 @ p @ j**-2,
            i**-2 @ p @ j**2,
            i**2 @ p @ j**2,
            by_level @ by_level * total,
            by_level @ by_level,
            by_size @ by_size * total,
            by_size @ by_size,
            total / most,
            _variance(by_level, i),
            _variance(by_size, j),
            _entropy(p),
        )
    ]


def _glcm(pairs: NDArray[np.int64]) -> list[float]:
    p = pairs / pairs.sum()
    levels = len(p)
    i = np.arange(1, levels + 1, dtype=np.float64)
    margin = p.sum(axis=1)
    apart = np.abs(i[:, None] - i)
    k = i - 1
    difference = _summed(p, apart)
    together = _summed(p, i[:, None] + i)
    total = np.arange(len(together), dtype=np.float64)
    mean = float(margin @ i)
    variance = _variance(margin, i)
    product = np.outer(margin, margin)
    joint, single, independent = _entropy(p), _entropy(margin), _entropy(product)
    crossed = -float((p * np.log2(np.where(product > 0, product, 1))).sum())
    return [
        float(value)
        for value in (
            p.max(),
            mean,
            variance,
            joint,
            difference @ k,
            _variance(difference, k),
            _entropy(difference),
            together @ total,
            _variance(together, total),
            _entropy(together),
            (p * p).sum(),
            difference @ k**2,
            difference @ k,
            difference @ (1 / (1 + k)),
            difference @ (1 / (1 + k / levels)),
            difference @ (1 / (1 + k**2)),
            difference @ (1 / (1 + (k / levels) ** 2)),
            difference[1:] @ (1 / k[1:] ** 2),
            ((i @ p @ i) - mean**2) / variance if variance > 0 else 1.0,
            i @ p @ i,
            together @ (total - 2 * mean) ** 2,
            together @ (total - 2 * mean) ** 3,
            together @ (total - 2 * mean) ** 4,
            (joint - crossed) / single if single > 0 else 0.0,
            np.sqrt(max(1 - np.exp(-2 * (independent - joint)), 0.0)),
        )
    ]


def _ngtdm(many: NDArray[np.int64], apart: Real) -> list[float]:
    voxels = int(many.sum())
    i = np.flatnonzero(many) + 1.0
    p, s = many[many > 0] / voxels, apart[many > 0]
    step = i[:, None] - i
    weighted = float(p @ s)
    pairs = len(i) * (len(i) - 1)
    swing = np.abs((i * p)[:, None] - i * p).sum()
    complexity = (np.abs(step) * ((p * s)[:, None] + p * s) / (p[:, None] + p)).sum() / voxels
    return [
        1 / weighted if weighted > 0 else FLAT_COARSENESS,
        float(p @ step**2 @ p) / pairs * float(s.sum()) / voxels if pairs else 0.0,
        weighted / float(swing) if swing > 0 else 0.0,
        float(complexity),
        float(((p[:, None] + p) * step**2).sum() / s.sum()) if s.sum() > 0 else 0.0,
    ]


def _summed(p: Real, by: Real) -> Real:
    """Probabilities added up over the entries of equal whole number `by`, from 0."""
    return np.asarray(np.bincount(by.astype(int).ravel(), weights=p.ravel()), dtype=np.float64)


def _variance(p: Real, values: Real) -> float:
    return float(p @ (values - p @ values) ** 2)


def _entropy(p: Real) -> float:
    some = p[p > 0]
    return float(-(some * np.log2(some)).sum()) + 0.0
