"""Bases of one contig after another out of a reference, a stretch at a time, so that memory stays bounded."""

from __future__ import annotations

from careloop.genome.files.reference import Reference

STRETCH = 1 << 20  # bases held at a time
# What a reference's ambiguity code may stand for; a variant file writes a base of it, or N (VCF 4.5 section 1.6.1.4).
_CODES = {
    "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC",
    "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG",
}  # fmt: skip


class ContigWindow:
    """The bases of one contig, read a stretch at a time."""

    def __init__(self, reference: Reference, contig: str, length: int):
        self.contig, self.length = contig, length
        self._reference = reference
        self._start, self._end, self._bases = 0, 0, ""

    def fetch(self, start: int, end: int) -> str:
        """The bases from `start` to before `end`, both cut to the contig."""
        start, end = max(0, start), min(end, self.length)
        if start >= end:
            return ""
        if start < self._start or end > self._end:
            # Some of what lies before is kept as well: indels are shifted to the left.
            self._start = max(0, start - STRETCH // 16)
            self._end = min(self.length, max(end, self._start + STRETCH))
            self._bases = self._reference.fetch(self.contig, self._start, self._end)
        return self._bases[start - self._start : end - self._start]

    def agrees(self, start: int, ref: str) -> bool:
        """Whether a record's REF is what the reference has at `start`."""
        bases = self.fetch(start, start + len(ref))
        if bases == ref:
            return True
        if len(bases) != len(ref):
            return False
        return all(a == b or (b in _CODES and a in _CODES[b] + "N") for a, b in zip(ref, bases, strict=True))
