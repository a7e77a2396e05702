"""How much memory running a model over an image takes, and whether this machine has it free, before the work starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from careloop import InputError
from careloop.imaging.segment.model import Tiling
from careloop.imaging.segment.runtime import Network
from careloop.imaging.segment.slabs import SLAB_BYTES, open_planes, planned
from careloop.imaging.segment.tiles import patch_3d

FLOATS_PER_VOXEL_TORCH = 220  # a U-Net with 32 features held six full-size arrays and a few smaller ones, as measured
FRAGMENTED = 1.05  # OpenVINO's arrays do not lie quite without gaps
SMALL_THINGS = 32 * 2**20  # planes on their way, the progress bar, what Python's allocator keeps


def needed_bytes(shape: tuple[int, ...], networks: Sequence[Network], *, tiling: Tiling, outputs: int) -> int:
    """Memory that `scores_by_slab` takes over an image (C, Z, Y, X) beside what the process holds now, at its peak.

    The networks are open (their weights are held), the image is in memory, and what is done with the slabs is the
    caller's to add. An estimate from the sizes of all arrays that are needed at one time.
    """
    channels, *space = shape
    work = planned(tuple(space), tiling, networks=len(networks), batch=min(n.batch for n in networks))
    plane = space[1] * space[2]
    depth = open_planes(tuple(space), work, patch_3d(tiling)[0])
    sums = depth * plane * 2 * (outputs * len(networks) + 1)
    tile = max(n.batch for n in networks) * int(np.prod(tiling.patch)) * 4
    flips = 2 * outputs if tiling.mirror_axes else 0  # the running mean, and one turned back
    tiles = tile * (2 * channels + outputs * len(networks) + flips)
    activations = [n.activation_bytes or FLOATS_PER_VOXEL_TORCH * tile for n in networks]
    running = FRAGMENTED * max(activations) + tiles
    slab = min(max(SLAB_BYTES, 4 * outputs * plane), 4 * outputs * plane * space[0]) + 3 * 4 * outputs * plane
    return int(sums + max(running, slab + (0 if len(networks) > 1 else running)) + SMALL_THINGS)


def check_memory(needed: int, *, available: int | None = None) -> None:
    """Raise InputError where less memory than `needed` bytes is free (None: ask the system)."""
    available = available_bytes() if available is None else available
    if available is not None and needed > available:
        raise InputError(
            f"Segmenting this image needs about {needed / 1e9:.1f} GB of free memory, got {available / 1e9:.1f} GB; "
            "close other programs, use a machine with more memory, fewer folds, or a model with larger voxels"
        )


def available_bytes() -> int | None:
    """Memory that this process can still take: the machine's, or less where its control groups leave it less."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return _available_elsewhere()
    values = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
    return min([values.get("MemAvailable", values["MemFree"]), *_left_by_control_groups()])


def _left_by_control_groups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """What each memory limit on this process' groups, and those above, leaves: version 2's files, or version 1's."""
    try:
        groups = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return []
    left = []
    for _, controllers, path in groups:
        if controllers not in ("", "memory"):
            continue
        below = root / "memory" if controllers else root
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        place = below / path.strip("/")
        left += [_left_in(folder, *names) for folder in (place, *place.parents) if folder.is_relative_to(below)]
    return [value for value in left if value is not None]


def _left_in(folder: Path, limit_name: str, usage_name: str) -> int | None:
    """Limit less usage of one group; file pages that can be dropped count as free. None where there is no limit."""
    try:
        limit, usage = (int((folder / name).read_text()) for name in (limit_name, usage_name))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return max(0, limit - usage + int(stat.get("inactive_file", 0)))


def _available_elsewhere() -> int | None:
    for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"):
        try:
            return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):
            continue
    return None
