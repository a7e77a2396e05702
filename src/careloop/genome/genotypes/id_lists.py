"""Lists of ids that a user writes: of variants (as plink2's --extract takes them) and of samples (--keep)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.genotypes.source import GenotypeSource


def read_variant_ids(path: Path) -> frozenset[str]:
    """Read ids of variants: the first word of each line.

    Raises:
        InputError: no such file, not text, or no id in it.
    """
    return _ids(path, [words[0] for words in _words(path)])


def read_sample_ids(path: Path) -> frozenset[str]:
    """Read ids of samples: the column IID under a header that begins with `#`; else the second word, or the only one.

    Raises:
        InputError: no such file, not text, no column IID in its header, or no id in it.
    """
    rows = _words(path)
    if rows and rows[0][0].startswith("#"):
        header = [name.lstrip("#") for name in rows[0]]
        if "IID" not in header:
            raise InputError(f"{path}: a header of sample ids has a column IID; this one has {', '.join(header[:10])}")
        place = header.index("IID")
        return _ids(path, [words[place] for words in rows[1:] if len(words) > place])
    return _ids(path, [words[min(1, len(words) - 1)] for words in rows])


def rows_of_samples(source: GenotypeSource, ids: frozenset[str]) -> NDArray[np.int64]:
    """The rows of some people in a genotype file, in the file's order.

    Raises:
        InputError: none of the ids is in the file.
    """
    rows = np.flatnonzero(source.samples["sample_id"].is_in(list(ids)).to_numpy())
    if not rows.size:
        raise InputError(f"{source.path}: none of the {len(ids):,} ids is a sample's of this file; check the ids")
    return rows


def _words(path: Path) -> list[list[str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a list of ids: it is not text") from None
    return [words for line in lines if (words := line.split())]


def _ids(path: Path, ids: list[str]) -> frozenset[str]:
    if not ids:
        raise InputError(f"{path}: no id in this file; write one a line")
    return frozenset(ids)
