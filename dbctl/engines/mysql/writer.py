"""Writing a database on a server: inside one transaction, or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pymysql

from dbctl import signals
from dbctl.engines.contract import (
    AllOf,
    AnyOf,
    Capability,
    Column,
    Language,
    Later,
    Linked,
    Merge,
    Not,
    Where,
    Within,
)
from dbctl.engines.mysql.connection import MySQLConnection
from dbctl.engines.mysql.dialect import moment_of_text
from dbctl.engines.mysql.fulltext import MySQLTextWriter
from dbctl.engines.mysql.locks import MySQLLocks
from dbctl.engines.mysql.sql import script
from dbctl.engines.mysql.staging import MySQLLaysAside
from dbctl.engines.mysql.types import TIMES, MySQLColumn, MySQLTable, kind_of, literal, storable
from dbctl.engines.servers import ENDED, TOLD
from dbctl.engines.sql import Statement, counted_columns, ident, merged
from dbctl.errors import ConstraintError, NotSupportedError, QueryFailedError, ValueInvalidError

DROPPED = """select case table_type when 'VIEW' then 'view' when 'SEQUENCE' then 'sequence' else 'table' end, table_name
from information_schema.tables where table_schema = database()
union all select lower(routine_type), routine_name from information_schema.routines where routine_schema = database()
union all select 'event', event_name from information_schema.events where event_schema = database()"""
#: Letters of a statement that inserts several rows; a server takes 16 MiB at least, whatever they become as bytes.
LONGEST_INSERT = 1 << 20
#: A row of a statement, which is another of the rows that are inserted.
_OF_STATEMENT = re.compile(r" at row \d+$")


class MySQLWriter(MySQLLocks, MySQLConnection, MySQLTextWriter, MySQLLaysAside):
    """A session that may write. Its transactions see one state, that of their first statement, and their own changes.

    What another transaction changed meanwhile and this one would change, too, is ``ChangedMeanwhileError``; where a
    server has no such refusal, what is read is locked. Either way what was decided on is what is done.
    """

    capabilities = TOLD | {Capability.ASIDE, Capability.MIGRATE}
    language: Language = script
    takes_schema_back = False  # whatever changes it commits
    lock_tries = 1

    @contextmanager
    def transaction(self) -> Iterator[None]:
        try:
            with self._transaction("start transaction read write"):
                yield
        finally:
            if not self._depth:
                self._failed, self._ended = False, ""

    def _roll_back(self, sql: str) -> None:
        session = self._session
        if session is None or (self._depth > 1 and self._ended):
            return  # the server has rolled back all of it
        try:
            session.run(sql)
            self._failed = False
        except pymysql.Error:
            self.close()  # which rolls back whatever there is; the failure that led here is the one to tell

    def _inside(self) -> bool:
        return bool(self._depth)

    def _holding(self, table: str) -> str:
        if not self._depth or self._checked(table).view:
            return ""
        return " for update" if self._timeout > 0 else " for update nowait"

    def insert(self, table: str, values: Mapping[str, object], *, returning: str | None = None) -> object:
        statement = Statement()
        names = ", ".join(self._column(table, name, "") for name in values)
        holders = ", ".join(self._new_value(table, name, value, statement) for name, value in values.items())
        asked = self._described(table, returning) if returning else None
        self._require_transaction(table)
        sql = f"insert into {self._table(table)} ({names}) values ({holders})"  # noqa: S608 - names are checked and quoted
        with self._ran(sql, statement.parameters, writing=True) as cursor:
            made = cursor.lastrowid
        return self._made(table, values, made, asked.name) if asked else None

    def _made(self, table: str, values: Mapping[str, object], made: int | None, asked: str) -> object:
        """Return what a column of the row holds that was just inserted; it is found by its key."""
        key: dict[str, object] = {}
        for name in self._key(table):
            column = self._described(table, name)
            key[name] = values.get(name)
            if key[name] is None and isinstance(column, MySQLColumn) and column.counts:
                key[name] = made
        if not key or None in key.values():
            raise NotSupportedError(
                what=f"telling {table}.{asked} of a new row",
                by=self.target,
                instead="The key of that table is neither numbered by the server nor given.",
            )
        statement = Statement()
        found = " and ".join(
            f"{self._column(table, name, '')} = {self._new_value(table, name, value, statement)}"
            for name, value in key.items()
        )
        sql = f"select {self._column(table, asked, '')} from {self._table(table)} where {found}"  # noqa: S608 - as above
        return self._rows(sql, statement.parameters, writing=True)[0][0]

    def insert_many(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        described = [self._described(table, name) for name in columns]
        self._require_transaction(table)
        return self._inserted(self._table(table), described, rows)

    def _inserted(self, place: str, columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> int:
        names = ", ".join(ident(one.name) for one in columns)
        sql = f"insert into {place} ({names}) values "  # noqa: S608 - as above
        limit = min(LONGEST_INSERT, self._current().longest // 8)  # letters; one may become several bytes
        done = length = 0
        held: list[str] = []
        for row in rows:
            told = [literal(storable(column, one)) for column, one in zip(columns, row, strict=True)]
            values = f"({', '.join(told)})"
            if held and length + len(values) > limit:
                signals.check()
                done += self._sent_together(sql, held, done)
                held, length = [], 0
            held.append(values)
            length += len(values)
        return done + (self._sent_together(sql, held, done) if held else 0)

    def _sent_together(self, sql: str, rows: Sequence[str], before: int) -> int:
        """Insert rows, of which ``before`` were inserted already."""
        try:
            return self._sent(sql + ", ".join(rows))
        except (ConstraintError, ValueInvalidError) as error:
            error.facts["row"] = before + self._first_refused(sql, rows)
            error.args = (_OF_STATEMENT.sub("", str(error)),)
            raise

    def _first_refused(self, sql: str, rows: Sequence[str]) -> int:
        """Return which of some rows the server refuses, from 1; of those that come together it does not tell."""
        taken = 0
        self._sent("savepoint rows_apart")
        try:
            for row in rows:
                signals.check()
                self._sent(sql + row)
                taken += 1
        except (ConstraintError, ValueInvalidError):
            return taken + 1
        finally:
            self._sent("rollback to savepoint rows_apart")
        return taken

    def _sent(self, sql: str) -> int:
        """Run a statement in which everything stands that it is about."""
        with self._told(sql, writing=True), self._current().cursor() as cursor:
            cursor.execute(sql)
            return cursor.rowcount

    def update(self, table: str, values: Mapping[str, object], where: Sequence[Where]) -> int:
        statement = Statement(table)
        # A server takes one assignment after the other, so that what is read comes before what is written.
        ordered = sorted(values.items(), key=lambda one: not isinstance(one[1], Later))
        sets = ", ".join(
            f"{self._column(table, name, 't0')} = {self._new_value(table, name, value, statement)}"
            for name, value in ordered
        )
        rows = self._rows_of(statement, table, where)
        self._require_transaction(table)
        of, condition = rows
        return self._count(f"update {of} set {sets}{condition}", statement.parameters)  # noqa: S608 - as above

    def _new_value(self, table: str, name: str, value: object, statement: Statement) -> str:
        column = self._described(table, name)
        if isinstance(value, Later):
            source = self._described(table, value.column)
            return self._later(self._column(table, value.column, "t0"), source, value, column)
        return statement.bind(storable(column, value))

    def _rows_of(self, statement: Statement, table: str, where: Sequence[Where]) -> tuple[str, str]:
        """Return SQL for the rows of ``table`` that meet every condition, to be written: the tables, and the condition.

        A server reads no table that it writes, so rows that are found by others of their table are found before.
        """
        condition = self._where(statement, table, where, "t0")
        key = [self._column(table, name, "") for name in self._key(table)]
        if not (key and _mentions(where, table)):
            return f"{self._table(table)} t0", condition
        told = ", ".join(f"t0.{name}" for name in key)
        link = " and ".join(f"t0.{name} = found.{name}" for name in key)
        found = f"select distinct {told} from {self._table(table)} t0{condition}"  # noqa: S608 - as above
        return f"{self._table(table)} t0 join ({found}) found on {link}", ""

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
        given = {name: self._taken(table, name, f"s.c{at}") for at, name in enumerate(names)}
        source = f"({counted_columns(select, len(names))}) s"
        own = {name: f"t0.{quoted}" for name, quoted in names.items()}
        link = " and ".join(f"{own[name]} = {given[name]}" for name in key)
        sets = [f"{own[name]} = {value}" for name, value in merged(columns, own, given).items()]
        self._require_transaction(table)
        # ON DUPLICATE KEY UPDATE would change a row that is another's by any other unique index.
        changed = (
            self._count(
                f"update {self._table(table)} t0 join {source} on {link} set {', '.join(sets)}",  # noqa: S608 - as above
                parameters,
            )
            if sets
            else 0
        )
        return changed + self._count(
            f"insert into {self._table(table)} ({', '.join(names.values())}) select {', '.join(given.values())}"  # noqa: S608 - as above
            f" from {source} left join {self._table(table)} t0 on {link} where {own[key[0]]} is null",
            parameters,
        )

    def _taken(self, table: str, name: str, value: str) -> str:
        """Return SQL for a value of any type as a column takes it."""
        if kind_of(self._described(table, name)) in TIMES:
            return moment_of_text(value, self._exact(value))
        return value

    def delete(self, table: str, where: Sequence[Where]) -> int:
        statement = Statement(table)
        of, condition = self._rows_of(statement, table, where)
        self._require_transaction(table)
        return self._count(f"delete t0 from {of}{condition}", statement.parameters)

    def follow_keys(self, table: str) -> None:
        self._checked(table)  # the server does by itself

    # Scripts that change the schema ----------------------------------------------------------------------------

    @contextmanager
    def schema_transaction(self, *, brief: bool = False) -> Iterator[None]:
        del brief  # each statement is a transaction of its own, and has its own time
        if self._depth:
            raise RuntimeError("a change of the schema inside another transaction")
        with self._settled(), self.transaction():
            yield

    def may_have_taken(self, table: str) -> bool:
        del table  # a server that does not tell
        return True

    def left_by(self, sql: str) -> Sequence[str]:
        del sql  # what fails is taken back whole
        return ()

    def drop_statements(self) -> Sequence[str]:
        drops = [f"drop {kind} if exists {ident(str(name))}" for kind, name in self._fetch(DROPPED, {})]
        return ["set foreign_key_checks = 0", *drops, "set foreign_key_checks = 1"]

    def run_statement(self, sql: str) -> None:
        if reason := script.why_not(sql):
            raise QueryFailedError(target=self.target, reason=reason)
        if self._stepping and not self._depth:
            try:
                self._rows(sql, {}, writing=True)
            finally:
                self._tables = None
                self._failed, self._ended = False, ""  # there is no transaction that it could have broken
            return
        self._require_transaction()
        self._rows(sql, {}, writing=True)
        self._say("commit")  # the server has done so, if it was about the schema; a step is a step
        self._say("start transaction read write")
        self._tables = None

    def _require_transaction(self, table: str = "") -> None:
        """Refuse a write that could not be taken back."""
        session = self._current()
        if not self._depth:
            raise RuntimeError("a write outside a transaction")
        if session.open and (self._failed or self._ended or not session.transacting):
            raise QueryFailedError(target=self.target, reason=ENDED)
        kept = self._checked(table) if table else None
        if isinstance(kept, MySQLTable) and not kept.transactional:
            raise NotSupportedError(
                what=f"writing to {table} of {self.target}",
                by=f"{kept.keeper}, which keeps that table and can take nothing back",
                instead=f"Nothing was changed. With the app stopped: ALTER TABLE `{table.replace('`', '``')}` ENGINE=InnoDB;",
            )


def _mentions(where: Sequence[Where], table: str) -> bool:
    """Whether any of the conditions looks at other rows of ``table``."""
    for one in where:
        match one:
            case Within() if one.table == table or _mentions(one.where, table):
                return True
            case Linked() if one.table == table:
                return True
            case AnyOf() | AllOf() if _mentions(one.among, table):
                return True
            case Not() if _mentions([one.where], table):
                return True
    return False
