"""Normalize SQL of SQLite: one spelling for all variants of blanks, comments, quotes and case."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

TOKEN = re.compile(
    r"""(?P<string>'(?:[^']|'')*') | (?P<double>"(?:[^"]|"")*") | (?P<name>`(?:[^`]|``)*`|\[[^\]]*\])
      | (?P<space>[ \t\n\f\r]+ | --[^\n]* | /\*.*?(?:\*/|\Z)) | (?P<blob>[xX]'[^']*')
      | (?P<word>[A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]*)
      | (?P<number>0[xX][0-9a-fA-F]+ | (?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
      | (?P<sign>->> | -> | \|\| | [<>!=]= | <> | << | >> | .)""",
    re.VERBOSE | re.DOTALL,
)
_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*")

#: Words that cannot name a column without quotes, or that have another meaning without quotes.
RESERVED = frozenset(
    """add all alter and as autoincrement between case check collate commit constraint create current_date current_time
    current_timestamp default deferrable delete distinct drop else escape exists false foreign from group having in
    index insert into is isnull join limit not nothing notnull null on or order primary references returning select set
    table then to transaction true union unique update using values when where""".split()  # noqa: SIM905 - a list of them would take a page
)
#: Words that can precede a value; after other words, a name is an alias.
_BEFORE_A_VALUE = RESERVED - {"as"} | frozenset(
    {"by", "except", "filter", "glob", "intersect", "like", "match", "over", "recursive", "regexp", "with"}
)


class Token(NamedTuple):
    """One token of a statement; ``word`` is unquoted, ``name`` is quoted."""

    kind: Literal["word", "name", "string", "number", "sign"]
    text: str


Tokens = Sequence[Token]


def normalize_sql(sql: str, names: Collection[str]) -> str:
    """Return ``sql`` in normal form; ``names`` as for ``tokenize``."""
    return join_tokens(tokenize(sql, names))


def tokenize(sql: str, names: Collection[str]) -> Tokens:
    """Return the tokens of ``sql``.

    ``names`` are the existing tables and columns, in lower case: SQLite reads any other word in double quotes as text.
    """
    result = []
    for token in TOKEN.finditer(sql):
        kind, text = token.lastgroup, token.group()
        if kind == "double":
            inner = text[1:-1].replace('""', '"')
            result.append(
                _name_token(inner)
                if inner.lower() in names
                else Token("string", "'" + inner.replace("'", "''") + "'")
            )
        elif kind == "name":
            result.append(_name_token(text[1:-1].replace("``", "`") if text[0] == "`" else text[1:-1]))
        elif kind == "string":
            result.append(Token("string", text))
        elif kind == "word":
            result.append(Token("word", text.lower()))
        elif kind == "sign":
            result.append(Token("sign", text))
        elif kind != "space":
            result.append(Token("number", text.lower()))
    return result


def find_unknown_names(sql: str, names: Collection[str]) -> list[str]:
    """Return the words in double quotes that are neither in ``names`` nor defined as an alias in ``sql``."""
    tokens = [token for token in TOKEN.finditer(sql) if token.lastgroup != "space"]
    words = ["", *(token.group().lower() for token in tokens), "", ""]
    known, unknown_names = set(names), list[str]()
    for index, token in enumerate(tokens):
        previous, following = words[index], words[index + 2 : index + 4]
        if token.lastgroup != "double" or "." in (previous, following[0]) or previous in ("from", "join"):
            continue  # SQLite always reads a name in this position
        inner = token.group()[1:-1].replace('""', '"')
        is_alias = (
            index
            and (tokens[index - 1].lastgroup != "sign" or previous == ")")
            and previous not in _BEFORE_A_VALUE
        )
        if is_alias or following == ["as", "("]:
            known.add(inner.lower())
        else:
            unknown_names.append(inner)
    return [name for name in unknown_names if name.lower() not in known]


def normalize_default(sql: str) -> str:
    """Return a default in normal form; an unreserved word is a text, because a default cannot refer to columns."""
    tokens = tokenize(sql, ())
    if len(tokens) == 1 and tokens[0].kind in ("word", "name") and tokens[0].text not in RESERVED:
        plain = sql.strip() if tokens[0].kind == "word" else sql.strip()[1:-1]
        return "'" + plain.replace("'", "''") + "'"
    return re.sub(r"^([+-]) ", r"\1", join_tokens(tokens))


def _name_token(text: str) -> Token:
    lower = text.lower()
    if _PLAIN.fullmatch(lower) and lower not in RESERVED:
        return Token("name", lower)
    return Token("name", '"' + lower.replace('"', '""') + '"')


def join_tokens(tokens: Tokens) -> str:
    """Join tokens into SQL, with conventional blanks."""
    text, previous = "", Token("sign", "(")
    for token in tokens:
        is_attached = token.text in {",", ")", ".", ";"} or previous.text in {"(", "."}
        is_call = (
            token.text == "("
            and (previous.kind == "name" or previous.text not in RESERVED)
            and previous.kind in ("word", "name")
        )
        text += token.text if is_attached or is_call else f" {token.text}"
        previous = token
    return text
