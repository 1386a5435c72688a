"""Statements of SQL as far as it takes to tell what they do to which tables, whichever server reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

from dbctl.engines.parsing.lexer import Kind, Token

#: What may stand between CREATE or DROP and the kind of thing.
_BETWEEN = frozenset(
    {"or", "replace", "temp", "temporary", "global", "local", "unlogged", "unique", "fulltext", "spatial"}
) | {"materialized", "virtual", "recursive", "constraint", "event", "foreign", "online", "offline"}
_KINDS = frozenset(
    {"table", "index", "view", "trigger", "type", "schema", "sequence", "function", "procedure", "extension"}
) | {"database", "domain", "policy", "role", "user", "event"}
#: What an action of ALTER TABLE can drop that is no column.
_NO_COLUMN = frozenset({"constraint", "index", "key", "primary", "foreign", "check", "partition", "system"})
#: What a definition of a column ends its default with.
_OF_COLUMN = frozenset(
    {
        "not",
        "null",
        "primary",
        "unique",
        "check",
        "references",
        "collate",
        "generated",
        "constraint",
        "comment",
    }
) | {"after", "first", "auto_increment", "on", "as", "default", "storage", "invisible", "visible", "key"}


class Name(str):
    """A text that is compared in lower case, and shown as it is written."""

    __slots__ = ("written",)
    written: str

    def __new__(cls, written: str) -> Self:
        """Make one of what is written."""
        made = super().__new__(cls, written.lower())
        made.written = written
        return made

    def __str__(self) -> str:
        return self.written

    def __format__(self, how: str) -> str:
        return format(self.written, how)


class Word(NamedTuple):
    """One piece of a statement that counts."""

    kind: Kind
    text: str  #: a ``Name``; what is quoted comes without its quotes
    doubled: bool = False  #: whether those are double quotes


class Words:
    """A statement, or a part of it, read from its beginning."""

    def __init__(self, words: Sequence[Word]) -> None:
        self.all, self.at = words, 0

    def __bool__(self) -> bool:
        return self.at < len(self.all)

    @property
    def rest(self) -> Sequence[Word]:
        """What was not read yet."""
        return self.all[self.at :]

    def key(self, ahead: int = 0) -> str:
        """Return the word that comes, where it is one without quotes, or the sign; else nothing."""
        found = self.all[self.at + ahead] if self.at + ahead < len(self.all) else None
        return found.text if found and found.kind in ("word", "sign") else ""

    def take(self, *keys: str) -> bool:
        """Pass these words where they come next; return whether they do."""
        if any(self.key(ahead) != key for ahead, key in enumerate(keys)):
            return False
        self.at += len(keys)
        return True

    def take_any(self, *keys: str) -> str:
        """Pass one of these words where it comes next, and return it."""
        return next((key for key in keys if self.take(key)), "")

    def name(self) -> str:
        """Read a name; return its last part, or nothing where there is none."""
        found = ""
        while self and self.rest[0].kind in ("word", "name"):
            found = self.rest[0].text
            self.at += 1
            if not self.take("."):
                break
        return found

    def names(self) -> list[str]:
        """Read names with commas between."""
        found = [self.name()]
        while self.take(","):
            self.take("only")
            found.append(self.name())
        return [name for name in found if name]

    def find(self, *keys: str) -> bool:
        """Go behind these words, outside brackets; return whether they are there."""
        depth = 0
        for at in range(self.at, len(self.all)):
            depth += {"(": 1, ")": -1}.get(self.all[at].text, 0) if self.all[at].kind == "sign" else 0
            if not depth and [one.text for one in self.all[at : at + len(keys)] if one.kind == "word"] == [
                *keys
            ]:
                self.at = at + len(keys)
                return True
        return False

    def has(self, *keys: str) -> bool:
        """Whether these words stand in what comes, outside brackets."""
        return Words(self.rest).find(*keys)

    def parts(self) -> list[Words]:
        """Take what comes apart at its commas, those in brackets left out."""
        found, depth = [list[Word]()], 0
        for word in self.rest:
            if word.kind == "sign":
                depth += {"(": 1, ")": -1}.get(word.text, 0)
            if word == _COMMA and not depth:
                found.append([])
            elif depth >= 0:
                found[-1].append(word)
        return [Words(part) for part in found if part]


_COMMA = Word("sign", ",")


class Made(NamedTuple):
    """A statement that makes or drops something."""

    kind: str
    names: Sequence[str]
    modifiers: frozenset[str]  #: unique, temporary, materialized…
    guarded: bool  #: IF [NOT] EXISTS, or OR REPLACE
    concurrently: bool
    table: str = ""  #: of an index or a trigger


class Statement:
    """One statement with what it does to what."""

    def __init__(self, line: int, words: Sequence[Word]) -> None:
        self.line, self.all = line, words
        self.verb = words[0].text if words and words[0].kind == "word" else ""
        self.made = self._made("create")
        self.dropped = self._made("drop")
        self.altered, self._actions = self._altered()

    def words(self) -> Words:
        """Return it to be read from its beginning."""
        return Words(self.all)

    def actions(self) -> Iterator[Words]:
        """Yield what it does to the table that it alters, each to be read from its beginning."""
        yield from (Words(one) for one in self._actions)

    def _made(self, verb: str) -> Made | None:
        words = self.words()
        if not words.take(verb):
            return None
        modifiers = set[str]()
        if words.take("definer", "="):
            while words and words.key() not in _KINDS:
                words.at += 1
        while (word := words.take_any(*_BETWEEN)) or words.take("algorithm", "="):
            modifiers.add(word)
            words.at += not word
        kind = words.take_any(*_KINDS)
        if not kind:
            return None
        concurrently = words.take("concurrently")
        guarded = words.take("if", "not", "exists") or words.take("if", "exists") or "replace" in modifiers
        names = words.names() if kind != "index" or words.key() != "on" else []
        table = ""
        if kind in ("index", "trigger") and words.find("on"):
            words.take("only")
            table = words.name()
        return Made(kind, names, frozenset(modifiers), guarded, concurrently, table)

    def _altered(self) -> tuple[str, Sequence[Sequence[Word]]]:
        words = self.words()
        if not (words.take("alter", "table") or words.take("alter", "ignore", "table")):
            return "", ()
        words.take("if", "exists")
        words.take("only")
        return words.name(), [part.all for part in words.parts()]

    def main(self) -> Words:
        """Return it from its verb on: behind WITH and what that defines."""
        words = self.words()
        if words.take("with"):
            depth = 0
            while words and (depth or words.key() not in ("select", "insert", "update", "delete", "replace")):
                depth += {"(": 1, ")": -1}.get(words.key(), 0)
                words.at += 1
        return words

    def renamed(self) -> list[tuple[str, str]]:
        """Return which tables it gives which names."""
        if self.verb == "rename":
            words = self.words()
            found = []
            if words.take("rename", "table") or words.take("rename", "tables"):
                for part in words.parts():
                    old = part.name()
                    found += [(old, part.name())] if part.take("to") else []
            return found
        return [
            (self.altered, action.name())
            for action in self.actions()
            if action.take("rename", "to") or action.take("rename", "as")
        ]

    def renamed_column(self) -> str:
        """Return the column of a table that it gives another name."""
        for action in self.actions():
            if action.take("rename") and action.key() not in ("to", "as", "index", "key", "constraint"):
                action.take("column")
                return action.name()
        return ""

    def added_columns(self) -> Iterator[tuple[str, Words]]:
        """Yield the columns that it adds to a table, each with its definition, behind the name."""
        for action in self.actions():
            if not action.take("add") or action.key() in _CONSTRAINTS:
                continue
            action.take("column")
            action.take("if", "not", "exists")
            if action.take("("):  # several, as MySQL lets them be added
                for part in action.parts():
                    yield part.name(), Words(part.rest)
                continue
            yield action.name(), Words(action.rest)

    def dropped_columns(self) -> Iterator[str]:
        """Yield the columns that it takes from a table."""
        for action in self.actions():
            if action.take("drop") and action.key() not in _NO_COLUMN:
                action.take("column")
                action.take("if", "exists")
                yield action.name()


_CONSTRAINTS = frozenset(
    {"constraint", "primary", "unique", "foreign", "check", "index", "key", "fulltext"}
) | {
    "spatial",
    "exclude",
    "partition",
    "table",
}


def default_of(definition: Words) -> Words | None:
    """Return the default in the definition of a column; None where it has none."""
    words = Words(definition.rest)
    if not words.find("default"):
        return None
    depth, end = 0, words.at
    while end < len(words.all):
        word = words.all[end]
        if end > words.at and not depth and word.kind == "word" and word.text in _OF_COLUMN:
            break
        depth += {"(": 1, ")": -1}.get(word.text, 0) if word.kind == "sign" else 0
        end += 1
    return Words(words.all[words.at : end])


def words_of(tokens: Iterator[Token]) -> list[Word]:
    """Return what counts of a statement."""
    return [
        Word(token.kind, _plain(token.text), doubled=token.text.startswith('"'))
        if token.kind == "name"
        else Word(token.kind, Name(token.text))
        for token in tokens
        if token.kind not in ("space", "comment", "end")
    ]


def _plain(name: str) -> Name:
    close = "]" if name[0] == "[" else name[0]
    return Name(name[1:-1].replace(close * 2, close))
