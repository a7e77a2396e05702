"""Time zones by name, for times that are written without an offset."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from careloop import InputError


def zone_named(time_zone: str) -> ZoneInfo:
    """Return the IANA time zone.

    Raises:
        InputError: there is none of that name.
    """
    try:
        return ZoneInfo(time_zone)
    except (KeyError, ValueError, OSError):
        raise InputError(f"time_zone: {time_zone!r} is no IANA time zone; give one such as Europe/Berlin") from None
