"""Record one run: a record when it begins, and its result when it ends; delete records of old runs."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import structs

from dbctl.config.model import JournalConfig
from dbctl.errors.operations import JournalCorruptError, JournalUnavailableError
from dbctl.errors.usage import PlanChangedError
from dbctl.files import lock
from dbctl.files.lock import find_planted
from dbctl.model import ChangeResult, Effect, Plan, Struct, format_count, now
from dbctl.services.events.changes.log import append_records, note_gap
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
from dbctl.units import parse_duration

if TYPE_CHECKING:
    from dbctl.sqlite_library import Database


#: Runs between two automatic deletions, and the records that the first transaction deletes.
INTERVAL, BATCH = 64, 1000
#: The duration of a transaction, by which the number of its records is adapted, and of the pause after it, in seconds: a short
#: wait for concurrent runs.
_BATCH_SECONDS, _PAUSE_SECONDS = 0.1, 0.02
#: Pages in use up to which the file is written again without its free pages, which takes less time than a transaction.
_MAX_PAGES = 5_000


class RunRetention(Struct, frozen=True, kw_only=True):
    """The records to retain; a record that both rules retain is not deleted."""

    max_runs: int | None = None  #: the newest
    oldest: datetime | None = None  #: those that began at this time or later


class RunsPruned(ChangeResult, frozen=True, kw_only=True):
    """Result of ``runs prune``."""

    deleted: int
    retained: int

    @property
    def effect(self) -> Effect | None:
        return (
            Effect("deleted", "run", count=self.deleted, counts={"retained": self.retained})
            if self.deleted
            else None
        )


class PruneRuns:
    app, protected, target = "journal", False, ""

    def __init__(self, folder: Path, *, keep: int | None, older_than: timedelta | None) -> None:
        """Retain the newest ``keep`` runs, and those that are not ``older_than``."""
        self._store = EventStore(folder)
        self._retention = RunRetention(
            max_runs=keep, oldest=None if older_than is None else now() - older_than
        )

    def plan(self) -> Plan:
        """Return how many records the retention does not cover; writes nothing.

        Raises:
            JournalUnavailableError, JournalCorruptError: the journal cannot be read.
        """
        with self._store.reading() as db:
            bound = find_bound(db.conn, self._retention) if db else 0
            count = _count(db, bound) if db else 0
        steps = [f"delete the records of {format_count(count, 'run')}, up to {bound}"] if count else []
        rows = {"runs": count} if count else {}
        return Plan(
            title="Prune the journal",
            target=str(self._store.folder),
            steps=steps,
            rows=rows,
            destructive=bool(count),
        )

    def apply(self, confirmed: str | None = None) -> RunsPruned:
        """Delete the records, oldest first.

        Raises:
            PlanChangedError: the plan differs from the confirmed plan; nothing was deleted.
            JournalUnavailableError, JournalCorruptError: the journal cannot be written.
        """
        if confirmed is not None and self.plan().digest != confirmed:
            raise PlanChangedError(target=self._store.folder)
        with self._store.writing() as connection:
            bound = find_bound(connection, self._retention)
        deleted, first, size = 0, 0, BATCH
        while first <= bound:
            begin = time.monotonic()
            with self._store.writing() as connection:
                count, first = _delete_batch(connection, first, bound, size)
                deleted += count
                seconds = time.monotonic() - begin
            size = max(BATCH, int(size * min(_BATCH_SECONDS / seconds, 2)))
            time.sleep(_PAUSE_SECONDS)
        self._store.release_pages(max_pages=_MAX_PAGES)
        with self._store.reading() as db:
            retained = db["runs"].count if db else 0
        return RunsPruned(deleted=deleted, retained=retained)


def prune_after(connection: sqlite3.Connection, run_id: int, settings: JournalConfig) -> None:
    """Delete old records after every ``INTERVAL`` th run, by the configured retention.

    Ages refer to an earlier run, so that the clock must be wrong for many runs before records are deleted too early.
    """
    if run_id % INTERVAL:
        return
    row = connection.execute(
        "select started_at from runs where id <= ? order by id desc limit 1", (run_id - INTERVAL,)
    ).fetchone()
    if row is None:
        return
    oldest = datetime.fromisoformat(row[0]) - parse_duration(settings.keep)
    retention = RunRetention(max_runs=settings.max_runs, oldest=oldest)
    _delete_batch(connection, 0, find_bound(connection, retention, limit=BATCH), BATCH)


def find_bound(connection: sqlite3.Connection, retention: RunRetention, *, limit: int | None = None) -> int:
    """Return the id up to which the retention covers no record; 0: nothing is deleted.

    ``limit`` is the number of records whose age is read, oldest first; None: all.
    """
    bound = 0
    if retention.max_runs is not None:
        (newest,) = connection.execute("select coalesce(max(id), 0) from runs").fetchone()
        bound = max(newest - retention.max_runs, 0)
    if retention.oldest is not None:
        # Without the index, SQLite reads the records from the first to be deleted to the last.
        source = "runs indexed by runs_started"
        if limit is not None:
            source = f"(select id, started_at from runs order by id limit {limit})"
        (first,) = connection.execute(
            f"select min(id) from {source} where started_at >= ?", (retention.oldest.isoformat(),)
        ).fetchone()
        if first is None:
            (last,) = connection.execute(f"select coalesce(max(id), 0) from {source}").fetchone()
            first = last + 1
        bound = max(bound, first - 1)
    return bound


def _count(db: Database, bound: int) -> int:
    """Return the number of records up to an id, of runs that have ended."""
    sql = "select count(*) from runs indexed by runs_started where +id <= ?"
    (count,) = db.execute(sql, [bound]).fetchone()
    return int(count) - int(db["runs"].count_where(f"result = '{RUNNING}' and id <= ?", [bound]))


def _delete_batch(connection: sqlite3.Connection, first: int, bound: int, size: int) -> tuple[int, int]:
    """Delete records from an id to another, at most ``size``, oldest first; return how many, and the id that follows."""
    ended = f"select id from runs where id between ? and ? and result != '{RUNNING}' order by id limit 1"
    row = connection.execute(f"{ended} offset ?", (first, bound, size - 1)).fetchone()
    last = row[0] if row else bound
    # Ranges, because one statement for each record takes three times as long.
    is_running = f"(select id from runs where result = '{RUNNING}')"
    connection.execute(
        f"delete from outcomes where run between ? and ? and run not in {is_running}", (first, last)
    )
    cursor = connection.execute(
        f"delete from runs where id between ? and ? and result != '{RUNNING}'", (first, last)
    )
    return cursor.rowcount, last + 1


#: The folder of the files that running processes lock.
LOCKS = "running"


class RunRecorder:
    """The record of one run of this process.

    A file that the process locks shows that it is running, because the kernel ends the lock with the process, also in containers, where
    the ids of processes are not those of other containers.
    """

    def __init__(self, folder: Path, settings: JournalConfig, run: Run, apps: Sequence[str]) -> None:
        """Write nothing yet; ``run`` is what is known before the run."""
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
                self.interrupted = list_interrupted(connection, self._folder)
                for interrupted in self.interrupted:
                    _update(connection, interrupted)
                    values = (FAILED_JOB, interrupted.id)
                    connection.execute("update outcomes set failed = ? where run = ?", values)
                    with suppress(OSError):
                        lock_path(self._folder, interrupted.id).unlink()
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
        self, run: Run, outcomes: Sequence[RunOutcome] = (), changes: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """Record the result of the run, also if ``begin`` failed, and with it the ``changes`` that wait for it.

        ``run`` is its complete record, whose result each of its apps gets; ``outcomes`` are those of the instances of a fleet.

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
        (run.command, run.result, is_failure(run.result), run.started_at.isoformat(), _encode_run(run)),
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
