"""Germline variants of one sample from aligned reads, and blocks of covered reference, region by region."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from careloop import InputError, __version__
from careloop.genome.call.ploidy import Sex
from careloop.genome.call.region import BLOCK, RegionTask, ScorerName, call_region, header_of
from careloop.genome.call.scorer import weights_digest
from careloop.genome.files.reads import open_reads, sample_of
from careloop.genome.files.reference import Reference, open_reference
from careloop.genome.files.regions import Region, Regions
from careloop.genome.files.variant_file import open_variants
from careloop.genome.files.variant_writing import write_variants
from careloop.genome.variant import Record
from careloop.record.whole_file import write_whole

Progress = Callable[[str, int, int], None]
REGION_BASES = 1_000_000
SURE = 20  # GQ from which a block says that its bases are reference
_BASES = "bases: "


@dataclass(frozen=True)
class CallSettings:
    """How a sample is called.

    `scorer`: `network`, or `engine`, bcftools' own likelihoods. `sex` decides on X and Y (see `ploidy.copies`).
    `sample` is needed where the reads do not name theirs. `processes` work on regions of a million bases each.
    """

    scorer: ScorerName = "network"
    sex: Sex | None = None
    sample: str | None = None
    processes: int = 1


@dataclass(frozen=True)
class CallSummary:
    """What was called: counts of PASS variants by type and genotype, and bases covered, or not, by reason."""

    sample: str
    variants: dict[str, int]
    bases: dict[str, int]

    @property
    def transitions_to_transversions(self) -> float | None:
        """About 2.0 to 2.1 in a human genome; None without transversions."""
        others = self.variants.get("transversions", 0)
        return self.variants.get("transitions", 0) / others if others else None


def call_variants(
    reads: Path,
    reference: Path,
    out: Path,
    *,
    regions: Sequence[Region] = (),
    settings: CallSettings = CallSettings(),
    progress: Progress | None = None,
) -> CallSummary:
    """Write the variants of `reads` (BAM or CRAM) to `out` (.vcf, .vcf.gz or .bcf), whole or not at all.

    Records are variants with FILTER PASS, possible ones that did not reach the threshold with LowQual, and blocks of
    covered reference (`<*>`, END, MIN_DP, as in gVCF): what is in none of them could not be judged. Without `regions`
    all contigs are called. Finished regions are kept beside `out` until the end, so that a killed run goes on.

    Raises:
        InputError: reads or reference that cannot be read or do not fit each other, or a folder that cannot be written.
    """
    with open_reference(reference) as opened:
        sample = sample_name(reads, opened, settings.sample)
        tasks = [
            RegionTask(str(reads), str(reference), region, sample, scorer=settings.scorer, sex=settings.sex)
            for region in pieces(regions, opened)
        ]
        header = header_of(opened, sample)
    work = _work_folder(out, tasks)
    counts: Counter[str] = Counter()
    for done, number in enumerate(_called(tasks, work, settings.processes), start=1):
        counts.update(json.loads(_summary_path(work, number).read_text()))
        if progress:
            progress("calling variants", done, len(tasks))
    with open_reference(reference) as opened:
        write_variants(out, header, _joined(work, len(tasks), opened))
    shutil.rmtree(work)
    bases = {name.removeprefix(_BASES): n for name, n in sorted(counts.items()) if name.startswith(_BASES)}
    variants = {name: n for name, n in sorted(counts.items()) if not name.startswith(_BASES)}
    return CallSummary(sample, variants, bases)


def covered_regions(variants: Path) -> Regions:
    """The bases that a file of called variants accounts for: its PASS variants, and blocks of `SURE` reference.

    Raises:
        InputError: the file cannot be read.
    """
    return Regions(
        Region(record.contig, record.start, record.end)
        for record in open_variants(variants).records()
        if record.passed and (record.alts != BLOCK or all(c.fields["GQ"] >= SURE for c in record.samples.values()))
    )


def write_covered(variants: Path, bed: Path) -> int:
    """Write `covered_regions` as BED, whole or not at all; returns the number of bases."""
    regions = covered_regions(variants)
    write_whole(bed, "".join(f"{one.contig}\t{one.start}\t{one.end}\n" for one in regions))
    return regions.bases


def sample_name(reads: Path, reference: Reference, named: str | None = None) -> str:
    """The sample of the reads, or `named`. InputError where neither says it."""
    file = open_reads(reads, reference)
    try:
        named = named or sample_of(file)
    finally:
        file.close()
    if not named:
        raise InputError(f"{reads}: the reads do not name their sample; name it (--sample)")
    return named


def pieces(regions: Sequence[Region], reference: Reference) -> Iterator[Region]:
    """Regions of at most `REGION_BASES`, in the order of the reference, none twice."""
    whole = [Region(name, 0, size) for name, size in reference.contigs.items()]
    asked = Regions(regions or whole)
    order = {name: place for place, name in enumerate(reference.contigs)}
    named = []
    for region in asked:
        name = reference.name_of(region.contig)
        if name is None:
            raise InputError(f"region {region}: the reference has no such contig; it has {', '.join(list(order)[:5])}")
        named.append(Region(name, region.start, min(region.end, reference.contigs[name])))
    for region in sorted(named, key=lambda one: (order[one.contig], one.start)):
        for start in range(region.start, region.end, REGION_BASES):
            yield Region(region.contig, start, min(start + REGION_BASES, region.end))


def _work_folder(out: Path, tasks: Sequence[RegionTask]) -> Path:
    """The folder of finished regions; emptied where it holds those of other reads, settings or versions."""
    work = out.with_name(f".{out.name}.regions")
    stamps = [Path(path).stat() for path in (tasks[0].reads, tasks[0].reference)] if tasks else []
    files = [(stamp.st_size, stamp.st_mtime_ns) for stamp in stamps]
    asked = json.dumps([__version__, weights_digest(), files, [asdict(task) for task in tasks]])
    digest = hashlib.sha256(asked.encode()).hexdigest()
    said = work / "asked.txt"
    if work.exists() and (not said.exists() or said.read_text() != digest):
        shutil.rmtree(work)
    try:
        work.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); check the folder") from None
    said.write_text(digest)
    return work


def _variants_path(work: Path, number: int) -> Path:
    return work / f"{number}.vcf"


def _summary_path(work: Path, number: int) -> Path:
    return work / f"{number}.json"


def _called(tasks: Sequence[RegionTask], work: Path, processes: int) -> Iterator[int]:
    """Call the regions that are not done yet; the numbers of all, those done before first."""
    open_ = [number for number in range(len(tasks)) if not _summary_path(work, number).exists()]
    yield from sorted(set(range(len(tasks))) - set(open_))
    if processes == 1 or len(open_) < 2:
        for number in open_:
            yield _call_to_files(tasks[number], work, number)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(_call_to_files, tasks[number], work, number) for number in open_]
        try:
            for finished in as_completed(waiting):
                yield finished.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _call_to_files(task: RegionTask, work: Path, number: int) -> int:
    """Call one region to its files; the summary, written last, says that it is done."""
    called = call_region(task)
    with open_reference(task.reference) as reference:
        write_variants(_variants_path(work, number), header_of(reference, task.sample), called.records)
    counts = Counter({f"{_BASES}{reason}": n for reason, n in called.bases.items()})
    counts.update(kind for record in called.records for kind in _kinds(record))
    write_whole(_summary_path(work, number), json.dumps(counts))
    return number


def _joined(work: Path, regions: int, reference: Reference) -> Iterator[Record]:
    """The records of all regions; a block gives way to a variant that reaches into its region."""
    contig, reached = "", 0
    for number in range(regions):
        for record in open_variants(_variants_path(work, number)).records():
            if record.contig != contig:
                contig, reached = record.contig, 0
            if record.alts != BLOCK:
                reached = max(reached, record.end)
            elif record.end <= reached:
                continue
            elif record.start < reached:
                record = replace(record, start=reached, ref=reference.fetch(contig, reached, reached + 1))
            yield record


_TRANSITIONS = {("A", "G"), ("G", "A"), ("C", "T"), ("T", "C")}


def _kinds(record: Record) -> Iterator[str]:
    """What a record counts as in the summary."""
    if record.alts == BLOCK:
        return
    if not record.passed:
        yield "not passed"
        return
    (call,) = record.samples.values()
    if len(call.alleles) == 1:
        yield "on a single chromosome"
    else:
        yield "heterozygous" if len(set(call.alleles)) > 1 else "homozygous"
    for variant in record.variants:
        yield "SNV" if variant.is_snv else "indel"
        if variant.is_snv:
            yield "transitions" if (variant.ref, variant.alt) in _TRANSITIONS else "transversions"
