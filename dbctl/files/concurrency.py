"""Run functions in other threads; useful for I/O and hashing, which release the interpreter lock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
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


def start_call(call: Callable[[], A]) -> Future[A]:
    """Call a function in a daemon thread: it cannot be cancelled, and does not delay the end of the process."""
    future = Future[A]()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - the future raises it again
            future.set_exception(error)

    with signals.defer_signals():  # an interruption would leave locks of the thread library held
        threading.Thread(target=run, daemon=True).start()
    return future
