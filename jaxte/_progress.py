"""Progress over examples: how many, how fast, how long still."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

__all__ = ["Progress", "bar", "reporter"]

Progress: TypeAlias = Callable[[int, int | None, str], None]


@contextmanager
def reporter(progress: bool | Progress, title: str) -> Iterator[Progress]:
    """A function (done, total, label): the given one, one that draws a bar, or none at all."""
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda done, total, label: None
    else:
        with bar(title) as update:
            yield update


@contextmanager
def bar(title: str) -> Iterator[Progress]:
    """A bar on standard error, where that is a terminal, with examples per second and time left.

    A label that changes begins anew; what was done before it begins does not count as speed.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """Examples per second."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if not speed else f"{speed:,.0f} examples/s")

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
    )
    shown: list[str] = []
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as drawn:
        task = drawn.add_task(title, total=None)

        def update(done: int, total: int | None, label: str) -> None:
            if shown != [label]:
                shown[:] = [label]
                drawn.reset(task, completed=done, description=label)
            drawn.tasks[0].total = total  # update() takes None for no change
            drawn.update(task, completed=done)

        yield update
