"""What MySQL can tell of its own soundness."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from typing import cast

from dbctl.engines.contract import IndexDamage, Orphans
from dbctl.engines.mysql.dialect import MySQLDialect
from dbctl.engines.servers import ServedChecks
from dbctl.engines.sql import ident

REFERENCES = """select table_name, constraint_name, referenced_table_schema, referenced_table_name, column_name,
  referenced_column_name
from information_schema.key_column_usage
where table_schema = database() and referenced_table_name is not null and table_name in :tables
order by 1, 2, ordinal_position"""
#: An index that is named in quotes, or by one word.
OF_INDEX = re.compile(
    r"\bindex (?:['\"`](?P<quoted>[^'\"`]+)['\"`]|(?P<plain>[^\s'\"`]+?)\.?(?:\s|$))", re.IGNORECASE
)


class MySQLChecks(ServedChecks, MySQLDialect):
    """Capability.CHECK."""

    def damage(self, *, quick: bool = False, table: str = "") -> Sequence[str]:
        if self._inside():
            raise RuntimeError("CHECK TABLE inside a transaction would commit it")
        return [
            f"{name}: {text}"
            for name in self._asked(table)
            for _, _, kind, text in self._fetch(f"check table {ident(name)}{' quick' if quick else ''}", {})
            if str(kind).lower() in ("error", "warning") or (kind == "status" and text != "OK")
        ]

    def _inside(self) -> bool:
        """Whether a transaction is open."""
        return False

    def index_damage(self, line: str) -> IndexDamage | None:
        found = OF_INDEX.search(line.partition(": ")[2])
        # Whether rows stand in the way of making it anew shows only when it is tried.
        return IndexDamage(index=found["quoted"] or found["plain"], twice=False) if found else None

    def orphans(self, table: str = "") -> Sequence[Orphans]:
        told = self._fetch(REFERENCES, {"tables": self._asked(table)})
        found: list[Orphans] = []
        for _, rows in groupby(told, key=lambda row: row[:2]):
            key = cast("list[tuple[str, ...]]", list(rows))
            child, _, schema, parent, _, _ = key[0]
            found += self._lost(child, schema, parent, [row[4] for row in key], [row[5] for row in key])
        return found

    def _named_by(self, key: Sequence[str]) -> str:
        told = ", ', ', ".join(self._exact(f"c.{ident(name)}") for name in key)
        return f"concat({told})"
