"""A record of several alternative alleles as one record for each, with what is counted by allele rewritten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from careloop.genome.files.variant_header import FieldType, VariantHeader
from careloop.genome.variant import Record, SampleCall

OtherAllele = Literal["reference", "missing"]

# Keys reserved by VCF 4.5 (tables 1 and 2) that have a value for each alternative allele (A), each allele (R) or each
# genotype (G), for headers that do not define them.
_RESERVED_INFO = {"AD": "R", "ADF": "R", "ADR": "R", "AC": "A", "AF": "A", "CIGAR": "A"}
_RESERVED_FORMAT = {"AD": "R", "ADF": "R", "ADR": "R", "EC": "A", "GL": "G", "GP": "G", "PL": "G", "PP": "G"}


@dataclass(frozen=True)
class Numbers:
    """How many values each INFO and FORMAT key has: `A`, `R`, `G`, `.` or a number, as the header defines it."""

    info: Mapping[str, str] = field(default_factory=lambda: dict(_RESERVED_INFO))
    format: Mapping[str, str] = field(default_factory=lambda: dict(_RESERVED_FORMAT))

    @classmethod
    def of(cls, header: VariantHeader) -> Numbers:
        """As a header defines them; a reserved key defined as `.` keeps its reserved number.

        (Callers of the time before `R` existed, VCF 4.1, define AD as `.`.)
        """
        return cls(_defined(header.infos, _RESERVED_INFO), _defined(header.formats, _RESERVED_FORMAT))


def _defined(types: Mapping[str, FieldType], reserved: Mapping[str, str]) -> dict[str, str]:
    return {
        **reserved,
        **{key: kind.number for key, kind in types.items() if kind.number != "." or key not in reserved},
    }


def split_alleles(record: Record, numbers: Numbers, *, other: OtherAllele = "reference") -> Iterator[Record]:
    """One record for each alternative allele, in order; a record of one is handed on as it is.

    A genotype's other alternative alleles become the reference (`1/2`: `1/0` and `0/1`, as `bcftools norm -m-` has
    it: each record says on which chromosome its own allele is), or missing (`1/.` and `./1`, as `vt decompose`).
    Likelihoods (PL, GL, GP) are those of the genotypes kept, not scaled anew, as both programs leave them.
    """
    if len(record.alts) < 2:
        yield record
        return
    for index, alt in enumerate(record.alts, start=1):
        yield replace(
            record,
            alts=(alt,),
            info=_kept(record.info, numbers.info, index, len(record.alts), ploidy=2),
            samples={name: _split_call(call, numbers, record, index, other) for name, call in record.samples.items()},
        )


def _split_call(call: SampleCall, numbers: Numbers, record: Record, index: int, other: OtherAllele) -> SampleCall:
    """A sample's call with the alternative allele `index` as the only one."""
    elsewhere = 0 if other == "reference" else None
    new = {0: 0, None: None, index: 1}
    ploidy = len(call.alleles) or 2
    return replace(
        call,
        alleles=tuple(new.get(allele, elsewhere) for allele in call.alleles),
        fields=_kept(call.fields, numbers.format, index, len(record.alts), ploidy=ploidy),
    )


def _kept(
    values: Mapping[str, Any], numbers: Mapping[str, str], index: int, alternatives: int, *, ploidy: int
) -> dict[str, Any]:
    """The values of INFO or FORMAT that belong to one alternative allele; a wrong number of values is left out."""
    kept: dict[str, Any] = {}
    for key, value in values.items():
        places = _places(numbers.get(key, "."), index, alternatives, ploidy)
        if places is None or not isinstance(value, (tuple, list)):
            kept[key] = value
        elif len(value) == places[0]:
            kept[key] = tuple(value[place] for place in places[1])
        elif set(value) <= {None, "."}:
            kept[key] = value
    return kept


def _places(number: str, index: int, alternatives: int, ploidy: int) -> tuple[int, list[int]] | None:
    """How many values there are, and the places of those that stay; None where values do not go by allele."""
    if number == "A":
        return alternatives, [index - 1]
    if number == "R":
        return alternatives + 1, [0, index]
    if number == "G" and ploidy == 1:
        return alternatives + 1, [0, index]
    if number == "G" and ploidy == 2:
        genotypes = (alternatives + 1) * (alternatives + 2) // 2
        return genotypes, [0, index * (index + 1) // 2, index * (index + 3) // 2]
    return None
