"""Writing a database on a server: inside one transaction, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import cast

import psycopg
from psycopg import pq

from dbctl.engines.contract import Capability, Column, Language, Later, Merge, Where
from dbctl.engines.postgresql.connection import TOLD, PostgreSQLConnection
from dbctl.engines.postgresql.fulltext import PostgreSQLTextWriter
from dbctl.engines.postgresql.locks import PostgreSQLLocks
from dbctl.engines.postgresql.sql import script
from dbctl.engines.postgresql.staging import PostgreSQLLaysAside
from dbctl.engines.postgresql.types import base_of, storable
from dbctl.engines.servers import ENDED
from dbctl.engines.sql import Statement, ident, on_conflict
from dbctl.errors import ConstraintError, QueryFailedError

#: The sequences that count upwards and that columns of a table take their values from, whoever owns them.
SEQUENCES = """select a.attname::text, s.seqrelid::regclass::text
from pg_catalog.pg_attribute a join pg_catalog.pg_sequence s on s.seqincrement > 0 and (
  exists (select from pg_catalog.pg_attrdef f join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_attrdef'::regclass
    and d.objid = f.oid and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = s.seqrelid
    where f.adrelid = a.attrelid and f.adnum = a.attnum)
  or exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = s.seqrelid
    and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = a.attrelid and d.refobjsubid = a.attnum
    and d.deptype = 'i'))
where a.attrelid = cast(:table as regclass) and a.attnum > 0 and not a.attisdropped order by a.attnum"""

#: Whoever asks for a table behind an ALTER that waits for it waits, too: it gives way soon, and is tried again.
BRIEF_SECONDS, BRIEF_TRIES = 2, 5
#: Whether this transaction has deleted rows of a table, or holds the lock that TRUNCATE takes. What a session did just
#: before may be counted in.
TAKEN = """select coalesce((select s.n_tup_del > 0 from pg_catalog.pg_stat_xact_all_tables s
    where s.relid = cast(:table as regclass)), true)
  or current_setting('track_counts') <> 'on'
  or exists (select from pg_catalog.pg_locks l where l.pid = pg_backend_pid() and l.granted
    and l.relation = cast(:table as regclass) and l.mode = 'AccessExclusiveLock')"""
#: An index of that name which was begun and is of no use.
INVALID = """select 1 from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
where c.relname = :name and not i.indisvalid and pg_catalog.pg_table_is_visible(c.oid)"""


class PostgreSQLWriter(PostgreSQLLocks, PostgreSQLConnection, PostgreSQLTextWriter, PostgreSQLLaysAside):
    """A session that may write. Its transactions see one state, that of their first statement, and their own changes.

    What another transaction changed meanwhile and this one would change, too, is ``ChangedMeanwhileError``: what was
    decided on is what is done, or nothing is.
    """

    capabilities = TOLD | {Capability.ASIDE, Capability.MIGRATE}
    language: Language = script
    takes_schema_back = True
    _outermost = 0  #: the depth at which nothing of ours is open
    _running = ""  #: the statement of a script that runs

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._transaction("begin isolation level repeatable read read write"):
            yield

    def _roll_back(self, sql: str) -> None:
        session = self._session
        if session is None or session.pgconn.transaction_status == pq.TransactionStatus.IDLE:
            return  # a commit that was refused has ended it already
        try:
            if session.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                raise psycopg.OperationalError  # a signal came where nobody could cancel what runs
            session.execute(sql.encode())
        except psycopg.Error:
            with suppress(psycopg.Error):
                session.cancel_safe(timeout=1)
            self.close()  # which rolls back whatever there is; the failure that led here is the one to tell

    def _holding(self, table: str) -> str:
        return " for no key update of t0" if self._depth and not self._checked(table).view else ""

    def insert(self, table: str, values: Mapping[str, object], *, returning: str | None = None) -> object:
        statement = Statement()
        sql = f"insert into {self._table(table)} default values"
        if values:
            names = ", ".join(self._column(table, name, "") for name in values)
            holders = ", ".join(
                self._new_value(table, name, value, statement) for name, value in values.items()
            )
            sql = f"insert into {self._table(table)} ({names}) values ({holders})"  # noqa: S608 - names are checked and quoted
        if returning:
            sql += f" returning {self._column(table, returning, '')}"
        self._require_transaction()
        rows = self._rows(sql, statement.parameters, writing=True)
        return rows[0][0] if rows else None

    def insert_many(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        described = [self._described(table, name) for name in columns]
        self._require_transaction()
        if self._checked(table).view:
            return sum(self._insert_one(table, columns, row) for row in rows)
        return self._copied(self._table(table), described, rows)

    def _copied(self, place: str, columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> int:
        sql = f"copy {place} ({', '.join(ident(one.name) for one in columns)}) from stdin"
        # What the iterator raises comes out as itself.
        with self._told(sql, writing=True), self._current().cursor() as cursor:
            with cursor.copy(sql.encode()) as copy:
                for row in rows:
                    copy.write_row(
                        [storable(column, value) for column, value in zip(columns, row, strict=True)]
                    )
            return cursor.rowcount

    def _insert_one(self, table: str, columns: Sequence[str], row: Sequence[object]) -> int:
        self.insert(table, dict(zip(columns, row, strict=True)))
        return 1

    def update(self, table: str, values: Mapping[str, object], where: Sequence[Where]) -> int:
        statement = Statement(table)
        sets = ", ".join(
            f"{self._column(table, name, '')} = {self._new_value(table, name, value, statement)}"
            for name, value in values.items()
        )
        condition = self._where(statement, table, where, "t0")
        self._require_transaction()
        return self._count(f"update {self._table(table)} as t0 set {sets}{condition}", statement.parameters)  # noqa: S608 - as above

    def _new_value(self, table: str, name: str, value: object, statement: Statement) -> str:
        column = self._described(table, name)
        if isinstance(value, Later):
            source = self._described(table, value.column)
            return self._later(self._column(table, value.column, "t0"), source, value, column)
        return statement.bind(storable(column, value))

    def merge(
        self,
        table: str,
        select: str,
        parameters: Mapping[str, object],
        *,
        key: Sequence[str],
        columns: Mapping[str, Merge],
    ) -> int:
        names = {name: self._column(table, name, "") for name in (*key, *columns)}
        taken = ", ".join(
            f"cast(s.c{at} as {base_of(self._described(table, name))})" for at, name in enumerate(names)
        )
        told = ", ".join(f"c{at}" for at in range(len(names)))
        self._require_transaction()
        return self._count(
            f"insert into {self._table(table)} as t0 ({', '.join(names.values())})"  # noqa: S608 - as above
            f" select {taken} from ({select}) as s ({told})"
            f" on conflict ({', '.join(names[name] for name in key)}) do {on_conflict(names, columns)}",
            parameters,
        )

    def delete(self, table: str, where: Sequence[Where]) -> int:
        statement = Statement(table)
        condition = self._where(statement, table, where, "t0")
        self._require_transaction()
        return self._count(f"delete from {self._table(table)} as t0{condition}", statement.parameters)  # noqa: S608 - as above

    def follow_keys(self, table: str) -> None:
        name = self._table(table)
        self._require_transaction()
        for column, sequence in self._rows(SEQUENCES, {"table": name}):
            largest = f"select max({self._column(table, str(column), '')}) as largest from {name}"  # noqa: S608 - names are checked and quoted
            self._rows(
                # never back: what was given out once is not given out again
                f"select setval(cast(:sequence as regclass), m.largest) from ({largest}) m"  # noqa: S608 - as above
                " where m.largest > coalesce(pg_sequence_last_value(cast(:sequence as regclass)), 0)",
                {"sequence": sequence},
                writing=True,
            )

    # Scripts that change the schema ----------------------------------------------------------------------------

    @property
    def lock_tries(self) -> int:
        return BRIEF_TRIES if self._timeout else 1

    @contextmanager
    def schema_transaction(self, *, brief: bool = False) -> Iterator[None]:
        if self._depth > self._outermost:
            raise RuntimeError("a change of the schema inside another transaction")
        # A table keeps its keys while it is altered, and rows are looked at as they come. What was committed while
        # a statement waited for a lock is part of what it works on, so each sees its own moment.
        with self._settled(), self._transaction("begin isolation level read committed read write"):
            if brief and self._timeout > BRIEF_SECONDS:
                limit = f"{BRIEF_SECONDS}s"
                self._rows("select set_config('lock_timeout', :limit, true)", {"limit": limit}, writing=True)
            yield

    def may_have_taken(self, table: str) -> bool:
        return self._rows(TAKEN, {"table": self._table(table)}) != [(False,)]

    def left_by(self, sql: str) -> Sequence[str]:
        name = script.concurrent_index(sql)
        if not name or not self._rows(INVALID, {"name": name}):
            return ()
        return [f"drop index concurrently {ident(name)};"]

    def drop_statements(self) -> Sequence[str]:
        from dbctl.engines.postgresql.backup import empty_schemas

        own = "pg_catalog.current_schemas(false)"
        for (dependent,) in self._fetch(empty_schemas.dependent(own), {}):
            raise ConstraintError(target=self.target, reason=f"{dependent} depends on what would be dropped")
        ((drops,),) = self._fetch(empty_schemas.drops(own), {})
        return cast("list[str]", drops or [])

    def run_statement(self, sql: str) -> None:
        outside = self._stepping and not self._depth
        if reason := script.why_not(sql, outside=outside):
            raise QueryFailedError(target=self.target, reason=reason)
        if not outside:
            self._require_transaction()
        self._running = sql
        try:
            self._rows(sql, {}, writing=True)
        finally:
            self._running, self._tables = "", None

    def _words(self) -> Sequence[str]:
        held = script.told(self._running)
        words = [one.text.lower() for one in held if one.kind == "word"]
        return words + [one.text[1:-1].replace('""', '"') for one in held if one.kind == "name"]

    def _require_transaction(self) -> None:
        session = self._current()
        if not self._depth:
            raise RuntimeError("a write outside a transaction")
        if (
            session.pgconn.status == pq.ConnStatus.OK
            and session.pgconn.transaction_status != pq.TransactionStatus.INTRANS
        ):
            raise QueryFailedError(target=self.target, reason=ENDED)
