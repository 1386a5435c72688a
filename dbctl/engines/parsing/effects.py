"""What a statement of a script may take away, judged by its words before it runs.

A judgement is careful: what is not known to be harmless may take rows away, and what a function or a trigger does is
not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dbctl.engines.contract import Effect
from dbctl.engines.parsing.lexer import Token

#: What cannot take a row away, by the first words; ``create table … as select`` may call a function that does.
_HARMLESS = {
    *(
        "analyze",
        "checkpoint",
        "cluster",
        "comment",
        "optimize",
        "pragma",
        "refresh",
        "reindex",
        "set",
        "vacuum",
    ),
    *("alter index", "alter sequence", "alter type", "alter view", "drop index", "drop trigger", "drop view"),
}
#: What a CREATE may say before it says what it makes.
_KINDS_OF = {
    "or",
    "replace",
    "temp",
    "temporary",
    "global",
    "local",
    "unlogged",
    "unique",
    "fulltext",
    "spatial",
}
_KINDS_OF |= {"recursive", "materialized", "virtual", "constraint", "definer", "algorithm"}
_MADE = ("table", "index", "view", "trigger")
#: What ALTER TABLE drops that holds no value of a row.
_NO_COLUMNS = {
    "constraint",
    "index",
    "key",
    "primary",
    "foreign",
    "check",
    "default",
    "not",
    "identity",
    "expression",
}
#: What takes rows out of a table by its partitions, or out of the reach of the server.
_OF_PARTITIONS = {"partition", "truncate", "exchange", "discard", "detach", "coalesce"}
#: What holds tables, or columns, that would go with it.
_HOLDERS = {"schema", "database", "owned", "extension", "type", "domain", "tablespace"}
_BEFORE_NAMES = {"if", "exists", "only", "low_priority", "quick", "ignore", "temporary", "table"}
_SESSION = ("set", "pragma")
_FOR_ALL = {"global", "persist", "persist_only"}


def effect_of(read: Iterable[Token]) -> Effect:
    """Judge a statement, taken apart by the engine that is to run it."""
    words: list[str] = []
    end = -1  # of the quoted name before, which a doubled quote cuts in two
    for token in read:
        if token.kind == "name" and token.start == end:
            words[-1] += token.text
        elif token.kind not in ("space", "comment", "end"):
            words.append(token.text.lower() if token.kind == "word" else token.text)
        end = token.start + len(token.text) if token.kind == "name" else -1
    head, second = [*words, "", ""][:2]
    if head in _HARMLESS or f"{head} {second}" in _HARMLESS:
        session = head in _SESSION and second not in _FOR_ALL
        found = Effect(may_take_rows="cascade" in words, session=session)
    elif head in ("create", "drop"):
        found = _create(words) if head == "create" else _drop(words)
    elif (head, second) == ("alter", "table"):
        found = _alter(words)
    elif head == "insert" and not {"replace", "delete", "truncate"} & set(words):
        found = Effect(may_take_rows=False)
    else:
        emptied = _deleted(words)
        found = Effect(may_take_rows=True, destroys=bool(emptied), empties=emptied)
    return found


def _create(words: Sequence[str]) -> Effect:
    made = next((at for at, word in enumerate(words[1:], 1) if word in _MADE or word not in _KINDS_OF), 0)
    what = words[made] if made else ""
    if what == "table" and "replace" in words[1:made]:
        names = _names(words, made + 1)
        return Effect(may_take_rows=True, destroys=True, drops=names[:1])
    harmless = what in _MADE and not (what == "table" and "select" in words)
    return Effect(may_take_rows=not harmless)


def _drop(words: Sequence[str]) -> Effect:
    kind = 2 if words[1:2] == ["temporary"] else 1
    if words[kind : kind + 1] == ["table"]:
        return Effect(may_take_rows=True, destroys=True, drops=_names(words, kind + 1))
    return Effect(may_take_rows=True, destroys=bool(_HOLDERS & set(words[1:3])))


def _alter(words: Sequence[str]) -> Effect:
    """Judge ALTER TABLE, which may do several things at once."""
    outer = _outer(words)
    dropped = [then for word, then in zip(outer, [*outer[1:], ""], strict=True) if word == "drop"]
    columns = any(then not in _NO_COLUMNS for then in dropped)
    if _OF_PARTITIONS & set(outer):
        return Effect(may_take_rows=True, destroys=columns, empties=_names(words, 2) if columns else ())
    adds = any(word in ("add", "rename") for word in outer) and not dropped
    return Effect(may_take_rows=not adds, destroys=columns)


def _outer(words: Sequence[str]) -> list[str]:
    """Return the words that stand in no brackets."""
    found, depth = [], 0
    for word in words:
        depth += {"(": 1, ")": -1}.get(word, 0)
        if not depth:
            found.append(word)
    return found


def _deleted(words: Sequence[str]) -> list[str]:
    """Return the tables of which a statement, or one inside of it, deletes rows."""
    found: list[str] = []
    for at, word in enumerate(words):
        if word == "truncate":
            found += _names(words, at + 1)
        if word != "delete" or words[at - 1 : at] == ["on"]:
            continue
        names = _names(words, at + 1)  # DELETE a, b FROM a JOIN b
        start = at + 1
        while start < len(words) and words[start] in _BEFORE_NAMES:
            start += 1
        found += _names(words, start + 1) if words[start : start + 1] == ["from"] else names
    return found


def _names(words: Sequence[str], at: int) -> list[str]:
    """Return the names that stand there with commas between them, without what a dot sets before them."""
    while at < len(words) and words[at] in _BEFORE_NAMES:
        at += 1
    found: list[str] = []
    while at < len(words):
        name = _plain(words[at])
        while words[at + 1 : at + 2] == ["."] and at + 2 < len(words):
            at += 2
            name = name if words[at] == "*" else _plain(words[at])
        found.append(name)
        if words[at + 1 : at + 2] != [","]:
            break
        at += 2
    return found


def _plain(name: str) -> str:
    mark = {"[": "]"}.get(name[:1], name[:1])
    if len(name) > 1 and name[0] in "\"`'[" and name.endswith(mark):
        return name[1:-1].replace(mark * 2, mark)
    return name
