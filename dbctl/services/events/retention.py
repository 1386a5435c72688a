"""Delete the records of old runs: automatically after some runs, or on request."""

from __future__ import annotations

import sqlite3
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from dbctl.config.model import JournalConfig
from dbctl.errors.usage import PlanChangedError
from dbctl.model import ChangeResult, Effect, Plan, Struct, format_count, now
from dbctl.services.events.runs import RUNNING
from dbctl.services.events.store import EventStore
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
    """A planned ``runs prune``."""

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
