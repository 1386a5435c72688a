"""What SQLite can tell of its own soundness."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from dbctl.engines.base import Orphans
from dbctl.engines.sql import Row, ident
from dbctl.engines.sqlite.dialect import SQLiteDialect
from dbctl.errors import CorruptError, NotSupportedError

#: SQLite's own bound on what integrity_check lists.
MOST_LINES = 100
TEXT_INDEX = re.compile(r"create\s+virtual\s+table\b.*?\busing\s+(fts[345])\b", re.IGNORECASE | re.DOTALL)

KEYS = """select "table", parent, fkid, count(*), min(rowid) from pragma_foreign_key_check{}
group by "table", parent, fkid order by 1, 2, 3"""


class SQLiteChecks(SQLiteDialect):
    """Capability.CHECK."""

    path: Path

    @abstractmethod
    def _run(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        """Run one statement, waiting for locks, and return its rows."""

    def damage(self, *, quick: bool = False, table: str = "") -> Sequence[str]:
        name = "quick_check" if quick else "integrity_check"
        argument = ident(self._checked(table).name) if table else str(MOST_LINES)
        try:
            rows = self._fetch(f"pragma {name}({argument})", {})
        except CorruptError as error:  # so much that the check itself could not go on
            return [str(error.facts["reason"])]
        lines = [line for row in rows for line in str(row[0]).splitlines()]
        if len(rows) >= MOST_LINES:
            lines.append(f"perhaps more: SQLite lists no more than {MOST_LINES} things")
        return [line for line in lines if line != "ok"]

    def orphans(self, table: str = "") -> Sequence[Orphans]:
        call = "(:table)" if table else ""
        given = {"table": self._checked(table).name} if table else {}
        found = []
        for child, parent, key, number, first in self._fetch(KEYS.format(call), given):
            keys = self._fetch(f"pragma foreign_key_list({ident(str(child))})", {})
            found.append(
                Orphans(
                    table=str(child),
                    columns=[str(row[3]) for row in keys if row[0] == key],
                    to=str(parent),
                    number=cast("int", number),
                    example=None if first is None else f"rowid {first}",
                )
            )
        return found

    def lost_commits(self) -> int:
        from dbctl.engines.sqlite import wal  # noqa: PLC0415 - only a check takes one apart

        return wal.lost_commits(Path(f"{self.path}-wal"))

    def text_indexes(self) -> Sequence[str]:
        rows = self._fetch("select name, sql from sqlite_master where type = 'table' order by name", {})
        return [str(name) for name, sql in rows if TEXT_INDEX.match(str(sql))]

    def text_index_damage(self, name: str) -> str:
        rows = self._fetch("select sql from sqlite_master where name = :name", {"name": name})
        kind = TEXT_INDEX.match(str(rows[0][0])) if rows else None
        if kind is None:
            raise NotSupportedError(what=f"checking {name}", by=self.target, instead="It is no text index.")
        table = ident(name)
        # Rank 1 compares also with the rows it was made of, which FTS3 and FTS4 do by themselves.
        columns, values = (
            (f"{table}, rank", "'integrity-check', 1")
            if kind[1].lower() == "fts5"
            else (table, "'integrity-check'")
        )
        self._run("begin immediate", {})
        try:
            self._run(f"insert into {table} ({columns}) values ({values})", {})  # noqa: S608 - the name is quoted
        except CorruptError as error:
            return str(error.facts["reason"])
        finally:
            self._run("rollback", {})
        return ""
