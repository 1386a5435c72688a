"""What MySQL can tell of its own soundness."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import cast

from dbctl.engines.base import IndexDamage, Orphans
from dbctl.engines.mysql.dialect import MySQLDialect
from dbctl.engines.sql import ident
from dbctl.errors import NotSupportedError

REFERENCES = """select table_name, constraint_name, referenced_table_schema, referenced_table_name, column_name,
  referenced_column_name
from information_schema.key_column_usage
where table_schema = database() and referenced_table_name is not null and table_name in :tables
order by 1, 2, ordinal_position"""
#: An index that is named in quotes, or by one word.
OF_INDEX = re.compile(
    r"\bindex (?:['\"`](?P<quoted>[^'\"`]+)['\"`]|(?P<plain>[^\s'\"`]+?)\.?(?:\s|$))", re.IGNORECASE
)


class MySQLChecks(MySQLDialect):
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

    def _asked(self, table: str) -> list[str]:
        if table:
            return [self._checked(table).name]
        return [name for name, one in self.tables().items() if not one.view]

    def orphans(self, table: str = "") -> Sequence[Orphans]:
        rows = self._fetch(REFERENCES, {"tables": self._asked(table)})
        return [
            found
            for (child, _), key in groupby(rows, key=lambda row: row[:2])
            for found in self._lost(str(child), cast("list[tuple[str, ...]]", list(key)))
        ]

    def _lost(self, child: str, key: list[tuple[str, ...]]) -> Iterator[Orphans]:
        _, _, schema, parent, _, _ = key[0]
        columns, to = [row[4] for row in key], [row[5] for row in key]
        link = " and ".join(
            f"p.{ident(there)} = c.{ident(here)}" for here, there in zip(columns, to, strict=True)
        )
        known = " and ".join(f"c.{ident(column)} is not null" for column in columns)
        names = self._key(child)
        told = ", ', ', ".join(self._exact(f"c.{ident(name)}") for name in names)
        sql = (
            f"select count(*), {f'min(concat({told}))' if names else 'null'} from {ident(child)} c where {known}"  # noqa: S608 - names are quoted
            f" and not exists (select 1 from {ident(schema)}.{ident(parent)} p where {link})"
        )
        ((number, first),) = cast("list[tuple[int, str | None]]", self._fetch(sql, {}))
        if number:
            example = f"{', '.join(names)} {first}" if names else None
            yield Orphans(table=child, columns=columns, to=parent, number=number, example=example)

    def lost_commits(self) -> int:
        return 0  # the server replays its log whole, or does not start

    def text_indexes(self) -> Sequence[str]:
        return ()

    def text_index_damage(self, name: str) -> str:
        raise NotSupportedError(what=f"checking {name}", by=self.target, instead="It is no text index.")
