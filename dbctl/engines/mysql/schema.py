"""Read the whole schema of a database in one snapshot, and describe it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from dbctl.engines.contract import (
    Schema,
    SchemaCode,
    SchemaColumn,
    SchemaIndex,
    SchemaReference,
    SchemaTable,
    collapse_spaces,
    fingerprint,
    group_by_table,
)
from dbctl.engines.mysql.connection import Server
from dbctl.engines.mysql.types import normalize_type
from dbctl.engines.sql import Row

if TYPE_CHECKING:
    from dbctl.engines.mysql.database import MySQLDatabase

TABLES = """select table_name, engine, table_collation, create_options from information_schema.tables
where table_schema = database() and table_type in ('BASE TABLE', 'SYSTEM VERSIONED') order by table_name"""
COLUMNS = """select table_name, column_name, column_type, is_nullable = 'YES', column_default, collation_name, extra,
  generation_expression from information_schema.columns where table_schema = database()
order by table_name, ordinal_position"""
INDEXES = """select table_name, index_name, non_unique, column_name, collation, sub_part, index_type, {}
from information_schema.statistics where table_schema = database() order by table_name, index_name, seq_in_index"""
REFERENCES = """select k.table_name, k.constraint_name, k.column_name, k.referenced_table_name, k.referenced_column_name,
  r.update_rule, r.delete_rule
from information_schema.key_column_usage k join information_schema.referential_constraints r
  on r.constraint_schema = k.constraint_schema and r.constraint_name = k.constraint_name and r.table_name = k.table_name
where k.table_schema = database() order by k.table_name, k.constraint_name, k.ordinal_position"""
CHECKS = """select t.table_name, c.check_clause from information_schema.check_constraints c
join information_schema.table_constraints t
  on t.constraint_schema = c.constraint_schema and t.constraint_name = c.constraint_name {}
where t.table_schema = database() and t.constraint_type = 'CHECK' order by 1, 2"""
VIEWS = "select table_name, view_definition from information_schema.views where table_schema = database() order by 1"
TRIGGERS = """select trigger_name, event_object_table, action_timing, event_manipulation, action_statement
from information_schema.triggers where trigger_schema = database() order by 1"""


def queries(server: Server) -> Sequence[str]:
    """Return the queries for ``SchemaBuilder``, in the server's dialect."""
    if server.is_mariadb:  # check names are unique in a table only
        indexes, checks = INDEXES.format("null"), CHECKS.format("and t.table_name = c.table_name")
    else:
        indexes, checks = INDEXES.format("expression"), CHECKS.format("")
    return (TABLES, COLUMNS, indexes, REFERENCES, checks, VIEWS, TRIGGERS)


COMMENTS = """select '' as name, table_comment from information_schema.tables
where table_schema = database() and table_name = :table and table_type <> 'VIEW' and table_comment <> ''
union all select column_name, column_comment from information_schema.columns
where table_schema = database() and table_name = :table and column_comment <> ''"""


class MySQLSchemaReader:
    """The part ``SchemaReader``."""

    def __init__(self, db: MySQLDatabase) -> None:
        self._connection, self._catalog = db.connection, db.catalog

    def schema(self) -> Schema:
        with self._connection.read_transaction():
            ((name,),) = self._connection.fetch("select database()")
            return SchemaBuilder(
                str(name), *(self._connection.fetch(sql) for sql in queries(self._connection.server))
            ).build()

    def fingerprint(self) -> str:
        return fingerprint(self.schema())

    def comments(self, table: str) -> Mapping[str, str]:
        rows = self._connection.fetch(COMMENTS, {"table": self._catalog.require_table(table).name})
        return {str(column): str(comment) for column, comment in rows}


class SchemaBuilder:
    """Builder of a schema from the rows of the catalog."""

    def __init__(
        self,
        database: str,
        tables: list[Row],
        columns: list[Row],
        indexes: list[Row],
        references: list[Row],
        checks: list[Row],
        views: list[Row],
        triggers: list[Row],
    ) -> None:
        self._database = database
        self._tables, self._views, self._triggers = tables, views, triggers
        self._columns, self._indexes = group_by_table(columns), group_by_table(indexes)
        self._references, self._checks = group_by_table(references), group_by_table(checks)

    def build(self) -> Schema:
        return Schema(
            tables=[self._build_table(row) for row in self._tables], codes=list(self._build_codes())
        )

    def _build_codes(self) -> Iterator[SchemaCode]:
        for name, text in self._views:
            yield SchemaCode(kind="view", name=str(name), text=self._plain(str(text)))
        for name, table, *words in self._triggers:
            text = " ".join(map(str, words))
            yield SchemaCode(kind="trigger", name=str(name), table=str(table), text=self._plain(text))

    def _build_table(self, row: Row) -> SchemaTable:
        name, engine, collation, options = map(str, row)
        indexes = {
            str(index): list(rows) for index, rows in groupby(self._indexes[name], key=lambda row: row[1])
        }
        key = [str(part[3]) for part in indexes.pop("PRIMARY", [])]
        references = [list(rows) for _, rows in groupby(self._references[name], key=lambda row: row[1])]
        return SchemaTable(
            name=name,
            columns=[self._build_column(row, collation) for row in self._columns[name]],
            key=key,
            indexes=sorted(
                (_build_index(index, rows) for index, rows in indexes.items()),
                key=lambda row: (row.name, list(row.columns)),
            ),
            references=sorted(
                map(_build_reference, references),
                key=lambda row: (list(row.columns), row.table, list(row.to)),
            ),
            checks=sorted(self._plain(str(clause)) for _, clause in self._checks[name]),
            options=sorted(
                [
                    f"engine {engine}",
                    f"collate {collation}",
                    *([options] if options not in ("", "None") else []),
                ]
            ),
        )

    def _build_column(self, row: Row, table_collation: str) -> SchemaColumn:
        _, name, column_type, nullable, default, collation, extra, expression = row
        attributes = str(extra or "").lower().replace("default_generated", "").strip()
        generated_as = ""
        if expression:
            generated_as = (
                f"{self._plain(str(expression))} {'stored' if 'stored' in attributes else 'virtual'}"
            )
        elif attributes:
            generated_as = attributes
        return SchemaColumn(
            name=str(name),
            type=normalize_type(str(column_type)),
            storage=normalize_type(str(column_type)),
            nullable=bool(nullable),
            default=None if default is None or (default == "NULL" and nullable) else str(default),
            collation="" if collation in (None, table_collation) else str(collation),
            generated=generated_as,
        )

    def _plain(self, text: str) -> str:
        """Return an expression without the name of the database, which servers add to every table."""
        quoted = self._database.replace("`", "``")
        return collapse_spaces(text.replace(f"`{quoted}`.", ""))


def _build_index(name: str, parts: list[Row]) -> SchemaIndex:
    columns = []
    for part in parts:
        _, _, _, column, order, prefix, kind, expression = part
        words = [
            f"{column or expression}{f'({prefix})' if prefix else ''}",
            "desc" if order == "D" else "",
            "" if kind == "BTREE" else f"using {str(kind).lower()}",
        ]
        columns.append(" ".join(filter(None, words)))
    return SchemaIndex(name=name, columns=columns, unique=not parts[0][2])


def _build_reference(parts: list[Row]) -> SchemaReference:
    _, _, _, table, _, on_update, on_delete = parts[0]
    return SchemaReference(
        columns=[str(part[2]) for part in parts],
        table=str(table),
        to=[str(part[4]) for part in parts],
        on_update=str(on_update),
        on_delete=str(on_delete),
    )
