"""Lines of GFF3 and GTF files as features: place, kind and attributes (GFF3 1.26; GTF 2.2)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

_GTF_ATTRIBUTE = re.compile(r'\s*(\w+)\s+(?:"([^"]*)"|([^";\s]+))\s*(?:;|$)')


class BadFeatureError(ValueError):
    """A line that is not a feature; the text says why, without the line's content."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One line: 0-based half-open, `strand` 1 or -1, `phase` None where not given; attributes by their key.

    Several values of one key are a comma-separated text.
    """

    contig: str
    kind: str
    start: int
    end: int
    strand: int
    phase: int | None
    attributes: dict[str, str]


def read_feature(line: str, attributes: Callable[[str], dict[str, str]]) -> Feature:
    """Return the feature of a line whose ninth column is read by `attributes`.

    Raises:
        BadFeatureError: other than nine columns, positions that are no range, or a strand or phase that is none.
    """
    columns = line.split("\t")
    if len(columns) != 9:
        raise BadFeatureError(f"{len(columns)} columns, must be 9")
    contig, _, kind, start_text, end_text, _, strand, phase, text = columns
    try:
        start, end = int(start_text) - 1, int(end_text)
    except ValueError:
        raise BadFeatureError("start and end must be whole numbers") from None
    if not contig or not 0 <= start < end:
        raise BadFeatureError("start must be from 1 on and not after end")
    if strand not in ("+", "-"):
        raise BadFeatureError("strand must be + or -")
    if phase not in ("0", "1", "2", "."):
        raise BadFeatureError("phase must be 0, 1, 2 or .")
    return Feature(contig, kind, start, end, 1 if strand == "+" else -1, _phase(phase), attributes(text))


def _phase(text: str) -> int | None:
    return None if text == "." else int(text)


def gff3_attributes(text: str) -> dict[str, str]:
    """The ninth column of GFF3: `key=value;...`, with %-escapes resolved."""
    found = {}
    for entry in text.strip().split(";"):
        key, separator, value = entry.strip().partition("=")
        if separator:
            found[key] = unquote(value) if "%" in value else value
    return found


def gtf_attributes(text: str) -> dict[str, str]:
    """The ninth column of GTF: `key "value"; ...`; a key given again (`tag`) adds to its values."""
    found: dict[str, str] = {}
    for match in _GTF_ATTRIBUTE.finditer(text):
        value = match[2] if match[2] is not None else match[3]
        found[match[1]] = f"{found[match[1]]},{value}" if match[1] in found else value
    return found
