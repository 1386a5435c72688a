"""Blocks that one thread writes while another one reads them, with few of them in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Event
from typing import Generic, TypeVar

from dbctl import signals
from dbctl.files.temp import start_call

T = TypeVar("T")

#: Blocks that wait to be read; further writes wait.
MAX_PENDING = 4
#: Seconds between two checks for a signal, and for the end of the other side.
POLL_SECONDS = 0.05


class PipeAbortedError(Exception):
    """The writer failed, so the blocks are incomplete."""


class Pipe(Generic[T]):
    """A pipe from the caller to a function that reads blocks in another thread."""

    def __init__(self, read: Callable[[Iterator[bytes]], T]) -> None:
        """Start the function; an exception that the blocks raise has to end it."""
        self._queue = Queue[bytes | None](MAX_PENDING)
        self._is_aborted = Event()
        self._reading = start_call(lambda: read(self._blocks()))

    def _blocks(self) -> Iterator[bytes]:
        while not self._is_aborted.is_set():
            with suppress(Empty):
                if (block := self._queue.get(timeout=POLL_SECONDS)) is None:
                    return
                yield block
        raise PipeAbortedError

    def write(self, block: bytes) -> int:
        """Pass on a block, and return its size; raises the exception of the function, and ``Interrupted`` on a signal."""
        self._put(block)
        return len(block)

    def end(self) -> None:
        """Pass on that there are no further blocks; raises as ``write``."""
        self._put(None)

    def _put(self, block: bytes | None) -> None:
        while True:
            signals.raise_if_interrupted()
            if self._reading.done():
                self._reading.result()
                raise RuntimeError("the reader has ended before the writer")
            # An interruption would leave locks of the queue held.
            with signals.defer_signals(), suppress(Full):
                self._queue.put(block, timeout=POLL_SECONDS)
                return

    def result(self) -> T:
        """Return the result of the function after ``end``; raises as ``write``."""
        while not wait([self._reading], POLL_SECONDS).done:
            signals.raise_if_interrupted()
        return self._reading.result()

    def abort(self) -> None:
        """End the function without a result, and wait for its end: afterwards it writes nothing."""
        self._is_aborted.set()
        with signals.defer_signals():
            wait([self._reading])
