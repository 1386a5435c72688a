"""Databases of MySQL that hold what a function makes: one that a test has left whole, or with other rows, serves the next test.

Making tables and dropping them makes the server wait for its disk, a hundred times as long as writing their few rows.
"""

from __future__ import annotations

import atexit
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from time import sleep

import pymysql
from msgspec import structs

from dbctl.engines.sql import ident
from dbctl.url import Url
from tests import servers

Fill = Callable[[pymysql.cursors.Cursor], None]
#: Seconds that a server gets to notice that a session has ended, and between two looks.
NOTICE_SECONDS, LOOK_SECONDS = 2.0, 0.02
_number = count()


class _Made:
    """A database as ``fill`` makes it, and a twin of it that no test sees."""

    def __init__(self, fill: Fill) -> None:
        self._server = servers.mysql()
        # Tests look for what is named like theirs, and must not find the twin.
        number = f"{os.getpid()}_{next(_number)}"
        self.name, self._twin = f"t_{number}_filled", f"twin_{number}"
        with self._own() as cursor:
            for name in (self.name, self._twin):
                cursor.execute(f"create database {ident(name)} character set utf8mb4")
                cursor.execute(f"use {ident(name)}")
                fill(cursor)
            self._sound = self._look(cursor)

    @property
    def url(self) -> Url:
        return structs.replace(self._server, path=self.name)

    @contextmanager
    def _own(self) -> Iterator[pymysql.cursors.Cursor]:
        with closing(servers.mysql_connection(self._server)) as own, own.cursor() as cursor:
            yield cursor

    def _look(self, cursor: pymysql.cursors.Cursor) -> dict[str, tuple[object, ...]]:
        """Return what each table is and a checksum of its rows, and what else there is."""
        whose = [self.name]
        cursor.execute(
            "select table_name, table_type from information_schema.tables where table_schema = %s", whose
        )
        found: dict[str, tuple[object, ...]] = {name: (kind,) for name, kind in cursor.fetchall()}
        for name in found:
            full = f"{ident(self.name)}.{ident(name)}"
            cursor.execute(f"show create table {full}")
            found[name] += cursor.fetchone() or ()
            cursor.execute(f"checksum table {full}")
            found[name] += cursor.fetchone() or ()
        for what, sql in {
            "database": "select default_character_set_name, default_collation_name"
            " from information_schema.schemata where schema_name = %s",
            "triggers": "select trigger_name, action_statement from information_schema.triggers where trigger_schema = %s",
            "routines": "select routine_name, routine_definition from information_schema.routines where routine_schema = %s",
            "events": "select event_name, event_definition from information_schema.events where event_schema = %s",
        }.items():
            cursor.execute(sql, whose)
            found[f"({what})"] = tuple(cursor.fetchall())
        return found

    def _left(self, cursor: pymysql.cursors.Cursor) -> bool:
        """Return whether all sessions of the test have ended."""
        for _ in range(round(NOTICE_SECONDS / LOOK_SECONDS)):
            if not cursor.execute("select id from information_schema.processlist where db = %s", [self.name]):
                return True
            sleep(LOOK_SECONDS)
        return False

    def mend(self) -> bool:
        """Bring back the rows that were there first; return whether all is as it was then."""
        with self._own() as cursor:
            if not self._left(cursor):
                return False
            cursor.execute("select schema_name from information_schema.schemata")
            for (one,) in cursor.fetchall():  # what restores have put beside it
                if one.startswith(f"{self.name}_"):
                    cursor.execute(f"drop database {ident(one)}")
            found = self._look(cursor)
            if found.keys() == self._sound.keys() and found != self._sound:
                self._refill(cursor, [name for name, told in found.items() if told != self._sound[name]])
                found = self._look(cursor)
            return found == self._sound

    def _refill(self, cursor: pymysql.cursors.Cursor, names: Sequence[str]) -> None:
        cursor.execute("set foreign_key_checks = 0")
        cursor.execute("begin")
        nexts = {}
        for name in names:
            cursor.execute(
                "select column_name from information_schema.columns"
                " where table_schema = %s and table_name = %s and generation_expression is null",
                [self._twin, name],
            )
            columns = ", ".join(ident(column) for (column,) in cursor.fetchall())
            if not columns:
                continue  # no table
            here, there = (f"{ident(one)}.{ident(name)}" for one in (self.name, self._twin))
            try:
                cursor.execute(f"delete from {here}")
                cursor.execute(f"insert into {here} ({columns}) select {columns} from {there}")
            except pymysql.Error:
                cursor.execute("rollback")
                return  # it is no longer the same table
            cursor.execute(
                "select auto_increment from information_schema.tables where table_schema = %s and table_name = %s",
                [self._twin, name],
            )
            ((nexts[here],),) = cursor.fetchall()
        cursor.execute("commit")
        for here, following in nexts.items():
            if following is not None:
                cursor.execute(f"alter table {here} auto_increment = {following}")

    def drop(self) -> None:
        with self._own() as cursor:
            for name in (self.name, self._twin):
                cursor.execute(f"drop database if exists {ident(name)}")


_ready: defaultdict[Fill, list[_Made]] = defaultdict(list)


@atexit.register
def _drop_all() -> None:
    for one in [one for some in _ready.values() for one in some]:
        one.drop()


@contextmanager
def mysql_database(fill: Fill) -> Iterator[Url]:
    """Give a database in which ``fill`` alone has worked, as far as can be told, to one test."""
    ready = _ready[fill]
    made = ready.pop() if ready else _Made(fill)
    try:
        yield made.url
    finally:
        if made.mend():
            ready.append(made)
        else:
            made.drop()
