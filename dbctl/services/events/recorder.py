"""Record one run: a record when it begins, and its result when it ends."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from dbctl.config.model import JournalConfig
from dbctl.errors.operations import JournalCorruptError, JournalUnavailableError
from dbctl.files import lock
from dbctl.files.lock import find_planted
from dbctl.services.events.changes.log import append_records, note_gap
from dbctl.services.events.retention import prune_after
from dbctl.services.events.runs import (
    FAILED_JOB,
    INTERRUPTED,
    RUNNING,
    Run,
    RunOutcome,
    is_failed_job,
    is_failure,
    name_result,
)
from dbctl.services.events.store import EventStore, give_to_owner, storable_text

#: The folder of the files that running processes lock.
LOCKS = "running"


class RunRecorder:
    """The record of one run of this process.

    A file that the process locks shows that it is running, because the kernel ends the lock with the process, also in containers, where
    the ids of processes are not those of other containers.
    """

    def __init__(self, folder: Path, settings: JournalConfig, run: Run, apps: Sequence[str]) -> None:
        """Write nothing yet.

        Args:
            folder: of the journal.
            settings: how long records are retained.
            run: what is known before the run.
            apps: the apps on which the command runs.
        """
        self._folder, self._settings, self.run, self._apps = folder, settings, run, apps
        self.store = EventStore(folder)  #: open from the beginning of the run to its end
        self._descriptor: int | None = None
        self.interrupted: Sequence[Run] = ()  #: runs that ``begin`` found without a process

    def begin(self) -> None:
        """Record that the run began, and that runs without a process were interrupted; nothing on a file system without locks.

        Raises:
            JournalUnavailableError, JournalCorruptError: it was not recorded.
        """
        run = self.run
        self.store.stay_open()
        try:
            with self.store.writing() as connection:
                self.interrupted = _close_interrupted(connection, self._folder)
                run = _insert(connection, run, self._apps)
                if not self._lock(run.id):
                    # Other processes would regard the run as interrupted: ``finish`` records it.
                    connection.rollback()
                    self._unlock(run.id)
                    run = self.run
        except BaseException:
            self._unlock(run.id)
            raise
        self.run = run

    def finish(
        self,
        run: Run,
        outcomes: Sequence[RunOutcome] = (),
        changes: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Record the result of the run, also if ``begin`` failed, and with it the records of changes that wait for it.

        Args:
            run: the complete record.
            outcomes: of the instances of a fleet; default: the result of the run for each of its apps.
            changes: records of changes that follow those of the run.

        Raises:
            JournalUnavailableError, JournalCorruptError: it was not recorded.
        """
        error_code = run.error.code if run.error else ""
        exit_code = run.exit_code or 0
        outcomes = [
            *(RunOutcome(app=app, exit_code=exit_code, error_code=error_code) for app in self._apps),
            *outcomes,
        ]
        try:
            with self.store.writing() as connection:
                if changes:
                    anchor, _ = append_records(connection, self._folder, changes)
                    run = structs.replace(run, audit=str(anchor))
                if not run.id or not _update(connection, run):  # the journal may be new
                    run = _insert(connection, structs.replace(run, id=0), ())
                connection.executemany(
                    "insert or replace into outcomes values (?, ?, ?, ?, ?, ?, ?)",
                    [
                        (
                            storable_text(run.config),
                            storable_text(outcome.app),
                            run.command,
                            run.id,
                            outcome.exit_code,
                            outcome.error_code,
                            FAILED_JOB
                            if is_failed_job(run, outcome)
                            else is_failure(name_result(outcome.exit_code)),
                        )
                        for outcome in outcomes
                    ],
                )
                prune_after(connection, run.id, self._settings)
        except (JournalUnavailableError, JournalCorruptError) as error:
            if not changes:
                raise
            note_gap(self._folder)
            numbers = ", ".join(str(record["operation"]) for record in changes)
            reason = f"{error.context['reason']}; the audit log lacks the result of operation {numbers}"
            raise type(error)(path=error.context["path"], reason=reason) from error
        finally:
            self.store.release()
            self._unlock(self.run.id)
        self.run = run

    def _lock(self, run_id: int) -> bool:
        """Lock the file of the run; False: the file system has no locks."""
        path = lock_path(self._folder, run_id)
        with suppress(FileExistsError):
            path.parent.mkdir(mode=0o700)
            descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            give_to_owner(descriptor, self._folder)
            os.close(descriptor)
        if reason := find_planted(path.parent):
            raise JournalUnavailableError(path=path.parent, reason=reason)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)
        give_to_owner(self._descriptor, self._folder)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _unlock(self, run_id: int) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                lock_path(self._folder, run_id).unlink()
            os.close(self._descriptor)
            self._descriptor = None


def lock_path(folder: Path, run_id: int) -> Path:
    """Return the file that the process of a run locks."""
    return folder / LOCKS / f"{run_id}.lock"


def is_running(folder: Path, run_id: int) -> bool:
    """Whether the process of a run exists."""
    return lock.is_held(lock_path(folder, run_id))


def decode_run(run_id: int, record: bytes) -> Run:
    """Return a stored run."""
    return structs.replace(msgspec.json.decode(record, type=Run), id=run_id)


def _encode_run(run: Run) -> bytes:
    try:
        return msgspec.json.encode(run)
    except UnicodeEncodeError:  # of a file name that is not UTF-8
        return msgspec.json.encode(_escape_all(msgspec.to_builtins(run)))


def _escape_all(value: Any) -> Any:
    """Return a value of JSON whose texts can be stored."""
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, dict):
        return {storable_text(name): _escape_all(item) for name, item in value.items()}
    return [_escape_all(item) for item in value] if isinstance(value, list) else value


def list_interrupted(connection: sqlite3.Connection, folder: Path) -> Sequence[Run]:
    """Return the runs without a result whose process does not exist any more."""
    # A parameter instead of the literal would prevent the use of the index.
    rows = connection.execute(f"select id, record from runs where result = '{RUNNING}'").fetchall()
    return [
        structs.replace(decode_run(run_id, record), result=INTERRUPTED)
        for run_id, record in rows
        if not is_running(folder, run_id)
    ]


def _insert(connection: sqlite3.Connection, run: Run, apps: Sequence[str]) -> Run:
    cursor = connection.execute(
        "insert into runs (command, result, failed, started_at, record) values (?, ?, ?, ?, ?)",
        (
            run.command,
            run.result,
            is_failure(run.result),
            run.started_at.isoformat(),
            _encode_run(run),
        ),
    )
    run = structs.replace(run, id=cursor.lastrowid or 0)
    connection.executemany(
        "insert into outcomes values (?, ?, ?, ?, null, '', 0)",
        [(storable_text(run.config), storable_text(app), run.command, run.id) for app in apps],
    )
    return run


def _update(connection: sqlite3.Connection, run: Run) -> bool:
    cursor = connection.execute(
        "update runs set result = ?, failed = ?, record = ? where id = ? and started_at = ?",
        (run.result, is_failure(run.result), _encode_run(run), run.id, run.started_at.isoformat()),
    )
    return cursor.rowcount > 0


def _close_interrupted(connection: sqlite3.Connection, folder: Path) -> Sequence[Run]:
    runs = list_interrupted(connection, folder)
    for run in runs:
        _update(connection, run)
        connection.execute("update outcomes set failed = ? where run = ?", (FAILED_JOB, run.id))
        with suppress(OSError):
            lock_path(folder, run.id).unlink()
    return runs
