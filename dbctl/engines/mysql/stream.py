"""Rows of a server as they come, and the questions of people."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import cast

from pymysql.constants import FIELD_TYPE
from pymysql.cursors import SSCursor

from dbctl import signals
from dbctl.engines.contract import BATCH, Answer, Column
from dbctl.engines.mysql.errors import TOO_LATE, number_of
from dbctl.engines.mysql.explain import MySQLPlans
from dbctl.engines.mysql.session import Session
from dbctl.engines.mysql.sql import reaching, secret_named, why_no_question
from dbctl.engines.mysql.types import TIMES, kind_of, of_csv, of_json
from dbctl.engines.mysql.types import translated as sent
from dbctl.engines.sql import Row
from dbctl.errors import QueryFailedError, SecretAskedError, TimeUpError

#: How far a recursion may go: MariaDB would break off at the thousandth step, and give what it has as the answer.
MOST_ITERATIONS = 4_294_967_295
EXACT = {FIELD_TYPE.DECIMAL: Decimal, FIELD_TYPE.NEWDECIMAL: Decimal}

VIEWS = """select table_name, view_definition from information_schema.views
where table_schema = database() order by 1"""


class MySQLStreams(MySQLPlans):
    """Capability.STREAM."""

    sql_dialect = "mysql"

    def view_queries(self) -> Mapping[str, str]:
        return {str(name): str(query or "") for name, query in self._fetch(VIEWS, {})}

    @abstractmethod
    def _current(self) -> Session: ...

    @abstractmethod
    def _told(self, sql: str, *, writing: bool = False) -> AbstractContextManager[None]:
        """Let what the driver raises be a failure of ours."""

    @abstractmethod
    def _asking(self) -> AbstractContextManager[None]:
        """Begin what cannot write, and end it without a trace."""

    @abstractmethod
    def _abandon(self, session: Session) -> None:
        """Make the server stop what nobody waits for any more."""

    def stream(self, table: str, columns: Sequence[str]) -> AbstractContextManager[Answer]:
        names = ", ".join(
            _exactly(self._described(table, one), self._column(table, one, "")) for one in columns
        )
        return self._flow(f"select {names} from {self._table(table)}", columns)  # noqa: S608 - names are checked and quoted

    @contextmanager
    def exactly(self) -> Iterator[None]:
        session = self._current()
        before = session.decoders
        session.decoders = {**before, **EXACT}
        try:
            yield
        finally:
            session.decoders = before

    def of_csv(self, table: str, column: str) -> Callable[[str, bool], object]:
        return of_csv(self._described(table, column))

    def of_json(self, table: str, column: str) -> Callable[[object], object]:
        return of_json(self._described(table, column))

    @contextmanager
    def ask(
        self,
        sql: str,
        parameters: Mapping[str, object] = {},
        *,
        within: timedelta | None = None,
        hidden: Mapping[str, Collection[str]] = {},
    ) -> Iterator[Answer]:
        if reason := why_no_question(sql):
            raise QueryFailedError(target=self.target, reason=reason)
        if name := reaching(sql):
            reason = f"{name} does more than read, and no transaction takes that back"
            raise QueryFailedError(target=self.target, reason=reason)
        if secret := secret_named(sql, hidden):
            raise SecretAskedError(target=self.target, what=secret)
        try:
            text = sent(sql, parameters, escapes=self._current().server.escapes)
        except KeyError as error:
            raise QueryFailedError(
                target=self.target, reason=f"parameter :{error.args[0]} was not given"
            ) from None
        with self._asking(), self._limited(within), self._flow(text) as answer:
            yield answer

    @contextmanager
    def _limited(self, within: timedelta | None) -> Iterator[None]:
        session = self._current()
        limits: dict[str, object] = {}
        if session.server.is_mariadb:
            limits["max_recursive_iterations"] = MOST_ITERATIONS
        if within is not None:
            brief = max(within, timedelta(milliseconds=1))
            if session.server.is_mariadb:
                limits["max_statement_time"] = brief / timedelta(seconds=1)
            else:
                limits["max_execution_time"] = brief // timedelta(milliseconds=1)
        with self._told("set"):
            for name, value in limits.items():
                session.run(f"set session {name} = {value}")
        try:
            yield
        except QueryFailedError as error:
            if within is None or number_of(error.__cause__) not in TOO_LATE:
                raise
            lasted = f"{within.total_seconds():g} s"
            raise TimeUpError(
                target=self.target, within=lasted, instead="--within gives it longer."
            ) from error
        finally:
            if session.open:
                with self._told("set"):
                    for name in limits:
                        session.run(f"set session {name} = default")

    @contextmanager
    def _flow(self, sql: str, columns: Sequence[str] | None = None) -> Iterator[Answer]:
        session = self._current()
        with self.exactly(), self._told(sql):
            cursor = session.cursor(SSCursor)
            try:
                cursor.execute(sql)
                names = [str(one[0]) for one in cursor.description or ()]
                yield Answer(columns or names, _batches(cursor))
            finally:
                self._end(session, cursor)

    def _end(self, session: Session, cursor: SSCursor) -> None:
        """End an answer; the driver would read on to its last row, so what nobody reads ends with its session."""
        left = session._result  # type: ignore[attr-defined]  # noqa: SLF001 - the driver tells it nowhere else
        if left is not None and left.unbuffered_active:
            if session.open:
                self._abandon(session)
                session._force_close()  # type: ignore[attr-defined]  # noqa: SLF001 - as above
            left.unbuffered_active, left.connection = False, None
            cursor.connection = None  # type: ignore[assignment]
        else:
            cursor.close()


def _batches(cursor: SSCursor) -> Iterator[list[Row]]:
    while rows := cast("list[Row]", list(cursor.fetchmany(BATCH))):
        signals.check()
        yield rows


def _exactly(column: Column, name: str) -> str:
    """Return SQL for a column as the server writes it, with every digit."""
    kind = kind_of(column)
    if kind in TIMES:
        return f"cast({name} as char)"
    return f"({name} + 0e0)" if column.type.startswith("FLOAT") else name
