"""Locks on tables of engines without snapshots, while a program dumps them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pymysql

from dbctl.engines.mysql.connection.connection import MySQLConnection
from dbctl.engines.mysql.connection.opening import open_session
from dbctl.engines.mysql.connection.session import Session
from dbctl.engines.mysql.errors import error_number, format_reason, quote, translate_error, unreachable_error
from dbctl.engines.servers.database import NO_BACKUP
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import PrivilegeMissingError
from dbctl.errors.usage import NotSupportedError

#: Tables of engines without snapshots, which cannot be read consistently while others write.
TABLES_WITHOUT_SNAPSHOT = """select table_name, engine from information_schema.tables where table_schema = database()
and table_type in ('BASE TABLE', 'SYSTEM VERSIONED') and engine not in ('InnoDB', 'ROCKSDB') order by 1"""
#: Engines whose rows the program dumps completely, and whose tables a read lock keeps unchanged.
LOCKED_ENGINES = frozenset({"MyISAM", "Aria", "MEMORY", "CSV", "ARCHIVE"})
#: The longest idle timeout that every server accepts, in seconds.
LONGEST_IDLE = 2_147_483
#: Error numbers: the user may not lock a whole database, or a table.
DENIED = frozenset({1044, 1142})


class TableLocks:
    """The locks that a dump of a database needs."""

    def __init__(self, connection: MySQLConnection) -> None:
        self._connection = connection

    def are_required(self) -> bool:
        return bool(self._connection.fetch(TABLES_WITHOUT_SNAPSHOT))

    def find(self, tables: Sequence[str]) -> list[str]:
        """Return the tables that need a lock for a consistent dump, because their engines have no snapshots.

        Raises:
            NotSupportedError: the dump program omits the rows of a table, or no lock keeps it unchanged.
        """
        engines = [
            (str(name), str(engine))
            for name, engine in self._connection.fetch(TABLES_WITHOUT_SNAPSHOT)
            if not tables or name in tables
        ]
        others = [(name, engine) for name, engine in engines if engine not in LOCKED_ENGINES]
        if others:
            raise NotSupportedError(
                feature=f"a consistent dump of {', '.join(name for name, _ in others)}",
                subject=f"{self._connection.target}: tables of engine {others[0][1]} cannot be locked, or the dump program omits their rows",
                hint=f"Nothing was created. With the app stopped: ALTER TABLE {quote(others[0][0])} ENGINE=InnoDB;"
                " a table that only shows rows of other tables can be dropped, and created again after the backup.",
            )
        return [name for name, _ in engines]

    @contextmanager
    def acquire(self, tables: Sequence[str]) -> Iterator[Callable[[], None]]:
        """Lock ``tables`` against writes while the program reads them; yield a function that fails if the lock was lost.

        The lock begins before the program starts and ends after it, so these tables are the same at the time of its snapshot.

        Raises:
            BusyError: another session wrote to one of them for the whole timeout.
            PrivilegeMissingError: this user may not lock tables.
        """
        if not tables:
            yield lambda: None
            return
        session = open_dump_session(self._connection)
        sql = f"lock tables {', '.join(f'{quote(name)} read' for name in tables)}"
        try:
            try:
                session.run(f"set session wait_timeout = {LONGEST_IDLE}")
                session.run(sql)
            except pymysql.Error as error:
                raise self._lock_error(error, session, sql) from error

            def check() -> None:
                try:
                    session.run("do 0")
                except pymysql.Error as error:
                    raise self._lock_error(error, session, sql) from error

            yield check
        finally:
            session.drop()

    def _lock_error(self, error: pymysql.Error, session: Session, sql: str) -> DbctlError:
        if error_number(error) in DENIED:
            grant = f"GRANT LOCK TABLES ON {quote(session.database)}.* TO {session.account};"
            return PrivilegeMissingError(
                target=self._connection.target,
                reason=format_reason(error),
                hint=f"{NO_BACKUP} As an administrator: {grant}",
            )
        return translate_error(
            error, self._connection.error_context(session), sql, writing=False, broken=not session.open
        )


def open_dump_session(connection: MySQLConnection) -> Session:
    try:
        session = open_session(connection.url, connection.target, timeout=connection.timeout, read_only=True)
    except pymysql.Error as error:
        raise unreachable_error(error, connection.target) from None
    session.run("set names utf8mb4")
    # In a read-only transaction, the server does not show views with a sequence.
    session.run("set session transaction read write")
    return session
