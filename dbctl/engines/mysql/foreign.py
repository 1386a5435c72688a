"""Foreign dumps of mysqldump: import them, and load them as a user that may use the scratch database and nothing else.

Routines, triggers, events and views run with the rights of their definer, so a foreign dump must not choose it: they are
loaded and created again without the definers of the dump.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial

import pymysql

from dbctl.engines.mysql import connection, stored_code
from dbctl.engines.mysql.dialect import PROCESSES
from dbctl.engines.mysql.events import LoadedEvents
from dbctl.engines.mysql.load import DumpScanner, remove_database_name
from dbctl.engines.mysql.opening import error_number, open_session, quote
from dbctl.engines.mysql.session import Session
from dbctl.engines.mysql.stored_code import Definition
from dbctl.engines.mysql.values import escape_pattern, format_literal
from dbctl.engines.sql.catalog import ident
from dbctl.errors.backup import ForeignDumpRefusedError
from dbctl.errors.connection import CorruptError
from dbctl.model import Secret
from dbctl.url import Url

#: Maximum bytes of a line: one row, or all rows of a statement.
MAX_LINE_BYTES = 1 << 28
_QUOTED = rb"(?:`(?:[^`]|``)*`|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\w+)"
_CREATES = re.compile(rb"\s*(?:/\*M?!\d*\s*)?(?:CREATE|DEFINER)\b", re.IGNORECASE)
_DEFINER = re.compile(rb"\bDEFINER\s*=\s*" + _QUOTED + rb"(?:@" + _QUOTED + rb")?", re.IGNORECASE)
_NAMED = re.compile(r"DEFINER=`(?:[^`]|``)*`@`(?:[^`]|``)*`")
LIBRARY = "library"
#: Accounts with rights on one database and none on the whole server: most likely the account of the app.
ACCOUNTS = """select grantee from information_schema.schema_privileges where privilege_type = 'TRIGGER'
  and table_schema in ({0}, {1}) and grantee not in
  (select grantee from information_schema.user_privileges where privilege_type <> 'USAGE') order by 1"""
HAS_SERVER_RIGHTS = "select 1 from information_schema.user_privileges where privilege_type <> 'USAGE' and grantee = {} limit 1"
#: Error numbers: a view refers to a missing object; an account may not create objects for other definers.
OBJECT_MISSING, DEFINER_DENIED = (1146, 1356), 1227


def split_lines(blocks: Iterable[bytes], target: str) -> Iterator[bytes]:
    """Yield the lines of a text with their line ends.

    Raises:
        CorruptError: a line is longer than any line of a dump.
    """
    pending, size = list[bytes](), 0
    for block in blocks:
        *complete, remainder = block.split(b"\n")
        for line in complete:
            yield b"".join([*pending, line, b"\n"])
            pending, size = [], 0
        pending.append(remainder)
        size += len(remainder)
        if size > MAX_LINE_BYTES:
            raise CorruptError(target=target, reason=f"a line has more than {MAX_LINE_BYTES:,} bytes")
    yield b"".join(pending)


def change_definers(
    blocks: Iterable[bytes], target: str, change: Callable[[bytes], bytes]
) -> Iterator[bytes]:
    """Replace each clause of a definer by what ``change`` returns; raises as ``split_lines``."""
    scanner = DumpScanner()
    for line in split_lines(blocks, target):
        yield (
            line
            if scanner.in_rows or not _CREATES.match(line)
            else _DEFINER.sub(lambda match: change(match[0]), line)
        )
        scanner.feed(line)


def read_definitions(session: Session, database: str, events: LoadedEvents) -> list[Definition]:
    """Return the definitions of a database besides tables, in an order that can be executed; ``events`` are enabled."""
    session.run("set session sql_mode = ''")  # quotes names in the form that every mode reads
    session.run(f"use {quote(database)}")
    read, list_names = partial(stored_code.read_definition, session), stored_code.list_names
    routines = stored_code.list_routines(session, database)
    return [
        *(read("view", name) for name in list_names(session, stored_code.VIEWS, database)),
        *(read(LIBRARY, name) for name in stored_code.list_libraries(session, database)),
        *(_remove_database(read(kind.lower(), name), database) for kind, name in routines),
        *(read("trigger", name) for name in list_names(session, stored_code.TRIGGERS, database)),
        *(
            _change(read("event", name), events.enable)
            for name in list_names(session, stored_code.EVENTS, database)
        ),
    ]


def _remove_database(routine: Definition, database: str) -> Definition:
    return _change(routine, lambda statement: b"".join(remove_database_name([statement], database)))


def _change(definition: Definition, change: Callable[[bytes], bytes]) -> Definition:
    text = change(definition.statement.encode("utf-8", "surrogateescape"))
    return definition._replace(statement=text.decode("utf-8", "surrogateescape"))


def create_objects(session: Session, database: str, definitions: Sequence[Definition]) -> list[str]:
    """Create the objects that ``read_definitions`` returned for another database; return warnings.

    Each object is one statement, so no text of a dump is parsed as a second statement. The definer is the account with
    rights on this database alone, or otherwise the account of this session.
    """
    session.run(f"use {quote(database)}")
    definer = _find_definer(session, database)
    remaining = list(definitions)
    while remaining:  # a view may refer to a later one
        failed = [definition for definition in remaining if not _try_create(session, definition, definer)]
        if len(failed) == len(remaining):
            _create(session, failed[0], "")
            failed = failed[1:]
        remaining = failed
    objects = [
        f"{definition.kind} {definition.name}"
        for definition in definitions
        if definition.kind not in ("view", LIBRARY)
    ]
    if objects and not definer and session.run(HAS_SERVER_RIGHTS.format(format_literal(session.account))):
        rights = f"the rights of {session.account}, who may do more than use this database"
        return [f"the dump defines {', '.join(objects)}, which run with {rights}"]
    return []


def _try_create(session: Session, definition: Definition, definer: str) -> bool:
    try:
        _create(session, definition, definer)
    except pymysql.Error as error:
        if error_number(error) == DEFINER_DENIED and definer:
            return _try_create(session, definition, "")
        if error_number(error) not in OBJECT_MISSING:
            raise
        return False
    return True


def _create(session: Session, definition: Definition, definer: str) -> None:
    collation = definition.settings.get("collation_connection", "")
    settings = {
        **definition.settings,
        "character_set_client": "utf8mb4",  # the codec of any other one is chosen by the dump
        "collation_connection": collation if collation.startswith("utf8mb4") else "utf8mb4_general_ci",
    }
    clause = f"DEFINER={definer}" if definer else ""
    is_library = definition.kind == LIBRARY  # it has no definer, and its text may look like one
    statement = (
        definition.statement if is_library else _NAMED.sub(lambda _: clause, definition.statement, count=1)
    )
    for sql in definition._replace(statement=statement, settings=settings).statements:
        session.run(sql)


def _find_definer(session: Session, database: str) -> str:
    """Return the account that becomes the definer; empty: the account of the session."""
    if not session.run(HAS_SERVER_RIGHTS.format(format_literal(session.account))):
        return ""
    with suppress(pymysql.Error):
        for (account,) in session.run(
            ACCOUNTS.format(format_literal(database), format_literal(escape_pattern(database)))
        ):
            return str(account)
    return ""


#: The name ends with the digits of the database name; MySQL allows 32 characters in a user name.
PREFIX = "dbctl_new_"
_NAME = re.compile(rf"'({PREFIX}[0-9a-f]{{8}})'@'(.*)'")
#: Users without a right on the whole server. A user without rights on others sees only itself in this view.
USERS = """select grantee from information_schema.user_privileges
group by grantee having max(privilege_type <> 'USAGE') = 0"""
DATABASES = "select schema_name from information_schema.schemata"
#: Schemas that every user may read and no user may write.
PUBLIC_SCHEMAS = frozenset({"information_schema", "performance_schema"})
SESSIONS = f"select id from {PROCESSES} p where user = {{}}"
LITERAL_NAMES = "show variables like 'partial_revokes'"
NOT_ALLOWED = frozenset({1044, 1142, 1227, 1410})
ON_SERVER, NO_RIGHTS = " ON *.* ", "GRANT USAGE ON *.* "


def scratch_user(database: str) -> str:
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
        grant_pattern = escape_pattern(database)
    central.run(connection.acquire_sql(connection.lock_name(user)))
    try:
        central.run(f"create user {account} identified by {format_literal(password)}")
        central.run(f"grant all on {ident(grant_pattern)}.* to {account}")
    except pymysql.Error as error:
        if error_number(error) not in NOT_ALLOWED:
            raise
        names = escape_pattern(database[: -len("new_00000000")])
        raise ForeignDumpRefusedError(
            target=target,
            reason=f"{central.account} may not create a user ({error.args[-1]})",
            hint=f"As an administrator: GRANT CREATE USER ON *.* TO {central.account}; GRANT ALL ON `{names}%`.* TO {central.account} WITH GRANT OPTION;",
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
            visible = {str(name) for (name,) in session.run(DATABASES)}
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
    for account in {*accounts, *(account for account, name in _list_users(central) if name == user)}:
        failures += try_drop(central, f"user {account}", f"drop user if exists {account}")
    drop = f"database {database}", f"drop database if exists {ident(database)}"
    remaining = try_drop(central, *drop)
    if remaining and before is not None:
        prepared = list_prepared(central) - before
        if len(prepared) == 1:  # of several, some may belong to another program
            with suppress(pymysql.Error):
                central.run(f"xa rollback {next(iter(prepared))}")
                remaining = try_drop(central, *drop)
    return [*failures, *remaining]


def try_drop(central: Session, description: str, statement: str) -> list[str]:
    """Drop an object; return an explanation if that failed."""
    try:
        central.run(statement)
    except pymysql.Error as error:
        return [f"{description} could not be dropped: {error.args[-1]}"]
    return []


def list_abandoned(central: Session) -> Iterator[str]:
    """Yield the scratch users that no process uses."""
    for account, user in _list_users(central):
        if central.run(f"select is_free_lock({format_literal(connection.lock_name(user))})") == [(1,)]:
            yield account


def _list_users(central: Session) -> list[tuple[str, str]]:
    """Return the accounts of scratch users, each with the name of the user."""
    grantees = [str(grantee) for (grantee,) in central.run(USERS)]
    return [(grantee, match[1]) for grantee in grantees if (match := _NAME.fullmatch(grantee))]
