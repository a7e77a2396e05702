"""What a segmentation has finished so far, kept in the output folder so that a killed run goes on from there."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop import InputError
from careloop.imaging.segment.model import SegmentationModel

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    State = Mapping[str, NDArray[Any]]

SAVE_EVERY_S = 30.0
TIME_SHARE = 20.0  # a save waits for this many times what the last one took: at most a twentieth of the time is spent


def state_key(image: NDArray[np.float32], model: SegmentationModel, *settings: object) -> str:
    """Digest of all that the scores depend on: the prepared image, the weights, how they are run, other `settings`."""
    digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16)
    networks = [network.digest for network in model.networks]
    digest.update(repr((image.shape, networks, model.preparation, model.tiling, model.outputs, settings)).encode())
    return digest.hexdigest()


class Partial:
    """The saved state of one run in `folder`, found again by `key`; a file of another key is left alone.

    Whoever takes the slabs keeps its own arrays here too (`array`), filled in place, so that both go on from the same
    plane. The file is written beside the old one and moved into its place, so a kill leaves one of the two.
    """

    def __init__(self, folder: Path, *, key: str, every_s: float = SAVE_EVERY_S) -> None:
        self.path = folder / f".segmentation-{key}.partial"
        self._fresh = self.path.with_suffix(".new")  # what is being written, or was when the run was killed
        self.key, self.every_s = key, every_s
        self._saved = self._read()
        self._arrays: dict[str, NDArray[Any]] = {}
        self._last, self._took_s = time.monotonic(), 0.0

    def array(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array that is saved with the state: as it was saved last, else zeros. Asked for before the slabs."""
        saved = (self._saved or {}).get(f"kept.{name}")
        if saved is not None and (saved.shape != shape or saved.dtype != np.dtype(dtype)):
            raise InputError(
                f"A resumed segmentation must have the form it was saved in, got another '{name}' in {self.path}; "
                "delete that file to start anew"
            )
        self._arrays[name] = np.zeros(shape, dtype) if saved is None else saved
        return self._arrays[name]

    def state(self) -> State | None:
        """What was saved last, without the kept arrays; None at a fresh start. The caller may fill it in place."""
        saved, self._saved = self._saved, None
        return saved

    def save_when_due(self, state: Callable[[], State]) -> None:
        """Save if the last save is long enough ago."""
        if time.monotonic() - self._last >= max(self.every_s, TIME_SHARE * self._took_s):
            self.save(state())

    def save(self, state: State) -> None:
        """Write the state and the kept arrays; the run goes on without it where the disk is full."""
        started = time.monotonic()
        arrays = {**state, **{f"kept.{name}": array for name, array in self._arrays.items()}}
        fresh = self._fresh
        try:
            with fresh.open("wb") as file:
                file.write(json.dumps({"key": self.key, "names": list(arrays)}).encode() + b"\n")
                for array in arrays.values():
                    np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path)
        except OSError:
            fresh.unlink(missing_ok=True)
        self._last = time.monotonic()
        self._took_s = self._last - started

    def remove(self) -> None:
        """The result is written: nothing is left to go on with."""
        for path in (self.path, self._fresh):
            path.unlink(missing_ok=True)

    def _read(self) -> dict[str, NDArray[Any]] | None:
        try:
            with self.path.open("rb") as file:
                header = json.loads(file.readline())
                if header["key"] != self.key:
                    return None
                return {name: np.lib.format.read_array(file, allow_pickle=False) for name in header["names"]}
        except (OSError, ValueError, KeyError):
            return None
