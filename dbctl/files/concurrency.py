"""Two things done at once, where each spends its time outside the interpreter: reading, hashing, checking."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from dbctl import signals

A = TypeVar("A")
B = TypeVar("B")


def both(other: Callable[[], A], here: Callable[[], B]) -> tuple[A, B]:
    """Run ``other`` in a thread of its own beside ``here``, and return what both return.

    What either raises is raised once both have ended, what ``here`` raises first. A signal ends both only where they
    look for one (``interrupt.check``).
    """
    with signals.held(), ThreadPoolExecutor(1) as pool:
        begun = pool.submit(other)
        mine = here()
        return begun.result(), mine
