"""Limits the bytes per second that work may read, so that other programs are hardly slower."""

from __future__ import annotations

import threading
import time

from dbctl import signals

#: Seconds between two checks for a signal, and of delay for which the work may catch up.
LOOK, HASTE = 0.1, 1.0


class Pace:
    """Waits, after each part of the work, until so many bytes may have been read."""

    def __init__(self, rate: int) -> None:
        """Begin; ``rate`` is in bytes a second."""
        self._rate = rate
        self._due, self._turn = 0.0, threading.Lock()

    def __call__(self, done: int) -> None:
        with self._turn:
            self._due = max(self._due, time.monotonic() - HASTE) + done / self._rate
            due = self._due
        while (left := due - time.monotonic()) > 0:
            signals.check()
            time.sleep(min(left, LOOK))
