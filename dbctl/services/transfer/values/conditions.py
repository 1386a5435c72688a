"""Conditions of partial unique indexes, evaluated with the values of rows as lines have them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from dbctl.engines.parsing.statements import unquote_name
from dbctl.model import Struct

_TEXT = r"'(?:[^']|'')*'"
_CAST = r"(?:\s*::\s*[a-z]+(?: varying)?(?:\(\d+\))?)?"
_GROUPED_NOT = re.compile(rf"{_TEXT}|\bnot\s*\(", re.IGNORECASE)
_PARENTHESIS = re.compile(rf"({_TEXT})|[()]")
#: One comparison of a conjunction, without parentheses.
_TEST = re.compile(
    rf"""\s*(?P<not>not\s+)?(?P<column>"(?:[^"]|"")+"|`(?:[^`]|``)+`|[a-z_]\w*){_CAST}\s*"""
    rf"(?:(?P<null>is\s+(?P<present>not\s+)?null)|(?:=|is)\s*(?P<value>true|false|-?\d+|{_TEXT}){_CAST})?\s*(?P<and>and\b|$)",
    re.IGNORECASE,
)
_TRUTH = {"true": "1", "false": "0"}


class Comparison(Struct, frozen=True):
    """A comparison of a column that rows of a partial index fulfil."""

    column: str
    value: str | None  #: the text of a line; None: NULL
    is_negated: bool = False

    def accepts(self, value: bytes | None) -> bool:
        """Whether a row with this value fulfils it."""
        if self.value is None:
            return (value is None) != self.is_negated
        if value is None:
            return False
        return (value.decode(errors="surrogateescape") == self.value) != self.is_negated


def parse_condition(where: str) -> frozenset[Comparison] | None:
    """Return the comparisons of a condition, all of which hold; None if it is more than a few comparisons with constants."""
    if any(match[0][0] != "'" for match in _GROUPED_NOT.finditer(where)):
        return None
    text, position, comparisons = _PARENTHESIS.sub(lambda match: match[1] or " ", where), 0, set[Comparison]()
    while match := _TEST.match(text, position):
        if match["value"] and match["not"]:
            return None
        comparisons.add(_read_comparison(match.groupdict()))
        position = match.end()
        if not match["and"]:
            return frozenset(comparisons)
    return None


def _read_comparison(parts: Mapping[str, str | None]) -> Comparison:
    column = parts["column"] or ""
    name = unquote_name(column) if column[0] in '"`' else column
    if parts["null"]:
        return Comparison(name, None, is_negated=bool(parts["present"]) != bool(parts["not"]))
    if value := parts["value"]:
        text = value[1:-1].replace("''", "'") if value[0] == "'" else _TRUTH.get(value.lower(), value)
        return Comparison(name, text)
    return Comparison(name, "0", is_negated=not parts["not"])
