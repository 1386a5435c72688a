"""Two things done at once, where each spends its time outside the interpreter: reading, hashing, checking."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from dbctl import signals

A = TypeVar("A")
B = TypeVar("B")


def both(other: Callable[[], A], own: Callable[[], B]) -> tuple[A, B]:
    """Run ``other`` in a thread and ``own`` in this one at the same time; return the results of both.

    What either raises is raised once both have ended, what ``own`` raises first. A signal ends both only where they
    call ``signals.check``.
    """
    with signals.held(), ThreadPoolExecutor(1) as pool:
        future = pool.submit(other)
        result = own()
        return future.result(), result
