"""The user that loads a foreign dump: it may use the scratch database and nothing else."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress

import pymysql

from dbctl.engines.mysql import locks
from dbctl.engines.mysql.connection.opening import open_session
from dbctl.engines.mysql.connection.session import Session
from dbctl.engines.mysql.errors import error_number
from dbctl.engines.mysql.types.values import format_literal
from dbctl.engines.sql.catalog import ident
from dbctl.errors.restore import ForeignDumpRefusedError
from dbctl.model import Secret
from dbctl.url import Url

#: The name ends with the digits of the database name; MySQL allows 32 characters in a user name.
PREFIX = "dbctl_new_"
_NAME = re.compile(rf"'({PREFIX}[0-9a-f]{{8}})'@'(.*)'")
#: Users without a right on the whole server. A user without rights on others sees only itself in this view.
USERS = """select grantee from information_schema.user_privileges
group by grantee having max(privilege_type <> 'USAGE') = 0"""
VISIBLE_SCHEMAS = "select schema_name from information_schema.schemata"
#: Schemas that every user may read and no user may write.
PUBLIC_SCHEMAS = frozenset({"information_schema", "performance_schema"})
SESSIONS = "select id from information_schema.processlist where user = {}"
LITERAL_NAMES = "show variables like 'partial_revokes'"
NOT_ALLOWED = frozenset({1044, 1142, 1227, 1410})
ON_SERVER, NO_RIGHTS = " ON *.* ", "GRANT USAGE ON *.* "


def scratch_user(database: str) -> str:
    """Return the name of the user of a scratch database."""
    return f"{PREFIX}{database[-8:]}"


def create_user(central: Session, database: str, target: str) -> tuple[str, Secret]:
    """Create a user with all rights on one database, and no others.

    Raises:
        ForeignDumpRefusedError: this account may not create users, or may not grant them a database.
    """
    user, password = scratch_user(database), f"{secrets.token_urlsafe(24)}-aA1"
    account = _quote_account(central, user)
    grant_pattern = database
    if [row[1] for row in central.run(LITERAL_NAMES)] != ["ON"]:
        grant_pattern = database.replace("_", "\\_").replace("%", "\\%")
    central.run(locks.acquire_sql(locks.lock_name(user)))
    try:
        central.run(f"create user {account} identified by {format_literal(password)}")
        central.run(f"grant all on {ident(grant_pattern)}.* to {account}")
    except pymysql.Error as error:
        if error_number(error) not in NOT_ALLOWED:
            raise
        names = database[: -len("new_00000000")].replace("_", "\\_")
        raise ForeignDumpRefusedError(
            target=target,
            reason=f"{central.account} may not create a user ({error.args[-1]})",
            hint=f"As an administrator: GRANT CREATE USER ON *.* TO {central.account};"
            f" GRANT ALL ON `{names}%`.* TO {central.account} WITH GRANT OPTION;",
        ) from error
    return user, Secret(password)


def _quote_account(central: Session, user: str) -> str:
    """Return a user name with the client host of this session.

    With the host '%', an anonymous user of this host would take precedence.
    """
    ((account,),) = central.run("select user()")
    return f"{format_literal(user)}@{format_literal(str(account).rpartition('@')[2])}"


def require_confined(url: Url, target: str, *, timeout: float) -> None:
    """Refuse a foreign dump if its user cannot sign in, or has more rights than it was granted.

    Raises:
        ForeignDumpRefusedError: the server grants every user more, or refuses the sign-in.
    """
    try:
        with closing(open_session(url, target, timeout=timeout, read_only=True)) as session:
            visible = {str(name) for (name,) in session.run(VISIBLE_SCHEMAS)}
            grants = [str(line) for (line,) in session.run("show grants")]
    except pymysql.Error as error:
        raise ForeignDumpRefusedError(
            target=target,
            reason=f"the server does not let a new user sign in with a password ({error.args[-1]})",
            hint="Check which hosts and plugins it accepts.",
        ) from None
    others = sorted(name for name in visible - PUBLIC_SCHEMAS if name.casefold() != url.path.casefold())
    grants_on_server = [line for line in grants if ON_SERVER in line and not line.startswith(NO_RIGHTS)]
    if others or grants_on_server:
        excess = f"use {', '.join(others)}" if others else grants_on_server[0]
        raise ForeignDumpRefusedError(
            target=target,
            reason=f"this server grants every user more: {excess}",
            hint="Revoke the rights of anonymous users, PUBLIC and mandatory roles.",
        )


def list_prepared(central: Session) -> frozenset[str]:
    """Return the ids of the prepared transactions of the server for ``XA ROLLBACK``; none without the right to list them."""
    with suppress(pymysql.Error):
        return frozenset(_format_xid(*row) for row in central.run("xa recover"))
    return frozenset()


def _format_xid(form: object, length: object, _: object, data: object) -> str:
    raw = data if isinstance(data, bytes) else str(data).encode("utf-8", "surrogateescape")
    begin, end = raw[: int(str(length))], raw[int(str(length)) :]
    return f"X'{begin.hex()}', X'{end.hex()}', {form}"


def remove(central: Session, database: str, before: frozenset[str] | None = None) -> Sequence[str]:
    """Drop a scratch database and its user, if they exist; return what could not be dropped, and why.

    ``before``: the transactions that were prepared before dbctl created the user and loaded a dump. A dump may
    leave a prepared transaction that blocks the drop of its database.
    """
    failures, user = list[str](), scratch_user(database)
    # Their sessions would continue, and keep their locks.
    for (session,) in central.run(SESSIONS.format(format_literal(user))):
        with suppress(pymysql.Error):
            central.run(f"kill {session}")
    # This session may not be able to list the user.
    accounts = [] if before is None else [_quote_account(central, user)]
    for account in {*accounts, *_list_accounts(central, user)}:
        failures += _try_drop(central, f"user {account}", f"drop user if exists {account}")
    drop = f"database {database}", f"drop database if exists {ident(database)}"
    remaining = _try_drop(central, *drop)
    if remaining and before is not None:
        prepared = list_prepared(central) - before
        if len(prepared) == 1:  # of several, some may belong to another program
            with suppress(pymysql.Error):
                central.run(f"xa rollback {next(iter(prepared))}")
                remaining = _try_drop(central, *drop)
    return [*failures, *remaining]


def _try_drop(central: Session, description: str, statement: str) -> list[str]:
    """Drop an object; return an explanation if that failed."""
    try:
        central.run(statement)
    except pymysql.Error as error:
        return [f"{description} could not be dropped: {error.args[-1]}"]
    return []


def list_abandoned(central: Session) -> Iterator[str]:
    """Yield the scratch users that no process uses."""
    for (grantee,) in central.run(USERS):
        match = _NAME.fullmatch(str(grantee))
        if match and central.run(f"select is_free_lock({format_literal(locks.lock_name(match[1]))})") == [
            (1,)
        ]:
            yield str(grantee)


def _list_accounts(central: Session, user: str) -> list[str]:
    return [
        str(grantee)
        for (grantee,) in central.run(USERS)
        if (match := _NAME.fullmatch(str(grantee))) and match[1] == user
    ]
