"""Text of SQL as SQLite reads it, spelled in one way whatever its blanks, remarks, quotes and cases."""

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

#: Words that no column can be called by without quotes, and those that mean something else with them.
RESERVED = frozenset(
    """add all alter and as autoincrement between case check collate commit constraint create current_date current_time
    current_timestamp default deferrable delete distinct drop else escape exists false foreign from group having in
    index insert into is isnull join limit not nothing notnull null on or order primary references returning select set
    table then to transaction true union unique update using values when where""".split()  # noqa: SIM905 - a list of them would take a page
)
#: Words that can stand before a value; behind anything else a name is given to what precedes it.
_BEFORE_A_VALUE = RESERVED - {"as"} | frozenset(
    {"by", "except", "filter", "glob", "intersect", "like", "match", "over", "recursive", "regexp", "with"}
)


class Token(NamedTuple):
    """One word of a statement; ``word`` without quotes around it, ``name`` with."""

    kind: Literal["word", "name", "string", "number", "sign"]
    text: str


Tokens = Sequence[Token]


def spelled(sql: str, names: Collection[str]) -> str:
    """Return ``sql`` in the one spelling; ``names`` as for ``tokens``."""
    return joined(tokens(sql, names))


def tokens(sql: str, names: Collection[str]) -> Tokens:
    """Take ``sql`` apart.

    ``names`` are those of the tables and columns there are, in lower case: what stands in double quotes and is none
    of them is a text for SQLite.
    """
    found = []
    for token in TOKEN.finditer(sql):
        kind, text = token.lastgroup, token.group()
        if kind == "double":
            inner = text[1:-1].replace('""', '"')
            found.append(
                _name(inner)
                if inner.lower() in names
                else Token("string", "'" + inner.replace("'", "''") + "'")
            )
        elif kind == "name":
            found.append(_name(text[1:-1].replace("``", "`") if text[0] == "`" else text[1:-1]))
        elif kind == "string":
            found.append(Token("string", text))
        elif kind == "word":
            found.append(Token("word", text.lower()))
        elif kind == "sign":
            found.append(Token("sign", text))
        elif kind != "space":
            found.append(Token("number", text.lower()))
    return found


def strange_names(sql: str, names: Collection[str]) -> list[str]:
    """Return what stands in double quotes and is no name: none of ``names``, and given by no part of ``sql`` itself."""
    read = [token for token in TOKEN.finditer(sql) if token.lastgroup != "space"]
    words = ["", *(token.group().lower() for token in read), "", ""]
    given, found = set(names), list[str]()
    for at, token in enumerate(read):
        before, after = words[at], words[at + 2 : at + 4]
        if token.lastgroup != "double" or "." in (before, after[0]) or before in ("from", "join"):
            continue  # where SQLite reads no text
        inner = token.group()[1:-1].replace('""', '"')
        alias = at and (read[at - 1].lastgroup != "sign" or before == ")") and before not in _BEFORE_A_VALUE
        if alias or after == ["as", "("]:
            given.add(inner.lower())
        else:
            found.append(inner)
    return [one for one in found if one.lower() not in given]


def default_text(sql: str) -> str:
    """Return a default in the one spelling. It can name no column, so a word that means nothing else is a text."""
    read = tokens(sql, ())
    if len(read) == 1 and read[0].kind in ("word", "name") and read[0].text not in RESERVED:
        plain = sql.strip() if read[0].kind == "word" else sql.strip()[1:-1]
        return "'" + plain.replace("'", "''") + "'"
    return re.sub(r"^([+-]) ", r"\1", joined(read))


def _name(text: str) -> Token:
    lower = text.lower()
    if _PLAIN.fullmatch(lower) and lower not in RESERVED:
        return Token("name", lower)
    return Token("name", '"' + lower.replace('"', '""') + '"')


def joined(read: Tokens) -> str:
    """Write tokens one after the other, with blanks where people would put them."""
    text, before = "", Token("sign", "(")
    for token in read:
        close = token.text in {",", ")", ".", ";"} or before.text in {"(", "."}
        call = (
            token.text == "("
            and (before.kind == "name" or before.text not in RESERVED)
            and before.kind in ("word", "name")
        )
        text += token.text if close or call else f" {token.text}"
        before = token
    return text
