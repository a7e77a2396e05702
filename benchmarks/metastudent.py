"""Swiss-Prot of January 2014 with its GO terms, from Debian's metastudent-data: read, and sampled for the benchmark.

The package (760 MB, GPL-2+) holds BLAST databases of version 4 and tables; nothing of it is copied here. Read by
gene_function.py; `python benchmarks/metastudent.py` prints what is there.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from careloop.genome.function.clusters import identity_clusters, split_by_cluster
from careloop.genome.function.neighbours import search
from careloop.genome.function.proteins import Proteins
from careloop.genome.function.search.hits import SearchOptions
from careloop.genome.function.terms.annotations import annotation_matrix
from careloop.genome.function.terms.ontology import ASPECTS, Ontology, Term, made_ontology

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

FOLDER = Path("/usr/share/metastudent-data/dataset_201401")
FILES = ("MFO", "BPO", "CCO")  # in the order of ASPECTS
ROOTS = ("GO:0003674", "GO:0008150", "GO:0005575")
RESIDUES = "-ABCDEFGHIKLMNPQRSTVWXYZU*OJ"  # NCBIstdaa
SAMPLED, CANDIDATES = 20_000, 4_000  # proteins, and how many of them may become queries
FAR_PERCENT, FAR_EVALUE = 30, 1e-3  # identity that a query's hits among the training proteins stay below


@dataclass(frozen=True)
class Metastudent:
    """All proteins: `ids` and `sequences` in order of id; `truth` (n, terms) bool with all terms above."""

    ontology: Ontology
    ids: tuple[str, ...]
    sequences: tuple[str, ...]
    truth: csr_matrix


def read_metastudent(folder: Path = FOLDER) -> Metastudent:
    """Read everything: 516,371 proteins, about 40 seconds."""
    ontology = read_graph(folder)
    sequences: dict[str, str] = {}
    pairs: list[tuple[str, int]] = []
    for name in FILES:
        ids = []
        with (folder / name / "goasp_annot.dat").open() as file:
            for line in file:
                protein, *terms = line.split()
                ids.append(protein)
                pairs += [(protein, ontology.places[term]) for term in set(terms) if term in ontology.places]
        sequences |= zip(ids, _blast_sequences(folder / name / "goasp.fasta"), strict=True)
    order = sorted(sequences)
    ids, matrix = annotation_matrix(pairs, ontology)
    rows = {protein: row for row, protein in enumerate(ids)}
    kept = [protein for protein in order if protein in rows]
    truth = matrix[[rows[protein] for protein in kept]]
    return Metastudent(ontology, tuple(kept), tuple(sequences[protein] for protein in kept), truth)


def read_graph(folder: Path = FOLDER) -> Ontology:
    """The ontology by goGraph.txt (parent, child, 1, relation) and nameMapping.txt; the aspect is the root reached."""
    names = dict(line.rstrip("\n").split("\t", 1) for line in (folder / "nameMapping.txt").open())
    terms = {name: Term(name=title) for name, title in names.items() if name.startswith("GO:")}
    children: dict[str, list[str]] = {}
    for line in (folder / "goGraph.txt").open():
        parent, child, _, relation = line.split()
        if relation in ("is_a", "part_of") and child in terms and parent in terms:
            terms[child].parents.append(parent)
        if relation == "is_a":
            children.setdefault(parent, []).append(child)
    for aspect, root in zip(ASPECTS, ROOTS, strict=True):
        waiting = [root]
        while waiting:
            name = waiting.pop()
            if not terms[name].aspect:
                terms[name].aspect = aspect
                waiting += children.get(name, [])
    for term in terms.values():
        term.is_obsolete = not term.aspect
    return made_ontology(terms, version="metastudent-data 201401")


def _blast_sequences(database: Path) -> list[str]:
    """Sequences of a protein BLAST database of version 4: .pin holds where each begins in .psq."""
    index = database.with_name(database.name + ".pin").read_bytes()
    version, kind = struct.unpack(">ii", index[:8])
    if (version, kind) != (4, 1):
        raise SystemExit(f"{database} is no protein BLAST database of version 4")
    at = 8
    for _ in range(2):  # title and date
        at += 4 + struct.unpack(">i", index[at : at + 4])[0]
    (count,) = struct.unpack(">i", index[at : at + 4])
    at += 4 + 8 + 4  # the number of sequences, of residues (8 bytes, little-endian) and the longest
    starts = np.frombuffer(index, dtype=">i4", count=count + 1, offset=at + 4 * (count + 1)).astype(np.int64)
    codes = np.frombuffer(database.with_name(database.name + ".psq").read_bytes(), dtype=np.uint8)
    letters = np.frombuffer(RESIDUES.encode(), dtype=np.uint8)
    text = letters[np.minimum(codes, len(letters) - 1)].tobytes().decode()
    return [text[a : b - 1] for a, b in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)]


@dataclass(frozen=True)
class Split:
    """A sample of proteins cut into training proteins and queries far from all of them; `truth`s (n, terms) bool."""

    train: Proteins
    train_truth: csr_matrix
    queries: Proteins
    query_truth: csr_matrix


def far_split(data: Metastudent, seed: int, *, sampled: int = SAMPLED, candidates: int = CANDIDATES) -> Split:
    """Sample proteins; of `candidates` of them those are queries whose hits among the others are under 30 % identical.

    Hits are DIAMOND's, very sensitive, E-value at most 0.001; identity is that of the alignment, the highest of all
    hits. The other candidates are not used.
    """
    generator = np.random.default_rng(seed)
    sample = generator.permutation(generator.choice(len(data.ids), sampled, replace=False))
    asked, train = taken(data, sample[:candidates]), taken(data, sample[candidates:])
    hits = search(asked, train, options=SearchOptions(largest_evalue=FAR_EVALUE, most_hits=1_000))
    far = np.flatnonzero(hits.best_identity(candidates) < FAR_PERCENT / 100)
    return Split(train, data.truth[sample[candidates:]], asked.take(far), data.truth[sample[far]])


def clustered_split(data: Metastudent, seed: int, *, sampled: int = SAMPLED, share: float = 0.2) -> Split:
    """Sample proteins; the queries are whole identity clusters of them, drawn at random, a fifth at most.

    Clusters are chains of DIAMOND hits of at least 30 % identity and E-value at most 0.001: no query has such a hit
    among the training proteins, and proteins of large families stay there.
    """
    generator = np.random.default_rng(seed)
    sample = generator.permutation(generator.choice(len(data.ids), sampled, replace=False))
    proteins = taken(data, sample)
    hits = search(proteins, proteins, options=SearchOptions(largest_evalue=FAR_EVALUE, most_hits=1_000))
    clusters = identity_clusters(hits, sampled, least_identity=FAR_PERCENT / 100, largest_evalue=FAR_EVALUE)
    held = split_by_cluster(clusters, share, seed=seed)
    asked, kept = np.flatnonzero(held), np.flatnonzero(~held)
    return Split(proteins.take(kept), data.truth[sample[kept]], proteins.take(asked), data.truth[sample[asked]])


def taken(data: Metastudent, places: Sequence[int] | np.ndarray) -> Proteins:
    """Some of the proteins."""
    return Proteins(tuple(data.ids[i] for i in places), tuple(data.sequences[i] for i in places))


if __name__ == "__main__":
    data = read_metastudent()
    print(f"{len(data.ids):,} proteins, {len(data.ontology):,} terms, {data.truth.nnz:,} annotations")
    for place, aspect in enumerate(ASPECTS):
        of = data.truth[:, data.ontology.of_aspect(place)]
        print(f"{aspect:<20} {int((of.getnnz(axis=1) > 0).sum()):>8,} proteins, {of.nnz:>10,} annotations")
