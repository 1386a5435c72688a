"""Progress of long work: on a terminal only, and only once the work has lasted."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from dbctl.render.escaping import escape
from dbctl.render.options import draws

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress, TaskID

_LONG = 2.0  # seconds

#: How much there is to do, where that is known; work that finds more of it as it goes is asked again and again.
Total: TypeAlias = "float | Callable[[], float] | None"

_drawn: list[Progress] = []


@contextmanager
def progress(
    label: str, total: Total, *, color: bool, quiet: bool = False
) -> Iterator[Callable[[float], None]]:
    """Give a function that is told of each further ``n`` done; it draws once two seconds have gone by."""
    began, done = time.monotonic(), 0.0
    bar: tuple[Progress, TaskID] | None = None
    silent = quiet or not draws(stream_is_terminal=sys.stderr.isatty())

    def advance(count: float = 1) -> None:
        nonlocal bar, done
        done += count
        if silent or time.monotonic() - began < _LONG:
            return
        if bar is None:
            bar = _begin(label, color=color)
        shown, task = bar
        whole = total() if callable(total) else total
        rate = f"{done / (time.monotonic() - began):,.0f}/s"
        shown.update(task, completed=done, total=whole, rate=rate)

    try:
        yield advance
    finally:
        end()


def end() -> None:
    """Take away what is drawn: something is said now that it must not stand in the way of."""
    while _drawn:
        _drawn.pop().stop()


def _begin(label: str, *, color: bool) -> tuple[Progress, TaskID]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    shown = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        console=Console(stderr=True, color_system="auto" if color else None),
        transient=True,
        redirect_stdout=False,  # an answer that goes into a file or a pipe must not end on the terminal instead
        redirect_stderr=False,
    )
    task = shown.add_task(escape(label), total=None, rate="")
    shown.start()
    _drawn.append(shown)
    return shown, task
