"""A connection of the driver: how it connects, how it waits, and its settings."""

from __future__ import annotations

import io
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

import pymysql
from pymysql.constants import COMMAND, SERVER_STATUS

from dbctl import signals
from dbctl.engines.mysql.dialect import Server
from dbctl.engines.mysql.options import unverified_context
from dbctl.engines.mysql.values import format_literal
from dbctl.engines.sql.catalog import Row
from dbctl.files import liveness
from dbctl.url import Url

# Session replaces methods of the driver whose attributes older versions lack. An extra of dbctl does not replace a driver that is installed.
if pymysql.VERSION < (1, 2, 1):
    raise ImportError("it is older than 1.2.1")

#: Error numbers of the driver.
TOO_LONG, NO_HOST, LOST_WRITING, NO_GREETING = 1153, 2003, 2006, 2012
#: Error numbers: the server lacks a variable, or does not let this user set it in a session.
NOT_SETTABLE = frozenset({1193, 1227, 1229, 1238, 1621})
#: What a server does with the name of a table that has capital letters.
FOLDS = "stores names of tables in lower case (lower_case_table_names = 1)"
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
#: Maximum bytes of one read.
READ_BYTES = 1 << 16
#: What the driver raises if the peer is not a MySQL server.
PROTOCOL_ERRORS = (struct.error, LookupError, ValueError, TypeError, AttributeError, AssertionError)

#: Type code of MySQL's VECTOR, which the driver lacks: it decodes values of unlisted types as ASCII.
VECTOR = 242
pymysql.connections.TEXT_TYPES.add(VECTOR)


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
    timeout: float  #: seconds that the server may take to answer; a statement may take longer
    url: Url
    #: returns why the session is lost; empty if the server works for it
    probe: Callable[[Session], str]
    _sock: socket.socket
    _rfile: io.BufferedIOBase
    _current_timeout: float | None

    server: Server
    account: str = ""  #: quoted for GRANT
    relay: Path | None = None  #: the socket of the route to the server
    database: str = ""  #: in the server's spelling
    connection_id: int = 0  #: the server's id of this session
    instance: str = ""  #: host, port and data directory of the server; ids are unique on one server only
    #: Prevents changes of rows that another transaction changed since the snapshot: the server rejects them, or otherwise
    #: locks everything that is read.
    isolation = "repeatable read"
    settings: Mapping[str, object]
    read_only = True
    is_cluster_node = False  #: whether other servers write the same database
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
            if self.relay:
                # Not as a socket of the server, through which the driver would send a password in plain text.
                connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                connection.connect(str(self.relay))
                return connection
            failure: OSError | None = None
            for address in liveness.resolve(self.host, self.port, self.connect_timeout):
                try:
                    connection = socket.create_connection((address, self.port), self.connect_timeout)
                except OSError as error:
                    failure = error
                else:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                    return connection
            raise failure or OSError("the name has no address")
        except OSError as error:
            reason = f"Can't connect to MySQL server on {self.host!r} ({error})"
            raise pymysql.OperationalError(NO_HOST, reason) from None

    def limit_silence(self) -> None:
        """Limit only silence from now on: the session is ready, and a slow statement is work of the server."""
        self._read_timeout = self._write_timeout = liveness.silence_seconds(self.timeout)
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
                signals.raise_if_interrupted()  # where signals are deferred
                alive = alive or liveness.Liveness(
                    lambda: self.probe(self),
                    server_address(self.url),
                    silence=liveness.silence_seconds(self.timeout),
                    descriptor=self._sock.fileno(),
                )
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
        # By the beginnings of texts alone, the pages of a table would lack rows. MySQL does not convert the type of the number.
        sets += ", max_sort_length = cast(greatest(@@global.max_sort_length, 1024) as unsigned)"
        # There is no value by which queries return the current rows of system-versioned tables.
        sets += ", system_versioning_asof = default" if self.server.is_mariadb else ""
        self.run(f"set session {sets}, names utf8mb4 collate {self.server.exact_collation}")
        mode = "read only" if self.read_only else "read write"
        self.run(f"set session transaction isolation level {self.isolation}, {mode}")

    def read_script_state(self) -> dict[str, object]:
        """Return the variables and roles of the session, which a script may change; see ``restore_script_state``."""
        ((roles,),) = self.run("select current_role()")  # in SQL, except for MariaDB
        role = (format_literal(roles) if roles else "none") if self.server.is_mariadb else roles
        return {"role": role, **dict(cast("list[tuple[str, object]]", self.run("show session variables")))}

    def restore_script_state(self, before: Mapping[str, object]) -> None:
        """Set what a script has changed and ``apply_settings`` does not set, so that the next script has a new session's."""
        after = self.read_script_state()
        changed = {name: before[name] for name in before if before[name] != after.get(name)}
        if "role" in changed:
            self.run(f"set role {changed.pop('role')}")
        # A fixed time would also be that of the ledger; read, it is the current time.
        settings = ["timestamp = default"]
        settings += [
            f"{name} = {_format_setting(str(value))}"
            for name, value in changed.items()
            if name != "timestamp"
        ]
        self.try_settings(settings)

    def try_settings(self, settings: Sequence[str]) -> list[str]:
        """Set the settings that the server has and this user may change, and return these settings."""
        done = []
        for setting in settings:
            try:
                self.run(f"set session {setting}")
            except pymysql.Error as error:
                if error.args[0] not in NOT_SETTABLE:
                    raise
            else:
                done.append(setting)
        return done

    def remove_time_limit(self) -> None:
        """Remove the time limit of statements, which is meant for the app, for a restore."""
        self.settings = {**self.settings, self.server.time_limit: 0}
        self.apply_settings()

    def run(self, sql: str) -> list[Row]:
        with self.cursor() as cursor:
            cursor.execute(sql)
            return cast("list[Row]", list(cursor.fetchall())) if cursor.description else []

    def list_folded_names(self, names: Iterable[str]) -> list[str]:
        """Return the names of tables that the server would store in another form, in lower case."""
        folded = sorted(name for name in names if name != name.lower())
        return folded if folded and self.run("select @@lower_case_table_names") == [(1,)] else []

    def find_enforced_engine(self) -> str:
        """Return the engine that the server uses instead of each other one; empty: none, or InnoDB."""
        rows = self.run("show variables like 'enforce_storage_engine'")
        engine = str(rows[0][1]) if rows else ""
        return "" if engine.lower() == "innodb" else engine

    def read_properties(self, database: str) -> dict[str, str]:
        """Return the character set, the collation and on MariaDB the comment of a database as metadata of a dump; empty if it does not exist."""
        names = ["charset", "collation", *(["comment"] if self.server.is_mariadb else [])]
        columns = "default_character_set_name, default_collation_name"
        columns += ", schema_comment" if self.server.is_mariadb else ""
        name = format_literal(database)
        rows = self.run(f"select {columns} from information_schema.schemata where schema_name = {name}")
        return dict(zip(names, map(str, rows[0]), strict=True)) if rows else {}

    def run_packet(self, sql: bytes) -> Iterator[None]:
        """Run statements as one packet, which the server completes even if this process is killed; yield after each.

        At the end, the database and the settings of the session are set again.
        """
        self._allow_packets(allowed=True)
        try:
            self.query(sql)
            yield
            while self._result.has_next:  # type: ignore[attr-defined]  # the stubs lack it
                self.next_result()
                yield
        finally:
            if self.open:
                self._allow_packets(allowed=False)
                self.select_db(self.database)
                self.apply_settings()

    def _allow_packets(self, *, allowed: bool) -> None:
        self._execute_command(COMMAND.COM_SET_OPTION, struct.pack("<H", not allowed))  # type: ignore[attr-defined]  # the stubs lack it
        self._read_packet()  # type: ignore[no-untyped-call]

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, according to the last answer of the server."""
        return bool(self.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS)

    def drop(self) -> None:
        """Close the connection and ignore errors."""
        with suppress(pymysql.Error, OSError):
            self.close()


def _format_setting(value: str) -> str:
    """Return the value of a variable, as the server shows it, in SQL: a number has no quotes, and NULL is shown as no text."""
    return value if _NUMBER.fullmatch(value) else format_literal(value) if value else "default"


def server_address(url: Url) -> str:
    """Return the server of ``url``, the same for all sessions with it."""
    return f"{url.host}:{url.port}?{url.options} {url.via}"
