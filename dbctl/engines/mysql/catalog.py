"""Read the tables of one database, their columns and foreign keys from the catalog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Literal, cast

from dbctl.engines.contract import Reference, Table
from dbctl.engines.mysql.types import (
    KINDS,
    NATIVE,
    Kind,
    MySQLColumn,
    MySQLTable,
    normalize_type,
    parse_labels,
)
from dbctl.engines.sql import Catalog

if TYPE_CHECKING:
    from dbctl.engines.mysql.connection import MySQLConnection

TABLES = """select t.table_name, t.table_type, t.engine, e.transactions = 'YES'
from information_schema.tables t left join information_schema.engines e on e.engine = t.engine
where t.table_schema = database() and t.table_type in ('BASE TABLE', 'SYSTEM VERSIONED', 'VIEW')"""
COLUMNS = """select table_name, column_name, column_type, data_type, is_nullable = 'YES', column_default, extra,
  column_key = 'PRI', character_set_name, collation_name
from information_schema.columns where table_schema = database() order by table_name, ordinal_position"""
KEYS = """select k.table_name, k.constraint_name, k.column_name, k.referenced_column_name, r.delete_rule,
  k.referenced_table_name
from information_schema.key_column_usage k join information_schema.referential_constraints r
  on r.constraint_schema = k.constraint_schema and r.constraint_name = k.constraint_name and r.table_name = k.table_name
where k.table_schema = database() and k.referenced_table_schema = database() and k.referenced_table_name = :table
order by k.table_name, k.constraint_name, k.ordinal_position"""

OnDelete = Literal["CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION"]


class MySQLCatalog(Catalog):
    """The live schema."""

    def __init__(self, connection: MySQLConnection) -> None:
        super().__init__(connection.target)
        self._connection = connection
        connection.on_reconnect(self.forget)

    def _read_tables(self) -> Mapping[str, Table]:
        columns: dict[str, dict[str, MySQLColumn]] = {}
        for row in self._connection.fetch(COLUMNS):
            table, *fields = row
            columns.setdefault(str(table), {})[str(fields[0])] = _create_column(*fields)
        rows = sorted(self._connection.fetch(TABLES), key=lambda row: str(row[0]))
        return {
            str(name): MySQLTable(
                name=str(name),
                columns=columns.get(str(name), {}),
                is_view=kind == "VIEW",
                storage_engine=str(engine or ""),
                transactional=kind == "VIEW" or bool(transactional),
            )
            for name, kind, engine, transactional in rows
        }

    def references(self, table: str) -> Sequence[Reference]:
        name = self.require_table(table).name
        rows = [row for row in self._connection.fetch(KEYS, {"table": name}) if row[5] == name]
        keys = [list(group) for _, group in groupby(rows, key=lambda row: row[:2])]
        return [
            Reference(
                table=str(key[0][0]),
                columns=[str(row[2]) for row in key],
                to=[str(row[3]) for row in key],
                on_delete=cast("OnDelete", str(key[0][4])),
            )
            for key in keys
        ]


def _create_column(
    name: object,
    column_type: object,
    base: object,
    nullable: object,
    default: object,
    extra: object,
    key: object,
    charset: object,
    collation: object,
) -> MySQLColumn:
    kind: Kind = KINDS.get(str(base), "other")
    attributes = str(extra).lower()
    is_generated = "virtual generated" in attributes or "stored generated" in attributes
    auto_increment = "auto_increment" in attributes
    return MySQLColumn(
        name=str(name),
        type=normalize_type(str(column_type)),
        nullable=bool(nullable),
        required=not nullable and default is None and not (auto_increment or is_generated),
        is_generated=is_generated,
        is_primary_key=bool(key),
        native=NATIVE.get(kind, ""),
        labels=parse_labels(str(column_type)) if kind == "enum" else (),
        kind=kind,
        charset=str(charset or ""),
        collation=str(collation or ""),
        auto_increment=auto_increment,
    )
