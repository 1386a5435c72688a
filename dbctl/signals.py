"""Signals that end dbctl: open transactions are rolled back, and the exit code contains the signal."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

#: The signals that a user, a supervisor or a closing terminal sends to end a program.
TERMINATION_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: The signals that request a report about the running work; SIGINFO (Ctrl-T) exists on BSD and macOS.
REPORT_SIGNALS = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGINFO") if hasattr(signal, name))

_received: list[int] = []
#: what ``REPORT_SIGNALS`` call: at most one function; without it, they are ignored
reporters: list[Callable[[], None]] = []
_deferred: list[object] = []  #: one entry for each open ``defer_signals``
_blocked: list[object] = []  #: one entry for each open ``block_signals``
_critical: list[object] = []  #: one entry for each open ``critical_result``


class Interrupted(BaseException):
    """A signal requested the end of dbctl; open transactions are rolled back."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.exit_status = 128 + signal_number
        self.hint = ""  #: the completed part of a series of transactions


def install_handlers() -> None:
    """Raise ``Interrupted`` for ``TERMINATION_SIGNALS``; a second signal ends the process immediately."""
    for signal_number in TERMINATION_SIGNALS:
        if signal.getsignal(signal_number) is not signal.SIG_IGN:  # nohup and cron ignore some signals
            signal.signal(signal_number, _on_signal)
    for signal_number in REPORT_SIGNALS:
        signal.signal(signal_number, _on_report_signal)
        signal.siginterrupt(signal_number, False)  # noqa: FBT003 - the name of the flag is private
    sys.unraisablehook = _ignore_unraisable_interrupt


def received_signal() -> int | None:
    """Return the number of the signal that requested the end of dbctl, or None.

    A long call of a driver polls this: Python runs signal handlers only between its own instructions.
    """
    return _received[0] if _received and not _blocked else None


def pending_signal() -> int | None:
    """Return the number of the signal that requested the end of dbctl, also where signals are ignored, or None.

    A program that dbctl waits for there must not delay the end.
    """
    return _received[0] if _received else None


def raise_if_interrupted() -> None:
    """Raise ``Interrupted`` if a signal has requested the end of dbctl."""
    signal_number = received_signal()
    if signal_number is not None:
        raise Interrupted(signal_number)


@contextmanager
def defer_signals() -> Iterator[None]:
    """Defer signals in this context, where an exception could leave locks of a library held forever.

    Thread pools have such locks. Code inside calls ``raise_if_interrupted`` often.
    """
    _deferred.append(None)
    try:
        yield
    finally:
        _deferred.pop()


@contextmanager
def block_signals() -> Iterator[None]:
    """Ignore signals in this context: a rollback or cleanup that must be completed.

    A second signal ends the process nevertheless.
    """
    _blocked.append(None)
    _deferred.append(None)
    try:
        yield
    finally:
        _deferred.pop()
        _blocked.pop()


def reset_signals() -> None:
    """Handle signals again, and forget all open contexts."""
    _blocked.clear()
    _deferred.clear()
    _critical.clear()


def ignore_signals_until_exit() -> None:
    """Ignore signals until ``reset_signals``: the change is committed, and the exit code must report that."""
    _blocked.append(None)
    _deferred.append(None)


@contextmanager
def critical_result(*, is_deferred: bool = False) -> Iterator[None]:
    """Ignore signals after ``commit_point``, so that the result of the change is reported; ``is_deferred``: defer earlier ones.

    Code inside that waits for a server calls ``raise_if_interrupted`` if they are deferred.
    """
    _critical.append(None)
    _deferred.extend([None] * is_deferred)
    try:
        yield
    finally:
        del _deferred[len(_deferred) - is_deferred :]
        if _critical:
            _critical.pop()


def commit_point() -> None:
    """Declare the change committed."""
    if _critical:
        ignore_signals_until_exit()


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Limit the duration of a block in the main thread; checked between Python instructions and in regular expressions.

    Raises:
        TimeoutError: it took longer.
    """

    def raise_timeout(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    previous_handler = signal.signal(signal.SIGALRM, raise_timeout)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous_handler)


def _ignore_unraisable_interrupt(args: sys.UnraisableHookArgs) -> None:
    """Suppress the message about an ``Interrupted`` that cannot be raised, as in a destructor; ``raise_if_interrupted`` reports it."""
    if not isinstance(args.exc_value, Interrupted):
        sys.__unraisablehook__(args)


def _on_report_signal(_number: int, _frame: FrameType | None) -> None:
    for report in reporters:
        report()


def _on_signal(signal_number: int, _frame: FrameType | None) -> None:
    if _received:
        os._exit(128 + signal_number)
    _received.append(signal_number)
    if not _deferred:
        raise Interrupted(signal_number)
