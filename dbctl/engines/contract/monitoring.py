"""What some engines tell besides, above all those on servers: who is at work, what is slow, what is in the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from dbctl.model import Severity, Value


class Concern(Value, frozen=True, kw_only=True):
    """Something about a database or its server that an admin should know, in the engine's words."""

    severity: Severity
    code: str
    message: str
    hint: str = ""  #: what helps: statements of the engine, or a sentence
    column: str = ""  #: the one that it is about, as ``table.column``; empty: it is about more than one


class Session(Value, frozen=True, kw_only=True):
    """A connection to a database."""

    pid: int
    user: str
    application: str
    client: str | None  #: an address; None: on the server's own machine, without one
    state: str
    query: str  #: what runs, or ran last: shortened, and without the values that stand in it
    query_seconds: float | None  #: since it began; None where nothing runs
    transaction_seconds: float | None
    wait: str | None  #: what it waits for
    statement: str  #: what tells the last statement of this session from every other one of it
    may_end: bool  #: whether this role may end what it does


class Wait(Value, frozen=True, kw_only=True):
    """A session that waits for a lock, and one of those that keep it from getting it."""

    blocked: Session
    blocking: Session
    lock: str  #: what is waited for
    seconds: float | None  #: for how long


class Traffic(Value, frozen=True, kw_only=True):
    """What a server counts about one database since ``since``."""

    version: str
    connections: int
    max_connections: int
    commits: int
    rollbacks: int
    deadlocks: int | None  #: None where the server does not count them
    temp_bytes: int | None
    cache_hit_ratio: float | None  #: of reads of tables and indexes, from 0 to 1; None before the first
    since: datetime | None  #: None: since its files were made


#: Locks of one session that are named; of more, their number.
LOCKS_NAMED = 10


def named_locks(rows: Iterable[Sequence[object]]) -> dict[int, list[str]]:
    """Return the locks of each session, by its pid, of rows of pid and description; each once, and not too many."""
    found = dict[int, list[str]]()
    for pid, lock in rows:
        locks = found.setdefault(int(str(pid)), [])
        if str(lock) not in locks:
            locks.append(str(lock))
    return {
        pid: locks
        if len(locks) <= LOCKS_NAMED
        else [*locks[:LOCKS_NAMED], f"and {len(locks) - LOCKS_NAMED} more"]
        for pid, locks in found.items()
    }


@runtime_checkable
class Sessions(Protocol):
    """Capability.SESSIONS."""

    def sessions(self) -> Sequence[Session]:
        """Return who is connected to this database, without this connection itself."""
        ...

    def waits(self) -> Sequence[Wait]:
        """Return who waits for whom; one for each pair."""
        ...

    def traffic(self) -> Traffic:
        """Return what the server counts about this database."""
        ...

    def hidden(self) -> str:
        """Return what this role is not shown, with the statement that lets it; empty: it is shown all."""
        ...

    def cancel(self, pid: int, *, terminate: bool) -> bool:
        """Ask a session to end what it does, or to end itself; return whether it was there.

        Raises:
            PrivilegeMissingError: it is another user's, and this one may not.
        """
        ...


class Index(Value, frozen=True, kw_only=True):
    """One index of the live schema, and what it costs and gives."""

    table: str
    name: str
    columns: Sequence[str]  #: its terms with what they sort by, in order
    unique: bool
    primary: bool
    constraint: bool  #: it belongs to a constraint of the table, and goes with it
    needed: bool  #: a foreign key refers to it
    valid: bool
    method: str
    where: str  #: the rows that are in it; empty: all
    bytes: int | None
    scans: int | None  #: how often it was read; None where the engine does not count
    drop: str  #: the statement that takes it away


@runtime_checkable
class Indexes(Protocol):
    """Capability.INDEXES."""

    def indexes(self) -> Sequence[Index]:
        """Return every index, by table and name."""
        ...

    def counted_since(self) -> datetime | None:
        """Return since when ``scans`` are counted; None where that is unknown, or nothing is counted."""
        ...


class Waste(Value, frozen=True, kw_only=True):
    """Room that a table takes and does not use."""

    table: str  #: empty: what belongs to no table
    bytes: int | None  #: that it takes
    wasted_bytes: int | None  #: None where nothing tells
    dead_rows: int | None  #: rows that nobody can see any more
    rows: int | None  #: the others, about
    estimated: bool
    source: str  #: what the figures come from
    vacuumed_at: datetime | None = None


@runtime_checkable
class Wastes(Protocol):
    """Capability.BLOAT."""

    def wasted(self) -> Sequence[Waste]:
        """Return how much room is taken and not used, by table."""
        ...


class Slow(Value, frozen=True, kw_only=True):
    """A statement, whatever the values in it, and how long it takes."""

    query: str
    calls: int
    total_seconds: float
    mean_seconds: float
    max_seconds: float
    rows: int
    cache_hit_ratio: float | None


@runtime_checkable
class Timed(Protocol):
    """Capability.SLOW."""

    def slow(self) -> Sequence[Slow]:
        """Return the statements of this database that the server remembers, those that took longest in all first.

        Raises:
            NotSupportedError: the server does not remember; what switches it on stands in it.
        """
        ...


Upkeep: TypeAlias = Literal[
    "vacuum", "analyze", "optimize", "reindex", "checkpoint", "wal", "rollback-journal"
]


class Task(Value, frozen=True, kw_only=True):
    """One statement that looks after a database and changes none of its rows."""

    table: str  #: empty: the whole database
    statement: str
    older_than: timedelta | None = None  #: versions of that age go; None where it takes none away


@runtime_checkable
class Maintains(Protocol):
    """Capability.MAINTAIN."""

    def tasks(self, kind: Upkeep, tables: Sequence[str]) -> Sequence[Task]:
        """Return what is to be done; of some tables, or of all where none is named.

        Raises:
            NotSupportedError: the engine knows no such thing, or not for single tables.
            SchemaLacksError: there is no such table.
            UpkeepUnsafeError, RoomMissingError, PrivilegeMissingError: it would do harm here, or fail.
        """
        ...

    def maintain(self, task: Task) -> None:
        """Do it, outside any transaction; it waits for locks as everything does. Only a writer can.

        Raises:
            BusyError: somebody held a lock for too long.
        """
        ...

    def leftovers(self) -> Sequence[Concern]:
        """Return what maintenance that was cut off has left behind."""
        ...


@runtime_checkable
class Prunes(Protocol):
    """Capability.VERSIONS: ``vacuum`` takes old versions away, and what only they hold."""

    def prune_tasks(self, tables: Sequence[str], older_than: timedelta) -> Sequence[Task]:
        """Return what is to be done, as ``Maintains.tasks`` does, for versions of another age than the engine's own.

        Raises:
            UpkeepUnsafeError: so young a version may be read by somebody.
        """
        ...


class Tuning(Value, frozen=True, kw_only=True):
    """A setting of the server beside what it should be."""

    name: str
    wanted: str
    actual: str | None  #: None: the server knows no such setting
    fits: bool
    waiting: bool  #: it was set already, and waits for a restart
    restart: bool  #: it takes a restart; else a reload
    change: str  #: the statement that sets it


@runtime_checkable
class Advises(Protocol):
    """Capability.ADVISE."""

    def concerns(self, *, writing: bool) -> Sequence[Concern]:
        """Return what an admin should know of the server, and of what this role may do.

        Args:
            writing: whether dbctl is to write here, and so needs the right to.
        """
        ...

    def abandoned(self) -> Sequence[Concern]:
        """Return which databases and roles a dbctl left that was killed while it loaded them; nobody works with them."""
        ...

    def flaws(self, table: str = "") -> Sequence[Concern]:
        """Return what is wrong with the rules of a table, or of all, beyond what ``Checks`` finds."""
        ...

    def tuned(self, wanted: Mapping[str, str]) -> Sequence[Tuning]:
        """Compare settings of the server with what they should be: numbers and sizes at least so large."""
        ...


def left_behind(name: str, statement: str, *, what: str = "database") -> Concern:
    """Return what is to be told of what ``Advises.abandoned`` names, with the statement that removes it."""
    message = f"{what} {name} was left by a dbctl that was killed while it restored, or tried a backup"
    hint = f"The next restore or drill removes it, or: {statement}"
    return Concern(severity="warning", code="left-behind", message=message, hint=hint)


class Look(Value, frozen=True, kw_only=True):
    """One question to a server; for each row of its answer there is something to tell, in which its columns stand."""

    severity: Severity
    code: str
    sql: str
    message: str
    hint: str = ""


def answered(look: Look, rows: Sequence[tuple[object, ...]]) -> Iterator[Concern]:
    """Yield what there is to tell of each row of the answer."""
    for row in rows:
        yield Concern(
            severity=look.severity,
            code=look.code,
            message=look.message.format(*row),
            hint=look.hint.format(*row),
        )
