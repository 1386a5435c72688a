"""A connection to a server: how it opens, how a signal cancels its statement, and its settings."""

from __future__ import annotations

import io
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import ceil
from typing import Any, Literal, cast

import pymysql
from pymysql.constants import CLIENT, SERVER_STATUS

from dbctl.engines.mysql.errors import error_number, quote_account
from dbctl.engines.mysql.options import connection_arguments, unverified_context
from dbctl.engines.mysql.types import CONVERTERS, format_literal
from dbctl.engines.sql import Row
from dbctl.errors import NotSupportedError, ReadOnlyError
from dbctl.files import liveness
from dbctl.model import Struct
from dbctl.url import Url

#: Minimum seconds for a server to answer; a higher --timeout extends them.
CONNECT_SECONDS = 5
#: The maximum lock timeout of a server, in seconds.
MAX_LOCK_WAIT_SECONDS = 31_536_000
#: Standard quotes and ``||``; values that do not fit are rejected, even if a non-transactional table takes part; a key of 0
#: remains 0. Zero dates in a table are written as they were read.
MODES = (
    "PIPES_AS_CONCAT",
    "ANSI_QUOTES",
    "STRICT_ALL_TABLES",
    "STRICT_TRANS_TABLES",
    "ERROR_FOR_DIVISION_BY_ZERO",
    "NO_ENGINE_SUBSTITUTION",
    "NO_AUTO_VALUE_ON_ZERO",
)
UNKNOWN_VARIABLE, TOO_LONG, NO_SOCKET, NO_HOST, LOST_WRITING, NO_GREETING, LOST = (
    1193,
    1153,
    2002,
    2003,
    2006,
    2012,
    2013,
)
#: Maximum bytes of one read.
READ_BYTES = 1 << 16
#: What the driver raises if the peer is not a MySQL server.
PROTOCOL_ERRORS = (struct.error, LookupError, ValueError, TypeError, AttributeError, AssertionError)

SESSION_INFO = "select current_user(), database(), connection_id(), @@max_allowed_packet"
#: The setting has either name; before dbctl applies its settings, it is the server's default.
READ_ONLY = "show variables where variable_name in ('read_only', 'tx_read_only', 'transaction_read_only')"


#: Type code of MySQL's VECTOR, which the driver lacks: it decodes values of unlisted types as ASCII.
VECTOR = 242
pymysql.connections.TEXT_TYPES.add(VECTOR)
#: Error numbers of the driver.
CLIENT_ERRORS = range(2000, 3000)
#: Excludes states in which a session waits for its client, while the client may wait for it.
IS_WORKING = """command not in ('Sleep', 'Daemon', 'Binlog Dump') and coalesce(state, '') not in
  ('Writing to net', 'Sending to client', 'Reading from net', 'Receiving from client')"""
SESSIONS = "select 1 from information_schema.processlist where " + IS_WORKING  # noqa: S608 - a constant
SESSION_STATE = SESSIONS + " and id = {0}"
PROGRAM_STATE = (
    SESSIONS
    + " and db = {0} and id <> connection_id() and time >= {1} and user = substring_index(user(), '@', 1)"
)
UNREACHABLE = "the server does not respond, and accepts no new connection"
IDLE = "the connection does not respond, and the server runs nothing for it"

#: The connection ids of the sessions of this process: they do not block this process.
own_sessions = set[int]()


class Watchdog:
    """Timer that closes a connection if the server does not begin the session in time.

    The driver waits without limit for each answer, and a socket timeout would restart with every byte.
    """

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self.has_expired = False
        self._socket = connection.dup()  # for TLS, the driver detaches the socket
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True
        self._timer.start()

    def _expire(self) -> None:
        self.has_expired = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """Stop watching the connection."""
        self._timer.cancel()
        self._timer.join()
        self._socket.close()


class PatientSocket(io.RawIOBase):
    """The file from which the driver reads: it waits while data arrives, or while the server works."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # the stubs require any buffer
        """Read the data that has arrived; raises OSError once the session is lost."""
        return self._session.wait_while_alive(lambda connected: connected.recv_into(buffer))


class Session(pymysql.connections.Connection):
    """A connection with the properties of its server."""

    watchdog: Watchdog | None = None  #: until the session is ready
    connect_timeout: float
    url: Url
    _sock: socket.socket
    _rfile: io.BufferedIOBase
    _current_timeout: float | None

    server: Server
    account: str = ""  #: quoted for GRANT
    database: str = ""  #: in the server's spelling
    connection_id: int = 0  #: the server's id of this session
    #: Prevents changes of rows that another transaction changed since the snapshot: the server rejects them, or otherwise
    #: locks everything that is read.
    isolation = "repeatable read"
    settings: Mapping[str, object]
    read_only = True
    server_version: str
    server_status: int  #: flags of the last answer
    max_statement_bytes = 0  #: the server's limit; 0: unknown
    #: Whether an answer may still arrive, which the next query would read as its own.
    in_flight = False

    def _create_ssl_ctx(self, sslp: ssl.SSLContext | Mapping[str, object]) -> ssl.SSLContext:
        """Encrypt without verifying the server, unless ``connection_arguments`` has set a context.

        The driver would do the same, but would first load all authorities of this machine, which takes longer than a small
        command.
        """
        return sslp if isinstance(sslp, ssl.SSLContext) else unverified_context()

    def _get_server_information(self) -> None:
        """Read the greeting: the first answer for which the driver waits after connecting."""
        self.watchdog = Watchdog(self._sock, self.connect_timeout)
        super()._get_server_information()  # type: ignore[misc]  # the stubs lack it

    def begin(self) -> None:
        """Connect and sign in.

        Raises:
            pymysql.Error: the server refused, did not answer in time, is not a MySQL server, or is not reachable.
        """
        try:
            self.connect(None if self.unix_socket else self._connect_host())
        except (pymysql.InternalError, *PROTOCOL_ERRORS) as error:
            raise pymysql.OperationalError(NO_GREETING, "the server does not use MySQL's protocol") from error

    def _connect_host(self) -> socket.socket:
        """Connect to the first address of the host that accepts the connection.

        The driver would wait for the resolver without limit.

        Raises:
            pymysql.OperationalError: no address accepts it.
        """
        try:
            failure: OSError | None = None
            for address in liveness.resolve(self.host, self.port, self.connect_timeout):
                try:
                    connection = socket.create_connection((address, self.port), self.connect_timeout)
                except OSError as error:
                    failure = error
                else:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                    self.host_info = f"socket {self.host}:{self.port}"
                    return connection
            raise failure or OSError("the name has no address")
        except OSError as error:
            reason = f"Can't connect to MySQL server on {self.host!r} ({error})"
            raise pymysql.OperationalError(NO_HOST, reason) from None

    def limit_silence(self) -> None:
        """Limit only silence from now on: the session is ready, and a slow statement is work of the server."""
        self._read_timeout = self._write_timeout = liveness.SILENCE_SECONDS
        self._rfile.close()  # no data is pending, and it would keep the socket open
        self._rfile = io.BufferedReader(PatientSocket(self), READ_BYTES)

    def wait_while_alive(self, move: Callable[[socket.socket], int]) -> int:
        """Transfer bytes by ``move``, waiting as long as the server works for this session.

        Raises:
            OSError: the connection is lost, or the server runs nothing for it.
        """
        alive: liveness.Liveness | None = None
        while True:
            try:
                return move(self._sock)
            except TimeoutError:
                alive = alive or liveness.Liveness(lambda: probe_session(self), server_address(self.url))
                if reason := alive.find_fault():
                    raise OSError(reason) from None

    def _write_bytes(self, data: bytes) -> None:
        """Send a packet in parts; the driver would limit the time for all of it."""
        if self._current_timeout != self._write_timeout:
            self._sock.settimeout(self._write_timeout)
            self._current_timeout = self._write_timeout
        remaining = memoryview(data)
        try:
            while remaining:
                remaining = remaining[self.wait_while_alive(lambda connection: connection.send(remaining)) :]  # noqa: B023 - it runs immediately
        except OSError as error:
            self._force_close()  # type: ignore[attr-defined]  # the stubs lack it
            raise pymysql.OperationalError(LOST_WRITING, f"MySQL server has gone away ({error})") from None

    def query(self, sql: str | bytes, unbuffered: bool = False) -> int:  # noqa: FBT001, FBT002 - the signature of the driver
        text = sql.encode() if isinstance(sql, str) else sql
        if 0 < self.max_statement_bytes <= len(text):  # the server would only disconnect
            reason = (
                f"the statement has {len(text)} bytes, and max_allowed_packet is {self.max_statement_bytes}"
            )
            raise pymysql.DataError(TOO_LONG, reason)
        self.in_flight = True
        try:
            row_count: int = super().query(text, unbuffered)
        except pymysql.Error:
            self.in_flight = False  # this was the answer, or the connection is lost
            raise
        self.in_flight = False
        return row_count

    def apply_settings(self) -> None:
        """Set all settings that dbctl relies on."""
        sets = ", ".join(f"{name} = {format_literal(value)}" for name, value in self.settings.items())
        self.run(f"set session {sets}")
        mode = "read only" if self.read_only else "read write"
        self.run(f"set session transaction isolation level {self.isolation}, {mode}")
        self.run(f"set names utf8mb4 collate {self.server.exact_collation}")

    def run(self, sql: str) -> list[Row]:
        """Run one statement and return its rows."""
        with self.cursor() as cursor:
            cursor.execute(sql)
            return cast("list[Row]", list(cursor.fetchall())) if cursor.description else []

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, according to the last answer of the server."""
        return bool(self.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS)

    def drop(self) -> None:
        """Close the connection and ignore errors."""
        with suppress(pymysql.Error, OSError):
            self.close()


def open_session(url: Url, target: str, *, timeout: float, read_only: bool) -> Session:
    """Connect to the database at ``url``.

    Raises:
        UrlInvalidError: it contains an unknown option, or names no database.
        NotSupportedError: the server is too old.
        ReadOnlyError: ``read_only`` is false, but the server is read-only.
        pymysql.Error: the server refused the connection, or is not reachable.
    """
    session = new_session(url, timeout=timeout)
    try:
        session.begin()
        session.server = parse_server(session.server_version, target)
        mode = "TIME_TRUNCATE_FRACTIONAL" if session.server.backslash_escapes else "NO_BACKSLASH_ESCAPES"
        session.settings = {
            "sql_mode": ",".join((*MODES, mode)),
            "time_zone": "+00:00",
            "innodb_lock_wait_timeout": lock_wait_seconds(timeout, session.server),
            "lock_wait_timeout": lock_wait_seconds(timeout, session.server),
            "foreign_key_checks": 1,
            "unique_checks": 1,
            "sql_safe_updates": 0,
            "sql_auto_is_null": 0,
            "group_concat_max_len": 1 << 24,
        }
        session.read_only = read_only
        if not read_only:
            _refuse_read_only(session, target)
        if not (read_only or _enable_snapshot_isolation(session)):
            session.isolation = "serializable"
        session.apply_settings()
        ((user, name, connection_id, longest),) = session.run(SESSION_INFO)
        session.account, session.database = quote_account(str(user)), str(name)
        session.connection_id, session.max_statement_bytes = int(str(connection_id)), int(str(longest))
        own_sessions.add(session.connection_id)
        session.limit_silence()
    except BaseException as error:  # an open connection must not outlive the failure
        session.drop()
        if isinstance(error, pymysql.Error) and session.watchdog and session.watchdog.has_expired:
            limit = session.connect_timeout
            hint = f" (--timeout {timeout:g} is below the minimum)" if timeout < limit else ""
            reason = f"the server did not let a session begin within {limit:g} seconds{hint}"
            raise pymysql.OperationalError(LOST, reason) from None
        raise
    finally:
        if session.watchdog:
            session.watchdog.stop()
            session.watchdog = None
    return session


def new_session(url: Url, *, timeout: float) -> Session:
    """Return a session that is not connected yet."""
    arguments: dict[str, Any] = {
        "connect_timeout": max(CONNECT_SECONDS, ceil(timeout)),
        **connection_arguments(url),
    }
    if "unix_socket" in arguments:
        check_socket(str(arguments["unix_socket"]))
    session = Session(
        **arguments,
        charset="utf8mb4",
        autocommit=True,
        client_flag=CLIENT.FOUND_ROWS,
        conv=CONVERTERS,  # type: ignore[arg-type]
        program_name="dbctl",
        defer_connect=True,
    )
    session.url = url
    return session


def server_address(url: Url) -> str:
    """Return the server of ``url``, the same for all sessions with it."""
    return f"{url.host}:{url.port}?{url.options}"


def probe_session(session: Session) -> str:
    """Return why a session is lost; empty if the server works for it."""
    return _probe(session.url, SESSION_STATE.format(session.connection_id), timeout=session.connect_timeout)


def probe_program(url: Url, database: str, *, timeout: float) -> str:
    """Return why a program that connected to ``url`` and works in ``database`` is lost; empty if it is not lost.

    Statements of the app with the same account take less time than the silence before this check.
    """
    return _probe(
        url, PROGRAM_STATE.format(format_literal(database), int(liveness.SILENCE_SECONDS)), timeout=timeout
    )


def _probe(url: Url, sql: str, *, timeout: float) -> str:
    try:
        other = new_session(url, timeout=timeout)
        try:
            other.begin()
            rows = other.run(sql)
        finally:
            if other.watchdog:
                other.watchdog.stop()
            other.drop()
    except pymysql.Error as error:
        # A server that is out of connections also answers.
        return UNREACHABLE if error_number(error) in CLIENT_ERRORS else ""
    return "" if rows else IDLE


def check_socket(path: str) -> None:
    """Fail if a socket has no listener; the driver would fail, too, and leave its socket open."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A timeout of Python would not wait at all for a server that is slow to accept.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", CONNECT_SECONDS, 0))
        try:
            probe.connect(path)
        except OSError as error:
            reason = f"Can't connect to the server through {path} ({error.strerror or error})"
            raise pymysql.OperationalError(NO_SOCKET, reason) from None


def lock_wait_seconds(timeout: float, server: Server) -> int:
    """Return the lock timeout of a session: whole seconds, on MySQL at least one."""
    minimum = 0 if server.is_mariadb and timeout <= 0 else 1
    return min(max(minimum, ceil(timeout)), MAX_LOCK_WAIT_SECONDS)


def _refuse_read_only(session: Session, target: str) -> None:
    """Refuse to write if a setting makes the server read-only, most likely on a replica.

    Otherwise administrators could still write, and every session could override the mode of its transactions.
    """
    enabled = [str(name) for name, value in session.run(READ_ONLY) if str(value).upper() not in ("OFF", "0")]
    if enabled:
        raise ReadOnlyError(
            target=target,
            reason=f"{enabled[0]} is on",
            hint="Nothing was changed. It is set for the server, most likely because it is a replica:"
            " write to its primary, or check the reason and disable it with SET GLOBAL.",
        )


def _enable_snapshot_isolation(session: Session) -> bool:
    """Enable the rejection of concurrent changes, which PostgreSQL has by default; return whether the server supports it."""
    try:
        session.run("set session innodb_snapshot_isolation = 1")
    except pymysql.Error as error:
        if error_number(error) != UNKNOWN_VARIABLE:
            raise
        return False
    return True


#: The oldest versions with all required features.
OLDEST = {"MySQL": (8, 0, 17), "MariaDB": (10, 6, 0)}
#: Since this version, one right of MySQL allows any existing definer, and a second one missing definers.
SET_ANY_DEFINER_VERSION = (8, 2, 0)
#: Since this version, MySQL stores libraries of JavaScript and other languages in a database.
LIBRARIES_VERSION = (9, 2, 0)
_VERSION = re.compile(r"(?:5\.5\.5-)?(\d+)\.(\d+)\.(\d+)")


class Server(Struct, frozen=True, kw_only=True):
    """Product and version of a server, and its features."""

    product: Literal["MySQL", "MariaDB"]
    version: tuple[int, int, int]
    version_text: str  #: as the server reports it

    @property
    def exact_collation(self) -> str:
        """The collation by code points in which trailing spaces are significant."""
        return "utf8mb4_nopad_bin" if self.product == "MariaDB" else "utf8mb4_0900_bin"

    @property
    def is_mariadb(self) -> bool:
        return self.product == "MariaDB"

    @property
    def backslash_escapes(self) -> bool:
        """Whether a backslash in a string begins an escape, in every session of dbctl.

        MySQL stores generated columns, defaults and checks as text with such escapes, pushes conditions into derived tables
        as such text, and parses both in the mode of the session. Without escapes, a table with a quote in such an expression
        would not open, and one with a backslash would compute another value, also for the app.
        """
        return not self.is_mariadb

    @property
    def has_libraries(self) -> bool:
        """Whether ``CREATE LIBRARY`` exists."""
        return not self.is_mariadb and self.version >= LIBRARIES_VERSION

    @property
    def definer_privilege(self) -> str:
        """The right to create objects with another definer."""
        if self.is_mariadb:
            return "SET USER"
        return "SET_USER_ID" if self.version < SET_ANY_DEFINER_VERSION else "SET_ANY_DEFINER"


def parse_server(text: str, target: str) -> Server:
    """Parse the version that a server reports.

    Raises:
        NotSupportedError: it is older than the oldest supported version.
    """
    product: Literal["MySQL", "MariaDB"] = "MariaDB" if "mariadb" in text.lower() else "MySQL"
    match = _VERSION.match(text)
    version = (int(match[1]), int(match[2]), int(match[3])) if match else (0, 0, 0)
    if version < OLDEST[product]:
        oldest_versions = " and ".join(
            f"{name} {'.'.join(map(str, oldest))}" for name, oldest in OLDEST.items()
        )
        raise NotSupportedError(
            feature=f"opening {target}",
            subject=f"{product} {text}",
            hint=f"dbctl supports {oldest_versions}, and later versions.",
        )
    return Server(product=product, version=version, version_text=text)
