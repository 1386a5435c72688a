"""Routines, triggers, events and views of a foreign dump, loaded and created again without the definers of the dump.

These objects run with the rights of their definer, so a foreign dump must not choose it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import pymysql

from dbctl.engines.mysql.backup import stored_code
from dbctl.engines.mysql.backup.dump_reader import Reading
from dbctl.engines.mysql.backup.load import relocated
from dbctl.engines.mysql.backup.views import VIEWS
from dbctl.engines.mysql.errors import number_of
from dbctl.engines.mysql.session import Session
from dbctl.engines.mysql.types import literal
from dbctl.errors import CorruptError
from dbctl.model import Value

#: Maximum bytes of a line: one row, or all rows of a statement.
LONGEST = 1 << 28
_QUOTED = rb"(?:`(?:[^`]|``)*`|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\w+)"
_MAKES = re.compile(rb"\s*(?:/\*M?!\d*\s*)?(?:CREATE|DEFINER)\b", re.IGNORECASE)
_DEFINER = re.compile(rb"\bDEFINER\s*=\s*" + _QUOTED + rb"(?:@" + _QUOTED + rb")?", re.IGNORECASE)
_NAMED = re.compile(r"DEFINER=`(?:[^`]|``)*`@`(?:[^`]|``)*`")
LIBRARY = "library"
TRIGGERS = """select trigger_name from information_schema.triggers where trigger_schema = {}
order by event_object_table, action_timing, event_manipulation, action_order"""
#: Accounts with rights on one database and none on the whole server: most likely the account of the app.
ACCOUNTS = """select grantee from information_schema.schema_privileges where privilege_type = 'TRIGGER'
  and table_schema in ({0}, {1}) and grantee not in
  (select grantee from information_schema.user_privileges where privilege_type <> 'USAGE') order by 1"""
EVERYWHERE = "select 1 from information_schema.user_privileges where privilege_type <> 'USAGE' and grantee = {} limit 1"
#: Error numbers: a view refers to a missing object; an account may not create objects for other definers.
MISSING, NOT_FOR_OTHERS = (1146, 1356), 1227


class Definition(Value, frozen=True, kw_only=True):
    """The statement that creates a trigger, view, routine or event."""

    kind: str
    name: str
    statement: str
    mode: str  #: the ``sql_mode`` that its text was written for
    collation: str
    zone: str = ""  #: of an event


def lines(blocks: Iterable[bytes], target: str) -> Iterator[bytes]:
    """Yield the lines of a text with their line ends.

    Raises:
        CorruptError: a line is longer than any line of a dump.
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
    """Remove the definers, so that the loading user becomes the definer; raises as ``lines``."""
    reading = Reading()
    for line in lines(blocks, target):
        yield line if reading.in_rows or not _MAKES.match(line) else _DEFINER.sub(b"", line)
        reading.feed(line)


def read(session: Session, database: str) -> list[Definition]:
    """Return the definitions of a database besides tables, in an order that can be executed."""
    session.run("set session sql_mode = ''")  # quotes names in the form that every mode reads
    session.run(f"use {_name(database)}")
    found = list[Definition]()
    for view in stored_code.names(session, VIEWS, database):
        ((_, statement, _, collation),) = session.run(f"show create view {_name(view)}")
        found.append(_definition("view", view, statement, "", collation))
    for name in stored_code.libraries(session, database):
        ((_, mode, statement),) = session.run(f"show create library {_name(name)}")
        found.append(_definition(LIBRARY, name, statement, mode, ""))
    for kind, name in stored_code.routines(session, database):
        ((_, mode, statement, _, collation, _),) = session.run(f"show create {kind.lower()} {_name(name)}")
        text = b"".join(relocated([str(statement).encode("utf-8", "surrogateescape")], database))
        found.append(
            _definition(kind.lower(), name, text.decode("utf-8", "surrogateescape"), mode, collation)
        )
    for name in stored_code.names(session, TRIGGERS, database):
        _, mode, statement, _, collation, *_ = session.run(f"show create trigger {_name(name)}")[0]
        found.append(_definition("trigger", name, statement, mode, collation))
    for name in stored_code.names(session, stored_code.EVENTS, database):
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
    """Create the objects that ``read`` returned for another database; return warnings.

    Each object is one statement, so no text of a dump is parsed as a second statement. The definer is the account with
    rights on this database alone, or else the account of this session.
    """
    session.run(f"use {_name(database)}")
    definer = _account(session, database)
    left = list(definitions)
    while left:  # a view may refer to a later one
        again = [definition for definition in left if not _is_made(session, definition, definer)]
        if len(again) == len(left):
            _make(session, again[0], "")
            again = again[1:]
        left = again
    runs = [f"{made.kind} {made.name}" for made in definitions if made.kind not in ("view", LIBRARY)]
    if runs and not definer and session.run(EVERYWHERE.format(literal(session.account))):
        rights = f"the rights of {session.account}, who may do more than use this database"
        return [f"the dump defines {', '.join(runs)}, which run with {rights}"]
    return []


def _is_made(session: Session, definition: Definition, definer: str) -> bool:
    """Execute a definition; return whether it succeeded."""
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
    is_library = definition.kind == LIBRARY  # it has no definer, and its text may look like one
    session.run(
        definition.statement if is_library else _NAMED.sub(lambda _: own, definition.statement, count=1)
    )


def _account(session: Session, database: str) -> str:
    """Return the account that becomes the definer; empty: the account of the session."""
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
