"""Delete the rows of tables in a private SQLite file, with the entries of their full-text indexes and their statistics.

Deleted rows remain in free pages until the file is written again by ``vacuum``.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Iterator

from dbctl.engines.sql.catalog import ident, lower_ascii
from dbctl.model import Struct

_FULL_TEXT = r"(?is)create\s+virtual\s+table\b.*?\busing\s+fts(?P<version>[345])\b(?P<options>.*)"
#: The table with the rows of a full-text index; empty: its rows are not stored.
_CONTENT = r"(?is)[(,]\s*content\s*=\s*(?:'([^']*)'|\"([^\"]*)\"|`([^`]*)`|\[([^\]]*)\]|([^\s,)]+))\s*[,)]"
#: Shadow tables of FTS3 and FTS4 with words of the rows.
_SHADOW_TABLES = ("segments", "segdir", "docsize", "stat")
_TABLES = "select name, sql from sqlite_master where type = 'table'"
_TRIGGERS = "select name, sql, tbl_name from sqlite_master where type = 'trigger' order by rowid"
#: Tables with statistics of the planner, of which some contain values of rows.
STATISTICS = "select name from sqlite_master where name in ('sqlite_stat1', 'sqlite_stat3', 'sqlite_stat4')"


class TextIndex(Struct, frozen=True, kw_only=True):
    """A table of FTS3, FTS4 or FTS5."""

    name: str
    version: str
    content: str | None  #: the table with its rows; empty: its rows are not stored; None: it has them itself

    @property
    def tables(self) -> Collection[str]:
        """The tables without whose rows it is empty, in lower case."""
        return {lower_ascii(name) for name in (self.name, self.content) if name}

    def renew(self, driver: sqlite3.Connection) -> None:
        """Build it from its rows again; without stored rows, it is empty afterwards."""
        if self.content == "":
            self.clear(driver)
        else:
            driver.execute(f"insert into {ident(self.name)} ({ident(self.name)}) values ('rebuild')")

    def clear(self, driver: sqlite3.Connection) -> None:
        """Delete its entries; the rows of another table remain."""
        if self.version == "5":
            table = ident(self.name)
            driver.execute(f"insert into {table} ({table}) values ('delete-all')")
        else:
            existing = {name for name, _ in driver.execute(_TABLES)}
            for name in (f"{self.name}_{suffix}" for suffix in _SHADOW_TABLES):
                if name in existing:
                    driver.execute(f"delete from {ident(name)}")


def list_text_indexes(driver: sqlite3.Connection) -> Iterator[TextIndex]:
    """Yield the full-text indexes of a file."""
    for name, sql in driver.execute(_TABLES).fetchall():
        if match := re.match(_FULL_TEXT, str(sql)):
            content = re.search(_CONTENT, match["options"])
            table = next((text for text in content.groups() if text is not None), "") if content else None
            yield TextIndex(name=str(name), version=match["version"], content=table)


def find_filled_indexes(driver: sqlite3.Connection, tables: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the other full-text indexes that have texts of some tables, because triggers of these fill them, and the table of each."""
    folded, indexes = set(map(lower_ascii, tables)), list(list_text_indexes(driver))
    others = [index for index in indexes if folded.isdisjoint(index.tables)]
    for _, sql, table in driver.execute(_TRIGGERS).fetchall():
        if lower_ascii(str(table)) in folded:
            for index in others:
                if re.search(rf"(?<!\w){re.escape(index.name)}(?!\w)", str(sql), re.IGNORECASE):
                    yield index.name, str(table)


def empty_tables(driver: sqlite3.Connection, tables: Collection[str]) -> None:
    """Delete the rows of tables, and their entries in indexes whose content they are; nothing else changes, not even sequences.

    Triggers do not fire, and foreign keys do nothing.
    """
    folded = set(map(lower_ascii, tables))
    driver.execute("pragma foreign_keys = off")
    triggers = [row for row in driver.execute(_TRIGGERS).fetchall() if lower_ascii(str(row[2])) in folded]
    for name, *_ in triggers:
        driver.execute(f"drop trigger {ident(name)}")
    indexes = {index.name: index for index in list_text_indexes(driver)}
    for name in tables:
        if name in indexes and indexes[name].content is not None:
            indexes[name].clear(driver)
        else:
            driver.execute(f"delete from {ident(name)}")
    for index in indexes.values():
        if index.content and lower_ascii(index.content) in folded:
            index.renew(driver)
    for (statistics,) in driver.execute(STATISTICS).fetchall():
        for name in folded:
            driver.execute(f"delete from {ident(statistics)} where lower(tbl) = ?", [name])
    for _, sql, _ in triggers:
        driver.execute(sql)
