"""Whose a sample of a variant file is and from when its genotypes count, by the rules of `careloop ingest vcf`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from careloop import InputError
from careloop.genome.files.variant_file import open_variants
from careloop.genome.files.variant_header import VariantHeader
from careloop.genome.findings.finding import SampleOrigin
from careloop.ingest.links import read_links
from careloop.ingest.vcf import file_date_of, sample_times, subject_of_sample


def sample_origin(
    path: Path, sample: str | None = None, *, samples: Path | None = None, root: Path | None = None, origin: str = ""
) -> SampleOrigin:
    """Return where the findings of one sample of a VCF or BCF file come from.

    `sample` may be left out where the file has one. `samples` is the CSV with columns sample and subject (and time)
    that `ingest` takes; without it the sample's name is the patient. `root` is the folder that was ingested, so that
    sources name the file alike (the file's own folder by default), `origin` the namespace of patient identifiers.

    Raises:
        InputError: a file that cannot be read, no such sample, several and none named, a sample that is not in the
            samples file, or one whose name is a role (`tumor`, `proband`) and not a patient.
    """
    header = open_variants(path).header
    name = _sample_in(header, sample, path)
    links = read_links(samples)
    subject, reason = subject_of_sample(name, links)
    if subject is None:
        raise InputError(f"{path}: {reason}; give --samples with the columns sample and subject")
    time, known_time = sample_times(name, _file_date(header), links)
    folder = (root or path.parent).absolute()
    return SampleOrigin(
        path=path,
        name=path.absolute().relative_to(folder).as_posix() if path.absolute().is_relative_to(folder) else path.name,
        sample=name,
        subject=f"{origin}:{subject}" if origin else subject,
        build=header.build,
        callers=header.callers,
        time=time,
        known_time=known_time,
    )


def _sample_in(header: VariantHeader, sample: str | None, path: Path) -> str:
    told = ", ".join(header.samples[:5]) + (" ..." if len(header.samples) > 5 else "") or "none (sites only)"
    if sample is None and len(header.samples) == 1:
        return header.samples[0]
    if sample not in header.samples:
        wanted = "name the sample to read" if sample is None else "no sample of that name"
        raise InputError(f"{path}: {wanted}; the file has {told}")
    return str(sample)


def _file_date(header: VariantHeader) -> datetime | None:
    dates = (line.partition("=")[2] for line in header.lines if line.lower().startswith("##filedate="))
    return file_date_of(next(dates, ""))
