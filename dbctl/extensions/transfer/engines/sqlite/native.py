"""Copies of a file to SQLite: its schema in its own statements, and the rows of all tables with exact values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

from dbctl.engines.contract.database import Readable
from dbctl.engines.contract.schema import WRITE_LOCK
from dbctl.engines.sql.catalog import ident, quote_literal
from dbctl.engines.sqlite.connection import SQLiteConnection
from dbctl.engines.sqlite.database import SQLiteDatabase, SQLiteWriter
from dbctl.engines.sqlite.dialect import find_rowid_name
from dbctl.extensions.transfer.engines.sqlite.pages import SQLitePages
from dbctl.extensions.transfer.engines.sqlite.rows import SQLiteRowSink, SQLiteRowSource, SQLiteWriteLock
from dbctl.extensions.transfer.engines.sqlite.schema import HAS_SEQUENCES, SQLitePortableSchemas
from dbctl.extensions.transfer.engines.sqlite.screen import SQLiteValueScreen
from dbctl.extensions.transfer.engines.sqlite.values import parse_exact
from dbctl.extensions.transfer.portable.contract import LineColumn, Omission
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

#: The types of a rowid that is no column of its table, and of a column that is the rowid.
ROWID, ROWID_ALIAS = "rowid", "rowid alias"


class SQLiteNativeRows(SQLiteRowSource):
    """The part ``RowSource`` for a native schema."""

    _names: NativeNames

    def has_integer_order(self, table: str, column: str) -> bool:
        native = self._names.require_native(table)
        return list(native.key) == [column] and native.columns[column] in (ROWID, ROWID_ALIAS)

    def _find_rowid(self, table: str) -> str:
        columns = self._names.require_native(table).columns
        rowid = next((name for name, declared in columns.items() if declared == ROWID), "")
        alias = next((name for name, declared in columns.items() if declared == ROWID_ALIAS), "")
        return rowid or (ident(alias) if alias else "")

    def _describe_column(self, table: str, column: str) -> tuple[str, bool]:
        return self._names.require_native(table).columns[column], True


class SQLiteNativeSink(SQLiteRowSink):
    """The part ``RowSink`` for a native schema."""

    def _create_parsers(
        self, table: str, columns: Sequence[LineColumn]
    ) -> Sequence[Callable[[bytes], object]]:
        del table
        return [parse_exact] * len(columns)


#: The module of a virtual table creates its shadow tables.
_OBJECTS = """select m.type, m.name, m.sql, l.type = 'virtual' from sqlite_master m
left join pragma_table_list l on l.schema = 'main' and l.name = m.name and m.type in ('table', 'view')
where m.sql is not null and m.name not like 'sqlite!_%' escape '!' and coalesce(l.type, '') <> 'shadow'
  and m.tbl_name <> :state and not (m.type = 'trigger' and substr(m.name, 1, length(:lock)) = :lock) order by m.rowid"""
_TABLES = """select name, type = 'shadow', wr from pragma_table_list where schema = 'main' and type in ('table', 'shadow')
and name not in ('sqlite_schema', 'sqlite_master', 'sqlite_sequence', :state) and name not like 'sqlite!_stat_' escape '!' order by name"""
_COLUMNS = "select name, type, pk from pragma_table_xinfo(:table) where hidden = 0 order by cid"
#: A key of one column that is the rowid has no index.
_IS_ROWID = """select count(*) from pragma_index_list(:table) where origin = 'pk'"""
_SEQUENCES = "select name, seq from sqlite_sequence where name <> :state"
_PRAGMAS = ("user_version", "application_id")


class SQLiteNativeSchemas(NativeSchemas):
    row_source, row_sink = SQLiteNativeRows, SQLiteNativeSink
    _db: SQLiteDatabase
    _connection: SQLiteConnection

    def prepare(self, destination: Readable, state_table: str) -> NativeRules:
        ((encoding,),) = cast("SQLiteDatabase", destination).connection.run("pragma encoding")
        return {"state": state_table, "encoding": str(encoding)}

    def read_native(self, rules: NativeRules) -> NativeSchema:
        objects = list(self._read_objects(rules))
        tables = list(self._read_tables(rules))
        shadows = [
            f"delete from {ident(str(name))}"
            for name, is_shadow, _ in self._connection.run(_TABLES, {"state": rules["state"]})
            if is_shadow
        ]
        before = [part for part in objects if part.kind == "table"]
        # the module of a virtual table adds rows to its shadow tables
        before += [NativeObject(kind="rows", name="shadow tables", statements=shadows, is_compared=False)]
        return NativeSchema(
            before=before,
            after=[part for part in objects if part.kind != "table"],
            tables=tables,
            omissions=list(self._list_omissions(rules)),
        )

    def read_definitions(self, rules: NativeRules) -> Definitions:
        return list_definitions(list(self._read_objects(rules)))

    def _read_objects(self, rules: NativeRules) -> Iterator[NativeObject]:
        for kind, name, sql, _ in self._connection.run(
            _OBJECTS, {"state": rules["state"], "lock": WRITE_LOCK}
        ):
            yield NativeObject(kind=str(kind), name=str(name), statements=[str(sql)])

    def _read_tables(self, rules: NativeRules) -> Iterator[NativeTable]:
        defined = [name for _, name in self.read_definitions(rules)]
        for table, is_shadow, is_without_rowid in self._connection.run(_TABLES, {"state": rules["state"]}):
            name = str(table)
            rows = self._connection.run(_COLUMNS, {"table": name})
            columns = {str(column): str(declared) for column, declared, _ in rows}
            parts = {int(str(number)): str(column) for column, _, number in rows if number}
            key = [parts[number] for number in sorted(parts)]
            if not is_without_rowid:
                ((has_index,),) = self._connection.run(_IS_ROWID, {"table": name})
                rowid = find_rowid_name(columns)
                if len(key) == 1 and not has_index:
                    columns[key[0]] = ROWID_ALIAS
                elif rowid:
                    columns = {rowid: ROWID, **columns}
                    key = [rowid] if self._may_be_null(name, key) else key
            yield NativeTable(
                name=name,
                place=ident(name),
                destination=ident(name),
                object_name=_find_owner(name, defined) if is_shadow else name,
                columns=order_columns(columns, key),
                key=key,
            )

    def _may_be_null(self, table: str, key: Sequence[str]) -> bool:
        """Whether no key, or one with NULL, identifies the rows of a table."""
        condition = " or ".join(f"{ident(name)} is null" for name in key)
        sql = f"select 1 from {ident(table)} where {condition} limit 1"
        return not key or bool(self._connection.run(sql))

    def _list_omissions(self, rules: NativeRules) -> Iterator[Omission]:
        ((encoding,),) = self._connection.run("pragma encoding")
        if str(encoding) != rules["encoding"]:
            reason = f"the destination has {rules['encoding']}; the characters are the same"
            yield Omission(kind="encoding", name=str(encoding), reason=reason)

    def read_values(self, rules: NativeRules, *, is_destination: bool = False) -> Mapping[str, str]:
        del is_destination
        values = {name: str(self._connection.run(f"pragma {name}")[0][0]) for name in _PRAGMAS}
        if self._connection.run(HAS_SEQUENCES):
            rows = self._connection.run(_SEQUENCES, {"state": rules["state"]})
            values |= {f"sequence {name}": str(number) for name, number in rows}
        return values

    def value_statements(self, values: Mapping[str, str]) -> Sequence[str]:
        statements = [f"pragma {name} = {values[name]}" for name in _PRAGMAS if name in values]
        for name, number in values.items():
            kind, _, table = name.partition(" ")
            if kind == "sequence":
                literal = quote_literal(table)
                statements.append(f"delete from sqlite_sequence where name = {literal}")
                statements.append(f"insert into sqlite_sequence (name, seq) values ({literal}, {number})")
        return statements

    def list_contents(self) -> Sequence[str]:
        return ()


def _find_owner(shadow: str, names: Sequence[str]) -> str:
    """Return the virtual table whose module made a shadow table: SQLite names it ``OWNER_PART``."""
    owners = [name for name in names if shadow.startswith(f"{name}_")]
    return max(owners, key=len, default=shadow)


def create_parts(db: SQLiteDatabase) -> list[object]:
    """Return the parts that only transfers use."""
    parts: list[object] = [
        SQLiteNativeSchemas(db),
        SQLitePages(db),
        SQLitePortableSchemas(db),
        SQLiteRowSource(db),
        SQLiteValueScreen(db),
        SQLiteWriteLock(db),
    ]
    return [*parts, SQLiteRowSink(db), WriteProofs(db)] if isinstance(db, SQLiteWriter) else parts
