"""Rewrite a private SQLite file: its functions are those of Python, and afterwards neither pages nor indexes have an original."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property

from dbctl import signals
from dbctl.engines.contract.database import Condition
from dbctl.engines.sql.catalog import ident
from dbctl.engines.sqlite.catalog import VIRTUAL
from dbctl.engines.sqlite.database import SQLiteDatabase, SQLitePart
from dbctl.engines.sqlite.dump import STATISTICS, list_text_indexes
from dbctl.extensions.copies.contract import Rewriter, create_violation, refuse_orphans
from dbctl.extensions.copies.proof import MIN_CHARACTERS
from dbctl.extensions.copies.pseudonyms import Pseudonyms
from dbctl.extensions.copies.rules import ColumnRule, TableRule

#: The file is private and dropped after an error, so it needs no journal; pages are written once, by VACUUM.
PRAGMAS = (
    "journal_mode = delete", "locking_mode = exclusive", "journal_mode = off", "synchronous = off", "foreign_keys = off",
    "cache_size = -20000",
)  # fmt: skip
#: Indexes that no constraint has; changing an index row by row takes longer than building it again.
INDEXES = "select name, sql from sqlite_master where type = 'index' and sql is not null and tbl_name in ({}) order by name"
#: Texts in a column whose type is not one of texts; other words for no value are shorter, or these.
TEXTS = """select 1 from {0} where typeof({1}) in ('text', 'blob') and length({1}) >= {2}{3}
and lower({1}) not in ('true', 'false', 'null', 'none', 'never', 'infinity', '-infinity') limit 1"""
#: Types whose values are texts in SQLite: words, and times, UUIDs and others without other letters.
WORDS, FORMATTED = (
    re.compile(r"ENUM|SET\("),
    re.compile(r"YEAR|DATE|TIME|INTERVAL|DURATION|BOOL|UUID|.*RANGE"),
)
#: For a column of such a type: only texts with other letters.
OTHER_TEXTS = " and {0} glob '*[^-0-9A-Fa-f :.,+/TZ{{}}]*'"
TRIGGERS = "select name, sql from sqlite_master where type = 'trigger' order by name"


def match_pattern(pattern: object, text: object) -> bool | None:
    """Return whether a pattern occurs in a text: ``REGEXP`` as Django defines it, which stored columns and checks of its apps call."""
    return None if pattern is None or text is None else bool(re.search(str(pattern), str(text)))


class SQLiteRewriter(SQLitePart, Rewriter):
    def __init__(self, db: SQLiteDatabase) -> None:
        super().__init__(db)
        self._driver.create_function("regexp", 2, match_pattern, deterministic=True)

    @property
    def _driver(self) -> sqlite3.Connection:
        return self._connection.driver

    def find_unreadable(self) -> Sequence[str]:
        rows = self._connection.fetch(
            "select name, sql from sqlite_master where type = 'table' order by name"
        )
        readable = self._catalog.tables()
        return [str(name) for name, sql in rows if re.match(VIRTUAL, str(sql)) and name not in readable]

    def find_texts(self, columns: Sequence[tuple[str, str]]) -> Sequence[str]:
        return [f"{table}.{column}" for table, column in columns if self._has_texts(table, column)]

    def _has_texts(self, table: str, name: str) -> bool:
        kind = self._catalog.tables()[table].columns[name].type
        if WORDS.match(kind):
            return False
        others = OTHER_TEXTS.format(ident(name)) if FORMATTED.match(kind) else ""
        sql = TEXTS.format(ident(table), ident(name), MIN_CHARACTERS, others)
        return self._driver.execute(sql).fetchone() is not None

    @cached_property
    def _encoding(self) -> str:
        return str(self._driver.execute("pragma encoding").fetchone()[0])

    def encode(self, value: object) -> bytes:
        return value if isinstance(value, bytes) else str(value).encode(self._encoding, "surrogateescape")

    def rewrite(self, tables: Mapping[str, TableRule], pseudonyms: Pseudonyms) -> Sequence[str]:
        omitted = self.list_omitted(self._db, tables)
        for pragma in PRAGMAS:
            self._driver.execute(f"pragma {pragma}").fetchall()
        changed = {name: rule for name, rule in tables.items() if rule}
        with refuse_orphans(self._db), self._drop_indexes(list(changed)):
            for name, rule in changed.items():
                signals.raise_if_interrupted()
                if rule == "empty":
                    self._empty(name)
                else:
                    self._delete(name, omitted.get(name, ()))
                    self._update(name, rule, pseudonyms)
        self._rebuild_text_indexes()
        self._driver.execute("pragma journal_mode = memory").fetchall()  # later changes may be rolled back
        self._connection.notify_change()
        return ()

    def clean(self) -> None:
        self._renew_statistics()
        self._driver.execute(
            "pragma journal_mode = off"
        ).fetchall()  # one in memory would have the whole file
        self._driver.execute("vacuum")

    def read_schema(self) -> Iterator[bytes]:
        for row in self._driver.execute("select type, name, tbl_name, sql from sqlite_master"):
            yield self.encode(" ".join(map(str, row)))

    def _empty(self, table: str) -> None:
        if not any(index.name == table and index.content == "" for index in list_text_indexes(self._driver)):
            self._driver.execute(f"delete from {ident(table)}")  # such an index is emptied with the others

    def _delete(self, table: str, omitted: Sequence[Sequence[Condition]]) -> None:
        for conditions in omitted:
            where = " and ".join(f"{ident(condition.column)} is ?" for condition in conditions)
            values = [condition.value for condition in conditions]
            self._driver.execute(f"delete from {ident(table)} where {where}", values)

    def _update(self, table: str, rule: Mapping[str, ColumnRule], pseudonyms: Pseudonyms) -> None:
        live, sets = self._catalog.require_table(table), []
        for number, (name, column_rule) in enumerate(rule.items()):
            function = f"dbctl_rewrite_{number}"
            rewrite = pseudonyms.rewrite(table, live.columns[name], column_rule)
            self._driver.create_function(function, 1 + len(column_rule.by), rewrite)
            arguments = ", ".join(map(ident, [name, *column_rule.by]))
            sets.append(f"{ident(name)} = {function}({arguments})")
        with self._report_violations(table, list(rule)):
            # ON CONFLICT of the app's table would delete a row, or leave an original; no trigger runs that has such a clause.
            self._driver.execute(f"update or abort {ident(table)} set {', '.join(sets)}")

    @contextmanager
    def _report_violations(self, table: str, columns: Sequence[str]) -> Iterator[None]:
        """Raise the error about new values that violate a constraint; those of SQLite contain no values."""
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise create_violation(self._db, [f"{table}.{name}" for name in columns], error) from error
        except sqlite3.Error as error:
            raise self._connection.translate(error) from error

    @contextmanager
    def without_triggers(self) -> Iterator[None]:
        with self._without("trigger", self._driver.execute(TRIGGERS).fetchall()):
            yield

    @contextmanager
    def _drop_indexes(self, tables: Sequence[str]) -> Iterator[None]:
        """Drop the indexes of tables, and create them again at the end."""
        marks = ", ".join("?" for _ in tables)
        with self._without("index", self._driver.execute(INDEXES.format(marks), tables).fetchall()):
            yield

    @contextmanager
    def _without(self, kind: str, objects: Sequence[tuple[str, str]]) -> Iterator[None]:
        """Drop objects, which are names and statements, and create them again at the end."""
        for name, _ in objects:
            self._driver.execute(f"drop {kind} {ident(name)}")
        yield
        for name, sql in objects:
            with self._report_violations(kind, [name]):
                self._driver.execute(sql)

    def _rebuild_text_indexes(self) -> None:
        """Build full-text indexes from their rows again; one without rows of its own is emptied."""
        for index in list_text_indexes(self._driver):
            if index.name in self._catalog.tables():
                index.renew(self._driver)

    def _renew_statistics(self) -> None:
        """Compute the statistics again, of which some contain values of rows."""
        if names := [str(name) for (name,) in self._driver.execute(STATISTICS)]:
            for name in names:
                self._driver.execute(f"drop table {ident(name)}")
            self._driver.execute("analyze")
