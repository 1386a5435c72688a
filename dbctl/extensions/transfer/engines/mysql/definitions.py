"""The statements of the objects of a database as its server shows them, for another database."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

from msgspec import structs

from dbctl.engines.contract.schema import WRITE_LOCK
from dbctl.engines.mysql import stored_code
from dbctl.engines.mysql.connection import MySQLConnection
from dbctl.engines.mysql.opening import quote
from dbctl.engines.mysql.session import Session
from dbctl.engines.parsing.statements import unquote_name
from dbctl.extensions.transfer.portable.contract import Omission
from dbctl.extensions.transfer.portable.native import NativeObject
from dbctl.model import sort_by_use

P = ParamSpec("P")
T = TypeVar("T")
#: Expressions of the times of versions, which are generated, but belong to the history.
VERSION_TIMES = ("ROW START", "ROW END")
KEYS = """select table_name, column_name from information_schema.key_column_usage
where table_schema = database() and constraint_name = 'PRIMARY' order by table_name, ordinal_position"""
TABLES = """select table_name as name, table_type as type, coalesce(engine, '') as engine from information_schema.tables
where table_schema = database() and table_type in ('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE') order by 1"""
EVENTS = "select event_name, status = 'ENABLED' from information_schema.events where event_schema = database() order by 1"
SEQUENCES = """select table_name from information_schema.tables
where table_schema = database() and table_type = 'SEQUENCE' order by 1"""
COUNTERS = """select table_name, auto_increment from information_schema.tables
where table_schema = database() and auto_increment is not null and table_name <> :state"""
DEFINERS = f"""select distinct definer from {stored_code.DEFINED.format("database()")}
where left(what, {len("trigger ") + len(WRITE_LOCK)}) <> 'trigger {WRITE_LOCK}' order by 1"""
#: Roles have no host.
ACCOUNTS = "select concat(user, '@', host) from mysql.user"
CURRENT_ACCOUNT = "select current_user()"
COLLATION = "select default_collation_name from information_schema.schemata where schema_name = database()"


_NAME = r"`(?:[^`]|``)*`"
_ANY_NAME = rf'(?:{_NAME}|"(?:[^"]|"")*")'
#: The counter is a value, and not part of the definition.
_COUNTER = re.compile(r"^(\)[^\n]*?) AUTO_INCREMENT=\d+", re.MULTILINE)
_DEFINER = re.compile(rf"\bDEFINER\s*=\s*(?P<user>{_ANY_NAME})(?:@(?P<host>{_ANY_NAME}))?", re.IGNORECASE)
#: A table or view that a view reads: neither a column nor an alias.
_READ = re.compile(rf"{stored_code.TEXT}|(?:\b(?:from|join)\s+\(*)(?P<name>{_NAME})|{_NAME}", re.IGNORECASE)
_ENABLED = re.compile(r"(\bON COMPLETION (?:NOT )?PRESERVE) ENABLE\b")
_TRIGGER_NAMES = (r"\btrigger\s+(?:if\s+not\s+exists\s+)?", r"\b(?:insert|update|delete)\s+on\s+")


class Rules(NamedTuple):
    """How the definitions of two databases differ."""

    state: str  #: the table with the state of the copy
    user: str  #: the account that replaces definers
    replaced: Collection[str]  #: definers that the destination lacks
    destination: str  #: the name of its database


class DefinitionReader:
    """Reads the objects of a database."""

    def __init__(self, connection: MySQLConnection, rules: Rules) -> None:
        self._connection, self._rules = connection, rules
        self._database = connection.session.database
        self._broken = self._read(stored_code.find_broken_views, self._database)
        self.omissions: list[Omission] = []  #: of objects that were read

    def read_tables(self) -> Iterator[NativeObject]:
        """Yield sequences, which tables use, and tables."""
        tables = self._connection.fetch_by_name(TABLES)
        for row in sorted(tables, key=lambda row: row["type"] != "SEQUENCE"):
            name = str(row["name"])
            if name == self._rules.state:
                continue
            kind = "sequence" if row["type"] == "SEQUENCE" else "table"
            ((_, text, *_),) = self._connection.fetch(f"show create {kind} {quote(name)}")
            sql = strip_database(_COUNTER.sub(r"\1", str(text), count=1), self._database)
            yield NativeObject(kind=kind, name=name, statements=[sql])

    def read_routines(self) -> Iterator[NativeObject]:
        """Yield libraries, routines and packages."""
        for name in self._read(stored_code.list_libraries, self._database):
            yield self._read_code("library", name)
        for kind, name in self._read(stored_code.list_routines, self._database):
            yield self._read_code(kind.lower(), name)

    def read_views(self) -> Iterator[NativeObject]:
        """Yield views after those that they read."""
        for name in self._broken:
            reason = "it cannot be read in the source"
            self.omissions.append(Omission(kind="view", name=name, reason=reason))
        names = self._read(stored_code.list_names, stored_code.VIEWS, self._database)
        views = {name: self._read_code("view", name) for name in names if name not in self._broken}
        for name in sort_by_use(views, lambda name: _list_reads(views[name].statements[-1])):
            yield views[name]

    def read_triggers(self) -> Iterator[NativeObject]:
        """Yield triggers in the order in which the server runs those of one event."""
        for name in self._read(stored_code.list_names, stored_code.TRIGGERS, self._database):
            if not name.startswith(WRITE_LOCK):
                yield self._read_code("trigger", name)

    def read_events(self) -> Iterator[NativeObject]:
        """Yield events, all of them disabled: until the end of a transfer, only those of the source may run."""
        for name, _ in self._connection.fetch(EVENTS):
            event = self._read_code("event", str(name))
            statements = [_ENABLED.sub(r"\1 DISABLE", sql, count=1) for sql in event.statements]
            yield structs.replace(event, statements=statements)

    def _read(self, read: Callable[Concatenate[Session, P], T], *arguments: P.args, **named: P.kwargs) -> T:
        with self._connection.translate_errors("show create"):  # the functions know only a session
            return read(self._connection.session, *arguments, **named)

    def _read_code(self, kind: str, name: str) -> NativeObject:
        definition = self._read(stored_code.read_definition, kind, name)
        if not definition.statement:
            reason = "this user may not read it"
            self.omissions.append(Omission(kind=kind, name=name, reason=reason, is_blocking=True))
            return NativeObject(kind=kind, name=name, statements=[])
        sql = self._replace_definer(definition.statement)
        if kind == "view":
            sql = strip_database(sql, self._database)
        elif self._database != self._rules.destination:
            sql = strip_trigger(sql, self._database) if kind == "trigger" else sql
            if stored_code.names_database(sql, self._database):
                reason = f"its text names the database {self._database}, and the destination is {self._rules.destination}"
                self.omissions.append(Omission(kind=kind, name=name, reason=reason, is_blocking=True))
        return NativeObject(kind=kind, name=name, statements=definition._replace(statement=sql).statements)

    def _replace_definer(self, sql: str) -> str:
        def replace(match: re.Match[str]) -> str:
            parts = [unquote_name(part) for part in match.groups() if part]
            if "@".join(parts) in self._rules.replaced:
                return f"DEFINER={self._rules.user}"
            return f"DEFINER={'@'.join(map(quote, parts))}"

        return _DEFINER.sub(replace, sql, count=1)


def list_guards(connection: MySQLConnection, *, events: bool) -> list[tuple[str, Sequence[str]]]:
    """Return the triggers, and with ``events`` also the events, which change rows by themselves: what drops each, and what creates it."""
    definitions = DefinitionReader(connection, Rules("", "", (), connection.session.database))
    with show_plainly(connection):
        guards = [*definitions.read_triggers(), *(definitions.read_events() if events else ())]
    return [(f"drop {part.kind} if exists {quote(part.name)}", part.statements) for part in guards]


@contextmanager
def show_plainly(connection: MySQLConnection) -> Iterator[None]:
    """Read definitions in the block as ``PLAIN_MODE`` writes them."""
    connection.run(f"set session sql_mode = '{stored_code.PLAIN_MODE}', sql_quote_show_create = 1")
    try:
        with connection.translate_errors("show create"):
            yield
    finally:
        if connection.is_usable:
            connection.run(f"set session sql_mode = '{connection.session.settings['sql_mode']}'")


def strip_database(sql: str, database: str) -> str:
    """Return a statement of the server without the name of its own database.

    The server writes it before sequences, before tables of views that also read other databases, and before their columns.
    """
    name = re.escape(f"{quote(database)}.")
    pattern = re.compile(
        rf"{stored_code.TEXT}|(?P<before>\b(?:(?:from|join)\s+\(*|(?:nextval|lastval)\())(?:{name})?"
        rf"|(?P<qualifier>{name}(?={_NAME}[.(]))|{_NAME}",
        re.IGNORECASE,
    )
    return pattern.sub(
        lambda match: (match["before"] or "") if match["before"] or match["qualifier"] else match[0], sql
    )


def strip_trigger(sql: str, database: str) -> str:
    """Return the statement of a trigger, as its author wrote it, without the database of its name and its table."""
    for before in _TRIGGER_NAMES:
        sql = re.sub(
            rf"({before}){stored_code.database_qualifier(database)}", r"\1", sql, count=1, flags=re.IGNORECASE
        )
    return sql


def _list_reads(sql: str) -> list[str]:
    """Return the names of tables and views that a view reads."""
    return [unquote_name(match["name"]) for match in _READ.finditer(sql) if match["name"]]
