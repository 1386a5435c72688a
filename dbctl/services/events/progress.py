"""Progress of a command on a fleet: the instances that its last run completed, from which an unfinished run continues."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

from dbctl.errors.base import DbctlError
from dbctl.errors.operations import JournalUnavailableError, RunMissingError
from dbctl.files import lock
from dbctl.model import now
from dbctl.services.events.store import EventStore, storable_text

#: Seconds between two transactions, each of which waits for the disk: after a crash, the instances of this time are processed again.
SYNC_SECONDS = 1.0
#: Runs that began earlier are deleted when another one begins.
MAX_AGE = timedelta(days=400)
_KEY = "fleet = ? and command = ? and arguments = ?"


class FleetProgress:
    """The instances that a run completed, for each fleet, command and set of arguments; the next run replaces them."""

    def __init__(self, folder: Path, fleet: str, command: str, arguments: Sequence[str]) -> None:
        """Write nothing yet; of the arguments, only a hash is stored."""
        digest = sha256(json.dumps([fleet, command, *arguments]).encode()).hexdigest()[:12]
        self._store, self._key = EventStore(folder), (storable_text(fleet), command, digest)
        self._lock = folder / f"fleet-{digest}.lock"
        self._pending, self._written = list[str](), 0.0
        self.failure = ""  #: why the run is not recorded

    @contextmanager
    def open(self, *, resume: bool, timeout: float) -> Iterator[frozenset[str]]:
        """Lock the record, and yield the instances that an earlier run completed, as ``storable_text``; without ``resume`` none.

        A record that cannot be written does not prevent the run: ``failure`` is the reason.

        Raises:
            BusyError: the same command is running on the fleet.
            RunMissingError: there is no run to resume.
            JournalUnavailableError, JournalCorruptError: it cannot be read to resume a run.
        """
        done = self._read() if resume else frozenset[str]()
        with ExitStack() as stack:
            try:
                self._lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                fleet, command, _ = self._key
                stack.enter_context(
                    lock.exclusive(self._lock, fleet, command, timeout=timeout, to_error=self._to_error)
                )
            except (OSError, JournalUnavailableError) as error:
                self.failure = str(error)
                yield done
                return
            done = self._read() if resume else done  # another process may have continued it
            try:
                self._write([""], replace=not resume)
                yield done
            finally:
                self.flush()

    def add(self, instance: str) -> None:
        """Record an instance that was completed."""
        self._pending.append(instance)
        if time.monotonic() - self._written > SYNC_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet; nothing after a failure."""
        if self._pending and not self.failure:
            self._write(self._pending)
        self._pending.clear()

    def _write(self, instances: Sequence[str], *, replace: bool = False) -> None:
        at = now()
        try:
            with self._store.writing(sync=True) as connection:
                if replace:
                    connection.execute(f"delete from progress where {_KEY}", self._key)
                    connection.execute("delete from progress where at < ?", ((at - MAX_AGE).isoformat(),))
                connection.executemany(
                    "insert or replace into progress (fleet, command, arguments, instance, at) values (?, ?, ?, ?, ?)",
                    [(*self._key, storable_text(instance), at.isoformat()) for instance in instances],
                )
        except DbctlError as error:
            self.failure = str(error)
        self._written = time.monotonic()

    def _read(self) -> frozenset[str]:
        with self._store.reading() as db:
            rows = list(db["progress"].rows_where(_KEY, self._key, select="instance")) if db else []
        if not rows:
            fleet, command, _ = self._key
            raise RunMissingError(command=command, app=fleet)
        return frozenset(row["instance"] for row in rows) - {""}

    def _to_error(self, reason: str) -> DbctlError:
        return JournalUnavailableError(path=self._lock, reason=reason)
