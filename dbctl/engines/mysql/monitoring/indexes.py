"""Indexes of a database on a server with their size and use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, cast

from dbctl.engines.contract import Index
from dbctl.engines.mysql.errors import quote
from dbctl.engines.sql import Row
from dbctl.errors import PrivilegeMissingError, QueryFailedError

if TYPE_CHECKING:
    from dbctl.engines.mysql.database import MySQLDatabase


#: Only MySQL has indexes over expressions.
INDEXES = """select table_name, index_name, non_unique, column_name, sub_part, collation, lower(index_type), {}
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


class MySQLIndexes:
    """The part ``IndexMonitor``."""

    def __init__(self, db: MySQLDatabase) -> None:
        self._connection = db.connection

    def list_indexes(self) -> Sequence[Index]:
        expression = "null" if self._connection.session.server.is_mariadb else "expression"
        rows = self._connection.fetch(INDEXES.format(expression))
        sizes, scans = self._by_index(BYTES), self._count_scans()
        keys = self._foreign_key_columns()
        terms_by_index = [
            [str(name) for name in group_rows[0][:2]] + [[_format_term(row) for row in group_rows]]
            for group_rows in (list(group) for _, group in groupby(rows, key=lambda row: row[:2]))
        ]
        columns = {(str(table), str(name)): cast("list[str]", terms) for table, name, terms in terms_by_index}
        heads = {(str(row[0]), str(row[1])): row for row in reversed(rows)}
        return [
            Index(
                table=table,
                name=name,
                columns=terms,
                unique=not heads[table, name][2],
                primary=name == "PRIMARY",
                constraint=name == "PRIMARY",  # other indexes belong to no constraint
                is_referenced=_is_needed(
                    terms,
                    keys.get(table, []),
                    [other for (owner, index), other in columns.items() if owner == table and index != name],
                ),
                valid=True,
                method=str(heads[table, name][6]),
                where="",
                bytes=sizes.get((table, name)),
                scans=None if scans is None else scans.get((table, name), 0),
                drop_statement=f"ALTER TABLE {quote(table)} DROP INDEX {quote(name)};",
            )
            for (table, name), terms in columns.items()
        ]

    def scans_counted_since(self) -> datetime | None:
        return None  # since the server start

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
        if self._connection.fetch("select @@performance_schema") != [(1,)]:
            return None
        return self._by_index(SCANS) or None


def _format_term(row: Row) -> str:
    _, _, _, column, prefix, order, _, expression = row
    term = str(column) if column is not None else f"({expression})"
    return term + (f"({prefix})" if prefix is not None else "") + (" desc" if order == "D" else "")


def _is_needed(terms: Sequence[str], keys: Sequence[Sequence[str]], others: Sequence[Sequence[str]]) -> bool:
    """Return whether a foreign key would have no index without this one."""
    return any(
        list(terms[: len(key)]) == list(key)
        and not any(list(other[: len(key)]) == list(key) for other in others)
        for key in keys
    )
