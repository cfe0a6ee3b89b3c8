"""Progress bars: of examples with their speed and the time left, or of the steps of a ranking."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Progress", "bar", "reporter"]


class Progress(Protocol):
    """What is told how far the work is; ``total`` is None while it is not known."""

    def __call__(self, done: int, total: int | None, label: str, /) -> None: ...


@contextmanager
def reporter(
    progress: bool | Progress, title: str, *, unit: str = "examples", always: bool = False
) -> Iterator[Progress]:
    """A function (done, total, label): ``progress`` itself, one that draws a `bar`, or a no-op."""
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda done, total, label: None
    else:
        with bar(title, unit=unit, always=always) as update:
            yield update


@contextmanager
def bar(title: str, *, unit: str = "examples", always: bool = False) -> Iterator[Progress]:
    """A bar on standard error, fed as `update(done, total, label)`.

    Only where that is a terminal or a notebook, unless ``always``.

    With a unit it shows units per second and the time left; a label that changes begins anew, and
    what was done before it begins does not count as speed. With unit="" the title stays, and
    behind the time taken stands the label.
    """
    from rich import progress as rich_progress
    from rich.console import Console
    from rich.text import Text

    class Rate(rich_progress.ProgressColumn):
        """Units per second."""

        def render(self, task: rich_progress.Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if not speed else f"{speed:,.0f} {unit}/s")

    ending: tuple[rich_progress.ProgressColumn, ...] = (
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("{task.fields[label]}"),
    )
    if unit:
        ending = (Rate(), rich_progress.TimeRemainingColumn())
    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        *ending,
    )
    console = Console(stderr=True)
    with rich_progress.Progress(
        *columns,
        console=console,
        transient=True,
        disable=not (always or console.is_terminal or console.is_jupyter),
    ) as drawn:
        task = drawn.add_task(title, total=None, label="")

        def update(done: int, total: int | None, label: str) -> None:
            if unit and drawn.tasks[0].fields["label"] != label:
                drawn.reset(task, completed=done, description=label)
            drawn.tasks[0].total = total  # update() takes None for no change
            drawn.update(task, completed=done, label=label)

        yield update
