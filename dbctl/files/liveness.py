"""Whether a connection on which nothing arrives is still of use: a limit on silence that cuts no long statement.

A statement may run for hours, and its connection is silent for that time. So no wait is limited as such. After
``SILENCE_SECONDS`` without a byte, a second connection asks the server whether it is at work for the first one; two
failures in a row end the wait.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from dbctl import signals

#: Seconds without a byte after which a server is asked what it does, each time.
SILENCE_SECONDS = 10.0
#: Failures in a row after which a connection counts as dead: an answer may be on its way while the first is found.
FAILURES = 2
#: Seconds between two looks for a signal.
LOOK_SECONDS = 0.1

#: Returns why nothing can be expected from a connection any more; empty: its server is at work for it.
Probe = Callable[[], str]


#: Seconds for which a server that was found dead is not given the benefit of the doubt.
DISTRUST_SECONDS = 60.0
_died: dict[str, float] = {}  #: when each server was found dead, by its place


class Liveness:
    """The state of one connection, as asked each time it was silent for ``SILENCE_SECONDS``."""

    def __init__(self, probe: Probe, place: str) -> None:
        """Take what asks the server at ``place``, a name for it that its other connections share."""
        self._probe, self._place, self._failures = probe, place, 0

    def note_progress(self) -> None:
        """Count from the start again: something arrived."""
        self._failures = 0

    def find_fault(self) -> str:
        """Return why the connection is dead; empty: an answer may still come."""
        reason = self._probe()
        self._failures = self._failures + 1 if reason else 0
        now = time.monotonic()
        # What is cleaned up on other connections would wait as long as the first one did.
        enough = 1 if now - _died.get(self._place, -DISTRUST_SECONDS) < DISTRUST_SECONDS else FAILURES
        if self._failures < enough:
            return ""
        _died[self._place] = now
        return reason


def resolve(host: str, port: int, seconds: float) -> Sequence[str]:
    """Return the addresses of a host; the system's resolver has no limit of its own that could be set here.

    Raises:
        TimeoutError: there was no answer within ``seconds``.
        OSError: there is no such name.
    """
    addresses: list[str] = []
    failures: list[OSError] = []
    done = threading.Event()

    def look_up() -> None:
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses.extend(dict.fromkeys(str(address[0]) for *_, address in answers))
        except OSError as error:
            failures.append(error)
        except UnicodeError as error:  # a label of the name is empty, or too long
            failures.append(OSError(0, f"{host!r} is no name of a host: {error}"))
        finally:
            done.set()

    # The thread cannot be ended; as a daemon it keeps nothing from ending.
    with signals.held():  # threads have locks
        threading.Thread(target=look_up, daemon=True).start()
        waited = 0.0
        while not done.wait(LOOK_SECONDS):
            signals.check()
            waited += LOOK_SECONDS
            if waited >= seconds:
                raise TimeoutError(f"the name {host!r} was not resolved within {seconds:g} seconds")
    for failure in failures:
        raise failure
    return addresses


def accepts(host: str, port: int, seconds: float) -> bool:
    """Whether anybody accepts connections at an address, or at a socket where ``host`` is a path."""
    if host.startswith("/"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as tried, suppress(OSError):
            tried.settimeout(seconds)
            tried.connect(host)
            return True
        return False
    with suppress(OSError), socket.create_connection((host, port), seconds):
        return True
    return False
