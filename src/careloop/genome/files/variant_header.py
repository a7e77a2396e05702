"""The header of a variant file: samples, contigs, assembly, callers, and the types of its INFO and FORMAT values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from careloop import InputError
from careloop.genome.files.builds import detect_build

VERSIONS = ("VCFv4.1", "VCFv4.2", "VCFv4.3", "VCFv4.4", "VCFv4.5")
WRITTEN_VERSION = "VCFv4.3"  # the newest that all of htslib's users read
_COLUMNS = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"]
_ID = re.compile(r"[<,]ID=([^,>]+)")
_NUMBER = re.compile(r"[<,]Number=([^,>]+)")
_TYPE = re.compile(r"[<,]Type=(\w+)")
_LENGTH = re.compile(r"[<,]length=(\d{1,12})[,>]")
_ASSEMBLY = re.compile(r'[<,](?:assembly|URL)="?([^,>"]+)')
_ESCAPED = re.compile(r"%(3A|3B|3D|25|2C|0D|0A|09)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FieldType:
    """How an INFO or FORMAT value is written: `number` is a count or one of A, R, G, `.`; `kind` its VCF Type."""

    number: str
    kind: str

    def read(self, text: str, escaped: bool) -> Any:
        """Return the value of a text, as pysam gives it: one value for Number 1, else a tuple; None for missing.

        A value that is not of its type is None as well. `escaped` says that %2C and its like stand for characters
        (VCF 4.3 section 1.2).
        """
        if self.kind == "Flag":
            return True
        if self.number in ("0", "1"):
            return self._one(text, escaped)
        return tuple([self._one(part, escaped) for part in text.split(",")])

    def _one(self, text: str, escaped: bool) -> Any:
        if text in (".", ""):
            return None
        if self.kind in ("Integer", "Float"):
            try:
                return int(text) if self.kind == "Integer" else float(text)
            except ValueError:
                return None
        return _unescaped(text) if escaped and "%" in text else text


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)


# What keys mean that a header does not define, as far as this package asks for them (VCF 4.5 tables 1 and 2).
_RESERVED_INFO = {
    "AC": FieldType("A", "Integer"),
    "AF": FieldType("A", "Float"),
    "AN": FieldType("1", "Integer"),
    "DP": FieldType("1", "Integer"),
    "END": FieldType("1", "Integer"),
    "SVLEN": FieldType("A", "Integer"),
}
_RESERVED_FORMAT = {
    "AD": FieldType("R", "Integer"),
    "DP": FieldType("1", "Integer"),
    "GL": FieldType("G", "Float"),
    "GP": FieldType("G", "Float"),
    "GQ": FieldType("1", "Integer"),
    "LEN": FieldType("1", "Integer"),
    "MIN_DP": FieldType("1", "Integer"),
    "PL": FieldType("G", "Integer"),
    "PS": FieldType("1", "Integer"),
}
_UNDEFINED = FieldType("1", "String")
_FLAG = FieldType("0", "Flag")


@dataclass(frozen=True)
class VariantHeader:
    """What the header of a VCF or BCF file says.

    `contigs` {name: length in bases, None not given}; `build` GRCh37, GRCh38, T2T-CHM13v2.0 or unknown; `version` such
    as `4.2`; `callers` the programs that name themselves; `lines` all `##` lines but the first, as they stand.
    """

    samples: tuple[str, ...]
    contigs: Mapping[str, int | None]
    build: str
    version: str = WRITTEN_VERSION.removeprefix("VCFv")
    callers: tuple[str, ...] = ()
    infos: Mapping[str, FieldType] = field(default_factory=dict)
    formats: Mapping[str, FieldType] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    def info_type(self, key: str, *, has_value: bool = True) -> FieldType:
        """The type of an INFO key; an undefined one is a flag without a value, else what VCF reserves it for."""
        found = self.infos.get(key)
        if found is None:
            return _RESERVED_INFO.get(key, _UNDEFINED) if has_value else _FLAG
        return found

    def format_type(self, key: str) -> FieldType:
        """The type of a FORMAT key; an undefined one is what VCF reserves it for, else text."""
        return self.formats.get(key) or _RESERVED_FORMAT.get(key, _UNDEFINED)

    def with_lines(self, *lines: str) -> VariantHeader:
        """The header with further `##` lines; one that defines an ID again replaces the older."""
        again = {key for line in lines if (key := _defines(line))}
        kept = [line for line in self.lines if _defines(line) not in again]
        return _header(self.version, [*kept, *lines], self.samples, where="header")

    def with_samples(self, samples: Iterable[str]) -> VariantHeader:
        """The header with other samples."""
        return _header(self.version, self.lines, tuple(samples), where="header")


def new_header(
    contigs: Mapping[str, int | None], samples: Iterable[str] = (), *, lines: Iterable[str] = ()
) -> VariantHeader:
    """Return a header to write: contigs with their lengths, samples, and further `##` lines (INFO, FORMAT, source).

    Raises:
        InputError: two samples of one name, or contigs of two assemblies.
    """
    named = [f"##contig=<ID={name}" + (f",length={size}>" if size else ">") for name, size in contigs.items()]
    passed = '##FILTER=<ID=PASS,Description="All filters passed">'
    version = WRITTEN_VERSION.removeprefix("VCFv")
    return _header(version, [passed, *lines, *named], tuple(samples), where="header")


def parse_header(lines: Iterable[str], *, where: str) -> VariantHeader:
    """Read a header from its lines (without line ends), first to `#CHROM`.

    Raises:
        InputError: not VCF 4.1 to 4.5, no column line, two samples of one name, or contigs of two assemblies.
    """
    each = iter(lines)
    first = next(each, "").removeprefix("\ufeff")
    if not first.startswith("##fileformat=VCF"):
        raise InputError(f"{where}: not a VCF or BCF file; it must begin with ##fileformat=VCFv4")
    version = first.partition("=")[2].strip()
    if version not in VERSIONS:
        raise InputError(f"{where}: VCF version must be 4.1 to 4.5; got {version[:20]!r}; convert it: bcftools view")
    meta: list[str] = []
    for line in each:
        if line.startswith("##"):
            meta.append(line)
            continue
        columns = line.split("\t")
        if columns[:8] != _COLUMNS or (len(columns) > 8 and columns[8] != "FORMAT"):
            raise InputError(
                f"{where}: before the first variant there must be a line #CHROM POS ID REF ALT QUAL FILTER INFO, "
                f"separated by tabs; line {len(meta) + 2} is not"
            )
        return _header(version.removeprefix("VCFv"), meta, tuple(columns[9:]), where=where)
    raise InputError(f"{where}: file ends early: there is no column line (#CHROM)")


def _header(version: str, lines: Iterable[str], samples: tuple[str, ...], *, where: str) -> VariantHeader:
    if len(set(samples)) < len(samples) or "" in samples:
        raise InputError(f"{where}: samples must have names, each another one; rename them: bcftools reheader")
    contigs: dict[str, int | None] = {}
    infos: dict[str, FieldType] = {}
    formats: dict[str, FieldType] = {}
    callers: list[str] = []
    words: list[str] = []
    lines = tuple(lines)
    for line in lines:
        key, _, value = line[2:].partition("=")
        identifier = match[1] if (match := _ID.search(value)) else ""
        if key == "contig" and identifier:
            contigs[identifier] = int(size[1]) if (size := _LENGTH.search(value)) else None
            words += _ASSEMBLY.findall(value)
        elif key in ("INFO", "FORMAT") and identifier:
            (infos if key == "INFO" else formats)[identifier] = _field_type(value)
        elif key == "reference":
            words.append(value)
        elif caller := _caller(key, value, identifier):
            callers.append(caller)
    build = detect_build(contigs, words=words, where=where)
    return VariantHeader(samples, contigs, build, version, tuple(dict.fromkeys(callers)), infos, formats, lines)


def _field_type(value: str) -> FieldType:
    number, kind = _NUMBER.search(value), _TYPE.search(value)
    return FieldType(number[1] if number else ".", kind[1] if kind else "String")


def _caller(key: str, value: str, identifier: str) -> str:
    """The program that a header line names (`##source=`, `##GATKCommandLine=<ID=...>`, `##bcftools_callVersion`)."""
    if key == "source":
        return value.strip()[:200]
    if key.startswith("GATKCommandLine"):
        return f"GATK {identifier}" if identifier else "GATK"
    if key.endswith("_callVersion"):
        return f"{key.removesuffix('_callVersion')} call {value.strip()[:100]}"
    return ""


def _defines(line: str) -> tuple[str, str] | None:
    """Kind and ID of what a structured header line defines, None for others."""
    key, _, value = line.partition("=")
    match = _ID.search(value) if value.startswith("<") else None
    return (key, match[1]) if match else None
