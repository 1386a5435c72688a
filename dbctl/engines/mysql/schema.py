"""Read the whole schema of a database in one snapshot, and describe it."""

from __future__ import annotations

from itertools import groupby

import msgspec

from dbctl.engines.contract.schema import Schema, collapse_spaces
from dbctl.engines.mysql.connection.connection import MySQLConnection
from dbctl.engines.mysql.errors import quote
from dbctl.engines.mysql.types.columns import normalize_type
from dbctl.engines.servers.database import (
    NamedRow,
    Rows,
    ServerSchemaReader,
    group_rows,
    sort_indexes,
    sort_references,
)
from dbctl.engines.sql.catalog import ident

TABLES = """select table_name as name, engine, table_collation as collation, coalesce(create_options, '') as options
from information_schema.tables
where table_schema = database() and table_type in ('BASE TABLE', 'SYSTEM VERSIONED') order by table_name"""
COLUMNS = """select table_name as owner, column_name as name, column_type as type, is_nullable = 'YES' as nullable,
  column_default as "default", coalesce(collation_name, '') as collation, lower(coalesce(extra, '')) as attributes,
  coalesce(generation_expression, '') as expression from information_schema.columns where table_schema = database()
order by table_name, ordinal_position"""
INDEXES = """select table_name as owner, index_name as name, non_unique = 0 as "unique", index_type as kind, index_comment as comment, column_name as "column",
  concat(coalesce(column_name, {}), case when sub_part is null then '' else concat('(', sub_part, ')') end,
    case collation when 'D' then ' desc' else '' end) as term
from information_schema.statistics where table_schema = database() order by table_name, index_name, seq_in_index"""
REFERENCES = """select k.table_name as owner, k.constraint_name as name, k.column_name as source, k.referenced_table_name as "table",
  k.referenced_column_name as target, r.update_rule as on_update, r.delete_rule as on_delete
from information_schema.key_column_usage k join information_schema.referential_constraints r
  on r.constraint_schema = k.constraint_schema and r.constraint_name = k.constraint_name and r.table_name = k.table_name
where k.table_schema = database() order by k.table_name, k.constraint_name, k.ordinal_position"""
CHECKS = """select t.table_name as owner, c.check_clause as clause from information_schema.check_constraints c
join information_schema.table_constraints t
  on t.constraint_schema = c.constraint_schema and t.constraint_name = c.constraint_name {}
where t.table_schema = database() and t.constraint_type = 'CHECK' order by 1, 2"""
VIEWS = """select 'view' as kind, table_name as name, coalesce(view_definition, '') as text from information_schema.views
where table_schema = database() order by table_name"""
TRIGGERS = """select 'trigger' as kind, trigger_name as name, event_object_table as "table",
  concat_ws(' ', action_timing, event_manipulation, action_statement) as text
from information_schema.triggers where trigger_schema = database() order by trigger_name"""
COMMENTS = """select '' as name, table_comment from information_schema.tables
where table_schema = database() and table_name = :table and table_type <> 'VIEW' and table_comment <> ''
union all select column_name, column_comment from information_schema.columns
where table_schema = database() and table_name = :table and column_comment <> ''"""

#: System-versioned tables, and whether they are versioned by transactions instead of timestamps.
VERSIONED = """select t.table_name, max(c.data_type = 'bigint') from information_schema.tables t
left join information_schema.columns c on c.table_schema = t.table_schema and c.table_name = t.table_name
  and c.generation_expression = 'ROW START'
where t.table_schema = database() and t.table_type = 'SYSTEM VERSIONED' group by t.table_name order by 1"""


class MySQLSchemaReader(ServerSchemaReader):
    """The part ``SchemaReader``."""

    _connection: MySQLConnection
    comments_sql = COMMENTS

    def _fetch_schema(self) -> Schema:
        fetch = self._connection.fetch_by_name
        ((name,),) = self._connection.fetch("select database()")
        builder = _Builder(str(name))
        is_mariadb = self._connection.server.is_mariadb
        indexes = INDEXES.format("''" if is_mariadb else "expression")
        # On MariaDB, the names of checks are unique in a table only.
        checks = CHECKS.format("and t.table_name = c.table_name" if is_mariadb else "")
        groups = [group_rows(fetch(sql)) for sql in (COLUMNS, indexes, REFERENCES, checks)]
        tables = [
            builder.build_table(row, *(group[row["name"]] for group in groups)) for row in fetch(TABLES)
        ]
        codes = [*fetch(VIEWS), *fetch(TRIGGERS)]
        for code in codes:
            code["text"] = builder.normalize(code["text"])
        return msgspec.convert({"tables": tables, "codes": codes}, Schema, strict=False)


class _Builder:
    """Builder of tables from the rows of the catalog."""

    def __init__(self, database: str) -> None:
        self._prefix, self._sequence_prefix = f"{quote(database)}.", f"nextval({ident(database)}."

    def normalize(self, text: str) -> str:
        """Return an expression without the name of the database, which servers add to every table."""
        return collapse_spaces(text.replace(self._prefix, ""))

    def build_table(
        self, row: NamedRow, columns: Rows, indexes: Rows, references: Rows, checks: Rows
    ) -> NamedRow:
        parts = {name: list(rows) for name, rows in groupby(indexes, key=lambda row: row["name"])}
        keys = [list(rows) for _, rows in groupby(references, key=lambda row: row["name"])]
        primary_key = parts.pop("PRIMARY", [])
        options = [f"engine {row['engine']}", f"collate {row['collation']}", row["options"]]
        return {
            "name": row["name"],
            "columns": [self._build_column(column, row["collation"]) for column in columns],
            "key": [part["column"] for part in primary_key],
            "indexes": sort_indexes([_build_index(rows) for rows in parts.values()]),
            "references": sort_references([_build_reference(rows) for rows in keys]),
            "checks": sorted(self.normalize(check["clause"]) for check in checks),
            "options": sorted(filter(None, options)),
        }

    def _build_column(self, row: NamedRow, table_collation: str) -> NamedRow:
        row["generated"] = row["attributes"].replace("default_generated", "").strip()
        if row["expression"]:
            kind = "stored" if "stored" in row["attributes"] else "virtual"
            row["generated"] = f"{self.normalize(row['expression'])} {kind}"
        row["type"] = row["storage"] = normalize_type(row["type"])
        if row["default"] == "NULL" and row["nullable"]:
            row["default"] = None
        if row["default"]:
            row["default"] = row["default"].replace(self._sequence_prefix, "nextval(")
        if row["collation"] == table_collation:
            row["collation"] = ""
        return row


def _build_index(parts: Rows) -> NamedRow:
    method = "" if parts[0]["kind"] == "BTREE" else f" using {parts[0]['kind'].lower()}"
    return {**parts[0], "columns": [part["term"] + method for part in parts]}


def _build_reference(parts: Rows) -> NamedRow:
    columns, to = [part["source"] for part in parts], [part["target"] for part in parts]
    return {**parts[0], "columns": columns, "to": to}
