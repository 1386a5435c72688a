"""How much is done in one transaction: as much as keeps others waiting no longer than they notice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Seconds that a transaction aims to hold the write lock.
TARGET = 0.02
#: Part of that time for which others get their turn afterwards, and seconds that this is at least. Who waits for
#: SQLite looks for its turn only now and then: the first looks are 1, 2, 5, 10 and 15 ms apart. So whoever comes in
#: the middle of a transaction of 20 ms finds the pause behind it.
PAUSE, SHORTEST = 0.5, 0.015
#: Where a smaller batch leaves less than this of the rows a second, shrinking only makes each row dearer…
WORTH = 0.7
#: … and is not tried again for so many batches; for good would be wrong, it may have been one that was dear by itself.
PATIENCE = 20
FIRST, SMALLEST, LARGEST = 100, 10, 10_000


class Batches:
    """The size of the next batch, from how long the ones before it held the lock."""

    def __init__(self, *, at_once: bool) -> None:
        self.at_once = at_once  #: no pause, and no limit: nobody else is there
        self.size = FIRST
        self.number = 0
        self.longest = 0.0  #: seconds
        self._held = 0.0
        self._patience = 0  #: batches for which the size is not made smaller
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
            time.sleep(max(self._held * PAUSE, SHORTEST))

    def _adapt(self, rows: int, held: float) -> None:
        rate = rows / held
        shrunk, self._shrunk = self._shrunk, None
        self._patience = max(0, self._patience - 1)
        if shrunk and rate < shrunk[1] * WORTH:
            self.size, self._patience = shrunk[0], PATIENCE
            return
        wanted = round(self.size * min(2.0, max(0.5, TARGET / held)))
        wanted = min(LARGEST, max(self.size if self._patience else SMALLEST, wanted))
        if wanted < self.size:
            self._shrunk = (self.size, rate)
        if wanted < self.size or rows >= self.size:  # a last few rows tell nothing of more
            self.size = wanted
