"""Two files' records contig by contig, whatever names and order of contigs each has, with what is unsorted refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from careloop import InputError
from careloop.genome.files.reference import Reference
from careloop.genome.files.variant_file import VariantFile
from careloop.genome.variant import Record

NOWHERE = ""  # a contig that the reference does not have
_Pair = tuple[Iterable[Record], Iterable[Record]]


def by_contig(files: tuple[VariantFile, VariantFile], reference: Reference) -> Iterator[tuple[str, _Pair]]:
    """Each contig, under the reference's name, with the records of both files, which are read in one pass.

    Records of a contig must be used up before the next is asked for. Contigs come in the order of the files' headers;
    those that the reference lacks come as `NOWHERE`.

    Raises:
        InputError: records that are not sorted, or headers that list the contigs in different orders.
    """
    ranks = {NOWHERE: -1} | {name: rank for rank, name in enumerate(_order(files, reference))}
    sides = [_contigs(file, reference, ranks) for file in files]
    heads = [next(side, None) for side in sides]
    while any(heads):
        contig = min((head[0] for head in heads if head), key=lambda name: ranks[name])
        rows = [head[1] if head and head[0] == contig else () for head in heads]
        yield contig, (rows[0], rows[1])
        heads = [
            next(side, None) if head and head[0] == contig else head for side, head in zip(sides, heads, strict=True)
        ]


def _order(files: tuple[VariantFile, VariantFile], reference: Reference) -> list[str]:
    """The contigs in an order that both headers keep to; those in no header as the reference has them."""
    listed = [[name for contig in file.header.contigs if (name := reference.name_of(contig))] for file in files]
    shared = set(listed[0]) & set(listed[1])
    if [name for name in listed[0] if name in shared] != [name for name in listed[1] if name in shared]:
        raise InputError(
            f"{files[0].path} and {files[1].path} must have their contigs in the same order; give both one header "
            "(bcftools reheader) and sort them (bcftools sort)"
        )
    order = list(listed[0])
    for place, name in enumerate(listed[1]):
        if name not in order:
            before = listed[1][place - 1] if place else None
            order.insert(order.index(before) + 1 if before else 0, name)
    return order + [name for name in reference.contigs if name not in order]


def _contigs(file: VariantFile, reference: Reference, ranks: dict[str, int]) -> Iterator[tuple[str, Iterator[Record]]]:
    """One file's contigs, each with its records, checked to be sorted."""
    before = -1
    for contig, rows in groupby(file.records(), key=lambda record: record.contig):
        name = reference.name_of(contig)
        if name is None:
            yield NOWHERE, rows
            continue
        if ranks[name] <= before:
            raise InputError(f"{file.path}: contig {contig} is not in the header's order; sort it: bcftools sort")
        before = ranks[name]
        yield name, _sorted(rows, file)


def _sorted(rows: Iterable[Record], file: VariantFile) -> Iterator[Record]:
    before = 0
    for record in rows:
        if record.start < before:
            place = f"{record.contig}:{record.start + 1}"
            raise InputError(f"{file.path}: records must be sorted, {place} comes too late; use bcftools sort")
        before = record.start
        yield record
