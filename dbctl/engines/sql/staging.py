"""Staging tables: compare rows with those of a table, and insert or update them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, runtime_checkable

from dbctl.engines.contract.database import Column
from dbctl.engines.sql.catalog import Row, ident
from dbctl.engines.sql.database import SqlDatabase


class StagedCounts(NamedTuple):
    """Numbers of staged rows by their relation to the table."""

    missing: int  #: the table lacks the key
    differing: int  #: the table has the key with other values
    same: int  #: the table has an equal row


class StagedRows:
    """Rows in a temporary table, which only its connection sees and which ends with it."""

    def __init__(
        self, db: SqlStagingTables, table: str, key: Sequence[str], columns: Sequence[str], staging_table: str
    ) -> None:
        self._db, self._table, self._staging_table = db, table, staging_table
        self._columns = columns
        self._link = " and ".join(db.same_key(f"t0.{ident(name)}", f"s.{ident(name)}") for name in key)
        self._is_matched = "(" + " or ".join(f"t0.{ident(name)} is not null" for name in key) + ")"
        self._joined = f"{staging_table} s left join {ident(table)} t0 on {self._link}"

    def compare(self, columns: Sequence[str]) -> StagedCounts:
        """Compare the staged rows with the table, by the key and ``columns``."""
        is_same = f"{self._is_matched} and {self._same_values(columns)}"
        # One use of the staging table only: some servers cannot open a temporary table twice in a statement.
        (counts,) = self._db.fetch(
            f"select count(*), coalesce(sum(case when {self._is_matched} then 1 else 0 end), 0),"
            f" coalesce(sum(case when {is_same} then 1 else 0 end), 0) from {self._joined}"
        )
        total, matched, same = (int(str(count)) for count in counts)
        return StagedCounts(missing=total - matched, differing=matched - same, same=same)

    def add(self) -> int:
        """Insert the missing rows, in a transaction; return their number.

        Raises:
            ConstraintError: the database refuses a row, for example an orphaned one.
        """
        selected = ", ".join(f"s.{ident(name)}" for name in self._columns)
        return self._db.insert_select(
            self._table, self._columns, f"select {selected} from {self._joined} where not {self._is_matched}"
        )

    def replace(self, columns: Sequence[str]) -> int:
        """Update the rows that differ in ``columns``, in a transaction; return their number."""
        condition = f"{self._link} and not {self._same_values(columns)}"
        return self._db.update_from(self._table, self._staging_table, condition, columns) if columns else 0

    def _same_values(self, columns: Sequence[str]) -> str:
        tests = [self._db.same_value(self._table, name) for name in columns]
        return "(" + (" and ".join(tests) or "1 = 1") + ")"


@runtime_checkable
class StagingTables(Protocol):
    """The part of a writer that compares staged rows with a table and merges them."""

    def stage(
        self, table: str, key: Sequence[str], columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> StagedRows:
        """Write rows for ``table`` into a staging table, without blocking writers of the table.

        Args:
            table: the table.
            key: the columns of its key, contained in ``columns``.
            columns: the columns of each row.
            rows: as for ``insert_many``.

        Raises:
            ConstraintError, ValueInvalidError: a value does not fit its column.
            DiskFullError: not enough free space for temporary tables.
        """
        ...

    def find_name_conflict(self, name: str) -> str:
        """Return the kind of object that uses a name for a new table, for example ``an index``; empty if it is free."""
        ...

    def create_table(
        self, name: str, columns: Sequence[Column], key: Sequence[str]
    ) -> AbstractContextManager[None]:
        """Begin a transaction with a new table, which is dropped if the block fails.

        Args:
            name: of the table; it must be free.
            columns: from another database of the same engine; types and NULL constraints are copied.
            key: its primary key; may be empty.

        Raises:
            QueryFailedError, ValueInvalidError: the database refuses the table.
        """
        ...


class SqlStagingTables(ABC):
    """The part ``StagingTables``; each engine adds comparisons and table creation."""

    def __init__(self, db: SqlDatabase) -> None:
        self._connection, self._catalog = db.connection, db.catalog
        self._staged_count = 0  #: number of staging tables

    def stage(
        self, table: str, key: Sequence[str], columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> StagedRows:
        for name in (*key, *columns):
            self._catalog.require_column(table, name)
        name, self._staged_count = f"dbctl_staging_{self._staged_count}", self._staged_count + 1
        return StagedRows(self, table, key, columns, self._create_staging_table(name, table, columns, rows))

    @abstractmethod
    def _create_staging_table(
        self, name: str, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> str:
        """Write rows into a new temporary table with the columns of ``table``; return its name in SQL."""

    @abstractmethod
    def same_key(self, own: str, other: str) -> str:
        """Return SQL for equality of a key column and a value, as the key's index compares them."""

    @abstractmethod
    def same_value(self, table: str, column: str) -> str:
        """Return SQL, never NULL, for identical values of ``column`` in ``t0`` and ``s``; NULLs are identical."""

    @abstractmethod
    def insert_select(self, table: str, columns: Sequence[str], select: str) -> int:
        """Insert the rows of a SELECT into ``columns``, like ``insert_many``; return their number."""

    @abstractmethod
    def update_from(self, table: str, staging_table: str, where: str, columns: Sequence[str]) -> int:
        """Update ``columns`` of the rows ``t0`` from the staged rows ``s`` that match ``where``; return their number."""

    def fetch(self, sql: str) -> list[Row]:
        return self._connection.fetch(sql)


def declare_columns(columns: Sequence[tuple[Column, str]], key: Sequence[str]) -> str:
    """Return SQL for the columns of a new table with their types, and for its key."""
    parts = [
        f"{ident(column.name)} {type_}{'' if column.nullable else ' not null'}" for column, type_ in columns
    ]
    parts += [f"primary key ({', '.join(ident(name) for name in key)})"] if key else []
    return ", ".join(parts)
