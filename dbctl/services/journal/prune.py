"""Delete the records of old runs: automatically after some runs, or on request."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta
from pathlib import Path

from dbctl.config import JournalConfig
from dbctl.errors import PlanChangedError
from dbctl.model import ChangeResult, Closing, Plan, Struct, format_count, now, parse_duration
from dbctl.services.journal.records import RUNNING
from dbctl.services.journal.store import open_for_reading, open_for_writing

#: Runs between two automatic deletions, and the records that each transaction deletes: a short wait for concurrent runs.
INTERVAL, BATCH = 64, 1000


class RunRetention(Struct, frozen=True, kw_only=True):
    """The records to retain; a record that both rules retain is not deleted."""

    max_runs: int | None = None  #: the newest
    oldest: datetime | None = None  #: those that began at this time or later


class RunsPruned(ChangeResult, frozen=True, kw_only=True):
    """Result of ``runs prune``."""

    deleted: int
    retained: int

    @property
    def closing(self) -> Closing:
        retained = f"{self.retained:,} retained"
        return Closing(f"Deleted the records of {format_count(self.deleted, 'run')}", [retained])


class PruneRuns:
    """A planned ``runs prune``."""

    app, protected = "journal", False

    def __init__(self, folder: Path, *, keep: int | None, older_than: timedelta | None) -> None:
        """Retain the newest ``keep`` runs, and those that are not ``older_than``."""
        self._folder = folder
        self._retention = RunRetention(
            max_runs=keep, oldest=None if older_than is None else now() - older_than
        )

    def plan(self) -> Plan:
        """Return how many records the retention does not cover; writes nothing.

        Raises:
            JournalUnavailableError, JournalCorruptError: the journal cannot be read.
        """
        with open_for_reading(self._folder) as connection:
            bound = find_bound(connection, self._retention) if connection else 0
            count = _count(connection, bound) if connection else 0
        steps = [f"delete the records of {format_count(count, 'run')}, up to {bound}"] if count else []
        rows = {"runs": count} if count else {}
        return Plan(
            title="Prune the journal",
            target=str(self._folder),
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
            raise PlanChangedError(target=self._folder)
        with open_for_writing(self._folder) as connection:
            bound = find_bound(connection, self._retention)
        deleted, batch = 0, BATCH
        while batch == BATCH:
            with open_for_writing(self._folder) as connection:
                batch = _delete_batch(connection, bound)
                (retained,) = connection.execute("select count(*) from runs").fetchone()
            deleted += batch
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
    _delete_batch(connection, find_bound(connection, retention, limit=BATCH))


def find_bound(connection: sqlite3.Connection, retention: RunRetention, *, limit: int = -1) -> int:
    """Return the id up to which the retention covers no record; 0: nothing is deleted.

    ``limit`` is the number of records whose age is read, oldest first; -1: all.
    """
    bound = 0
    if retention.max_runs is not None:
        (newest,) = connection.execute("select coalesce(max(id), 0) from runs").fetchone()
        bound = max(newest - retention.max_runs, 0)
    if retention.oldest is not None:
        oldest = retention.oldest.isoformat()
        sql = "select id, started_at from runs order by id limit ?"
        for run_id, started_at in connection.execute(sql, (limit,)):
            if started_at >= oldest:
                break
            bound = max(bound, run_id)
    return bound


def _count(connection: sqlite3.Connection, bound: int) -> int:
    sql = "select count(*) from runs where id <= ? and result != ?"
    (count,) = connection.execute(sql, (bound, RUNNING)).fetchone()
    return int(count)


def _delete_batch(connection: sqlite3.Connection, bound: int) -> int:
    """Delete the oldest records up to an id, at most ``BATCH``; return how many."""
    sql = "select id from runs where id <= ? and result != ? order by id limit ?"
    ids = connection.execute(sql, (bound, RUNNING, BATCH)).fetchall()
    connection.executemany("delete from outcomes where run = ?", ids)
    connection.executemany("delete from runs where id = ?", ids)
    return len(ids)
