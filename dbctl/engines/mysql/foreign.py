"""What a dump that dbctl did not make defines besides tables: loaded, and made again, without a definer of its choice.

Routines, triggers, events and views run with the rights of their definer. So a dump does not say who that is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import pymysql

from dbctl.engines.mysql import codes
from dbctl.engines.mysql.dumped import Reading
from dbctl.engines.mysql.failures import number_of
from dbctl.engines.mysql.parameters import literal
from dbctl.engines.mysql.session import Session
from dbctl.errors import CorruptError
from dbctl.model import Value

#: Bytes of the longest line: of one row, or of all rows of a statement.
LONGEST = 1 << 28
_QUOTED = rb"(?:`(?:[^`]|``)*`|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\w+)"
_MAKES = re.compile(rb"\s*(?:/\*M?!\d*\s*)?(?:CREATE|DEFINER)\b", re.IGNORECASE)
_DEFINER = re.compile(rb"\bDEFINER\s*=\s*" + _QUOTED + rb"(?:@" + _QUOTED + rb")?", re.IGNORECASE)
_NAMED = re.compile(r"DEFINER=`(?:[^`]|``)*`@`(?:[^`]|``)*`")
TRIGGERS = """select trigger_name from information_schema.triggers where trigger_schema = {}
order by event_object_table, action_timing, event_manipulation, action_order"""
#: Accounts with rights on one database that have none on the whole server: most likely the app's own.
ACCOUNTS = """select grantee from information_schema.schema_privileges where privilege_type = 'TRIGGER'
  and table_schema in ({0}, {1}) and grantee not in
  (select grantee from information_schema.user_privileges where privilege_type <> 'USAGE') order by 1"""
EVERYWHERE = "select 1 from information_schema.user_privileges where privilege_type <> 'USAGE' and grantee = {} limit 1"
#: The number of a view that looks at what is not there yet, and of an account that may make nothing for others.
MISSING, NOT_FOR_OTHERS = (1146, 1356), 1227


class Definition(Value, frozen=True, kw_only=True):
    """What makes one trigger, view, routine or event."""

    kind: str
    name: str
    statement: str
    mode: str  #: the ``sql_mode`` that its text was written for
    collation: str
    zone: str = ""  #: of an event


def lines(blocks: Iterable[bytes], target: str) -> Iterator[bytes]:
    """Yield the lines of a text, each with its end.

    Raises:
        CorruptError: one of them is longer than any that a dump has.
    """
    held, size = list[bytes](), 0
    for block in blocks:
        *ended, rest = block.split(b"\n")
        for piece in ended:
            yield b"".join([*held, piece, b"\n"])
            held, size = [], 0
        held.append(rest)
        size += len(rest)
        if size > LONGEST:
            raise CorruptError(target=target, reason=f"a line has more than {LONGEST:,} bytes")
    yield b"".join(held)


def without_definers(blocks: Iterable[bytes], target: str) -> Iterator[bytes]:
    """Let whoever loads a dump be the definer of what it defines; raises as ``lines``."""
    reading = Reading()
    for line in lines(blocks, target):
        yield line if reading.in_rows or not _MAKES.match(line) else _DEFINER.sub(b"", line)
        reading.feed(line)


def read(session: Session, database: str) -> list[Definition]:
    """Return what a database holds besides tables, in an order in which it can be made."""
    session.run("set session sql_mode = ''")  # so that names are quoted as every mode reads them
    session.run(f"use {_name(database)}")
    found = list[Definition]()
    for view in codes.names(session, codes.VIEWS, database):
        ((_, statement, _, collation),) = session.run(f"show create view {_name(view)}")
        found.append(_definition("view", view, statement, "", collation))
    for kind, name in codes.routines(session, database):
        ((_, mode, statement, _, collation, _),) = session.run(f"show create {kind.lower()} {_name(name)}")
        found.append(_definition(kind.lower(), name, statement, mode, collation))
    for name in codes.names(session, TRIGGERS, database):
        _, mode, statement, _, collation, *_ = session.run(f"show create trigger {_name(name)}")[0]
        found.append(_definition("trigger", name, statement, mode, collation))
    for name in codes.names(session, codes.EVENTS, database):
        ((_, mode, zone, statement, _, collation, _),) = session.run(f"show create event {_name(name)}")
        found.append(_definition("event", name, statement, mode, collation, zone))
    return found


def _definition(
    kind: str, name: str, statement: object, mode: object, collation: object, zone: object = ""
) -> Definition:
    return Definition(
        kind=kind,
        name=name,
        statement=str(statement),
        mode=str(mode),
        collation=str(collation),
        zone=str(zone),
    )


def make(session: Session, database: str, definitions: Sequence[Definition]) -> list[str]:
    """Make in a database what ``read`` has found in another one; return what needs attention.

    Each is one statement, so that no text of a dump can be read as another one. Its definer is the account that has
    rights on this database alone, where there is one, else that of this session.
    """
    session.run(f"use {_name(database)}")
    definer = _account(session, database)
    left = list(definitions)
    while left:  # a view may look at one that comes later
        again = [definition for definition in left if not _is_made(session, definition, definer)]
        if len(again) == len(left):
            _make(session, again[0], "")
            again = again[1:]
        left = again
    runs = [f"{made.kind} {made.name}" for made in definitions if made.kind != "view"]
    if runs and not definer and session.run(EVERYWHERE.format(literal(session.account))):
        rights = f"the rights of {session.account}, who may do more than use this database"
        return [f"the dump defines {', '.join(runs)}, which run with {rights}"]
    return []


def _is_made(session: Session, definition: Definition, definer: str) -> bool:
    """Make it; return whether that was possible."""
    try:
        _make(session, definition, definer)
    except pymysql.Error as error:
        if number_of(error) == NOT_FOR_OTHERS and definer:
            return _is_made(session, definition, "")
        if number_of(error) not in MISSING:
            raise
        return False
    return True


def _make(session: Session, definition: Definition, definer: str) -> None:
    collation = definition.collation if definition.collation.startswith("utf8mb4") else ""
    session.run(f"set names utf8mb4 {f'collate {collation}' if collation else ''}")
    session.run(f"set session sql_mode = {literal(definition.mode)}")
    if definition.zone:
        session.run(f"set session time_zone = {literal(definition.zone)}")
    own = f"DEFINER={definer}" if definer else ""
    session.run(_NAMED.sub(lambda _: own, definition.statement, count=1))


def _account(session: Session, database: str) -> str:
    """Return the account that defines what a dump holds; empty: that of the session."""
    if not session.run(EVERYWHERE.format(literal(session.account))):
        return ""
    escaped = database.replace("_", "\\_").replace("%", "\\%")
    with suppress(pymysql.Error):
        for (account,) in session.run(ACCOUNTS.format(literal(database), literal(escaped))):
            return str(account)
    return ""


def _name(name: str) -> str:
    escaped = name.replace("`", "``")
    return f"`{escaped}`"
