"""A line of a VCF to a Record: alleles and genotypes are checked at once, INFO and samples are read when asked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from careloop.genome.files.regions import END_OF_CONTIG
from careloop.genome.files.variant_header import VariantHeader
from careloop.genome.variant import ANY_OTHER, SPANNING, Record, SampleCall

MISSING = "."
_BASES = re.compile(r"[ACGTUNMRWSYKVHDB]+")
_SYMBOLIC = re.compile(r"<[^<>\s,]+>|[^\s,]*[\[\]][^\s,\[\]]+[\[\]][^\s,]*|\.[ACGTN]+|[ACGTN]+\.", re.IGNORECASE)
_GENOTYPE = re.compile(r"[/|]?(?:\d{1,6}|\.)(?:[/|](?:\d{1,6}|\.))*")
_SEPARATOR = re.compile(r"[/|]")
_MOST_REMEMBERED = 10_000  # alleles and genotypes seen before, which nearly all lines repeat
_SYMBOLIC_WITH_LENGTH = ("<DEL", "<DUP", "<INV", "<CNV")

Genotype = tuple[tuple[int | None, ...], bool, int]  # alleles, phased, highest allele


class BadLineError(ValueError):
    """Why a line is not read, in fixed words."""


class LineReader:
    """Reads the lines of one file; remembers the alleles and genotypes it has checked."""

    def __init__(self, header: VariantHeader) -> None:
        self.header = header
        self.escaped = header.version not in ("4.1", "4.2")
        self.sample_index = {name: index for index, name in enumerate(header.samples)}
        self._columns = 9 + len(header.samples) if header.samples else 8
        self._alleles: dict[str, str] = {base: base for base in "ACGTN"}
        self._genotypes: dict[str, Genotype] = {}
        self._format_keys: dict[str, list[str]] = {}

    def record(self, line: str) -> Record:
        """Return the record of a line without its line end.

        Raises:
            BadLineError: too few columns, a position that is no number, alleles that are none, or a genotype of an
                allele that the line does not have.
        """
        columns = line.split("\t")
        if len(columns) < self._columns or len(columns) > max(self._columns, 9):
            raise BadLineError("number of columns is not the header's")
        contig, position, identifier, ref, alt, quality, filters, info_text = columns[:8]
        start = _start(position)
        if not contig:
            raise BadLineError("no contig")
        ref = self._alleles.get(ref) or self._checked_ref(ref)
        alts = () if alt == MISSING else tuple([self._alleles.get(a) or self._checked_alt(a) for a in alt.split(",")])
        info = InfoValues("" if info_text == MISSING else info_text, self)
        samples: Mapping[str, SampleCall] = {}
        if self.header.samples:
            samples = SampleValues(columns[8], columns[9:], self)
            if samples.highest_allele() > len(alts):
                raise BadLineError("genotype has an allele that the line does not have")
        end = start + len(ref)
        if "<" in alt or "END=" in info_text:
            end = max(end, _end(start, alts, info, samples))
        return Record(
            contig,
            start,
            end,
            ref,
            alts,
            "" if identifier == MISSING else identifier,
            None if quality == MISSING else _quality(quality),
            () if filters == MISSING else tuple(filters.split(";")),
            info,
            samples,
        )

    def genotype(self, text: str) -> Genotype:
        """Return alleles, whether phased, and the highest allele of a GT value."""
        known = self._genotypes.get(text)
        if known is None:
            if _GENOTYPE.fullmatch(text) is None:
                raise BadLineError("genotype is not written as in VCF")
            known = _genotype(text)
            if len(self._genotypes) < _MOST_REMEMBERED:
                self._genotypes[text] = known
        return known

    def format_keys(self, text: str) -> list[str]:
        """The keys of a FORMAT column; the list is shared by the lines that have the same."""
        keys = self._format_keys.get(text)
        if keys is None:
            keys = [] if text in (MISSING, "") else text.split(":")
            if len(self._format_keys) < _MOST_REMEMBERED:
                self._format_keys[text] = keys
        return keys

    def _checked_ref(self, text: str) -> str:
        bases = text.upper()  # VCF's bases are of either case, with one meaning
        if _BASES.fullmatch(bases) is None:
            raise BadLineError("REF is not bases")
        return self._remembered(text, bases)

    def _checked_alt(self, text: str) -> str:
        bases = text.upper()
        if _BASES.fullmatch(bases) is None:
            if text != SPANNING and _SYMBOLIC.fullmatch(text) is None:
                raise BadLineError("ALT is not bases, `*`, a symbolic allele or a breakend")
            return text
        return self._remembered(text, bases)

    def _remembered(self, text: str, bases: str) -> str:
        if len(text) < 8 and len(self._alleles) < _MOST_REMEMBERED:
            self._alleles[text] = bases
        return bases


def _start(position: str) -> int:
    if not (position.isascii() and position.isdigit()) or len(position) > 10 or int(position) > END_OF_CONTIG:
        raise BadLineError("POS is not a position")
    return int(position) - 1


def _quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError:
        raise BadLineError("QUAL is not a number") from None
    if quality != quality:  # NaN
        raise BadLineError("QUAL is not a number")
    return quality


def _genotype(text: str) -> Genotype:
    """Read a GT that is known to be well formed; VCF 4.4 may begin with the first allele's own phasing."""
    leading = text[0] if text[0] in "/|" else ""
    body = text[1:] if leading else text
    alleles = tuple([None if part == MISSING else int(part) for part in _SEPARATOR.split(body)])
    phased = "/" not in body and leading != "/" and ("|" in body or leading == "|")
    return alleles, phased, max((a for a in alleles if a is not None), default=0)


def _end(start: int, alts: tuple[str, ...], info: InfoValues, samples: Mapping[str, SampleCall]) -> int:
    """The end that INFO/END, SVLEN or (VCF 4.5) FORMAT/LEN gives a block or a symbolic allele."""
    ends = [end] if isinstance(end := info.get("END"), int) else []
    lengths = info.get("SVLEN")
    for alt, length in zip(alts, lengths if isinstance(lengths, tuple) else (lengths,), strict=False):
        if alt.startswith(_SYMBOLIC_WITH_LENGTH) and isinstance(length, int):
            ends.append(start + 1 + abs(length))
    if not ends and set(alts) & set(ANY_OTHER):
        spans = [call.fields.get("LEN") for call in samples.values()]
        ends += [start + span for span in spans if isinstance(span, int)]
    return min(max(ends, default=start), END_OF_CONTIG)


class _LazyValues(Mapping[str, Any]):
    """Values by key, kept as text and typed when asked; sent to another process they are a plain dict."""

    __slots__ = ("_reader", "_texts")

    def __init__(self, reader: LineReader) -> None:
        self._reader = reader
        self._texts: dict[str, str | None] | None = None

    def _split(self) -> dict[str, str | None]:
        raise NotImplementedError

    def _all(self) -> dict[str, str | None]:
        if self._texts is None:
            self._texts = self._split()
        return self._texts

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __contains__(self, key: object) -> bool:
        return key in self._all()

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class InfoValues(_LazyValues):
    """INFO values by key."""

    __slots__ = ("text",)

    def __init__(self, text: str, reader: LineReader) -> None:
        super().__init__(reader)
        self.text = text

    def _split(self) -> dict[str, str | None]:
        texts: dict[str, str | None] = {}
        for entry in self.text.split(";"):
            key, has_value, value = entry.partition("=")
            if key and key not in texts:
                texts[key] = value if has_value else None
        return texts

    def __getitem__(self, key: str) -> Any:
        text = self._all()[key]
        kind = self._reader.header.info_type(key, has_value=text is not None)
        return kind.read(text or "", self._reader.escaped)


class FieldValues(_LazyValues):
    """FORMAT values of one sample by key, without GT; those left out at the end are missing values."""

    __slots__ = ("_column", "_keys")

    def __init__(self, keys: list[str], column: list[str], reader: LineReader) -> None:
        super().__init__(reader)
        self._keys = keys
        self._column = column

    def _split(self) -> dict[str, str | None]:
        texts: dict[str, str | None] = dict(zip_longest(self._keys, self._column[: len(self._keys)], fillvalue=MISSING))
        texts.pop("GT", None)
        return texts

    def __getitem__(self, key: str) -> Any:
        text = self._all()[key]
        return self._reader.header.format_type(key).read(text or "", self._reader.escaped)


class SampleValues(Mapping[str, SampleCall]):
    """The samples' calls by name; genotypes are checked at once, the rest is read when asked."""

    __slots__ = ("_calls", "_columns", "_keys", "_reader")

    def __init__(self, keys: str, columns: list[str], reader: LineReader) -> None:
        self._keys = reader.format_keys(keys)
        self._columns = columns
        self._reader = reader
        self._calls: dict[str, SampleCall] = {}

    def columns(self, samples: tuple[str, ...]) -> list[str]:
        """The FORMAT column and those of some samples of the file, as they were written."""
        index = self._reader.sample_index
        return [":".join(self._keys) or MISSING, *[self._columns[index[name]] for name in samples]]

    def highest_allele(self) -> int:
        """The highest allele that a sample has; every genotype is checked on the way."""
        if "GT" not in self._keys:
            return 0
        place = self._keys.index("GT")
        if place == 0 and len(self._columns) == 1:
            return self._reader.genotype(self._columns[0].partition(":")[0])[2]
        if place == 0:
            texts = {column.partition(":")[0] for column in self._columns}
        else:  # against the specification, but its meaning is plain
            texts = {(column.split(":") + [MISSING] * place)[place] for column in self._columns}
        return max([self._reader.genotype(text)[2] for text in texts])

    def __getitem__(self, sample: str) -> SampleCall:
        call = self._calls.get(sample)
        if call is None:
            call = self._call(self._columns[self._reader.sample_index[sample]].split(":"))
            self._calls[sample] = call
        return call

    def _call(self, column: list[str]) -> SampleCall:
        fields = FieldValues(self._keys, column, self._reader)
        if "GT" not in self._keys:
            return SampleCall((), False, fields)
        place = self._keys.index("GT")
        alleles, phased, _ = self._reader.genotype(column[place] if place < len(column) else MISSING)
        return SampleCall(alleles, phased, fields)

    def __iter__(self) -> Iterator[str]:
        return iter(self._reader.sample_index)

    def __len__(self) -> int:
        return len(self._reader.sample_index)

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)
