"""VCF headers to events: one event a sample, with the file as asset; the variants are left to the genome room."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from careloop import InputError
from careloop.ingest.assemblies import build_of_length, builds_in_words
from careloop.ingest.delivery import ARRIVING, BATCH_ROWS, Batch, Reject, Source
from careloop.ingest.links import Links, read_links

_ENDINGS = (".vcf", ".vcf.gz", ".vcf.bgz", ".gvcf", ".gvcf.gz", ".bcf")
_VERSIONS = {"VCFv4.1", "VCFv4.2", "VCFv4.3", "VCFv4.4", "VCFv4.5"}
_FIXED_COLUMNS = 9  # CHROM to FORMAT; what follows are samples (VCF 4.5 section 1.5)
# Names that callers give to every patient's sample alike.
_ROLES = {"normal", "tumor", "tumour", "sample", "unknown", "proband", "mother", "father", "child"}
_NAMES_NOBODY = "sample name is a role, not a patient: say whose it is in the samples file"
MAX_HEADER_BYTES = 256 * 2**20  # the header of a file of a million samples has some 20 MB
_CONTIG = re.compile(r"##contig=<.*?\bID=(?:chr)?(\w+)\b")
_LENGTH = re.compile(r"[<,]length=(\d+)")
_DATE = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)")


@dataclass
class VcfHeader:
    """What a header says; `builds` are the assemblies that contig lengths point to."""

    version: str
    date: datetime | None = None
    reference: str = ""
    callers: list[str] = field(default_factory=list)
    builds: set[str] = field(default_factory=set)
    samples: list[str] = field(default_factory=list)

    def build(self) -> str:
        """The reference assembly and what says so, or `unknown`."""
        if len(self.builds) == 1:
            return f"{next(iter(self.builds))} (contig lengths)"
        if self.builds:
            return "unknown (contig lengths disagree)"
        named = builds_in_words(self.reference)
        return f"{named[0]} (reference name)" if len(named) == 1 else "unknown"


@dataclass(frozen=True)
class Setting:
    """How files are understood: root folder, namespace of patients, and whose each sample is."""

    root: Path
    origin: str
    links: Links


def vcf_sources(path: Path, *, origin: str = "", samples: Path | None = None) -> list[Source]:
    """Return the VCF files below `path` as one source: an event `GENOME//VCF` a sample, text_value = build and caller.

    VCF 4.1 to 4.5, plain or gzip/bgzip. `samples` is a CSV with columns sample and subject (and time, where the file's
    own date does not serve); without it a sample's name is the patient. The time is `##fileDate`, known at the end of
    that day; without one the event is a static fact, as a germline genome is.

    Raises:
        InputError: no such path, no VCF file below it, or a samples file that cannot be read.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; check the path")
    files = [path] if path.is_file() else _files_below(path)
    if not files:
        raise InputError(f"{path}: no VCF file here ({', '.join(_ENDINGS)}); name a file or folder with some")
    if path.is_file() and not _looks_like_vcf(path):
        raise InputError(f"{path}: not a VCF file; it must begin with ##fileformat=VCFv4")
    root = path if path.is_dir() else path.parent
    inputs = (*files, samples) if samples else tuple(files)
    return [Source(str(path), inputs, partial(_read, files, Setting(root, origin, read_links(samples))))]


def _files_below(folder: Path) -> list[Path]:
    found = [Path(place, name) for place, _, names in os.walk(folder) for name in names]
    return sorted(file for file in found if file.name.lower().endswith(_ENDINGS) and file.is_file())


def _looks_like_vcf(path: Path) -> bool:
    """True for VCF and BCF content, and for a file named so (which may be cut off)."""
    if path.name.lower().endswith(_ENDINGS):
        return True
    try:
        with _opened(path) as file:
            return file.read(13).startswith((b"##fileformat=", b"BCF"))
    except (OSError, EOFError, zlib.error):
        return False


def _opened(path: Path) -> BinaryIO | gzip.GzipFile:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else path.open("rb")


def _read(files: list[Path], setting: Setting) -> Iterator[Batch]:
    for file in files:
        name = file.relative_to(setting.root).as_posix()
        header = read_vcf_header(file)
        if isinstance(header, str):
            yield _batch([], [Reject(name, header)])
        elif not header.samples:
            yield Batch(ARRIVING.to_frame(), 1, 0, skipped={"no samples: sites only": 1})
        else:
            for start in range(0, len(header.samples), BATCH_ROWS):
                yield _sample_events(file, header, range(start, start + BATCH_ROWS), setting)


def _sample_events(file: Path, header: VcfHeader, columns: range, setting: Setting) -> Batch:
    """Events of the samples in some of a file's sample columns (from 0)."""
    rows: list[dict[str, Any]] = []
    rejected: list[Reject] = []
    name = file.relative_to(setting.root).as_posix()
    caller = "; ".join(header.callers)[:500]
    described = f"build={header.build()}" + (f"; caller={caller}" if caller else "")
    for number, sample in enumerate(header.samples[columns.start : columns.stop], start=columns.start + 1):
        subject, reason = subject_of_sample(sample, setting.links)
        if subject is None:
            rejected.append(Reject(f"{name}, sample {number}", reason, sample))
            continue
        time, known_time = sample_times(sample, header.date, setting.links)
        rows.append(
            {
                "subject": f"{setting.origin}:{subject}" if setting.origin else subject,
                "time": time,
                "known_time": known_time,
                "code": "GENOME//VCF",
                "text_value": described,
                "asset": file.absolute().as_uri(),
                "source": f"VCF//{name}//{sample}",
            }
        )
    return _batch(rows, rejected)


def subject_of_sample(sample: str, links: Links) -> tuple[str | None, str]:
    """Whose a sample is, by the samples file or its own name; None and the reason where that is not said."""
    subject = links.subject_of(sample)
    if subject is None:
        return None, "sample is not in the samples file"
    if not sample or subject.lower() in _ROLES:
        return None, _NAMES_NOBODY if sample else "sample without a name"
    return subject, ""


def sample_times(sample: str, file_date: datetime | None, links: Links) -> tuple[datetime | None, datetime | None]:
    """Time and known_time: the samples file's, else the day of `##fileDate` and its end, else none (a static fact)."""
    if sample in links.times:
        return links.times[sample], links.times[sample]
    return file_date, file_date + timedelta(days=1, seconds=-1) if file_date else None


def _batch(rows: list[dict[str, Any]], rejected: list[Reject]) -> Batch:
    codes = pl.DataFrame({"code": ["GENOME//VCF"], "description": ["variants of a genome in a VCF file"]})
    return Batch(pl.DataFrame(rows, schema=ARRIVING), len(rows) + len(rejected), len(rows), rejected, codes=codes)


def read_vcf_header(path: Path) -> VcfHeader | str:
    """Return the header of one file, or the reason why it cannot be read."""
    try:
        with _opened(path) as file:
            return _parse(_lines(file))
    except (OSError, EOFError, zlib.error):
        return "file ends early or is not readable"
    except _RefusedError as refused:
        return str(refused)


class _RefusedError(Exception):
    """The reason why a header is not read, in fixed words."""


def _lines(file: BinaryIO | gzip.GzipFile) -> Iterator[str]:
    size = 0
    while line := file.readline(MAX_HEADER_BYTES - size + 1):
        size += len(line)
        if size > MAX_HEADER_BYTES:
            raise _RefusedError("header is longer than 256 MiB")
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            text = line.decode("cp1252", errors="replace")
        yield text.removeprefix("\ufeff").replace("\0", "").rstrip("\r\n")


def _parse(lines: Iterator[str]) -> VcfHeader:
    first = next(lines, "")
    if first.startswith("BCF"):
        raise _RefusedError("BCF is binary VCF; write it as text first: bcftools view -Oz")
    if not first.startswith("##fileformat="):
        raise _RefusedError("not VCF: the first line must be ##fileformat=VCFv4")
    header = VcfHeader(first.partition("=")[2].strip())
    if header.version not in _VERSIONS:
        raise _RefusedError("VCF version must be 4.1 to 4.5")
    for line in lines:
        if line.startswith("#CHROM"):
            header.samples = [name.strip() for name in line.split("\t")[_FIXED_COLUMNS:]]
            if len(set(header.samples)) < len(header.samples):
                raise _RefusedError("sample names must be unique")
            return header
        if not line.startswith("##"):
            raise _RefusedError("no column line (#CHROM) before the first variant")
        _take(line, header)
    raise _RefusedError("file ends early: no column line (#CHROM)")


def _take(line: str, header: VcfHeader) -> None:
    """Keep what one meta-information line says of date, reference, caller or a contig's length."""
    key, _, value = line[2:].partition("=")
    if key == "contig":
        name, length = _CONTIG.match(line), _LENGTH.search(line)
        build = build_of_length(name[1], int(length[1][:12])) if name and length else None
        header.builds |= {build} if build else set()
    elif key.lower() == "filedate" and header.date is None:
        header.date = file_date_of(value)
    elif key == "reference":
        header.reference = value
    elif key == "source" and value.strip():
        header.callers.append(value.strip()[:200])


def file_date_of(value: str) -> datetime | None:
    """Midnight UTC of a `##fileDate` written 20260131 or 2026-01-31 (other orders are ambiguous)."""
    match = _DATE.match(value.strip())
    try:
        return datetime(int(match[1]), int(match[2]), int(match[3]), tzinfo=UTC) if match else None
    except ValueError:
        return None
