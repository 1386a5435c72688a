"""Contract: the storage of a database, its indexes, maintenance and rewriting; sessions, slow statements and replicas of servers."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal, TypeAlias

from dbctl import signals
from dbctl.engines.contract.checks import EngineFinding, Storage, TableSize
from dbctl.engines.contract.database import Readable, require_supported
from dbctl.errors.operations import ReplicaLagError, ReplicaPromotedError
from dbctl.model import Struct


class Session(Struct, frozen=True, kw_only=True):
    """A connection to a database."""

    pid: int
    user: str
    application: str
    client: str | None  #: an address; None: a local connection without one
    state: str
    query: str  #: the current or last statement, shortened, without values
    query_seconds: float | None  #: since it began; None if no statement runs
    transaction_seconds: float | None
    wait: str | None  #: what it waits for
    statement_id: str  #: identifies the last statement within this session
    can_cancel: bool  #: whether this role may cancel it


class LockWait(Struct, frozen=True, kw_only=True):
    """A session that waits for a lock, and one of the sessions that block it."""

    blocked: Session
    blocking: Session
    lock: str  #: the requested lock
    seconds: float | None  #: duration of the wait


class Traffic(Struct, frozen=True, kw_only=True):
    """Statistics of a server about one database since ``since``."""

    version: str
    connections: int
    max_connections: int
    commits: int
    rollbacks: int
    deadlocks: int | None  #: None if the server does not count them
    temp_bytes: int | None
    cache_hit_ratio: float | None  #: of reads of tables and indexes, from 0 to 1; None before the first read
    since: datetime | None  #: None: since its files were created


#: Number of locks of one session that are listed; of more, only the count.
MAX_LOCKS_LISTED = 10


def group_locks(rows: Iterable[Sequence[object]]) -> dict[int, list[str]]:
    """Return the distinct locks of each session by its pid, from rows of pid and description; long lists are shortened."""
    locks_by_pid = dict[int, list[str]]()
    for pid, lock in rows:
        locks = locks_by_pid.setdefault(int(str(pid)), [])
        if str(lock) not in locks:
            locks.append(str(lock))
    return {
        pid: locks
        if len(locks) <= MAX_LOCKS_LISTED
        else [*locks[:MAX_LOCKS_LISTED], f"and {len(locks) - MAX_LOCKS_LISTED} more"]
        for pid, locks in locks_by_pid.items()
    }


class Index(Struct, frozen=True, kw_only=True):
    """One index of the live schema, with its size and use."""

    table: str
    name: str
    columns: Sequence[str]  #: its expressions with their sort order
    unique: bool
    primary: bool
    constraint: bool  #: it belongs to a constraint of the table, and is dropped with it
    is_referenced: bool = False  #: a foreign key refers to it
    valid: bool = True
    is_ignored: bool = False  #: no query reads it, because the admin tries what would be without it
    method: str
    where: str  #: the rows that it contains; empty: all
    bytes: int | None
    scans: int | None = None  #: number of reads; None if the engine does not count them
    drop_statement: str  #: the statement that drops it


class Bloat(Struct, frozen=True, kw_only=True):
    """Unused space of a table."""

    table: str  #: empty: space that belongs to no table
    bytes: int | None  #: total size
    wasted_bytes: int | None  #: None if unknown
    dead_rows: int | None = None  #: dead tuples
    rows: int | None = None  #: live rows, approximately
    estimated: bool = False
    source: str  #: the source of the numbers
    vacuumed_at: datetime | None = None


class SlowQuery(Struct, frozen=True, kw_only=True):
    """Statistics of a normalized statement."""

    query: str
    calls: int
    total_seconds: float
    mean_seconds: float
    max_seconds: float
    rows: int
    cache_hit_ratio: float | None


MaintenanceKind: TypeAlias = Literal[
    "vacuum", "analyze", "optimize", "reindex", "checkpoint", "wal", "rollback-journal"
]


class MaintenanceTask(Struct, frozen=True, kw_only=True):
    """One maintenance statement, which changes no rows."""

    table: str  #: empty: the whole database
    statement: str
    older_than: timedelta | None = None  #: delete versions of that age; None if it deletes no versions


class StorageManager(ABC):
    """The part that measures the storage of a database, lists its indexes, and runs its maintenance."""

    has_versions: ClassVar[bool] = False  #: whether tables have old versions, which ``prune_tasks`` deletes

    @abstractmethod
    def measure_storage(self) -> Storage:
        """Return the size of the database; does not change its storage."""

    @abstractmethod
    def measure_tables(self, *, exact: bool = True, table: str = "") -> Sequence[TableSize]:
        """Return the size of each table, or of ``table``; without ``exact``, row counts may be estimates."""

    def measure_bloat(self) -> Sequence[Bloat] | None:
        """Return the used and unused space of each table; None: the engine does not report it."""
        return None

    def list_indexes(self, *, sized: bool = True) -> Sequence[Index] | None:
        """Return every index, by table and name; None: the engine does not report them.

        Without ``sized``, an engine that would have to read the whole database for their sizes omits these.
        """
        return None

    @staticmethod
    def quote_name(name: str) -> str:
        """Quote a name for statements of other clients, whose settings are not those of dbctl; an engine without indexes has none."""
        return name

    def find_schema(self, table: str) -> str:
        """Return the quoted schema of a table, which statements of other clients must name; empty: there is only one."""
        return ""

    def scans_counted_since(self) -> datetime | None:
        """Return the start of the ``scans`` statistics; None if unknown or not counted."""
        return None

    def maintenance_tasks(
        self, kind: MaintenanceKind, tables: Sequence[str]
    ) -> Sequence[MaintenanceTask] | None:
        """Return the tasks for some tables, or for all without ``tables``; None: the engine needs no maintenance.

        Raises:
            NotSupportedError: the engine has no such maintenance, or not for single tables.
            SchemaMismatchError: the table does not exist.
            MaintenanceUnsafeError, InsufficientSpaceError, PrivilegeMissingError: it would be unsafe, or fail.
        """
        return None

    def prune_tasks(self, tables: Sequence[str], older_than: timedelta) -> Sequence[MaintenanceTask] | None:
        """Return tasks as ``maintenance_tasks`` does, which delete versions of another age than the engine's default; None: it has none.

        Raises:
            MaintenanceUnsafeError: readers may still use versions of that age.
        """
        return None

    def maintain(self, task: MaintenanceTask) -> None:
        """Run a task outside any transaction; requires a writer, and waits for locks. An engine that lists tasks overrides this method.

        Raises:
            BusyError: another session held a lock for too long.
        """
        raise NotImplementedError

    def find_leftovers(self) -> Sequence[EngineFinding]:
        """Return the leftovers of interrupted maintenance."""
        return ()


class ColumnRewrite(Struct, frozen=True, kw_only=True):
    """What replaces the values of a column."""

    #: returns the new value from the old one, as rows have it, and those of ``by``; of a document, only its new texts are used
    function: Callable[..., Any]
    by: Sequence[str] = ()  #: other columns of the row


class Rebuilder(ABC):
    """The part of a writer that writes a database again, where tables retain their earlier versions."""

    @abstractmethod
    def rebuild(self, rewrites: Mapping[str, Mapping[str, ColumnRewrite | None] | None]) -> Sequence[str]:
        """Replace a database that no other process uses; after an error, it is incomplete and has to be dropped.

        Args:
            rewrites: the columns that change, of each table to write; None instead of the columns: the table has no rows.
                None instead of a rewrite: the column has no values, which are zeros where NULL is not allowed.

        Returns:
            What could not be built again: indexes without rows or values, or of unknown kinds, one sentence for each.

        Raises:
            ConstraintError, ValueInvalidError: a column cannot store a new value.
        """

    @abstractmethod
    def read_values(self) -> Iterator[bytes]:
        """Yield the values of all columns, which files contain in a compressed form: texts and numbers as lines, vectors as stored."""

    @abstractmethod
    def read_schemas(self) -> Iterator[bytes]:
        """Yield the schema of each table with its metadata, as the files contain it."""


#: Seconds between two readings of a lag.
POLL_SECONDS = 0.1


class ReplicaState(Struct, frozen=True, kw_only=True):
    """How far a replica is behind its primary."""

    #: The age of the newest applied change; 0: all received changes are applied, and the primary is connected. None: unknown.
    lag_seconds: float | None
    lag_bytes: int | None  #: received changes that are not applied yet; None: unknown
    is_connected: bool  #: whether the replica receives changes from its primary


class ServerMonitor(ABC):
    """The part that observes the server of a database: sessions, statements, replication and its cluster."""

    @abstractmethod
    def list_sessions(self) -> Sequence[Session]:
        """Return the sessions of this database, without this connection."""

    @abstractmethod
    def list_lock_waits(self) -> Sequence[LockWait]:
        """Return the pairs of waiting and blocking sessions."""

    def require_complete(self) -> None:
        """Refuse a database whose tables a restore is replacing, so that ``tables`` may lack some of them; raises BusyError."""

    def require_all_tables(self) -> None:
        """Raise PrivilegeMissingError if the server may hide tables from this role."""

    @abstractmethod
    def read_traffic(self) -> Traffic:
        """Return the server's statistics about this database."""

    @abstractmethod
    def visibility_limits(self) -> str:
        """Return what this role may not see, with the statement that grants it; empty: it may see everything."""

    @abstractmethod
    def cancel(self, pid: int, *, terminate: bool) -> bool:
        """Cancel the statement of a session, or terminate the session; return whether the session existed.

        Raises:
            PrivilegeMissingError: it belongs to another user, and this role may not cancel it.
        """

    @abstractmethod
    def list_slow_queries(self) -> Sequence[SlowQuery]:
        """Return the recorded statements of this database, by total time in descending order.

        Raises:
            NotSupportedError: the server does not record statements; the error states how to enable that.
        """

    @abstractmethod
    def read_replica_state(self) -> ReplicaState | None:
        """Return the state of a replica; None: the server is no replica, or was promoted."""

    def read_identity(self) -> str:
        """Return a text that is the same for a database and its replicas; empty if it is unknown."""
        return ""

    def find_read_limits(self) -> Sequence[EngineFinding]:
        """Return settings of a replica because of which it cancels long reads, such as backups."""
        return ()

    def blocks_all_servers(self, sql: str) -> bool:
        """Whether no server of the cluster can write while a statement runs; False without a cluster."""
        return False


def require_replica(db: Readable, *, max_lag: timedelta, timeout: float) -> None:
    """Check that ``db`` is a replica, and wait until it is at most ``max_lag`` behind.

    Raises:
        NotSupportedError: the engine has no replicas.
        ReplicaPromotedError: it is no replica.
        ReplicaLagError: it remained further behind for ``timeout`` seconds.
    """
    server = require_supported(db, db.server, "reading from a replica", "Run it without --replica.")
    deadline, limit = time.monotonic() + timeout, max_lag.total_seconds()
    while True:
        state = server.read_replica_state()
        if state is None:
            raise ReplicaPromotedError(target=db.target)
        if state.lag_seconds is not None and state.lag_seconds <= limit:
            return
        if time.monotonic() >= deadline:
            lag = "an unknown time" if state.lag_seconds is None else f"{state.lag_seconds:.0f} s"
            prefix = "" if state.is_connected else "disconnected and "
            raise ReplicaLagError(target=db.target, lag=f"{prefix}{lag}", limit=limit)
        signals.raise_if_interrupted()
        time.sleep(POLL_SECONDS)
