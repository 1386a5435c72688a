"""What reading and writing have in common: one session, and what its driver says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta

import psycopg
from psycopg import pq

from dbctl import signals
from dbctl.engines.contract import Capability
from dbctl.engines.postgresql.describe import PostgreSQLDescribes
from dbctl.engines.postgresql.errors import Place, translated, unreachable
from dbctl.engines.postgresql.fulltext import PostgreSQLFullText
from dbctl.engines.postgresql.locks import blockers
from dbctl.engines.postgresql.monitoring import (
    PostgreSQLAdvice,
    PostgreSQLChecks,
    PostgreSQLIndexes,
    PostgreSQLMeasures,
    PostgreSQLSessions,
    PostgreSQLSlow,
    PostgreSQLUpkeep,
)
from dbctl.engines.postgresql.session import Session, open_session
from dbctl.engines.postgresql.sql import PostgreSQLQuestions
from dbctl.engines.postgresql.stream import PostgreSQLStreams
from dbctl.engines.postgresql.types import UNMENTIONED, encoded
from dbctl.engines.postgresql.types import translated as sent
from dbctl.engines.servers import connection
from dbctl.engines.sql import Row
from dbctl.errors import DbctlError, QueryFailedError

#: What every session can tell, also one that may write.
TOLD = connection.TOLD | {Capability.CSV}


class PostgreSQLConnection(
    PostgreSQLQuestions,
    PostgreSQLAdvice,
    PostgreSQLChecks,
    PostgreSQLDescribes,
    PostgreSQLIndexes,
    PostgreSQLMeasures,
    PostgreSQLFullText,
    PostgreSQLStreams,
    PostgreSQLSessions,
    PostgreSQLSlow,
    PostgreSQLUpkeep,
):
    """One session on a server."""

    def _open(self) -> None:
        self._tables = None
        try:
            self._session = open_session(self._url, self.target, timeout=self._timeout, reading=self.reading)
        except psycopg.Error as error:
            raise unreachable(error, self.target) from None  # a traceback would show what it was called with

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _is_broken(self) -> bool:
        return self._session is not None and self._session.pgconn.status != pq.ConnStatus.OK

    def _briefly(self, sql: str, parameters: Mapping[str, object], within: timedelta) -> list[Row] | None:
        milliseconds = within // timedelta(milliseconds=1)
        if milliseconds <= 0:  # which would be for ever
            return None
        try:
            with self._asking():
                self._rows(
                    "select set_config('statement_timeout', :limit, true)", {"limit": f"{milliseconds}ms"}
                )
                return self._rows(sql, parameters)
        except QueryFailedError as error:
            if isinstance(error.__cause__, psycopg.errors.QueryCanceled):
                return None
            raise

    @contextmanager
    def _ran(
        self, sql: str, parameters: Mapping[str, object], *, writing: bool
    ) -> Iterator[psycopg.Cursor[Row]]:
        session = self._current()
        text, given = self._sent(sql, parameters)
        with self._told(text, writing=writing), session.cursor() as cursor:
            cursor.execute(encoded(text), given or [UNMENTIONED])
            yield cursor

    def _sent(self, sql: str, parameters: Mapping[str, object]) -> tuple[str, list[object]]:
        try:
            text, given = sent(sql, parameters)
        except KeyError as error:
            raise QueryFailedError(
                target=self.target, reason=f"parameter :{error.args[0]} was not given"
            ) from None
        if "\0" in sql:
            raise QueryFailedError(target=self.target, reason="it holds a NUL")
        return text, given

    @contextmanager
    def _told(self, sql: str, *, writing: bool = False) -> Iterator[None]:
        """Let what the driver raises be a failure of ours."""
        session = self._current()
        try:
            yield
        except psycopg.Error as error:
            signals.check()  # what the driver says of a statement that a signal ended is no failure
            raise self._translated(error, session, sql, writing=writing) from error

    def _translated(self, error: psycopg.Error, session: Session, sql: str, *, writing: bool) -> DbctlError:
        return translated(error, self._place(session), sql, writing=writing, broken=self._is_broken())

    def _place(self, session: Session) -> Place:
        return Place(
            target=self.target,
            timeout=self._timeout,
            user="" if self._is_broken() else session.info.user,
            schema=session.schema,
            blockers=lambda told: self._blockers(told, session.pgconn.backend_pid),
        )

    def _blockers(self, told: str, own: int) -> str:
        return blockers(self._url, self.target, told, own, self._words())

    def _words(self) -> Sequence[str]:
        """Return the words of the statement that runs, where it may change tables."""
        return ()
