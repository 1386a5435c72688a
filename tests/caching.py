"""Databases that several tests reuse one after the other; each is reset between tests, or replaced.

Creating and dropping a database, or tables of MySQL, makes the server wait for its disk, and takes ten to a hundred times
as long as deleting the rows of a test.
"""

from __future__ import annotations

import atexit
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
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


#: System catalogs whose rows are counted; schemas are compared one by one.
CATALOGS = [
    "class",
    "proc",
    "type",
    "operator",
    "opclass",
    "opfamily",
    "collation",
    "conversion",
    "cast",
    "language",
    "am",
    "ts_config",
    "ts_dict",
    "extension",
    "policy",
    "event_trigger",
    "publication",
    "foreign_data_wrapper",
    "foreign_server",
    "default_acl",
    "largeobject_metadata",
    "statistic_ext",
    "transform",
]
STATE_QUERIES = (
    """select pg_encoding_to_char(encoding), datcollate, datctype, datdba, datacl::text, datconnlimit, datallowconn, datistemplate,
        dattablespace, shobj_description(oid, 'pg_database'), (select count(*) from pg_stat_activity a
        where a.datid = d.oid and a.pid <> pg_backend_pid() and a.backend_type = 'client backend')
        from pg_database d where datname = current_database()""",
    """select setrole, setconfig::text from pg_db_role_setting
        where setdatabase = (select oid from pg_database where datname = current_database())""",
    """select nspname, nspowner, nspacl::text, obj_description(oid, 'pg_namespace') from pg_namespace
        where nspname !~ '^pg_(toast_)?temp_' order by 1""",
    """select relname, relacl::text from pg_class where relnamespace = 'pg_catalog'::regnamespace order by 1""",
    "select " + ", ".join(f"(select count(*) from pg_{catalog})" for catalog in CATALOGS),
)


class _EmptyDatabase:
    """An empty PostgreSQL database; it is replaced after ``MAX_USES`` tests, because its catalogs become slow to read."""

    MAX_USES = 40

    def __init__(self) -> None:
        self._server_database = servers.postgresql_database(encoding="UTF8")
        self.url = self._server_database.__enter__()
        self._uses = 0
        with closing(servers.connection(self.url)) as own:
            self._initial_state = self._read_state(own)
        atexit.register(self.drop)  # registered after the private server, so it runs before the server stops

    def _read_state(self, own: psycopg.Connection) -> list[list[tuple[object, ...]]]:
        return [own.execute(sql).fetchall() for sql in STATE_QUERIES]

    def empty(self) -> bool:
        """Drop everything in the database; return whether its state equals the initial one."""
        self._uses += 1
        if self._uses >= self.MAX_USES:
            return False
        with closing(servers.connection(servers.postgresql())) as central:
            for (name,) in central.execute(  # databases that restores created
                "select datname from pg_database where starts_with(datname, %s)", [f"{self.url.path}_"]
            ).fetchall():
                central.execute(f"drop database {ident(name)} with (force)")
        try:
            with closing(servers.connection(self.url)) as own:
                own.execute("set synchronous_commit = off")
                with own.transaction():
                    for (name,) in own.execute(
                        "select nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'"
                    ).fetchall():
                        own.execute(f"drop schema {ident(name)} cascade")
                    # the default since PostgreSQL 15; a database of an earlier version differs from it, and is not reused
                    own.execute("create schema public authorization pg_database_owner")
                    own.execute("grant usage on schema public to public")
                    own.execute("comment on schema public is 'standard public schema'")
                return self._read_state(own) == self._initial_state
        except psycopg.Error:
            return False

    def drop(self) -> None:
        atexit.unregister(self.drop)
        self._server_database.__exit__(None, None, None)


_empty_databases: list[_EmptyDatabase] = []


@contextmanager
def postgresql_database() -> Iterator[Url]:
    """Yield an empty database."""
    database = _empty_databases.pop() if _empty_databases else _EmptyDatabase()
    try:
        yield database.url
    finally:
        if database.empty():
            _empty_databases.append(database)
        else:
            database.drop()
