"""What PostgreSQL reports becomes a failure of ours: by its SQLSTATE, for its text is in the server's language."""

from __future__ import annotations

import re
from collections.abc import Callable

import psycopg

from dbctl.engines.sql import ident
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

#: What a statement wants of the table that it may not touch, by its first word.
PRIVILEGES = {
    "select": "SELECT",
    "insert": "SELECT, INSERT",
    "copy": "INSERT",
    "update": "SELECT, UPDATE",
    "delete": "SELECT, DELETE",
    "truncate": "TRUNCATE",
}
_DENIED = re.compile(
    r"permission denied for (?P<kind>(?:foreign |materialized )?\w+) (?P<name>.+)", re.DOTALL
)
_COPIED = re.compile(r"^COPY .*, line (\d+)(?:, column|:|$)", re.MULTILINE)
_VALUES = re.compile(r"=\(.*\)(?= )", re.DOTALL)


class Place(Value, frozen=True, kw_only=True):
    """What a message tells of the database that failed."""

    target: str  #: ``app/database``
    timeout: float  #: seconds that were waited for a lock
    user: str = ""
    schema: str = ""
    blockers: Callable[
        [str], str
    ]  #: names who holds what a failed statement waited for, by what the server told


def unreachable(error: psycopg.Error, target: str) -> UnreachableError:
    """Return the failure of a connection that could not be made."""
    lines = str(error).splitlines() or ["the server did not answer"]
    tries = [line for line in lines if line.startswith("- ")]  # where a name stands for several addresses
    reason = (tries or lines)[-1 if tries else 0].rpartition("connection failed: ")[2]
    reason = reason.removeprefix("connection is bad: ")
    return UnreachableError(target=target, reason=reason, instead=CHECK_URL)


def translated(error: psycopg.Error, place: Place, sql: str, *, writing: bool, broken: bool) -> DbctlError:
    """Return the failure that ``error`` is; ``broken`` says that there is no connection any more."""
    state, target = error.sqlstate or "", place.target
    reason = _reason(error)
    if broken or (state[:2] in ("08", "53", "57") and state not in ("53100", "57014")):
        instead = IN_DOUBT if broken and sql == "commit" else BROKEN
        return UnreachableError(target=target, reason=reason, instead=instead)
    for prefix, make in _FAILURES.items():
        if state.startswith(prefix):
            return make(error, place, sql)
    # Without a state it was the driver that found no way to send a value.
    if (writing and state.startswith("22")) or (not state and isinstance(error, psycopg.DataError)):
        return ValueInvalidError(what="a value", value="given", reason=reason, row=_row(error))
    return QueryFailedError(target=target, reason=reason)


def _busy(error: psycopg.Error, place: Place, _sql: str) -> DbctlError:
    told = f"{error.diag.message_detail or ''}\n{error.diag.context or ''}"
    return BusyError(target=place.target, holder=place.blockers(told), waited=f"{place.timeout:g}")


def _denied(error: psycopg.Error, place: Place, sql: str) -> DbctlError:
    reason = _reason(error)
    return PrivilegeMissingError(target=place.target, reason=reason, instead=_grant(reason, place, sql))


def _read_only(error: psycopg.Error, place: Place, _sql: str) -> DbctlError:
    return ReadOnlyError(target=place.target, reason=_reason(error), instead="Nothing was changed.")


def _reason(error: psycopg.Error) -> str:
    told = error.diag.message_primary or (str(error).strip().splitlines() or ["the connection broke"])[0]
    if error.diag.sqlstate in ("23503", "23505") and error.diag.message_detail:
        told += f" ({_VALUES.sub('', error.diag.message_detail).rstrip('.')})"  # a value may be a secret
    return told


def _row(error: psycopg.Error) -> int | None:
    """Return which of the rows that COPY was given failed, from 1."""
    found = _COPIED.search(error.diag.context or "")
    return int(found[1]) if found else None


def denied(reason: str, user: str, schema: str) -> str:
    """Return the statement that would let a user read what the server said it may not."""
    return _grant(
        reason, Place(target="", timeout=0, user=user, schema=schema, blockers=lambda _: ""), "select "
    )


def _grant(reason: str, place: Place, sql: str) -> str:
    """Return the statement that would give what is missing, as far as the server says what that is."""
    found = _DENIED.search(reason)
    words = sql.split(None, 1)
    if found is None or not words:
        return "Nothing was changed. Its owner, or a superuser, may grant it."
    kind, name = found["kind"].strip(), found["name"]
    wanted = PRIVILEGES.get(words[0].lower(), "SELECT")
    if " on conflict " in sql or " for no key update " in sql:  # rows that are held are as good as changed
        wanted += ", UPDATE"
    own = ident(name) if not place.schema else f"{ident(place.schema)}.{ident(name)}"
    what = {
        "schema": f"USAGE ON SCHEMA {ident(name)}",
        "sequence": f"USAGE, SELECT ON SEQUENCE {own}",  # a dump reads where it stands
        "database": f"CONNECT ON DATABASE {ident(name)}",
    }.get(kind, f"{wanted} ON {own}")
    return f"Nothing was changed. As its owner or a superuser: GRANT {what} TO {ident(place.user)};"


_FAILURES: dict[str, Callable[[psycopg.Error, Place, str], DbctlError]] = {
    "55P03": _busy,
    "40P01": _busy,
    "40001": lambda _, place, __: ChangedMeanwhileError(target=place.target),
    "42501": _denied,
    "25006": _read_only,
    "53100": lambda _, place, __: DiskFullError(target=place.target),
    "23": lambda error, place, _: ConstraintError(
        target=place.target, reason=_reason(error), row=_row(error)
    ),
    "XX001": lambda error, place, _: CorruptError(target=place.target, reason=_reason(error)),
    "XX002": lambda error, place, _: CorruptError(target=place.target, reason=_reason(error)),
}
