"""The user that loads a foreign dump: it may use the scratch database and nothing else."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress

import pymysql
from msgspec import structs

from dbctl.engines.mysql import locks
from dbctl.engines.mysql.errors import number_of
from dbctl.engines.mysql.session import Session, open_session
from dbctl.engines.mysql.types import literal
from dbctl.engines.sql import ident
from dbctl.errors import ForeignDumpRefusedError
from dbctl.model import Secret
from dbctl.url import Url

#: Followed by the same digits as the name of the database; MySQL allows 32 characters in the name of a user.
PREFIX = "dbctl_new_"
_NAME = re.compile(rf"'({PREFIX}[0-9a-f]{{8}})'@'(.*)'")
#: Users without a right on the whole server. A user without rights on others sees only itself in this view.
USERS = """select grantee from information_schema.user_privileges
group by grantee having max(privilege_type <> 'USAGE') = 0"""
SEEN = "select schema_name from information_schema.schemata"
#: Schemas that every user may read and no user may write.
OPEN_TO_ALL = frozenset({"information_schema", "performance_schema"})
SESSIONS = "select id from information_schema.processlist where user = {}"
LITERAL_NAMES = "show variables like 'partial_revokes'"
NOT_ALLOWED = frozenset({1044, 1142, 1227, 1410})
ON_SERVER, NOTHING = " ON *.* ", "GRANT USAGE ON *.* "


def user_of(database: str) -> str:
    """Return the name of the user of a scratch database."""
    return f"{PREFIX}{database[-8:]}"


def create_user(central: Session, database: str, target: str) -> tuple[str, Secret]:
    """Create a user that may do everything in one database, and nothing elsewhere.

    Raises:
        ForeignDumpRefusedError: this account may not create users, or may not grant them a database.
    """
    user, password = user_of(database), f"{secrets.token_urlsafe(24)}-aA1"
    account = _account(central, user)
    pattern = database
    if [row[1] for row in central.run(LITERAL_NAMES)] != ["ON"]:
        pattern = database.replace("_", "\\_").replace("%", "\\%")
    central.run(locks.take(locks.name_of(user)))
    try:
        central.run(f"create user {account} identified by {literal(password)}")
        central.run(f"grant all on {ident(pattern)}.* to {account}")
    except pymysql.Error as error:
        if number_of(error) not in NOT_ALLOWED:
            raise
        names = database[: -len("new_00000000")].replace("_", "\\_")
        raise ForeignDumpRefusedError(
            target=target,
            reason=f"{central.account} may not create a user ({error.args[-1]})",
            instead=f"As an administrator: GRANT CREATE USER ON *.* TO {central.account};"
            f" GRANT ALL ON `{names}%`.* TO {central.account} WITH GRANT OPTION;",
        ) from error
    return user, Secret(password)


def _account(central: Session, user: str) -> str:
    """Return a user name with the client host of this session.

    With the host '%', an anonymous user of this host would take precedence.
    """
    ((here,),) = central.run("select user()")
    return f"{literal(user)}@{literal(str(here).rpartition('@')[2])}"


def as_user(url: Url, database: str, user: str, password: Secret) -> Url:
    """Return the address of a scratch database for its user."""
    return structs.replace(url, path=database, user=user, password=password)


def require_confined(url: Url, target: str, *, timeout: float) -> None:
    """Refuse a foreign dump if its user cannot sign in, or has more rights than it was granted.

    Raises:
        ForeignDumpRefusedError: the server grants every user more, or refuses the sign-in.
    """
    try:
        with closing(open_session(url, target, timeout=timeout, reading=True)) as session:
            seen = {str(name) for (name,) in session.run(SEEN)}
            grants = [str(line) for (line,) in session.run("show grants")]
    except pymysql.Error as error:
        raise ForeignDumpRefusedError(
            target=target,
            reason=f"the server does not let a new user sign in with a password ({error.args[-1]})",
            instead="See which hosts and plugins it takes.",
        ) from None
    others = sorted(name for name in seen - OPEN_TO_ALL if name.casefold() != url.path.casefold())
    more = [line for line in grants if ON_SERVER in line and not line.startswith(NOTHING)]
    if others or more:
        what = f"use {', '.join(others)}" if others else more[0]
        raise ForeignDumpRefusedError(
            target=target,
            reason=f"this server lets every user do more than that: {what}",
            instead="Revoke the rights of anonymous users, PUBLIC and mandatory roles there.",
        )


def prepared(central: Session) -> frozenset[str]:
    """Return the ids of the prepared transactions of the server for ``XA ROLLBACK``; none without the right to list them."""
    with suppress(pymysql.Error):
        return frozenset(_xid(*row) for row in central.run("xa recover"))
    return frozenset()


def _xid(form: object, length: object, _: object, data: object) -> str:
    raw = data if isinstance(data, bytes) else str(data).encode("utf-8", "surrogateescape")
    begin, end = raw[: int(str(length))], raw[int(str(length)) :]
    return f"X'{begin.hex()}', X'{end.hex()}', {form}"


def remove(central: Session, database: str, before: frozenset[str] | None = None) -> Sequence[str]:
    """Drop a scratch database and its user, if they exist; return what could not be dropped, and why.

    ``before``: the transactions that were prepared before dbctl created the user and loaded a dump. A dump may
    leave a prepared transaction that blocks the drop of its database.
    """
    left, user = list[str](), user_of(database)
    for (session,) in central.run(
        SESSIONS.format(literal(user))
    ):  # they would continue, and hold their locks
        with suppress(pymysql.Error):
            central.run(f"kill {session}")
    own = [] if before is None else [_account(central, user)]  # this session may not be able to list it
    for account in {*own, *_accounts(central, user)}:
        left += _dropped(central, f"user {account}", f"drop user if exists {account}")
    drop = f"database {database}", f"drop database if exists {ident(database)}"
    kept = _dropped(central, *drop)
    if kept and before is not None:
        more = prepared(central) - before
        if len(more) == 1:  # of several, some may be another program's
            with suppress(pymysql.Error):
                central.run(f"xa rollback {next(iter(more))}")
                kept = _dropped(central, *drop)
    return [*left, *kept]


def _dropped(central: Session, what: str, statement: str) -> list[str]:
    """Drop an object; return an explanation if that failed."""
    try:
        central.run(statement)
    except pymysql.Error as error:
        return [f"{what} could not be dropped: {error.args[-1]}"]
    return []


def abandoned(central: Session) -> Iterator[str]:
    """Yield the scratch users that no process uses any more."""
    for (grantee,) in central.run(USERS):
        found = _NAME.fullmatch(str(grantee))
        if found and central.run(f"select is_free_lock({literal(locks.name_of(found[1]))})") == [(1,)]:
            yield str(grantee)


def _accounts(central: Session, user: str) -> list[str]:
    return [
        str(grantee)
        for (grantee,) in central.run(USERS)
        if (found := _NAME.fullmatch(str(grantee))) and found[1] == user
    ]
