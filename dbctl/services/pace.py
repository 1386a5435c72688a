"""Work that is kept to so many bytes a second, so that what runs beside it is hardly slower for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dbctl import interrupt

#: Seconds after which a pause looks for a signal, and for which it makes good by haste what it came behind.
LOOK, HASTE = 0.1, 1.0


class Pace:
    """Told how many bytes more are done, it passes that on and waits until so many may have been."""

    def __init__(self, rate: int, advance: Callable[[int], None]) -> None:
        """Begin; ``rate`` is in bytes a second, ``advance`` is told what this is told."""
        self._rate, self._advance = rate, advance
        self._due, self._turn = 0.0, threading.Lock()

    def __call__(self, done: int) -> None:
        self._advance(done)
        with self._turn:
            self._due = max(self._due, time.monotonic() - HASTE) + done / self._rate
            due = self._due
        while (left := due - time.monotonic()) > 0:
            interrupt.check()
            time.sleep(min(left, LOOK))
