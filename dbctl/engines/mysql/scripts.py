"""Run scripts that change the schema."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dbctl.engines.contract.schema import ScriptDialect
from dbctl.engines.mysql.connection.connection import MySQLConnection
from dbctl.engines.mysql.connection.transactions import MySQLTransactions
from dbctl.engines.mysql.sql import script
from dbctl.engines.servers.database import ServerScripts
from dbctl.engines.sql.catalog import ident
from dbctl.errors.connection import QueryFailedError

OBJECTS = """select case table_type when 'VIEW' then 'view' when 'SEQUENCE' then 'sequence' else 'table' end, table_name
from information_schema.tables where table_schema = database()
union all select lower(routine_type), routine_name from information_schema.routines where routine_schema = database()
union all select 'event', event_name from information_schema.events where event_schema = database()"""

#: Packages of MariaDB, and their bodies, which are dropped with them.
PACKAGES = ("package", "package body")


class MySQLScripts(ServerScripts):
    """The part ``ScriptRunner``."""

    script_dialect: ScriptDialect = script.SCRIPTS
    transactional_ddl = False  # schema changes commit
    lock_attempts = 1
    _connection: MySQLConnection
    _transactions: MySQLTransactions

    @contextmanager
    def schema_transaction(self, *, short_waits: bool = False) -> Iterator[None]:
        del short_waits  # each statement commits, and has a separate timeout
        if self._transactions.depth:
            raise RuntimeError("a schema change inside another transaction")
        with self._restore_settings(), self._transactions.transaction():
            yield

    def may_have_deleted(self, table: str) -> bool:
        del table  # the server does not report it
        return True

    def cleanup_statements(self, sql: str) -> Sequence[str]:
        del sql  # a failed statement is rolled back entirely
        return ()

    def drop_statements(self) -> Sequence[str]:
        objects = self._connection.fetch(OBJECTS)
        drops = [
            f"drop {kind} if exists {ident(str(name))}" for kind, name in objects if kind not in PACKAGES
        ]
        packages = [
            f"drop package if exists {ident(str(name))}" for kind, name in objects if kind == PACKAGES[0]
        ]
        if packages:
            oracle = "set session sql_mode = concat(@@session.sql_mode, ',ORACLE')"
            packages = [oracle, *packages]
        return ["set foreign_key_checks = 0", *drops, "set foreign_key_checks = 1", *packages]

    def run_definition(self, statement: bytes) -> None:
        """Run a statement of the server in the character set and the mode of the session."""
        self._transactions.require()
        self._connection.execute_text(statement)
        self._begin_again()

    def run_statement(self, sql: str) -> None:
        if reason := script.SCRIPTS.unsupported_reason(sql):
            raise QueryFailedError(target=self._connection.target, reason=reason)
        if self._in_step_mode and not self._transactions.depth:
            try:
                self._connection.fetch(sql, writing=True)
            finally:
                self._catalog.forget()
                # No transaction is open.
                self._transactions.forget_errors()
            return
        self._transactions.require()
        self._connection.fetch(sql, writing=True)
        self._begin_again()

    def _begin_again(self) -> None:
        self._connection.run("commit")  # each step commits; the server may have done so already
        self._connection.run("start transaction read write")
        self._catalog.forget()
