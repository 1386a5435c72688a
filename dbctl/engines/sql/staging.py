"""Staging tables: compare rows with those of a table, and insert or update them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

from dbctl.engines.contract.database import Column
from dbctl.engines.contract.streaming import Begin, StagedCounts, StagedRows, StagingTables
from dbctl.engines.sql.catalog import Row, ident
from dbctl.engines.sql.database import SqlPart


class SqlStagedRows(StagedRows):
    """Staged rows, and the SQL that compares and merges them."""

    def __init__(
        self, db: SqlStagingTables, table: str, key: Sequence[str], columns: Sequence[str], staging_table: str
    ) -> None:
        self._db, self._table, self._staging_table = db, table, staging_table
        self._columns = columns
        self._key = [ident(name) for name in key]
        #: columns of the key whose equal values can differ: ``a`` and ``A``
        self._texts = [name for name in key if db.has_spellings(table, name)]
        self._link = self._link_key("s")
        self._is_matched = "(" + " or ".join(f"t0.{ident(name)} is not null" for name in key) + ")"
        self._joined = f"{staging_table} s left join {ident(table)} t0 on {self._link}"

    def compare(self, columns: Sequence[str]) -> StagedCounts:
        is_same = f"{self._is_matched} and {self._same_values([*self._texts, *columns])}"
        # One use of the staging table only: some servers cannot open a temporary table twice in a statement.
        (counts,) = self._db.fetch(
            f"select count(*), coalesce(sum(case when {self._is_matched} then 1 else 0 end), 0),"
            f" coalesce(sum(case when {is_same} then 1 else 0 end), 0) from {self._joined}"
        )
        total, matched, same = (int(str(count)) for count in counts)
        return StagedCounts(missing=total - matched, differing=matched - same, same=same)

    def count_shared_keys(self) -> int:
        names = ", ".join(f"t0.{name}" for name in self._key)
        shared = f"select 1 from {self._joined} where {self._is_matched} group by {names} having count(*) > 1"
        return int(str(self._db.fetch(f"select count(*) from ({shared}) shared")[0][0]))

    def remove_matched(self) -> None:
        # no alias: not every server has one for the table of this statement
        matched = f"select 1 from {ident(self._table)} t0 where {self._link_key(self._staging_table)}"
        self._db.write(f"delete from {self._staging_table} where exists ({matched})")

    def add(self, postponed: Collection[str] = ()) -> int:
        selected = ", ".join("null" if name in postponed else f"s.{ident(name)}" for name in self._columns)
        return self._db.insert_select(
            self._table, self._columns, f"select {selected} from {self._joined} where not {self._is_matched}"
        )

    def replace(self, columns: Sequence[str]) -> int:
        columns = [*self._texts, *columns]
        condition = f"{self._link} and not {self._same_values(columns)}"
        return self._db.update_from(self._table, self._staging_table, condition, columns) if columns else 0

    def _link_key(self, staged: str) -> str:
        return " and ".join(self._db.same_key(f"t0.{name}", f"{staged}.{name}") for name in self._key)

    def _same_values(self, columns: Sequence[str]) -> str:
        tests = [self._db.same_value(self._table, name) for name in columns]
        return "(" + (" and ".join(tests) or "1 = 1") + ")"


class SqlStagingTables(SqlPart, StagingTables):
    """The part ``StagingTables``; each engine adds comparisons and table creation."""

    _staged_count = 0  #: number of staging tables

    def stage(
        self, table: str, key: Sequence[str], columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> StagedRows:
        for name in (*key, *columns):
            self._catalog.require_column(table, name)
        name, self._staged_count = f"dbctl_staging_{self._staged_count}", self._staged_count + 1
        return SqlStagedRows(
            self, table, key, columns, self._create_staging_table(name, table, columns, rows)
        )

    @abstractmethod
    def _create_staging_table(
        self, name: str, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> str:
        """Write rows into a new temporary table with the columns of ``table``; return its name in SQL."""

    def same_key(self, own: str, other: str) -> str:
        """Return SQL for equality of a key column and a value, as the key's index compares them."""
        return f"{own} = {other}"

    def has_spellings(self, table: str, column: str) -> bool:
        """Whether values of a key column can be equal for the key, and not the same."""
        return "INT" not in self._catalog.require_column(table, column).type

    @abstractmethod
    def same_value(self, table: str, column: str) -> str:
        """Return SQL, never NULL, for identical values of ``column`` in ``t0`` and ``s``; NULLs are identical."""

    @abstractmethod
    def insert_select(self, table: str, columns: Sequence[str], select: str) -> int:
        """Insert the rows of a SELECT into ``columns``, like ``insert_many``; return their number."""

    def update_from(self, table: str, staging_table: str, where: str, columns: Sequence[str]) -> int:
        """Update ``columns`` of the rows ``t0`` from the staged rows ``s`` that match ``where``; return their number."""
        sets = ", ".join(f"{ident(name)} = s.{ident(name)}" for name in columns)
        name = self._catalog.quote_table(table)
        update = f"update{self.resolution_clause(table)}"
        return self.write(f"{update} {name} as t0 set {sets} from {staging_table} s where {where}")

    def resolution_clause(self, table: str) -> str:
        """Return what follows UPDATE so that a key which exists is refused; empty: it is."""
        del table
        return ""

    @abstractmethod
    def write(self, sql: str) -> int:
        """Run a statement in the open transaction; return the number of changed rows."""

    def fetch(self, sql: str) -> list[Row]:
        return self._connection.fetch(sql)

    def declare_type(self, column: Column) -> str:
        return column.type

    @contextmanager
    def create_table(
        self, name: str, columns: Sequence[Column], key: Sequence[str], begin: Begin
    ) -> Iterator[None]:
        definitions = [(column, self.declare_type(column)) for column in columns]
        try:
            with begin():
                self.write(f"create table {ident(name)} ({declare_columns(definitions, key)})")
                self._catalog.forget()
                yield
        finally:
            self._catalog.forget()

    def drop_table(self, name: str) -> None:
        self.write(f"drop table {self._catalog.quote_table(name)}")
        self._catalog.forget()


def declare_columns(columns: Sequence[tuple[Column, str]], key: Sequence[str]) -> str:
    """Return SQL for the columns of a new table with their types, and for its key."""
    parts = [
        f"{ident(column.name)} {type_}{'' if column.nullable else ' not null'}" for column, type_ in columns
    ]
    parts += [f"primary key ({', '.join(ident(name) for name in key)})"] if key else []
    return ", ".join(parts)
