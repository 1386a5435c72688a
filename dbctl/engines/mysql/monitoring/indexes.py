"""What the indexes of a database on a server are, cost and give, and the room that tables take and do not use."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import cast

from dbctl.engines.contract import Index, Waste
from dbctl.engines.mysql.catalog import MySQLCatalogue
from dbctl.engines.mysql.errors import quoted
from dbctl.engines.mysql.session import Session
from dbctl.engines.sql import Row
from dbctl.errors import PrivilegeMissingError, QueryFailedError

#: Only MySQL has indexes over expressions.
INDEXES = """select table_name, index_name, non_unique, column_name, sub_part, collation, lower(index_type), {}
from information_schema.statistics where table_schema = database() order by 1, 2, seq_in_index"""
#: The columns of each foreign key, which an index has to begin with.
KEYS = """select table_name, column_name, constraint_name from information_schema.key_column_usage
where table_schema = database() and referenced_table_name is not null order by 1, 3, ordinal_position"""
REFERRED = """select referenced_table_name, referenced_column_name, constraint_name, table_name
from information_schema.key_column_usage where referenced_table_schema = database() order by 1, 3, 4, ordinal_position"""
BYTES = """select table_name, index_name, stat_value * @@innodb_page_size from mysql.innodb_index_stats
where database_name = database() and stat_name = 'size'"""
SCANS = """select object_name, index_name, count_read from performance_schema.table_io_waits_summary_by_index_usage
where object_schema = database() and index_name is not null"""
WASTE = """select table_name, coalesce(data_length, 0) + coalesce(index_length, 0) + coalesce(data_free, 0), data_free, table_rows, engine
from information_schema.tables where table_schema = database() and table_type <> 'VIEW' order by table_name"""


class MySQLIndexes(MySQLCatalogue):
    """Capability.INDEXES and Capability.BLOAT."""

    @abstractmethod
    def _current(self) -> Session: ...

    def indexes(self) -> Sequence[Index]:
        expression = "null" if self._current().server.is_mariadb else "expression"
        rows = self._fetch(INDEXES.format(expression), {})
        taken, scans = self._by_index(BYTES), self._scans()
        keys = self._keys()
        told = [
            [str(name) for name in first[0][:2]] + [[_term(row) for row in first]]
            for first in (list(group) for _, group in groupby(rows, key=lambda row: row[:2]))
        ]
        columns = {(str(table), str(name)): cast("list[str]", terms) for table, name, terms in told}
        heads = {(str(row[0]), str(row[1])): row for row in reversed(rows)}
        return [
            Index(
                table=table,
                name=name,
                columns=terms,
                unique=not heads[table, name][2],
                primary=name == "PRIMARY",
                constraint=name == "PRIMARY",  # any other one is an index and nothing else
                needed=_is_needed(
                    terms,
                    keys.get(table, []),
                    [c for (t, n), c in columns.items() if t == table and n != name],
                ),
                valid=True,
                method=str(heads[table, name][6]),
                where="",
                bytes=taken.get((table, name)),
                scans=None if scans is None else scans.get((table, name), 0),
                drop=f"ALTER TABLE {quoted(table)} DROP INDEX {quoted(name)};",
            )
            for (table, name), terms in columns.items()
        ]

    def counted_since(self) -> datetime | None:
        return None  # since the server was started

    def wasted(self) -> Sequence[Waste]:
        return [
            Waste(
                table=str(name),
                bytes=int(str(taken)),
                wasted_bytes=None if free is None else int(str(free)),
                dead_rows=None,
                rows=None if rows is None else int(str(rows)),
                estimated=True,
                source=f"data_free of {keeper}",
            )
            for name, taken, free, rows, keeper in self._fetch(WASTE, {})
        ]

    def _keys(self) -> Mapping[str, list[list[str]]]:
        """Return the columns that foreign keys need an index for, at either end, by table."""
        found: dict[str, list[list[str]]] = {}
        for question in (KEYS, REFERRED):
            for _, rows in groupby(self._fetch(question, {}), key=lambda row: (row[0], *row[2:])):
                key = list(rows)
                found.setdefault(str(key[0][0]), []).append([str(row[1]) for row in key])
        return found

    def _by_index(self, question: str) -> dict[tuple[str, str], int]:
        try:
            rows = self._fetch(question, {})
        except (
            PrivilegeMissingError,
            QueryFailedError,
        ):  # not everybody may read it, and not every server has it
            return {}
        return {(str(table), str(name)): int(str(number)) for table, name, number in rows}

    def _scans(self) -> dict[tuple[str, str], int] | None:
        """Return how often each index was read; None where the server does not count."""
        if self._fetch("select @@performance_schema", {}) != [(1,)]:
            return None
        return self._by_index(SCANS) or None


def _term(row: Row) -> str:
    _, _, _, column, part, order, _, expression = row
    told = str(column) if column is not None else f"({expression})"
    return told + (f"({part})" if part is not None else "") + (" desc" if order == "D" else "")


def _is_needed(terms: Sequence[str], keys: Sequence[Sequence[str]], others: Sequence[Sequence[str]]) -> bool:
    """Whether a foreign key would be without an index, if this one went."""
    return any(
        list(terms[: len(key)]) == list(key) and not any(list(one[: len(key)]) == list(key) for one in others)
        for key in keys
    )
