"""Sizes and indexes of MySQL and MariaDB, and maintenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from dbctl.engines.contract.checks import Storage, TableSize
from dbctl.engines.contract.monitoring import Bloat, Index, MaintenanceKind, MaintenanceTask, StorageManager
from dbctl.engines.mysql.database import MySQLPart
from dbctl.engines.mysql.opening import quote
from dbctl.engines.servers.database import LARGE_TABLE
from dbctl.engines.servers.values import convert_row
from dbctl.errors.base import Remedy
from dbctl.errors.connection import PrivilegeMissingError, QueryFailedError
from dbctl.errors.usage import NotSupportedError
from dbctl.model import group, now

STORAGE = """select cast(coalesce(sum(coalesce(data_length, 0) + coalesce(index_length, 0)), 0) as signed) as bytes,
  @@innodb_page_size as page_size
from information_schema.tables where table_schema = database() and table_type <> 'VIEW'"""
INDEX_NAMES = """select distinct table_name, index_name from information_schema.statistics
where table_schema = database() order by 1, 2"""
TABLE_SIZES = """select table_name as "table", coalesce(table_rows, 0) as "rows", coalesce(data_length, 0) as table_bytes,
  coalesce(index_length, 0) as index_bytes from information_schema.tables
where table_schema = database() and table_type <> 'VIEW'"""
WRITE_COUNTS = """select object_name as "table", count_insert as inserts, count_update as updates, count_delete as deletes
from performance_schema.table_io_waits_summary_by_table where object_schema = database()"""
BLOAT = """select table_name as "table", coalesce(data_length, 0) + coalesce(index_length, 0) + coalesce(data_free, 0) as bytes,
  data_free as wasted_bytes, null as dead_rows, table_rows as "rows", concat('data_free of ', coalesce(engine, 'an unknown engine')) as source
from information_schema.tables where table_schema = database() and table_type <> 'VIEW' order by table_name"""
#: Only MySQL has indexes over expressions.
INDEXES = """select table_name as "table", index_name as name, non_unique = 0 as "unique", lower(index_type) as method,
  concat(coalesce(column_name, concat('(', {}, ')')), case when sub_part is null then '' else concat('(', sub_part, ')') end,
    case collation when 'D' then ' desc' else '' end) as term
from information_schema.statistics where table_schema = database() order by 1, 2, seq_in_index"""
#: The columns of each foreign key; an index that begins with them is required.
KEYS = """select table_name, column_name, constraint_name from information_schema.key_column_usage
where table_schema = database() and referenced_table_name is not null order by 1, 3, ordinal_position"""
REFERENCED_KEYS = """select referenced_table_name, referenced_column_name, constraint_name, table_name
from information_schema.key_column_usage where referenced_table_schema = database() order by 1, 3, 4, ordinal_position"""
BYTES = """select table_name, index_name, stat_value * @@innodb_page_size from mysql.innodb_index_stats
where database_name = database() and stat_name = 'size'"""
SCANS = """select object_name, index_name, count_read from performance_schema.table_io_waits_summary_by_index_usage
where object_schema = database() and index_name is not null"""
MAINTENANCE: Mapping[MaintenanceKind, str] = {
    "analyze": "ANALYZE TABLE {}",
    "optimize": "OPTIMIZE TABLE {}",
    "reindex": "ALTER TABLE {} FORCE",
}
#: Tasks that an engine without dead rows does not need.
INSTEAD: Mapping[MaintenanceKind, Remedy | str] = {
    "vacuum": Remedy("Rewrite tables that contain much unused space with: `maintain optimize`"),
    "checkpoint": "The server applies its log automatically.",
    "wal": "The server always writes a log.",
    "rollback-journal": "The server always writes a log.",
}
#: A table is due if more than a quarter of its size is free, and at least 4 MiB.
DUE = """select table_name from information_schema.tables where table_schema = database() and table_type <> 'VIEW'
  and data_free > 4194304 and data_free > (data_length + index_length) / 4 order by table_name"""


class MySQLStorage(MySQLPart, StorageManager):
    """The part ``StorageManager``; index scans are counted since the server start, and the server removes unfinished tables itself."""

    def measure_storage(self) -> Storage:
        return self._connection.fetch_as(Storage, STORAGE, tables=len(self._catalog.base_tables()))[0]

    def measure_tables(self, *, exact: bool = True, table: str = "") -> Sequence[TableSize]:
        indexes = group((str(name), str(index)) for name, index in self._connection.fetch(INDEX_NAMES))
        statistics = {row["table"]: row for row in self._connection.fetch_by_name(TABLE_SIZES)}
        write_counts, sizes = self._write_counts(), []
        for name in self._catalog.base_tables():
            if table in ("", name):
                row = statistics.get(name, {"table": name, "rows": 0, "table_bytes": 0, "index_bytes": 0})
                row |= write_counts.get(name, {})
                row["estimated"] = not exact and row["table_bytes"] > LARGE_TABLE
                row["rows"] = row["rows"] if row["estimated"] else self._db.count(name)
                row["bytes"] = row["table_bytes"] + row["index_bytes"]
                sizes.append(convert_row({**row, "indexes": indexes.get(name, [])}, TableSize))
        return sizes

    def _write_counts(self) -> dict[str, dict[str, Any]]:
        """Return the counts of inserts, updates and deletes by table since the server start; empty if the server does not count."""
        if not self._counts_events():
            return {}
        try:
            return {row["table"]: row for row in self._connection.fetch_by_name(WRITE_COUNTS)}
        except PrivilegeMissingError:
            return {}

    def measure_bloat(self) -> Sequence[Bloat]:
        return self._connection.fetch_as(Bloat, BLOAT, estimated=True)

    def list_indexes(self, *, sized: bool = True) -> Sequence[Index]:  # noqa: ARG002 - the server has the sizes
        expression = "''" if self._connection.server.is_mariadb else "expression"
        sizes, scans = self._by_index(BYTES), self._count_scans()
        keys, indexes = self._foreign_key_columns(), dict[tuple[str, str], dict[str, Any]]()
        for row in self._connection.fetch_by_name(INDEXES.format(expression)):
            indexes.setdefault((row["table"], row["name"]), {**row, "columns": []})["columns"].append(
                row["term"]
            )
        for (table, name), index in indexes.items():
            others = [
                other["columns"] for key, other in indexes.items() if key[0] == table and key[1] != name
            ]
            index |= {
                "primary": name == "PRIMARY",
                "constraint": name == "PRIMARY",  # other indexes belong to no constraint
                "is_referenced": _is_needed(index["columns"], keys.get(table, []), others),
                "valid": True,
                "where": "",
                "bytes": sizes.get((table, name)),
                "scans": None if scans is None else scans.get((table, name), 0),
                "drop_statement": f"ALTER TABLE {quote(table)} DROP INDEX {quote(name)};",
            }
        return [convert_row(index, Index) for index in indexes.values()]

    def _foreign_key_columns(self) -> Mapping[str, list[list[str]]]:
        """Return the columns for which foreign keys need an index, at either end, by table."""
        columns: dict[str, list[list[str]]] = {}
        for query in (KEYS, REFERENCED_KEYS):
            for _, rows in groupby(self._connection.fetch(query), key=lambda row: (row[0], *row[2:])):
                key = list(rows)
                columns.setdefault(str(key[0][0]), []).append([str(row[1]) for row in key])
        return columns

    def _by_index(self, query: str) -> dict[tuple[str, str], int]:
        try:
            rows = self._connection.fetch(query)
        except (PrivilegeMissingError, QueryFailedError):
            # The table may be hidden or missing.
            return {}
        return {(str(table), str(name)): int(str(count)) for table, name, count in rows}

    def _count_scans(self) -> dict[tuple[str, str], int] | None:
        """Return how often each index was read; None if the server does not count."""
        if not self._counts_events():
            return None
        return self._by_index(SCANS) or None

    def scans_counted_since(self) -> datetime | None:
        if not self._counts_events():
            return None
        ((_, seconds),) = self._connection.fetch("show global status where variable_name = 'Uptime'")
        return now() - timedelta(seconds=int(str(seconds)))

    def maintenance_tasks(self, kind: MaintenanceKind, tables: Sequence[str]) -> Sequence[MaintenanceTask]:
        for name in tables:
            self._catalog.require_table(name)
        if kind in INSTEAD:
            raise NotSupportedError(feature=kind, subject=self._connection.target, hint=INSTEAD[kind])
        selected = list(tables) or self._catalog.base_tables()
        if kind == "optimize" and not tables:
            selected = [str(name) for (name,) in self._connection.fetch(DUE)]
        return [
            MaintenanceTask(table=name, statement=MAINTENANCE[kind].format(quote(name))) for name in selected
        ]

    def maintain(self, task: MaintenanceTask) -> None:
        if self._connection.read_only:
            raise RuntimeError("maintenance on a read-only connection")
        for row in self._connection.fetch(task.statement):
            if str(row[2]).lower() == "error":  # the server returns errors as rows
                raise QueryFailedError(target=self._connection.target, reason=str(row[3]))


def _is_needed(terms: Sequence[str], keys: Sequence[Sequence[str]], others: Sequence[Sequence[str]]) -> bool:
    """Return whether a foreign key would have no index without this one."""
    return any(
        list(terms[: len(key)]) == list(key)
        and not any(list(other[: len(key)]) == list(key) for other in others)
        for key in keys
    )
