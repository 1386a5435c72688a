"""The live tables of a database, and their names in SQL."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from dbctl.engines.contract.reader import Column, Reference, Table
from dbctl.engines.sql.statement import ident
from dbctl.errors.usage import SchemaMismatchError


class LiveTables(ABC):
    """The live tables of a database, read on first use."""

    def __init__(self, target: str) -> None:
        self.target = target  #: ``app/database``, for messages
        self._tables: Mapping[str, Table] | None = None

    @abstractmethod
    def _read_tables(self) -> Mapping[str, Table]:
        """Read the tables and views of the database."""

    def tables(self) -> Mapping[str, Table]:
        if self._tables is None:
            self._tables = self._read_tables()
        return self._tables

    def find_table(self, name: str) -> Table | None:
        """Return a live table or view, or None."""
        return self.tables().get(name)

    def base_tables(self) -> list[str]:
        """Return the names of the tables that are not views."""
        return [name for name, table in self.tables().items() if not table.is_view]

    def forget(self) -> None:
        """Read the tables again on next use, because a statement or another session may have changed them."""
        self._tables = None

    def primary_key(self, table: str) -> list[str]:
        """Return the columns of the primary key, in the order of the table; empty without one."""
        return [column.name for column in self.require_table(table).columns.values() if column.is_primary_key]

    def require_table(self, table: str) -> Table:
        """Return a live table.

        Raises:
            SchemaMismatchError: it does not exist.
        """
        result = self.find_table(table)
        if result is None:
            raise SchemaMismatchError(target=self.target, missing=f"table {table}", purpose="this command")
        return result

    def require_column(self, table: str, column: str) -> Column:
        """Return a column of a live table.

        Raises:
            SchemaMismatchError: it does not exist.
        """
        result = self.require_table(table).columns.get(column)
        if result is None:
            raise SchemaMismatchError(
                target=self.target, missing=f"column {table}.{column}", purpose="this command"
            )
        return result


class Catalog(LiveTables):
    """The live tables of a database with SQL."""

    _references: Mapping[str, Sequence[Reference]] | None = None

    @abstractmethod
    def _read_references(self) -> Mapping[str, Sequence[Reference]]:
        """Read the foreign keys between live tables, by the table to which they refer."""

    def references(self, table: str) -> Sequence[Reference]:
        """Return the foreign keys that refer to ``table``."""
        name = self.require_table(table).name
        if (
            self._references is None
        ):  # of all tables at once: on a server each query takes a message there and back
            self._references = self._read_references()
        return self._references.get(name, [])

    def forget(self) -> None:
        super().forget()
        self._references = None

    def quote_table(self, table: str) -> str:
        return ident(self.require_table(table).name)

    def quote_column(self, table: str, column: str, alias: str) -> str:
        """Return the name of a live column in SQL, after ``alias`` and a point unless it is empty."""
        name = ident(self.require_column(table, column).name)
        return f"{alias}.{name}" if alias else name
