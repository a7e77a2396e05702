"""A small simulated world: an ontology, families of alike proteins, and which terms each family has."""

from __future__ import annotations

import numpy as np
import pytest

from careloop.genome.function.library import FunctionLibrary, build_library
from careloop.genome.function.proteins import AMINO_ACIDS, Proteins
from careloop.genome.function.terms.annotations import Annotations, read_annotations
from careloop.genome.function.terms.ontology import Ontology, read_ontology

OBO = """format-version: 1.2
data-version: simulated/1

[Term]
id: GO:0000001
name: molecular_function
namespace: molecular_function

[Term]
id: GO:0000002
name: binding
namespace: molecular_function
is_a: GO:0000001 ! molecular_function

[Term]
id: GO:0000003
name: heme binding
namespace: molecular_function
alt_id: GO:0000033
is_a: GO:0000002 {source="x"} ! binding
relationship: part_of GO:0000011 ! transport

[Term]
id: GO:0000004
name: catalytic activity
namespace: molecular_function
is_a: GO:0000001

[Term]
id: GO:0000010
name: biological_process
namespace: biological_process

[Term]
id: GO:0000012
name: oxygen transport
namespace: biological_process
is_a: GO:0000011
relationship: regulates GO:0000013 ! signalling

[Term]
id: GO:0000011
name: transport
namespace: biological_process
is_a: GO:0000010

[Term]
id: GO:0000013
name: signalling
namespace: biological_process
relationship: part_of GO:0000011
is_a: GO:0000010

[Term]
id: GO:0000090
name: obsolete thing
namespace: biological_process
is_obsolete: true
replaced_by: GO:0000011

[Term]
id: GO:0000091
name: obsolete other thing
namespace: biological_process
is_obsolete: true

[Term]
id: GO:0000020
name: cellular_component
namespace: cellular_component

[Typedef]
id: part_of
name: part of
"""
FAMILY_TERMS = (("GO:0000003", "GO:0000012"), ("GO:0000004",), ("GO:0000013", "GO:0000002"))
MEMBERS = 8


def mutated(sequence: str, share: float, generator: np.random.Generator) -> str:
    """The sequence with about `share` of its residues drawn anew."""
    letters = np.array(list(sequence))
    changed = generator.random(len(letters)) < share
    letters[changed] = generator.choice(list(AMINO_ACIDS), changed.sum())
    return "".join(letters)


@pytest.fixture(scope="session")
def ontology(tmp_path_factory: pytest.TempPathFactory) -> Ontology:
    """The ontology of `OBO`."""
    path = tmp_path_factory.mktemp("ontology") / "go.obo"
    path.write_text(OBO)
    return read_ontology(path)


@pytest.fixture(scope="session")
def families() -> tuple[Proteins, Proteins]:
    """Library proteins F{family}_{member}, of three families, and a query of each family plus one of none."""
    generator = np.random.default_rng(3)
    ancestors = ["".join(generator.choice(list(AMINO_ACIDS), length)) for length in (180, 240, 150)]
    members = {
        f"F{family}_{member}": mutated(ancestor, 0.35, generator)
        for family, ancestor in enumerate(ancestors)
        for member in range(MEMBERS)
    }
    queries = {f"Q{family}": mutated(ancestor, 0.35, generator) for family, ancestor in enumerate(ancestors)}
    queries["Q_alone"] = "".join(generator.choice(list(AMINO_ACIDS), 200))
    return Proteins(tuple(members), tuple(members.values())), Proteins(tuple(queries), tuple(queries.values()))


@pytest.fixture(scope="session")
def annotations(tmp_path_factory: pytest.TempPathFactory, ontology: Ontology) -> Annotations:
    """Terms of every library protein."""
    path = tmp_path_factory.mktemp("annotations") / "terms.tsv"
    lines = [
        f"F{family}_{member}\t{term}"
        for family, terms in enumerate(FAMILY_TERMS)
        for member in range(MEMBERS)
        for term in terms
    ]
    path.write_text("\n".join(lines) + "\n")
    return read_annotations(path, ontology)


@pytest.fixture(scope="session")
def library(families: tuple[Proteins, Proteins], annotations: Annotations, ontology: Ontology) -> FunctionLibrary:
    """The library without a network."""
    return build_library(families[0], annotations, ontology)
