"""Progress of the running work: services report stages and amounts, and ``dbctl.render.progress`` shows them.

The state belongs to the process and not to a thread, because the threads of one operation report to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeAlias, TypeVar

from dbctl.model import Struct, format_count

T = TypeVar("T")
#: Amount of work, if known; a function is called again for each report, because the amount may grow.
Total: TypeAlias = "float | Callable[[], float] | None"
#: Receives the completed share of one step, from 0 to 1.
Progress: TypeAlias = Callable[[float], None]
#: Seconds of work before a rate is meaningful.
_RATE_SECONDS = 0.5


def no_progress(_share: float = 0) -> None:
    """Report nothing."""


class Report(Struct, frozen=True, kw_only=True):
    """The state of the work at one time."""

    command: str  #: its words: backup create
    stage: str  #: 2 of 3 databases, compressing
    done: float  #: in ``unit``
    total: float | None  #: in ``unit``; None: unknown
    unit: str  #: bytes, or a noun in the plural; empty: the work is not measured
    elapsed: float  #: seconds
    rate: float | None  #: ``unit`` per second
    eta: float | None  #: expected remaining seconds


class Display(Protocol):
    """Shows the progress of the current work."""

    def start(self) -> None:
        """Start to show the work."""

    def stop(self) -> None:
        """Remove what was drawn; ``start`` may follow."""


class Work:
    """The work of one command, which reports its progress while it is the current one."""

    _part = _activity = _unit = ""
    _total: Total = None
    _done = _counted_since = 0.0

    def __init__(self, command: str) -> None:
        self.on_stage: Callable[[], None] = no_progress  #: called after each change of the stage
        self.on_poll: Callable[[], None] = no_progress  #: called by ``poll``
        self._command, self._begin = command, time.monotonic()

    def measure(self, activity: str, total: Total, unit: str) -> None:
        """Begin to count: ``advance`` receives amounts in ``unit``, a noun in the plural."""
        self._activity, self._total, self._unit = activity, total, unit
        self._done, self._counted_since = 0.0, 0.0

    def advance(self, count: float = 1) -> None:
        """Add ``count`` units of done work, if it is measured."""
        if self._unit:
            self._counted_since = self._counted_since or time.monotonic()
            self._done += count

    def set_stage(self, *, part: str | None = None, activity: str | None = None) -> None:
        """Replace the part of the work, or what is done with it."""
        self._part = self._part if part is None else part
        self._activity = self._activity if activity is None else activity
        self.on_stage()

    def report(self) -> Report:
        """Return the present state."""
        done, now = self._done, time.monotonic()
        total = self._total() if callable(self._total) else self._total
        total = max(total, done) if total else None
        counted_seconds = now - self._counted_since
        has_rate = bool(self._unit) and self._counted_since and counted_seconds > _RATE_SECONDS
        rate = done / counted_seconds if has_rate else None
        return Report(
            command=self._command,
            stage=", ".join(filter(None, [self._part, self._activity])),
            done=done,
            total=total,
            unit=self._unit,
            elapsed=now - self._begin,
            rate=rate,
            eta=(total - done) / rate if rate and total else None,
        )


current: list[Work] = []  #: at most one
_displays: list[Display] = []
#: What users must know about the data that was read, until it is written.
notes: list[str] = []
_earlier_notes = set[str]()


@contextmanager
def track(work: Work, display: Display | None) -> Iterator[None]:
    """Make ``work`` the current work in this context, and show it until ``stop``."""
    current[:], _displays[:] = [work], [display] if display else []
    try:
        for shown in _displays:
            shown.start()
        yield
    finally:
        stop()
        current.clear()


def stop() -> None:
    """Remove the progress before the result is written."""
    while _displays:
        _displays.pop().stop()


@contextmanager
def pause() -> Iterator[None]:
    """Remove the progress while other text is written or read."""
    paused = list(_displays)
    for display in paused:
        display.stop()
    try:
        yield
    finally:
        for display in paused:
            if display in _displays:
                display.start()


def detach() -> None:
    """Forget the work in a forked process."""
    _displays.clear()
    current.clear()


def poll() -> None:
    """Let the current progress be drawn by this thread, where no thread may draw it because processes are forked."""
    if current:
        current[0].on_poll()


def start_part(number: int, count: int, noun: str) -> None:
    """Report that the work on one of ``count`` parts begins: ``2 of 3 databases``."""
    if current:
        current[0].set_stage(part=f"{number} of {format_count(count, noun)}", activity="")


def list_parts(items: Iterable[T], noun: str) -> Iterator[T]:
    """Yield items, and report each as the part on which the work begins."""
    parts = list(items)
    for number, part in enumerate(parts, 1):
        start_part(number, len(parts), noun)
        yield part


def advance(count: float) -> None:
    """Add done work in the unit of the current work."""
    if current:
        current[0].advance(count)


def count_blocks(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield blocks, and count the bytes of each one as completed when the next one is read."""
    for block in blocks:
        yield block
        advance(len(block))


@contextmanager
def uncounted() -> Iterator[None]:
    """Report nothing of the work of this block, which only plans what is done and counted later."""
    works = list(current)
    current.clear()
    try:
        yield
    finally:
        current[:] = works


def start_stage(activity: str) -> None:
    """Report what is done now with the part, or with the whole: ``compressing``."""
    if current:
        current[0].set_stage(activity=activity)


def add_note(text: str) -> None:
    """Add what users must know about the data that was read, once for each process."""
    if text not in _earlier_notes:
        _earlier_notes.add(text)
        notes.append(text)
