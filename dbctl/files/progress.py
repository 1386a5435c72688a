"""Callbacks that receive the progress of reads: they do nothing, report it, or limit its rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeAlias

from dbctl import signals

#: Seconds between two checks for a signal, and seconds of delay that may be caught up.
POLL_SECONDS, CATCH_UP_SECONDS = 0.1, 1.0

#: Receives the completed share, from 0 to 1.
Progress: TypeAlias = Callable[[float], None]


def no_progress(_share: float) -> None:
    """Report nothing."""


def release_nothing() -> None:
    """Do nothing: no other process is blocked."""


class RateLimiter:
    """Called after each read; waits so that the rate is not exceeded."""

    def __init__(self, rate: int) -> None:
        """Start the clock; ``rate`` is in bytes per second."""
        self._rate = rate
        self._due_time, self._lock = 0.0, threading.Lock()

    def __call__(self, read_bytes: int) -> None:
        with self._lock:
            self._due_time = (
                max(self._due_time, time.monotonic() - CATCH_UP_SECONDS) + read_bytes / self._rate
            )
            due_time = self._due_time
        while (remaining := due_time - time.monotonic()) > 0:
            signals.raise_if_interrupted()
            time.sleep(min(remaining, POLL_SECONDS))
