"""Limit the bytes per second of reads, so that other programs are not slowed down."""

from __future__ import annotations

import threading
import time

from dbctl import signals

#: Seconds between two checks for a signal, and seconds of delay that may be caught up.
POLL_SECONDS, CATCH_UP_SECONDS = 0.1, 1.0


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
