"""The samples' columns of a VCF line as numbers: genotypes of all samples at once, dosages, probabilities."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from careloop.genome.files.variant_lines import BadLineError
from careloop.genome.genotypes.formats.alternatives import (
    NO_ALLELE,
    UNKNOWN_ALLELE,
    copies_called,
    copies_in_genotypes,
)
from careloop.genome.genotypes.source import MISSING

_TAB, _COLON, _SLASH, _BAR, _DOT, _ZERO, _NINE = b"\t:/|.09"
_BEHIND = np.full(4, _TAB, np.uint8)  # so that the last genotype can be looked at in full
_GENOTYPE = re.compile(rb"[/|]?(\d{1,4}|\.)(?:[/|](\d{1,4}|\.))?")


class SampleColumns:
    """The samples' columns of one line that has `alternatives` alternative alleles; `keys` are those of its FORMAT.

    Raises:
        BadLineError: another number of columns than `samples`.
    """

    def __init__(self, text: bytes, keys: list[bytes], *, samples: int, alternatives: int) -> None:
        self._text = text
        self._keys = keys
        self._bytes = np.concatenate((np.frombuffer(text, np.uint8), _BEHIND))
        self._starts = np.concatenate(([0], np.flatnonzero(self._bytes[: len(text)] == _TAB) + 1))
        self._alternatives = alternatives
        if self._starts.size != samples:
            raise BadLineError("number of columns is not the header's")

    def copies(self) -> NDArray[np.int8]:
        """Copies of each alternative by GT: (alternatives, samples) of 0, 1, 2 or `MISSING`.

        Raises:
            BadLineError: a genotype that is none, of an allele that the line does not have, or of over two copies.
        """
        return self._copies(*self._alleles())

    def dosages(self) -> NDArray[np.float32]:
        """Dosages of each alternative: (alternatives, samples) by DS, where that is missing by GT; by GP without both.

        DS of a sample with one copy in GT is from 0 to 1, as imputation writes it, and is doubled.

        Raises:
            BadLineError: as `copies`, or a dosage or probability that is no number.
        """
        first, second = self._alleles()
        copies = self._copies(first, second)
        dosages = np.where(copies == MISSING, np.nan, copies).astype(np.float32)
        if b"DS" in self._keys:
            given = self._read(b"DS", _numbers) * np.where(second == NO_ALLELE, 2, 1).astype(np.float32)
            dosages = np.where(np.isnan(given), dosages, given)
        elif b"GT" not in self._keys and b"GP" in self._keys:
            dosages = self._read(b"GP", _expected)
        return np.clip(dosages, 0, 2)

    def _copies(self, first: NDArray[np.int16], second: NDArray[np.int16]) -> NDArray[np.int8]:
        if max(first.max(initial=0), second.max(initial=0)) > self._alternatives:
            raise BadLineError("genotype has an allele that the line does not have")
        return np.stack([copies_called(first, second, allele) for allele in range(1, self._alternatives + 1)])

    def _alleles(self) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
        """The two alleles of each sample; those that are not written as `0/1` or `0` are read one by one."""
        if b"GT" not in self._keys:
            unknown = np.full(self._starts.size, UNKNOWN_ALLELE, np.int16)
            return unknown, unknown
        one, between, two, behind = (self._bytes[self._starts + place] for place in range(4))
        haploid = _is_allele(one) & _is_end(between)
        diploid = _is_allele(one) & ((between == _SLASH) | (between == _BAR)) & _is_allele(two) & _is_end(behind)
        first, second = _numbered(one), np.where(diploid, _numbered(two), NO_ALLELE).astype(np.int16)
        for sample in np.flatnonzero(~(haploid | diploid)) if self._keys[0] == b"GT" else range(first.size):
            first[sample], second[sample] = _genotype(self._value(int(sample), b"GT"))
        return first, second

    def _read(self, key: bytes, read: Callable[[bytes, int], tuple[float, ...]]) -> NDArray[np.float32]:
        """A value of each alternative: (alternatives, samples); each text is read once."""
        known: dict[bytes, tuple[float, ...]] = {}
        place, values = self._keys.index(key), []
        for column in self._text.split(b"\t"):
            parts = column.split(b":")
            text = parts[place] if place < len(parts) else b"."
            value = known.get(text)
            if value is None:
                value = known[text] = read(text, self._alternatives)
            values.append(value)
        return np.array(values, np.float32).T

    def _value(self, sample: int, key: bytes) -> bytes:
        parts = self._text[self._starts[sample] :].split(b"\t", 1)[0].split(b":")
        place = self._keys.index(key)
        return parts[place] if place < len(parts) else b"."


def _is_allele(values: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return ((values >= _ZERO) & (values <= _NINE)) | (values == _DOT)


def _is_end(values: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (values == _TAB) | (values == _COLON)


def _numbered(digits: NDArray[np.uint8]) -> NDArray[np.int16]:
    return np.where(digits == _DOT, UNKNOWN_ALLELE, digits.astype(np.int16) - _ZERO).astype(np.int16)


def _genotype(text: bytes) -> tuple[int, int]:
    found = _GENOTYPE.fullmatch(text)
    if found is None:
        raise BadLineError("genotype is not written as in VCF, or has more than two copies")
    first, second = (
        UNKNOWN_ALLELE if one == b"." else NO_ALLELE if one is None else int(one) for one in found.groups()
    )
    return first, second


def _numbers(text: bytes, alternatives: int) -> tuple[float, ...]:
    """A dosage of each alternative; all NaN where missing."""
    if text == b".":
        return (np.nan,) * alternatives
    try:
        values = tuple(np.nan if one == b"." else float(one) for one in text.split(b","))
    except ValueError:
        raise BadLineError("dosage or probability is no number") from None
    if len(values) != alternatives:
        raise BadLineError("number of dosages is not that of alternative alleles")
    return values


def _expected(text: bytes, alternatives: int) -> tuple[float, ...]:
    """The dosage of each alternative by the probabilities of all genotypes; all NaN where missing."""
    if b"." in text.split(b","):
        return (np.nan,) * alternatives
    alleles = alternatives + 1
    count = text.count(b",") + 1
    values = np.array(_numbers(text, count))
    for ploidy, expected in ((1, alleles), (2, alleles * (alleles + 1) // 2)):
        if count == expected:
            weights = [copies_in_genotypes(allele, alleles, ploidy=ploidy) for allele in range(1, alleles)]
            return tuple(float(values @ weight / values.sum()) for weight in weights)
    raise BadLineError("number of probabilities is not that of genotypes")
