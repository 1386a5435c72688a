"""Contract: findings, checks, plans of queries, sizes, schema description, and the processes and files of a database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Literal

from dbctl.engines.contract.database import Query, Readable, Where
from dbctl.errors.base import Remedy
from dbctl.errors.connection import CorruptError
from dbctl.errors.usage import NotSupportedError
from dbctl.model import Finding, Severity, Struct


class OrphanedRows(Struct, frozen=True, kw_only=True):
    """Rows of one table whose foreign key refers to a missing row."""

    table: str
    columns: Sequence[str]
    referenced_table: str  #: the table that lacks the referenced rows
    count: int
    example: str | None  #: identifies one of the rows; None if the rows have no key


class IndexDamage(Struct, frozen=True, kw_only=True):
    """An index that differs from its table."""

    index: str
    has_duplicates: bool  #: it contains duplicates of unique values, so it cannot be rebuilt from its table


class IndexDifference(Struct, frozen=True, kw_only=True):
    """A row for which a table and an index store different values; either of them may be damaged."""

    table: str
    row: str  #: identifies the row in the table
    columns: Sequence[str]  #: the columns whose values differ
    in_table: Sequence[object]
    in_index: Sequence[object]


class EngineFinding(Struct, frozen=True, kw_only=True):
    """A problem of a database or its server, in the engine's words."""

    severity: Severity
    code: str
    message: str
    hint: str = ""  #: a remedy: statements of the engine, or a sentence
    column: str = ""  #: the affected column as ``table.column``; empty: several

    def locate(self, target: str) -> Finding:
        """Return the finding about a database of an app."""
        return Finding(target, self.severity, self.code, self.message, self.hint)


class SettingComparison(Struct, frozen=True, kw_only=True):
    """A setting of the server compared with its required value."""

    name: str
    required: str
    actual: str | None  #: None: the server has no such setting
    is_sufficient: bool
    is_pending: bool  #: it was changed, and requires a restart to take effect
    requires_restart: bool  #: a change requires a restart, otherwise a reload
    statement: str  #: the statement that changes it


class Checks(ABC):
    """The part that checks the stored data, the definitions of tables, and the server."""

    gives_advice = True  #: whether it can find problems of a server or of definitions
    damage_remedy = Remedy(CorruptError.default_hint)

    @abstractmethod
    def find_damage(self, *, quick: bool = False, table: str = "") -> Sequence[str]:
        """Return the problems of the stored data of a table, or of all, in the engine's words.

        ``quick`` skips slow checks, above all the comparison of indexes with tables.
        """

    @abstractmethod
    def parse_index_damage(self, line: str) -> IndexDamage | None:
        """Return the index that a line of ``find_damage`` reports; None if the line is not about an index alone."""

    def concerns_values(self, line: str) -> bool:
        """Return whether a line of ``find_damage`` reports rows that violate a constraint: nothing is damaged."""
        del line
        return False

    def concerns_text_index(self, line: str, name: str = "") -> bool:
        """Return whether a line of ``find_damage`` reports a full-text index (any, or the named one), which can be rebuilt: no row is damaged."""
        del line, name
        return False

    def find_index_differences(self, index: str, limit: int) -> Sequence[IndexDifference]:
        """Return the first rows whose indexed values differ from the table; empty if the engine cannot compare them."""
        return ()

    @abstractmethod
    def find_orphaned_rows(self, table: str = "") -> Sequence[OrphanedRows]:
        """Return the foreign keys of a table, or of all tables, that refer to missing rows.

        Raises:
            QueryFailedError: the columns to which a foreign key refers are not unique, which only SQLite permits.
        """

    def find_checkable_orphans(self) -> Iterable[OrphanedRows]:
        """Return as ``find_orphaned_rows`` those of all tables, without tables that have such a foreign key."""
        return self.find_orphaned_rows()

    def count_lost_commits(self) -> int:
        """Return the number of committed changes that readers cannot see, because earlier data is damaged."""
        return 0

    def list_unchecked(self) -> Sequence[str]:
        """Return what the last ``find_damage`` did not check, one sentence each."""
        return ()

    def list_text_indexes(self) -> Sequence[str]:
        """Return the names of full-text indexes that ``find_damage`` does not check."""
        return ()

    def check_text_index(self, name: str) -> str:
        """Return the problem of a full-text index, or an empty text; requires a writer, whose changes are rolled back."""
        hint = "It is not a full-text index."
        raise NotSupportedError(feature=f"checking {name}", subject="its engine", hint=hint)

    def server_findings(self, *, writing: bool) -> Sequence[EngineFinding]:
        """Return problems of the server, and privileges that this role lacks; ``writing`` to the database requires more."""
        return ()

    def find_abandoned(self) -> Sequence[EngineFinding]:
        """Return the unused databases and roles that a killed dbctl process left."""
        return ()

    def schema_findings(self, table: str = "") -> Sequence[EngineFinding]:
        """Return problems of the definition of a table, or of all, beyond those that ``find_damage`` finds."""
        return ()

    def compare_settings(self, required: Mapping[str, str]) -> Sequence[SettingComparison]:
        """Compare settings of the server with required values; numbers and sizes are minimums."""
        return ()


def leftover_finding(name: str, statement: str, *, kind: str = "database") -> EngineFinding:
    """Return the finding for an object of ``Checks.find_abandoned``, with the statement that removes it."""
    message = f"{kind} {name} was left by a dbctl process that was killed; no process uses it"
    return EngineFinding(
        severity="warning", code="leftover-files", message=message, hint=f"Remove it with: {statement}"
    )


class FindingQuery(Struct, frozen=True, kw_only=True):
    """A query whose every result row is a finding; ``message`` and ``hint`` are templates for its columns, in which NULL is empty text."""

    severity: Severity
    code: str
    sql: str
    message: str
    hint: str = ""


class Storage(Struct, frozen=True, kw_only=True):
    """Size of a database."""

    bytes: int
    tables: int
    page_size: int
    #: Only of a file with pages; otherwise None.
    page_count: int | None = None
    freelist_pages: int | None = None  #: free pages
    wal_bytes: int | None = None  #: the size of a separate log of changes, including its unused space
    wal_pages: int | None = None  #: pages in that log that are not yet in the database file
    journal_mode: str | None = None
    #: its processes share memory, which requires that they run on the same machine
    shares_memory: bool = False


class TableSize(Struct, frozen=True, kw_only=True):
    """Size of one table."""

    table: str
    rows: int
    bytes: int | None  #: including indexes; None if unknown
    indexes: Sequence[str]
    estimated: bool = False  #: whether ``rows`` is an estimate
    #: Only on a server; otherwise None.
    table_bytes: int | None = None
    index_bytes: int | None = None
    toast_bytes: int | None = None  #: long values stored outside of the table
    dead_rows: int | None = None  #: dead tuples
    inserts: int | None = None  #: since the statistics were reset
    updates: int | None = None
    deletes: int | None = None
    vacuumed_at: datetime | None = None
    analyzed_at: datetime | None = None
    #: Only of a table with versions; otherwise None.
    fragments: int | None = None  #: parts, each with separate files
    versions: int | None = None  #: versions that can be restored
    format: str | None = None  #: of the table's files


class LockHolder(Struct, frozen=True, kw_only=True):
    """A process that has a database open."""

    pid: int
    command: str
    owner: str
    mode: Literal["write", "read", "open"]  #: the lock that it holds; open: none
    waits_for: Sequence[int] = ()  #: the processes that block it, if known
    locks: Sequence[str] = ()  #: on a server: type and object of each lock, including those it waits for
    query: str = ""  #: on a server: the current or last statement, shortened, without values
    transaction_seconds: float | None = None  #: the age of its transaction


class DatabaseFiles(Struct, frozen=True, kw_only=True):
    """The files of a database, examined without opening it."""

    file: Path  #: the database file, with symbolic links resolved; it may be missing
    side_files: Sequence[Path]  #: further existing files that belong to it
    pending_bytes: int  #: size of changes outside of the database file, including unused space
    has_leftover_changes: bool  #: such changes exist, and no process is known to have the database open
    checkpoint_command: Sequence[str]  #: the command that moves the changes into the database file
    vacuum_command: Sequence[str]  #: the command that releases the space of free pages


class Explanation(Struct, frozen=True, kw_only=True):
    """How an engine would run a query."""

    sql: str
    parameters: Sequence[object]
    plan: Sequence[str]  #: in the engine's words, indented by depth
    full_scans: Sequence[str]  #: tables that are read completely


class PlannedRows(Struct, frozen=True, kw_only=True):
    """Rows of one table that a change would delete or update."""

    table: str
    where: Sequence[Where]  #: the conditions, on the rows before the change; all of them must be met
    values: Mapping[str, object] = {}  #: the new values by column; empty: the rows are deleted


class Explainer(ABC):
    """The part that explains queries, and runs them as after a planned change."""

    @abstractmethod
    def explain(self, query: Query) -> Explanation:
        """Return how ``read_rows`` would run, without running it."""

    @abstractmethod
    def explain_query(self, sql: str, parameters: Mapping[str, object] = {}) -> Explanation:
        """Return how ``query`` would run, without running it; a list is one parameter that contains a set.

        Raises:
            QueryFailedError: it would be rejected, or a name in it would not be resolved as a column.
        """

    def explain_recorded(self, sql: str) -> Explanation | None:
        """Return how a SELECT would run that the server recorded without its values; None: the engine cannot, or rejects it."""
        return None

    @abstractmethod
    def query_after(
        self, changes: Sequence[PlannedRows], sql: str, parameters: Mapping[str, object] = {}
    ) -> list[tuple[object, ...]]:
        """Return the rows of ``Readable.query`` as after ``changes``, without triggers; views show the rows before it. It writes nothing."""

    @abstractmethod
    def read_after(self, changes: Sequence[PlannedRows]) -> AbstractContextManager[None]:
        """Let ``Readable.select``, ``count`` and ``count_by`` read rows as ``query_after`` does, inside the block; rows are in any order."""


def describe_references(db: Readable, tables: Collection[str]) -> list[str]:
    """Return the foreign keys of other tables that refer to some tables: ``orders.user refers to users``."""
    return [
        f"{reference.table}.{', '.join(reference.columns)} refers to {table}"
        for table in tables
        for reference in db.references(table)
        if reference.table not in tables
    ]
