"""How much is done in one transaction: as much as keeps others waiting no longer than they notice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Seconds that a transaction aims to hold the write lock.
TARGET = 0.02
#: Part of that time for which others get their turn afterwards; who waits looks for it only every 25 ms or so.
PAUSE = 0.5
#: Where a smaller batch leaves less than this of the rows a second, shrinking only makes each row dearer.
WORTH = 0.7
FIRST, SMALLEST, LARGEST = 100, 10, 10_000


class Batches:
    """The size of the next batch, from how long the ones before it held the lock."""

    def __init__(self, *, at_once: bool) -> None:
        self.at_once = at_once  #: no pause, and no limit: nobody else is there
        self.size = FIRST
        self.number = 0
        self.longest = 0.0  #: seconds
        self._held = 0.0
        self._least = SMALLEST
        self._shrunk: tuple[int, float] | None = (
            None  #: size and rows a second, before the last batch was made smaller
        )

    @contextmanager
    def timed(self, rows: int) -> Iterator[Callable[[], None]]:
        """Time the transaction inside, from the moment when what is given is called to its commit."""
        begun = time.monotonic()

        def begin() -> None:
            nonlocal begun
            begun = time.monotonic()

        yield begin
        self._held = max(time.monotonic() - begun, 1e-6)
        self.number += 1
        self.longest = max(self.longest, self._held)
        self._adapt(rows, self._held)

    def pause(self) -> None:
        """Let others have their turn."""
        if not self.at_once:
            time.sleep(max(self._held * PAUSE, 0.001))

    def _adapt(self, rows: int, held: float) -> None:
        rate = rows / held
        shrunk, self._shrunk = self._shrunk, None
        if shrunk and rate < shrunk[1] * WORTH:
            self._least, self.size = shrunk[0], shrunk[0]
            return
        wanted = round(self.size * min(2.0, max(0.5, TARGET / held)))
        wanted = min(LARGEST, max(self._least, wanted))
        if wanted < self.size:
            self._shrunk = (self.size, rate)
        if wanted < self.size or rows >= self.size:  # a last few rows tell nothing of more
            self.size = wanted
