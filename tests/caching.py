"""Databases with the same content for several tests.

Those of MySQL are reused one after the other; each is reset between tests, or replaced: creating and dropping a database, or
tables, makes the server wait for its disk, and takes ten to a hundred times as long as deleting the rows of a test. Those of
PostgreSQL are copies of one.
"""

from __future__ import annotations

import atexit
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from itertools import count
from time import sleep

import psycopg
import pymysql
from msgspec import structs

from dbctl.engines.mysql.dialect import PROCESSES
from dbctl.engines.sql.catalog import ident
from dbctl.url import Url
from tests import servers

Fill = Callable[[pymysql.cursors.Cursor], None]
#: Seconds that a server may take to notice that a session has ended, and seconds between two queries for it.
NOTICE_SECONDS, POLL_SECONDS = 2.0, 0.02
_number = count()


class _FilledDatabase:
    """A MySQL database with the content of ``fill``, and a copy of it from which its rows are restored."""

    def __init__(self, fill: Fill) -> None:
        self._server = servers.mysql()
        # Tests list databases whose names begin with theirs; the copy must not be among them.
        number = f"{os.getpid()}_{next(_number)}"
        self.name, self._copy = f"t_{number}_filled", f"copy_{number}"
        atexit.register(self.drop)  # registered after the private server, so it runs before the server stops
        with self._connect() as cursor:
            for name in (self.name, self._copy):
                cursor.execute(f"create database {ident(name)} character set utf8mb4")
                cursor.execute(f"use {ident(name)}")
                fill(cursor)
            self._initial_state = self._read_state(cursor)

    @property
    def url(self) -> Url:
        return structs.replace(self._server, path=self.name)

    @contextmanager
    def _connect(self) -> Iterator[pymysql.cursors.Cursor]:
        with closing(servers.mysql_connection(self._server)) as own, own.cursor() as cursor:
            yield cursor

    def _read_state(self, cursor: pymysql.cursors.Cursor) -> dict[str, tuple[object, ...]]:
        """Return the definition and row checksum of each table, and the other objects of the database."""
        names = [self.name]
        cursor.execute(
            "select table_name, table_type from information_schema.tables where table_schema = %s", names
        )
        states: dict[str, tuple[object, ...]] = {name: (kind,) for name, kind in cursor.fetchall()}
        for name in states:
            full = f"{ident(self.name)}.{ident(name)}"
            cursor.execute(f"show create table {full}")
            states[name] += cursor.fetchone() or ()
            cursor.execute(f"checksum table {full}")
            states[name] += cursor.fetchone() or ()
        for kind, sql in {
            "database": "select default_character_set_name, default_collation_name"
            " from information_schema.schemata where schema_name = %s",
            "triggers": "select trigger_name, action_statement from information_schema.triggers where trigger_schema = %s",
            "routines": "select routine_name, routine_definition from information_schema.routines where routine_schema = %s",
            "events": "select event_name, event_definition from information_schema.events where event_schema = %s",
        }.items():
            cursor.execute(sql, names)
            states[f"({kind})"] = tuple(cursor.fetchall())
        return states

    def _wait_for_sessions_to_end(self, cursor: pymysql.cursors.Cursor) -> bool:
        """Wait for the sessions of the test to end; return whether they have."""
        for _ in range(round(NOTICE_SECONDS / POLL_SECONDS)):
            if not cursor.execute(f"select id from {PROCESSES} own where db = %s", [self.name]):
                return True
            sleep(POLL_SECONDS)
        return False

    def restore_rows(self) -> bool:
        """Restore the initial rows, and return whether the state equals the initial one."""
        with self._connect() as cursor:
            if not self._wait_for_sessions_to_end(cursor):
                return False
            cursor.execute("select schema_name from information_schema.schemata")
            for (database_name,) in cursor.fetchall():  # databases that restores created
                if database_name.startswith(f"{self.name}_"):
                    cursor.execute(f"drop database {ident(database_name)}")
            states = self._read_state(cursor)
            if states.keys() == self._initial_state.keys() and states != self._initial_state:
                self._refill(
                    cursor, [name for name, state in states.items() if state != self._initial_state[name]]
                )
                states = self._read_state(cursor)
            return states == self._initial_state

    def _refill(self, cursor: pymysql.cursors.Cursor, names: Sequence[str]) -> None:
        cursor.execute("set foreign_key_checks = 0")
        cursor.execute("begin")
        next_values = {}
        for name in names:
            cursor.execute(
                "select column_name from information_schema.columns"
                " where table_schema = %s and table_name = %s and generation_expression is null",
                [self._copy, name],
            )
            columns = ", ".join(ident(column) for (column,) in cursor.fetchall())
            if not columns:
                continue  # not a table
            live, copy = (f"{ident(schema)}.{ident(name)}" for schema in (self.name, self._copy))
            try:
                cursor.execute(f"delete from {live}")
                cursor.execute(f"insert into {live} ({columns}) select {columns} from {copy}")
            except pymysql.Error:
                cursor.execute("rollback")
                return  # the definition of the table has changed
            cursor.execute(
                "select auto_increment from information_schema.tables where table_schema = %s and table_name = %s",
                [self._copy, name],
            )
            ((next_values[live],),) = cursor.fetchall()
        cursor.execute("commit")
        for live, next_value in next_values.items():
            if next_value is not None:
                cursor.execute(f"alter table {live} auto_increment = {next_value}")

    def drop(self) -> None:
        atexit.unregister(self.drop)
        with self._connect() as cursor:
            for name in (self.name, self._copy):
                cursor.execute(f"drop database if exists {ident(name)}")


_filled_databases: defaultdict[Fill, list[_FilledDatabase]] = defaultdict(list)


@contextmanager
def mysql_database(fill: Fill) -> Iterator[Url]:
    """Yield a database with only the content of ``fill``."""
    ready = _filled_databases[fill]
    database = ready.pop() if ready else _FilledDatabase(fill)
    try:
        yield database.url
    finally:
        if database.restore_rows():
            ready.append(database)
        else:
            database.drop()


@cache
def _create_template(fill: Callable[[psycopg.Connection], None]) -> str:
    """Return the name of a PostgreSQL database with the content of ``fill``, which is dropped at the end of this process."""
    database = servers.postgresql_database(encoding="UTF8")
    url = database.__enter__()
    atexit.register(
        database.__exit__, None, None, None
    )  # registered after the private server, so it runs before the server stops
    with closing(servers.connection(url)) as own:
        fill(own)
    return url.path


@contextmanager
def postgresql_database(fill: Callable[[psycopg.Connection], None]) -> Iterator[Url]:
    """Yield a database with only the content of ``fill``: a copy of one takes less than the statements."""
    with servers.postgresql_database(encoding="UTF8", template=_create_template(fill)) as url:
        yield url
