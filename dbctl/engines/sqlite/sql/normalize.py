"""Normalize SQL of SQLite: one spelling for all variants of blanks, comments, quotes and case."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from dbctl.engines.parsing.lexer import Token
from dbctl.engines.parsing.statements import Word, unquote_name
from dbctl.engines.sql.catalog import quote_literal
from dbctl.engines.sqlite.sql.lexer import LEXER

_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*")

#: Words that cannot name a column without quotes, or that have another meaning without quotes.
RESERVED = frozenset(
    """add all alter and as autoincrement between case check collate commit constraint create current_date current_time
    current_timestamp default deferrable delete distinct drop else escape exists false foreign from group having in
    index insert into is isnull join limit not nothing notnull null on or order primary references returning select set
    table then to transaction true union unique update using values when where""".split()
)
#: Words that can precede a value; after other words, a name is an alias.
_BEFORE_A_VALUE = RESERVED - {"as"} | frozenset(
    {"by", "except", "filter", "glob", "intersect", "like", "match", "over", "recursive", "regexp", "with"}
)


Words = Sequence[Word]


def normalize_sql(sql: str, names: Collection[str]) -> str:
    """Return ``sql`` in normal form; ``names`` as for ``read_normal_words``."""
    return join_words(read_normal_words(sql, names))


def read_normal_words(sql: str, names: Collection[str]) -> Words:
    """Return the words of ``sql`` in normal form; a quoted name has quotes only if it requires them.

    ``names`` are the existing tables and columns, in lower case: SQLite reads any other word in double quotes as text.
    """
    return [_normalize_token(token, names) for token in LEXER.read_significant(sql)]


def _normalize_token(token: Token, names: Collection[str]) -> Word:
    if token.kind == "name":
        name = unquote_name(token.text)
        if token.text[0] == '"' and name.lower() not in names:
            return Word("text", quote_literal(name))
        return _name_word(name)
    if token.kind == "text" and token.text[0] == "'":
        return Word("text", token.text)
    kind = {"text": "number", "end": "sign"}.get(token.kind, token.kind)  # a BLOB is written as digits
    return Word("number" if kind == "number" else "word" if kind == "word" else "sign", token.text.lower())


def find_unknown_names(sql: str, names: Collection[str]) -> list[str]:
    """Return the words in double quotes that are neither in ``names`` nor defined as an alias in ``sql``."""
    tokens = LEXER.read_significant(sql)
    words = ["", *(token.text.lower() for token in tokens), "", ""]
    known, unknown_names = set(names), list[str]()
    for index, token in enumerate(tokens):
        previous, following = words[index], words[index + 2 : index + 4]
        if token.text[0] != '"' or "." in (previous, following[0]) or previous in ("from", "join"):
            continue  # SQLite always reads a name in this position
        name = unquote_name(token.text)
        is_alias = (
            index
            and (tokens[index - 1].kind not in ("sign", "end") or previous == ")")
            and previous not in _BEFORE_A_VALUE
        )
        if is_alias or following == ["as", "("]:
            known.add(name.lower())
        else:
            unknown_names.append(name)
    return [name for name in unknown_names if name.lower() not in known]


def normalize_default(sql: str) -> str:
    """Return a default in normal form; an unreserved word is a text, because a default cannot refer to columns."""
    words = read_normal_words(sql, ())
    if len(words) == 1 and words[0].kind in ("word", "name") and words[0].text not in RESERVED:
        plain = sql.strip() if words[0].kind == "word" else sql.strip()[1:-1]
        return quote_literal(plain)
    return re.sub(r"^([+-]) ", r"\1", join_words(words))


def _name_word(text: str) -> Word:
    lower = text.lower()
    if _PLAIN.fullmatch(lower) and lower not in RESERVED:
        return Word("name", lower)
    return Word("name", '"' + lower.replace('"', '""') + '"')


def join_words(words: Words) -> str:
    """Join words into SQL, with conventional blanks."""
    text, previous = "", Word("sign", "(")
    for word in words:
        is_attached = word.text in {",", ")", ".", ";"} or previous.text in {"(", "."}
        is_call = (
            word.text == "("
            and (previous.kind == "name" or previous.text not in RESERVED)
            and previous.kind in ("word", "name")
        )
        text += word.text if is_attached or is_call else f" {word.text}"
        previous = word
    return text
