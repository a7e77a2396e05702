"""The largest image that is read, so that a header that lies cannot take the machine's memory."""

from __future__ import annotations

import os

from careloop import InputError

LIMIT_BYTES = 8 << 30
SETTING = "CARELOOP_IMAGE_LIMIT_GIB"


def check_size(where: str, size: int) -> None:
    """Raise InputError if an image of `size` bytes is above the limit (8 GiB, or CARELOOP_IMAGE_LIMIT_GIB)."""
    setting = os.environ.get(SETTING, "")
    try:
        limit = int(float(setting) * (1 << 30)) if setting else LIMIT_BYTES
    except ValueError as error:
        raise InputError(f"{SETTING} must be a number of GiB, got '{setting}'") from error
    if size > limit:
        said, most = (f"{n / (1 << 30):.1f} GiB" for n in (size, limit))
        raise InputError(f"{where}: its image has {said}, above the limit of {most}; if that is right, raise {SETTING}")
