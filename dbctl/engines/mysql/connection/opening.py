"""Open sessions, and probe over a second one whether a server still works for the first."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from math import ceil
from typing import Any

import pymysql
from pymysql.constants import CLIENT

from dbctl.engines.mysql.connection.server import Server, parse_server
from dbctl.engines.mysql.connection.session import Session
from dbctl.engines.mysql.errors import error_number, quote_account
from dbctl.engines.mysql.options import connection_arguments
from dbctl.engines.mysql.types.values import CONVERTERS, format_literal
from dbctl.engines.servers.connection import CONNECT_SECONDS
from dbctl.errors.connection import ReadOnlyError
from dbctl.errors.operations import NodeNotReadyError
from dbctl.files import liveness
from dbctl.url import Url

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
#: Error numbers of the server and of the driver.
UNKNOWN_VARIABLE, NO_SOCKET, LOST = 1193, 2002, 2013
SESSION_INFO = """select current_user(), database(), connection_id(), @@max_allowed_packet,
  concat_ws(':', @@hostname, @@port, @@datadir)"""
#: The setting has either name; before dbctl applies its settings, it is the server's default.
READ_ONLY = ("read_only", "tx_read_only", "transaction_read_only")
VARIABLES = f"show variables where variable_name in {(*READ_ONLY, 'wsrep_on', 'wsrep_provider')}"
NODE_STATUS = (
    "show status where variable_name in ('wsrep_ready', 'wsrep_cluster_status', 'wsrep_local_state_comment')"
)
#: A node waits until it has applied the earlier changes of all nodes, and runs schema changes on every node.
NODE_SETTINGS = {"wsrep_sync_wait": 1, "wsrep_osu_method": "TOI"}
#: Error numbers of the driver.
CLIENT_ERRORS = range(2000, 3000)
#: Excludes states in which a session waits for its client, while the client may wait for it.
IS_WORKING = """command not in ('Sleep', 'Daemon', 'Binlog Dump') and coalesce(state, '') not in
  ('Writing to net', 'Sending to client', 'Reading from net', 'Receiving from client')"""
SESSIONS = "select 1 from information_schema.processlist where " + IS_WORKING
SESSION_STATE = SESSIONS + " and id = {0}"
PROGRAM_STATE = (
    SESSIONS
    + " and db = {0} and id <> connection_id() and time >= {1} and user = substring_index(user(), '@', 1)"
)
IDLE = "the connection does not respond, and the server runs nothing for it"

#: The instance and the connection id of each session of this process: they do not block this process.
own_sessions = set[tuple[str, int]]()


def open_session(url: Url, target: str, *, timeout: float, read_only: bool) -> Session:
    """Connect to the database at ``url``.

    Raises:
        UrlInvalidError: it contains an unknown option, or names no database.
        NotSupportedError: the server is too old.
        NodeNotReadyError: it is a node of a cluster that accepts no statements.
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
        variables = {str(name).lower(): str(value) for name, value in session.run(VARIABLES)}
        if variables.get("wsrep_on") == "ON" and variables.get("wsrep_provider", "none") != "none":
            _require_ready(session, target)
            session.is_cluster_node = True
            session.settings = {**session.settings, **NODE_SETTINGS}
        if not read_only:
            _refuse_read_only(variables, target)
        if not (read_only or _enable_snapshot_isolation(session)):
            session.isolation = "serializable"
        session.apply_settings()
        ((user, name, connection_id, longest, instance),) = session.run(SESSION_INFO)
        session.account, session.database = quote_account(str(user)), str(name)
        session.connection_id, session.max_statement_bytes = int(str(connection_id)), int(str(longest))
        session.instance = str(instance)
        own_sessions.add((session.instance, session.connection_id))
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
    session.url, session.probe, session.timeout = url, probe_session, timeout
    return session


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
        return liveness.UNREACHABLE if error_number(error) in CLIENT_ERRORS else ""
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


def _require_ready(session: Session, target: str) -> None:
    """Refuse a node of a Galera cluster that is not in the primary component, or is joining it.

    Raises:
        NodeNotReadyError: it would reject every statement, or return old rows.
    """
    status = {str(name).lower(): str(value) for name, value in session.run(NODE_STATUS)}
    if status.get("wsrep_ready") != "ON":
        component, state = status.get("wsrep_cluster_status"), status.get("wsrep_local_state_comment")
        raise NodeNotReadyError(target=target, reason=f"component {component}, state {state}")


def _refuse_read_only(variables: Mapping[str, str], target: str) -> None:
    """Refuse to write if a setting makes the server read-only, most likely on a replica.

    Otherwise administrators could still write, and every session could override the mode of its transactions.
    """
    enabled = [name for name in READ_ONLY if variables.get(name, "OFF").upper() not in ("OFF", "0")]
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
