"""A whole schema as the catalogue tells it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from dbctl.engines.contract import (
    Schema,
    SchemaCode,
    SchemaColumn,
    SchemaIndex,
    SchemaReference,
    SchemaTable,
    by_table,
    plain,
)
from dbctl.engines.mysql.session import Server
from dbctl.engines.mysql.types import declared
from dbctl.engines.sql import Row

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
    """Return what ``Told`` is made of, as a server is asked for it."""
    if server.is_mariadb:  # names of checks are those of a table there
        indexes, checks = INDEXES.format("null"), CHECKS.format("and t.table_name = c.table_name")
    else:
        indexes, checks = INDEXES.format("expression"), CHECKS.format("")
    return (TABLES, COLUMNS, indexes, REFERENCES, checks, VIEWS, TRIGGERS)


class Told:
    """What the server told, brought together."""

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
        self._columns, self._indexes = by_table(columns), by_table(indexes)
        self._references, self._checks = by_table(references), by_table(checks)

    def schema(self) -> Schema:
        return Schema(tables=[self._table(row) for row in self._tables], codes=list(self._codes()))

    def _codes(self) -> Iterator[SchemaCode]:
        for name, text in self._views:
            yield SchemaCode(kind="view", name=str(name), text=self._plain(str(text)))
        for name, table, *words in self._triggers:
            text = " ".join(map(str, words))
            yield SchemaCode(kind="trigger", name=str(name), table=str(table), text=self._plain(text))

    def _table(self, row: Row) -> SchemaTable:
        name, keeper, collation, options = map(str, row)
        indexes = {
            str(index): list(parts) for index, parts in groupby(self._indexes[name], key=lambda one: one[1])
        }
        key = [str(part[3]) for part in indexes.pop("PRIMARY", [])]
        references = [list(parts) for _, parts in groupby(self._references[name], key=lambda one: one[1])]
        return SchemaTable(
            name=name,
            columns=[self._column(one, collation) for one in self._columns[name]],
            key=key,
            indexes=sorted(
                (_index(index, parts) for index, parts in indexes.items()),
                key=lambda one: (one.name, list(one.columns)),
            ),
            references=sorted(
                map(_reference, references), key=lambda one: (list(one.columns), one.table, list(one.to))
            ),
            checks=sorted(self._plain(str(clause)) for _, clause in self._checks[name]),
            options=sorted(
                [
                    f"engine {keeper}",
                    f"collate {collation}",
                    *([options] if options not in ("", "None") else []),
                ]
            ),
        )

    def _column(self, row: Row, of_table: str) -> SchemaColumn:
        _, name, told, nullable, default, collation, extra, expression = row
        more = str(extra or "").lower().replace("default_generated", "").strip()
        made = ""
        if expression:
            made = f"{self._plain(str(expression))} {'stored' if 'stored' in more else 'virtual'}"
        elif more:
            made = more
        return SchemaColumn(
            name=str(name),
            type=declared(str(told)),
            storage=declared(str(told)),
            nullable=bool(nullable),
            default=None if default is None or (default == "NULL" and nullable) else str(default),
            collation="" if collation in (None, of_table) else str(collation),
            generated=made,
        )

    def _plain(self, text: str) -> str:
        """Return it without the name of the database, which servers put before every table."""
        quoted = self._database.replace("`", "``")
        return plain(text.replace(f"`{quoted}`.", ""))


def _index(name: str, parts: list[Row]) -> SchemaIndex:
    told = []
    for part in parts:
        _, _, _, column, order, prefix, kind, expression = part
        words = [
            f"{column or expression}{f'({prefix})' if prefix else ''}",
            "desc" if order == "D" else "",
            "" if kind == "BTREE" else f"using {str(kind).lower()}",
        ]
        told.append(" ".join(filter(None, words)))
    return SchemaIndex(name=name, columns=told, unique=not parts[0][2])


def _reference(parts: list[Row]) -> SchemaReference:
    _, _, _, table, _, on_update, on_delete = parts[0]
    return SchemaReference(
        columns=[str(part[2]) for part in parts],
        table=str(table),
        to=[str(part[4]) for part in parts],
        on_update=str(on_update),
        on_delete=str(on_delete),
    )
