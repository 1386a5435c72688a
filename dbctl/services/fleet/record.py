"""The record of the last run of a command on a fleet, from which an unfinished run continues."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from dbctl.config import state_folder
from dbctl.errors import DbctlError, FileFailedError, RunMissingError
from dbctl.files import lock
from dbctl.model import now
from dbctl.services.fleet.outcome import Outcome

#: Seconds between two writes to the disk: after a crash, the instances of this time are processed again.
SYNC_SECONDS = 1.0


class RunRecord:
    """Names of the instances that a run completed, one line of JSON each.

    There is one file for each fleet, command and set of arguments; the next run replaces it.
    """

    def __init__(self, path: Path, fleet: str, command: str) -> None:
        self.path, self._fleet, self._command = path, fleet, command
        self._descriptor: int | None = None
        self._pending, self._synced = list[str](), 0.0
        self.failure = ""  #: why the run is not recorded

    @staticmethod
    def locate(fleet: str, command: str, arguments: Sequence[str]) -> RunRecord | None:
        """Return the record of a command; None if the user has no home directory."""
        folder = state_folder()
        if folder is None:
            return None
        key = sha256(json.dumps([fleet, command, *arguments]).encode()).hexdigest()[:12]
        name = quote(f"{fleet} {command}".replace(" ", "-"), safe="")[:150]
        return RunRecord(folder / "runs" / f"{name}-{key}.jsonl", fleet, command)

    @contextmanager
    def open(self, *, resume: bool, timeout: float) -> Iterator[frozenset[str]]:
        """Lock the record, and yield the instances that an earlier run completed; without ``resume`` none.

        A record that cannot be written does not prevent the run: ``failure`` is the reason.

        Raises:
            BusyError: the same command is running on the fleet.
            RunMissingError: there is no run to resume.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            self.failure = error.strerror or str(error)
        done = self._read() if resume else frozenset[str]()
        with ExitStack() as stack:
            if not self.failure:
                self._lock(stack, timeout)
            if self.failure:
                yield done
                return
            done = self._read() if resume else done  # another process may have continued it
            try:
                self._begin(append=resume)
                yield done
            finally:
                self._close()

    def add(self, outcome: Outcome) -> None:
        """Record an instance that was completed."""
        if outcome.state == "done":
            self._pending.append(json.dumps({"app": outcome.app}) + "\n")
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self._write()

    def finish(self) -> None:
        """Record that no instance remains."""
        self._pending.append(json.dumps({"end": now().isoformat()}) + "\n")

    def _lock(self, stack: ExitStack, timeout: float) -> None:
        """Lock the record until the end of ``stack``; a directory without locks is a reason not to record the run."""
        path = self.path.with_suffix(".lock")
        try:
            stack.enter_context(
                lock.exclusive(path, self._fleet, self._command, timeout=timeout, to_error=self._to_error)
            )
        except FileFailedError as error:
            self.failure = str(error.context["reason"])

    def _begin(self, *, append: bool) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._descriptor = os.open(self.path, flags | (os.O_APPEND if append else os.O_TRUNC), 0o600)
        except OSError as error:
            self.failure = error.strerror or str(error)
            return
        header = {"fleet": self._fleet, "command": self._command, "start": now().isoformat()}
        # A line break first: a crash may have cut the last line.
        self._pending.append(("\n" if append else "") + json.dumps(header) + "\n")
        self._write()

    def _write(self) -> None:
        if self._descriptor is None:
            return
        try:
            os.write(self._descriptor, "".join(self._pending).encode())
            os.fsync(self._descriptor)
        except OSError as error:
            self.failure = error.strerror or str(error)
            self._close_file()
        self._pending.clear()
        self._synced = time.monotonic()

    def _close(self) -> None:
        self._write()
        self._close_file()

    def _close_file(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _read(self) -> frozenset[str]:
        done = set[str]()
        try:
            with self.path.open(encoding="utf-8", errors="replace") as file:
                for text in file:
                    with suppress(ValueError):  # a crash may have cut a line
                        line = json.loads(text)
                        if isinstance(line, dict) and isinstance(line.get("app"), str):
                            done.add(line["app"])
        except FileNotFoundError as error:
            raise RunMissingError(command=self._command, app=self._fleet) from error
        except OSError as error:
            raise self._to_error(error.strerror or str(error)) from error
        return frozenset(done)

    def _to_error(self, reason: str) -> DbctlError:
        return FileFailedError(path=self.path, reason=reason)
