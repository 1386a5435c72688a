"""Progress bars on a terminal, for work that takes longer than two seconds."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from dbctl.render.escaping import escape
from dbctl.render.options import supports_drawing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress, TaskID

_DELAY = 2.0  # seconds

#: Amount of work, if known; a function is called again on each update, because the amount may grow.
Total: TypeAlias = "float | Callable[[], float] | None"

_active: list[Progress] = []


@contextmanager
def progress(
    label: str, total: Total, *, color: bool, quiet: bool = False
) -> Iterator[Callable[[float], None]]:
    """Yield ``advance(n)``, which adds ``n`` units of done work and draws the bar after two seconds."""
    start, done = time.monotonic(), 0.0
    bar: tuple[Progress, TaskID] | None = None
    silent = quiet or not supports_drawing(stream_is_terminal=sys.stderr.isatty())

    def advance(count: float = 1) -> None:
        nonlocal bar, done
        done += count
        if silent or time.monotonic() - start < _DELAY:
            return
        if bar is None:
            bar = _start(label, color=color)
        shown, task = bar
        amount = total() if callable(total) else total
        rate = f"{done / (time.monotonic() - start):,.0f}/s"
        shown.update(task, completed=done, total=amount, rate=rate)

    try:
        yield advance
    finally:
        stop()


def stop() -> None:
    """Remove the progress bar before other output is written."""
    while _active:
        _active.pop().stop()


def _start(label: str, *, color: bool) -> tuple[Progress, TaskID]:
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
        redirect_stdout=False,  # output to a file or pipe must not appear on the terminal
        redirect_stderr=False,
    )
    task = shown.add_task(escape(label), total=None, rate="")
    shown.start()
    _active.append(shown)
    return shown, task
