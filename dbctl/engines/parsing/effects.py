"""Estimate from the words of a statement which rows and tables it may delete.

The estimate is conservative: statements that are not known to be harmless may delete rows. The effects of functions and
triggers are not visible.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dbctl.engines.contract.schema import StatementEffect
from dbctl.engines.parsing.lexer import Token
from dbctl.engines.parsing.statements import unquote_name

#: First words of statements that cannot delete rows; ``create table … as select`` may call a function that does.
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
#: Words between CREATE and the kind of object.
_CREATE_MODIFIERS = {
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
_CREATE_MODIFIERS |= {"recursive", "materialized", "virtual", "constraint", "definer", "algorithm"}
_HARMLESS_KINDS = ("table", "index", "view", "trigger")
#: Objects without row values that ALTER TABLE can drop.
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
#: Actions of ALTER TABLE that remove partitions or data files.
_PARTITION_ACTIONS = {"partition", "truncate", "exchange", "discard", "detach", "coalesce"}
#: Objects whose DROP also drops tables or columns.
_CONTAINERS = {"schema", "database", "owned", "extension", "type", "domain", "tablespace"}
_BEFORE_NAMES = {"if", "exists", "only", "low_priority", "quick", "ignore", "temporary", "table"}
_SESSION = ("set", "pragma")
_GLOBAL_SCOPES = {"global", "persist", "persist_only"}


def analyze_effect(tokens: Iterable[Token]) -> StatementEffect:
    """Return the effect of a statement; the tokens come from the engine that runs it."""
    words: list[str] = []
    end = -1  # end of the previous quoted name, which a doubled quote splits into two tokens
    for token in tokens:
        if token.kind == "name" and token.start == end:
            words[-1] += token.text
        elif token.kind not in ("space", "comment", "end"):
            words.append(token.text.lower() if token.kind == "word" else token.text)
        end = token.start + len(token.text) if token.kind == "name" else -1
    head, second = [*words, "", ""][:2]
    if head in _HARMLESS or f"{head} {second}" in _HARMLESS:
        session = head in _SESSION and second not in _GLOBAL_SCOPES
        effect = StatementEffect(may_delete_rows="cascade" in words, session_only=session)
    elif head in ("create", "drop"):
        effect = _analyze_create(words) if head == "create" else _analyze_drop(words)
    elif (head, second) == ("alter", "table"):
        effect = _analyze_alter(words)
    elif head == "insert" and not {"replace", "delete", "truncate"} & set(words):
        effect = StatementEffect(may_delete_rows=False)
    else:
        tables = _find_deleted_tables(words)
        effect = StatementEffect(may_delete_rows=True, is_destructive=bool(tables), emptied_tables=tables)
    return effect


def _analyze_create(words: Sequence[str]) -> StatementEffect:
    kind_index = next(
        (
            index
            for index, word in enumerate(words[1:], 1)
            if word in _HARMLESS_KINDS or word not in _CREATE_MODIFIERS
        ),
        0,
    )
    kind = words[kind_index] if kind_index else ""
    if kind == "table" and "replace" in words[1:kind_index]:
        names = _read_names(words, kind_index + 1)
        return StatementEffect(may_delete_rows=True, is_destructive=True, dropped_tables=names[:1])
    harmless = kind in _HARMLESS_KINDS and not (kind == "table" and "select" in words)
    return StatementEffect(may_delete_rows=not harmless)


def _analyze_drop(words: Sequence[str]) -> StatementEffect:
    kind_index = 2 if words[1:2] == ["temporary"] else 1
    if words[kind_index : kind_index + 1] == ["table"]:
        return StatementEffect(
            may_delete_rows=True, is_destructive=True, dropped_tables=_read_names(words, kind_index + 1)
        )
    return StatementEffect(may_delete_rows=True, is_destructive=bool(_CONTAINERS & set(words[1:3])))


def _analyze_alter(words: Sequence[str]) -> StatementEffect:
    """Return the effect of ALTER TABLE, which may have several actions."""
    outer = _words_outside_brackets(words)
    dropped = [following for word, following in zip(outer, [*outer[1:], ""], strict=True) if word == "drop"]
    drops_columns = any(following not in _NO_COLUMNS for following in dropped)
    if _PARTITION_ACTIONS & set(outer):
        return StatementEffect(
            may_delete_rows=True,
            is_destructive=drops_columns,
            emptied_tables=_read_names(words, 2) if drops_columns else (),
        )
    adds = any(word in ("add", "rename") for word in outer) and not dropped
    return StatementEffect(may_delete_rows=not adds, is_destructive=drops_columns)


def _words_outside_brackets(words: Sequence[str]) -> list[str]:
    """Return the words outside brackets."""
    result, depth = [], 0
    for word in words:
        depth += {"(": 1, ")": -1}.get(word, 0)
        if not depth:
            result.append(word)
    return result


def _find_deleted_tables(words: Sequence[str]) -> list[str]:
    """Return the tables from which a statement, or one inside it, deletes rows."""
    tables: list[str] = []
    for index, word in enumerate(words):
        if word == "truncate":
            tables += _read_names(words, index + 1)
        if word != "delete" or words[index - 1 : index] == ["on"]:
            continue
        names = _read_names(words, index + 1)  # DELETE a, b FROM a JOIN b
        start = index + 1
        while start < len(words) and words[start] in _BEFORE_NAMES:
            start += 1
        tables += _read_names(words, start + 1) if words[start : start + 1] == ["from"] else names
    return tables


def _read_names(words: Sequence[str], position: int) -> list[str]:
    """Return the comma-separated names at ``position``, without their schemas."""
    while position < len(words) and words[position] in _BEFORE_NAMES:
        position += 1
    names: list[str] = []
    while position < len(words):
        name = _unquote(words[position])
        while words[position + 1 : position + 2] == ["."] and position + 2 < len(words):
            position += 2
            name = name if words[position] == "*" else _unquote(words[position])
        names.append(name)
        if words[position + 1 : position + 2] != [","]:
            break
        position += 2
    return names


def _unquote(name: str) -> str:
    return unquote_name(name) if len(name) > 1 and name[0] in "\"`'[" else name
