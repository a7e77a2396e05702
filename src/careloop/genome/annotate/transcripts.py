"""Gene models of Ensembl, GENCODE and RefSeq, in GFF3 or GTF, as transcripts that are found by position."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from careloop import InputError
from careloop.genome.annotate.gene_lines import (
    BadFeatureError,
    Feature,
    gff3_attributes,
    gtf_attributes,
    read_feature,
)
from careloop.genome.annotate.transcript import Span, Transcript
from careloop.genome.files.builds import UNKNOWN
from careloop.genome.files.contigs import build_of_accession, canonical_contig
from careloop.genome.files.packed import UNREADABLE, open_packed
from careloop.genome.files.variant_file import Rejects
from careloop.ingest.assemblies import builds_in_words

Progress = Callable[[str, int, int], None]

FLANK = 5_000  # bases beside a transcript in which a variant is up- or downstream of it (VEP's default)
_BIN = 1 << 16  # bases of a bin of the index by position
_REPORT_EVERY = 100_000
_PARTS = frozenset({"exon", "CDS", "stop_codon"})
_OF_CODING = frozenset({"CDS", "stop_codon"})


class Genes:
    """The transcripts of a gene file; `rejects` are its lines and transcripts that were not taken.

    `build` is the assembly that the file's header or contigs point to, `unknown` where they do not.
    """

    def __init__(self, path: Path, transcripts: tuple[Transcript, ...], rejects: Rejects, build: str) -> None:
        self.path = path
        self.transcripts = transcripts
        self.rejects = rejects
        self.build = build
        self._bins: dict[tuple[str, int], list[Transcript]] = defaultdict(list)
        for transcript in transcripts:
            contig = canonical_contig(transcript.contig)
            for number in range(max(0, transcript.start - FLANK) // _BIN, (transcript.end + FLANK) // _BIN + 1):
                self._bins[contig, number].append(transcript)

    def near(self, contig: str, start: int, end: int) -> list[Transcript]:
        """Transcripts that overlap [start, end) or lie within 5,000 bases of it; a contig under any of its names."""
        contig = canonical_contig(contig)
        first, last = max(0, start) // _BIN, max(start, end - 1) // _BIN
        found = {
            id(transcript): transcript
            for number in range(first, last + 1)
            for transcript in self._bins.get((contig, number), ())
            if transcript.start - FLANK <= end and start <= transcript.end + FLANK
        }
        return list(found.values())


def read_genes(path: str | Path, *, progress: Progress | None = None) -> Genes:
    """Read a GFF3 or GTF file, plain or packed with gzip.

    A transcript is what exon or CDS lines name as theirs (`Parent` in GFF3, `transcript_id` in GTF); one without exon
    lines has its CDS as exons. GTF's `stop_codon` is made part of the coding part, as GFF3 has it. Lines that are
    bad, and transcripts whose exons overlap or lie on both strands, are rejected and counted.

    Raises:
        InputError: no such file, cut off, or without any transcript.
    """
    path = Path(path)
    reading = _Reading()
    try:
        with closing(open_packed(path)) as file:
            for number, raw in enumerate(file, start=1):
                reading.line(raw.decode("utf-8", errors="replace").rstrip("\r\n"), number)
                if progress is not None and number % _REPORT_EVERY == 0:
                    progress("lines of the gene file", number, 0)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except UNREADABLE:
        raise InputError(f"{path}: file ends early or is not readable; copy or make it again") from None
    transcripts = tuple(reading.transcripts())
    if not transcripts:
        raise InputError(f"{path}: no transcript in this file; GFF3 or GTF with exon and CDS lines is needed")
    return Genes(path, transcripts, reading.rejects, reading.build(path, transcripts))


@dataclass
class _Parts:
    """Exons and coding spans of one transcript as its lines come; `first` is any line of it (place, attributes)."""

    first: Feature
    exons: list[Span] = field(default_factory=list)
    coding: list[Span] = field(default_factory=list)
    phases: dict[Span, int] = field(default_factory=dict)
    scattered: bool = False


class _Reading:
    """A gene file while it is read: transcripts' parts, and what lines with an ID say of genes and transcripts."""

    def __init__(self) -> None:
        self.rejects = Rejects()
        self._gtf: bool | None = None
        self._parts: dict[str, _Parts] = {}
        self._named: dict[str, dict[str, str]] = {}
        self._spans: dict[Span, Span] = {}  # transcripts share most exons: each span is held once
        self._builds: set[str] = set()

    def line(self, line: str, number: int) -> None:
        """Take one line."""
        if line.startswith("#"):
            self._builds.update(builds_in_words(line))
        if not line or line.startswith("#"):
            return
        if self._gtf is None and line.count("\t") == 8:
            self._gtf = "=" not in line.rsplit("\t", 1)[1].split(" ", 1)[0]
        try:
            feature = read_feature(line, gtf_attributes if self._gtf else gff3_attributes)
        except BadFeatureError as bad:
            self.rejects.add(f"line {number}", str(bad))
            return
        if feature.kind in _PARTS:
            self._part(feature, number)
        else:
            self._name(feature)

    def _name(self, feature: Feature) -> None:
        """Keep the attributes of a gene or transcript."""
        key = "transcript_id" if feature.kind == "transcript" else "gene_id"
        identifier = feature.attributes.get(key if self._gtf else "ID")
        if identifier and (not self._gtf or feature.kind in ("gene", "transcript")):
            self._named.setdefault(identifier, feature.attributes)

    def _part(self, feature: Feature, number: int) -> None:
        """Add an exon or coding span to its transcripts."""
        if not self._gtf and feature.kind == "stop_codon":
            return  # GFF3's CDS has it
        owners = feature.attributes.get("transcript_id" if self._gtf else "Parent", "")
        if not owners:
            self.rejects.add(f"line {number}", f"{feature.kind} without its transcript")
            return
        span = self._spans.setdefault((feature.start, feature.end), (feature.start, feature.end))
        for owner in owners.split(","):
            parts = self._parts.setdefault(owner, _Parts(feature))
            parts.scattered |= (feature.contig, feature.strand) != (parts.first.contig, parts.first.strand)
            if feature.kind == "exon":
                parts.exons.append(span)
            else:
                parts.coding.append(span)
                if feature.kind == "CDS" and feature.phase is not None:
                    parts.phases[span] = feature.phase

    def transcripts(self) -> Iterator[Transcript]:
        """Yield the transcripts in the order of their first lines; their parts are given up on the way."""
        for identifier in list(self._parts):
            parts = self._parts.pop(identifier)
            try:
                yield self._transcript(identifier, parts)
            except BadFeatureError as bad:
                self.rejects.add(f"transcript {identifier[:60]}", str(bad))

    def _transcript(self, identifier: str, parts: _Parts) -> Transcript:
        if parts.scattered:
            raise BadFeatureError("exons on two contigs or strands")
        cds = _joined(parts.coding)
        exons = _apart(sorted(set(parts.exons))) if parts.exons else cds
        if not all(any(start <= a and b <= end for start, end in exons) for a, b in cds):
            raise BadFeatureError("coding part outside the exons")
        first = parts.first
        own = self._named.get(identifier, first.attributes)
        gene = self._gene(own, first)
        first_span = min(parts.phases, default=None) if first.strand > 0 else max(parts.phases, default=None)
        return Transcript(
            id=_identifier(own, identifier),
            gene_id=_bare(gene.get("gene_id") or gene.get("ID") or own.get("gene_id") or own.get("gene") or ""),
            gene_name=_gene_name(gene, own),
            contig=first.contig,
            strand=first.strand,
            exons=exons,
            cds=cds,
            phase=0 if first_span is None else parts.phases[first_span],
            biotype=_biotype(own, gene, coding=bool(cds)),
            tags=frozenset(tag for tag in own.get("tag", "").split(",") if tag),
        )

    def _gene(self, own: Mapping[str, str], first: Feature) -> Mapping[str, str]:
        """What the file says of a transcript's gene; what its own line says where there is no gene line."""
        identifier = own.get("gene_id") if self._gtf else own.get("Parent")
        if identifier is None:
            identifier = first.attributes.get("gene_id", "")
        return self._named.get(identifier, {"ID": identifier} if identifier else {})

    def build(self, path: Path, transcripts: tuple[Transcript, ...]) -> str:
        """The assembly of the file: by accessions of contigs, else by header lines, else by the file's name."""
        found = {build for name in {t.contig for t in transcripts} if (build := build_of_accession(name))}
        for builds in (found, self._builds, builds_in_words(path.name)):
            if len(builds) == 1:
                return next(iter(builds))
        return UNKNOWN


def _apart(spans: list[Span]) -> tuple[Span, ...]:
    if any(right[0] < left[1] for left, right in pairwise(spans)):
        raise BadFeatureError("exons overlap")
    return _joined(spans)


def _joined(spans: list[Span]) -> tuple[Span, ...]:
    """Spans in order, those that touch or overlap as one (a stop codon and its CDS)."""
    joined: list[Span] = []
    for span in sorted(set(spans)):
        if joined and span[0] <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], span[1]))
        else:
            joined.append(span)
    return tuple(joined)


def _bare(identifier: str) -> str:
    """An ID without the kind that Ensembl (`gene:`) and RefSeq (`gene-`, `rna-`) put before it."""
    for prefix in ("gene:", "transcript:", "gene-", "rna-"):
        identifier = identifier.removeprefix(prefix)
    return identifier


def _identifier(own: Mapping[str, str], identifier: str) -> str:
    """The transcript's accession with its version, where the file gives one."""
    found = own.get("transcript_id") or _bare(identifier)
    version = own.get("transcript_version") or (own.get("version") if "ID" in own else None)
    return f"{found}.{version}" if version and version.isdigit() and "." not in found else found


def _gene_name(gene: Mapping[str, str], own: Mapping[str, str]) -> str:
    for source, keys in ((own, ("gene_name", "gene")), (gene, ("gene_name", "Name", "gene"))):
        for key in keys:
            if source.get(key):
                return source[key]
    return _bare(gene.get("gene_id") or gene.get("ID") or own.get("gene_id") or "")


def _biotype(own: Mapping[str, str], gene: Mapping[str, str], *, coding: bool) -> str:
    keys = ("biotype", "transcript_biotype", "transcript_type", "gene_biotype", "gene_type")
    found = next((source[key] for source in (own, gene) for key in keys if source.get(key)), "")
    return found or ("protein_coding" if coding else "")
