"""Work on a record shard by shard: in this process, in local worker processes, or as tasks of a Ray cluster."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from typing import Any, NoReturn, Protocol, TypeVar

from careloop import InputError
from careloop.record.store import Record

PLACES = ("here", "local", "ray")
HERE = "here"
# Polars uses every core by itself; a second shard at once fills its pauses, at the cost of that shard's memory.
SHARDS_HERE = 2
RAY_STORE_BYTES = 1 << 30  # for results on their way; Ray itself would take 30 % of the memory
LONGEST_DEAF_SECONDS = 0.2
Result = TypeVar("Result")
ResultOut = TypeVar("ResultOut", covariant=True)


class Work(Protocol[ResultOut]):
    """What is done with one shard: a function of a module, or a `functools.partial` of one, so that it can travel."""

    def __call__(self, record: Record, shard: int, /) -> ResultOut:
        """Return the shard's result, which travels back pickled."""


def each_shard(
    record: Record,
    work: Work[Result],
    *,
    on: str = HERE,
    shards: Sequence[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Result]:
    """Yield `work(record, shard)` of each shard in order, the same ones wherever they are computed.

    At most one shard more than there are workers is read or waits to be taken. Leaving the iteration early, by an
    error or Ctrl-C, stops the workers.

    Args:
        record: the version to read. Ray's nodes must see its folder under the same path.
        work: computes one shard.
        on: `here`, in threads of this process; `local`, in worker processes, which share this machine's cores; `ray`,
            as tasks of the cluster at RAY_ADDRESS, else of one started on this machine for as long as this process
            lives. `local:4` takes 4 workers instead of one a core: each needs the memory of one shard. A script that
            uses `local` keeps its own work under `if __name__ == "__main__":`, because workers import it.
        shards: these only, in this order; all by default.
        progress: called with the number of the shard that is done, counted from 1, and of the record's shards.

    Raises:
        InputError: `on` is none of these; Ray is not installed or not reached; a worker died.
    """
    place, workers = place_of(on)
    wanted = range(record.shards) if shards is None else shards
    workers = min(workers, max(1, len(wanted)))
    compute = _compute_on_ray if place == "ray" else _compute_in_pool
    with closing(compute(record, work, wanted, workers, place)) as results:
        for shard, result in zip(wanted, results, strict=True):
            if progress is not None:
                progress(shard + 1, record.shards)
            yield result


def place_of(on: str) -> tuple[str, int]:
    """Return the place and the number of workers that `here`, `local`, `ray`, or `PLACE:WORKERS` means.

    Raises:
        InputError: it is written in another way.
    """
    match = re.fullmatch(rf"({'|'.join(PLACES)})(?::([1-9]\d*))?", on)
    if match is None:
        raise InputError(f"on: work is done {', '.join(PLACES)}, or on so many workers as in local:4; got {on!r}")
    place, number = match.groups()
    return place, int(number) if number else SHARDS_HERE if place == HERE else _cores()


def _cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# In this process and in local worker processes.


def _compute_in_pool(
    record: Record, work: Work[Result], shards: Sequence[int], workers: int, place: str
) -> Generator[Result, None, None]:
    if place == HERE and workers == 1:
        yield from (work(record, shard) for shard in shards)
        return
    pool = ThreadPoolExecutor(workers) if place == HERE else _processes(workers)
    waiting: deque[tuple[int, Future[Result]]] = deque()
    try:
        for shard in shards:
            with _polars_threads(_cores() // workers if place == "local" else None):
                waiting.append((shard, pool.submit(work, record, shard)))
            if len(waiting) > workers:
                yield _awaited(waiting[0][1])
                waiting.popleft()
        while waiting:
            yield _awaited(waiting[0][1])
            waiting.popleft()
        pool.shutdown()
    except BrokenProcessPool:
        lost = [shard for shard, future in waiting if isinstance(future.exception(), BrokenProcessPool)]
        _raise_dead(lost[:workers] or [shard])  # they begin in order, so that the shards beyond these were not begun
    finally:
        _stop(pool)


def _processes(workers: int) -> ProcessPoolExecutor:
    import multiprocessing

    # Spawned, because polars' threads do not survive a fork.
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin_worker)


def _begin_worker() -> None:
    """Leave Ctrl-C to the parent process, and end when it has ended, however that was."""
    from multiprocessing import connection, parent_process

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None  # this runs in a worker only

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _polars_threads(number: int | None) -> Iterator[None]:
    """Let processes that are started meanwhile use so many threads: polars reads this when it is imported, only."""
    name = "POLARS_MAX_THREADS"
    before = os.environ.get(name)
    if number is None or before is not None:
        yield
        return
    os.environ[name] = str(max(1, number))
    try:
        yield
    finally:
        del os.environ[name]


def _awaited(future: Future[Result]) -> Result:
    """Wait for the result in short steps: polars' handler of Ctrl-C does not wake a thread that waits (polars 2.1)."""
    while wait([future], timeout=LONGEST_DEAF_SECONDS).not_done:
        pass
    return future.result()


def _raise_dead(shards: Sequence[int]) -> NoReturn:
    where = " or ".join(str(shard) for shard in shards)
    raise InputError(
        f"a worker died at shard {where}, most likely because memory ran out; use fewer workers (such as local:1), or a"
        ' record of more shards; in a script of your own, start the work under `if __name__ == "__main__":`'
    ) from None


def _stop(pool: Executor) -> None:
    """End workers in the midst of their shards; nothing is left to end where all results were taken."""
    processes = list((getattr(pool, "_processes", None) or {}).values())  # public only from Python 3.14 on
    for process in processes:
        process.terminate()
    # Waits for the pool's own thread too, which else may write to a pipe that the interpreter closes as it ends.
    pool.shutdown(wait=True, cancel_futures=True)


# On Ray.


def _compute_on_ray(
    record: Record, work: Work[Result], shards: Sequence[int], workers: int, place: str
) -> Generator[Result, None, None]:
    ray = _ray()
    _connect(ray, workers)
    threads = {"env_vars": {"POLARS_MAX_THREADS": "1"}}  # one core a task is what Ray counts with
    task = ray.remote(num_cpus=1, max_retries=0, runtime_env=threads)(work_on)
    waiting: deque[tuple[int, Any]] = deque()
    try:
        for shard in shards:
            waiting.append((shard, task.remote(work, record, shard)))
            if len(waiting) > workers:
                yield _fetched(ray, *waiting.popleft())
        while waiting:
            yield _fetched(ray, *waiting.popleft())
    finally:
        for _, reference in waiting:
            ray.cancel(reference, force=True)


def work_on(work: Work[Result], record: Record, shard: int) -> Result:
    """Do one shard's work in a Ray worker."""
    return work(record, shard)


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise InputError(
            'on: ray is not installed; install it with pip install "careloop[ray]", or use local'
        ) from None
    return ray


def _connect(ray: Any, workers: int) -> None:
    """Connect to the cluster that is there; else start one on this machine, which ends with this process."""
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS")
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            ray.init("local", num_cpus=workers, object_store_memory=RAY_STORE_BYTES, include_dashboard=False, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"at RAY_ADDRESS {address}" if address else "on this machine"
        raise InputError(f"on: no Ray cluster {where} ({type(error).__name__}); start it, or use local") from None


def _fetched(ray: Any, shard: int, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ray.exceptions.RayError):
            raise InputError(
                f"on: a Ray worker cannot begin shard {shard}; install this careloop on every node"
            ) from error
        raise error.cause from None
    except ray.exceptions.RayError:
        _raise_dead([shard])
