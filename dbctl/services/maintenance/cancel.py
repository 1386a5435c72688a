"""Cancel statements of server sessions: by PID, or by duration."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta

from dbctl import signals
from dbctl.engines.contract.monitoring import ServerMonitor, Session
from dbctl.errors.connection import PrivilegeMissingError
from dbctl.errors.usage import NotSupportedError, SessionMissingError, UsageError
from dbctl.model import ChangeResult, Effect, Plan, Row, Struct, format_count
from dbctl.services.app.app import App
from dbctl.services.app.change import Operation
from dbctl.services.app.results import selected_databases
from dbctl.services.stats.connections import NO_SERVER_HINT, require_sessions

#: Seconds between two checks whether the statements have ended.
POLL_SECONDS = 0.05


class CancelledSession(Struct, frozen=True, kw_only=True):
    """A session whose statement was cancelled."""

    pid: int
    user: str
    application: str
    query: str
    ended: bool  #: whether it ended before the timeout


class CancelResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``maintain cancel``."""

    sessions: Sequence[CancelledSession]

    @property
    def effect(self) -> Effect | None:
        if not self.sessions:
            return None
        counts = {"still running": sum(not session.ended for session in self.sessions)}
        return Effect("cancelled", "session", count=len(self.sessions), counts=counts)

    @property
    def remarks(self) -> Sequence[str]:
        running = [str(session.pid) for session in self.sessions if not session.ended]
        return [f"still running: {', '.join(running)}; --terminate ends the session"] if running else []

    def summary(self) -> Sequence[Row]:
        return [
            {field: getattr(session, field) for field in session.__struct_fields__}
            for session in self.sessions
        ]


class CancelSessions(Operation):
    """Cancel the statements of sessions, selected by PID or by duration."""

    def __init__(
        self,
        app: App,
        pids: Sequence[int] = (),
        *,
        older_than: timedelta | None = None,
        terminate: bool = False,
    ) -> None:
        """Validate the selection.

        Args:
            app: the app.
            pids: the sessions.
            older_than: instead of ``pids``, sessions whose statement has been running for longer; with ``terminate``, also
                idle sessions whose transaction has been open for longer.
            terminate: whether to end the sessions too.

        Raises:
            UsageError: no selection, or both.
            ReadOnlyError: dbctl may not write the database.
            NotSupportedError: no database of the app is on a server.
        """
        if bool(pids) == (older_than is not None):
            raise UsageError(detail="either PIDs or --older-than are required, not both")
        self._name = _select_database(app)
        super().__init__(app, app.target(self._name))
        self._pids, self._older_than, self._terminate = pids, older_than, terminate
        self._confirmed: set[tuple[int, str]] | None = None  #: PID and statement of the sessions of the plan

    def plan(self) -> Plan:
        sessions = self._select_sessions()
        self._confirmed = {(session.pid, session.statement_id) for session in sessions}
        noun = "session" if self._terminate else "statement"
        steps = [_describe_session(session) for session in sessions]
        return self._create_plan(f"Cancel {format_count(len(sessions), noun)}", steps, destructive=True)

    def apply(self, confirmed: str | None = None) -> CancelResult:
        """Cancel the statements, and wait until they end; after a ``confirmed`` plan, not those that began later.

        Raises:
            PrivilegeMissingError: a session belongs to another user.
        """
        sessions = self._select_sessions()
        if confirmed is not None and self._confirmed is not None:
            sessions = [
                session for session in sessions if (session.pid, session.statement_id) in self._confirmed
            ]
        db = self._open_server()
        cancelled = [session for session in sessions if db.cancel(session.pid, terminate=self._terminate)]
        still_running = self._wait_until_ended(db, cancelled)
        return CancelResult(
            sessions=[
                CancelledSession(
                    pid=session.pid,
                    user=session.user,
                    application=session.application,
                    query=session.query,
                    ended=session.pid not in still_running,
                )
                for session in cancelled
            ]
        )

    def _open_server(self) -> ServerMonitor:
        return require_sessions(self._app, self._name, "cancelling statements")

    def _select_sessions(self) -> list[Session]:
        sessions = {session.pid: session for session in self._open_server().list_sessions()}
        if self._older_than is not None:
            return [
                session
                for session in sessions.values()
                if session.can_cancel and self._is_old(session, self._older_than)
            ]
        missing = [pid for pid in self._pids if pid not in sessions]
        if missing:
            raise SessionMissingError(pids=", ".join(map(str, missing)), target=self.target)
        not_permitted = [pid for pid in self._pids if not sessions[pid].can_cancel]
        if not_permitted:
            raise PrivilegeMissingError(
                target=self.target,
                reason=f"this role may not cancel sessions {', '.join(map(str, not_permitted))} ",
                hint="Nothing was cancelled. As a superuser: GRANT pg_signal_backend TO the role of dbctl; only superusers cancel sessions of superusers.",
            )
        return [sessions[pid] for pid in dict.fromkeys(self._pids)]

    def _is_old(self, session: Session, age: timedelta) -> bool:
        seconds = session.query_seconds
        if seconds is None and self._terminate:
            seconds = session.transaction_seconds
        return seconds is not None and seconds >= age.total_seconds()

    def _wait_until_ended(self, server: ServerMonitor, cancelled: Sequence[Session]) -> set[int]:
        """Return the PIDs of statements that did not end before the timeout."""
        deadline = time.monotonic() + self._app.timeout
        while True:
            current = {session.pid: session for session in server.list_sessions()}
            still_running = {
                session.pid
                for session in cancelled
                if session.pid in current
                and (self._terminate or _is_same_statement(current[session.pid], session))
            }
            if not still_running or time.monotonic() >= deadline:
                return still_running
            signals.raise_if_interrupted()
            time.sleep(POLL_SECONDS)


def _select_database(app: App) -> str:
    """Return the first configured database on a server."""
    for name in selected_databases(app):
        if app.only or app.database(name).mode == "read-write":
            app.require_writable(name)
            if app.reader(name).server:
                return name
    raise NotSupportedError(feature="cancelling statements", subject=app.name, hint=NO_SERVER_HINT)


def _is_same_statement(current: Session, previous: Session) -> bool:
    return current.statement_id == previous.statement_id and current.query_seconds is not None


def _describe_session(session: Session) -> str:
    origin = f"{session.application} of {session.user}" + (
        f" from {session.client}" if session.client else ""
    )
    seconds = session.query_seconds if session.query_seconds is not None else session.transaction_seconds
    duration = "" if seconds is None else f" for {seconds:.0f} s"
    return f"{session.pid}, {origin}, {session.state or 'unknown'}{duration}: {session.query or 'nothing'}"
