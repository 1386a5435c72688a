"""Sizes of cleanup batches, so that no transaction holds the write lock for long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Seconds that a transaction aims to hold the write lock.
TARGET_SECONDS = 0.02
#: The pause after a transaction, relative to its duration, and the minimum in seconds. A connection that waits for SQLite polls
#: after 1, 2, 5, 10 and 15 ms, so one that starts to wait during a transaction of 20 ms polls within the pause.
PAUSE_FACTOR, MIN_PAUSE_SECONDS = 0.5, 0.015
#: If a smaller batch reduces the rows per second below this factor, the previous size is restored.
MIN_RATE_FACTOR = 0.7
#: The number of batches for which a restored size is not reduced again; limited, because one batch may be slow by chance.
PATIENCE = 20
INITIAL_SIZE, MIN_SIZE, MAX_SIZE = 100, 10, 10_000


class BatchSizer:
    """The size of the next batch, computed from the lock durations of the previous ones."""

    def __init__(self, *, at_once: bool) -> None:
        self.at_once = at_once  #: no pause and no size limit: the app is stopped
        self.size = INITIAL_SIZE
        self.count = 0
        self.longest_lock = 0.0  #: seconds
        self._lock_duration = 0.0
        self._patience = 0  #: the number of batches for which the size is not reduced
        #: size and rows per second before the last reduction
        self._before_shrinking: tuple[int, float] | None = None

    @contextmanager
    def measure(self, rows: int) -> Iterator[Callable[[], None]]:
        """Measure the transaction inside; calling the yielded function restarts the measurement."""
        start = time.monotonic()

        def restart_clock() -> None:
            nonlocal start
            start = time.monotonic()

        yield restart_clock
        self._lock_duration = max(time.monotonic() - start, 1e-6)
        self.count += 1
        self.longest_lock = max(self.longest_lock, self._lock_duration)
        self._adapt(rows, self._lock_duration)

    def pause(self) -> None:
        """Sleep, so that other writers get the lock."""
        if not self.at_once:
            time.sleep(max(self._lock_duration * PAUSE_FACTOR, MIN_PAUSE_SECONDS))

    def _adapt(self, rows: int, duration: float) -> None:
        rate = rows / duration
        shrunk, self._before_shrinking = self._before_shrinking, None
        self._patience = max(0, self._patience - 1)
        if shrunk and rate < shrunk[1] * MIN_RATE_FACTOR:
            self.size, self._patience = shrunk[0], PATIENCE
            return
        size = round(self.size * min(2.0, max(0.5, TARGET_SECONDS / duration)))
        size = min(MAX_SIZE, max(self.size if self._patience else MIN_SIZE, size))
        if size < self.size:
            self._before_shrinking = (self.size, rate)
        # A partial last batch does not show whether a larger one is fast.
        if size < self.size or rows >= self.size:
            self.size = size
