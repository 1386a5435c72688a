"""Open a session with known settings, and find out whether the server still works on one with a silent connection."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl

import psycopg
from psycopg import pq
from psycopg.errors import _WaitTimeout  # noqa: PLC2701 - it has no other name; older versions do not have it

from dbctl import signals
from dbctl.config.environment import has_home, read_set_variables
from dbctl.engines.contract.route import open_socket
from dbctl.engines.postgresql.settings import (
    LOSSY_SETTINGS,
    SESSION_SETTINGS,
    override_lossy,
    quote_literal,
    refuse_read_only,
    unlimit_idle,
)
from dbctl.engines.postgresql.values import UNDECLARED, register_plain_types
from dbctl.engines.servers.connection import CONNECT_SECONDS
from dbctl.engines.sql.catalog import Row, ident, is_storable
from dbctl.errors.connection import PoolerError, report_file_errors
from dbctl.errors.usage import UrlInvalidError
from dbctl.files import liveness
from dbctl.files.atomic import check_settings, expand_home
from dbctl.signals import Interrupted
from dbctl.url import DEFAULT_PORTS, Url

#: A session that waits for its client, while the client waits for it, never ends. Without track_activities, and for the
#: session of another user, the server does not show the state.
_IS_WORKING = """case when state is null or state = 'disabled' then true
  else state in ('active', 'fastpath function call') and wait_event_type is distinct from 'Client' end"""
SESSION_STATE = f"select {_IS_WORKING} from pg_catalog.pg_stat_activity where pid = $1".encode()
#: The same for client programs, which are identified by their application name.
PROGRAM_STATE = f"""select coalesce(bool_or({_IS_WORKING}), false)
from pg_catalog.pg_stat_activity where application_name = $1 and usename = current_user""".encode()


def probe_session(session: Session) -> str:
    """Return why a session is lost; empty if the server works for it.

    Behind a pooler, the pid of a session is not the server's, so only a response shows that it works.
    """
    return _probe(session, SESSION_STATE, None if session.pooled else session.pgconn.backend_pid)


def probe_program(session: Session, name: str) -> str:
    """Return why a program that connected like ``session`` with application name ``name`` is lost; empty if it is not lost."""
    return _probe(session, PROGRAM_STATE, name)


def _probe(session: Session, sql: bytes, parameter: object) -> str:
    seconds = session.opening_seconds
    try:
        parameters = {"application_name": "dbctl", **session.parameters}
        with type(session).connect(**parameters, autocommit=True) as other:  # type: ignore[arg-type]
            other.opening_seconds = seconds
            other.limit_opening(seconds)
            if parameter is None:
                other.execute(b"select 1")
                return ""
            rows = psycopg.RawCursor(other).execute(sql, [parameter]).fetchall()
    except psycopg.Error as error:
        # A server that is out of connections also answers, and libpq gives no code for that answer.
        is_timeout = isinstance(error, psycopg.errors.ConnectionTimeout | _WaitTimeout)
        host, port = session.address
        return (
            liveness.UNREACHABLE
            if is_timeout or not liveness.accepts_connections(host, port, math.ceil(seconds))
            else ""
        )
    return "" if rows == [(True,)] else liveness.IDLE


T = TypeVar("T")

#: The option for poolers that keep one session for each client, in PgBouncer's terms.
POOL_MODE, SESSION = "pool_mode", "session"
#: The driver's limit without ``connect_timeout``, in seconds.
DRIVER_SECONDS = 130
#: The files that libpq reads: environment variables, and the options of a URL.
FILES = {
    "PGPASSFILE": "passfile",
    "PGSERVICEFILE": "servicefile",
    "PGSSLCERT": "sslcert",
    "PGSSLCRL": "sslcrl",
    "PGSSLKEY": "sslkey",
    "PGSSLROOTCERT": "sslrootcert",
}
#: The function of the server that warns if a commit did not wait for a synchronous standby to the end.
STANDBY_WAIT = "SyncRepWaitForLSN"
#: Seconds for a server to stop a statement, and seconds between two checks for a signal.
CANCEL_SECONDS, POLL_SECONDS = 5.0, 0.1
#: The maximum length of a name, in bytes.
MAX_NAME_BYTES = 63
#: Options of ORMs that libpq does not support; they are ignored.
IGNORED_OPTIONS = frozenset(
    {"connection_limit", "pgbouncer", "pool_timeout", "socket_timeout", "statement_cache_size"}
)
#: The pids of the server processes for sessions of this process: they do not block this process.
own_backends = set[int]()
# The driver also logs what it raises; without a handler the log would go to standard error.
logging.getLogger("psycopg").addHandler(logging.NullHandler())


class Session(psycopg.Connection[Row]):
    """A connection on which a signal cancels the statement, also on the server, and on which silence is limited."""

    url: Url
    parameters: Mapping[str, str]  #: of libpq
    opening_seconds: float  #: time limit until the session is ready
    timeout: float = math.inf  #: seconds that the server may take to answer; a statement may take longer
    pooled = False  #: whether a pooler is between this process and the server
    _deadline: float | None = None  #: until the session is ready
    url_schema = ""  #: from the URL
    database = role = ""  #: the server's names, which may differ from those of a pooler, and of the login
    schema = ""  #: the current schema, in which unqualified names are created
    is_committing = False  #: whether the running statement is a commit
    unconfirmed = ""  #: why no synchronous standby has confirmed the last commit
    settings: dict[str, str]

    def apply_settings(self) -> None:
        """Set all settings that dbctl relies on, in one message to the server."""
        sets = ", ".join(
            f"set_config('{name}', {quote_literal(value)}, false)" for name, value in self.settings.items()
        )
        current = "select current_database(), current_user, coalesce(current_schema(), '')"
        reset = "reset all; reset session authorization; reset role"  # RESET ALL leaves the role of a script
        cursor = self.execute(f"{reset}; select {sets}; {current}".encode())
        while cursor.nextset():
            pass
        self.database, self.role, self.schema = map(str, cursor.fetchall()[0])

    def run(self, sql: str, *parameters: object) -> list[Row]:
        """Run one statement with ``$1``, ``$2``… and return its rows; without parameters it is sent unmodified."""
        cursor = self.execute(sql.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []

    def wait(
        self,
        gen: Generator[pq.abc.PGconn, object, T],  # type: ignore[override]
        *arguments: float,
        **named: float | None,
    ) -> T:
        try:
            if named.get("timeout") is not None:
                return super().wait(gen, *arguments, **named)  # type: ignore[arg-type]
            if self._deadline is not None:
                return self._wait_for_opening(gen)
            return self._wait_while_alive(gen)
        except Interrupted:
            if self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                completed = self._abandon(gen)
                if completed and self.is_committing:  # the next transaction does not begin
                    return completed[0]
            raise

    @property
    def address(self) -> tuple[str, int]:
        """The host and port of the server; for a socket, its path and 0."""
        host, port = self.pgconn.hostaddr.decode() or self.pgconn.host.decode(), int(self.pgconn.port)
        return (f"{host}/.s.PGSQL.{port}", 0) if host.startswith("/") else (host, port)

    @property
    def named_parameters(self) -> dict[str, str]:
        """The parameters of libpq that differ from their defaults, also those of the environment, except for the password and its file.

        The function of the driver requires a home directory.
        """
        compiled = {option.keyword: option.compiled for option in pq.Conninfo.get_defaults()}
        defaults = {**compiled, b"channel_binding": b"prefer"}  # libpq may not return that of the last one
        return {
            option.keyword.decode(): option.val.decode()
            for option in self.pgconn.info
            if option.val is not None
            and option.val != defaults.get(option.keyword)
            and option.keyword not in (b"password", b"passfile")
        }

    @property
    def server_address(self) -> str:
        """The address of the server, the same in all sessions with it."""
        return ":".join(map(str, self.address))

    @property
    def in_standby(self) -> bool:
        """Whether the server replays the changes of another one; it reports a promotion by itself."""
        return (
            self.pgconn.status == pq.ConnStatus.OK
            and self.pgconn.parameter_status(b"in_hot_standby") == b"on"
        )

    def limit_opening(self, seconds: float) -> None:
        """Limit the time of all following steps until ``end_opening``, in seconds."""
        self._deadline = time.monotonic() + seconds

    def end_opening(self) -> None:
        """Remove the time limit; from now on only silence is limited."""
        self._deadline = None

    def _wait_for_opening(self, gen: Generator[pq.abc.PGconn, object, T]) -> T:
        try:
            return super().wait(gen, timeout=max(0.0, (self._deadline or 0) - time.monotonic()))  # type: ignore[arg-type]
        except _WaitTimeout:
            self.pgconn.finish()
            reason = f"the server did not let a session begin within {self.opening_seconds:g} seconds"
            raise psycopg.errors.ConnectionTimeout(reason) from None

    def _wait_while_alive(self, gen: Generator[pq.abc.PGconn, object, T]) -> T:
        """Wait while data arrives, or while the server works for this session.

        Raises:
            psycopg.OperationalError: neither is the case; the connection is closed.
        """
        try:
            return super().wait(gen, timeout=liveness.silence_seconds(self.timeout))  # type: ignore[arg-type]
        except _WaitTimeout:
            return self._wait_with_probes(gen)

    def _wait_with_probes(self, gen: Generator[pq.abc.PGconn, object, T]) -> T:
        silence = liveness.silence_seconds(self.timeout)
        alive = liveness.Liveness(
            lambda: probe_session(self), self.server_address, silence=silence, descriptor=self.pgconn.socket
        )
        has_arrived = False  # the first wait was not observed, and one silent period is tolerated

        def observe() -> Generator[pq.abc.PGconn, object, T]:
            nonlocal has_arrived
            try:
                request = next(gen)
                while True:
                    ready = yield request
                    has_arrived = has_arrived or bool(ready)
                    request = gen.send(ready)
            except StopIteration as stop:
                value: T = stop.value
                return value

        observed = observe()
        while True:
            signals.raise_if_interrupted()  # where signals are deferred
            if has_arrived:
                alive.note_progress()
            elif reason := alive.find_fault():
                self.pgconn.finish()
                raise psycopg.OperationalError(reason)
            has_arrived = False
            with suppress(_WaitTimeout):
                return super().wait(observed, timeout=silence)  # type: ignore[arg-type]

    def note_message(self, message: psycopg.errors.Diagnostic) -> None:
        """Note a warning about a commit, whose text is in the server's language."""
        if message.source_function == STANDBY_WAIT:
            self.unconfirmed = message.message_primary or STANDBY_WAIT

    def _abandon(self, gen: Generator[pq.abc.PGconn, object, T]) -> Sequence[T]:
        """Stop the statement on the server and read the remaining messages; close the connection if that fails.

        Return its result if it was completed nevertheless, as a commit that waits for a standby.
        """
        try:
            self.cancel_safe(timeout=CANCEL_SECONDS)
            with suppress(psycopg.errors.QueryCanceled):
                return [super().wait(gen, timeout=CANCEL_SECONDS)]  # type: ignore[arg-type]
        except (psycopg.Error, RuntimeError, StopIteration):
            self.pgconn.finish()
        return []


def open_session(url: Url, target: str, *, timeout: float, read_only: bool, is_new: bool = False) -> Session:
    """Connect to the database at ``url``; with ``is_new``, a read-only setting does not prevent writing.

    Raises:
        PoolerError: a pooler that may change sessions is between this process and the server.
        LossySettingError: a setting would lose rows, and this session cannot avoid that.
        ReadOnlyError: ``read_only`` is false, but a setting makes such sessions read-only.
        UrlInvalidError: it contains an option that libpq does not support, or names no database.
        psycopg.Error: the server refused the connection, or is not reachable.
    """
    _check_files(url)
    parameters, schema = _parse_url(url)
    if url.via:
        parameters |= _open_route(url, target, parameters)
    pooled = parameters.pop(POOL_MODE, "")
    parameters.setdefault("connect_timeout", str(max(CONNECT_SECONDS, math.ceil(timeout))))
    parameters["client_encoding"] = "UTF8"
    seconds = connect_seconds(parameters["connect_timeout"])
    parameters |= _resolve_host(parameters, seconds)
    session = Session.connect(
        **parameters,  # type: ignore[arg-type]
        autocommit=True,
        cursor_factory=psycopg.RawCursor,
        prepare_threshold=None,  # a pooler between here and the server may change servers
    )
    own_backends.add(session.pgconn.backend_pid)
    try:
        session.url, session.parameters = url, parameters
        session.opening_seconds, session.timeout = seconds, timeout
        session.limit_opening(seconds)
        session.pooled, session.url_schema = bool(pooled), schema
        register_plain_types(session)
        session.add_notice_handler(session.note_message)
        lossy = ", ".join(f"current_setting('{name}', true)" for name in LOSSY_SETTINGS)
        query = f"select pg_backend_pid(), current_setting('default_transaction_read_only'), {lossy}"
        ((pid, read_only_default, *prescribed),) = session.run(query)
        _refuse_pooler(session, target, pid, is_pinned=pooled == SESSION)
        session.settings = {
            **SESSION_SETTINGS,
            **unlimit_idle(session.info.server_version),
            # 0 would mean no limit
            "lock_timeout": f"{min(max(1, round(timeout * 1000)), (1 << 31) - 1)}ms",
            "default_transaction_read_only": "on" if read_only else "off",
            "default_transaction_isolation": "repeatable read",
            **({"search_path": ident(schema)} if schema else {}),
        }
        if session.info.parameter_status("server_encoding") == UNDECLARED:
            session.settings["client_encoding"] = UNDECLARED  # otherwise it rejects text that is not UTF-8
        if not (read_only or is_new):
            refuse_read_only(target, str(read_only_default), in_standby=session.in_standby)
        session.settings |= override_lossy(session, target, prescribed, read_only=read_only)
        session.apply_settings()
        session.end_opening()
    except BaseException:  # an open connection must not outlive the failure
        session.close()
        raise
    return session


def connect_seconds(text: str) -> float:
    """Return ``connect_timeout`` in seconds: at least two; 0 is the driver's limit."""
    seconds = int(text) if text.strip().isdigit() else 0
    return float(max(2, seconds) if seconds else DRIVER_SECONDS)


def _resolve_host(parameters: Mapping[str, str], seconds: float) -> dict[str, str]:
    """Resolve the host within a time limit, which libpq does not have; return its address as a parameter.

    If there are several addresses, libpq resolves the name again and chooses one.

    Raises:
        psycopg.OperationalError: the name was not resolved, or not in time.
    """
    host = parameters.get("host", "")
    if (
        not host
        or host.startswith(("/", "@"))
        or "," in host
        or "hostaddr" in parameters
        or _is_address(host)
    ):
        return {}
    try:
        addresses = liveness.resolve(host, 0, seconds)
    except OSError as error:
        raise psycopg.OperationalError(error.strerror or str(error)) from None
    return {"hostaddr": addresses[0]} if len(addresses) == 1 else {}


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _refuse_pooler(session: Session, target: str, pid: object, *, is_pinned: bool) -> None:
    """Refuse a pooled session, which may change from one statement to the next.

    Its settings, above all read-only mode, and its locks would remain in a session that the app gets later. A pooler assigns
    its own keys to clients, so ``pid``, that of the server process, differs from the one at the start; a pinned session no
    other client gets.
    """
    is_shared = pid != session.pgconn.backend_pid
    if is_shared and is_pinned:
        is_shared = False  # also if the pooler has no further session
        with suppress(psycopg.Error), Session.connect(**session.parameters, autocommit=True) as other:  # type: ignore[arg-type]
            other.limit_opening(1)
            is_shared = other.execute(b"select pg_backend_pid()").fetchall() == [(pid,)]
    if is_shared:
        raise PoolerError(target=target)


def _check_files(url: Url) -> None:
    """Refuse files that would block libpq, or that are endless.

    Raises:
        FileFailedError: a file is not a regular file, or too large.
    """
    named = {name: text for name, text in parse_qsl(url.options) if name in FILES.values()}
    home = expand_home("~") if has_home() else None
    files = {
        **(
            {"passfile": str(home / ".pgpass"), "servicefile": str(home / ".pg_service.conf")} if home else {}
        ),
        **read_set_variables(FILES),
        **named,
    }
    for path in map(Path, filter(None, files.values())):
        with report_file_errors(path):
            check_settings(path)


def _parse_url(url: Url) -> tuple[dict[str, str], str]:
    """Return the parameters for libpq, and the schema that the URL names in Prisma's form."""
    supported = {option.keyword.decode() for option in pq.Conninfo.get_defaults()} | {POOL_MODE}
    parameters = dict(parse_qsl(url.options, keep_blank_values=True))
    schema = parameters.pop("schema", "")
    if parameters.pop("ssl", "").lower() in ("true", "1"):
        parameters.setdefault("sslmode", "require")
    for name in IGNORED_OPTIONS:
        parameters.pop(name, None)
    unknown = sorted(set(parameters) - supported)
    if unknown:
        raise UrlInvalidError(reason=f"PostgreSQL has no option {unknown[0]!r}")
    server = {
        "host": url.host.removeprefix("[").removesuffix("]"),
        "port": str(url.port or ""),
        "user": url.user,
        "password": url.password.reveal() if url.password else "",
        "dbname": url.path,
    }
    parameters |= {name: text for name, text in server.items() if text}
    if not parameters.get("dbname"):
        raise UrlInvalidError(reason="it names no database")
    for kind, name in (("database", parameters["dbname"]), ("schema", schema)):
        if len(name.encode(errors="replace")) > MAX_NAME_BYTES:  # the server would truncate it silently
            raise UrlInvalidError(reason=f"the name of the {kind} is longer than {MAX_NAME_BYTES} bytes")
    if not all(map(is_storable, [schema, *parameters.values()])):
        raise UrlInvalidError(reason="it is not valid UTF-8")
    return parameters, schema


def _open_route(url: Url, target: str, parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters that replace host and port by the socket of the route; refuse those that it would void."""
    named = {name for name, _text in parse_qsl(url.options)}
    if "," in url.host or named & {"host", "hostaddr", "port", "service"}:
        raise UrlInvalidError(reason="an address with via has one host, and no option for it")
    if url.host.startswith("/"):
        raise UrlInvalidError(reason="a socket cannot be reached by via; write a host")
    # libpq would ignore these without an error.
    if (mode := parameters.get("sslmode", "")) not in ("", "disable", "allow", "prefer"):
        raise UrlInvalidError(
            reason=f"sslmode={mode} has no effect with via, whose parts encrypt the connection; remove it"
        )
    port = url.port or DEFAULT_PORTS["postgresql"]
    socket = open_socket(url, target, f".s.PGSQL.{port}")
    # An empty address keeps libpq from the one of the environment.
    return {"host": str(socket.parent), "hostaddr": "", "port": str(port)}
