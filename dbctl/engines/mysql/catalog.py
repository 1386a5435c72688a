"""Read the tables of one database, their columns and foreign keys from the catalog."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec

from dbctl.engines.contract.database import Reference, Table
from dbctl.engines.mysql.types.columns import (
    KINDS,
    NATIVE,
    Kind,
    MySQLColumn,
    MySQLTable,
    normalize_type,
    parse_labels,
)
from dbctl.engines.sql.catalog import Catalog

if TYPE_CHECKING:
    from dbctl.engines.mysql.connection.connection import MySQLConnection

TABLES = """select t.table_name, t.table_type = 'VIEW', coalesce(t.engine, ''),
  t.table_type = 'VIEW' or coalesce(e.transactions = 'YES', false)
from information_schema.tables t left join information_schema.engines e on e.engine = t.engine
where t.table_schema = database() and t.table_type in ('BASE TABLE', 'SYSTEM VERSIONED', 'VIEW')"""
COLUMNS = """select table_name as "table", column_name as name, column_type as type, data_type as base, is_nullable = 'YES' as nullable,
  column_default is not null as has_default, lower(extra) as attributes, column_key = 'PRI' as is_primary_key,
  coalesce(character_set_name, '') as charset, coalesce(collation_name, '') as collation
from information_schema.columns where table_schema = database() order by table_name, ordinal_position"""
KEYS = """select k.table_name, k.constraint_name, k.column_name, k.referenced_column_name, r.delete_rule,
  k.referenced_table_name
from information_schema.key_column_usage k join information_schema.referential_constraints r
  on r.constraint_schema = k.constraint_schema and r.constraint_name = k.constraint_name and r.table_name = k.table_name
where k.table_schema = database() and k.referenced_table_schema = database()
order by k.table_name, k.constraint_name, k.ordinal_position"""

OnDelete = Literal["CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION"]


class MySQLCatalog(Catalog):
    def __init__(self, connection: MySQLConnection) -> None:
        super().__init__(connection.target)
        self._connection = connection
        connection.on_reconnect(self.forget)

    def _read_tables(self) -> Mapping[str, Table]:
        columns: dict[str, dict[str, MySQLColumn]] = {}
        for row in self._connection.fetch_by_name(COLUMNS):
            columns.setdefault(row["table"], {})[row["name"]] = _create_column(row)
        rows = cast(
            "list[tuple[str, int, str, int]]", sorted(self._connection.fetch(TABLES), key=itemgetter(0))
        )
        return {
            name: MySQLTable(
                name=name,
                columns=columns.get(name, {}),
                is_view=bool(is_view),
                storage_engine=storage_engine,
                transactional=bool(transactional),
            )
            for name, is_view, storage_engine, transactional in rows
            # Both lists are read without a snapshot: a table without columns was created between them.
            if is_view or name in columns
        }

    def _read_references(self) -> Mapping[str, Sequence[Reference]]:
        references = defaultdict[str, list[Reference]](list)
        by_key = itemgetter(0, 1)
        rows = sorted(cast("list[tuple[str, ...]]", self._connection.fetch(KEYS)), key=by_key)
        for (table, _), group in groupby(rows, key=by_key):
            key = list(group)
            reference = Reference(
                table=table,
                columns=[row[2] for row in key],
                to=[row[3] for row in key],
                on_delete=cast("OnDelete", key[0][4]),
            )
            references[key[0][5]].append(reference)
        return references


def _create_column(row: dict[str, Any]) -> MySQLColumn:
    kind: Kind = KINDS.get(row["base"], "other")
    is_generated = any(f"{word} generated" in row["attributes"] for word in ("virtual", "stored"))
    auto_increment = "auto_increment" in row["attributes"]
    fields = {
        "type": normalize_type(row["type"]),
        "required": not (row["nullable"] or row["has_default"] or auto_increment or is_generated),
        "is_generated": is_generated,
        "native": NATIVE.get(kind, ""),
        "labels": parse_labels(row["type"]) if kind == "enum" else (),
        "kind": kind,
        "auto_increment": auto_increment,
    }
    return msgspec.convert({**row, **fields}, MySQLColumn, strict=False)
