"""Protein sequences from a FASTA file, each under its accession, with what could not be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from careloop import InputError
from careloop.genome.function.text_lines import text_lines
from careloop.record.whole_file import whole_file

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
LETTERS = AMINO_ACIDS + "BZXJUO"  # ambiguous, unknown, selenocysteine and pyrrolysine (IUPAC-IUB JCBN 1983)
NUCLEOTIDES = frozenset("ACGTUN")
_ENOUGH = 30  # letters from which a sequence of nucleotides only is taken for one


@dataclass(frozen=True)
class Reject:
    """A line or record that was not used, and why."""

    name: str
    line: int
    reason: str


@dataclass(frozen=True, eq=False)
class Proteins:
    """Sequences of upper-case letters in the file's order, each id once, and what was left out."""

    ids: tuple[str, ...]
    sequences: tuple[str, ...]
    rejects: tuple[Reject, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of each protein by its id."""
        return {name: place for place, name in enumerate(self.ids)}

    def take(self, places: Iterable[int]) -> Proteins:
        """Some of them, in the order given."""
        chosen = list(places)
        return Proteins(tuple(self.ids[i] for i in chosen), tuple(self.sequences[i] for i in chosen))


def read_proteins(path: Path) -> Proteins:
    """Read a FASTA file of proteins (also .gz). The id is the first word; of `sp|P69905|HBA_HUMAN` P69905.

    Rejected, with the line of the header: no residues, letters that are no amino acids, nucleotides, an id that
    came before. A stop (`*`) at the end is cut, letters become upper case, and gaps (`-`) are refused.

    Raises:
        InputError: no FASTA file, or no protein that can be used.
    """
    ids: dict[str, str] = {}
    rejects: list[Reject] = []
    for name, line, sequence in _records(path):
        reason = "the id came before" if name in ids else _unusable(sequence)
        if reason:
            rejects.append(Reject(name, line, reason))
        else:
            ids[name] = sequence
    if not ids:
        why = Counter(reject.reason for reject in rejects).most_common(1)
        found = f"{len(rejects):,} records, most: {why[0][0]}" if why else "no record"
        raise InputError(f"a FASTA file holds at least one protein; {path.name} has {found}: give protein sequences")
    return Proteins(tuple(ids), tuple(ids.values()), tuple(rejects))


def write_fasta(path: Path, ids: Sequence[str], sequences: Sequence[str]) -> None:
    """Write proteins as FASTA, one line each, whole or not at all."""
    with whole_file(path) as draft, draft.open("w", encoding="ascii") as file:
        for name, sequence in zip(ids, sequences, strict=True):
            file.write(f">{name}\n{sequence}\n")


def _unusable(sequence: str) -> str:
    """Why a sequence is not used; "" where it is."""
    if not sequence:
        return "no residues"
    letters = set(sequence)
    if not letters <= set(LETTERS):
        return f"letters that are no amino acids: {' '.join(sorted(letters - set(LETTERS)))[:20]}"
    if letters <= NUCLEOTIDES and len(sequence) >= _ENOUGH:
        return "nucleotides, not amino acids: translate it first"
    return ""


def _records(path: Path) -> Iterator[tuple[str, int, str]]:
    """Id, line of the header and sequence of each record."""
    name, started, parts = "", 0, list[str]()
    for number, line in enumerate(text_lines(path, "proteins come as a FASTA file"), start=1):
        if line.startswith(">"):
            if started:
                yield name, started, _sequence(parts)
            name, started, parts = _accession(line), number, []
        elif started:
            parts.append(line)
        elif line.strip():
            raise InputError(f"a FASTA file begins with a line of > and an id; {path.name} line {number} does not")
    if started:
        yield name, started, _sequence(parts)


def _accession(header: str) -> str:
    name = (header[1:].split() or [""])[0]
    parts = name.split("|")
    return parts[1] if len(parts) >= 3 and parts[0] in ("sp", "tr") else name


def _sequence(parts: list[str]) -> str:
    return "".join("".join(parts).split()).upper().removesuffix("*")
