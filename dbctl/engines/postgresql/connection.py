"""What reading and writing have in common: one session, what runs on it, and who is waited for."""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from itertools import chain, islice
from typing import cast

import psycopg
from psycopg import capabilities, pq

from dbctl import interrupt
from dbctl.engines.base import Capability
from dbctl.engines.postgresql import questions
from dbctl.engines.postgresql.advice import PostgreSQLAdvice
from dbctl.engines.postgresql.checks import PostgreSQLChecks
from dbctl.engines.postgresql.describes import PostgreSQLDescribes
from dbctl.engines.postgresql.failures import Place, translated, unreachable
from dbctl.engines.postgresql.fulltext import PostgreSQLFullText
from dbctl.engines.postgresql.indexes import PostgreSQLIndexes
from dbctl.engines.postgresql.measures import PostgreSQLMeasures
from dbctl.engines.postgresql.parameters import translated as sent
from dbctl.engines.postgresql.session import Session, open_session
from dbctl.engines.postgresql.sessions import PostgreSQLSessions
from dbctl.engines.postgresql.slow import PostgreSQLSlow
from dbctl.engines.postgresql.stream import PostgreSQLStreams
from dbctl.engines.postgresql.upkeep import PostgreSQLUpkeep
from dbctl.engines.postgresql.values import Exact
from dbctl.engines.sql import Row
from dbctl.engines.transfer import BATCH, Answer
from dbctl.errors import DbctlError, QueryFailedError, SecretAskedError, TimeUpError, ValueInvalidError
from dbctl.url import Url

#: A parameter that a statement does not mention: without any, the driver sends what may be several statements.
UNMENTIONED = 0
#: Rows that come together; before its version 17, libpq hands them on one by one.
TOGETHER = BATCH if capabilities.has_stream_chunked() else 1

#: Who holds more than a reader's lock in this database, those first who have done so longest. Whoever waits for a row
#: is not told whose it is, but that one holds a lock on its table, too.
HOLDERS = """select a.pid, coalesce(nullif(a.application_name, ''), a.backend_type), a.usename, host(a.client_addr)
from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.granted and a.datname = current_database() and l.locktype in ('relation', 'transactionid')
  and l.mode <> 'AccessShareLock' and a.pid <> all($1::int4[]) and a.wait_event_type is distinct from 'Lock'
  and (l.relation is not null and l.relation = pg_catalog.to_regclass($2) or $2 is null)
group by 1, 2, 3, 4, a.xact_start order by a.xact_start nulls last limit 3"""
NAMED = """select a.pid, coalesce(nullif(a.application_name, ''), a.backend_type), a.usename, host(a.client_addr)
from pg_catalog.pg_stat_activity a where a.pid = any($1::int4[])"""
_BLOCKED_BY = re.compile(r"blocked by process (\d+)")
_RELATION = re.compile(r'in relation "(.*)"')


#: What every session can tell, also one that may write.
TOLD = frozenset(
    {
        Capability.ADVISE,
        Capability.BLOAT,
        Capability.CHECK,
        Capability.CSV,
        Capability.EXPLAIN,
        Capability.FULL_TEXT,
        Capability.INDEXES,
        Capability.MAINTAIN,
        Capability.MEASURE,
        Capability.SCHEMA,
        Capability.SESSIONS,
        Capability.SLOW,
        Capability.STREAM,
    }
)


class PostgreSQLConnection(
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
    """One session. Services share no connection between threads, and neither does this."""

    reading = True  #: whether it is opened for reading only
    _asks = False  #: whether a transaction for a question is open, which a new session would not have

    def __init__(self, url: Url, target: str, *, timeout: float = 5.0) -> None:
        """Open the database at ``url``, waiting at most ``timeout`` seconds whenever somebody else holds a lock."""
        self.target = target
        self._url, self._timeout = url, timeout
        self._session: Session | None = None
        self._open()

    def _open(self) -> None:
        self._tables = None
        try:
            self._session = open_session(self._url, self.target, timeout=self._timeout, reading=self.reading)
        except psycopg.Error as error:
            raise unreachable(error, self.target) from None  # a traceback would show what it was called with

    @property
    def url(self) -> Url:
        return self._url

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _current(self) -> Session:
        if self._session is None:
            raise RuntimeError(f"{self.target} is closed")
        return self._session

    def _fetch(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        return self._rows(sql, parameters)

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

    def _rows(self, sql: str, parameters: Mapping[str, object], *, writing: bool = False) -> list[Row]:
        with self._ran(sql, parameters, writing=writing) as cursor:
            return cursor.fetchall() if cursor.description else []

    def _count(self, sql: str, parameters: Mapping[str, object]) -> int:
        """Run one writing statement and return how many rows it touched."""
        with self._ran(sql, parameters, writing=True) as cursor:
            return cursor.rowcount

    @contextmanager
    def _ran(
        self, sql: str, parameters: Mapping[str, object], *, writing: bool
    ) -> Iterator[psycopg.Cursor[Row]]:
        session = self._current()
        text, given = self._sent(sql, parameters)
        with self._told(text, writing=writing), session.cursor() as cursor:
            cursor.execute(_encoded(text), given or [UNMENTIONED])
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
            interrupt.check()  # what the driver says of a statement that a signal ended is no failure
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
        """Return " by psql (pid 4711, user bob)" for who holds what was waited for, or "" where that is unknown.

        A second connection asks: on this one the transaction has failed.
        """
        blocked, relation = _BLOCKED_BY.findall(told), _RELATION.search(told)
        with (
            suppress(psycopg.Error),
            open_session(self._url, self.target, timeout=1, reading=True) as asking,
        ):
            mine = [own, asking.pgconn.backend_pid]
            others = [int(pid) for pid in blocked if int(pid) not in mine]
            if others:
                return _named(asking.execute(NAMED.encode(), [others]).fetchall())
            rows = []
            if relation:
                quoted = '"' + relation[1].replace('"', '""') + '"'
                rows = asking.execute(HOLDERS.encode(), [mine, quoted]).fetchall()
            return _named(rows or asking.execute(HOLDERS.encode(), [mine, None]).fetchall())
        return ""

    def _say(self, sql: str) -> None:
        """Run one of the statements that begin and end transactions; a failed one ends by none with parameters."""
        session = self._current()
        with self._told(sql):
            session.execute(sql.encode())

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        """Run what a profile or a person wrote: one statement, in a transaction that the server lets write nothing.

        Whatever it sets, the end of the transaction takes back.
        """
        self._refuse_what_is_no_question(sql)
        with self._asking():
            return self._rows(sql, parameters)

    def _refuse_what_is_no_question(self, sql: str) -> str:
        """Return the word that a statement begins with."""
        first = questions.first_word(sql)
        if first not in questions.ASKING:
            raise QueryFailedError(target=self.target, reason=f"{first.upper() or 'nothing'} is no question")
        return first

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
                rows = cursor.stream(_encoded(text), given or [UNMENTIONED], size=TOGETHER)
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
        asked = questions.explained(sql)
        first = questions.first_word(asked)
        if first not in questions.PLANNED:
            if asked != sql and first not in questions.CHANGING:
                raise QueryFailedError(target=self.target, reason=f"EXPLAIN {first.upper()} is no question")
            return
        hidden = self._with_heirs(hidden)
        secret = questions.renamed(asked, hidden)
        if not secret:
            ((plan,),) = self._rows(f"explain (verbose, costs off, format json) {asked}", parameters)
            secret = questions.secrets_read(str(plan), hidden)
        if secret:
            raise SecretAskedError(target=self.target, what=secret)

    def _with_heirs(self, hidden: Mapping[str, Collection[str]]) -> dict[str, Collection[str]]:
        """Return hidden columns with those of partitions and other tables that inherit them."""
        rows = self._rows(questions.HEIRS, {"names": list(hidden)})
        return {**hidden, **{str(heir): hidden[str(table)] for heir, table in rows if heir not in hidden}}

    def _refuse_what_reaches_out(self, sql: str) -> None:
        names, strange = questions.called(sql)
        if strange:
            raise QueryFailedError(
                target=self.target, reason="it spells a name as U&, which hides what it calls"
            )
        rows = self._rows(questions.VOLATILE, {"names": names}) if names else []
        found = [name for name in names if questions.RUNNING.fullmatch(name)]
        found += [str(name) for (name,) in rows if name not in questions.HARMLESS]
        if found:
            reason = f"{found[0]} does more than read, and no transaction takes that back"
            raise QueryFailedError(target=self.target, reason=reason)

    def _is_broken(self) -> bool:
        return self._session is not None and self._session.pgconn.status != pq.ConnStatus.OK

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
    session.pgconn.prepare(b"", _encoded(sql))
    told = session.pgconn.describe_prepared(b"")
    return [(told.fname(at) or b"").decode(errors="surrogateescape") for at in range(told.nfields)]


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while batch := list(islice(rows, BATCH)):
        yield batch


def _encoded(sql: str) -> bytes:
    try:
        return sql.encode()
    except UnicodeEncodeError:
        raise ValueInvalidError(what="statement", value="given", reason="it is not valid UTF-8") from None


def _named(rows: list[Row]) -> str:
    told = [
        f"{name} (pid {pid}, user {user}{f', from {host}' if host else ''})"
        for pid, name, user, host in cast("list[tuple[int, str, str, str | None]]", rows)
    ]
    return f" by {', '.join(told)}" if told else ""
