"""What MySQL and MariaDB report becomes a failure of ours, by its number."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import pymysql

from dbctl.engines.mysql.types import literal
from dbctl.errors import (
    BusyError,
    ChangedMeanwhileError,
    ConstraintError,
    CorruptError,
    DbctlError,
    DiskFullError,
    PrivilegeMissingError,
    QueryFailedError,
    ReadOnlyError,
    UnreachableError,
    ValueInvalidError,
)
from dbctl.model import Value

CHECK_URL = "Check that the server runs, and host, port, name, user and password in the URL of this database."
BROKEN = "What was not committed was rolled back. Run it again when the server is there."
IN_DOUBT = "It broke off while a change was committed: look whether it was made before you run it again."

#: Of the client: there is no server, or it is there no more. Of the server: it takes nobody, or ends this session.
GONE = frozenset(
    {
        0,
        1040,
        1053,
        1129,
        1130,
        1152,
        1158,
        1159,
        1160,
        1161,
        1203,
        1226,
        1927,
        2002,
        2003,
        2006,
        2013,
        2026,
        4031,
    }
)
DEADLOCK, CHANGED, TOO_LATE = 1213, 1020, frozenset({1969, 3024})
#: After these nothing of the transaction is left, and what is sent next is none of it.
ENDING = frozenset({DEADLOCK, CHANGED})

_DENIED = re.compile(
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
#: What a statement wants of the table that it may not touch, by its first word: to change a row is to find it.
WANTED = {
    "insert": "SELECT, INSERT",
    "update": "SELECT, UPDATE",
    "delete": "SELECT, DELETE",
    "select": "SELECT",
}


ALL = "SELECT, INSERT, UPDATE, DELETE"


class Place(Value, frozen=True, kw_only=True):
    """What a message tells of the database that failed."""

    target: str  #: ``app/database``
    timeout: float  #: seconds that were waited for a lock
    account: str = ""  #: user and host, quoted as a GRANT wants them
    database: str = ""
    blockers: Callable[[], str]  #: names who may hold what a failed statement waited for


def number_of(error: BaseException | None) -> int:
    """Return the number that the server, or the driver, gave a failure; 0 where it gave none."""
    told = error.args[0] if isinstance(error, pymysql.Error) and error.args else 0
    return told if isinstance(told, int) else 0


def reason_of(error: pymysql.Error) -> str:
    """Return what was told, without the values of a row: one may be a secret."""
    told = str(error.args[1]) if len(error.args) > 1 else str(error)
    return _VALUES.sub(lambda found: found[1] or "(…)", told.strip()) or "the connection broke"


def unreachable(error: pymysql.Error, target: str) -> UnreachableError:
    """Return the failure of a connection that could not be made."""
    reason, instead = reason_of(error), CHECK_URL
    if found := _NO_DATABASE.match(reason):
        instead = f"As an administrator: GRANT {ALL} ON {quoted(found['name'])}.* TO {found['who']};"
    return UnreachableError(target=target, reason=reason, instead=instead)


def translated(error: pymysql.Error, place: Place, sql: str, *, writing: bool, broken: bool) -> DbctlError:
    """Return the failure that ``error`` is; ``broken`` says that there is no connection any more."""
    number, target, reason = number_of(error), place.target, reason_of(error)
    if broken or number in GONE:
        instead = IN_DOUBT if broken and sql == "commit" else BROKEN
        return UnreachableError(target=target, reason=reason, instead=instead)
    if make := _FAILURES.get(number):
        return make(error, place, sql)
    if writing and number in _OF_A_VALUE:
        return ValueInvalidError(what="a value", value="given", reason=reason)
    return QueryFailedError(target=target, reason=reason)


def _busy(_error: pymysql.Error, place: Place, _sql: str) -> DbctlError:
    return BusyError(target=place.target, holder=place.blockers(), waited=f"{place.timeout:g}")


def _refused(error: pymysql.Error, place: Place, _sql: str) -> DbctlError:
    return ConstraintError(target=place.target, reason=reason_of(error))


def _read_only(error: pymysql.Error, place: Place, _sql: str) -> DbctlError:
    if number_of(error) == 1290 and "read-only" not in reason_of(error):  # noqa: PLR2004 - it has many other reasons
        return QueryFailedError(target=place.target, reason=reason_of(error))
    return ReadOnlyError(target=place.target, reason=reason_of(error), instead="Nothing was changed.")


def _damaged(error: pymysql.Error, place: Place, _sql: str) -> DbctlError:
    return CorruptError(target=place.target, reason=reason_of(error))


def _full(_error: pymysql.Error, place: Place, _sql: str) -> DbctlError:
    return DiskFullError(target=place.target)


def _denied(error: pymysql.Error, place: Place, sql: str) -> DbctlError:
    return PrivilegeMissingError(
        target=place.target, reason=reason_of(error), instead=_grant(error, place, sql)
    )


def _grant(error: pymysql.Error, place: Place, sql: str) -> str:
    """Return the statement that would give what is missing, as far as the server says what that is."""
    reason = reason_of(error)
    if found := _DENIED.search(reason):
        right = found["right"]
        words = sql.split(None, 1)
        if words and right.lower() in WANTED.get(words[0].lower(), "").lower():
            right = WANTED[words[0].lower()]
        last = _LAST_NAME.search(found["name"])
        name = (last["plain"] or last["quoted"].replace("``", "`")) if last else found["name"]
        what = f"{right} ON {quoted(place.database)}.{quoted(name)}"
    elif found := _NEEDED.search(reason):
        what = f"{found['right'].partition(' OR ')[0].partition(',')[0]} ON *.*"
    else:
        what = f"{ALL} ON {quoted(place.database)}.*"
    return f"Nothing was changed. As an administrator: GRANT {what} TO {place.account};"


def quoted(name: str) -> str:
    """Quote a name in the way that every ``sql_mode`` takes."""
    return "`" + name.replace("`", "``") + "`"


def account(told: str) -> str:
    """Return what ``current_user()`` told as a GRANT wants it."""
    user, _, host = told.rpartition("@")
    return f"{literal(user)}@{literal(host)}"


_OF_A_VALUE = frozenset({1048, 1153, 1264, 1265, 1292, 1364, 1366, 1367, 1406, 1411, 1690, 3140, 4025, 4078})
_FAILURES: Mapping[int, Callable[[pymysql.Error, Place, str], DbctlError]] = {
    **dict.fromkeys([1205, 3572, DEADLOCK], _busy),
    CHANGED: lambda _, place, __: ChangedMeanwhileError(target=place.target),
    **dict.fromkeys([1044, 1045, 1142, 1143, 1227, 1370, 1410, 1419], _denied),
    **dict.fromkeys([1290, 1792, 1836, 3989], _read_only),
    **dict.fromkeys([1021, 1114], _full),
    **dict.fromkeys(
        [1022, 1048, 1062, 1169, 1216, 1217, 1364, 1451, 1452, 1557, 1586, 1761, 1762, 3819, 4025], _refused
    ),
    **dict.fromkeys([126, 127, 1034, 1035, 1194, 1195, 1712, 1877], _damaged),
}
