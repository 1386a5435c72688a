"""The schema of a SQLite file for other engines, and declared types as logical types and back."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from dbctl.engines.contract.schema import Schema, SchemaColumn, SchemaIndex, SchemaTable, strip_collation
from dbctl.engines.sql.catalog import ident, quote_literal
from dbctl.engines.sqlite.database import SQLitePart
from dbctl.engines.sqlite.values import find_affinity
from dbctl.extensions.transfer.portable.contract import (
    DerivedSchema,
    IndexTerm,
    LogicalKind,
    LogicalType,
    Omission,
    PortableColumn,
    PortableIndex,
    PortableSchema,
    PortableSchemas,
    PortableTable,
    PortableView,
    StorageLimits,
)
from dbctl.extensions.transfer.portable.read import (
    interpret_constraints,
    list_omissions,
    parse_declared,
    split_generated,
)
from dbctl.model import TimeForm

_TEXT, _BYTES, _REAL = (LogicalType(kind="text"), LogicalType(kind="bytes"), LogicalType(kind="real"))
#: A column of this affinity stores a whole number as an integer, which has no negative zero.
_REAL_COLUMN = LogicalType(kind="real", keeps_zero_sign=False)
_INTEGER = LogicalType(kind="integer")
_ANY = LogicalType(kind="any")
_DECIMAL = LogicalType(kind="decimal")
#: Declared types whose meaning is more than their affinity. Integers of every size are stored with 64 bits.
TYPES: Mapping[str, LogicalType] = {
    **dict.fromkeys(["BOOLEAN", "BOOL", "TINYINT(1)"], LogicalType(kind="boolean")),
    **dict.fromkeys(
        ["VARCHAR", "CHARACTER VARYING", "NVARCHAR", "VARYING CHARACTER", "NATIVE CHARACTER"], _TEXT
    ),
    **dict.fromkeys(["CHAR", "CHARACTER", "NCHAR"], _TEXT),
    **dict.fromkeys(["DECIMAL", "NUMERIC"], _DECIMAL),
    **dict.fromkeys(["DATETIME", "TIMESTAMP", "TIMESTAMP WITHOUT TIME ZONE"], LogicalType(kind="timestamp")),
    **dict.fromkeys(
        ["TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE"], LogicalType(kind="timestamp", has_zone=True)
    ),
    "DATE": LogicalType(kind="date"),
    "TIME": LogicalType(kind="time"),
    # with these names, a column converts text that is a number
    **dict.fromkeys(["JSON", "JSONB"], LogicalType(kind="json", converts_numbers=True)),
    **dict.fromkeys(["UUID", "GUID"], LogicalType(kind="uuid")),
    **dict.fromkeys(["BINARY", "VARBINARY"], _BYTES),
}
_AFFINITIES: Mapping[str, LogicalType] = {
    "INTEGER": _INTEGER,
    "TEXT": _TEXT,
    "BLOB": _BYTES,
    "REAL": _REAL_COLUMN,
    "NUMERIC": _ANY,
}
#: The types of columns by kind. They have the affinity that stores the values unchanged; arguments are kept as a hint.
NAMES: Mapping[LogicalKind, str] = {
    "boolean": "BOOLEAN",
    "integer": "INTEGER",
    "decimal": "DECIMAL",
    "real": "REAL",
    "text": "TEXT",
    "enum": "TEXT",
    "set": "TEXT",
    "json": "TEXT",
    "array": "TEXT",
    "bits": "TEXT",
    "other": "TEXT",
    "bytes": "BLOB",
    "date": "DATE",
    "time": "TIME",
    "timestamp": "DATETIME",
    "uuid": "UUID",
    "any": "",
}


def read_type(declared: str) -> LogicalType:
    if not declared:
        return _ANY
    return parse_declared(declared, TYPES) or _AFFINITIES[find_affinity(declared)]


def observe_type(column: PortableColumn, classes: Collection[tuple[str, bool]]) -> LogicalType:
    """Return the type of a column that allows any value.

    ``classes`` are the storage classes of its values, each with whether the value has 16 bytes.
    """
    names = {name for name, _ in classes}
    if names == {"blob"}:
        is_uuid = "uuid" in column.name.lower() and all(has_size for _, has_size in classes)
        return LogicalType(kind="uuid") if is_uuid else _BYTES
    if column.type.kind == "decimal":
        return column.type if names <= {"integer", "real"} else _ANY
    observed = {"integer": _INTEGER, "real": _REAL, "text": _TEXT}
    return observed[names.pop()] if len(names) == 1 else _REAL if names == {"integer", "real"} else _ANY


def write_type(logical: LogicalType) -> str:
    """Return the declared type for values of a logical type."""
    if logical.kind == "decimal" and logical.digits:
        return f"DECIMAL({logical.digits},{logical.scale})"
    if logical.kind == "text" and logical.length:
        return f"{'CHAR' if logical.is_fixed else 'VARCHAR'}({logical.length})"
    if logical.kind == "timestamp" and logical.has_zone:
        return "TIMESTAMPTZ"
    return NAMES[logical.kind]


_VIEWS = "select name, sql from sqlite_master where type = 'view' order by rowid"
#: Those that a derived schema has, too.
_KNOWN_COLLATIONS = frozenset({"", "BINARY", "NOCASE"})
_COLLATION = re.compile(r"(.*) collate (\w+)(?: desc)?", re.DOTALL)
HAS_SEQUENCES = "select 1 from sqlite_master where name = 'sqlite_sequence'"
#: Set the last number of a table; one without a row may have none.
_SET_COUNTER = (
    "update sqlite_sequence set seq = {1} where name = {0} and seq < {1}",
    "insert into sqlite_sequence (name, seq) select {0}, {1} where not exists (select 1 from sqlite_sequence where name = {0})",
)


class SQLitePortableSchemas(SQLitePart, PortableSchemas):
    limits = StorageLimits(
        enforces_types=False,
        stores_nan=False,
        stores_invalid_text=True,
        exact_digits=15,
        max_hours=1 << 31,
        folds_all_letters=False,
    )

    def read_portable(self) -> PortableSchema:
        schema = self._db.schema_reader.schema()
        return PortableSchema(
            dialect="sqlite",
            tables=_adopt_types(
                [self._observe_types(_build_table(table)) for table in schema.tables if table.columns]
            ),
            views=[
                PortableView(name=str(name), query=str(sql)) for name, sql in self._connection.fetch(_VIEWS)
            ],
            omissions=list(_find_omissions(schema)),
        )

    def _observe_types(self, table: PortableTable) -> PortableTable:
        """Return a table with types that its first rows have, for columns whose declared type allows any value."""
        columns = []
        for column in table.columns:
            logical = column.type
            if logical.kind in ("any", "decimal"):
                name = ident(column.name)
                sql = f"select distinct typeof(v), length(v) = 16 from (select {name} as v from {ident(table.name)} limit 1000) where v is not null"
                logical = observe_type(
                    column, {(str(kind), bool(is_uuid)) for kind, is_uuid in self._connection.fetch(sql)}
                )
            columns.append(msgspec.structs.replace(column, type=logical))
        return msgspec.structs.replace(table, columns=columns)

    def derive(self, schema: PortableSchema, *, time_form: TimeForm = "sqlite-time") -> DerivedSchema:
        from dbctl.extensions.transfer.engines.sqlite.derive import SQLiteDerivation

        return SQLiteDerivation(schema, time_form).derive()

    def fold_texts(self, table: str, column: str, texts: Sequence[str]) -> Sequence[str | bytes]:
        del table, column
        return [text.encode("utf-8", "surrogateescape").lower() for text in texts]  # of ASCII letters only

    def read_counters(self) -> Mapping[str, int]:
        if not self._connection.fetch(HAS_SEQUENCES):
            return {}
        rows = self._connection.fetch("select name, seq from sqlite_sequence")
        return {str(name): int(str(last)) + 1 for name, last in rows if isinstance(last, int)}

    def set_counters(self, numbers: Mapping[str, int]) -> Sequence[str]:
        tables = self._db.schema_reader.schema().tables
        numbered = {table.name for table in tables if "autoincrement" in table.options}
        return [
            statement.format(quote_literal(table), number - 1)
            for table, number in numbers.items()
            if table in numbered and number > 1
            for statement in _SET_COUNTER
        ]


def _build_table(table: SchemaTable) -> PortableTable:
    key = [strip_collation(name) for name in table.key]
    names = {column.name for column in table.columns}
    is_rowid = len(key) == 1 and "without rowid" not in table.options
    return interpret_constraints(
        PortableTable(
            name=table.name,
            columns=[_build_column(column, key if is_rowid else ()) for column in table.columns],
            key=key,
            indexes=[_build_index(index, names) for index in table.indexes],
            references=table.references,
            checks=table.checks,
        )
    )


def _adopt_types(tables: Sequence[PortableTable]) -> Sequence[PortableTable]:
    """Return tables whose foreign keys have the types of the columns to which they refer.

    SQLite stores equal values in both columns whatever their types are, while servers refuse such a foreign key.
    """
    types = {(table.name, column.name): column.type for table in tables for column in table.columns}
    adopted = {
        (table.name, name): types[reference.table, to]
        for table in tables
        for reference in table.references
        for name, to in zip(reference.columns, reference.to, strict=True)
        if (reference.table, to) in types and types[table.name, name].kind != types[reference.table, to].kind
    }
    return [
        msgspec.structs.replace(
            table,
            columns=[
                msgspec.structs.replace(column, type=adopted.get((table.name, column.name), column.type))
                for column in table.columns
            ],
        )
        for table in tables
    ]


def _build_column(column: SchemaColumn, rowid: Sequence[str]) -> PortableColumn:
    generated, is_stored = split_generated(column.generated)
    return PortableColumn(
        name=column.name,
        declared=column.type,
        type=read_type(column.type),
        is_nullable=column.nullable,
        default=column.default or "",
        generated=generated,
        is_stored=is_stored,
        is_automatic=column.type == "INTEGER" and list(rowid) == [column.name],
        ignores_case=column.collation == "NOCASE",
    )


def _build_index(index: SchemaIndex, names: set[str]) -> PortableIndex:
    terms = []
    for text in index.columns:
        plain = text.removesuffix(" desc")
        term, _, collation = plain.partition(" collate ") if plain not in names else (plain, "", "")
        is_column = term in names
        terms.append(
            IndexTerm(
                column=term if is_column else "",
                expression="" if is_column else term,
                is_descending=plain != text,
                ignores_case=collation == "NOCASE",
            )
        )
    return PortableIndex(name=index.name, terms=terms, is_unique=index.unique, where=index.where)


def _find_omissions(schema: Schema) -> Iterator[Omission]:
    for table in schema.tables:
        if not table.columns:
            yield Omission(
                kind="virtual table", name=table.name, reason=f"only SQLite has it: {table.options[0]}"
            )
        collations = {column.name: column.collation for column in table.columns}
        for name, collation in collations.items():
            if collation not in _KNOWN_COLLATIONS:
                reason = f"collation {collation} is left out"
                yield Omission(kind="collation", name=name, table=table.name, reason=reason)
        for index in table.indexes:
            for match in filter(None, map(_COLLATION.fullmatch, index.columns)):
                name, collation = match.groups()
                if collation not in _KNOWN_COLLATIONS and collations.get(name) != collation:
                    reason = f"collation {collation} of {name} is left out"
                    yield Omission(kind="index", name=index.name, table=table.name, reason=reason)
    yield from list_omissions(schema)
