"""Routines, triggers, events and views of a foreign dump, loaded and created again without the definers of the dump.

These objects run with the rights of their definer, so a foreign dump must not choose it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

import pymysql

from dbctl.engines.mysql.backup import stored_code
from dbctl.engines.mysql.backup.dump_reader import DumpScanner
from dbctl.engines.mysql.backup.load import remove_database_name
from dbctl.engines.mysql.connection.session import Session
from dbctl.engines.mysql.errors import error_number, quote
from dbctl.engines.mysql.types.values import format_literal
from dbctl.errors.connection import CorruptError
from dbctl.model import Struct

#: Maximum bytes of a line: one row, or all rows of a statement.
MAX_LINE_BYTES = 1 << 28
_QUOTED = rb"(?:`(?:[^`]|``)*`|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\w+)"
_CREATES = re.compile(rb"\s*(?:/\*M?!\d*\s*)?(?:CREATE|DEFINER)\b", re.IGNORECASE)
_DEFINER = re.compile(rb"\bDEFINER\s*=\s*" + _QUOTED + rb"(?:@" + _QUOTED + rb")?", re.IGNORECASE)
_NAMED = re.compile(r"DEFINER=`(?:[^`]|``)*`@`(?:[^`]|``)*`")
LIBRARY = "library"
TRIGGERS = """select trigger_name from information_schema.triggers where trigger_schema = {}
order by event_object_table, action_timing, event_manipulation, action_order"""
#: Accounts with rights on one database and none on the whole server: most likely the account of the app.
ACCOUNTS = """select grantee from information_schema.schema_privileges where privilege_type = 'TRIGGER'
  and table_schema in ({0}, {1}) and grantee not in
  (select grantee from information_schema.user_privileges where privilege_type <> 'USAGE') order by 1"""
HAS_SERVER_RIGHTS = "select 1 from information_schema.user_privileges where privilege_type <> 'USAGE' and grantee = {} limit 1"
#: Error numbers: a view refers to a missing object; an account may not create objects for other definers.
OBJECT_MISSING, DEFINER_DENIED = (1146, 1356), 1227


class Definition(Struct, frozen=True, kw_only=True):
    """The statement that creates a trigger, view, routine or event."""

    kind: str
    name: str
    statement: str
    mode: str  #: the ``sql_mode`` that its text was written for
    collation: str
    zone: str = ""  #: of an event


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


def remove_definers(blocks: Iterable[bytes], target: str) -> Iterator[bytes]:
    """Remove the definers, so that the loading user becomes the definer; raises as ``split_lines``."""
    return change_definers(blocks, target, lambda _: b"")


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


def read_definitions(session: Session, database: str) -> list[Definition]:
    """Return the definitions of a database besides tables, in an order that can be executed."""
    session.run("set session sql_mode = ''")  # quotes names in the form that every mode reads
    session.run(f"use {quote(database)}")
    definitions = list[Definition]()
    for view in stored_code.list_names(session, stored_code.VIEWS, database):
        ((_, statement, _, collation),) = session.run(f"show create view {quote(view)}")
        definitions.append(_create_definition("view", view, statement, "", collation))
    for name in stored_code.list_libraries(session, database):
        ((_, mode, statement),) = session.run(f"show create library {quote(name)}")
        definitions.append(_create_definition(LIBRARY, name, statement, mode, ""))
    for kind, name in stored_code.list_routines(session, database):
        ((_, mode, statement, _, collation, _),) = session.run(f"show create {kind.lower()} {quote(name)}")
        text = b"".join(remove_database_name([str(statement).encode("utf-8", "surrogateescape")], database))
        definitions.append(
            _create_definition(kind.lower(), name, text.decode("utf-8", "surrogateescape"), mode, collation)
        )
    for name in stored_code.list_names(session, TRIGGERS, database):
        _, mode, statement, _, collation, *_ = session.run(f"show create trigger {quote(name)}")[0]
        definitions.append(_create_definition("trigger", name, statement, mode, collation))
    for name in stored_code.list_names(session, stored_code.EVENTS, database):
        ((_, mode, zone, statement, _, collation, _),) = session.run(f"show create event {quote(name)}")
        definitions.append(_create_definition("event", name, statement, mode, collation, zone))
    return definitions


def _create_definition(
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
    collation = definition.collation if definition.collation.startswith("utf8mb4") else ""
    session.run(f"set names utf8mb4 {f'collate {collation}' if collation else ''}")
    session.run(f"set session sql_mode = {format_literal(definition.mode)}")
    if definition.zone:
        session.run(f"set session time_zone = {format_literal(definition.zone)}")
    definer_clause = f"DEFINER={definer}" if definer else ""
    is_library = definition.kind == LIBRARY  # it has no definer, and its text may look like one
    session.run(
        definition.statement
        if is_library
        else _NAMED.sub(lambda _: definer_clause, definition.statement, count=1)
    )


def _find_definer(session: Session, database: str) -> str:
    """Return the account that becomes the definer; empty: the account of the session."""
    if not session.run(HAS_SERVER_RIGHTS.format(format_literal(session.account))):
        return ""
    escaped = database.replace("_", "\\_").replace("%", "\\%")
    with suppress(pymysql.Error):
        for (account,) in session.run(ACCOUNTS.format(format_literal(database), format_literal(escaped))):
            return str(account)
    return ""
