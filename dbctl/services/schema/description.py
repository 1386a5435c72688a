"""``schema show``: the tables of a database, and the description of some of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

from dbctl.engines.contract.database import Readable, require_supported
from dbctl.engines.contract.schema import Schema, SchemaColumn, SchemaIndex, SchemaReader, SchemaReference
from dbctl.errors.base import DbctlError
from dbctl.model import PageRequest, Row, Struct
from dbctl.services.app.app import App
from dbctl.services.app.results import UNREADABLE, DatabaseResults, collect_results, measure_readable_tables
from dbctl.services.data.table import DataTable, selected_database

#: The kind of a listed name.
TableKind: TypeAlias = Literal["table", "view"]


class DescribedColumn(Struct, frozen=True, kw_only=True):
    """One column of a described table."""

    name: str
    type: str  #: as declared, upper case
    nullable: bool
    default: str | None
    key: bool  #: part of the primary key
    secret: bool  #: its values are shown only with ``--secrets``
    values: Sequence[str]  #: the labels of an enum
    generated: str  #: the expression of a generated column; empty for others
    collation: str  #: empty: the default
    comment: str


class DescribedIndex(Struct, frozen=True, kw_only=True):
    """One index of a described table."""

    name: str
    columns: Sequence[str]  #: columns or expressions, in order
    unique: bool
    method: str  #: ``btree``, ``ivf_pq``; empty if the engine does not name it
    where: str  #: the condition of a partial index; empty: all rows


class ForeignKey(Struct, frozen=True, kw_only=True):
    """A foreign key, from the columns of one table to those of another."""

    table: str  #: the table that has the key
    columns: Sequence[str]
    to_table: str
    to_columns: Sequence[str]
    on_update: str
    on_delete: str


class DescribedTrigger(Struct, frozen=True, kw_only=True):
    """One trigger of a described table."""

    name: str
    text: str


class TableOverview(Struct, frozen=True, kw_only=True):
    """One table or view of the list of ``schema show``."""

    target: str
    table: str
    kind: TableKind
    columns: int
    rows: int | None  #: None: a view, whose rows are not counted, or a table that cannot be read
    rows_estimated: bool
    bytes: int | None  #: including indexes; None if unknown

    def summary(self) -> Row:
        return {name: getattr(self, name) for name in self.__struct_fields__ if name != "rows_estimated"}


class TableDescription(Struct, frozen=True, kw_only=True):
    """The description of one table or view."""

    table: str
    kind: TableKind
    comment: str
    rows: int | None  #: None: a view, whose rows are not counted
    rows_estimated: bool
    bytes: int | None  #: including indexes; None if unknown
    primary_key: Sequence[str]
    columns: Sequence[DescribedColumn]
    indexes: Sequence[DescribedIndex]
    foreign_keys: Sequence[ForeignKey]
    referenced_by: Sequence[ForeignKey]
    checks: Sequence[str]
    triggers: Sequence[DescribedTrigger]
    #: other properties, in the terms of the engine: ``without rowid``, ``engine innodb``
    options: Sequence[str]
    definition: str  #: the query of a view

    def summary(self) -> Row:
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        lists = ("indexes", "foreign_keys", "referenced_by", "checks", "triggers", "options")
        absent = {name for name in (*lists, "comment", "definition") if not shown[name]}
        absent |= set() if self.rows_estimated else {"rows_estimated"}
        absent |= {"bytes"} if self.bytes is None else set()
        return {name: value for name, value in shown.items() if name not in absent} | {
            "columns": [_column_row(column, self.columns) for column in self.columns]
        }


class TableDescriptions(Struct, frozen=True, kw_only=True):
    """Result of ``schema show TABLE...``."""

    tables: Sequence[TableDescription]

    def summary(self) -> Row:
        if len(self.tables) == 1:
            return self.tables[0].summary()
        return {table.table: table.summary() for table in self.tables}


def list_tables(app: App, page_request: PageRequest) -> DatabaseResults[TableOverview]:
    """Return the tables and views of each configured database, by name."""
    unread = list[DbctlError]()

    def read_database(database: str) -> list[TableOverview]:
        db = app.reader(database, allow_empty=True)
        measured = {size.table: size for size in measure_readable_tables(db, unread)}
        overviews = list[TableOverview]()
        tables = db.tables()
        for name in sorted(tables):
            size = measured.get(name)
            try:
                table = tables[name]
            except UNREADABLE:  # its columns are unknown; ``unread`` has the reason
                continue
            overviews.append(
                TableOverview(
                    target=app.target(database),
                    table=name,
                    kind="view" if table.is_view else "table",
                    columns=len(table.columns),
                    rows=size.rows if size else None,
                    rows_estimated=bool(size and size.estimated),
                    bytes=size.bytes if size else None,
                )
            )
        return overviews

    return collect_results(
        app, TableOverview, page_request, read_database, hide_single_target=True, unread=unread
    )


def describe_tables(app: App, names: Sequence[str]) -> TableDescriptions:
    """Return the descriptions of tables or views of one database, from the live schema.

    Raises:
        TableMissingError: a table does not exist.
        NotSupportedError: the engine cannot describe its schema.
    """
    db = app.reader(selected_database(app))
    tables = [DataTable(app, db, name) for name in dict.fromkeys(names)]
    schema_reader = require_supported(
        db, db.schema_reader, "describing a table", "The engine cannot describe its schema."
    )
    schema = schema_reader.schema()
    return TableDescriptions(tables=[_describe_table(table, schema, schema_reader) for table in tables])


def _describe_table(table: DataTable, schema: Schema, schema_reader: SchemaReader) -> TableDescription:
    name, db = table.name, table.db
    definition = next((candidate for candidate in schema.tables if candidate.name == name), None)
    declared = {column.name: column for column in definition.columns} if definition else {}
    comments = schema_reader.comments(name)
    rows, estimated, size = _measure_table(db, table)
    return TableDescription(
        table=name,
        kind="view" if table.live.table.is_view else "table",
        comment=comments.get("", ""),
        rows=rows,
        rows_estimated=estimated,
        bytes=size,
        primary_key=list(definition.key) if definition and definition.key else table.key,
        columns=list(_columns(table, declared, comments)),
        indexes=_indexes(db, name, definition.indexes if definition else ()),
        foreign_keys=[_foreign_key(name, key) for key in definition.references] if definition else [],
        referenced_by=list(_references_to(schema, name)),
        checks=definition.checks if definition else (),
        triggers=[
            DescribedTrigger(name=code.name, text=code.text)
            for code in schema.codes
            if code.kind == "trigger" and code.table == name
        ],
        options=definition.options if definition else (),
        definition=next(
            (code.text for code in schema.codes if code.kind == "view" and code.name == name), ""
        ),
    )


def _columns(
    table: DataTable, declared: Mapping[str, SchemaColumn], comments: Mapping[str, str]
) -> Iterator[DescribedColumn]:
    for column in table.columns.values():
        declaration = declared.get(column.name)
        yield DescribedColumn(
            name=column.name,
            type=declaration.type if declaration else column.type,
            nullable=column.nullable,
            default=declaration.default if declaration else None,
            key=column.is_primary_key,
            secret=column.name in table.hidden,
            values=column.labels,
            generated=declaration.generated if declaration else "",
            collation=declaration.collation if declaration else "",
            comment=comments.get(column.name, ""),
        )


def _indexes(db: Readable, table: str, declared: Sequence[SchemaIndex]) -> list[DescribedIndex]:
    """Return the indexes of a table, including that of the primary key."""
    if (indexes := db.storage.list_indexes()) is not None:
        columns = {index.name: index.columns for index in declared}  # with the text of expressions
        return [
            DescribedIndex(
                name=index.name,
                columns=columns.get(index.name, index.columns),
                unique=index.unique or index.primary,
                method=index.method,
                where=index.where,
            )
            for index in indexes
            if index.table == table
        ]
    if vectors := db.vectors:
        return [
            DescribedIndex(name=index.name, columns=[index.column], unique=False, method=index.kind, where="")
            for index in vectors.vector_indexes(table)
        ]
    return [
        DescribedIndex(
            name=index.name, columns=index.columns, unique=index.unique, method="", where=index.where
        )
        for index in declared
    ]


def _references_to(schema: Schema, table: str) -> Iterator[ForeignKey]:
    for other in schema.tables:
        for key in other.references:
            if key.table == table:
                yield _foreign_key(other.name, key)


def _foreign_key(table: str, key: SchemaReference) -> ForeignKey:
    return ForeignKey(
        table=table,
        columns=key.columns,
        to_table=key.table,
        to_columns=key.to,
        on_update=key.on_update,
        on_delete=key.on_delete,
    )


def _measure_table(db: Readable, table: DataTable) -> tuple[int | None, bool, int | None]:
    """Return the number of rows, None for a view or a foreign table, whether it is an estimate, and the size in bytes, if known."""
    if table.live.table.is_view:
        return None, False, None
    sizes = db.storage.measure_tables(exact=False, table=table.name)
    measured = next((size for size in sizes if size.table == table.name), None)  # all for a table named ""
    if measured is None:
        return None, False, None
    return measured.rows, measured.estimated, measured.bytes


def _column_row(column: DescribedColumn, columns: Sequence[DescribedColumn]) -> Row:
    """Return the row of a column for a table, without fields that are empty in all columns."""
    always = ("name", "type", "nullable", "default")
    return {
        name: getattr(column, name)
        for name in column.__struct_fields__
        if name in always or any(getattr(other, name) for other in columns)
    }
