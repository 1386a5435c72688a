"""What a statement may do to a SQLite database with rows and users: what it refuses, and what a rebuilt table forgets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dbctl.engines.contract import Hazard, Script
from dbctl.engines.parsing import Dialect, Judge, Statement, Token, Told, default_of, lint
from dbctl.engines.sqlite.sql.script import tokens

#: What stands before a value, and behind what a name is compared with.
_BEFORE_VALUE = ("=", "==", "<>", "!=", "<", ">", "<=", ">=", "like", "glob")
#: Defaults that differ from row to row, or from moment to moment.
_NOT_CONSTANT = ("current_timestamp", "current_time", "current_date", "(")
#: A setting that does nothing inside a transaction.
_RESTS = "foreign_keys"


class SQLiteJudge(Judge):
    """The rules of SQLite."""

    dialect = Dialect(ignoring=(("insert", "or", "ignore"), ("on", "conflict"), ("insert", "or", "replace")))

    def __init__(self) -> None:
        #: What belongs to each table, as the scripts so far say: index or trigger and its name.
        self._belonging = dict[str, set[tuple[str, str]]]()

    def tokens(self, sql: str) -> Iterator[Token]:
        return tokens(sql)

    def own(self, one: Statement) -> Iterator[Told]:
        words = one.words()
        if words.take("pragma") and words.name() == _RESTS and words and not self.script.outside:
            yield (
                "pragma-rests",
                "PRAGMA foreign_keys does nothing inside the transaction that all of it runs in",
            )
        if words.take("attach"):
            yield "reaches-out", "ATTACH opens another file"
        if one.altered:
            yield from self._columns(one)
        yield from self._texts(one)
        yield from self._belongings(one)

    def _columns(self, one: Statement) -> Iterator[Told]:
        for name, definition in one.added_columns():
            what, default = f"{one.altered}.{name}", default_of(definition)
            for keys in (("primary", "key"), ("unique",)):
                if definition.has(*keys):
                    yield (
                        "column-refused",
                        f"{what} is {' '.join(keys).upper()}, which no column that is added can be",
                    )
            if definition.has("stored"):
                yield "column-refused", f"{what} is STORED, which no column that is added can be"
            if default and default.rest and default.rest[0].text in _NOT_CONSTANT:
                yield (
                    "default-not-constant",
                    f"the default of {what} is no constant: where there are rows it is refused",
                )
            filled = default and [word.text for word in default.rest] != ["null"]
            if definition.has("not", "null") and not (filled or definition.has("as")):
                yield (
                    "not-null-without-default",
                    f"{what} is NOT NULL and has no default: where there are rows it is refused",
                )

    def _texts(self, one: Statement) -> Iterator[Told]:
        """Of texts in double quotes, which are read as a name where there is one."""
        depth, inside = 0, -1  # the brackets of VALUES
        for at, word in enumerate(one.all):
            before = one.all[at - 1] if at else None
            if word.kind == "sign":
                depth += {"(": 1, ")": -1}.get(word.text, 0)
            if word.kind == "word" and word.text == "values":
                inside = depth
            elif word.kind == "word" and depth == inside:
                inside = -1
            if not word.doubled or before is None:
                continue
            of_default = before.text == "default" and before.kind == "word"
            of_values = inside >= 0 and depth == inside + 1 and before.text in ("(", ",")
            compared = before.text in _BEFORE_VALUE and not word.text.isidentifier()
            if of_default or of_values or compared:
                yield "double-quoted-text", f'"{word.text}" is a name; a text stands in single quotes'

    def _belongings(self, one: Statement) -> Iterator[Told]:
        """Of what a table loses that is dropped, and that nobody makes for the one that takes its name."""
        if (made := one.made) and made.kind in ("index", "trigger"):
            self._belonging.setdefault(made.table, set()).update((made.kind, name) for name in made.names)
        if (dropped := one.dropped) and dropped.kind in ("index", "trigger"):
            for table in self._belonging.values():
                table.difference_update((dropped.kind, name) for name in dropped.names)
        if dropped and dropped.kind == "table":
            for name in dropped.names:
                yield from self._forgotten(name, one)
        for old, new in one.renamed():
            self._belonging[new] = self._belonging.get(new, set()) | self._belonging.pop(old, set())

    def _forgotten(self, table: str, dropping: Statement) -> Iterator[Told]:
        lost = self._belonging.pop(table, set())
        if table not in self.rebuilt:
            return
        again = {
            (one.made.kind, name)
            for one in self.statements[self.statements.index(dropping) + 1 :]
            if one.made and one.made.kind in ("index", "trigger")
            for name in one.made.names
        }
        for kind, name in sorted(lost - again):
            yield "rebuild-forgets", f"{kind} {name} goes with {table}, and nothing makes it again"


def judged(scripts: Iterable[Script]) -> Iterator[list[Hazard]]:
    """Yield what is hazardous in each, as ``Language.hazards`` says."""
    return lint.judged(SQLiteJudge(), scripts)
