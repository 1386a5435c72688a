"""Convert errors of MySQL and MariaDB to dbctl errors, by their number."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pymysql

from dbctl.engines.mysql.types.values import format_literal
from dbctl.engines.servers.errors import CHECK_URL, ErrorContext
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import (
    BusyError,
    ConcurrentChangeError,
    ConstraintError,
    CorruptError,
    DiskFullError,
    PrivilegeMissingError,
    QueryFailedError,
    ReadOnlyError,
    UnreachableError,
)
from dbctl.errors.operations import NodeNotReadyError
from dbctl.errors.usage import ValueInvalidError

#: Errors of the server that accepts no connection, or ended one, and errors of the client, which lost it.
REFUSED = frozenset({1040, 1053, 1129, 1130, 1152, 1158, 1159, 1160, 1161, 1203, 1226, 1927, 4031})
CONNECTION_ERRORS = REFUSED | {0, 2002, 2003, 2006, 2013, 2026}
DEADLOCK, CHANGED, TIMEOUT_ERRORS = 1213, 1020, frozenset({1969, 3024})
#: The server lacks a function or a feature, as compatible servers may.
UNSUPPORTED = frozenset({1105, 1235, 1305})
#: After these errors the transaction is rolled back, and the next statement does not belong to it.
ROLLED_BACK = frozenset({DEADLOCK, CHANGED})

_PERMISSION_DENIED = re.compile(
    r"^(?P<right>[\w, ]+?) command denied to user .* for (?:table|view|column .* in table) (?P<name>.+)$",
    re.DOTALL,
)
_NO_DATABASE = re.compile(
    r"^Access denied for user (?P<who>'.*'@'.*') to database '(?P<name>.*)'$", re.DOTALL
)
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
    return _VALUES.sub(lambda match: match[1] or "(…)", message.strip()) or "the connection was lost"


def unreachable_error(error: pymysql.Error, target: str) -> UnreachableError:
    """Return the error of a connection that could not be opened."""
    reason, instead = format_reason(error), CHECK_URL
    if match := _NO_DATABASE.match(reason):
        instead = f"As an administrator: GRANT {ALL} ON {quote(match['name'])}.* TO {match['who']};"
    return UnreachableError(target=target, reason=reason, hint=instead)


NO_SUCH_TABLE = 1146


def translate_error(
    error: pymysql.Error, context: ErrorContext, sql: str, *, writing: bool, broken: bool
) -> DbctlError:
    """Convert a driver error; ``broken``: the connection is lost."""
    number, reason = error_number(error), format_reason(error)
    # After a failed commit, a node that rejoins its cluster may still apply the change.
    is_in_doubt = sql == "commit" and (broken or number not in ERRORS)
    if broken or is_in_doubt or number in CONNECTION_ERRORS:
        return context.disconnected_error(reason, committing=is_in_doubt)
    if number == 1290 and "read-only" not in reason:  # noqa: PLR2004 - the number has other meanings, too
        return QueryFailedError(target=context.target, reason=reason)
    if kind := ERRORS.get(number):
        return context.create_error(kind, reason, grant_hint=lambda: _grant_statement(error, context, sql))
    if writing and number in _VALUE_ERRORS:
        return ValueInvalidError(name="a value", value="given", reason=reason)
    return QueryFailedError(target=context.target, reason=reason, is_table_missing=number == NO_SUCH_TABLE)


def _grant_statement(error: pymysql.Error, context: ErrorContext, sql: str) -> str:
    """Return a hint with the GRANT statement, if the message names the object."""
    reason = format_reason(error)
    if match := _PERMISSION_DENIED.search(reason):
        right = match["right"]
        words = sql.split(None, 1)
        if words and right.lower() in PRIVILEGES.get(words[0].lower(), "").lower():
            right = PRIVILEGES[words[0].lower()]
        last = _LAST_NAME.search(match["name"])
        name = (last["plain"] or last["quoted"].replace("``", "`")) if last else match["name"]
        grant = f"{right} ON {quote(context.schema)}.{quote(name)}"
    elif match := _NEEDED.search(reason):
        grant = f"{match['right'].partition(' OR ')[0].partition(',')[0]} ON *.*"
    else:
        grant = f"{ALL} ON {quote(context.schema)}.*"
    return f"Nothing was changed. As an administrator: GRANT {grant} TO {context.account};"


def quote(name: str) -> str:
    """Quote a name in a form that every ``sql_mode`` accepts."""
    return "`" + name.replace("`", "``") + "`"


def quote_account(account: str) -> str:
    """Quote the account that ``current_user()`` returned for GRANT."""
    user, _, host = account.rpartition("@")
    return f"{format_literal(user)}@{format_literal(host)}"


_VALUE_ERRORS = frozenset(
    {1048, 1153, 1264, 1265, 1292, 1364, 1366, 1367, 1406, 1411, 1690, 3140, 4025, 4078}
)
_CONSTRAINTS = (1022, 1048, 1062, 1169, 1216, 1217, 1364, 1451, 1452, 1557, 1586, 1761, 1762, 3819, 4025)
ERRORS: Mapping[int, type[DbctlError]] = {
    **dict.fromkeys([1205, 3572], BusyError),
    **dict.fromkeys([DEADLOCK, CHANGED, 9007], ConcurrentChangeError),  # 9007: TiDB's conflict of two writes
    1047: NodeNotReadyError,  # it rejects every statement
    **dict.fromkeys([1044, 1045, 1142, 1143, 1227, 1370, 1410, 1419], PrivilegeMissingError),
    **dict.fromkeys([1290, 1792, 1836, 3989], ReadOnlyError),
    **dict.fromkeys([1021, 1114], DiskFullError),
    **dict.fromkeys(_CONSTRAINTS, ConstraintError),
    **dict.fromkeys([126, 127, 1034, 1035, 1194, 1195, 1712, 1877], CorruptError),
}
