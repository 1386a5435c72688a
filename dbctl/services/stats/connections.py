"""Statistics of database servers: connections, lock waits, slow statements."""

from __future__ import annotations

from msgspec import structs

from dbctl.engines.contract.database import require_supported
from dbctl.engines.contract.monitoring import ServerMonitor
from dbctl.model import PageRequest, Row, Struct
from dbctl.services.app.app import App
from dbctl.services.app.results import DatabaseResults, collect_results, create_result

NO_SERVER_HINT = "Only servers have connections; stats locks lists the processes that have the file open."


class Connection(Struct, frozen=True, kw_only=True):
    """A connection to a database."""

    target: str
    pid: int
    user: str
    application: str
    client: str | None  #: an address; None: a local connection
    state: str
    query_seconds: float | None  #: since the start of the running statement
    transaction_seconds: float | None
    wait: str | None
    query: str  #: the running or last statement: shortened, without values


class BlockedSession(Struct, frozen=True, kw_only=True):
    """A waiting session, and a session that blocks it."""

    target: str
    blocked_pid: int
    blocked_user: str
    blocked_query: str
    blocking_pid: int  #: 0: a prepared transaction without session
    blocking_user: str
    blocking_application: str
    blocking_state: str
    blocking_query: str  #: the running or last statement; the lock may be from an earlier one
    lock: str
    waiting_seconds: float | None
    blocking_seconds: float | None  #: duration of the transaction with the lock

    def summary(self) -> Row:
        hidden = ("blocked_user", "blocking_application", "blocking_state")
        return {field: getattr(self, field) for field in self.__struct_fields__ if field not in hidden}


class SlowStatement(Struct, frozen=True, kw_only=True):
    """A normalised statement, and its durations."""

    target: str
    calls: int
    total_seconds: float
    mean_seconds: float
    max_seconds: float
    rows: int
    cache_hit_ratio: float | None
    query: str


def require_sessions(app: App, name: str, feature: str) -> ServerMonitor:
    """Return a database with server sessions.

    Raises:
        NotSupportedError: the engine has no sessions.
    """
    db = app.reader(name)
    return require_supported(db, db.server, feature, NO_SERVER_HINT)


def list_connections(app: App, page_request: PageRequest) -> DatabaseResults[Connection]:
    """Return the connections of each configured database on a server."""
    notes: list[str] = []

    def read_database(name: str) -> list[Connection]:
        db = require_sessions(app, name, "listing connections")
        notes.append(db.visibility_limits())
        return [create_result(Connection, app.target(name), session) for session in db.list_sessions()]

    return collect_results(app, Connection, page_request, read_database, hide_single_target=True, notes=notes)


def list_waits(app: App, page_request: PageRequest) -> DatabaseResults[BlockedSession]:
    """Return the lock waits of each configured database on a server, longest wait first."""
    notes: list[str] = []

    def read_database(name: str) -> list[BlockedSession]:
        db = require_sessions(app, name, "listing lock waits")
        notes.append(db.visibility_limits())
        return [
            BlockedSession(
                target=app.target(name),
                blocked_pid=wait.blocked.pid,
                blocked_user=wait.blocked.user,
                blocked_query=wait.blocked.query,
                blocking_pid=wait.blocking.pid,
                blocking_user=wait.blocking.user,
                blocking_application=wait.blocking.application,
                blocking_state=wait.blocking.state,
                blocking_query=wait.blocking.query,
                lock=wait.lock,
                waiting_seconds=wait.seconds,
                blocking_seconds=wait.blocking.transaction_seconds,
            )
            for wait in db.list_lock_waits()
        ]

    result = collect_results(
        app, BlockedSession, page_request, read_database, hide_single_target=True, notes=notes
    )
    return structs.replace(result, page=structs.replace(result.page, empty_message="no session waits"))


def list_slow_statements(app: App, page_request: PageRequest) -> DatabaseResults[SlowStatement]:
    """Return the slow statements, longest total time first."""
    notes: list[str] = []

    def read_database(name: str) -> list[SlowStatement]:
        db = app.reader(name)
        hint = "Its engine records none; stats run and search have --explain."
        server = require_supported(db, db.server, "listing slow statements", hint)
        statements = server.list_slow_queries()
        notes.append(server.visibility_limits())
        return [create_result(SlowStatement, app.target(name), statement) for statement in statements]

    return collect_results(
        app, SlowStatement, page_request, read_database, hide_single_target=True, notes=notes
    )
