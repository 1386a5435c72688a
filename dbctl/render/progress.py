"""Progress on a terminal, or as JSON lines for programs, for work that takes longer than half a second."""

from __future__ import annotations

import os
import signal
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from math import ceil
from typing import TYPE_CHECKING

from dbctl.progress import Display, Report, Work
from dbctl.render.streams import ProgressMode
from dbctl.render.text import escape, format_duration
from dbctl.units import format_size

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_DELAY, _JSON_PERIOD, _FRAME = 0.4, 0.5, 0.1  # seconds
_BAR_WIDTH, _WIDE = 20, 100  # columns; a narrower terminal has no bar


def create_display(work: Work, mode: ProgressMode, *, color: bool, threaded: bool) -> Display:
    """Return the display of the work in the requested form, which is not ``none``.

    Unless ``threaded``, ``dbctl.progress.poll`` draws instead of a thread, because the command forks processes.
    """
    if mode is ProgressMode.JSON:
        return _JsonLines(work, threaded=threaded)
    return _TerminalLine(work, color=color, threaded=threaded)


def write_report(work: Work, *, is_drawn: bool) -> None:
    """Write the present state; called by a signal handler, so that no buffered stream is used.

    ``is_drawn``: the progress is drawn on the last line of the terminal.
    """
    report = work.report()
    stage = f"{report.stage}: " if report.stage else ""
    text = escape(f"dbctl {report.command}: {stage}{describe(report)}")
    erase = "\r\x1b[2K" if is_drawn else ""
    with suppress(OSError):
        os.write(2, f"{erase}{text}\n".encode(errors="backslashreplace"))


def describe(report: Report) -> str:
    """Return the figures of a report: ``1.2 of 3.4 MiB, 800 KiB/s, 3 s left``."""
    figures = []
    if report.unit and report.total:
        figures.append(
            f"{_format_amount(report.done, report.unit)} of {_format_amount(report.total, report.unit)}"
        )
    elif report.unit and report.done:
        figures.append(_format_amount(report.done, report.unit))
    if report.unit and report.unit != "bytes" and figures:
        figures[0] += f" {report.unit}"
    if report.rate:
        figures.append(f"{_format_amount(report.rate, report.unit)}/s")
    figures.append(
        format_duration(report.elapsed) if report.eta is None else f"{format_duration(ceil(report.eta))} left"
    )
    return ", ".join(figures)


def _format_amount(amount: float, unit: str) -> str:
    return format_size(int(amount)) if unit == "bytes" else f"{amount:,.0f}"


def _write_nothing() -> None:
    """Ignore a change of the stage."""


class _Display(ABC):
    """Shows the work after a delay, and then periodically."""

    delay = period = 0.0  # seconds

    def __init__(self, work: Work, *, threaded: bool) -> None:
        self._work, self._threaded = work, threaded
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._due_after = self.delay

    def start(self) -> None:
        """Start to show the work."""
        if not self._threaded:
            self._work.on_poll = self._draw_if_due
        else:
            self._stopped.clear()
            self._thread = threading.Thread(target=self._run, daemon=True)
            # signals are for the main thread, whose system calls they interrupt
            previous = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            try:
                self._thread.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, previous)

    def stop(self) -> None:
        """Remove what was drawn."""
        if self._threaded:
            self._stopped.set()
            if self._thread:
                self._thread.join(timeout=2)
        else:
            self.clear()

    def _draw_if_due(self) -> None:
        elapsed = self._work.report().elapsed
        if elapsed >= self._due_after:
            self._due_after = elapsed + self.period
            self.draw()

    def _run(self) -> None:
        delay = self.delay
        with suppress(OSError):
            while not self._stopped.wait(delay):
                self.draw()
                delay = self.period
        with suppress(OSError):
            self.clear()

    @abstractmethod
    def draw(self) -> None:
        """Show the present state."""

    @abstractmethod
    def clear(self) -> None:
        """Remove what was drawn."""


class _JsonLines(_Display):
    """One JSON object per line on standard error."""

    delay = period = _JSON_PERIOD

    def start(self) -> None:
        self._work.on_stage = self.draw
        super().start()

    def draw(self) -> None:
        import json

        report = self._work.report()
        fields = {name: getattr(report, name) for name in report.__struct_fields__}
        fields = {
            name: round(value, 3) if isinstance(value, float) else value for name, value in fields.items()
        }
        with suppress(OSError):  # one call, so that lines of two threads do not mix
            os.write(2, (json.dumps({"schema": "dbctl.progress/1", **fields}) + "\n").encode())

    def clear(self) -> None:
        self._work.on_stage = _write_nothing
        self.draw()


class _TerminalLine(_Display):
    """One line with a spinner, the stage, a bar and figures, drawn with rich."""

    delay, period = _DELAY, _FRAME

    def __init__(self, work: Work, *, color: bool, threaded: bool) -> None:
        super().__init__(work, threaded=threaded)
        self._color = color
        self._live: Live | None = None

    def draw(self) -> None:
        if self._live is None:
            from rich.console import Console
            from rich.live import Live
            from rich.spinner import Spinner

            console = Console(stderr=True, color_system="auto" if self._color else None)
            self._spinner = Spinner("dots" if console.encoding.startswith("utf") else "line")
            self._live = Live(
                console=console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,  # output to a file or pipe must not appear on the terminal
                redirect_stderr=False,
                get_renderable=self._build_line,
            )
            self._live.start()
            console.show_cursor(show=True)  # a second signal ends the process immediately
        self._live.refresh()

    def _is_wide(self) -> bool:
        return self._live is not None and self._live.console.width >= _WIDE

    def clear(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def _build_line(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        report = self._work.report()
        cells: list[RenderableType] = [self._spinner, Text(escape(report.stage or report.command))]
        if report.total and self._is_wide():
            cells.append(ProgressBar(total=report.total, completed=report.done, width=_BAR_WIDTH))
        cells.append(Text(describe(report)))
        line = Table.grid(padding=(0, 1))
        for _ in cells:
            line.add_column(no_wrap=True, overflow="ellipsis")
        line.add_row(*cells)
        return line
