"""One connection to a server: how it is made, how a signal ends what runs on it, and what its settings are."""

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

from dbctl.engines.mysql.errors import account, number_of
from dbctl.engines.mysql.options import connecting, unchecked
from dbctl.engines.mysql.types import PLAIN, literal
from dbctl.engines.sql import Row
from dbctl.errors import NotSupportedError, ReadOnlyError
from dbctl.files import liveness
from dbctl.model import Value
from dbctl.url import Url

#: Seconds that a server gets to answer at all; those who set --timeout higher wait that long.
CONNECT_SECONDS = 5
#: The longest that a server waits for a lock, in seconds.
LONGEST_WAIT = 31_536_000
#: Quotes and ``||`` as everywhere else; a value that does not fit is refused, also where a table takes part that is
#: not transactional; a key that is 0 stays 0. Dates of zeros, which a table may hold, are written as they were read.
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
#: Bytes that are read at a time, at most.
READ_BYTES = 1 << 16
#: What the driver raises where something else than a server of MySQL answers.
NOT_UNDERSTOOD = (struct.error, LookupError, ValueError, TypeError, AttributeError, AssertionError)

ABOUT = "select current_user(), database(), connection_id(), @@max_allowed_packet"
#: By either of its names; before a session has settled it is what the server gives to all.
READ_ONLY = "show variables where variable_name in ('read_only', 'tx_read_only', 'transaction_read_only')"


#: Type code of MySQL's VECTOR, which the driver lacks: it decodes values of unlisted types as ASCII.
VECTOR = 242
pymysql.connections.TEXT_TYPES.add(VECTOR)
#: What the driver, and no server, says.
OF_CLIENT = range(2000, 3000)
#: Not in a state in which a session waits for its client, while the client waits for it.
AT_WORK = """command not in ('Sleep', 'Daemon', 'Binlog Dump') and coalesce(state, '') not in
  ('Writing to net', 'Sending to client', 'Reading from net', 'Receiving from client')"""
SESSIONS = "select 1 from information_schema.processlist where " + AT_WORK  # noqa: S608 - a constant
OF_SESSION = SESSIONS + " and id = {0}"
OF_PROGRAM = (
    SESSIONS
    + " and db = {0} and id <> connection_id() and time >= {1} and user = substring_index(user(), '@', 1)"
)
UNREACHABLE = "the server fell silent, and takes no new connection either"
NOT_AT_WORK = "the connection fell silent: the server is at work for nobody at its end"

#: The numbers of the sessions that this process has opened: none of them holds up this process.
own_sessions = set[int]()


class Watchdog:
    """Ends a connection whose server has not let the session begin in time.

    The driver waits without a limit for each answer, and a timeout of the socket would begin anew with every byte.
    """

    def __init__(self, connected: socket.socket, seconds: float) -> None:
        self.has_barked = False
        self._socket = connected.dup()  # for TLS the driver takes the socket itself over
        self._timer = threading.Timer(seconds, self._bark)
        self._timer.daemon = True
        self._timer.start()

    def _bark(self) -> None:
        self.has_barked = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Let the connection be."""
        self._timer.cancel()
        self._timer.join()
        self._socket.close()


class PatientSocket(io.RawIOBase):
    """What the driver reads from: it waits for as long as something arrives, or the server is at work."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # the stubs want any buffer
        """Read what has arrived; raises OSError once nothing can be expected any more."""
        return self._session.wait_while_alive(lambda connected: connected.recv_into(buffer))


class Session(pymysql.connections.Connection):
    """A connection that knows what it is connected to."""

    watchdog: Watchdog | None = None  #: until the session has begun
    connect_timeout: float
    url: Url
    _sock: socket.socket
    _rfile: io.BufferedIOBase
    _current_timeout: float | None

    server: Server
    account: str = ""  #: as a GRANT wants it
    database: str = ""  #: as the server spells it
    number: int = 0  #: by which the server knows this session
    #: What keeps a transaction from changing what somebody else changed meanwhile: that it is refused, or else that
    #: whatever is read is locked.
    isolation = "repeatable read"
    settings: Mapping[str, object]
    reading = True
    server_version: str
    server_status: int  #: flags of the answer that came last
    longest = 0  #: bytes of a statement that the server takes; 0: not known yet
    #: Whether an answer may still be on its way, which whoever asks next would take for his.
    in_flight = False

    def _create_ssl_ctx(self, sslp: ssl.SSLContext | Mapping[str, object]) -> ssl.SSLContext:
        """Encrypt for whoever answers, unless ``connecting`` has said whom to trust.

        The driver would do the same, but load every authority that this machine trusts first: more work than all that a
        small command does.
        """
        return sslp if isinstance(sslp, ssl.SSLContext) else unchecked()

    def _get_server_information(self) -> None:
        """Read the greeting: the first thing for which the driver waits once it is connected."""
        self.watchdog = Watchdog(self._sock, self.connect_timeout)
        super()._get_server_information()  # type: ignore[misc]  # the stubs lack it

    def begin(self) -> None:
        """Connect and sign in.

        Raises:
            pymysql.Error: the server refused, did not answer in time, is no server of MySQL, or there is none.
        """
        try:
            self.connect(None if self.unix_socket else self._reached())
        except (pymysql.InternalError, *NOT_UNDERSTOOD) as error:
            raise pymysql.OperationalError(
                NO_GREETING, "what answers there does not speak MySQL's protocol"
            ) from error

    def _reached(self) -> socket.socket:
        """Connect to the first address of the host that accepts it.

        The driver would wait for the resolver as long as the system likes.

        Raises:
            pymysql.OperationalError: nobody does.
        """
        try:
            failure: OSError | None = None
            for address in liveness.resolve(self.host, self.port, self.connect_timeout):
                try:
                    connected = socket.create_connection((address, self.port), self.connect_timeout)
                except OSError as error:
                    failure = error
                else:
                    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                    self.host_info = f"socket {self.host}:{self.port}"
                    return connected
            raise failure or OSError("the name has no address")
        except OSError as error:
            reason = f"Can't connect to MySQL server on {self.host!r} ({error})"
            raise pymysql.OperationalError(NO_HOST, reason) from None

    def limit_silence(self) -> None:
        """Limit silence from now on: the session has begun, and what takes time is work of the server."""
        self._read_timeout = self._write_timeout = liveness.SILENCE_SECONDS
        self._rfile.close()  # nothing is on its way, and it would hold the socket open
        self._rfile = io.BufferedReader(PatientSocket(self), READ_BYTES)

    def wait_while_alive(self, move: Callable[[socket.socket], int]) -> int:
        """Move bytes by ``move``, for as long as it takes while the server is at work for this session.

        Raises:
            OSError: the connection is lost, or nothing can be expected from it any more.
        """
        alive: liveness.Liveness | None = None
        while True:
            try:
                return move(self._sock)
            except TimeoutError:
                alive = alive or liveness.Liveness(lambda: probe_session(self), place_of(self.url))
                if reason := alive.find_fault():
                    raise OSError(reason) from None

    def _write_bytes(self, data: bytes) -> None:
        """Send a packet; the driver would count all of it as one wait."""
        if self._current_timeout != self._write_timeout:
            self._sock.settimeout(self._write_timeout)
            self._current_timeout = self._write_timeout
        left = memoryview(data)
        try:
            while left:
                left = left[self.wait_while_alive(lambda connected: connected.send(left)) :]  # noqa: B023 - it runs at once
        except OSError as error:
            self._force_close()  # type: ignore[attr-defined]  # the stubs lack it
            raise pymysql.OperationalError(LOST_WRITING, f"MySQL server has gone away ({error})") from None

    def query(self, sql: str | bytes, unbuffered: bool = False) -> int:  # noqa: FBT001, FBT002 - as the driver has it
        text = sql.encode() if isinstance(sql, str) else sql
        if 0 < self.longest <= len(text):  # the server would only hang up
            told_of = f"the statement has {len(text)} bytes, and max_allowed_packet is {self.longest}"
            raise pymysql.DataError(TOO_LONG, told_of)
        self.in_flight = True
        try:
            told: int = super().query(text, unbuffered)
        except pymysql.Error:
            self.in_flight = False  # it was the answer, or there is no connection any more
            raise
        self.in_flight = False
        return told

    def settle(self) -> None:
        """Bring the settings of the session to what everything here relies on."""
        sets = ", ".join(f"{name} = {literal(value)}" for name, value in self.settings.items())
        self.run(f"set session {sets}")
        mode = "read only" if self.reading else "read write"
        self.run(f"set session transaction isolation level {self.isolation}, {mode}")
        self.run(f"set names utf8mb4 collate {self.server.exact}")

    def run(self, sql: str) -> list[Row]:
        """Run one statement and return its rows."""
        with self.cursor() as cursor:
            cursor.execute(sql)
            return cast("list[Row]", list(cursor.fetchall())) if cursor.description else []

    @property
    def transacting(self) -> bool:
        """Whether a transaction is open, as the server said last."""
        return bool(self.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS)

    def drop(self) -> None:
        """End it without a word to the server."""
        with suppress(pymysql.Error, OSError):
            self.close()


def open_session(url: Url, target: str, *, timeout: float, reading: bool) -> Session:
    """Connect to the database at ``url``.

    Raises:
        UrlInvalidError: it holds an option that is not known, or names no database.
        NotSupportedError: the server is too old.
        ReadOnlyError: it is to be written, and somebody has set that it is not.
        pymysql.Error: the server refused, or there is none.
    """
    session = new_session(url, timeout=timeout)
    try:
        session.begin()
        session.server = server_of(session.server_version, target)
        more = "TIME_TRUNCATE_FRACTIONAL" if session.server.escapes else "NO_BACKSLASH_ESCAPES"
        session.settings = {
            "sql_mode": ",".join((*MODES, more)),
            "time_zone": "+00:00",
            "innodb_lock_wait_timeout": seconds(timeout, session.server),
            "lock_wait_timeout": seconds(timeout, session.server),
            "foreign_key_checks": 1,
            "unique_checks": 1,
            "sql_safe_updates": 0,
            "sql_auto_is_null": 0,
            "group_concat_max_len": 1 << 24,
        }
        session.reading = reading
        if not reading:
            _refuse_what_is_read_only(session, target)
        if not (reading or _refuses_changed(session)):
            session.isolation = "serializable"
        session.settle()
        ((who, name, number, longest),) = session.run(ABOUT)
        session.account, session.database = account(str(who)), str(name)
        session.number, session.longest = int(str(number)), int(str(longest))
        own_sessions.add(session.number)
        session.limit_silence()
    except BaseException as error:  # an open connection must not outlive the failure
        session.drop()
        if isinstance(error, pymysql.Error) and session.watchdog and session.watchdog.has_barked:
            limit = session.connect_timeout
            least = (
                f" (--timeout {timeout:g} is below what a server gets to answer)" if timeout < limit else ""
            )
            reason = f"the server did not let a session begin within {limit:g} seconds{least}"
            raise pymysql.OperationalError(LOST, reason) from None
        raise
    finally:
        if session.watchdog:
            session.watchdog.end()
            session.watchdog = None
    return session


def new_session(url: Url, *, timeout: float) -> Session:
    """Return a session that has still to begin."""
    told: dict[str, Any] = {"connect_timeout": max(CONNECT_SECONDS, ceil(timeout)), **connecting(url)}
    if "unix_socket" in told:
        try_socket(str(told["unix_socket"]))
    session = Session(
        **told,
        charset="utf8mb4",
        autocommit=True,
        client_flag=CLIENT.FOUND_ROWS,
        conv=PLAIN,  # type: ignore[arg-type]
        program_name="dbctl",
        defer_connect=True,
    )
    session.url = url
    return session


def place_of(url: Url) -> str:
    """Return the server of ``url``, as its other sessions call it, too."""
    return f"{url.host}:{url.port}?{url.options}"


def probe_session(session: Session) -> str:
    """Return why nothing can be expected of a session any more; empty: the server is at work for it."""
    return _probed(session.url, OF_SESSION.format(session.number), timeout=session.connect_timeout)


def probe_program(url: Url, database: str, *, timeout: float) -> str:
    """Return why nothing can be expected of a program that connected to ``url`` any more, to work in ``database``.

    What the app runs there by the same account takes less time than the silence after which this is asked.
    """
    return _probed(url, OF_PROGRAM.format(literal(database), int(liveness.SILENCE_SECONDS)), timeout=timeout)


def _probed(url: Url, sql: str, *, timeout: float) -> str:
    try:
        other = new_session(url, timeout=timeout)
        try:
            other.begin()
            rows = other.run(sql)
        finally:
            if other.watchdog:
                other.watchdog.end()
            other.drop()
    except pymysql.Error as error:
        # A server without room for another connection answers, too.
        return UNREACHABLE if number_of(error) in OF_CLIENT else ""
    return "" if rows else NOT_AT_WORK


def try_socket(path: str) -> None:
    """Fail where nobody listens on a socket; the driver would fail, too, and leave its end of it open."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as tried:
        # A timeout of Python's own would not wait at all for a server that is slow to accept.
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", CONNECT_SECONDS, 0))
        try:
            tried.connect(path)
        except OSError as error:
            told = f"Can't connect to the server through {path} ({error.strerror or error})"
            raise pymysql.OperationalError(NO_SOCKET, told) from None


def seconds(timeout: float, server: Server) -> int:
    """Return how long a server is to wait: it counts in whole seconds, and MySQL waits for one at least."""
    least = 0 if server.is_mariadb and timeout <= 0 else 1
    return min(max(least, ceil(timeout)), LONGEST_WAIT)


def _refuse_what_is_read_only(session: Session, target: str) -> None:
    """Refuse to write where somebody has set that nothing is written, above all on a replica.

    The server lets administrators write all the same, and every session undo what its transactions may do.
    """
    told = [str(name) for name, value in session.run(READ_ONLY) if str(value).upper() not in ("OFF", "0")]
    if told:
        raise ReadOnlyError(
            target=target,
            reason=f"{told[0]} is on",
            instead="Nothing was changed. Somebody has set that for the server, most likely because it is a replica:"
            " write to its primary, or see why and SET GLOBAL it off.",
        )


def _refuses_changed(session: Session) -> bool:
    """Ask for what PostgreSQL does by itself; return whether the server can."""
    try:
        session.run("set session innodb_snapshot_isolation = 1")
    except pymysql.Error as error:
        if number_of(error) != UNKNOWN_VARIABLE:
            raise
        return False
    return True


#: The oldest that is known to do all that is asked here.
OLDEST = {"MySQL": (8, 0, 17), "MariaDB": (10, 6, 0)}
#: Since then one right of MySQL lets a user make something in the name of another one, and a second one of nobody.
NAMES_DEFINERS = (8, 2, 0)
#: Since then MySQL keeps libraries of JavaScript and the like in a database.
KEEPS_LIBRARIES = (9, 2, 0)
_VERSION = re.compile(r"(?:5\.5\.5-)?(\d+)\.(\d+)\.(\d+)")


class Server(Value, frozen=True, kw_only=True):
    """What a server is, and what follows from it."""

    product: Literal["MySQL", "MariaDB"]
    version: tuple[int, int, int]
    told: str  #: in its own words

    @property
    def exact(self) -> str:
        """Its collation by code points in which a blank at the end counts."""
        return "utf8mb4_nopad_bin" if self.product == "MariaDB" else "utf8mb4_0900_bin"

    @property
    def is_mariadb(self) -> bool:
        return self.product == "MariaDB"

    @property
    def escapes(self) -> bool:
        """Whether a backslash in a text escapes, in every session that is opened here.

        MySQL keeps what a column is computed by, its default and its checks as a text in which it does, looks for rows in
        derived tables by another one, and reads both in the mode of the session. Where none escaped, a table would not
        open that has a quote there, and one with a backslash would compute something else, also for the app.
        """
        return not self.is_mariadb

    @property
    def has_libraries(self) -> bool:
        """Whether ``CREATE LIBRARY`` exists."""
        return not self.is_mariadb and self.version >= KEEPS_LIBRARIES

    @property
    def making_for_others(self) -> str:
        """The right to make triggers, views, routines and events in the name of somebody else."""
        if self.is_mariadb:
            return "SET USER"
        return "SET_USER_ID" if self.version < NAMES_DEFINERS else "SET_ANY_DEFINER"


def server_of(told: str, target: str) -> Server:
    """Return what a server says of itself.

    Raises:
        NotSupportedError: it is older than what is known to work.
    """
    product: Literal["MySQL", "MariaDB"] = "MariaDB" if "mariadb" in told.lower() else "MySQL"
    found = _VERSION.match(told)
    version = (int(found[1]), int(found[2]), int(found[3])) if found else (0, 0, 0)
    if version < OLDEST[product]:
        least = " and ".join(f"{name} {'.'.join(map(str, oldest))}" for name, oldest in OLDEST.items())
        raise NotSupportedError(
            what=f"opening {target}", by=f"{product} {told}", instead=f"It takes {least}, or later ones."
        )
    return Server(product=product, version=version, told=told)
