"""What a statement may do to a MySQL or MariaDB database with rows and users: what stays, and what is copied whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

from dbctl.engines.contract import Hazard, Script
from dbctl.engines.mysql.sql.lexer import tokens
from dbctl.engines.parsing import Dialect, Judge, Statement, Token, Told, Word, Words, lint

#: What commits by itself.
_DEFINING = ("create", "alter", "drop", "rename", "truncate", "optimize", "analyze", "grant", "revoke")
_OF_ROWS = ("insert", "update", "delete", "replace", "load")
#: Words that begin a statement about the whole server, or run a text that nobody can look into.
_BEYOND = (
    *(
        (verb, kind)
        for verb in ("create", "alter", "drop")
        for kind in ("user", "role", "database", "schema", "server", "tablespace")
    ),
    ("create", "or", "replace", "user"),
    ("rename", "user"),
    ("set", "global"),
    ("set", "persist"),
    ("set", "password"),
    ("grant",),
    ("revoke",),
    ("install",),
    ("uninstall",),
    ("flush",),
    ("prepare",),
    ("execute",),
)
#: What a trigger calls its rows.
_OF_TRIGGER = ("new", "old")


class MySQLJudge(Judge):
    """The rules of MySQL and MariaDB."""

    dialect = Dialect(
        guardable=frozenset({"table"}), ignoring=(("insert", "ignore"), ("on", "duplicate", "key"))
    )

    def tokens(self, sql: str) -> Iterator[Token]:
        return tokens(sql)

    def whole(self) -> Iterator[Told]:
        defining = [one for one in self.statements if one.verb in _DEFINING]
        if defining and len(self.statements) > 1:
            yield (
                "not-taken-back",
                f"{len(self.statements)} statements, each of which stays where a later one fails",
            )
        if defining and any(one.main().key() in _OF_ROWS for one in self.statements):
            yield "ddl-and-rows", "it changes the schema, which commits at once, and rows"

    def own(self, one: Statement) -> Iterator[Told]:
        yield from self._beyond(one)
        made = one.made
        if made and made.kind == "index" and "fulltext" in made.modifiers and not self.is_fresh(made.table):
            yield "copies-table", f"the first full-text index of {made.table} copies it whole"
        if one.altered and not self.is_fresh(one.altered):
            for action in one.actions():
                yield from self._action(one.altered, action)

    def _action(self, table: str, action: Words) -> Iterator[Told]:
        verb = action.take_any("modify", "change", "convert", "drop", "add")
        if verb in ("modify", "change"):
            action.take("column")
            name = action.name()
            if verb == "change" and (new := action.name()) != name:
                yield "renames", f"{table}.{name} is called {new} from then on"
            if action.key() in ("enum", "set"):
                yield (
                    "changes-enum",
                    f"{table}.{name}: a value that is not added at the end copies the table, one that is left out takes it from the rows",
                )
            else:
                yield (
                    "copies-table",
                    f"{verb.upper()} of {table}.{name} copies the table, unless its type stays",
                )
        elif verb == "convert":
            yield (
                "copies-table",
                f"CONVERT TO CHARACTER SET copies {table}, and may change what is equal in it",
            )
        elif verb == "drop" and action.take("primary"):
            yield "copies-table", f"DROP PRIMARY KEY copies {table}"
        elif verb == "add" and action.take("fulltext"):
            yield "copies-table", f"the first full-text index of {table} copies it whole"

    def _beyond(self, one: Statement) -> Iterator[Told]:
        for begin in _BEYOND:
            if one.words().take(*begin):
                yield "reaches-out", f"{' '.join(begin).upper()} may change more than this database"
        read = one.all
        alone = {
            word.text
            for at, word in enumerate(read)
            if _is_name(word) and not (at + 1 < len(read) and read[at + 1].text == ".")
        }
        # What a name is qualified with, and what stands nowhere as a table or another name for one, is a database.
        others = {
            word.text
            for word, after in pairwise(read)
            if after.text == "." and _is_name(word) and word.text not in {*alone, *_OF_TRIGGER}
        }
        for name in sorted(others):
            yield "reaches-out", f"{name} is named as a database: it is that one, wherever this runs"


def _is_name(word: Word) -> bool:
    return word.kind == "name" or (word.kind == "word" and not word.text[0].isdigit())


def judged(scripts: Iterable[Script]) -> Iterator[list[Hazard]]:
    """Yield what is hazardous in each, as ``Language.hazards`` says."""
    return lint.judged(MySQLJudge(), scripts)
