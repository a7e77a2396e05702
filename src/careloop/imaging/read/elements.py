"""Values of DICOM elements: text, whole numbers and decimals as they are written, exact and without surprises."""

from __future__ import annotations

import math
import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_DECIMAL_CHARACTERS = 16  # of one value of VR DS (PS3.5 section 6.2)
_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_BINARY_VRS = {"FD", "FL", "SS", "US", "SL", "UL"}


class BadValueError(ValueError):
    """An element that must hold numbers holds something else; the message names the element, not what it holds."""


def raw_text(dataset: Dataset, keyword: str) -> str:
    """Return all values of an element of ASCII text (UI, CS, IS, DS, DA, TM, DT, SH ...) as one trimmed string.

    Values stay apart by backslashes. The bytes are taken as they stand, several times as fast as pydicom's conversion.
    """
    element = dataset.get_item(tag_of(keyword))
    value = getattr(element, "value", None)
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("latin-1").replace("\0", "").strip()
    if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue":
        return "\\".join(_written(v) for v in value)
    return _written(value).replace("\0", "").strip()


def _written(value: Any) -> str:
    """A converted value as it was written: pydicom's decimals keep their text."""
    return str(getattr(value, "original_string", value))


@cache
def tag_of(keyword: str) -> int:
    """The tag of a keyword of the DICOM dictionary."""
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return tag


def decimals(dataset: Dataset, keyword: str, over_long: list[str]) -> tuple[float, ...] | None:
    """Return the values of a DS (or FD, FL) element; None where it is absent or empty.

    Keywords whose values are longer than the 16 characters that DS allows are added to `over_long`: they are exact
    all the same.

    Raises:
        BadValueError: a value that is no finite decimal number.
    """
    element = dataset.get_item(tag_of(keyword))
    if element is None or element.value is None:
        return None
    if element.VR in _BINARY_VRS:
        return _converted(dataset, keyword)
    text = raw_text(dataset, keyword)
    if not text:
        return None
    parts = [part.strip() for part in text.split("\\")]
    if any(len(part) > MAX_DECIMAL_CHARACTERS for part in parts):
        over_long.append(keyword)
    return tuple(_decimal(part, keyword) for part in parts)


def _decimal(text: str, keyword: str) -> float:
    value = float(text) if _DECIMAL.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise BadValueError(f"{keyword} holds text that is no number")
    return value


def _converted(dataset: Dataset, keyword: str) -> tuple[float, ...] | None:
    try:
        value = dataset[keyword].value
        values = tuple(float(v) for v in (value if hasattr(value, "__len__") else [value]))
    except Exception:  # pydicom converts on access, and raises whatever a malformed value leads to
        raise BadValueError(f"{keyword} is malformed") from None
    if not all(map(math.isfinite, values)):
        raise BadValueError(f"{keyword} holds a value that is no number")
    return values or None


def whole(dataset: Dataset, keyword: str) -> int | None:
    """Return an element's first value as a whole number (US, SS, UL, SL or IS); None where absent or malformed."""
    element = dataset.get_item(tag_of(keyword))
    value = getattr(element, "value", None)
    if isinstance(value, bytes) and element.VR == "US" and len(value) >= 2:  # the quick way for the usual case
        return int.from_bytes(value[:2], "little" if element.is_little_endian else "big")
    try:
        value = dataset.get(keyword)
        if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue":
            value = value[0]
        return None if value is None or value == "" else int(value)
    except Exception:  # as in `_converted`
        return None
