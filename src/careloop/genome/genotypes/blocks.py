"""Genotypes in blocks of variants, read ahead in threads while the last block is worked on, with bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.genotypes.rows import row_numbers
from careloop.genome.genotypes.source import GenotypeSource

Kind = Literal["genotypes", "dosages"]
BLOCK_VALUES = 2**22  # values in a block where no size is asked for: 4 MB of genotypes, 16 MB of dosages


@dataclass(frozen=True)
class Block:
    """Some variants of all chosen samples: `rows` of the source's variants, ascending; `values` (rows, samples).

    `values` are int8 genotypes (`MISSING` where not called) or float32 dosages (NaN), and may be written to.
    """

    rows: NDArray[np.int64]
    values: NDArray[Any]


def blocks(
    source: GenotypeSource,
    *,
    variants: NDArray[np.int64] | slice | None = None,
    samples: NDArray[np.int64] | None = None,
    size: int | None = None,
    kind: Kind = "genotypes",
    threads: int = 2,
) -> Iterator[Block]:
    """Yield the variants block by block, in order, each read while the one before it is worked on.

    `variants` are rows of `source.variants`, ascending (all by default), `samples` rows of `source.samples` in any
    order. A block has `size` variants, by default as many as have some four million values. At most `threads` blocks
    wait for the one who asks, beside the block that he has.

    Raises:
        InputError: rows outside the tables, a size or threads below 1, or the file cannot be read to its end.
    """
    if threads < 1 or (size is not None and size < 1):
        raise InputError(f"blocks need a size and threads of at least 1; got {size} and {threads}")
    rows = row_numbers(slice(None) if variants is None else variants, source.variants.height)
    count = source.samples.height if samples is None else len(samples)
    step = size or max(1, BLOCK_VALUES // max(count, 1))
    read: Callable[..., NDArray[Any]] = source.genotypes if kind == "genotypes" else source.dosages
    return _ahead([rows[at : at + step] for at in range(0, rows.size, step)], lambda part: read(part, samples), threads)


def _ahead(
    parts: list[NDArray[np.int64]], read: Callable[[NDArray[np.int64]], NDArray[Any]], threads: int
) -> Iterator[Block]:
    waiting: deque[tuple[NDArray[np.int64], Future[NDArray[Any]]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="genotypes") as pool:
        try:
            for part in parts:
                waiting.append((part, pool.submit(read, part)))
                if len(waiting) > threads:
                    yield _first(waiting)
            while waiting:
                yield _first(waiting)
        finally:  # an error, or one who stops asking
            pool.shutdown(wait=True, cancel_futures=True)


def _first(waiting: deque[tuple[NDArray[np.int64], Future[NDArray[Any]]]]) -> Block:
    rows, future = waiting.popleft()
    return Block(rows, future.result())
