"""Values of DICOM elements: text, whole numbers and decimals as they are written, exact and without surprises."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from careloop.imaging.finding import Finding
from careloop.imaging.slices import Vector

if TYPE_CHECKING:
    from pydicom import Dataset

OVER_LONG = "over-long decimal string"
MAX_DECIMAL_CHARACTERS = 16  # of one value of VR DS (PS3.5 section 6.2)
_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?\d{1,12}")
_INTEGER_VRS = {"US": (2, False), "US or SS": (2, False), "SS": (2, True), "UL": (4, False), "SL": (4, True)}
_BINARY_VRS = {"FD", "FL", "SS", "US", "SL", "UL", "SV", "UV", "AT", "US or SS"}


_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")
LONGEST_TITLE = 64


class BadValueError(ValueError):
    """An element that must hold numbers holds something else; the message names the element, not what it holds."""


def raw_text(dataset: Dataset, keyword: str) -> str:
    """Return all values of an element of ASCII text (UI, CS, IS, DS, DA, TM, DT, SH ...) as one trimmed string.

    Values stay apart by backslashes. The bytes are taken as they stand, several times as fast as pydicom's conversion;
    binary numbers (FD, US ...) are converted. Empty where the element is absent or malformed.
    """
    element = dataset.get_item(tag_of(keyword))
    value = getattr(element, "value", None)
    if value is None:
        return ""
    if isinstance(value, bytes):
        if (element.VR or _dictionary_vr(keyword)) not in _BINARY_VRS:
            return printable(value.decode("latin-1")).strip()
        try:
            value = dataset[keyword].value
        except Exception:  # pydicom converts on access, and raises whatever a malformed value leads to
            return ""
    if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue":
        return printable("\\".join(_written(v) for v in value))
    return printable(_written(value)).strip()


def code_string(dataset: Dataset, keyword: str) -> str:
    """Return an element's one code (value representation CS, PS3.5 6.2); empty where it holds anything else.

    A byte lost in an element's length makes it swallow what follows, the patient's name included: such a value must not
    get into a message.
    """
    value = raw_text(dataset, keyword).upper()
    return value if _CODE.fullmatch(value) else ""


def titled(text: str) -> str:
    """Text fit to be shown: printable, and empty where damage made it longer than a title (LO, PS3.5 6.2) may be."""
    return printable(text) if len(text) <= LONGEST_TITLE else ""


def printable(text: str) -> str:
    """A text without the control characters that padding or damage put into it, so that a message stays one line."""
    return text if text.isprintable() else "".join(c for c in text if c.isprintable())


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


@cache
def _dictionary_vr(keyword: str) -> str:
    from pydicom.datadict import dictionary_VR

    return dictionary_VR(tag_of(keyword))


def private_text(dataset: Dataset, tag: int) -> str:
    """Return a private element's text; whose element it is, its block's owner says (PS3.5 section 7.8.1)."""
    value = getattr(dataset.get_item(tag), "value", None)
    return (value.decode("latin-1") if isinstance(value, bytes) else str(value or "")).replace("\0", "").strip()


def decimals(dataset: Dataset, keyword: str, over_long: list[str]) -> tuple[float, ...] | None:
    """Return the values of a DS element (or of binary numbers); None where it is absent or empty.

    Keywords whose values are longer than the 16 characters that DS allows are added to `over_long`: they are exact
    all the same.

    Raises:
        BadValueError: a value that is no finite decimal number.
    """
    element = dataset.get_item(tag_of(keyword))
    if element is None or element.value is None:
        return None
    if (element.VR or _dictionary_vr(keyword)) in _BINARY_VRS:
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
    except Exception:  # as in `raw_text`
        raise BadValueError(f"{keyword} is malformed") from None
    if not all(map(math.isfinite, values)):
        raise BadValueError(f"{keyword} holds a value that is no number")
    return values or None


def whole(dataset: Dataset, keyword: str) -> int | None:
    """Return an element's first value as a whole number (US, SS, UL, SL or IS); None where absent or malformed."""
    element: Any = dataset.get_item(tag_of(keyword))
    value: Any = getattr(element, "value", None)
    if isinstance(value, bytes):
        vr = element.VR or _dictionary_vr(keyword)
        if vr not in _INTEGER_VRS:
            return _whole_of_text(value.partition(b"\\")[0].decode("latin-1"))
        size, signed = _INTEGER_VRS[vr]
        order: Literal["little", "big"] = "little" if element.is_little_endian else "big"
        return int.from_bytes(value[:size], order, signed=signed) if len(value) >= size else None
    if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue":
        value = value[0] if len(value) else None
    return None if value is None else _whole_of_text(str(value))


def _whole_of_text(text: str) -> int | None:
    text = text.strip("\0 ")
    return int(text) if _WHOLE.fullmatch(text) else None


def over_long_findings(keywords: Sequence[str]) -> Iterator[Finding]:
    """One finding an element whose decimal strings are longer than 16 characters."""
    for keyword in dict.fromkeys(keywords):
        message = f"{keyword} has more than the 16 characters a decimal string may have; it is read in full"
        yield Finding(OVER_LONG, "handled", message)


def vector(values: tuple[float, ...] | None, keyword: str) -> Vector | None:
    """Three numbers, or None where there are none; BadValueError for another count."""
    if values is None:
        return None
    if len(values) != 3:
        raise BadValueError(f"{keyword} must have 3 values, got {len(values)}")
    return values[0], values[1], values[2]


def directions(values: tuple[float, ...] | None) -> tuple[Vector, Vector] | None:
    """ImageOrientationPatient as the directions of a row and a column, or None; BadValueError for another count."""
    if values is None:
        return None
    if len(values) != 6:
        raise BadValueError(f"ImageOrientationPatient must have 6 values, got {len(values)}")
    return (values[0], values[1], values[2]), (values[3], values[4], values[5])


def pair(values: tuple[float, ...], keyword: str) -> tuple[float, float]:
    """Two numbers; BadValueError for another count."""
    if len(values) != 2:
        raise BadValueError(f"{keyword} must have 2 values, got {len(values)}")
    return values[0], values[1]
