"""Similar past images: those nearest to an image by the network's embedding, of other patients, as a plain table.

The distance is 1 - the cosine of two embeddings, 0 for the same direction. Where even the nearest image is further away
than past images of different patients are from one another as a rule, nothing is called similar.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from careloop import InputError

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

NEAR = 0.95  # of past images have a nearest image of another patient within the limit
MOST_FOR_LIMIT = 2000  # past images whose nearest is sought for it


@dataclass(frozen=True, eq=False)
class SimilarImages:
    """`table`: `image`, `patient`, `distance` and what else is known of past images, nearest first.

    Empty where nothing is near; then `reason` says so. `nearest` is the distance of the nearest image, `limit` that
    within which images count as near.
    """

    table: pl.DataFrame
    nearest: float
    limit: float
    reason: str


@dataclass(frozen=True, eq=False)
class PastImages:
    """Embeddings (n, d) of past images, scaled to length 1, whose they are, and a table with a row each (n)."""

    embeddings: NDArray[np.float32]
    patients: NDArray[np.str_]
    table: pl.DataFrame
    limit: float

    @classmethod
    def of(
        cls,
        embeddings: Floats,
        *,
        images: Sequence[str],
        patients: Sequence[Any],
        known: Mapping[str, Sequence[Any]] | None = None,
    ) -> Self:
        """Past images with their names and patients; `known` are further columns, such as labels that proved true.

        InputError: other numbers of rows, embeddings that are not finite, or fewer than two patients.
        """
        import polars as pl

        rows = np.asarray(embeddings)
        lengths = {len(rows), len(images), len(patients), *(len(v) for v in (known or {}).values())}
        whose = np.array([str(patient) for patient in patients])
        if rows.ndim != 2 or lengths != {len(rows)} or not np.isfinite(rows).all() or len(set(whose.tolist())) < 2:
            raise InputError(
                "Past images need finite embeddings (n, d) with a name and a patient each, of at least two patients; "
                f"got shape {rows.shape}, {len(images)} names and {len(patients)} patients"
            )
        unit = _unit(rows)
        table = pl.DataFrame({"image": list(images), "patient": whose.tolist(), **(known or {})})
        return cls(unit, whose, table, _limit(unit, whose))

    def similar(self, embedding: Floats, *, k: int = 5, patient: Any = None) -> SimilarImages:
        """At most `k` past images near to an embedding (d,), without those of `patient`, one of each patient.

        InputError: an embedding of another length, or k below 1.
        """
        import polars as pl

        if np.shape(embedding) != self.embeddings.shape[1:] or not np.isfinite(embedding).all() or k < 1:
            raise InputError(
                f"Similar images are sought with a finite embedding ({self.embeddings.shape[1]},) and k from 1; got "
                f"shape {np.shape(embedding)} and k {k}"
            )
        distance = _distance(_unit(np.asarray(embedding)[None]), self.embeddings)[0]
        order = np.argsort(distance, kind="stable")
        order = order[self.patients[order] != str(patient)] if patient is not None else order
        order = order[np.sort(np.unique(self.patients[order], return_index=True)[1])]
        nearest = float(distance[order[0]]) if len(order) else float("inf")
        near = order[distance[order] <= self.limit][:k]
        found = self.table[near.tolist()].insert_column(2, pl.Series("distance", distance[near]))
        reason = "" if len(near) else self._why(nearest)
        return SimilarImages(found, nearest, self.limit, reason)

    def _why(self, nearest: float) -> str:
        if np.isinf(nearest):
            return "there are past images of this patient only"
        return (
            f"no past image is near: the nearest of another patient is at distance {nearest:.3g}, where {NEAR:.0%} of "
            f"past images have one within {self.limit:.3g}"
        )


def _limit(unit: NDArray[np.float32], whose: NDArray[np.str_]) -> float:
    """The `NEAR` quantile, over past images, of the distance to the nearest image of another patient."""
    rows = np.unique(np.linspace(0, len(unit) - 1, min(len(unit), MOST_FOR_LIMIT)).round().astype(np.int64))
    nearest = [np.empty(0)]
    for some in np.array_split(rows, -(-len(rows) // 256)):
        distance = _distance(unit[some], unit)
        distance[whose[some][:, None] == whose] = np.inf
        nearest.append(distance.min(axis=1))
    return float(np.quantile(np.concatenate(nearest), NEAR))


def _unit(rows: Floats) -> NDArray[np.float32]:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(length, np.finfo(np.float32).tiny), dtype=np.float32)


def _distance(rows: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """1 - cosine (n, m) of rows of length 1, never below 0."""
    return np.maximum(1.0 - (rows @ others.T).astype(np.float64), 0.0)
