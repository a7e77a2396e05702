"""Converted networks kept between runs in the user's cache folder: written whole, bounded, safe with two processes."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from careloop import InputError

FOLDER_VARIABLE = "CARELOOP_CACHE"
MOST_BYTES = 8 * 2**30  # about sixty networks of 30 million weights; the longest unused go first
ABANDONED_S = 86_400  # a network half written a day ago was left by a killed process
IR = "network.xml"  # its weights lie beside it in network.bin


def cache_folder() -> Path:
    """Where converted networks lie: $CARELOOP_CACHE, else careloop in $XDG_CACHE_HOME, else in ~/.cache."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named) / "networks"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "careloop" / "networks"


def cached(key: str, make: Callable[[Path], None]) -> Path:
    """Path of the network under `key`; `make(path)` writes it (an OpenVINO IR and its weights) where it is missing.

    Two processes that miss the same network make it one after the other. Where the cache folder cannot be written to,
    the network lies in a temporary folder until the process ends.
    """
    from filelock import FileLock

    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{key}.lock")
        lock.acquire()
    except OSError:
        return _made_for_now(make)
    try:
        place = folder / key
        if not (place / IR).exists():
            _make_whole(place, make)
            drop_longest_unused(folder, keep=key)
        os.utime(place)
        return place / IR
    finally:
        lock.release()


def forget(path: Path) -> None:
    """Drop a network that turned out unreadable."""
    shutil.rmtree(path.parent, ignore_errors=True)


def drop_longest_unused(folder: Path, *, keep: str, most_bytes: int = MOST_BYTES) -> None:
    """Remove networks, the longest unused first, until the rest fits; what a process has open stays readable."""
    places = [place for place in folder.iterdir() if place.is_dir()]
    for half in [place for place in places if "." in place.name and time.time() - place.stat().st_mtime > ABANDONED_S]:
        shutil.rmtree(half, ignore_errors=True)
    places = [place for place in places if "." not in place.name]
    sizes = {place: sum(file.stat().st_size for file in place.iterdir()) for place in places}
    total = sum(sizes.values())
    for place in sorted(places, key=lambda place: place.stat().st_mtime):
        if total <= most_bytes:
            break
        if place.name != keep:
            total -= sizes[place]
            shutil.rmtree(place, ignore_errors=True)


def _make_whole(place: Path, make: Callable[[Path], None]) -> None:
    """Written in a folder beside and moved: what lies under the key is whole."""
    fresh = Path(tempfile.mkdtemp(prefix=f"{place.name}.", dir=place.parent))
    try:
        make(fresh / IR)
        shutil.rmtree(place, ignore_errors=True)
        fresh.rename(place)
    except OSError as error:
        raise InputError(
            f"A converted network must fit into the cache, got '{error.strerror}' in {place.parent}; "
            f"make room there or set {FOLDER_VARIABLE} to another folder"
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _made_for_now(make: Callable[[Path], None]) -> Path:
    import atexit

    folder = Path(tempfile.mkdtemp(prefix="careloop-network-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    make(folder / IR)
    return folder / IR
