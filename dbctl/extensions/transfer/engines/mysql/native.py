"""The schema of a database in the statements of its server, and rows as literals, for another database of the product."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

from dbctl.engines.contract.database import Readable
from dbctl.engines.mysql import stored_code
from dbctl.engines.mysql.catalog import HISTORY_VERSION, SCHEMA_COLUMNS, VERSIONED, require_rights
from dbctl.engines.mysql.connection import MySQLConnection
from dbctl.engines.mysql.database import MySQLDatabase, MySQLWriter
from dbctl.engines.mysql.dialect import Server
from dbctl.engines.mysql.load import TABLE_SETTINGS
from dbctl.engines.mysql.opening import quote
from dbctl.engines.mysql.queries import OBJECTS, parse_again
from dbctl.engines.mysql.session import FOLDS
from dbctl.engines.servers.database import group_rows
from dbctl.engines.sql.catalog import ident
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import PrivilegeMissingError, QueryFailedError
from dbctl.extensions.transfer.engines.mysql import definitions as catalog
from dbctl.extensions.transfer.engines.mysql.definitions import (
    DefinitionReader,
    Rules,
    list_guards,
    show_plainly,
)
from dbctl.extensions.transfer.engines.mysql.derive import MySQLValueScreen
from dbctl.extensions.transfer.engines.mysql.rows import ESCAPED, MySQLRowSink, MySQLRowSource, MySQLWriteLock
from dbctl.extensions.transfer.engines.mysql.schema import MySQLPortableSchemas
from dbctl.extensions.transfer.portable.contract import Line, LineColumn, Omission
from dbctl.extensions.transfer.portable.lines import TAB, split_line
from dbctl.extensions.transfer.portable.native import (
    Definitions,
    NativeNames,
    NativeObject,
    NativeRules,
    NativeSchema,
    NativeSchemas,
    NativeTable,
    list_definitions,
    order_columns,
)
from dbctl.extensions.transfer.portable.write_lock import WriteProofs

INTEGERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint", "year"})
#: SQL for the literal of a value, by the first word of its type: digits, and the number of a label or of bits, which
#: is exact for every value that a column can contain.
_DIGITS, _NUMBER = "cast({0} as char)", "cast(cast({0} as unsigned) as char)"
#: A quoted number keeps the sign of zero; the server prints six digits of a FLOAT.
_QUOTED = "concat('''', cast({0} as char), '''')"
_LITERALS = {
    **dict.fromkeys([*INTEGERS, "decimal"], _DIGITS),
    **dict.fromkeys(["bit", "enum", "set"], _NUMBER),
    "float": _QUOTED.format("({0} * 1e0)"),
    **dict.fromkeys(["double", "date", "time", "datetime", "timestamp"], _QUOTED),
}
_HEX = "concat('{1}x''', hex({0}), '''')"
#: Types with bytes of their own.
_BYTES = re.compile(
    "binary|varbinary|.*blob|geometry.*|geomcollection|(?:multi)?(?:point|linestring|polygon)|vector"
)
_UTF8 = frozenset({"utf8", "utf8mb3", "utf8mb4"})
#: The condition of a table whose history is copied.
HISTORY = "for system_time all"
_STRICT = frozenset({"STRICT_ALL_TABLES", "STRICT_TRANS_TABLES", "ERROR_FOR_DIVISION_BY_ZERO"})


def takes_history(server: Server) -> bool:
    """Whether a server accepts rows with the times of their versions."""
    return server.is_mariadb and server.version[:2] >= HISTORY_VERSION


def literal_expression(name: str, declared: str, *, escapes: bool) -> str:
    """Return SQL for the bytes of the literal of a column as part of a line.

    Args:
        name: the column in SQL.
        declared: its type, and its character set after `` charset ``.
        escapes: whether a backslash in a literal begins an escape.
    """
    type_text, _, charset = declared.partition(" charset ")
    word = re.split(r"\W", type_text, maxsplit=1)[0]
    if literal := _LITERALS.get(word):
        return f"cast({literal.format(name)} as binary)"
    if _BYTES.fullmatch(word):
        return _HEX.format(name, "")
    if charset and charset not in _UTF8:
        return _HEX.format(name, f"_{charset} ")
    if word == "json":  # a literal has no decimals; one whose digits a float lacks remains a difference
        name = f"if({name} = {parse_again(name)}, {parse_again(name)}, {name})"
    # bytes that are no text in the character set remain, too
    text = f"cast({name} as binary)" if charset else f"cast(cast({name} as char) as binary)"
    text = f"replace({text}, x'27', x'2727')"
    if escapes:
        text = f"replace({text}, x'5C', x'5C5C')"
    return f"concat('''', {ESCAPED.format(text)}, '''')"


def _write_literal(column: LineColumn, value: bytes) -> str:
    del column
    return value.decode()


class MySQLNativeRows(MySQLRowSource):
    """The part ``RowSource`` for rows as literals."""

    _names: NativeNames

    quote_value = staticmethod(_write_literal)

    def has_integer_order(self, table: str, column: str) -> bool:
        native = self._names.require_native(table)
        return list(native.key) == [column] and native.columns[column].split("(")[0].split()[0] in INTEGERS

    def value_reader(self, table: str, column: str) -> Callable[[bytes], object]:
        del table, column  # a value is a literal
        return _read_literal

    def _line(self, table: str, columns: Sequence[LineColumn]) -> str:
        native, escapes = self._names.require_native(table), self._connection.server.backslash_escapes
        literals = [
            literal_expression(ident(column.name), native.columns[column.name], escapes=escapes)
            for column in columns
        ]
        parts = ", ".join(f"coalesce({literal}, x'5C4E')" for literal in literals)
        return f"concat_ws(x'09', {parts}) from {self._names.quote_table(table)} {native.condition}"


def _read_literal(value: bytes) -> str:
    text = value.decode(errors="replace")
    return text[1:-1].replace("''", "'") if text.startswith("'") else text


class MySQLNativeSink(MySQLRowSink):
    """The part ``RowSink`` for rows as literals."""

    _names: NativeNames

    quote_value = staticmethod(_write_literal)

    @contextmanager
    def bulk_load(self) -> Iterator[None]:
        server, settings = self._connection.server, self._connection.session.settings
        modes = [mode for mode in str(settings["sql_mode"]).split(",") if mode not in _STRICT]
        # each value was in a column with this definition, which may be older than a rule; rows are compared afterwards
        sets = {"sql_mode": f"'{','.join([*modes, 'ALLOW_INVALID_DATES'])}'"}
        if server.is_mariadb:
            sets["check_constraint_checks"] = "0"
        if takes_history(server):
            sets["system_versioning_insert_history"] = "1"
        with super().bulk_load():
            self._connection.run(
                "set session " + ", ".join(f"{name} = {text}" for name, text in sets.items())
            )
            try:
                yield
            finally:
                if self._connection.is_usable:
                    self._connection.run("set session " + ", ".join(f"{name} = default" for name in sets))

    def _require_writable(self, table: str) -> None:
        del table  # the definition decides how the table is stored
        self._db.transactions.require()

    def _values(self, line: Line, columns: Sequence[LineColumn]) -> bytes:
        del columns
        if b"\\" not in line:
            return b"(%s)" % line.replace(TAB, b",")
        return b"(%s)" % b",".join([b"NULL" if value is None else value for value in split_line(line)])

    def clear_table(self, table: str) -> int:
        count = super().clear_table(table)
        if self._names.require_native(table).condition == HISTORY:
            self._connection.execute_text(f"delete history from {self._names.quote_table(table)}")
        return count

    def list_attachments(self, *, indexes: bool) -> Sequence[tuple[str, Sequence[str]]]:
        del indexes  # those of the schema are created with its tables
        return list_guards(self._connection, events=True)


#: Settings of statements that create tables; `TABLE_SETTINGS` are further ones.
SETTINGS = f"set session sql_mode = '{stored_code.PLAIN_MODE}', foreign_key_checks = 0, time_zone = '+00:00', names utf8mb4"
#: Rights without which the catalog lacks objects of a kind.
RIGHTS = ("SELECT", "SHOW VIEW", "TRIGGER", "EVENT", "EXECUTE")
#: Engines whose rows are in another place.
_WITHOUT_ROWS = frozenset({"FEDERATED", "CONNECT", "SPIDER", "MRG_MYISAM", "BLACKHOLE", "S3"})
_COUNTER, _SEQUENCE = "AUTO_INCREMENT", "sequence"


class MySQLNativeSchemas(NativeSchemas):
    row_source, row_sink = MySQLNativeRows, MySQLNativeSink
    _db: MySQLDatabase
    _connection: MySQLConnection

    def describes_for(self, destination: Readable) -> bool:
        other = cast("MySQLDatabase", destination).connection.server
        return other.product == self._connection.server.product

    def prepare(self, destination: Readable, state_table: str) -> NativeRules:
        require_rights(self._connection, RIGHTS)
        db = cast("MySQLDatabase", destination)
        other = db.connection
        ((user,),) = other.fetch(catalog.CURRENT_ACCOUNT)
        known = _list_usable_accounts(db) | {str(user)}
        definers = [str(definer).removesuffix("@") for (definer,) in self._connection.fetch(catalog.DEFINERS)]
        name, _, host = str(user).rpartition("@")
        ((collation,),) = other.fetch(catalog.COLLATION)
        return {
            "database": other.session.database,
            "user": f"{quote(name)}@{quote(host)}",
            "replaced": json.dumps([definer for definer in definers if definer not in known]),
            "collation": str(collation),
            "history": "1" if takes_history(other.server) else "",
            "version": other.server.version_text,
            "state": state_table,
            "folded": json.dumps(other.list_folded_names(self._db.tables())),
        }

    def read_native(self, rules: NativeRules) -> NativeSchema:
        definitions, before, after = self._read_objects(rules)
        tables = list(self._read_tables(rules))
        omissions = [*definitions.omissions, *self._list_omissions(rules)]
        final = [f"alter event {quote(name)} enable" for name in self._list_enabled_events()]
        return NativeSchema(before=before, after=after, tables=tables, omissions=omissions, final=final)

    def read_definitions(self, rules: NativeRules) -> Definitions:
        _, before, after = self._read_objects(rules)
        return list_definitions([*before, *after])

    def _read_objects(
        self, rules: NativeRules
    ) -> tuple[DefinitionReader, Sequence[NativeObject], Sequence[NativeObject]]:
        replaced = json.loads(rules["replaced"])
        definitions = DefinitionReader(
            self._connection, Rules(rules["state"], rules["user"], replaced, rules["database"])
        )
        with show_plainly(self._connection):
            before = [*definitions.read_tables(), *definitions.read_routines(), *definitions.read_views()]
            after = [*definitions.read_triggers(), *definitions.read_events()]
        return definitions, before, after

    def _read_tables(self, rules: NativeRules) -> Iterator[NativeTable]:
        columns = group_rows(
            row
            for row in self._connection.fetch_by_name(SCHEMA_COLUMNS)
            if row["expression"] in ("", *catalog.VERSION_TIMES) or "default_generated" in row["attributes"]
        )
        keys: dict[str, list[str]] = {}
        for table, column in self._connection.fetch(catalog.KEYS):
            keys.setdefault(str(table), []).append(str(column))
        for row in self._connection.fetch_by_name(catalog.TABLES):
            name = str(row["name"])
            if name == rules["state"] or row["type"] == "SEQUENCE" or row["engine"].upper() in _WITHOUT_ROWS:
                continue
            versions = [part["name"] for part in columns[name] if part["expression"] in catalog.VERSION_TIMES]
            with_history = row["type"] == "SYSTEM VERSIONED" and self._copies_history(name, rules)
            declared = {
                part["name"]: part["type"] + (f" charset {part['charset']}" if part["charset"] else "")
                for part in columns[name]
                if with_history or part["name"] not in versions
            }
            if with_history and not versions:
                declared |= dict.fromkeys(("row_start", "row_end"), "timestamp(6)")
            # earlier versions of a row have its key; and the server deletes them only together
            key = [column for column in keys.get(name, ()) if column in declared] if not with_history else []
            yield NativeTable(
                name=name,
                place=ident(name),
                destination=ident(name),
                object_name=name,
                columns=order_columns(declared, key),
                key=key,
                condition=HISTORY if with_history else "",
            )

    def _copies_history(self, table: str, rules: NativeRules) -> bool:
        """Whether the destination accepts the history of a table: its versions have times, and not transactions."""
        return bool(rules["history"]) and not self._by_transaction.get(table, False)

    @property
    def _by_transaction(self) -> Mapping[str, bool]:
        if not self._connection.server.is_mariadb:
            return {}
        return {str(name): bool(value) for name, value in self._connection.fetch(VERSIONED)}

    def _list_enabled_events(self) -> Sequence[str]:
        return [str(name) for name, is_enabled in self._connection.fetch(catalog.EVENTS) if is_enabled]

    def _list_omissions(self, rules: NativeRules) -> Iterator[Omission]:
        for definer in json.loads(rules["replaced"]):
            reason = f"the destination has no such account that its user may use: objects belong to {rules['user']}"
            yield Omission(kind="definer", name=definer, reason=reason)
        for name in json.loads(rules["folded"]):
            yield Omission(kind="table", name=name, reason=f"the destination {FOLDS}", is_blocking=True)
        for event in self._list_enabled_events():
            reason = "the destination does not run it until transfer switch, because the source does"
            yield Omission(kind="event", name=event, reason=reason)
        for table in self._by_transaction:
            if not self._copies_history(table, rules):
                reason = f"{rules['version']} accepts no earlier versions of its rows"
                if rules["history"]:
                    reason = "its versions have the numbers of transactions"
                yield Omission(kind="history", name=table, table=table, reason=reason)
        for row in self._connection.fetch_by_name(catalog.TABLES):
            if row["engine"].upper() in _WITHOUT_ROWS:
                reason = f"the engine {row['engine']} stores them in another place"
                yield Omission(kind="rows", name=row["name"], table=row["name"], reason=reason)
        ((collation,),) = self._connection.fetch(catalog.COLLATION)
        if str(collation) != rules["collation"]:
            reason = f"tables that name none get {rules['collation']}, the default of the destination"
            yield Omission(kind="default collation", name=str(collation), reason=reason)

    def create_objects(self, statements: Sequence[str]) -> None:
        self._prepare_session()
        super().create_objects(statements)
        self._connection.apply_settings()

    def _prepare_session(self) -> None:
        # MySQL rejects one of the settings in a transaction. Nothing was changed in this one, and each definition commits.
        self._connection.run("commit")
        self._connection.run(SETTINGS)
        with self._connection.translate_errors("set"):
            self._connection.session.try_settings(TABLE_SETTINGS)
        self._connection.run("start transaction read write")

    def try_objects(self, objects: Sequence[NativeObject]) -> Iterator[tuple[NativeObject, str]]:
        db = cast("MySQLWriter", self._db)
        self._prepare_session()
        for part in objects:
            if part.kind == "event":  # it would run
                continue
            try:
                db.scripts.run_definitions(part.statements)
            except DbctlError as error:
                yield part, str(error.context.get("reason") or error)
                self._connection.run("rollback")
                db.transactions.forget_errors()
                self._connection.run("start transaction read write")
        self._connection.apply_settings()

    def read_values(self, rules: NativeRules, *, is_destination: bool = False) -> Mapping[str, str]:
        del is_destination  # tables have the same names
        values = {}
        for table, number in self._connection.fetch(catalog.COUNTERS, {"state": rules["state"]}):
            values[f"{_COUNTER} {table}"] = str(number)
        for (name,) in self._connection.fetch(catalog.SEQUENCES):
            ((number,),) = self._connection.fetch(f"select next_not_cached_value from {ident(str(name))}")
            values[f"{_SEQUENCE} {name}"] = str(number)
        return values

    def value_statements(self, values: Mapping[str, str]) -> Sequence[str]:
        current = self.read_values({"state": ""})
        statements = []
        for place, number in values.items():
            kind, _, name = place.partition(" ")
            if current.get(place) != number:
                change = f"restart {number}" if kind == _SEQUENCE else f"auto_increment = {number}"
                object_kind = "sequence" if kind == _SEQUENCE else "table"
                statements.append(f"alter {object_kind} {quote(name)} {change}")
        return statements

    def list_contents(self) -> Sequence[str]:
        return [str(name) for _, name in self._connection.fetch(OBJECTS)]


def _list_usable_accounts(db: MySQLDatabase) -> set[str]:
    """Return the accounts and roles of a server that this user may name as definers, except for itself."""
    grants = db.connection.fetch("show grants")
    if not any(stored_code.DEFINER_PRIVILEGES.search(str(line)) for (line,) in grants):
        return set()
    try:
        return {str(name).removesuffix("@") for (name,) in db.connection.fetch(catalog.ACCOUNTS)}
    except (PrivilegeMissingError, QueryFailedError):
        return set()


def create_parts(db: MySQLDatabase) -> list[object]:
    """Return the parts that only transfers use."""
    parts: list[object] = [
        MySQLNativeSchemas(db),
        MySQLPortableSchemas(db),
        MySQLRowSource(db),
        MySQLValueScreen(db),
        MySQLWriteLock(db),
    ]
    return [*parts, MySQLRowSink(db), WriteProofs(db)] if isinstance(db, MySQLWriter) else parts
