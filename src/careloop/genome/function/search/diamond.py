"""Search by DIAMOND, a separate program (GPL-3; Debian: diamond-aligner)."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from careloop import InputError
from careloop.genome.function.proteins import NUCLEOTIDES, write_fasta
from careloop.genome.function.search.hits import Hits, SearchOptions

_COLUMNS = (
    *("qseqid", "sseqid", "pident", "length", "qstart", "qend", "sstart", "send"),
    *("qlen", "slen", "evalue", "bitscore"),
)


def diamond_path() -> str | None:
    """The program, or None where it is not installed."""
    return shutil.which("diamond")


def search_by_diamond(queries: Sequence[str], library: Sequence[str], *, options: SearchOptions) -> Hits:
    """DIAMOND's hits (Buchfink et al., Nat Methods 2021;18:366), very sensitive, the best alignment of a pair.

    Its scores are corrected for the query's composition, its option --comp-based-stats 1.

    Raises:
        InputError: it is not installed, or fails.
    """
    program = diamond_path()
    if program is None:
        raise InputError("the search was to use DIAMOND, which is not installed: install diamond-aligner")
    with tempfile.TemporaryDirectory() as name:
        folder, found = Path(name), Path(name) / "hits.tsv"
        asked = _write_searched(queries, folder / "queries.fasta")
        known = _write_searched(library, folder / "library.fasta")
        if not asked or not known:
            found.touch()
        else:
            _align(program, folder, found, options)
        return _read_hits(found)


def _write_searched(sequences: Sequence[str], path: Path) -> int:
    """Write sequences under their places; how many. DIAMOND refuses all for one whose letters might be DNA.

    Such a protein is a short peptide (longer ones are rejected as nucleotides), and like nothing by chance alone.
    """
    places = [place for place, sequence in enumerate(sequences) if set(sequence) - NUCLEOTIDES]
    write_fasta(path, [str(place) for place in places], [sequences[place] for place in places])
    return len(places)


def _align(program: str, folder: Path, found: Path, options: SearchOptions) -> None:
    shared = ["--threads", str(options.threads), "--quiet"]
    database = f"{folder}/library.dmnd"
    _run([program, "makedb", "--in", f"{folder}/library.fasta", "--db", database, *shared])
    asked = ["--query", f"{folder}/queries.fasta", "--db", database, "--out", str(found), "--very-sensitive"]
    limits = ["--evalue", str(options.largest_evalue), "--max-target-seqs", str(options.most_hits)]
    _run([program, "blastp", *asked, *limits, "--max-hsps", "1", "--outfmt", "6", *_COLUMNS, *shared])


def _read_hits(path: Path) -> Hits:
    table = np.loadtxt(path, ndmin=2) if path.stat().st_size else np.zeros((0, len(_COLUMNS)))
    column = dict(zip(_COLUMNS, table.T, strict=True))
    hits = Hits(
        query=column["qseqid"].astype(np.int64),
        target=column["sseqid"].astype(np.int64),
        identity=column["pident"] / 100,
        query_span=np.column_stack([column["qstart"] - 1, column["qend"]]).astype(np.int64),
        target_span=np.column_stack([column["sstart"] - 1, column["send"]]).astype(np.int64),
        bit_score=column["bitscore"],
        evalue=column["evalue"],
        program="DIAMOND",
    )
    return hits.chosen(np.lexsort((hits.target, -hits.bit_score, hits.query)))


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise InputError(f"DIAMOND searches the library; it failed: {last}") from error
