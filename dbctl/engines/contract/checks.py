"""The contract of engines that check, measure, and describe what they store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from dbctl.model import Value

if TYPE_CHECKING:
    from dbctl.engines.contract.schema import Schema


class Orphans(Value, frozen=True, kw_only=True):
    """Rows of one table whose foreign key points to nothing."""

    table: str
    columns: Sequence[str]
    to: str  #: the table that lacks what they point to
    number: int
    example: str | None  #: what finds one of them; None where a row has no name of its own


class IndexDamage(Value, frozen=True, kw_only=True):
    """An index that is not as its table is."""

    index: str
    twice: bool  #: it holds twice what may be there once, so that it cannot be made anew from its table


class IndexDifference(Value, frozen=True, kw_only=True):
    """A row for which a table and one of its indexes hold different values; nothing shows which of them is damaged."""

    table: str
    row: str  #: what finds the row in the table
    columns: Sequence[str]  #: whose values differ
    in_table: Sequence[object]
    in_index: Sequence[object]


@runtime_checkable
class Checks(Protocol):
    """Capability.CHECK."""

    def damage(self, *, quick: bool = False, table: str = "") -> Sequence[str]:
        """Return what is wrong with how a table, or everything, is stored, in the engine's words.

        Args:
            quick: whether to leave out what takes long: above all, whether indexes and tables agree.
            table: the one that is looked at.
        """
        ...

    def index_damage(self, line: str) -> IndexDamage | None:
        """Return what a line of ``damage`` tells of an index; None where it is about more than an index."""
        ...

    def index_differences(self, index: str, limit: int) -> Sequence[IndexDifference]:
        """Return the first rows whose values an index holds otherwise; none where that cannot be determined."""
        ...

    def orphans(self, table: str = "") -> Sequence[Orphans]:
        """Return the foreign keys of a table, or of all, that point to nothing."""
        ...

    def lost_commits(self) -> int:
        """Return how many committed changes no reader gets to see, because what precedes them is damaged."""
        ...

    def text_indexes(self) -> Sequence[str]:
        """Return the names of indexes for searching text that ``damage`` does not look into."""
        ...

    def text_index_damage(self, name: str) -> str:
        """Return what is wrong with one of them, or nothing; it takes a writer, and what it writes is taken back."""
        ...


class Storage(Value, frozen=True, kw_only=True):
    """How much room a database takes."""

    bytes: int
    tables: int
    page_size: int
    #: What only a file of pages has; None elsewhere.
    page_count: int | None = None
    freelist_pages: int | None = None  #: pages that hold nothing
    wal_bytes: int | None = None  #: changes that stand beside the file, or their room
    wal_pages: int | None = None  #: of these, how many pages are not in the file itself yet
    journal_mode: str | None = None
    shares_memory: bool = False  #: its users share memory, which only those on one machine can


class Measured(Value, frozen=True, kw_only=True):
    """How much one table holds."""

    table: str
    rows: int
    bytes: int | None  #: with its indexes; None where the engine cannot tell
    indexes: Sequence[str]
    estimated: bool = False  #: whether ``rows`` is about so many
    #: What only a server tells; None elsewhere.
    table_bytes: int | None = None
    index_bytes: int | None = None
    toast_bytes: int | None = None  #: long values that are stored beside their rows
    dead_rows: int | None = None  #: rows that nobody can see any more
    inserts: int | None = None  #: since the server counts
    updates: int | None = None
    deletes: int | None = None
    vacuumed_at: datetime | None = None
    analyzed_at: datetime | None = None
    #: What only a table of versions has; None elsewhere.
    fragments: int | None = None  #: parts, each with files of its own
    versions: int | None = None  #: that can be gone back to
    format: str | None = None  #: of its files


@runtime_checkable
class Measures(Protocol):
    """Capability.MEASURE."""

    def storage(self) -> Storage:
        """Return how much room the database takes; moves nothing about in it."""
        ...

    def measured(self, *, exact: bool = True, table: str = "") -> Sequence[Measured]:
        """Return how much each table, or only ``table``, holds; without ``exact``, estimates where counting takes long."""
        ...


@runtime_checkable
class Describes(Protocol):
    """Capability.SCHEMA."""

    def schema(self) -> Schema:
        """Return the whole live schema at one moment, down to what no command changes."""
        ...

    def fingerprint(self) -> str:
        """Return ``schema.fingerprint`` of it: SHA-256, hexadecimal, the same as long as the schema is."""
        ...

    def comments(self, table: str) -> Mapping[str, str]:
        """Return the comments that the schema stores for a table, by column; the table's own under an empty name."""
        ...


class Holder(Value, frozen=True, kw_only=True):
    """A process that has a database open."""

    pid: int
    command: str
    owner: str
    mode: Literal["write", "read", "open"]  #: the lock that it holds now; open: none
    waits_for: Sequence[int] = ()  #: the processes whose locks keep it from going on, where that is known
    locks: Sequence[str] = ()  #: on a server: type and object of each lock, those that it waits for included
    query: str = ""  #: on a server: what it runs, or ran last; shortened, without the values in it
    transaction_seconds: float | None = None  #: how long its transaction lasts


class Housing(Value, frozen=True, kw_only=True):
    """The files in which a database is kept, told without opening it."""

    file: Path  #: the database itself, links followed; it may be missing
    beside: Sequence[Path]  #: further ones that belong to it and are there
    waiting_bytes: int  #: changes that stand beside the file, or their room
    left: bool  #: changes stand there, and no process is seen that has the database open
    settle: Sequence[str]  #: the command that brings what stands beside into the file
    shrink: Sequence[str]  #: the command that gives back the room of pages that hold nothing
