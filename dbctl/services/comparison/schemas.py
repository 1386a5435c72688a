"""``schema diff``: compare the schemas of two databases, also of different engines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbctl.engines.contract.portable import PortableSchema, PortableTable
from dbctl.engines.contract.schema import (
    Schema,
    SchemaColumn,
    SchemaIndex,
    SchemaReference,
    SchemaTable,
)
from dbctl.errors.base import Exit
from dbctl.model import Closing, Row, Struct, format_count
from dbctl.services.comparison.sides import Side
from dbctl.services.migrations.drift import read_schema
from dbctl.services.migrations.schema_diff import Difference, compare, split_schema
from dbctl.services.transfer.parts import require_schemas

PORTABLE_REMARK = (
    "the engines differ: expressions, checks, views, triggers, lengths and collations are not compared"
)


class SchemaDifference(Struct, frozen=True, kw_only=True):
    """One difference of two schemas."""

    object: str  #: ``table``, ``column``, ``index`` …
    name: str  #: ``table``, ``table.column``, or words with the name of the table
    change: str  #: ``only a``, ``only b``, ``differs``
    a: str  #: the definition; empty if the side lacks it
    b: str


class SchemaDiff(Struct, frozen=True, kw_only=True):
    """Result of ``schema diff``."""

    a: str  #: the name of the first side
    b: str
    equal: bool
    compared: int  #: tables, columns, keys, indexes, …
    differences: Sequence[SchemaDifference]
    remarks: Sequence[str]

    @property
    def closing(self) -> Closing:
        details = [format_count(len(self.differences), "difference")] if self.differences else ["all equal"]
        return Closing(
            f"Compared {format_count(self.compared, 'part')} of two schemas", details, is_timed=True
        )

    @property
    def status(self) -> Exit:
        """The exit code of the command with ``--check``."""
        return Exit.OK if self.equal else Exit.CHECK_FAILED

    def summary(self) -> Row:
        summary: dict[str, object] = {
            "a": self.a,
            "b": self.b,
            "equal": self.equal,
            "compared": self.compared,
        }
        if self.differences:
            summary["differences"] = self.differences
        return summary


def compare_schemas(first: Side, second: Side) -> SchemaDiff:
    """Return the differences of two schemas; those of different engines are compared by their logical types.

    Raises:
        NotSupportedError: an engine cannot describe its schema.
    """
    ledgers = {*first.ledgers, *second.ledgers}
    remarks = list[str]()
    if _engine(first) == _engine(second):
        schemas = [read_schema(side.db) for side in (first, second)]
    else:
        remarks.append(PORTABLE_REMARK)
        schemas = [_simplify_schema(require_schemas(side.db).read_portable()) for side in (first, second)]
    if ledgers:
        remarks.append(
            f"the ledger of migrations is not compared: {', '.join(sorted(filter(None, ledgers)))}"
        )
    parts = [split_schema(schema, ledgers) for schema in schemas]
    differences = [_describe(difference) for difference in compare(*parts)]
    return SchemaDiff(
        a=first.name,
        b=second.name,
        equal=not differences,
        compared=len(parts[0].keys() | parts[1].keys()),
        differences=differences,
        remarks=remarks,
    )


def _engine(side: Side) -> str:
    return side.app.url(side.database).engine


def _describe(difference: Difference) -> SchemaDifference:
    change = (
        "differs"
        if difference.expected and difference.actual
        else "only a"
        if difference.expected
        else "only b"
    )
    return SchemaDifference(
        object=difference.part.kind,
        name=difference.place,
        change=change,
        a=difference.expected,
        b=difference.actual,
    )


def _simplify_schema(schema: PortableSchema) -> Schema:
    """Return a schema reduced to the properties that all engines have."""
    return Schema(tables=[_simplify_table(table) for table in schema.tables], codes=[])


def _simplify_table(table: PortableTable) -> SchemaTable:
    return SchemaTable(
        name=table.name,
        columns=[
            SchemaColumn(
                name=column.name,
                type=column.type.kind,
                storage=column.type.kind,
                # SQLite accepts NULL in some keys, and servers do not
                nullable=column.is_nullable and column.name not in table.key,
            )
            for column in table.columns
        ],
        key=table.key,
        indexes=list(_simplify_indexes(table)),
        references=[
            SchemaReference(
                columns=reference.columns,
                table=reference.table,
                to=reference.to,
                on_update=_simplify_action(reference.on_update),
                on_delete=_simplify_action(reference.on_delete),
                deferred=reference.deferred,
            )
            for reference in table.references
        ],
        checks=[],
        options=[],
    )


def _simplify_action(action: str) -> str:
    """Return an action of a foreign key; MySQL treats RESTRICT and NO ACTION alike."""
    return "NO ACTION" if action == "RESTRICT" else action


def _simplify_indexes(table: PortableTable) -> Iterator[SchemaIndex]:
    """Yield the indexes over all rows; their names differ between engines, and MySQL adds some for foreign keys."""
    foreign = [list(reference.columns) for reference in table.references]
    seen = set[tuple[bool, tuple[str, ...]]]()
    for index in table.indexes:
        columns = tuple(index.plain_columns)
        if (
            columns
            and (index.is_unique or list(columns) not in foreign)
            and (index.is_unique, columns) not in seen
        ):
            seen.add((index.is_unique, columns))
            yield SchemaIndex(name="", columns=columns, unique=index.is_unique)
