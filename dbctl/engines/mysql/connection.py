"""What reading and writing have in common: one session, what its driver says, and what it asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import cast

import pymysql

from dbctl import signals
from dbctl.engines.mysql.describe import MySQLDescribes
from dbctl.engines.mysql.errors import ENDING, TOO_LATE, Place, number_of, translated, unreachable
from dbctl.engines.mysql.fulltext import MySQLFullText
from dbctl.engines.mysql.locks import blockers
from dbctl.engines.mysql.monitoring import (
    MySQLAdvice,
    MySQLChecks,
    MySQLIndexes,
    MySQLMeasures,
    MySQLSessions,
    MySQLSlow,
    MySQLUpkeep,
)
from dbctl.engines.mysql.session import Server, Session, open_session, seconds
from dbctl.engines.mysql.sql import why_no_question
from dbctl.engines.mysql.stream import MySQLStreams
from dbctl.engines.mysql.types import translated as sent
from dbctl.engines.servers import ServedConnection
from dbctl.engines.sql import Row, is_storable
from dbctl.errors import DbctlError, QueryFailedError, ValueInvalidError


class MySQLConnection(
    ServedConnection[Session],
    MySQLAdvice,
    MySQLChecks,
    MySQLDescribes,
    MySQLIndexes,
    MySQLMeasures,
    MySQLFullText,
    MySQLSessions,
    MySQLSlow,
    MySQLStreams,
    MySQLUpkeep,
):
    """One session on a server."""

    _ended = ""  #: what was told when a failure ended the transaction that is open here
    _failed = False  #: whether a statement of the transaction that is open here failed

    def _open(self) -> None:
        self._tables = None
        try:
            self._session = open_session(self._url, self.target, timeout=self._timeout, reading=self.reading)
        except pymysql.Error as error:
            raise unreachable(error, self.target) from None  # a traceback would show what it was called with

    @property
    def server(self) -> Server:
        return self._current().server

    def close(self) -> None:
        if self._session is not None:
            self._session.drop()
            self._session = None

    def _is_broken(self) -> bool:
        return self._session is not None and not self._session.open

    def _briefly(self, sql: str, parameters: Mapping[str, object], within: timedelta) -> list[Row] | None:
        milliseconds = within // timedelta(milliseconds=1)
        if milliseconds <= 0:  # which would be for ever
            return None
        limited = (
            f"set statement max_statement_time = {milliseconds / 1000} for {sql}"
            if self.server.is_mariadb
            else sql.replace("select", f"select /*+ MAX_EXECUTION_TIME({milliseconds}) */", 1)
        )
        try:
            return self._rows(limited, parameters)
        except QueryFailedError as error:
            if number_of(error.__cause__) in TOO_LATE:
                return None
            raise

    def _told_rows(self, sql: str, parameters: Mapping[str, object]) -> list[dict[str, object]]:
        with self._ran(sql, parameters, writing=False) as cursor:
            names = [str(one[0]) for one in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cast("list[Row]", cursor.fetchall())]

    @contextmanager
    def _ran(
        self, sql: str, parameters: Mapping[str, object], *, writing: bool
    ) -> Iterator[pymysql.cursors.Cursor]:
        session = self._current()
        try:
            text = sent(sql, parameters, escapes=session.server.escapes)
        except KeyError as error:
            raise QueryFailedError(
                target=self.target, reason=f"parameter :{error.args[0]} was not given"
            ) from None
        if not is_storable(text):
            if "\0" in text:
                raise QueryFailedError(target=self.target, reason="it holds a NUL")
            raise ValueInvalidError(what="statement", value="given", reason="it is not valid UTF-8")
        with self._told(sql, writing=writing), session.cursor() as cursor:
            cursor.execute(text)
            yield cursor

    @contextmanager
    def _told(self, sql: str, *, writing: bool = False) -> Iterator[None]:
        """Let what the driver raises be a failure of ours."""
        session = self._current()
        try:
            yield
        except pymysql.Error as error:
            signals.check()  # what the driver says of a statement that a signal ended is no failure
            self._failed = self._failed or writing
            if number_of(error) in ENDING:
                self._ended = str(number_of(error))
            raise translated(
                error, self._place(session), sql, writing=writing, broken=self._is_broken()
            ) from error
        except UnicodeDecodeError as error:
            self._abandon(session)
            reason = "the answer holds text that is not valid Unicode (half of a surrogate pair)"
            raise QueryFailedError(target=self.target, reason=reason) from error
        except BaseException:  # a signal, wherever in the driver it came
            if session.in_flight or self._is_broken():
                self._abandon(session)
            raise

    def _abandon(self, session: Session) -> None:
        """Make the server stop what nobody waits for any more; it would go on, and hold its locks."""
        session.drop()
        with suppress(pymysql.Error, DbctlError):
            asking = open_session(self._url, self.target, timeout=1, reading=True)
            try:
                asking.run(f"kill {session.number}")
            finally:
                asking.drop()

    def _place(self, session: Session) -> Place:
        return Place(
            target=self.target,
            timeout=seconds(self._timeout, session.server),
            account=session.account,
            database=session.database,
            blockers=lambda: blockers(self._url, self.target, session),
        )

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        """Run what a profile or a person wrote: one statement, in a transaction that the server lets write nothing."""
        if reason := why_no_question(sql):
            raise QueryFailedError(target=self.target, reason=reason)
        with self._asking():
            return self._rows(sql, parameters)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Begin what cannot write, and end it without a trace.

        Inside a transaction that writes, a server cannot forbid it for a while; what was written is taken back.
        """
        inside, failed = self._current().transacting, self._failed
        begin, end = (
            ("savepoint question", "rollback to savepoint question")
            if inside
            else ("start transaction with consistent snapshot, read only", "rollback")
        )
        self._say(begin)
        self._asks = True
        try:
            yield
        finally:
            self._asks = False
            if self._session is not None and not self._is_broken() and not self._ended:
                self._say(end)
                self._failed = failed
