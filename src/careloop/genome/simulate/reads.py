"""Simulated paired-end short reads of haplotypes, with errors that follow (or belie) their base qualities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from careloop import InputError
from careloop.genome.simulate.repeats import bases_of

COMPLEMENT = np.zeros(256, dtype=np.uint8)
COMPLEMENT[np.frombuffer(b"ACGTN", dtype=np.uint8)] = np.frombuffer(b"TGCAN", dtype=np.uint8)
ACGT = np.frombuffer(b"ACGT", dtype=np.uint8)
BATCH_FRAGMENTS = 20_000
SPARE = 8  # template bases beyond the read, used up where a sequencing error deletes bases
LOWEST_QUALITY, HIGHEST_QUALITY = 2, 41
BINS = np.array([2, 12, 23, 37])  # the four qualities of recent two-colour machines


@dataclass(frozen=True, slots=True)
class ReadModel:
    """How a simulated machine reads. Qualities are Phred, lengths bases.

    Quality falls from `quality_first` to `quality_last` along the read, differs between reads (`quality_read_sd`) and
    bases (`quality_base_sd`); a share `bad_bases` has a quality below 15. `error_scale` multiplies the error that the
    quality states. `indel_errors` is the chance of a one-base indel error at a base, `homopolymer_errors` what each
    base of a homopolymer beyond the fifth adds. `duplicates` is the share of fragments read twice.
    """

    depth: float = 30.0
    read_length: int = 150
    fragment_mean: float = 350.0
    fragment_sd: float = 60.0
    quality_first: float = 38.0
    quality_last: float = 32.0
    quality_read_sd: float = 2.0
    quality_base_sd: float = 3.0
    bad_bases: float = 0.02
    binned: str = "no"
    error_scale: float = 1.0
    indel_errors: float = 1e-5
    homopolymer_errors: float = 5e-5
    duplicates: float = 0.0


def low_quality(model: ReadModel) -> ReadModel:
    """The same machine on a bad day: 10 Phred lower, steeper, more bad bases."""
    return replace(
        model,
        quality_first=model.quality_first - 8,
        quality_last=model.quality_last - 12,
        bad_bases=0.08,
        quality_base_sd=5.0,
    )


@dataclass(frozen=True, slots=True)
class ReadPair:
    """Two reads of one fragment as sequenced (5' to 3'), ASCII codes; qualities with the offset of 33."""

    name: str
    bases: tuple[bytes, bytes]
    qualities: tuple[bytes, bytes]


def simulate_reads(haplotypes: Sequence[str], model: ReadModel, *, seed: int, prefix: str = "r") -> Iterator[ReadPair]:
    """Read pairs drawn evenly from the haplotypes, `model.depth` deep in all; fragments with N are left out.

    A contaminated sample is two calls (the second with the other person's haplotypes and a small depth) chained.
    Raises InputError where a haplotype is shorter than a fragment.
    """
    shortest = min(len(haplotype) for haplotype in haplotypes)
    if shortest < model.fragment_mean + 5 * model.fragment_sd:
        raise InputError(f"Haplotypes must be longer than the fragments of their reads: got {shortest:,} bases")
    draw = np.random.default_rng(seed)
    for copy, haplotype in enumerate(haplotypes):
        bases = bases_of(haplotype)
        runs = _homopolymer_lengths(bases)
        fragments = round(model.depth * len(bases) / (2 * model.read_length) / len(haplotypes))
        for done in range(0, fragments, BATCH_FRAGMENTS):
            size = min(BATCH_FRAGMENTS, fragments - done)
            yield from _batch(bases, runs, model, draw=draw, size=size, name=f"{prefix}{copy}_{done}")


def write_fastq(pairs: Iterator[ReadPair], first: Path | str, second: Path | str) -> int:
    """Writes both files of FASTQ (plain text); returns the number of pairs."""
    count = 0
    with Path(first).open("wb") as one, Path(second).open("wb") as two:
        for pair in pairs:
            for file, end in ((one, 0), (two, 1)):
                file.write(b"@%s/%d\n%s\n+\n%s\n" % (pair.name.encode(), end + 1, pair.bases[end], pair.qualities[end]))
            count += 1
    return count


def _homopolymer_lengths(bases: Any) -> Any:
    """The length of the homopolymer that each base stands in (int32)."""
    starts = np.flatnonzero(np.concatenate(([True], bases[1:] != bases[:-1])))
    lengths = np.diff(np.concatenate((starts, [len(bases)])))
    return np.repeat(lengths, lengths).astype(np.int32)


def _batch(
    bases: Any, runs: Any, model: ReadModel, *, draw: np.random.Generator, size: int, name: str
) -> Iterator[ReadPair]:
    span = model.read_length + SPARE
    lengths = np.clip(draw.normal(model.fragment_mean, model.fragment_sd, size).astype(int), span, None)
    starts = (draw.random(size) * (len(bases) - lengths)).astype(int)
    if model.duplicates:
        twice = np.flatnonzero(draw.random(size) < model.duplicates)
        source = draw.integers(0, size, len(twice))
        starts[twice], lengths[twice] = starts[source], lengths[source]
    offsets = np.arange(span)
    left = starts[:, None] + offsets
    right = (starts + lengths)[:, None] - 1 - offsets
    templates = [bases[left], COMPLEMENT[bases[right]]]
    flipped = draw.random(size) < 0.5
    ends = []
    for template, at in zip(templates, (left, right), strict=True):
        read = _with_indel_errors(template, runs[at], model, draw=draw)
        quality = _qualities(model, draw, size)
        ends.append((_with_base_errors(read, quality, model, draw=draw), (quality + 33).astype(np.uint8)))
    usable = ~((templates[0] == ord("N")).any(axis=1) | (templates[1] == ord("N")).any(axis=1))
    for row in np.flatnonzero(usable).tolist():
        one, two = (ends[1], ends[0]) if flipped[row] else (ends[0], ends[1])
        yield ReadPair(
            f"{name}_{row}",
            (one[0][row].tobytes(), two[0][row].tobytes()),
            (one[1][row].tobytes(), two[1][row].tobytes()),
        )


def _with_indel_errors(template: Any, runs: Any, model: ReadModel, *, draw: np.random.Generator) -> Any:
    """Reads (n, read_length) of templates (n, read_length + SPARE), a few of them with an indel error."""
    length = model.read_length
    chance = model.indel_errors + model.homopolymer_errors * np.clip(runs[:, :length] - 5, 0, None)
    reads = template[:, :length].copy()
    rows, columns = np.nonzero(draw.random(chance.shape, dtype=np.float32) < chance)
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        if draw.random() < 0.5:
            reads[row, column:] = template[row, column + 1 : length + 1]
        else:
            reads[row, column + 1 :] = template[row, column : length - 1]
    return reads


def _qualities(model: ReadModel, draw: np.random.Generator, size: int) -> Any:
    along = np.linspace(0, 1, model.read_length, dtype=np.float32) ** 2
    mean = model.quality_first + (model.quality_last - model.quality_first) * along
    read = draw.normal(0, model.quality_read_sd, (size, 1)).astype(np.float32)
    base = draw.standard_normal((size, model.read_length), dtype=np.float32) * model.quality_base_sd
    quality = mean + read + base
    bad = draw.random(quality.shape, dtype=np.float32) < model.bad_bases
    quality[bad] = draw.integers(LOWEST_QUALITY, 15, np.count_nonzero(bad))
    quality = np.clip(np.rint(quality), LOWEST_QUALITY, HIGHEST_QUALITY).astype(int)
    if model.binned == "four":
        quality = BINS[np.abs(quality[..., None] - BINS).argmin(axis=-1)]
    return quality


def _with_base_errors(reads: Any, quality: Any, model: ReadModel, *, draw: np.random.Generator) -> Any:
    chance = np.minimum(10 ** (-quality / 10) * model.error_scale, 0.75)
    rows, columns = np.nonzero(draw.random(reads.shape, dtype=np.float32) < chance)
    right = np.searchsorted(ACGT, reads[rows, columns])
    reads[rows, columns] = ACGT[(right + draw.integers(1, 4, len(rows))) % 4]
    return reads
