"""Contract: writable databases, and databases that store times in several forms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Literal, Protocol, TypeAlias

from dbctl.engines.contract.conditions import Where
from dbctl.engines.contract.reader import Readable
from dbctl.model import Struct

#: How a time is written where the column has no native type.
TimeForm: TypeAlias = Literal["iso-ms", "sqlite-time", "epoch-ms", "epoch-s"]

#: What happens to a column if the row exists.
MergeRule: TypeAlias = Literal["keep", "add", "replace"]


class ShiftedTime(Struct, frozen=True):
    """A value for ``update``: the time in ``column`` of the same row, in any form, plus an offset."""

    column: str
    offset: timedelta
    form: TimeForm  #: the form of the result


class TimeFormCount(Struct, frozen=True, kw_only=True):
    """The rows of a column whose times have the same form."""

    form: str  #: a ``TimeForm``, or ``iso-without-z``
    rows: int
    example: object  #: the smallest value
    key: Mapping[str, object]  #: the primary key of that row; empty without one


class TimeForms(Protocol):
    """An engine without a type for times, where each row of a column may store a time in a different form."""

    def count_time_forms(self, table: str, column: str) -> Sequence[TimeFormCount]:
        """Return the forms of the times in a column, the most frequent first; other values are not counted."""

    def newest_time_forms(self, table: str, column: str) -> Sequence[str]:
        """Return the forms of the most recently added rows; reads few rows."""


class TimeRewriter(TimeForms, Protocol):
    def rewrite_times(self, table: str, column: str, form: str, convert: Callable[[object], object]) -> int:
        """Rewrite each time of a column that has another form than ``form`` with ``convert``, in a transaction.

        Values that ``count_time_forms`` does not count stay unchanged. Memory does not grow with the table.

        Returns:
            The number of rewritten rows.
        """


class Merge(Struct, frozen=True, kw_only=True):
    """Rows of a query to insert, or to merge into rows with the same ``key``."""

    table: str  #: the destination; a unique index covers ``key``
    select: (
        str  #: portable SQL of a profile; its columns are those of ``key``, followed by those of ``columns``
    )
    #: ``:name`` parameters; a list is one parameter that contains a set (``id in :picked``)
    parameters: Mapping[str, object]
    key: Sequence[str]  #: the columns that identify a row
    columns: Mapping[str, MergeRule]  #: the rule for each other column of an existing row


#: The name, or the beginning of the names, of the objects by which ``WriteLock`` makes tables refuse writes.
WRITE_LOCK = "dbctl_transfer_lock"
#: What a refused writer reads; a server allows 128 characters.
WRITE_LOCK_MESSAGE = "moved to another address by dbctl; to write here again: dbctl transfer switch --unlock"


class WriteLock(Protocol):
    """The part that makes all tables refuse the writes of every session, also of later ones, until ``unlock``."""

    exceptions: str  #: writes that it does not refuse, in words

    def list_locked(self) -> Sequence[str]:
        """Return the tables that refuse writes."""

    def lock(self) -> None:
        """Make all tables refuse writes, after the transactions that write to them have ended.

        On a server without transactions for schemas, an error leaves a part of the tables locked.

        Raises:
            BusyError: a session was writing until the timeout.
            ConcurrentChangeError: a session that was writing waited for this one.
            PrivilegeMissingError: this user may not create triggers.
        """

    def unlock(self) -> None:
        """Let all tables accept writes again; raises as ``lock``."""


class WriteProof(Struct, frozen=True, kw_only=True):
    """Whether a table with generated keys accepts new rows."""

    table: str
    #: ``accepted``: a row was inserted and deleted; ``refused``; ``unknown``: no row could be tried
    outcome: Literal["accepted", "refused", "unknown"]
    reason: str = ""


class WriteProofs(Protocol):
    """The part that finds out whether tables accept new rows."""

    def try_writes(self) -> Sequence[WriteProof]:
        """Insert a copy of the newest row into each table with generated keys, delete it, and roll both back.

        The copy has a generated key and other values in unique columns. Triggers run. The number of an AUTO_INCREMENT column
        remains used.
        """


class Writable(Readable, Protocol):
    """A database that may be written; every write is part of a ``transaction``."""

    def transaction(self) -> AbstractContextManager[None]:
        """Begin a transaction, commit at the end, roll back on any exception; nested, it is a savepoint."""

    def insert(self, table: str, values: Mapping[str, object], *, returning: str | None = None) -> object:
        """Insert one row; return its value of the column ``returning``, or None.

        Raises:
            ConstraintError: the database rejects the row.
        """

    def insert_many(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        """Insert rows from an iterator, in constant memory; return the count."""

    def update(self, table: str, values: Mapping[str, object], where: Sequence[Where]) -> int:
        """Update rows; return the number of matched rows, changed or not. A value may be a ``ShiftedTime``."""

    def merge(self, merge: Merge) -> int:
        """Insert rows, or merge them into rows with the same key; return the number of inserted or changed rows."""

    def delete(self, table: str, where: Sequence[Where]) -> int:
        """Delete rows; return the count, without rows that foreign keys deleted."""

    def advance_sequences(self, table: str) -> None:
        """Set the sequence of the key of ``table`` to its largest value."""

    def defer_references(self) -> None:
        """Check the foreign keys that are ``deferrable`` at the end of the transaction."""

    def lock(self, purpose: str) -> AbstractContextManager[None]:
        """Block other dbctl processes from writing to this database, also between transactions; also released when the process ends.

        Raises:
            BusyError: another dbctl process holds the lock; the message contains its pid, host, purpose and start.
        """
