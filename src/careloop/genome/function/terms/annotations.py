"""Which proteins have which terms: annotation files (GAF, or two columns) as one sparse matrix over the ontology."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.function.proteins import Reject
from careloop.genome.function.terms.ontology import Ontology
from careloop.genome.function.text_lines import text_lines

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# Evidence codes (GO, "Guide to GO evidence codes"): what CAFA takes as truth.
EXPERIMENTAL = frozenset(["EXP", "IDA", "IPI", "IMP", "IGI", "IEP", "HTP", "HDA", "HMP", "HGI", "HEP", "TAS", "IC"])
_GAF_COLUMNS = 15  # at least; GAF 2.x has 17, of which the last two may be empty


@dataclass(frozen=True, eq=False)
class Annotations:
    """Terms of proteins: `matrix` (proteins, ontology terms) bool, every term above an annotated one included.

    `denied`: protein and term of lines that say NOT; `rejects`: lines that were not used, each with its reason.
    """

    ids: tuple[str, ...]
    matrix: csr_matrix
    denied: tuple[tuple[str, str], ...] = ()
    rejects: tuple[Reject, ...] = field(default=())

    @cached_property
    def places(self) -> dict[str, int]:
        """The row of each protein by its id."""
        return {name: place for place, name in enumerate(self.ids)}

    def of(self, ids: Sequence[str]) -> csr_matrix:
        """Rows (n, terms) of proteins in the order given; one that is not annotated has an empty row."""
        from scipy.sparse import csr_matrix

        rows = np.array([self.places.get(name, -1) for name in ids], dtype=np.int64)
        known = np.flatnonzero(rows >= 0)
        chooser = csr_matrix((np.ones(len(known), bool), (known, rows[known])), shape=(len(ids), len(self.ids)))
        return (chooser @ self.matrix).astype(bool)


def read_annotations(path: Path, ontology: Ontology, *, evidence: Iterable[str] | None = None) -> Annotations:
    """Read GAF 2.x (lines of 17 columns after `!gaf-version`), or a table of protein and term by tab, comma or space.

    In a table any further column is ignored, and several terms may follow one protein. Merged ids and withdrawn ones
    with one replacement are taken for the term that replaced them. `evidence`: the codes of a GAF that count, all where
    None. Rejected and counted: terms that the ontology lacks or has withdrawn, other evidence, and broken lines. A line
    whose qualifier says NOT is no annotation: the protein is listed in `denied`.

    Raises:
        InputError: a file that cannot be read, or without any annotation.
    """
    wanted = None if evidence is None else frozenset(evidence)
    rejects: list[Reject] = []
    denied: list[tuple[str, str]] = []
    pairs: list[tuple[str, int]] = []
    for number, protein, term, reason in _annotated(path, wanted):
        place = ontology.places.get(term)
        if reason == "NOT":
            denied.append((protein, term))
        elif reason or place is None:
            rejects.append(Reject(protein, number, reason or _why_unknown(term, ontology)))
        else:
            pairs.append((protein, place))
    if not pairs:
        found = f"{len(rejects):,} lines were rejected, the first: {rejects[0].reason}" if rejects else "it is empty"
        raise InputError(f"annotations are GAF 2 or lines of protein and GO term; {path.name} has none: {found}")
    return Annotations(*annotation_matrix(pairs, ontology), tuple(denied), tuple(rejects))


def annotation_matrix(pairs: Iterable[tuple[str, int]], ontology: Ontology) -> tuple[tuple[str, ...], csr_matrix]:
    """Ids in order of first mention and (proteins, terms) bool, with every term above, of (protein, place of term)."""
    from scipy.sparse import csr_matrix

    rows: dict[str, int] = {}
    places = [(rows.setdefault(protein, len(rows)), place) for protein, place in pairs]
    where: NDArray[np.int64] = np.array(places, dtype=np.int64).reshape(-1, 2)
    direct = csr_matrix((np.ones(len(where), dtype=bool), (where[:, 0], where[:, 1])), shape=(len(rows), len(ontology)))
    return tuple(rows), ontology.propagated(direct)


def reasons(rejects: Iterable[Reject]) -> Mapping[str, int]:
    """How many were rejected for each reason, the most frequent first."""
    counts: dict[str, int] = {}
    for reject in rejects:
        counts[reject.reason] = counts.get(reject.reason, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _annotated(path: Path, evidence: frozenset[str] | None) -> Iterator[tuple[int, str, str, str]]:
    """Line, protein, term and why it does not count ("" where it does, "NOT" where it is denied)."""
    gaf = False
    for number, line in enumerate(text_lines(path, "annotations come as a GAF file or a table"), start=1):
        if line.startswith("!"):
            gaf = gaf or line.lower().startswith("!gaf-version:")
        elif not line.strip():
            continue
        elif gaf:
            yield number, *_gaf_line(line, evidence)
        elif not line.startswith("#"):
            protein, *terms = line.replace(",", "\t").split()
            named = [term for term in terms if term.startswith("GO:")]
            if named or number > 1:  # the first line may name the columns
                yield from ((number, protein, term, "") for term in named)
            if not named and number > 1:
                yield number, protein, "", "no GO term in the line"


def _gaf_line(line: str, evidence: frozenset[str] | None) -> tuple[str, str, str]:
    columns = line.split("\t")
    if len(columns) < _GAF_COLUMNS:
        return columns[0][:20], "", f"fewer than {_GAF_COLUMNS} columns by tab"
    protein, qualifiers, term, code = columns[1], columns[3], columns[4], columns[6]
    if "NOT" in qualifiers.upper().split("|"):
        return protein, term, "NOT"
    if evidence is not None and code not in evidence:
        return protein, term, f"evidence {code} is not among those asked for"
    return protein, term, ""


def _why_unknown(term: str, ontology: Ontology) -> str:
    return "the term was withdrawn" if term in ontology.obsolete else "the ontology does not have the term"
