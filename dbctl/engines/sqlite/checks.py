"""What SQLite can tell of its own soundness."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from dbctl.engines.contract import IndexDamage, IndexDifference, Orphans
from dbctl.engines.sql import Row, ident
from dbctl.engines.sqlite.dialect import SQLiteDialect
from dbctl.errors import CorruptError, NotSupportedError, QueryFailedError

#: SQLite's own bound on what integrity_check lists.
MOST_LINES = 100
TEXT_INDEX = r"(?is)create\s+virtual\s+table\b.*?\busing\s+(fts[345])\b"

#: The line above the damage of pages, which names the schema alone.
HEADING = r"\*\*\* in database .+ \*\*\*"
#: The text of SQLITE_CORRUPT, which follows the damage that made SQLite end the check.
MALFORMED = "database disk image is malformed"
#: How SQLite words that an index and its table disagree; the name may hold anything.
INDEX = (
    r"(?s)(?:row .+? (?:missing from|values differ from)|wrong # of entries in|(?P<twice>non-unique entry in)"
    r"|rowid not at end-of-record for row \d+ of) index (?P<name>.+)"
)

KEYS = """select "table", parent, fkid, count(*), min(rowid) from pragma_foreign_key_check{}
group by "table", parent, fkid order by 1, 2, 3"""


def _difference(table: str, columns: Sequence[str], row: Row) -> IndexDifference:
    rowid, *values = row
    pairs = zip(columns, values[: len(columns)], values[len(columns) :], strict=True)
    differing = [pair for pair in pairs if pair[1] != pair[2]]
    return IndexDifference(
        table=table,
        row=f"rowid {rowid}",
        columns=[column for column, _, _ in differing],
        in_table=[value for _, value, _ in differing],
        in_index=[value for _, _, value in differing],
    )


class SQLiteChecks(SQLiteDialect):
    """Capability.CHECK."""

    path: Path

    @abstractmethod
    def _run(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        """Run one statement, waiting for locks, and return its rows."""

    def damage(self, *, quick: bool = False, table: str = "") -> Sequence[str]:
        pragma = "quick_check" if quick else "integrity_check"
        if table:
            return self._damage(pragma, ident(self._checked(table).name))
        lines = self._damage(pragma, str(MOST_LINES))
        if len(lines) < MOST_LINES:
            return lines
        # One broken index fills the list; each table by itself tells whether there are others.
        plain = [name for name, one in self.tables().items() if not one.view]
        return list(
            dict.fromkeys([*lines, *(line for name in plain for line in self._damage(pragma, ident(name)))])
        )

    def _damage(self, pragma: str, argument: str) -> list[str]:
        try:
            told = [str(row[0]) for row in self._fetch(f"pragma {pragma}({argument})", {})]
        except CorruptError as error:  # so much that the check itself could not go on
            return [str(error.facts["reason"])]
        lines = [line for text in told for line in ([text] if re.match(INDEX, text) else text.splitlines())]
        damage = [line for line in lines if line != "ok" and not re.fullmatch(HEADING, line)]
        if any(line != MALFORMED and not re.match(INDEX, line) for line in damage):
            return [line for line in damage if line != MALFORMED]
        return damage

    def index_damage(self, line: str) -> IndexDamage | None:
        found = re.fullmatch(INDEX, line)
        return IndexDamage(index=found["name"], twice=found["twice"] is not None) if found else None

    def index_differences(self, index: str, limit: int) -> Sequence[IndexDifference]:
        rows = self._fetch(
            "select tbl_name from sqlite_master where type = 'index' and name = :name", {"name": index}
        )
        keys = self._fetch(f"pragma index_xinfo({ident(index)})", {})
        columns = [str(name) for _, position, name, *_, is_key in keys if is_key and position >= 0]  # type: ignore[operator]
        if not rows or not columns:  # an index of expressions alone
            return ()
        table, names = str(rows[0][0]), ", ".join(map(ident, columns))
        differs = " or ".join(f"t.{ident(name)} is not e.{ident(name)}" for name in columns)
        both = ", ".join(f"{side}.{ident(name)}" for side in "te" for name in columns)
        try:
            found = self._fetch(
                f"with entries as materialized (select rowid as row, {names} from {ident(table)} indexed by {ident(index)})"  # noqa: S608 - names are quoted
                f" select e.row, {both} from entries e join (select rowid as row, {names} from {ident(table)} not indexed) t"
                f" on t.row = e.row where {differs} limit {limit}",
                {},
            )
        except (CorruptError, QueryFailedError):  # pages that cannot be read, a partial index, WITHOUT ROWID
            return ()
        return [_difference(table, columns, row) for row in found]

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
        from dbctl.engines.sqlite import wal

        return wal.lost_commits(Path(f"{self.path}-wal"))

    def text_indexes(self) -> Sequence[str]:
        rows = self._fetch("select name, sql from sqlite_master where type = 'table' order by name", {})
        return [str(name) for name, sql in rows if re.match(TEXT_INDEX, str(sql))]

    def text_index_damage(self, name: str) -> str:
        rows = self._fetch("select sql from sqlite_master where name = :name", {"name": name})
        kind = re.match(TEXT_INDEX, str(rows[0][0])) if rows else None
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
