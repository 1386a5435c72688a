"""Derive the schema of a SQLite file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dbctl.extensions.transfer.engines.sqlite.schema import read_type, write_type
from dbctl.extensions.transfer.portable.contract import (
    IndexTerm,
    LogicalKind,
    LogicalType,
    PortableColumn,
    PortableIndex,
    PortableSchema,
    PortableTable,
)
from dbctl.extensions.transfer.portable.derivation import Derivation
from dbctl.model import TimeForm

_RANDOM_UUID = (
    "lower(printf('%s-%s-4%s-%s%s-%s', hex(randomblob(4)), hex(randomblob(2)), substr(hex(randomblob(2)), 2),"
    " substr('89ab', 1 + (random() & 3), 1), substr(hex(randomblob(2)), 2), hex(randomblob(6))))"
)


_NOW: Mapping[TimeForm, str] = {
    "iso-ms": "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')",
    "epoch-ms": "cast((julianday('now') - 2440587.5) * 86400000 as integer)",
    "epoch-s": "cast(strftime('%s', 'now') as integer)",
}


class SQLiteDerivation(Derivation):
    dialect = "sqlite"
    max_name_size = 1 << 16
    has_inline_constraints = True
    ignores_case_of_tables = ignores_case_of_columns = True
    functions: Mapping[str, Mapping[LogicalKind, str]] = {
        "now": {
            **dict.fromkeys(["timestamp", "text", "any"], "datetime('now')"),
            "date": "date('now')",
            "time": "time('now')",
            "integer": "cast(strftime('%s', 'now') as integer)",
            "real": "(julianday('now') - 2440587.5) * 86400.0",
        },
        "today": dict.fromkeys(["date", "timestamp", "text"], "date('now')"),
        "uuid": dict.fromkeys(["uuid", "text"], _RANDOM_UUID),
    }

    def __init__(self, schema: PortableSchema, time_form: TimeForm) -> None:
        super().__init__(schema)
        if time_form in _NOW:  # a new row has the form of the copied ones
            self.functions = {
                **self.functions,
                "now": {**self.functions["now"], "timestamp": _NOW[time_form]},
            }

    def column_type(self, table: PortableTable, column: PortableColumn) -> tuple[str, LogicalType]:
        del table
        declared = write_type(column.type)
        if column.type.kind == "enum":
            return declared, column.type
        if column.type.kind == "json":
            return declared, LogicalType(kind="json")
        return declared, read_type(declared)

    def has_inline_key(self, table: PortableTable) -> bool:
        return len(table.key) == 1 and table.column(table.key[0]).is_automatic

    def automatic_clause(self, table: PortableTable, column: PortableColumn) -> str:
        if self.has_inline_key(table) and [column.name] == list(table.key):
            return "primary key autoincrement"  # servers do not reuse numbers, either
        self.omit(
            "automatic number", column.name, "SQLite numbers only a primary key of one column", table.name
        )
        return ""

    def collation_clause(self, table: PortableTable, column: PortableColumn, logical: LogicalType) -> str:
        del table, logical
        return "collate nocase" if column.ignores_case else ""

    def can_comment(self, comment: str, *, is_column: bool) -> bool:
        del comment, is_column
        return False

    def type_checks(self, column: PortableColumn) -> Iterator[str]:
        yield from super().type_checks(column)
        if column.type.kind == "json":
            # older versions of SQLite return 0 for NULL
            yield f"json_valid({self.quote(column.name)}) or {self.quote(column.name)} is null"

    def create_index(self, table: PortableTable, index: PortableIndex) -> Iterator[str]:
        def write(term: IndexTerm, expression: str) -> str:
            return f"{expression} collate nocase" if term.ignores_case else expression

        return self.build_index(table, index, write)
