"""Training on several devices: the same function in one process a device, started and watched by torch's launcher."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from careloop import InputError


def spread(work: Callable[..., Any], processes: int, *arguments: Any) -> None:
    """Run `work(*arguments)`, a module's function, in so many processes, which train together and leave files.

    Each process finds its place in torch's environment variables, which Lightning Fabric reads (`loop.make_fabric`).

    Raises:
        InputError: a process failed; its own error stands on standard error.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=f"careloop-{uuid.uuid4().hex}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        start_method="spawn",
    )
    try:
        elastic_launch(config, work)(*arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise InputError(
            f"training on {processes} devices failed in process {rank}: {_last_line(failure)}; "
            "try devices: 1, which shows the error itself"
        ) from error


def _last_line(failure: Any) -> str:
    """The error of a process in a line, without its traceback."""
    message = failure.message.get("message", "") if isinstance(failure.message, dict) else str(failure.message)
    return (message.strip().splitlines() or ["no reason given"])[0][:300]
