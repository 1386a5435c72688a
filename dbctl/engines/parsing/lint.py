"""What the statements of a script may do to a database with rows and users: judged by their words, without a connection.

Texts, comments and the bodies of functions are no such words, so nothing that stands in them counts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from dbctl.engines.contract import Hazard, Script
from dbctl.engines.parsing.lexer import Token
from dbctl.engines.parsing.statements import Statement, Words, words_of

#: A code, and what there is to tell.
Told = tuple[str, str]


class Dialect(NamedTuple):
    """What the rules that all engines share have to know of one."""

    guardable: frozenset[str] = frozenset(
        {"table", "index", "view", "trigger"}
    )  #: whose CREATE knows IF NOT EXISTS
    ignoring: Sequence[Sequence[str]] = (
        ("on", "conflict"),
    )  #: words by which INSERT passes over what is there


class Judge(ABC):
    """Judges scripts one after the other. What is the same on every engine is here; each adds rules of its own."""

    dialect = Dialect()

    @abstractmethod
    def tokens(self, sql: str) -> Iterator[Token]:
        """Take a statement apart."""

    @abstractmethod
    def own(self, one: Statement) -> Iterator[Told]:
        """Yield what an engine alone has to tell of a statement."""

    def whole(self) -> Iterator[Told]:
        """Yield what it has to tell of the script as a whole."""
        yield from ()

    def judge(self, script: Script) -> list[Hazard]:
        """Return what is hazardous in the next script."""
        self.script = script
        self.statements = [Statement(line, words_of(self.tokens(sql))) for line, sql in script.statements]
        self.fresh = set[str]()  #: tables that it has made by then: what they hold, it has put there
        self.added = set[tuple[str, str]]()  #: columns that it has added by then
        made = {
            name
            for one in self.statements
            if one.made and one.made.kind == "table"
            for name in one.made.names
        }
        self.renames = [pair for one in self.statements for pair in one.renamed()]
        #: Tables that are made anew under another name: what they hold was copied. And those that are in the way of it.
        self.rebuilt = {new for old, new in self.renames if old in made}
        self._born = made
        found: list[Hazard] = []
        for one in self.statements:
            for code, message in (
                *self._drops(one),
                *self._empties(one),
                *self._renames(one),
                *self._unguarded(one),
                *self.own(one),
            ):
                found.append(Hazard(one.line, code, message))
            self._remember(one)
        found += [Hazard(0, code, message) for code, message in self.whole()]
        return found

    def is_fresh(self, table: str) -> bool:
        """Whether the script has made the table, so that nobody waits for it and nothing in it is lost."""
        return table in self.fresh

    def _remember(self, one: Statement) -> None:
        if one.made and one.made.kind == "table":
            self.fresh.update(one.made.names)
        for old, new in one.renamed():
            if old in self.fresh:
                self.fresh.discard(old)
                self.fresh.add(new)
        self.added.update((one.altered, name) for name, _ in one.added_columns())

    def _drops(self, one: Statement) -> Iterator[Told]:
        if one.dropped and one.dropped.kind == "table":
            for name in one.dropped.names:
                if not (self.is_fresh(name) or name in self.rebuilt):
                    yield "drops-table", f"DROP TABLE {name} takes its rows away"
        for column in one.dropped_columns():
            if not self.is_fresh(one.altered) and (one.altered, column) not in self.added:
                yield "drops-column", f"dropping {one.altered}.{column} takes its values away"

    def _empties(self, one: Statement) -> Iterator[Told]:
        words = one.main()
        if words.take("truncate"):
            words.take("table")
            words.take("only")
            for name in words.names():
                if not self.is_fresh(name):
                    yield "deletes-all", f"TRUNCATE takes every row of {name} away"
        elif words.take("delete"):
            yield from self._deletes(words)
        elif words.take("update"):
            yield from self._updates(words)

    def _deletes(self, words: Words) -> Iterator[Told]:
        words.find("from")
        words.take("only")
        name = words.name()
        if self.is_fresh(name):
            return
        if words.has("where"):
            yield "deletes-rows", f"DELETE takes rows of {name} away"
        else:
            yield "deletes-all", f"DELETE without WHERE takes every row of {name} away"

    def _updates(self, words: Words) -> Iterator[Told]:
        while words.take_any("or", "ignore", "replace", "rollback", "abort", "fail", "low_priority", "only"):
            pass
        name = words.name()
        if self.is_fresh(name) or words.has("where") or not words.find("set"):
            return
        columns = [part.name() for part in words.parts()]
        if not all((name, column) in self.added for column in columns):
            yield "updates-all", f"UPDATE without WHERE changes every row of {name}"

    def _renames(self, one: Statement) -> Iterator[Told]:
        for old, new in one.renamed():
            if not (old in self._born or self.is_fresh(old)):
                yield "renames", f"{old} is called {new} from then on"
        column = one.renamed_column()
        if column and not self.is_fresh(one.altered):
            yield "renames", f"{one.altered}.{column} gets another name"

    def _unguarded(self, one: Statement) -> Iterator[Told]:
        """Yield what only some apps ask for."""
        if (made := one.made) and made.kind in self.dialect.guardable and not made.guarded:
            told = f"CREATE {made.kind.upper()} {_listed(made.names)} without IF NOT EXISTS"
            yield "no-if-not-exists", told
        if (dropped := one.dropped) and not dropped.guarded and not self._is_sure(dropped.names):
            yield "no-if-exists", f"DROP {dropped.kind.upper()} {_listed(dropped.names)} without IF EXISTS"
        words = one.main()
        ignores = any(words.has(*keys) for keys in self.dialect.ignoring)
        if words.take("insert") and words.has("values") and not ignores:
            words.find("into")
            told = f"INSERT INTO {words.name()} does not pass over rows that are there"
            yield "no-insert-or-ignore", told

    def _is_sure(self, names: Sequence[str]) -> bool:
        """Whether the script itself says that these are there."""
        return all(self.is_fresh(name) or name in self.rebuilt for name in names)


def judged(judge: Judge, scripts: Iterable[Script]) -> Iterator[list[Hazard]]:
    """Yield the hazards of each script as ``Language.hazards`` says."""
    for script in scripts:
        yield judge.judge(script)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(str, names))
