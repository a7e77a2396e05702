"""What commands print: results on standard output as text or one JSON object, progress on standard error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click


@contextmanager
def stages() -> Iterator[Callable[[str, str], None]]:
    """Stages on standard error: a spinner with the time so far on a terminal, else a line a finished stage."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(finished_text="✓"), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def notify(stage: str, state: str) -> None:
            if state == "running":
                tasks[stage] = bars.add_task(stage, total=1)
                return
            if state == "unchanged":
                tasks[stage] = bars.add_task(f"{stage} (unchanged)", total=1)
            if state not in ("done", "unchanged"):  # how far a long stage is
                bars.update(tasks[stage], description=f"{stage}: {state}")
                return
            bars.update(tasks[stage], completed=1)
            if not console.is_terminal:
                console.print(f"{stage}: {state}", highlight=False)

        yield notify


@contextmanager
def counter() -> Iterator[Callable[[str, int, int], None]]:
    """Work that is counted, on standard error: what is done, how much, of how much (0: not known).

    A bar with rate and time left on a terminal, else nothing.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Done(ProgressColumn):
        """How much is done, of how much where that is known, and how fast."""

        def render(self, task: Task) -> Text:
            of = f" of {task.total:,.0f}" if task.total else ""
            rate = f", {task.speed:,.0f} a second" if task.speed else ""
            return Text(f"{task.completed:,.0f}{of}{rate}")

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), Done(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[bool, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if bool(total) not in tasks:  # rich cannot take a total back
                for task in list(bars.task_ids):
                    bars.remove_task(task)
                tasks.clear()
                tasks[bool(total)] = bars.add_task(what, total=total or None)
            bars.update(tasks[bool(total)], description=what, completed=done, total=total or None)

        yield progress


def show(content: Any, text: str, *, as_json: bool) -> None:
    """Print a result: `content` as one JSON object, or `text`."""
    click.echo(json.dumps(content, ensure_ascii=False, allow_nan=False, default=str) if as_json else text)
