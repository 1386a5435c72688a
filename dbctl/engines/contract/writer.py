"""The contract of a database that may be written, and of one whose times have several forms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from dbctl.engines.contract.conditions import Where
from dbctl.engines.contract.reader import Readable
from dbctl.model import Value

#: How a time is written where the column has no native type.
TimeForm: TypeAlias = Literal["iso-ms", "sqlite-time", "epoch-ms", "epoch-s"]

#: What becomes of a column where the row is there already.
Merge: TypeAlias = Literal["keep", "add", "replace"]


class Later(Value, frozen=True):
    """In place of a value of ``update``: the time in ``column`` of the same row, whatever its form, moved on."""

    column: str
    by: timedelta
    form: TimeForm  #: how the result is written


class HeldTimes(Value, frozen=True, kw_only=True):
    """The rows whose times have the same form, in one column."""

    form: str  #: a ``TimeForm``, or ``iso-without-z``
    rows: int
    example: object  #: the smallest value
    key: Mapping[str, object]  #: the primary key of the row that holds it; empty where the table has none


@runtime_checkable
class HoldsTimeForms(Protocol):
    """An engine without a type for times, where each row of a column may hold a time in a form of its own."""

    def clocks(self, table: str) -> Sequence[str]:
        """Return the columns whose default is the present moment in universal time, in whatever form."""
        ...

    def count_time_forms(self, table: str, column: str) -> Sequence[HeldTimes]:
        """Return the forms of the times in a column, the most frequent first; what is no time is not counted."""
        ...

    def newest_time_forms(self, table: str, column: str) -> Sequence[str]:
        """Return the forms that the rows which were added last hold; a few rows are read."""
        ...


@runtime_checkable
class RewritesTimes(HoldsTimeForms, Protocol):
    """A writer of such an engine."""

    def rewrite_times(self, table: str, column: str, form: str, convert: Callable[[object], object]) -> int:
        """Write ``convert`` of each time of a column that has another form than ``form``, in a transaction.

        What ``count_time_forms`` does not count stays as it is. Memory does not grow with the table.

        Returns:
            How many rows were written.
        """
        ...


class Writable(Readable, Protocol):
    """A database that may be written; nothing is written outside ``transaction``."""

    def transaction(self) -> AbstractContextManager[None]:
        """Begin one, commit at the end, roll back on any exception; nested, it is a savepoint."""
        ...

    def insert(self, table: str, values: Mapping[str, object], *, returning: str | None = None) -> object:
        """Insert one row; return the value that ``returning`` got, or None.

        Raises:
            ConstraintError: the database refuses the row.
        """
        ...

    def insert_many(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        """Insert rows as they come, in constant memory; return how many."""
        ...

    def update(self, table: str, values: Mapping[str, object], where: Sequence[Where]) -> int:
        """Update rows; return how many were matched, changed or not. A value may be a ``Later``."""
        ...

    def merge(
        self,
        table: str,
        select: str,
        parameters: Mapping[str, object],
        *,
        key: Sequence[str],
        columns: Mapping[str, Merge],
    ) -> int:
        """Insert the rows of ``select``, or bring them into those that have the same ``key`` already.

        Args:
            table: where to; a unique index covers ``key``.
            select: portable SQL of a profile; its columns are those of ``key``, then those of ``columns``.
            parameters: its ``:name`` parameters; a list is one parameter that holds a set (``id in :picked``).
            key: what tells two rows apart.
            columns: what becomes of each other column where the row is there.

        Returns:
            How many rows were inserted or changed.
        """
        ...

    def delete(self, table: str, where: Sequence[Where]) -> int:
        """Delete rows; return how many, without those that foreign keys took along."""
        ...

    def follow_keys(self, table: str) -> None:
        """Let the keys that the database makes for ``table`` go on behind the largest that was inserted with its key."""
        ...

    def lock(self, purpose: str) -> AbstractContextManager[None]:
        """Keep every other dbctl from writing here, also between transactions; it ends with the process.

        Raises:
            BusyError: another dbctl holds it; the message names its pid, host, purpose and start.
        """
        ...
