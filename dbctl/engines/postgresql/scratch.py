"""A schema in which something is tried: nobody else sees it, and it is gone with its session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dbctl.engines.postgresql.sql import script
from dbctl.engines.postgresql.writer import PostgreSQLWriter
from dbctl.engines.sql import ident
from dbctl.url import Url


class PostgreSQLScratch(PostgreSQLWriter):
    """An empty schema inside a transaction that is never committed; what begins here is a savepoint of it.

    The role needs the right to create schemas in the database. What a script says of another schema by its name it
    does there, and that is taken back, too.
    """

    def __init__(self, url: Url, target: str) -> None:
        super().__init__(url, target)
        session = self._current()
        name = f"dbctl_scratch_{session.pgconn.backend_pid}"
        try:
            self._say("begin isolation level read committed read write")
            self._depth = self._outermost = 1
            self._rows(f"create schema {ident(name)}", {}, writing=True)
            session.settings["search_path"] = ident(name)
            self._settle()
        except BaseException:  # an open connection must not outlive the failure
            self.close()
            raise

    @contextmanager
    def step_by_step(self) -> Iterator[None]:
        with self.schema_transaction():  # nobody else is there, for whose sake it would have to be outside
            yield

    def run_statement(self, sql: str) -> None:
        if plain := script.inside(sql):
            super().run_statement(plain)
