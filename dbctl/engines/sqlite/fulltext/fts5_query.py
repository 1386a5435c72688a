"""FTS5 expressions that match at least the rows of a text query."""

from __future__ import annotations

import re

from dbctl.engines.contract.fulltext import (
    UNSPACED,
    TextAnd,
    TextIndexSpec,
    TextNear,
    TextNot,
    TextOr,
    TextQuery,
    TextTerm,
)
from dbctl.engines.sql.catalog import is_storable

#: Tokenizers that split text at every character except letters and digits, so the index contains each word.
_WORD_TOKENIZERS = r"(porter(\s+|$))?(unicode61(\s+remove_diacritics\s+[012])?)?"
#: JSON writes line breaks and the like as a backslash and one of these letters, which an index of raw JSON joins to the next word.
_ESCAPES = ("", "n", "t", "r", "b", "f")


class FTS5Query:
    """Builder of query expressions for one index."""

    def __init__(self, spec: TextIndexSpec) -> None:
        self._splits_words = re.fullmatch(_WORD_TOKENIZERS, spec.tokenizer.strip()) is not None
        self._stems = spec.tokenizer.startswith("porter")
        self._prefixes = _ESCAPES if spec.block_columns else ("",)

    def write(self, query: TextQuery) -> str:
        """Return an expression for MATCH; empty if no expression matches every row of the query."""
        if not self._splits_words:
            return ""
        match query:
            case TextTerm():
                return self._term(query)
            case TextNear():  # the caller counts the words between its terms
                return " AND ".join(part for part in map(self._term, query.terms) if part)
            case TextAnd():
                return " AND ".join(part for part in map(self.write, query.queries) if part)
            case TextOr():
                parts = [self.write(part) for part in query.queries]
                return f"({' OR '.join(f'({part})' for part in parts)})" if all(parts) else ""
            case TextNot():  # the index may also match rows with another spelling
                return ""

    def _term(self, term: TextTerm) -> str:
        # The beginning of a word may have another stem than the word.
        if term.match == "part" or (term.match == "prefix" and self._stems):
            return ""
        # The index contains a run of such letters as one word.
        if any(re.match(UNSPACED, sign) for sign in (term.words[0][0], term.words[-1][-1])):
            return ""
        if len(self._prefixes) == 1:
            return self._phrase(" ".join(term.words), prefix=term.match == "prefix")
        phrases = []
        for position, word in enumerate(term.words, 1):
            prefix = term.match == "prefix" and position == len(term.words)
            words = [self._phrase(sign + word, prefix=prefix) for sign in self._prefixes]
            phrases += [f"({' OR '.join(words)})"] if all(words) else []
        return " AND ".join(phrases)

    @staticmethod
    def _phrase(text: str, *, prefix: bool) -> str:
        if not (is_storable(text) and any(map(str.isalnum, text)) and _is_known(text)):
            return ""
        return '"' + text.replace('"', '""') + '"' + "*" * prefix


def _is_known(text: str) -> bool:
    """Whether FTS5 splits and folds a text as Python does: its tables are those of Unicode 6.1."""
    if text.isascii():
        return True
    from unicodedata import ucd_3_2_0

    cases = {case for sign in text for case in (sign, *sign.lower(), *sign.upper())}
    return all(ucd_3_2_0.category(sign) not in ("Cn", "Co") for sign in cases)
