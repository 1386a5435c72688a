"""Run two functions in parallel threads; useful for I/O and hashing, which release the interpreter lock."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from dbctl import signals

A = TypeVar("A")
B = TypeVar("B")


def run_in_parallel(background: Callable[[], A], foreground: Callable[[], B]) -> tuple[A, B]:
    """Run ``background`` in a thread and ``foreground`` in this one; return both results.

    Exceptions are raised after both have ended, that of ``foreground`` first. A signal interrupts them only if they call
    ``signals.raise_if_interrupted``.
    """
    with signals.defer_signals(), ThreadPoolExecutor(1) as pool:
        future = pool.submit(background)
        result = foreground()
        return future.result(), result
