"""A scratch schema, which no other session sees, and which is dropped when its session ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

from dbctl.engines.postgresql.database import WRITER_PARTS, PostgreSQLWriter
from dbctl.engines.postgresql.scripts import PostgreSQLScripts
from dbctl.engines.postgresql.sql import script
from dbctl.engines.sql.catalog import ident
from dbctl.url import Url


class PostgreSQLScratch(PostgreSQLWriter):
    """An empty schema inside a transaction that is never committed; transactions in it are savepoints.

    The role needs the privilege to create schemas in the database. A script that names another schema changes that schema,
    and the rollback includes it.
    """

    PARTS: ClassVar[Mapping[str, str]] = {
        **WRITER_PARTS,
        "ScriptRunner": "dbctl.engines.postgresql.scratch:PostgreSQLScratchScripts",
    }

    def __init__(self, url: Url, target: str) -> None:
        super().__init__(url, target)
        connection, session = self.connection, self.connection.session
        name = f"dbctl_scratch_{session.pgconn.backend_pid}"
        try:
            connection.run("begin isolation level read committed read write")
            self.transactions.depth = self.transactions.base_depth = 1
            connection.fetch(f"create schema {ident(name)}", writing=True)
            session.settings["search_path"] = ident(name)
            connection.apply_settings()
        except BaseException:  # an open connection must not outlive the failure
            self.close()
            raise


class PostgreSQLScratchScripts(PostgreSQLScripts):
    """The part ``ScriptRunner`` of a scratch schema, which no other session uses."""

    @contextmanager
    def outside_transaction(self) -> Iterator[None]:
        with self.schema_transaction():  # no other session is affected
            yield

    def run_statement(self, sql: str) -> None:
        if plain := script.remove_concurrently(sql):
            super().run_statement(plain)
