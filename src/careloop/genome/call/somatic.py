"""Somatic variants: what the tumour's reads show at any fraction and the normal's do not, with reasons where in doubt.

Log-odds, thresholds and filters follow MuTect (Cibulskis et al. 2013, Nat Biotechnol 31:213, Online Methods).
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from careloop import InputError
from careloop.genome.call.candidates import Search, find_candidates
from careloop.genome.call.germline import pieces, sample_name
from careloop.genome.call.read_pile import PiledRead, by_fragment, read_pile
from careloop.genome.call.region import HEADER_LINES
from careloop.genome.files.reads import open_reads
from careloop.genome.files.reference import Reference, open_reference
from careloop.genome.files.regions import Region
from careloop.genome.files.variant_header import new_header
from careloop.genome.files.variant_writing import write_variants
from careloop.genome.variant import Record, SampleCall, Variant

Progress = Callable[[str, int, int], None]
# log10 odds: 6.3 for a rate of 1e-6 and odds of 2, 2.2 for a rate of germline variants of 1e-3.
TUMOUR_LOD, NORMAL_LOD = 6.3, 2.2
GERMLINE_SHARE, ARTIFACT_SHARE = 0.2, 0.03  # of the normal's reads
# Candidates are seen three times and in a hundredth of the reads: below lies what sequencing errors alone show.
SEEN = Search("FMT/AD[0:1-]>=3 && FMT/AD[0:1-]>=0.01*INFO/DP", most_reads=10_000)
MOST_COUNTED = 100_000  # reads
AROUND = 150  # bases on either side in which a read's other mismatches are looked at
MISPLACED = 100  # sum of base qualities of a read's other mismatches, above which it is left out as MuTect does
INDEL_ERROR = 1e-3  # that a read shows an indel which is not there
FEWEST_SHOWN = 0.1  # TLOD below which a candidate is not written at all
FILTERS = {
    "low_lod": "The tumour's log-odds are below 6.3",
    "germline": "The normal shows the variant in a share as heterozygotes have",
    "normal_artifact": "The normal shows the variant in some reads",
    "normal_depth": "The normal has too few reads to rule out a germline variant (log-odds below 2.2)",
    "strand_bias": "The variant's reads are nearly all of one strand, the others' are not (Fisher, p below 0.001)",
    "clustered_position": "The variant stands near the ends of its reads (median within 10 bases, spread within 3)",
    "low_mapping_quality": "Most of the variant's reads may lie elsewhere (mean mapping quality below 20)",
}
LINES = (
    *[line for line in HEADER_LINES if not line.startswith(("##FILTER", "##ALT", "##INFO"))],
    *[f'##FILTER=<ID={name},Description="{words}">' for name, words in FILTERS.items()],
    '##INFO=<ID=TLOD,Number=1,Type=Float,Description="log10 odds of a variant in the tumour at its fraction">',
    '##INFO=<ID=NLOD,Number=1,Type=Float,Description="log10 odds of reference against heterozygous in the normal">',
    '##FORMAT=<ID=AF,Number=1,Type=Float,Description="Share of reads with the variant">',
)


@dataclass(frozen=True)
class SomaticSummary:
    """The two samples, PASS records, and how many of the others each filter stopped."""

    tumour: str
    normal: str
    variants: int
    filtered: dict[str, int]


@dataclass(frozen=True)
class _Shown:
    """The reads of one sample, one a fragment, over one place that show the variant or the reference."""

    with_it: tuple[PiledRead, ...]
    without: tuple[PiledRead, ...]

    @property
    def share(self) -> float:
        """Of the variant; 0 without reads."""
        total = len(self.with_it) + len(self.without)
        return len(self.with_it) / total if total else 0.0


def call_somatic(
    pair: tuple[Path, Path],
    reference: Path,
    out: Path,
    *,
    regions: Sequence[Region] = (),
    progress: Progress | None = None,
) -> SomaticSummary:
    """Write the somatic variants of a tumour beside its normal (BAM or CRAM, in this order) to `out`, whole or not.

    Candidates are alleles with at least three reads and 1 % of them; those that a filter stopped are in the file with
    the filter's name.

    Raises:
        InputError: files that cannot be read, or both of one sample.
    """
    counts: Counter[str] = Counter()
    with open_reference(reference) as opened:
        tumour, normal = (sample_name(path, opened) for path in pair)
        if tumour == normal:
            raise InputError(f"tumour and normal must be two samples, got {tumour} twice; give the reads of both")
        asked = list(pieces(regions, opened))
        records = _records(asked, pair, (tumour, normal), opened, counts, progress)
        write_variants(out, new_header(opened.contigs, (tumour, normal), lines=LINES), records)
    filtered = {name: counts[name] for name in FILTERS if counts[name]}
    return SomaticSummary(tumour, normal, counts["PASS"], filtered)


def _records(
    regions: Sequence[Region],
    pair: tuple[Path, Path],
    names: tuple[str, str],
    reference: Reference,
    counts: Counter[str],
    progress: Progress | None,
) -> Iterator[Record]:
    for done, region in enumerate(regions, start=1):
        found = find_candidates(pair[0], reference.path, (region.contig, region.start, region.end), search=SEEN)
        with open_reads(pair[0], reference) as tumour, open_reads(pair[1], reference) as normal:
            for one in found:
                variant = Variant(one.contig, one.start, one.ref, one.alt)
                shown = _shown(tumour, reference, variant), _shown(normal, reference, variant)
                record = _record(variant, shown, names)
                if record.info["TLOD"] >= FEWEST_SHOWN:
                    counts.update(record.filters)
                    yield record
        if progress is not None:
            progress("calling somatic variants", done, len(regions))


def _shown(reads: Any, reference: Reference, variant: Variant) -> _Shown:
    pile = read_pile(reads, reference.fetch, variant, flank=AROUND, most=MOST_COUNTED)
    placed = [one for one in by_fragment(pile.reads) if _other_mismatches(one, variant) <= MISPLACED]
    with_it, without = ([one for one in placed if one.shows == what] for what in ("alternative", "reference"))
    return _Shown(tuple(with_it), tuple(without))


def _other_mismatches(read: PiledRead, variant: Variant) -> int:
    """Sum of the base qualities of a read's mismatches outside the variant."""
    return sum(quality for place, _, quality in read.mismatches if not variant.start <= place < variant.end)


def log_odds(shown: _Shown, variant: Variant, *, share: float, against: float) -> float:
    """log10 of the likelihood of the reads at one share of the variant, over that at another."""
    total = 0.0
    for reads, has_it in ((shown.with_it, True), (shown.without, False)):
        if not reads:
            continue
        errors = np.array([_error(one, variant) for one in reads])
        total += float(np.sum(np.log10(_chance(share, errors, has_it)) - np.log10(_chance(against, errors, has_it))))
    return total


def _chance(share: float, errors: np.ndarray, has_it: bool) -> np.ndarray:
    """Probability of what the reads show where `share` of them have the variant; an error gives one of three bases."""
    if has_it:
        return share * (1 - errors) + (1 - share) * errors / 3
    return share * errors / 3 + (1 - share) * (1 - errors)


def _error(read: PiledRead, variant: Variant) -> float:
    """That a read shows the wrong allele, by its base's quality, and that it lies elsewhere."""
    base = 10 ** (-read.site_quality / 10) if variant.is_snv else INDEL_ERROR
    return float(np.clip(max(base, 10 ** (-read.mapping_quality / 10)), 1e-6, 0.75))


def _record(variant: Variant, shown: tuple[_Shown, _Shown], names: tuple[str, str]) -> Record:
    tumour, normal = shown
    odds = log_odds(tumour, variant, share=max(tumour.share, 1e-6), against=0.0)
    against = log_odds(normal, variant, share=0.0, against=0.5)
    reasons = tuple(_reasons(tumour, normal, (odds, against)))
    samples = {}
    for name, one, alleles in zip(names, shown, ((0, 1), (0, 0)), strict=True):
        depths = (len(one.without), len(one.with_it))
        samples[name] = SampleCall(alleles, fields={"DP": sum(depths), "AD": depths, "AF": round(one.share, 4)})
    return Record(
        variant.contig, variant.start, variant.end, variant.ref, (variant.alt,),
        quality=round(max(0.0, 10 * odds), 2), filters=reasons or ("PASS",),
        info={"TLOD": round(odds, 2), "NLOD": round(against, 2)}, samples=samples,
    )  # fmt: skip


def _reasons(tumour: _Shown, normal: _Shown, odds: tuple[float, float]) -> Iterator[str]:
    """The filters that a candidate does not pass."""
    if odds[0] < TUMOUR_LOD:
        yield "low_lod"
    if normal.share >= GERMLINE_SHARE and len(normal.with_it) > 1:
        yield "germline"
    elif normal.share >= ARTIFACT_SHARE and len(normal.with_it) > 1:
        yield "normal_artifact"
    elif odds[1] < NORMAL_LOD:
        yield "normal_depth"
    if _one_stranded(tumour):
        yield "strand_bias"
    ends = [one.from_end for one in tumour.with_it]
    if len(ends) > 2 and statistics.median(ends) <= 10 and _spread(ends) <= 3:
        yield "clustered_position"
    if tumour.with_it and statistics.fmean(one.mapping_quality for one in tumour.with_it) < 20:
        yield "low_mapping_quality"


def _spread(values: Sequence[int]) -> float:
    """Median absolute deviation from the median."""
    middle = statistics.median(values)
    return float(statistics.median(abs(value - middle) for value in values))


def _one_stranded(shown: _Shown) -> bool:
    from scipy.stats import fisher_exact

    rows = [[sum(one.reverse for one in reads), sum(not one.reverse for one in reads)]
            for reads in (shown.with_it, shown.without)]  # fmt: skip
    most = max(rows[0]) / max(sum(rows[0]), 1)
    return most > 0.9 and float(fisher_exact(rows)[1]) < 1e-3
