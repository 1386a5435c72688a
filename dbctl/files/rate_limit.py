"""Work that is kept to so many bytes a second, so that what runs beside it is hardly slower for it."""

from __future__ import annotations

import threading
import time

from dbctl import signals

#: Seconds after which a pause looks for a signal, and for which it makes good by haste what it came behind.
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
