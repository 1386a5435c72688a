"""Detect dead connections without limiting the duration of statements.

A statement may run for hours without a byte on its connection, so that no wait can have a timeout. After some seconds
without a byte, a second connection queries whether the server is working for the first one. The wait ends after two failures
in a row, or after one that was itself a long silence.
"""

from __future__ import annotations

import math
import select
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from dbctl import signals

#: Seconds without a byte after which the server is queried, each time; a lower ``--timeout`` shortens them.
SILENCE_SECONDS = 10.0
#: Minimum seconds of a silent period.
SHORTEST_SECONDS = 1.0
#: Failures in a row after which a connection is dead; the first may occur while a response is on its way.
FAILURES = 2
#: Seconds between two checks for a signal.
POLL_SECONDS = 0.1

#: The reason of a probe whose own connection did not begin.
UNREACHABLE = "the server does not respond, and accepts no new connection"
#: The reason of a probe whose server runs nothing for the connection.
IDLE = "the connection does not respond, and the server runs nothing for it"
#: Returns why a connection is dead; empty: its server is working for it.
Probe = Callable[[], str]


#: Seconds after a server was found dead during which a single failure is sufficient.
DISTRUST_SECONDS = 60.0
_dead_since: dict[str, float] = {}  #: monotonic time at which each server was found dead


class Liveness:
    """Detector of a dead connection; called after each silent period."""

    def __init__(
        self, probe: Probe, server: str, *, silence: float = math.inf, descriptor: int | None = None
    ) -> None:
        """Detect whether a connection is dead.

        Args:
            probe: returns why it is dead.
            server: a name that all connections to the server share.
            silence: seconds of a silent period; a probe that takes as long is a second period.
            descriptor: the socket of the connection; None: unknown.
        """
        self._probe, self._server, self._failures = probe, server, 0
        self._silence, self._descriptor = silence, descriptor

    def note_progress(self) -> None:
        """Reset the failures: data was received."""
        self._failures = 0

    def find_fault(self) -> str:
        """Return why the connection is dead; empty: a response may still arrive."""
        begin = time.monotonic()
        reason = self._probe()
        now = time.monotonic()
        self._failures = self._failures + 1 if reason else 0
        if reason and now - begin >= self._silence and not self._has_data():
            self._failures = FAILURES  # the connection was silent for a second period
        # Otherwise the cleanup on other connections would wait as long as the first connection.
        failure_limit = (
            1 if now - _dead_since.get(self._server, -DISTRUST_SECONDS) < DISTRUST_SECONDS else FAILURES
        )
        if self._failures < failure_limit:
            return ""
        _dead_since[self._server] = now
        return reason

    def _has_data(self) -> bool:
        if self._descriptor is None:
            return True
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(0))


def silence_seconds(timeout: float) -> float:
    """Return the seconds of a silent period of a connection whose server may take ``timeout`` seconds to answer."""
    return min(SILENCE_SECONDS, max(SHORTEST_SECONDS, timeout))


def resolve(host: str, port: int, seconds: float) -> Sequence[str]:
    """Return the addresses of a host; the system's resolver has no configurable timeout.

    Raises:
        TimeoutError: there was no response within ``seconds``.
        OSError: the name does not exist.
    """
    from concurrent.futures import wait

    from dbctl.files.temp import start_call

    def look_up() -> list[str]:
        try:
            results = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError as error:  # a label of the name is empty or too long
            raise OSError(0, f"{host!r} is not a valid host name: {error}") from error
        return list(dict.fromkeys(str(address[0]) for *_, address in results))

    addresses, waited = start_call(look_up), 0.0
    with signals.defer_signals():  # an interruption would leave locks of the thread library held
        while not wait([addresses], POLL_SECONDS).done:
            signals.raise_if_interrupted()
            waited += POLL_SECONDS
            if waited >= seconds:
                raise TimeoutError(f"the name {host!r} was not resolved within {seconds:g} seconds")
    return addresses.result()


def accepts_connections(host: str, port: int, seconds: float) -> bool:
    """Whether a server accepts connections at an address, or at a socket if ``host`` is a path."""
    if host.startswith("/"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, suppress(OSError):
            connection.settimeout(seconds)
            connection.connect(host)
            return True
        return False
    with suppress(OSError), socket.create_connection((host, port), seconds):
        return True
    return False
