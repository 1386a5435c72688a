"""One dbctl at a time in storage that knows no locks: an object that only one of them can create, and that it keeps fresh.

Its holder writes it anew every ``BEAT`` seconds. One that nobody has written for ``LAPSE`` seconds is taken over. Whether
it is so old is judged by the clock of this machine against that of the server: requests that are signed by a clock which
is more than 15 minutes wrong are refused anyway, so that much is allowed for. A dbctl of the same machine that was killed
is known at once: the kernel has let go of its lock there.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dbctl import signals
from dbctl.errors import BusyError, DbctlError, StorageUnfitError
from dbctl.model import now
from dbctl.stores.s3.client import Client, Taken

#: Seconds between two signs of life, and without one until another dbctl takes over: 15 minutes of wrong clocks and five more.
BEAT, LAPSE = 60.0, 20 * 60.0
#: Seconds that a sign of life gets to come to its end before the lock is deleted.
LETTING_GO = 5.0
#: Seconds between two tries for a lock, since each is a request.
RETRY = 0.5


class Lease:
    """The lock object of one store, while it is held."""

    def __init__(self, client: Client, key: str, place: str, machine: str, purpose: str) -> None:
        """Take nothing yet; ``machine`` is what this one is known by, which holds the lock of its own by now."""
        self._client, self._key, self._place, self._machine = client, key, place, machine
        self._told = {
            "pid": os.getpid(),
            "host": os.uname().nodename,
            "command": purpose,
            "since": now().isoformat(),
            "machine": machine,
            "token": secrets.token_hex(16),
        }
        self._tag, self._beats = "", 0
        self._writing, self._ended = threading.Lock(), threading.Event()
        self._lost = False

    @contextmanager
    def held(self, *, timeout: float) -> Iterator[None]:
        """Hold it.

        Raises:
            BusyError: another dbctl held it for all of ``timeout`` seconds.
            StorageUnfitError: the server creates an object twice, so that nothing can be locked.
        """
        until = time.monotonic() + timeout
        try:
            while not self._taken():
                if time.monotonic() >= until:
                    raise BusyError(target=self._place, holder=self._holder(), waited=f"{timeout:g}")
                signals.check()
                time.sleep(RETRY)
            if not self._client.is_created_once(self._key, self._text()):
                raise StorageUnfitError(
                    place=self._place,
                    reason="it writes over an object that was to be created only where none is (If-None-Match)",
                )
            threading.Thread(target=self._beat, daemon=True).start()
            yield
        finally:
            self._ended.set()
            with signals.unheard(), suppress(DbctlError, FileNotFoundError):
                self._end()

    def renew(self) -> None:
        """Show a sign of life.

        Raises:
            BusyError: another dbctl has taken over.
            StorageFailedError: the server cannot be reached.
        """
        with self._writing:
            if not (self._lost or self._ended.is_set()):
                try:
                    self._tag = self._client.exchange(self._key, self._text(), self._tag)
                except Taken:
                    self._lost = True
        if self._lost:
            raise BusyError(target=self._place, holder=self._holder(), waited="0")

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            with suppress(DbctlError):  # the next one may get through, and whoever writes last asks again
                self.renew()

    def _taken(self) -> bool:
        try:
            self._tag = self._client.create(self._key, self._text())
        except Taken:
            pass
        else:
            return True
        try:
            found, text = self._client.get(self._key)
            # The kernel of this machine has let go of what the holder had there: it has ended.
            ended = _read(text).get("machine") == self._machine
            if not (ended or (now() - found.at).total_seconds() > LAPSE):
                return False
            self._tag = self._client.exchange(self._key, self._text(), found.tag)
        except (Taken, FileNotFoundError):  # somebody else was quicker, or has just let go
            return False
        return True

    def _end(self) -> None:
        # A sign of life that is on its way to a silent server is not waited for: the lock could not be deleted either.
        if not self._writing.acquire(timeout=LETTING_GO):
            return
        try:
            if _read(self._client.get(self._key)[1]).get("token") == self._told["token"]:
                self._client.delete([self._key])
        finally:
            self._writing.release()

    def _text(self) -> bytes:
        self._beats += 1  # so that no two have one tag
        return json.dumps(self._told | {"beats": self._beats}).encode()

    def _holder(self) -> str:
        told = dict[str, object]()
        with suppress(DbctlError, FileNotFoundError):
            told = _read(self._client.get(self._key)[1])
        if not {"command", "pid", "host", "since"} <= told.keys():
            return " by another dbctl"
        return f" by dbctl {told['command']} (pid {told['pid']} on {told['host']}, since {told['since']})"


def _read(text: bytes) -> dict[str, object]:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
