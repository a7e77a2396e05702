"""Variant files written whole or not at all: VCF 4.3 plain or bgzip with a tabix index, and BCF."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from careloop import InputError
from careloop.genome.files.htslib import load_pysam
from careloop.genome.files.variant_header import VERSIONS, WRITTEN_VERSION, VariantHeader
from careloop.genome.files.variant_lines import InfoValues, SampleValues
from careloop.genome.variant import Record, SampleCall

_ENDINGS = (".vcf", ".vcf.gz", ".vcf.bgz", ".bcf")
_LARGEST_TBI = 2**29  # the largest position of a .tbi index; beyond it a .csi is made
_ESCAPES = {"%": "%25", ",": "%2C", "\r": "%0D", "\n": "%0A", "\t": "%09"}
_IN_INFO = str.maketrans(_ESCAPES | {";": "%3B", "=": "%3D"})
_IN_FORMAT = str.maketrans(_ESCAPES | {":": "%3A"})


def write_variants(path: str | Path, header: VariantHeader, records: Iterable[Record]) -> int:
    """Write records and return how many; a file of that name is replaced only when the new one is whole.

    The name says the format: `.vcf`; `.vcf.gz` (bgzip, with an index .tbi, or .csi for contigs over 512 Mb); `.bcf`
    (with .csi). VCF is written as 4.3, or as the header's version where that is newer. Samples are the header's; a
    record without one of them says `.` for it. INFO and samples that come unchanged from a file keep their text.

    Raises:
        InputError: another ending, a folder that cannot be written, or, where an index is made, records that are not
            in order (by contig, then position).
    """
    path = Path(path)
    ending = next((end for end in reversed(_ENDINGS) if path.name.lower().endswith(end)), None)
    if ending is None:
        raise InputError(f"{path}: variants are written to a file ending in {', '.join(_ENDINGS)}")
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".variants-") as folder:
            return _written(Path(folder), path, ending, header, records)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or 'error'}); check folder and space") from None


def _written(folder: Path, path: Path, ending: str, header: VariantHeader, records: Iterable[Record]) -> int:
    text = folder / ("new.vcf" if ending == ".vcf" else "new.vcf.gz")
    lines = _lines(header, records if ending == ".vcf" else _in_order(records, path))
    count = _write_plain(text, lines) if ending == ".vcf" else _write_packed(text, lines)
    made = _binary(text) if ending == ".bcf" else text
    index = None if ending == ".vcf" else _indexed(made, ending, header)
    for old in (".tbi", ".csi"):  # never an old index beside a new file
        path.with_name(path.name + old).unlink(missing_ok=True)
    made.replace(path)
    if index is not None:
        os.utime(index)  # an index older than its file counts as stale
        index.replace(path.with_name(path.name + index.suffix))
    return count


def _lines(header: VariantHeader, records: Iterable[Record]) -> Iterator[str]:
    """The file's lines with their ends; the header comes as one."""
    version = f"VCFv{header.version}"
    if VERSIONS.index(version) < VERSIONS.index(WRITTEN_VERSION):
        version = WRITTEN_VERSION
    columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"]
    columns += ["FORMAT", *header.samples] if header.samples else []
    yield "\n".join([f"##fileformat={version}", *header.lines, "\t".join(columns)]) + "\n"
    for record in records:
        yield record_line(record, header.samples) + "\n"


def _write_plain(path: Path, lines: Iterator[str]) -> int:
    with path.open("w", encoding="utf-8", newline="") as file:
        count = -1  # the header
        for line in lines:
            file.write(line)
            count += 1
        file.flush()
        os.fsync(file.fileno())
    return count


def _write_packed(path: Path, lines: Iterator[str]) -> int:
    count = -1
    with load_pysam().BGZFile(str(path), "wb") as file:
        for line in lines:
            file.write(line.encode("utf-8"))
            count += 1
    return count


def _in_order(records: Iterable[Record], path: Path) -> Iterator[Record]:
    done: set[str] = set()
    contig, start = "", -1
    for record in records:
        if record.contig != contig:
            done.add(contig)
            contig, start = record.contig, -1
        if record.contig in done or record.start < start:
            raise InputError(
                f"{path}: records must be in order to be indexed; {record.contig}:{record.start + 1} is not"
            )
        start = record.start
        yield record


def _binary(text: Path) -> Path:
    made = text.with_name("new.bcf")
    pysam = load_pysam()
    try:
        pysam.bcftools.view("-Ob", "-o", str(made), str(text), catch_stdout=False)
    except pysam.SamtoolsError as error:
        told = str(error).strip().splitlines()
        raise InputError(f"the records cannot be written as BCF ({told[-1][:200] if told else 'error'})") from None
    return made


def _indexed(file: Path, ending: str, header: VariantHeader) -> Path:
    pysam = load_pysam()
    csi = ending == ".bcf" or any((size or 0) >= _LARGEST_TBI for size in header.contigs.values())
    preset = "bcf" if ending == ".bcf" else "vcf"
    pysam.tabix_index(str(file), preset=preset, force=True, keep_original=True, csi=csi)
    return file.with_name(file.name + (".csi" if csi else ".tbi"))


def record_line(record: Record, samples: tuple[str, ...]) -> str:
    """Return a record as a line of a VCF, without line end, for these samples."""
    columns = [
        record.contig,
        str(record.start + 1),
        record.identifier or ".",
        record.ref,
        ",".join(record.alts) or ".",
        "." if record.quality is None else _number(record.quality),
        ";".join(record.filters) or ".",
        _info(record.info) or ".",
    ]
    if samples and isinstance(record.samples, SampleValues) and set(samples) <= set(record.samples):
        columns += record.samples.columns(samples)
    elif samples:
        columns += _sample_columns([record.samples.get(name) for name in samples])
    return "\t".join(columns)


def _info(values: Mapping[str, Any]) -> str:
    if isinstance(values, InfoValues):  # as read
        return values.text
    return ";".join(key if value is True else f"{key}={_value(value, _IN_INFO)}" for key, value in values.items())


def _sample_columns(calls: list[SampleCall | None]) -> list[str]:
    """FORMAT and one column a sample; the keys are those that any of the calls has, GT first."""
    keys = list(dict.fromkeys(key for call in calls if call is not None for key in call.fields))
    genotyped = any(call is not None and call.alleles for call in calls)
    names = ["GT", *keys] if genotyped else keys
    return [":".join(names) or ".", *(_sample_column(call, keys, genotyped=genotyped) for call in calls)]


def _sample_column(call: SampleCall | None, keys: list[str], *, genotyped: bool) -> str:
    fields: Mapping[str, Any] = call.fields if call is not None else {}
    values = [_value(fields.get(key), _IN_FORMAT) for key in keys]
    if genotyped:
        values.insert(0, genotype_text(call) if call is not None else ".")
    while len(values) > 1 and values[-1] == ".":
        values.pop()
    return ":".join(values) or "."


def genotype_text(call: SampleCall) -> str:
    """Return a call as GT writes it: `0|1`, `./.`, `1`."""
    separator = "|" if call.phased else "/"
    return separator.join("." if allele is None else str(allele) for allele in call.alleles) or "."


def _value(value: Any, escapes: Mapping[int, str]) -> str:
    if value is None:
        return "."
    if isinstance(value, tuple | list):
        return ",".join(_value(one, escapes) for one in value) or "."
    if isinstance(value, float):
        return _number(value)
    return value.translate(escapes) if isinstance(value, str) else str(value)


def _number(value: float) -> str:
    """The shortest text that keeps seven digits, more than the 32-bit numbers of BCF hold."""
    return f"{value:.7g}"
