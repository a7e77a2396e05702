"""The Gene Ontology: its terms, what lies above each, and ids that were merged or withdrawn."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.function.text_lines import text_lines

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

ASPECTS = ("molecular_function", "biological_process", "cellular_component")
RELATIONS = ("is_a", "part_of")  # over which an annotation to a term holds for the term above (GO, "Relations")


@dataclass(frozen=True, eq=False)
class Ontology:
    """Terms with parents before their children.

    `terms` and `names` (t,); `aspects` (t,) places in `ASPECTS`; `edges` (e, 2) places of a child and of its parent by
    is_a or part_of, both of one aspect, as CAFA propagates. `alternatives`: ids that were merged into another;
    `obsolete`: withdrawn ids, each with the one id that replaces it, or "". `version` as the file says.
    """

    terms: tuple[str, ...]
    names: tuple[str, ...]
    aspects: NDArray[np.int8]
    edges: NDArray[np.int64]
    alternatives: Mapping[str, str] = field(default_factory=dict)
    obsolete: Mapping[str, str] = field(default_factory=dict)
    version: str = ""

    def __len__(self) -> int:
        return len(self.terms)

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of each term by its id, of merged ids and of withdrawn ones that another replaces."""
        found = {term: place for place, term in enumerate(self.terms)}
        for given in (self.alternatives, self.obsolete):
            for old, new in given.items():
                if new in found:
                    found.setdefault(old, found[new])
        return found

    @cached_property
    def is_root(self) -> NDArray[np.bool_]:
        """Terms with none above (t,)."""
        roots = np.ones(len(self), dtype=bool)
        roots[self.edges[:, 0]] = False
        return roots

    @cached_property
    def closure(self) -> csr_matrix:
        """(t, t) bool: row, a term; columns, itself and all above it."""
        from scipy.sparse import csr_matrix

        above = _above(self)
        columns = np.concatenate([np.asarray(each, dtype=np.int32) for each in above] or [np.zeros(0, np.int32)])
        starts = np.cumsum([0, *map(len, above)])
        return csr_matrix((np.ones(len(columns), dtype=bool), columns, starts), shape=(len(self), len(self)))

    def of_aspect(self, aspect: int) -> NDArray[np.int64]:
        """Places of the terms of one aspect."""
        return np.flatnonzero(self.aspects == aspect)

    def propagated(self, direct: csr_matrix) -> csr_matrix:
        """Annotations (n, t) bool with every term above those annotated."""
        from scipy.sparse import csr_matrix

        counts = direct.astype(np.int32) @ self.closure.astype(np.int32)
        return csr_matrix(counts > 0)

    def restricted(self, places: NDArray[np.int64]) -> Ontology:
        """Of some terms only; their parents must be among them. Order and ids stay, `places` must ascend."""
        new = np.full(len(self), -1, dtype=np.int64)
        new[places] = np.arange(len(places))
        edges = new[self.edges]
        if (edges[edges[:, 0] >= 0, 1] < 0).any():
            raise InputError("terms are kept together with all those above them; got a term without one of its parents")
        kept = {self.terms[place] for place in places}
        return Ontology(
            terms=tuple(self.terms[place] for place in places),
            names=tuple(self.names[place] for place in places),
            aspects=self.aspects[places],
            edges=edges[edges[:, 0] >= 0],
            alternatives={old: new for old, new in self.alternatives.items() if new in kept},
            obsolete=self.obsolete,
            version=self.version,
        )


@dataclass
class Term:
    """One term as a file gives it; `parents` by is_a and part_of, of whatever aspect."""

    name: str = ""
    aspect: str = ""
    parents: list[str] = field(default_factory=list)
    alternatives: list[str] = field(default_factory=list)
    replaced_by: list[str] = field(default_factory=list)
    is_obsolete: bool = False


def read_ontology(path: Path) -> Ontology:
    """Read an OBO file (format 1.2 or 1.4; also .gz) of the Gene Ontology.

    Raises:
        InputError: no OBO file, no terms, or terms that lie in each other in a circle.
    """
    terms: dict[str, Term] = {}
    version = ""
    for tag, pairs in _stanzas(path):
        if tag == "":
            version = next((value for key, value in pairs if key == "data-version"), "")
        elif tag == "Term":
            name, term = _term(pairs)
            terms[name] = term
    if not terms:
        raise InputError(f"an ontology is an OBO file with [Term] stanzas; {path.name} has none: give go-basic.obo")
    return made_ontology(terms, version=version)


def made_ontology(terms: Mapping[str, Term], *, version: str = "") -> Ontology:
    """Put terms in order; parents of another aspect, and those that are not in `terms`, are left out.

    Raises:
        InputError: a term without one of the three aspects, or terms that lie in each other in a circle.
    """
    live = {name: term for name, term in terms.items() if not term.is_obsolete}
    unknown = next((name for name, term in live.items() if term.aspect not in ASPECTS), None)
    if unknown is not None:
        raise InputError(f"a term has the namespace {', '.join(ASPECTS)}; {unknown} has {live[unknown].aspect!r}")
    parents = {
        name: [p for p in dict.fromkeys(term.parents) if p in live and live[p].aspect == term.aspect]
        for name, term in live.items()
    }
    order = _parents_first(parents)
    place = {name: i for i, name in enumerate(order)}
    edges = [(place[child], place[parent]) for child in order for parent in parents[child]]
    return Ontology(
        terms=tuple(order),
        names=tuple(live[name].name for name in order),
        aspects=np.array([ASPECTS.index(live[name].aspect) for name in order], dtype=np.int8),
        edges=np.array(edges, dtype=np.int64).reshape(-1, 2),
        alternatives={old: name for name, term in live.items() for old in term.alternatives},
        obsolete={name: _replacement(term) for name, term in terms.items() if term.is_obsolete},
        version=version,
    )


def _replacement(term: Term) -> str:
    return term.replaced_by[0] if len(term.replaced_by) == 1 else ""


def _parents_first(parents: Mapping[str, list[str]]) -> list[str]:
    """Kahn's order, in which names come as they were given wherever parents leave a choice."""
    children: dict[str, list[str]] = defaultdict(list)
    waiting = {name: len(above) for name, above in parents.items()}
    for name, above in parents.items():
        for parent in above:
            children[parent].append(name)
    ready = deque(name for name, count in waiting.items() if not count)
    order: list[str] = []
    while ready:
        order.append(ready.popleft())
        for child in children[order[-1]]:
            waiting[child] -= 1
            if not waiting[child]:
                ready.append(child)
    if len(order) < len(parents):
        stuck = next(name for name, count in waiting.items() if count)
        raise InputError(f"terms lie above one another without a circle; {stuck} lies above itself")
    return order


def _above(ontology: Ontology) -> list[list[int]]:
    """Of each term, itself and all above it, ascending: parents come first, so theirs are known."""
    parents: list[list[int]] = [[] for _ in ontology.terms]
    for child, parent in ontology.edges.tolist():
        parents[child].append(parent)
    sets: list[set[int]] = []
    for place, direct in enumerate(parents):
        sets.append({place}.union(*(sets[parent] for parent in direct)))
    return [sorted(each) for each in sets]


def _stanzas(path: Path) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The header (named "") and each stanza: its lines as (tag, value), comments and modifiers cut."""
    tag, pairs = "", list[tuple[str, str]]()
    for line in text_lines(path, "an ontology is an OBO file in UTF-8"):
        if line.startswith("["):
            yield tag, pairs
            tag, pairs = line.strip(" []"), []
        elif ":" in line and not line.startswith("!"):
            key, _, value = line.partition(":")
            pairs.append((key.strip(), value.strip()))
    yield tag, pairs


def _term(pairs: Iterable[tuple[str, str]]) -> tuple[str, Term]:
    term, name = Term(), ""
    for key, value in pairs:
        bare = value.split("!")[0].split("{")[0].strip()
        if key == "id":
            name = bare
        elif key == "name":
            term.name = value
        elif key == "namespace":
            term.aspect = bare
        elif key == "is_a":
            term.parents.append(bare)
        elif key == "relationship" and bare.split()[0] == "part_of":
            term.parents.append(bare.split()[1])
        elif key == "alt_id":
            term.alternatives.append(bare)
        elif key == "replaced_by":
            term.replaced_by.append(bare)
        elif key == "is_obsolete":
            term.is_obsolete = bare == "true"
    return name, term
