"""What gene function is predicted from: annotated proteins, the ontology over them, the prior and, if made, a network.

A folder of plain files that is opened without unpickling anything: library.json (what it was made of, and a digest of
each file), proteins.fasta, terms.parquet (id, name, aspect), edges.parquet (child, parent), annotations.parquet
(protein, term; places in the two others) and network/.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.function.proteins import Proteins, read_proteins, write_fasta
from careloop.genome.function.terms.annotations import Annotations
from careloop.genome.function.terms.ontology import ASPECTS, Ontology
from careloop.genome.function.terms.prior import prior

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from careloop.genome.function.learned.model import LearnedFunction
    from careloop.genome.function.learned.train import LearnSettings

Progress = Callable[[str, int, int], None]

FORMAT, FORMAT_VERSION = "careloop gene function library", 1
DESCRIPTION, NETWORK = "library.json", "network"
_REMEDY = "build it with careloop genome function-library"
_FILES = ("proteins.fasta", "terms.parquet", "edges.parquet", "annotations.parquet")


@dataclass(frozen=True, eq=False)
class FunctionLibrary:
    """Annotated `proteins`, `truth` (proteins, t) bool with all terms above, and the `ontology` of the t terms seen.

    `network` learned from the same proteins, or None. `made_of`: versions and counts, as they are shown.
    """

    proteins: Proteins
    truth: csr_matrix
    ontology: Ontology
    network: LearnedFunction | None = None
    made_of: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def prior(self) -> NDArray[np.float32]:
        """(t,) how common each term is among proteins that are annotated in its aspect."""
        return prior(self.truth, self.ontology)


def build_library(proteins: Proteins, annotations: Annotations, ontology: Ontology) -> FunctionLibrary:
    """Put together the proteins that have both a sequence and a term; terms of none of them are left out.

    Raises:
        InputError: no protein has both.
    """
    both = [place for place, name in enumerate(proteins.ids) if name in annotations.places]
    if not both:
        names = f"{proteins.ids[0]} and {annotations.ids[0]}"
        raise InputError(f"sequences and annotations name proteins alike; none of them does, such as {names}")
    kept = proteins.take(both)
    truth = annotations.of(kept.ids)
    seen = np.flatnonzero(truth.getnnz(axis=0))
    made_of = {
        "Annotated proteins": f"{len(kept):,}",
        "Sequences without annotation": f"{len(proteins) - len(kept):,}",
        "Annotated proteins without sequence": f"{len(annotations.ids) - len(kept):,}",
        "Terms": f"{len(seen):,}",
        "Ontology": ontology.version or "the file does not say its version",
    }
    return FunctionLibrary(kept, truth[:, seen], ontology.restricted(seen), made_of=made_of)


def with_network(
    library: FunctionLibrary,
    *,
    settings: LearnSettings | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> FunctionLibrary:
    """The library with a network that is trained on its proteins (minutes).

    `folder` is where the library is to be written: training that was killed goes on from a checkpoint beside it.

    Raises:
        InputError: too few proteins for a network; the folder holds something else than a library.
    """
    from careloop.genome.function.learned.train import LearnSettings, train_network

    asked = settings or LearnSettings()
    if folder is not None:
        _require_library(folder)
    network = train_network(
        library.proteins,
        library.truth,
        library.ontology,
        settings=asked,
        checkpoint=None if folder is None else _checkpoint(library, asked, folder),
        progress=progress,
    )
    made_of = {**library.made_of, "Network": f"{len(network.terms):,} terms, seed {asked.seed}, {asked.epochs} epochs"}
    return FunctionLibrary(library.proteins, library.truth, library.ontology, network, made_of)


def _checkpoint(library: FunctionLibrary, settings: LearnSettings, folder: Path) -> Path:
    """A file of its own for other proteins, annotations or settings."""
    digest = hashlib.sha256(f"{settings} {library.ontology.terms}".encode())
    for part in (*library.proteins.ids, *library.proteins.sequences):
        digest.update(part.encode() + b"\n")
    digest.update(library.truth.indices.tobytes() + library.truth.indptr.tobytes())
    return folder.with_name(f".training.{folder.name}.{digest.hexdigest()[:16]}.pt")


def _require_library(folder: Path) -> None:
    there = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if there - {DESCRIPTION, NETWORK, *_FILES}:
        raise InputError(f"a library is written to a new folder; {folder} holds other files: name another")


def write_library(library: FunctionLibrary, folder: Path) -> None:
    """Write the folder, whole or not at all; one that is there is replaced if it is such a library.

    Raises:
        InputError: the folder holds something else.
    """
    _require_library(folder)
    draft, old = (folder.with_name(f".{what}.{folder.name}") for what in ("unfinished", "replaced"))
    for left in (draft, old):
        shutil.rmtree(left, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        _write_files(library, draft)
        if folder.exists():
            folder.replace(old)
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def read_library(folder: Path, *, embeddings: Path | None = None) -> FunctionLibrary:
    """Open a library; `embeddings` says where its network's protein language model lies now, if it has one.

    Raises:
        InputError: no library, one of another version, or one that is damaged.
    """
    from scipy.sparse import csr_matrix

    said = _read_description(folder)
    proteins = read_proteins(folder / "proteins.fasta")
    terms, edges = (pl.read_parquet(folder / f"{name}.parquet") for name in ("terms", "edges"))
    pairs = pl.read_parquet(folder / "annotations.parquet")
    ontology = Ontology(
        terms=tuple(terms["term"]),
        names=tuple(terms["name"]),
        aspects=np.array([ASPECTS.index(aspect) for aspect in terms["aspect"]], dtype=np.int8),
        edges=edges.select("child", "parent").to_numpy().astype(np.int64),
        version=said["made_of"].get("Ontology", ""),
    )
    where = (pairs["protein"].to_numpy(), pairs["term"].to_numpy())
    truth = csr_matrix((np.ones(len(pairs), dtype=bool), where), shape=(len(proteins), len(ontology)))
    network = None
    if (folder / NETWORK).is_dir():
        from careloop.genome.function.learned.model import read_network

        network = read_network(folder / NETWORK, embeddings=embeddings)
    return FunctionLibrary(proteins, truth, ontology, network, said["made_of"])


def _write_files(library: FunctionLibrary, folder: Path) -> None:
    ontology = library.ontology
    aspects = [ASPECTS[aspect] for aspect in ontology.aspects]
    write_fasta(folder / "proteins.fasta", library.proteins.ids, library.proteins.sequences)
    terms = pl.DataFrame({"term": ontology.terms, "name": ontology.names, "aspect": aspects})
    terms.write_parquet(folder / "terms.parquet")
    pl.DataFrame({"child": ontology.edges[:, 0], "parent": ontology.edges[:, 1]}).write_parquet(
        folder / "edges.parquet"
    )
    pairs = library.truth.tocoo()
    pl.DataFrame({"protein": pairs.row, "term": pairs.col}).write_parquet(folder / "annotations.parquet")
    if library.network is not None:
        from careloop.genome.function.learned.model import write_network

        (folder / NETWORK).mkdir()
        write_network(library.network, folder / NETWORK)
    said = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "made_of": dict(library.made_of),
        "digests": {name: _digest(folder / name) for name in _FILES},
        "not_for_clinical_use": True,
    }
    (folder / DESCRIPTION).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


def _read_description(folder: Path) -> dict[str, Any]:
    try:
        said = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        made = (said["format"], said["format_version"])
        digests = {name: said["digests"].get(name) for name in _FILES}
        said["made_of"] = dict(said["made_of"])
    except FileNotFoundError:
        raise InputError(f"{folder} is no library, it has no {DESCRIPTION}; {_REMEDY}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{folder / DESCRIPTION} is damaged; {_REMEDY}") from None
    if made != (FORMAT, FORMAT_VERSION):
        raise InputError(f"{folder} is a library of another version of careloop; {_REMEDY}")
    for name, digest in digests.items():
        if not (folder / name).is_file():
            raise InputError(f"{folder} is no whole library, {name} is missing; {_REMEDY}")
        if digest != _digest(folder / name):
            raise InputError(f"{folder / name} is damaged: it is not what {DESCRIPTION} describes; {_REMEDY}")
    return said


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
