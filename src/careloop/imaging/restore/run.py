"""A restoration network run on planes: padded, in tiles where a plane is large, OpenVINO on the CPU."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from careloop.imaging.restore.model import RestorationModel
from careloop.imaging.segment.model import NetworkSource
from careloop.imaging.segment.runtime import Network, open_network

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.floating[Any]]

MULTIPLE = 32  # rows and columns are filled up to it, so that few shapes need a converted network
LARGEST = 1024  # rows or columns of a tile
OVERLAP = 64  # of tiles; the network sees about as far
# The ways in which a plane is given to the network: rows and columns swapped or not, then steps along both.
WAYS = tuple((swapped, *steps) for swapped in (False, True) for steps in ((1, 1), (-1, -1), (-1, 1), (1, -1)))
SMALL = 384 * 384  # pixels up to which four ways take no longer than two of a usual CT slice


@dataclass(frozen=True)
class RestoredPlane:
    """A plane, and the absolute error that is to be expected at each pixel, both (rows, columns) float32."""

    plane: NDArray[np.float32]
    expected_error: NDArray[np.float32]


@dataclass
class PlaneRestorer:
    """Runs one model; its network is opened for each shape that comes, unless one for all shapes is given.

    A given network has been made for the image at hand, which took longer than averaging planes over all ways does.
    """

    model: RestorationModel
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = None
    network: Network | None = None
    _networks: dict[tuple[int, int], Network] = field(default_factory=dict)

    def __call__(self, plane: Plane, level: float | Plane) -> RestoredPlane:
        """Restore a plane (rows, columns) of about 0 to 1 with the noise level in its units.

        The level is a number, a map, or as many maps (maps, rows, columns) as the model is given.
        """
        fed = np.concatenate([plane[None], self._maps(level, plane.shape)]).astype(np.float32)
        result = np.empty((2, *plane.shape), np.float32)
        for inner, outer in tiles(plane.shape):
            rows, columns = outer
            out = self._run(fed[:, rows, columns])
            shift = tuple(slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))
            result[(slice(None), *inner)] = out[(slice(None), *shift)]
        return RestoredPlane(result[0], result[1])

    def averaged(self, plane: Plane, level: float | Plane) -> RestoredPlane:
        """Restore the plane as it is and turned by half a turn, a small one mirrored too, and take the mean.

        A little better than once, at two to four times the time; a given network takes all eight of `WAYS`.

        Source: Timofte et al. 2016, Seven ways to improve example-based single image super resolution (CVPR),
        section 3.6 (self-ensemble).
        """
        ways = WAYS if self.network is not None else WAYS[: ways_of(plane.size)]
        total, levels = np.zeros((2, *plane.shape), np.float32), self._maps(level, plane.shape)
        for swapped, down, right in ways:
            turned = [np.swapaxes(part, -2, -1) if swapped else part for part in (plane, levels)]
            one = self(*(part[..., ::down, ::right] for part in turned))
            for part, found in zip(total, (one.plane, one.expected_error), strict=True):
                part += found[::down, ::right].T if swapped else found[::down, ::right]
        total /= len(ways)
        return RestoredPlane(total[0], total[1])

    def _maps(self, level: float | Plane, shape: tuple[int, ...]) -> Plane:
        return np.broadcast_to(level, (self.model.said.level_maps, *shape))

    def _run(self, fed: NDArray[np.float32]) -> NDArray[np.float32]:
        """Channels (1 + maps, rows, columns) through the network for the next larger shape."""
        rows, columns = fed.shape[1:]
        shape = (-(-rows // MULTIPLE) * MULTIPLE, -(-columns // MULTIPLE) * MULTIPLE)
        padded = np.pad(fed, ((0, 0), (0, shape[0] - rows), (0, shape[1] - columns)), mode="symmetric")
        return self._opened(shape)(padded[None])[0][:, :rows, :columns]

    def _opened(self, shape: tuple[int, int]) -> Network:
        if self.network is not None:
            return self.network
        if shape not in self._networks:
            self._networks[shape] = open_network(
                NetworkSource(self.model.said.weights, build=self.model.build),
                patch=shape, channels=1 + self.model.said.level_maps, outputs=2,
                device=self.device, threads=self.threads,
            )  # fmt: skip
        return self._networks[shape]


def ways_of(pixels: int) -> int:
    """In how many ways a plane of that size is restored where time counts."""
    return 4 if pixels <= SMALL else 2


def tiles(shape: tuple[int, ...]) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Parts of a plane, none larger than `LARGEST` with its surroundings: what is kept, and what is run."""
    for inner in itertools.product(*(_parts(n) for n in shape)):
        outer = tuple(
            slice(max(0, part.start - OVERLAP), min(n, part.stop + OVERLAP))
            for part, n in zip(inner, shape, strict=True)
        )
        yield inner, outer


def _parts(length: int) -> list[slice]:
    if length <= LARGEST:
        return [slice(0, length)]
    step = LARGEST - 2 * OVERLAP
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]
