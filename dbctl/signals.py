"""Signals that end dbctl: work is rolled back, the exit status tells which."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: The signals that a person, a supervisor or a closing terminal sends to end a program.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_received: list[int] = []
_holding: list[object] = []  #: one entry for each ``held`` that is open
_unheard: list[object] = []  #: the same of ``unheard``
_telling: list[object] = []  #: the same of ``telling``


class Interrupted(BaseException):
    """A signal asked dbctl to end; whoever holds a transaction rolls it back on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_status = 128 + number
        self.hint = ""  #: what a series of transactions had done by then


def listen() -> None:
    """Turn the ending signals into ``Interrupted``; a second signal ends the process at once."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup and cron set some to be ignored
            signal.signal(number, _on_signal)
    sys.unraisablehook = _unraisable


def received() -> int | None:
    """Return the number of the signal that asked dbctl to end, if any did.

    A long call into a driver polls this: Python runs signal handlers only between its own instructions.
    """
    return _received[0] if _received and not _unheard else None


def check() -> None:
    """Raise ``Interrupted`` when a signal has asked dbctl to end."""
    number = received()
    if number is not None:
        raise Interrupted(number)


@contextmanager
def held() -> Iterator[None]:
    """Keep a signal from raising inside, where it could leave a lock of somebody else's code taken for ever.

    Thread pools have such locks. Whoever is inside calls ``check`` often.
    """
    _holding.append(None)
    try:
        yield
    finally:
        _holding.pop()


@contextmanager
def unheard() -> Iterator[None]:
    """Keep a signal from ending what is inside at all: the way back, which has to be gone to its end.

    A second signal ends the process all the same.
    """
    _unheard.append(None)
    try:
        with held():
            yield
    finally:
        _unheard.pop()


def begin() -> None:
    """Hear signals, whatever was done before."""
    _unheard.clear()
    _holding.clear()
    _telling.clear()


def over() -> None:
    """Hear no signal until ``begin``: what was asked for is done and told, and the exit status has to say so."""
    _unheard.append(None)
    _holding.append(None)


@contextmanager
def telling() -> Iterator[None]:
    """Do one thing, and tell what became of it: from ``done`` on no signal is heard, also between the two."""
    _telling.append(None)
    try:
        yield
    finally:
        if _telling:
            _telling.pop()


def done() -> None:
    """Say that what was asked for is done, and nothing takes it back any more."""
    if _telling:
        over()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Give the work of the main thread a time; it ends between two steps of Python, or inside a regular expression.

    Raises:
        TimeoutError: it took longer.
    """

    def late(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _unraisable(told: sys.UnraisableHookArgs) -> None:
    """Be silent of a signal that came where nothing can be raised, as while Python clears an object away: ``check`` hears it."""
    if not isinstance(told.exc_value, Interrupted):
        sys.__unraisablehook__(told)


def _on_signal(number: int, _frame: FrameType | None) -> None:
    if _received:
        os._exit(128 + number)
    _received.append(number)
    if not _holding:
        raise Interrupted(number)
