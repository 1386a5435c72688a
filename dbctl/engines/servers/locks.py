"""Wait for the lock that dbctl processes use among each other."""

from __future__ import annotations

import time
from collections.abc import Callable

from dbctl import signals
from dbctl.engines.servers.connection import S, ServerConnection
from dbctl.errors import BusyError

#: Seconds between two tries; short, so that signals are handled.
RETRY_SECONDS = 0.05


def wait_for_lock(
    connection: ServerConnection[S], try_lock: Callable[[], bool], describe_holder: Callable[[], str]
) -> None:
    """Call ``try_lock`` until it succeeds; ``describe_holder`` returns the holder as `` by …``.

    Raises:
        BusyError: another process held the lock until the timeout of the connection.
    """
    timeout = connection.timeout
    deadline = time.monotonic() + timeout
    while not try_lock():
        signals.raise_if_interrupted()
        if time.monotonic() >= deadline:
            raise BusyError(target=connection.target, holder=describe_holder(), waited=f"{timeout:g}")
        time.sleep(RETRY_SECONDS)
