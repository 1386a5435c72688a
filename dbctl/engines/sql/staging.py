"""Rows laid aside: how they stand to those of a table, and which of them go into it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, runtime_checkable

from dbctl.engines.contract import Column
from dbctl.engines.sql.query_builder import Row, SqlReader, ident


class Standing(NamedTuple):
    """How rows stand to those of a table with the same key."""

    missing: int  #: the table has none
    differing: int  #: it has another one
    same: int  #: it has that very one


class Aside(Protocol):
    """Rows that lie aside, where nobody else sees them; they are gone with their connection."""

    def standing(self, columns: Sequence[str]) -> Standing:
        """Return how they stand to the table now; beside the key, rows are compared by ``columns``."""
        ...

    def add(self) -> int:
        """Insert those that are missing, in a transaction; return how many that were.

        Raises:
            ConstraintError: the database refuses one, or one points to nothing.
        """
        ...

    def replace(self, columns: Sequence[str]) -> int:
        """Give the rows of the table that differ in ``columns`` these columns, in a transaction; return how many."""
        ...


@runtime_checkable
class LaysAside(Protocol):
    """Capability.ASIDE, of a writer."""

    def aside(
        self, table: str, key: Sequence[str], columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> Aside:
        """Lay rows aside that are to be compared with those of ``table``; nobody who writes it waits meanwhile.

        Args:
            table: the table.
            key: what tells two of its rows apart: some of ``columns``.
            columns: what a row holds.
            rows: as ``insert_many`` takes them.

        Raises:
            ConstraintError, ValueInvalidError: a column does not take its value.
            DiskFullError: where they lie is no room.
        """
        ...

    def namesake(self, name: str) -> str:
        """Return what that is no table keeps a new one from being called so: ``an index``; empty where nothing does."""
        ...

    def new_table(
        self, name: str, columns: Sequence[Column], key: Sequence[str]
    ) -> AbstractContextManager[None]:
        """Begin a transaction in which there is a new table, and leave nothing of it where the block fails.

        Args:
            name: of the table; there is none of that name.
            columns: as another database of the same engine tells them: each gets its type, and whether it may be NULL.
            key: its primary key; may be empty.

        Raises:
            QueryFailedError, ValueInvalidError: the database does not take such a table.
        """
        ...


class SqlAside:
    """Rows in a temporary table."""

    def __init__(
        self, db: SqlLaysAside, table: str, key: Sequence[str], columns: Sequence[str], place: str
    ) -> None:
        self._db, self._table, self._place = db, table, place
        self._columns = columns
        self._link = " and ".join(db.same_key(f"t0.{ident(name)}", f"s.{ident(name)}") for name in key)
        self._found = "(" + " or ".join(f"t0.{ident(name)} is not null" for name in key) + ")"
        self._joined = f"{place} s left join {ident(table)} t0 on {self._link}"

    def standing(self, columns: Sequence[str]) -> Standing:
        alike = f"{self._found} and {self._alike(columns)}"
        # The table of rows aside is named but once: some servers open a temporary one no second time.
        ((all_of_them, found, same),) = self._db.fetched(
            f"select count(*), coalesce(sum(case when {self._found} then 1 else 0 end), 0),"  # noqa: S608 - names are checked and quoted
            f" coalesce(sum(case when {alike} then 1 else 0 end), 0) from {self._joined}"
        )
        whole, there, equal = int(str(all_of_them)), int(str(found)), int(str(same))
        return Standing(missing=whole - there, differing=there - equal, same=equal)

    def add(self) -> int:
        taken = ", ".join(f"s.{ident(name)}" for name in self._columns)
        return self._db.added(
            self._table,
            self._columns,
            f"select {taken} from {self._joined} where not {self._found}",  # noqa: S608 - as above
        )

    def replace(self, columns: Sequence[str]) -> int:
        differing = f"{self._link} and not {self._alike(columns)}"
        return self._db.replaced(self._table, self._place, differing, columns) if columns else 0

    def _alike(self, columns: Sequence[str]) -> str:
        tests = [self._db.alike(self._table, name) for name in columns]
        return "(" + (" and ".join(tests) or "1 = 1") + ")"


class SqlLaysAside(SqlReader):
    """Capability.ASIDE over SQL; an engine says how it compares, and how it makes tables."""

    _aside = 0  #: how many tables of rows aside there are

    def aside(
        self, table: str, key: Sequence[str], columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> SqlAside:
        for name in (*key, *columns):
            self._described(table, name)
        name, self._aside = f"dbctl_aside_{self._aside}", self._aside + 1
        return SqlAside(self, table, key, columns, self._laid(name, table, columns, rows))

    @abstractmethod
    def _laid(self, name: str, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
        """Put rows into a new temporary table with the columns of ``table``; return SQL for it."""

    @abstractmethod
    def same_key(self, own: str, other: str) -> str:
        """Return SQL that says whether a column of a key and a value are the same to the index of the key."""

    @abstractmethod
    def alike(self, table: str, column: str) -> str:
        """Return SQL, never NULL, that says whether ``t0`` and ``s`` hold exactly the same in ``column``, or both nothing."""

    @abstractmethod
    def added(self, table: str, columns: Sequence[str], select: str) -> int:
        """Insert the rows of a SELECT into these columns, as ``insert_many`` does; return how many."""

    @abstractmethod
    def replaced(self, table: str, place: str, where: str, columns: Sequence[str]) -> int:
        """Give the rows ``t0`` of a table the columns of those ``s`` of ``place`` where ``where`` holds; return how many."""

    def fetched(self, sql: str) -> list[Row]:
        """Return the rows of a statement that reads."""
        return self._fetch(sql, {})


def declared(columns: Sequence[tuple[Column, str]], key: Sequence[str]) -> str:
    """Return SQL for the columns of a new table, each with its type, and for its key."""
    parts = [f"{ident(one.name)} {type_}{'' if one.nullable else ' not null'}" for one, type_ in columns]
    parts += [f"primary key ({', '.join(ident(name) for name in key)})"] if key else []
    return ", ".join(parts)
