"""Parse statements of any server far enough to find their kind and their tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Self

from dbctl.engines.parsing.lexer import Token, TokenKind

#: Words between CREATE or DROP and the kind of object.
_BETWEEN = frozenset(
    """or replace temp temporary global local unlogged unique fulltext spatial materialized virtual recursive
    constraint event foreign online offline""".split()
)
_KINDS = frozenset(
    """table index view trigger type schema sequence function procedure extension database domain policy role user
    event""".split()
)
#: Objects other than columns that ALTER TABLE can drop.
_NOT_COLUMNS = frozenset("constraint index key primary foreign check partition system".split())


class Name(str):
    """A text that is compared in lower case and displayed unchanged."""

    __slots__ = ("original",)
    original: str

    def __new__(cls, text: str) -> Self:
        """Create a name from the original text."""
        name = super().__new__(cls, text.lower())
        name.original = text
        return name

    def __str__(self) -> str:
        return self.original

    def __format__(self, format_spec: str) -> str:
        return format(self.original, format_spec)


class Word(NamedTuple):
    """One token of a statement, without blanks and comments."""

    kind: TokenKind
    text: str  #: a ``Name``; quoted names without their quotes
    doubled: bool = False  #: whether the quotes are double quotes

    @property
    def nesting(self) -> int:
        """The change of the depth of brackets."""
        return {"(": 1, ")": -1}.get(self.text, 0) if self.kind == "sign" else 0


class WordReader:
    """Reader of a statement, or a part of one, from its beginning."""

    def __init__(self, words: Sequence[Word]) -> None:
        self.words, self.position = words, 0

    def __bool__(self) -> bool:
        return self.position < len(self.words)

    @property
    def remaining(self) -> Sequence[Word]:
        """The unread words."""
        return self.words[self.position :]

    def peek(self, ahead: int = 0) -> str:
        """Return the next unquoted word or sign; empty for other words."""
        word = self.words[self.position + ahead] if self.position + ahead < len(self.words) else None
        return word.text if word and word.kind in ("word", "sign") else ""

    def take(self, *keys: str) -> bool:
        """Read these words if they are next; return whether they are."""
        if any(self.peek(ahead) != key for ahead, key in enumerate(keys)):
            return False
        self.position += len(keys)
        return True

    def take_any(self, *keys: str) -> str:
        """Read and return the next word if it is one of these; otherwise return an empty text."""
        return next((key for key in keys if self.take(key)), "")

    def match(self, pattern: str) -> dict[str, str] | None:
        """Read the words of a pattern; return the names in it, or None if it does not match.

        Items of a pattern: a word, or several (``create|drop``); an optional word (``[column]``); a name (``{name}``); words that
        come later outside brackets (``+not_valid``), or do not (``-not_valid``); words that do not come next (``!enum|set``).
        The names ``words`` and ``word`` are the words of the first kind, and the last of them, in upper case.
        """
        names, words = dict[str, str](), list[str]()
        for item in pattern.split():
            keys = item.strip("{}[]+-!").split("|")
            match item[0]:
                case "{":
                    names[keys[0]] = self.read_name()
                    matches = True
                case "[":
                    self.take_any(*keys)
                    matches = True
                case "+" | "-":
                    matches = self.contains(*keys[0].split("_")) == (item[0] == "+")
                case "!":
                    matches = self.peek() not in keys
                case _:
                    words.append(self.take_any(*keys).upper())
                    matches = bool(words[-1])
            if not matches:
                return None
        return {**names, "words": " ".join(words), "word": words[-1]}

    def read_name(self) -> str:
        """Read a name; return its last part, or an empty text without a name."""
        name = ""
        while self and self.remaining[0].kind in ("word", "name"):
            name = self.remaining[0].text
            self.position += 1
            if not self.take("."):
                break
        return name

    def read_names(self) -> list[str]:
        """Read comma-separated names."""
        names = [self.read_name()]
        while self.take(","):
            self.take("only")
            names.append(self.read_name())
        return [name for name in names if name]

    def skip_past(self, *keys: str) -> bool:
        """Continue after these words, outside brackets; return whether they were found."""
        for index in self.outside_brackets():
            words = self.words[index : index + len(keys)]
            if [word.text for word in words if word.kind == "word"] == [*keys]:
                self.position = index + len(keys)
                return True
        return False

    def outside_brackets(self) -> Iterator[int]:
        """Yield the positions of the unread words outside brackets; a closing bracket is outside."""
        depth = 0
        for index in range(self.position, len(self.words)):
            depth += self.words[index].nesting
            if not depth:
                yield index

    def contains(self, *keys: str) -> bool:
        """Whether the unread words contain these words, outside brackets."""
        return WordReader(self.remaining).skip_past(*keys)

    def split_at_commas(self) -> list[WordReader]:
        """Split the unread words at commas outside brackets."""
        parts, depth = [list[Word]()], 0
        for word in self.remaining:
            depth += word.nesting
            if word == _COMMA and not depth:
                parts.append([])
            elif depth >= 0:
                parts[-1].append(word)
        return [WordReader(part) for part in parts if part]


_COMMA = Word("sign", ",")
_MAIN_VERBS = {Word("word", text) for text in ("select", "insert", "update", "delete", "replace")}
#: Words that end the default in a column definition.
_AFTER_DEFAULT = {
    Word("word", text)
    for text in """not null primary unique check references collate generated constraint comment after first
    auto_increment on as default storage invisible visible key""".split()
}


class ObjectStatement(NamedTuple):
    """The objects that a statement creates or drops."""

    kind: str
    names: Sequence[str]
    modifiers: frozenset[str]  #: unique, temporary, materialized…
    has_guard: bool  #: IF [NOT] EXISTS, or OR REPLACE
    concurrently: bool
    table: str = ""  #: of an index or a trigger


class Statement:
    """One statement, with the objects that it creates, drops or alters."""

    def __init__(self, line: int, words: Sequence[Word]) -> None:
        self.line, self.tokens = line, words
        self.verb = words[0].text if words and words[0].kind == "word" else ""
        self.created = self._parse_object("create")
        self.dropped = self._parse_object("drop")
        self.altered, self._actions = self._parse_alter()

    def new_reader(self) -> WordReader:
        return WordReader(self.tokens)

    def actions(self) -> Iterator[WordReader]:
        """Yield a reader for each action of ALTER TABLE."""
        yield from (WordReader(words) for words in self._actions)

    def _parse_object(self, verb: str) -> ObjectStatement | None:
        reader = self.new_reader()
        if not reader.take(verb):
            return None
        modifiers = set[str]()
        if reader.take("definer", "="):
            while reader and reader.peek() not in _KINDS:
                reader.position += 1
        while (word := reader.take_any(*_BETWEEN)) or reader.take("algorithm", "="):
            modifiers.add(word)
            reader.position += not word
        kind = reader.take_any(*_KINDS)
        if not kind:
            return None
        # of PostgreSQL; a user of MySQL may be called mapping
        if kind == "user" and reader.peek(1) in ("for", "if") and reader.take("mapping"):
            kind = "user mapping"
        concurrently = reader.take("concurrently")
        has_guard = (
            reader.take("if", "not", "exists") or reader.take("if", "exists") or "replace" in modifiers
        )
        reader.take("for")  # of a user mapping
        names = reader.read_names() if kind != "index" or reader.peek() != "on" else []
        table = ""
        if kind in ("index", "trigger") and reader.skip_past("on"):
            reader.take("only")
            table = reader.read_name()
        return ObjectStatement(kind, names, frozenset(modifiers), has_guard, concurrently, table)

    def _parse_alter(self) -> tuple[str, Sequence[Sequence[Word]]]:
        reader = self.new_reader()
        if not (reader.take("alter", "table") or reader.take("alter", "ignore", "table")):
            return "", ()
        reader.take("if", "exists")
        reader.take("only")
        return reader.read_name(), [part.words for part in reader.split_at_commas()]

    def main_reader(self) -> WordReader:
        """Return a reader at the main verb, after a WITH clause."""
        reader = self.new_reader()
        if reader.take("with"):
            verbs = (index for index in reader.outside_brackets() if reader.words[index] in _MAIN_VERBS)
            reader.position = next(verbs, len(reader.words))
        return reader

    def renamed_tables(self) -> list[tuple[str, str]]:
        """Return the old and new names of renamed tables."""
        if self.verb == "rename":
            reader = self.new_reader()
            renames = []
            if reader.take("rename", "table") or reader.take("rename", "tables"):
                for part in reader.split_at_commas():
                    old = part.read_name()
                    renames += [(old, part.read_name())] if part.take("to") else []
            return renames
        return [
            (self.altered, action.read_name())
            for action in self.actions()
            if action.take("rename", "to") or action.take("rename", "as")
        ]

    def renamed_column(self) -> str:
        """Return the old name of a renamed column; empty without one."""
        for action in self.actions():
            if action.take("rename") and action.peek() not in ("to", "as", "index", "key", "constraint"):
                action.take("column")
                return action.read_name()
        return ""

    def added_columns(self) -> Iterator[tuple[str, WordReader]]:
        """Yield the columns that are added to a table, each with its definition after the name."""
        for action in self.actions():
            if not action.take("add") or action.peek() in _CONSTRAINTS:
                continue
            action.take("column")
            action.take("if", "not", "exists")
            if action.take("("):  # several columns, in MySQL
                for part in action.split_at_commas():
                    yield part.read_name(), WordReader(part.remaining)
                continue
            yield action.read_name(), WordReader(action.remaining)

    def dropped_columns(self) -> Iterator[str]:
        """Yield the columns that are dropped from a table."""
        for action in self.actions():
            if action.take("drop") and action.peek() not in _NOT_COLUMNS:
                action.take("column")
                action.take("if", "exists")
                yield action.read_name()


_CONSTRAINTS = frozenset(
    """constraint primary unique foreign check index key fulltext spatial exclude partition table""".split()
)


def find_default(definition: WordReader) -> WordReader | None:
    reader = WordReader(definition.remaining)
    if not reader.skip_past("default"):
        return None
    start, words = reader.position, reader.words
    ends = (index for index in reader.outside_brackets() if index > start and words[index] in _AFTER_DEFAULT)
    return WordReader(words[start : next(ends, len(words))])


def read_words(tokens: Iterable[Token]) -> list[Word]:
    """Return the words of a statement, without blanks and comments."""
    words, quoted, end = list[Word](), "", -1
    for token in tokens:
        if token.kind == "name":
            if token.start == end:  # a doubled quote divides a name into two tokens
                words.pop()
            quoted = quoted + token.text if token.start == end else token.text
            words.append(Word("name", Name(unquote_name(quoted)), doubled=quoted.startswith('"')))
            end = token.start + len(token.text)
        elif token.kind not in ("space", "comment", "end"):
            words.append(Word(token.kind, Name(token.text)))
    return words


def unquote_name(name: str) -> str:
    """Return a quoted name without its quotes, which may be brackets."""
    return name[1:-1] if name[0] == "[" else name[1:-1].replace(name[0] * 2, name[0])
