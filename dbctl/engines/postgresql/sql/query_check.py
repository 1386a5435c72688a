"""Questions of profiles and people: answered in a transaction that can write nothing, as their rows come."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from itertools import chain, islice
from typing import cast

import psycopg
from psycopg import capabilities, pq

from dbctl.engines.contract import BATCH, Answer
from dbctl.engines.postgresql.explain import PostgreSQLPlans
from dbctl.engines.postgresql.session import Session
from dbctl.engines.postgresql.sql import read_only
from dbctl.engines.postgresql.types import UNMENTIONED, Exact, encoded
from dbctl.engines.servers import ServedConnection
from dbctl.engines.sql import Row
from dbctl.errors import QueryFailedError, SecretAskedError, TimeUpError

#: Rows that come together; before its version 17, libpq hands them on one by one.
TOGETHER = BATCH if capabilities.has_stream_chunked() else 1


class PostgreSQLQuestions(ServedConnection[Session], PostgreSQLPlans):
    """The questions of Capability.STREAM, and those of profiles."""

    sql_dialect = "postgres"

    def view_queries(self) -> Mapping[str, str]:
        from dbctl.engines.postgresql.schema import VIEWS

        return {str(name): str(query) for name, query in self._fetch(VIEWS, {})}

    @abstractmethod
    def _sent(self, sql: str, parameters: Mapping[str, object]) -> tuple[str, list[object]]:
        """Return a statement as the server reads it, and its parameters."""

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        """Run what a profile or a person wrote: one statement, in a transaction that the server lets write nothing.

        Whatever it sets, the end of the transaction takes back.
        """
        self._refuse_what_is_no_question(sql)
        with self._asking():
            return self._rows(sql, parameters)

    def _refuse_what_is_no_question(self, sql: str) -> None:
        first = read_only.first_word(sql)
        if first not in read_only.ASKING:
            raise QueryFailedError(target=self.target, reason=f"{first.upper() or 'nothing'} is no question")

    @contextmanager
    def ask(
        self,
        sql: str,
        parameters: Mapping[str, object] = {},
        *,
        within: timedelta | None = None,
        hidden: Mapping[str, Collection[str]] = {},
    ) -> Iterator[Answer]:
        self._refuse_what_is_no_question(sql)
        session = self._current()
        with self._asking():
            self._refuse_what_reaches_out(sql)
            if hidden:
                self._refuse_secrets(sql, parameters, hidden)
            if within is not None:
                limit = f"{max(1, within // timedelta(milliseconds=1))}ms"
                self._rows("select set_config('statement_timeout', :limit, true)", {"limit": limit})
            with self._in_time(within), self._told(sql), session.cursor() as cursor:
                cursor.adapters.register_loader("numeric", Exact)
                text, given = self._sent(sql, parameters)
                rows = cursor.stream(encoded(text), given or [UNMENTIONED], size=TOGETHER)
                with closing(cast("Generator[Row]", rows)):
                    first_row = next(rows, None)
                    if first_row is None:
                        yield Answer(_columns_of(session, text), iter(()))
                    else:
                        told = [column.name for column in cursor.description or ()]
                        yield Answer(told, _batches(chain((first_row,), rows)))

    @contextmanager
    def _in_time(self, within: timedelta | None) -> Iterator[None]:
        try:
            yield
        except QueryFailedError as error:
            if within is None or not isinstance(error.__cause__, psycopg.errors.QueryCanceled):
                raise
            lasted = f"{within.total_seconds():g} s"
            raise TimeUpError(
                target=self.target, within=lasted, instead="--within gives it longer."
            ) from error

    def _refuse_secrets(
        self, sql: str, parameters: Mapping[str, object], hidden: Mapping[str, Collection[str]]
    ) -> None:
        asked = read_only.explained(sql)
        first = read_only.first_word(asked)
        if first not in read_only.PLANNED:
            if asked != sql and first not in read_only.CHANGING:
                raise QueryFailedError(target=self.target, reason=f"EXPLAIN {first.upper()} is no question")
            return
        hidden = self._with_heirs(hidden)
        secret = read_only.renamed(asked, hidden)
        if not secret:
            ((plan,),) = self._rows(f"explain (verbose, costs off, format json) {asked}", parameters)
            secret = read_only.secrets_read(str(plan), hidden)
        if secret:
            raise SecretAskedError(target=self.target, what=secret)

    def _with_heirs(self, hidden: Mapping[str, Collection[str]]) -> dict[str, Collection[str]]:
        """Return hidden columns with those of partitions and other tables that inherit them."""
        rows = self._rows(read_only.HEIRS, {"names": list(hidden)})
        return {**hidden, **{str(heir): hidden[str(table)] for heir, table in rows if heir not in hidden}}

    def _refuse_what_reaches_out(self, sql: str) -> None:
        names, strange = read_only.called(sql)
        if strange:
            raise QueryFailedError(
                target=self.target, reason="it spells a name as U&, which hides what it calls"
            )
        rows = self._rows(read_only.VOLATILE, {"names": names}) if names else []
        found = [name for name in names if read_only.RUNNING.fullmatch(name)]
        found += [str(name) for (name,) in rows if name not in read_only.HARMLESS]
        if found:
            reason = f"{found[0]} does more than read, and no transaction takes that back"
            raise QueryFailedError(target=self.target, reason=reason)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Begin what cannot write, and end it without a trace."""
        inside = self._current().pgconn.transaction_status == pq.TransactionStatus.INTRANS
        begin, end = (
            (
                ("savepoint question", "set transaction read only"),
                ("rollback to question", "release question"),
            )
            if inside
            else (("begin isolation level repeatable read read only",), ("rollback",))
        )
        for sql in begin:
            self._say(sql)
        self._asks = True
        try:
            yield
        finally:
            self._asks = False
            if self._session is not None and not self._is_broken():
                for sql in end:
                    self._say(sql)


def _columns_of(session: Session, sql: str) -> list[str]:
    """Return the columns of a statement that has answered nothing, for which the driver tells none."""
    session.pgconn.prepare(b"", encoded(sql))
    told = session.pgconn.describe_prepared(b"")
    return [(told.fname(at) or b"").decode(errors="surrogateescape") for at in range(told.nfields)]


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while batch := list(islice(rows, BATCH)):
        yield batch
