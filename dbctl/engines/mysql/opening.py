"""Open sessions, and translate errors of the driver."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import pymysql
from msgspec import structs
from pymysql.constants import CLIENT

from dbctl.engines.contract.route import create_unreachable_error, open_socket
from dbctl.engines.mysql.dialect import PROCESSES, Server, parse_server
from dbctl.engines.mysql.options import SOCKET, connection_arguments
from dbctl.engines.mysql.session import Session
from dbctl.engines.mysql.values import CONVERTERS, escape_pattern, format_literal
from dbctl.engines.servers.connection import CONNECT_SECONDS
from dbctl.engines.servers.engine import CHECK_URL, FREE_CONNECTION, ErrorContext
from dbctl.engines.sql.catalog import NO_LIMIT
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.connection import (
    BinaryLogRefusedError,
    BusyError,
    ConcurrentChangeError,
    ConstraintError,
    CorruptError,
    DiskFullError,
    PrivilegeMissingError,
    ReadOnlyError,
    UnreachableError,
)
from dbctl.errors.operations import NodeNotReadyError
from dbctl.errors.usage import ValueInvalidError
from dbctl.files import liveness
from dbctl.url import Url

#: Errors of a connection that could not be opened, and of one that the server ended, or the client lost.
REFUSED = frozenset({1040, 1129, 1130, 1203, 1226, 2002, 2003, 2026})
CONNECTION_ERRORS = REFUSED | {0, 1053, 1152, 1158, 1159, 1160, 1161, 1927, 2006, 2013, 4031}
GLOBALLY = ", for all users until the server restarts, with: SET GLOBAL"
#: The server, or the account, has too many connections; how to raise the limit.
FULL = {
    1040: f"{GLOBALLY} max_connections = 500;",
    1203: f"{GLOBALLY} max_user_connections = 0;",
    1226: " with: ALTER USER … WITH MAX_USER_CONNECTIONS 0;",
}
#: Not 1044, which a server also reports for a database that does not exist yet.
LOGIN_REFUSED = frozenset({1045, 1130, 1698})
#: Without this setting, triggers and functions need SUPER on a server that writes a binary log. Its message names the setting.
TRUSTING = "log_bin_trust_function_creators"
ALLOW_CODE = f"Allow triggers and functions{GLOBALLY} {TRUSTING} = 1;"
DEADLOCK, CHANGED, NO_SUCH_TABLE, LOG_REFUSED, SIGNALED = 1213, 1020, 1146, 1665, 1644
#: Of a statement that exceeds a limit, with the variable of the limit.
TIMEOUT_ERRORS = {1969: "max_statement_time", 3024: "max_execution_time"}
LONG_ROW = f"Raise the limit{GLOBALLY} max_allowed_packet = 1073741824;"
#: Hints about errors whose message does not say what to do.
HINTS = {
    1038: f"Raise the limit{GLOBALLY} sort_buffer_size = 16777216;",  # a sort needs more memory
    1114: "The disk of the server is full, or the table has the size limit of its engine: SHOW VARIABLES LIKE 'max_heap_table_size'; (MEMORY)",
    1153: LONG_ROW,
    1178: "A transaction with tables of Aria has no savepoints: SELECT table_name FROM information_schema.tables WHERE engine = 'Aria' AND table_schema = database(); With the app stopped: ALTER TABLE … ENGINE=InnoDB;",
    1317: "Another session stopped it, or a limit of time: SHOW VARIABLES LIKE 'max_statement_time'; (MariaDB)",
    1419: ALLOW_CODE,
    LOG_REFUSED: f"Log rows instead of statements{GLOBALLY} binlog_format = 'ROW';",  # a change of a sequence
    1709: f"Give new tables the format of rows with longer keys{GLOBALLY} innodb_default_row_format = 'dynamic';",  # an index on a table with the old format of rows
    3750: f"Allow tables without a key{GLOBALLY} sql_require_primary_key = 0;",
    2006: f"If the server runs, a row is longer than it accepts. {LONG_ROW}",  # a server also ends a connection after a statement that is too long
}
#: MySQL has a number for it, and since MySQL 9.6 one for too many tables; MariaDB has a message with the number that InnoDB uses.
CASCADE_TOO_DEEP, CASCADE_TOO_DEEP_REASON = frozenset({3008, 6575}), "Got error 193 "
CASCADE_HINT = Remedy(
    "Foreign keys change at most 15 levels of rows. Delete rows of the lowest level first, with: `data delete TABLE KEY`"
)
#: With the numbers of storage engines for a damaged index, row, file or page, and for a missing file.
_DAMAGED = re.compile(r"Got error '?(126|127|144|145|175|176|180|194) ")
#: The server lacks a function or a feature, as compatible servers may.
UNSUPPORTED = frozenset({1105, 1235, 1305})
#: After these errors the transaction is rolled back, and the next statement does not belong to it.
ROLLED_BACK = frozenset({DEADLOCK, CHANGED})

_PERMISSION_DENIED = re.compile(
    r"^(?P<right>[\w, ]+?) command denied to user .* for (?:table|view|column .* in table) (?P<name>.+)$",
    re.DOTALL,
)
_NO_DATABASE = re.compile(r"(?s)^Access denied for user (?P<who>'.*'@'.*') to database '(?P<name>.*)'$")
_LAST_NAME = re.compile(r"`(?P<quoted>(?:[^`]|``)*)`$|'(?P<plain>.*)'$", re.DOTALL)
_NEEDED = re.compile(r"at least one of\) the (?P<right>.+?) privilege")
_VALUES = re.compile(
    r"(?<=Duplicate entry )'.*'(?= for key)|(?<=value: )'.*?'(?= for column)|^(Data truncated|Out of range)",
    re.DOTALL,
)
#: Privileges that a statement needs on a table, by its first word: a change also reads the row.
PRIVILEGES = {
    "insert": "SELECT, INSERT",
    "update": "SELECT, UPDATE",
    "delete": "SELECT, DELETE",
    "select": "SELECT",
}
ALL = "SELECT, INSERT, UPDATE, DELETE"


def error_number(error: BaseException | None) -> int:
    """Return the error number of the server or the driver; 0 if there is none."""
    number = error.args[0] if isinstance(error, pymysql.Error) and error.args else 0
    return number if isinstance(number, int) else 0


def format_reason(error: pymysql.Error) -> str:
    """Return the message without values of a row, which may be secrets."""
    message = str(error.args[1]) if len(error.args) > 1 else str(error)
    return hide_values(message.strip()) or "the connection was lost"


def hide_values(message: str) -> str:
    """Return a message of the server without values of a row, which may be secrets."""
    return _VALUES.sub(lambda match: match[1] or "(…)", message)


def unreachable_error(error: pymysql.Error, target: str, url: Url) -> UnreachableError:
    """Return the error of a connection to ``url`` that could not be opened."""
    reason, number = format_reason(error), error_number(error)
    instead = FREE_CONNECTION + FULL[number] if number in FULL else CHECK_URL
    if match := _NO_DATABASE.match(reason):
        pattern = quote(escape_pattern(match["name"]))
        instead = f"As an administrator: GRANT {ALL} ON {pattern}.* TO {match['who']};"
    can_pass = number not in LOGIN_REFUSED
    if number not in CLIENT_ERRORS:  # the server answered, so its route works
        url = structs.replace(url, via="")
    return create_unreachable_error(url, target, reason, instead, can_pass=can_pass)


def translate_error(
    error: pymysql.Error, context: ErrorContext, sql: str, *, writing: bool, broken: bool
) -> DbctlError:
    """Convert a driver error; ``broken``: the connection is lost."""
    number, reason = error_number(error), format_reason(error)
    # After a failed commit, a node that rejoins its cluster may still apply the change.
    is_in_doubt = sql == "commit" and (broken or number not in ERRORS)
    if broken or is_in_doubt or number in CONNECTION_ERRORS:
        is_refused = not broken and number in REFUSED
        lost = context.disconnected_error(reason, committing=is_in_doubt, is_refused=is_refused)
        lost.hint = FREE_CONNECTION + FULL[number] if number in FULL else lost.hint
        return lost
    if number == 1290 and "read-only" not in reason:  # noqa: PLR2004 - the number has other meanings, too
        return context.query_error(reason)
    if number in CASCADE_TOO_DEEP or reason.startswith(CASCADE_TOO_DEEP_REASON):
        return context.query_error(reason, hint=CASCADE_HINT)
    known = ERRORS.get(number) or (writing and number == SIGNALED and ConstraintError)
    if kind := CorruptError if _DAMAGED.match(reason) else known:
        return context.create_error(kind, reason, grant_hint=lambda: _grant_statement(error, context, sql))
    if writing and number in _VALUE_ERRORS:
        invalid = ValueInvalidError(name="a value", value="given", reason=reason)
        invalid.hint = " ".join(filter(None, [invalid.hint, HINTS.get(number)]))
        return invalid
    limit = f"Remove the limit{GLOBALLY} {TIMEOUT_ERRORS[number]} = 0;" if number in TIMEOUT_ERRORS else ""
    hint = HINTS.get(number, "")
    return context.query_error(reason, limit=limit, hint=hint, is_table_missing=number == NO_SUCH_TABLE)


def _grant_statement(error: pymysql.Error, context: ErrorContext, sql: str) -> str:
    """Return a hint with the GRANT statement, if the message names the object."""
    reason = format_reason(error)
    if hint := HINTS.get(error_number(error)):
        return f"Nothing was changed. {hint}"
    if match := _PERMISSION_DENIED.search(reason):
        right = match["right"]
        words = sql.split(None, 1)
        if words and right.lower() in PRIVILEGES.get(words[0].lower(), "").lower():
            right = PRIVILEGES[words[0].lower()]
        last = _LAST_NAME.search(match["name"])
        name = (last["plain"] or last["quoted"].replace("``", "`")) if last else match["name"]
        grant = f"{right} ON {quote(context.schema)}.{quote(name)}"
    elif match := _NEEDED.search(reason):
        rights = re.split(r", | or ", match["right"], flags=re.IGNORECASE)
        grant = f"{next((right for right in rights if right != 'SUPER'), 'SUPER')} ON *.*"
    else:
        grant = f"{ALL} ON {context.find_place() or quote(escape_pattern(context.schema)) + '.*'}"
    return f"Nothing was changed. As an administrator: GRANT {grant} TO {context.account};"


def quote(name: str) -> str:
    """Quote a name in a form that every ``sql_mode`` accepts."""
    return "`" + name.replace("`", "``") + "`"


def quote_account(account: str) -> str:
    """Quote the account that ``current_user()`` returned for GRANT."""
    user, _, host = account.rpartition("@")
    return f"{format_literal(user)}@{format_literal(host)}"


_VALUE_ERRORS = (1048, 1153, 1264, 1265, 1292, 1364, 1366, 1367, 1406, 1411, 1416, 1690, 3140, 4025, 4078)
_CONSTRAINTS = (1022, 1048, 1062, 1169, 1216, 1217, 1364, 1451, 1452, 1557, 1586, 1761, 1762, 3819, 4025)
#: Those below 1000 are numbers of the storage engine, which MySQL passes on.
_DAMAGES = (126, 127, 144, 145, 1016, 1017, 1033, 1034, 1035, 1194, 1195, 1712, 1812, 1814, 1877, 1932)
ERRORS: Mapping[int, type[DbctlError]] = {
    **dict.fromkeys([1205, 3572], BusyError),
    **dict.fromkeys([DEADLOCK, CHANGED, 9007], ConcurrentChangeError),  # 9007: TiDB's conflict of two writes
    1047: NodeNotReadyError,  # it rejects every statement
    **dict.fromkeys([1044, 1045, 1142, 1143, 1227, 1370, 1410, 1419], PrivilegeMissingError),
    LOG_REFUSED: BinaryLogRefusedError,
    **dict.fromkeys([1036, 1290, 1792, 1836, 1874, 3989], ReadOnlyError),
    1021: DiskFullError,
    **dict.fromkeys([*_CONSTRAINTS, 1442], ConstraintError),  # 1442: a trigger changes its own table
    **dict.fromkeys(_DAMAGES, CorruptError),
}


#: The maximum lock timeout of a server, in seconds.
MAX_LOCK_WAIT_SECONDS = 31_536_000
#: Standard quotes and ``||``; values that do not fit are rejected, even if a non-transactional table takes part; a key of 0
#: remains 0. Zero dates in a table are written as they were read.
MODES = "PIPES_AS_CONCAT,ANSI_QUOTES,STRICT_ALL_TABLES,STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO"
#: Error numbers of the driver.
NO_SOCKET, LOST, CLIENT_ERRORS = 2002, 2013, range(2000, 3000)
SESSION_INFO = """select current_user(), database(), connection_id(), @@max_allowed_packet,
  concat_ws(':', @@hostname, @@port, @@datadir)"""
#: Settings that make a server read-only, and the values that do not. That of transactions has either name; before dbctl applies its settings, it is the server's default.
READ_ONLY: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(["read_only", "tx_read_only", "transaction_read_only", "innodb_read_only"], ("off", "0")),
    "innodb_force_recovery": tuple("01234"),
}
REPLICA = "a replica: write to its primary, or check the reason and disable it with SET GLOBAL (innodb_read_only: by a restart)."
DAMAGED = "damaged: create a backup, restore it on a new server, and write to that one."
#: Values of settings with which a program of the server writes everything, and quotes all names.
COMPLETE = {
    "max_join_size": str((1 << 64) - 1),
    "sql_quote_show_create": "ON",
    "system_versioning_asof": "DEFAULT",
}
#: In the schema of a product. ``sql_select_limit`` also limits SHOW, but no query with a limit of its own.
VARIABLES = f"""{{}} variable_name, variable_value from {{}}.session_variables
where variable_name in {(*READ_ONLY, "wsrep_on", "wsrep_provider", "sql_select_limit", "init_connect", *COMPLETE)} limit 20"""
#: The beginning of a query before dbctl applies its settings, which ``max_join_size`` does not limit.
UNLIMITED = {
    "MariaDB": "set statement sql_big_selects = 1 for select",
    "MySQL": "select /*+ set_var(sql_big_selects = 1) */",
}
MARIADB_SETTINGS = {
    "alter_algorithm": "DEFAULT",  # otherwise a rebuild fails
    "check_constraint_checks": 1,
    "default_regex_flags": "",
    "idle_transaction_timeout": 0,
    "idle_readonly_transaction_timeout": 0,
    "idle_write_transaction_timeout": 0,
    "sql_if_exists": 0,  # otherwise CREATE TABLE IF NOT EXISTS fails if the table exists
}
MYSQL_SETTINGS = {"information_schema_stats_expiry": 0}  # otherwise sizes and counters are up to a day old
NODE_STATUS = (
    "show status where variable_name in ('wsrep_ready', 'wsrep_cluster_status', 'wsrep_local_state_comment')"
)
#: A node waits until it has applied the earlier changes of all nodes, and runs schema changes on every node.
NODE_SETTINGS = {"wsrep_sync_wait": 1, "wsrep_osu_method": "TOI"}
#: The longest times that every server accepts for a session that waits, and a day for its reader, in seconds.
LONGEST_IDLE, LONGEST_WRITE = 2_147_483, 86_400
#: Excludes states in which a session waits for its client, while the client may wait for it.
IS_WORKING = """command not in ('Sleep', 'Daemon', 'Binlog Dump') and coalesce(state, '') not in
  ('Writing to net', 'Sending to client', 'Reading from net', 'Receiving from client')"""
SESSIONS = f"select 1 from {PROCESSES} p where {IS_WORKING}"
SESSION_STATE = SESSIONS + " and id = {0}"
PROGRAM_STATE = (
    SESSIONS
    + " and db = {0} and id <> connection_id() and time >= {1} and user = substring_index(user(), '@', 1)"
)

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
    session = new_session(url, target, timeout=timeout)
    try:
        session.begin()
        session.server = parse_server(session.server_version, target)
        mode = "TIME_TRUNCATE_FRACTIONAL" if session.server.backslash_escapes else "NO_BACKSLASH_ESCAPES"
        session.settings = {
            "sql_mode": f"{MODES},{mode}",
            "time_zone": "+00:00",
            "innodb_lock_wait_timeout": lock_wait_seconds(timeout, session.server),
            "lock_wait_timeout": lock_wait_seconds(timeout, session.server),
            "foreign_key_checks": 1,
            "unique_checks": 1,
            "sql_safe_updates": 0,
            "sql_auto_is_null": 0,
            "sql_big_selects": 1,
            "sql_quote_show_create": 1,
            "group_concat_max_len": 1 << 24,
            "sql_select_limit": NO_LIMIT,
            # One session waits while another one loads or verifies a backup, and a slow reader of a result does not read.
            "wait_timeout": LONGEST_IDLE,
            "net_write_timeout": LONGEST_WRITE,
            "completion_type": "NO_CHAIN",
            "default_storage_engine": "InnoDB",  # tables of dbctl change in transactions
            "lc_messages": "en_US",  # in another language, the values of a row would not be found in a message
            **(MARIADB_SETTINGS if session.server.is_mariadb else MYSQL_SETTINGS),
        }
        session.read_only = read_only
        schema = "information_schema" if session.server.is_mariadb else "performance_schema"
        sql = VARIABLES.format(UNLIMITED[session.server.product], schema)
        variables = {str(name).lower(): str(value) for name, value in session.run(sql)}
        session.server = structs.replace(
            session.server,
            limits_programs=int(variables["sql_select_limit"]) < NO_LIMIT
            or any(variables.get(name, value) != value for name, value in COMPLETE.items()),
            begins_sessions=variables["init_connect"] != "",
        )
        if variables.get("wsrep_on") == "ON" and variables.get("wsrep_provider", "none") != "none":
            _require_ready(session, target)
            session.is_cluster_node = True
            session.settings = {**session.settings, **NODE_SETTINGS}
        if not read_only:
            _refuse_read_only(variables, target)
        # The rejection of concurrent changes, which PostgreSQL has by default; not all servers support it.
        if not (read_only or session.try_settings(["innodb_snapshot_isolation = 1"])):
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


def open_dump_session(url: Url, target: str, *, timeout: float) -> Session:
    """Open a session for the dump program, or for a lock of its tables.

    Raises:
        UnreachableError: the server refused the connection, or is not reachable.
    """
    try:
        session = open_session(url, target, timeout=timeout, read_only=True)
    except pymysql.Error as error:
        raise unreachable_error(error, target, url) from None
    session.run("set names utf8mb4")
    # In a read-only transaction, the server does not show views with a sequence.
    session.run("set session transaction read write")
    return session


def new_session(url: Url, target: str, *, timeout: float) -> Session:
    seconds = max(CONNECT_SECONDS, ceil(timeout))
    arguments: dict[str, Any] = {"connect_timeout": seconds, **connection_arguments(url)}
    if "unix_socket" in arguments:
        check_socket(str(arguments["unix_socket"]))
    session = Session(
        **arguments,
        charset="utf8mb4",
        autocommit=True,  # a transaction begins and ends by a statement, so a read between them holds no snapshot
        client_flag=CLIENT.FOUND_ROWS,  # an update counts rows that already have the new value, as on other engines
        conv=CONVERTERS,  # type: ignore[arg-type]
        program_name="dbctl",
        defer_connect=True,  # ``Session.begin`` connects
    )
    session.url, session.probe, session.timeout = url, probe_session, timeout
    session.relay = open_socket(url, target, SOCKET) if url.via else None
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
        other = new_session(url, "", timeout=timeout)
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
    return "" if rows else liveness.IDLE


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
    for name, writable in READ_ONLY.items():
        value = variables.get(name, writable[0]).lower()
        if value not in writable:
            why = DAMAGED if name == "innodb_force_recovery" else REPLICA
            hint = f"Nothing was changed. It is set for the server, most likely because it is {why}"
            raise ReadOnlyError(target=target, reason=f"{name} is {value}", hint=hint)
