"""The description of one table: columns, keys, indexes, references both ways, checks, triggers, comments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from dbctl.engines.contract import (
    Capability,
    Describes,
    Indexes,
    Measures,
    Readable,
    Schema,
    SchemaColumn,
    SchemaIndex,
    SchemaReference,
    Vectors,
)
from dbctl.errors import NotSupportedError
from dbctl.model import Row, Value
from dbctl.services.app import App
from dbctl.services.data.table import DataTable, database_of


class DescribedColumn(Value, frozen=True, kw_only=True):
    """One column of a described table."""

    name: str
    type: str  #: as declared, upper case
    nullable: bool
    default: str | None
    key: bool  #: part of the primary key
    secret: bool  #: its values are shown only with ``--secrets``
    values: Sequence[str]  #: the labels of an enum
    generated: str  #: what computes it, in the engine's words; empty: it is stored as written
    collation: str  #: empty: the default
    comment: str


class DescribedIndex(Value, frozen=True, kw_only=True):
    """One index of a described table."""

    name: str
    columns: Sequence[str]  #: columns or expressions, in order
    unique: bool
    method: str  #: ``btree``, ``ivf_pq``; empty where the engine does not name it
    where: str  #: the condition of a partial index; empty: all rows


class ForeignKey(Value, frozen=True, kw_only=True):
    """A foreign key, from the columns of one table to those of another."""

    table: str  #: the table that holds the key
    columns: Sequence[str]
    to_table: str
    to: Sequence[str]
    on_update: str
    on_delete: str


class DescribedTrigger(Value, frozen=True, kw_only=True):
    """One trigger of a described table."""

    name: str
    text: str


class TableDescribed(Value, frozen=True, kw_only=True):
    """Answer of ``data describe``."""

    table: str
    kind: Literal["table", "view"]
    comment: str
    rows: int | None  #: None: a view, whose rows are not counted
    rows_estimated: bool
    primary_key: Sequence[str]
    columns: Sequence[DescribedColumn]
    indexes: Sequence[DescribedIndex]
    foreign_keys: Sequence[ForeignKey]
    referenced_by: Sequence[ForeignKey]
    checks: Sequence[str]
    triggers: Sequence[DescribedTrigger]
    options: Sequence[str]  #: further properties in the engine's words: ``without rowid``, ``engine innodb``
    definition: str  #: the query of a view

    def brief(self) -> Row:
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        lists = ("indexes", "foreign_keys", "referenced_by", "checks", "triggers", "options")
        absent = {name for name in (*lists, "comment", "definition") if not shown[name]}
        absent |= set() if self.rows_estimated else {"rows_estimated"}
        return {name: value for name, value in shown.items() if name not in absent} | {
            "columns": [_brief(column, self.columns) for column in self.columns]
        }


def describe_table(app: App, name: str) -> TableDescribed:
    """Return the description of a table or view, from the live schema.

    Raises:
        TableMissingError: there is none of that name.
        NotSupportedError: the engine does not describe its schema.
    """
    database = database_of(app)
    db = app.reader(database)
    table = DataTable(app, db, name)
    if Capability.SCHEMA not in db.capabilities or not isinstance(db, Describes):
        raise NotSupportedError(
            what="describing a table", by=db.target, instead="Its engine tells nothing of its schema."
        )
    schema = db.schema()
    own = next((candidate for candidate in schema.tables if candidate.name == name), None)
    declared = {column.name: column for column in own.columns} if own else {}
    comments = db.comments(name)
    rows, estimated = _count_rows(db, table)
    return TableDescribed(
        table=name,
        kind="view" if table.live.table.view else "table",
        comment=comments.get("", ""),
        rows=rows,
        rows_estimated=estimated,
        primary_key=list(own.key) if own and own.key else table.key,
        columns=list(_columns(table, declared, comments)),
        indexes=_indexes(db, name, own.indexes if own else ()),
        foreign_keys=[_foreign_key(name, key) for key in own.references] if own else [],
        referenced_by=list(_references_to(schema, name)),
        checks=own.checks if own else (),
        triggers=[
            DescribedTrigger(name=code.name, text=code.text)
            for code in schema.codes
            if code.kind == "trigger" and code.table == name
        ],
        options=own.options if own else (),
        definition=next(
            (code.text for code in schema.codes if code.kind == "view" and code.name == name), ""
        ),
    )


def _columns(
    table: DataTable, declared: Mapping[str, SchemaColumn], comments: Mapping[str, str]
) -> Iterator[DescribedColumn]:
    for column in table.columns.values():
        known = declared.get(column.name)
        yield DescribedColumn(
            name=column.name,
            type=known.type if known else column.type,
            nullable=column.nullable,
            default=known.default if known else None,
            key=column.key,
            secret=column.name in table.hidden,
            values=column.values,
            generated=known.generated if known else "",
            collation=known.collation if known else "",
            comment=comments.get(column.name, ""),
        )


def _indexes(db: Readable, table: str, declared: Sequence[SchemaIndex]) -> list[DescribedIndex]:
    """Return the indexes of a table by the names that the engine gives them, the primary key's included."""
    if Capability.INDEXES in db.capabilities and isinstance(db, Indexes):
        return [
            DescribedIndex(
                name=index.name,
                columns=index.columns,
                unique=index.unique or index.primary,
                method=index.method,
                where=index.where,
            )
            for index in db.indexes()
            if index.table == table
        ]
    if Capability.VECTORS in db.capabilities and isinstance(db, Vectors):
        return [
            DescribedIndex(name=index.name, columns=[index.column], unique=False, method=index.kind, where="")
            for index in db.vector_indexes(table)
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
        to=key.to,
        on_update=key.on_update,
        on_delete=key.on_delete,
    )


def _count_rows(db: Readable, table: DataTable) -> tuple[int | None, bool]:
    """Return how many rows a table has, and whether that is an estimate; nothing is counted of a view."""
    if table.live.table.view:
        return None, False
    if Capability.MEASURE not in db.capabilities or not isinstance(db, Measures):
        return db.count(table.name), False
    (measured,) = db.measured(exact=False, table=table.name)
    return measured.rows, measured.estimated


def _brief(column: DescribedColumn, columns: Sequence[DescribedColumn]) -> Row:
    """Return the fields of a column for a table on a terminal, without those that no column of the table has."""
    always = ("name", "type", "nullable", "default")
    return {
        name: getattr(column, name)
        for name in column.__struct_fields__
        if name in always or any(getattr(other, name) for other in columns)
    }
