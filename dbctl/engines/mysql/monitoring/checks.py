"""Integrity checks of MySQL and MariaDB."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from typing import cast

from dbctl.engines.contract.checks import IndexDamage, OrphanedRows
from dbctl.engines.mysql.connection.connection import MySQLConnection
from dbctl.engines.mysql.database import MySQLDatabase
from dbctl.engines.servers.database import ServerChecks
from dbctl.engines.sql.catalog import ident

REFERENCES = """select table_name, constraint_name, referenced_table_schema, referenced_table_name, column_name,
  referenced_column_name
from information_schema.key_column_usage
where table_schema = database() and referenced_table_name is not null and table_name in :tables
order by 1, 2, ordinal_position"""
#: The name of an index, in quotes or as one word.
INDEX_LINE = re.compile(
    r"\bindex (?:['\"`](?P<quoted>[^'\"`]+)['\"`]|(?P<plain>[^\s'\"`]+?)\.?(?:\s|$))", re.IGNORECASE
)


class MySQLChecks(ServerChecks):
    """The part ``Checks``."""

    _connection: MySQLConnection

    def __init__(self, db: MySQLDatabase) -> None:
        super().__init__(db)
        self._dialect = db.dialect

    def find_damage(self, *, quick: bool = False, table: str = "") -> Sequence[str]:
        if self._connection.session.in_transaction:
            raise RuntimeError("CHECK TABLE inside a transaction would commit it")
        return [
            f"{name}: {text}"
            for name in self._select_tables(table)
            for _, _, kind, text in self._connection.fetch(
                f"check table {ident(name)}{' quick' if quick else ''}"
            )
            if str(kind).lower() in ("error", "warning") or (kind == "status" and text != "OK")
        ]

    def parse_index_damage(self, line: str) -> IndexDamage | None:
        match = INDEX_LINE.search(line.partition(": ")[2])
        # Whether duplicate rows prevent a rebuild shows only when it is tried.
        return IndexDamage(index=match["quoted"] or match["plain"], has_duplicates=False) if match else None

    def find_orphaned_rows(self, table: str = "") -> Sequence[OrphanedRows]:
        columns = self._connection.fetch(REFERENCES, {"tables": self._select_tables(table)})
        orphans: list[OrphanedRows] = []
        for _, rows in groupby(columns, key=lambda row: row[:2]):
            key = cast("list[tuple[str, ...]]", list(rows))
            child, _, schema, parent, _, _ = key[0]
            orphans += self._find_orphans(
                child, schema, parent, [row[4] for row in key], [row[5] for row in key]
            )
        return orphans

    def _row_label(self, key: Sequence[str]) -> str:
        values = ", ', ', ".join(self._dialect.exact_text(f"c.{ident(name)}") for name in key)
        return f"concat({values})"
