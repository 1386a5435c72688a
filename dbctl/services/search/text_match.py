"""Compare rows with a text query. The comparison is the same for all engines, so all engines return the same rows.

A word ends before a character that is not a letter or digit; ``_`` and all other characters separate words. In scripts without spaces between
words, such as Chinese, every part of a text is treated as a word, and each letter is counted as one. Case is ignored for ASCII letters only, as in every condition of dbctl.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TypeAlias

from dbctl.engines.contract.fulltext import UNSPACED, TextAnd, TextNear, TextNot, TextOr, TextQuery, TextTerm

#: A range in a text: the first character, and the character after the last.
TextRange: TypeAlias = tuple[int, int]

#: Signs newer than Unicode 6.1: FTS5 treats characters that are not in its tables as letters, and so does every search.
_NEWER = (
    "\u058d-\u058e\u0605\u061c-\u061d\u07fd-\u07ff\u0888-\u08e3\u08ff\u09fd-\u09fe\u0a76\u0afa-\u0aff"
    "\u0b55\u0c00\u0c04-\u0c3c\u0c77\u0c81\u0c84\u0d00-\u0d01\u0d3b-\u0d3c\u0d4f\u0d81\u0eba\u1715"
    "\u180f-\u1886\u1ab0-\u1ace\u1b7d-\u1b7e\u1cf7-\u1cf9\u1de7-\u1dfb\u2066-\u2069\u20ba-\u20c0"
    "\u218a-\u218b\u23f4-\u23ff\u2700\u2b4d-\u2b4f\u2b5a-\u2bff\u2e3c-\u2e5d\u32ff\ua69e\ua82c\ua8c5"
    "\ua8fc-\ua8ff\ua9e5\uaa7c-\uaa7d\uab5b-\uab6b\ufbc2\ufd40-\ufdcf\ufdfe-\ufdff\ufe27-\ufe2f"
    "\U0001018c-\U0001018e\U0001019c-\U000101a0\U000102e0-\U0001037a\U0001056f\U00010877-\U00010878"
    "\U00010ac8-\U00010af6\U00010b99-\U00010f89\U00011070-\U0001107f\U000110c2-\U000110cd"
    "\U00011145-\U00011175\U000111c9-\U0001166c\U000116b9-\U00011fff\U00012474-\U00016f4f"
    "\U00016f7f-\U00016f87\U00016fe2-\U0001cfc3\U0001d1de-\U0001d1ea\U0001d800-\U0001ed2e\U0001f0bf"
    "\U0001f0e0-\U0001f10f\U0001f12f\U0001f16c-\U0001f16f\U0001f19b-\U0001f1ad\U0001f23b"
    "\U0001f260-\U0001f265\U0001f321-\U0001f32f\U0001f336\U0001f37d-\U0001f37f\U0001f394-\U0001f39f"
    "\U0001f3c5\U0001f3cb-\U0001f3df\U0001f3f1-\U0001f3ff\U0001f43f\U0001f441\U0001f4f8"
    "\U0001f4fd-\U0001f4ff\U0001f53e-\U0001f53f\U0001f544-\U0001f54f\U0001f568-\U0001f5fa"
    "\U0001f641-\U0001f644\U0001f650-\U0001f67f\U0001f6c6-\U0001f6fc\U0001f780-\U0001fbca"
)
_MARKS = "\u0300-\u036f"
#: Characters of words besides letters and digits: newer signs, combining marks, and private-use characters.
_FURTHER = rf"[{_MARKS}\ue000-\uf8ff{_NEWER}\U000e0000-\U0010ffff]"
#: A word of a text, to count words.
_WORD = rf"{UNSPACED}|(?:(?!{UNSPACED})(?:[^\W_]|{_FURTHER}))+"
#: Characters allowed between two words of a phrase.
_GAP = r"([\W_]*)"


class TextMatcher:
    """Matcher of rows with one query."""

    def __init__(self, query: TextQuery) -> None:
        self._query = query
        self._finders = {
            operand: _NearMatcher(operand) if isinstance(operand, TextNear) else _TermMatcher(operand)
            for operand in _list_operands(query)
        }

    def matches(self, texts: Sequence[str]) -> bool:
        """Whether the texts of one row match the query; a term must occur in one of them."""
        return self._matches(self._query, texts)

    def find_ranges(self, text: str) -> list[TextRange]:
        """Return every match in a text, without overlaps."""
        ranges: list[TextRange] = []
        for begin, end in sorted(
            match_range
            for operand in _list_operands(self._query, negated=False)
            for match_range in self._finders[operand].find_ranges(text)
        ):
            if ranges and begin < ranges[-1][1]:
                ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
            else:
                ranges.append((begin, end))
        return ranges

    def _matches(self, query: TextQuery, texts: Sequence[str]) -> bool:
        match query:
            case TextTerm() | TextNear():
                finder = self._finders[query]
                return any(next(finder.find_ranges(text), None) for text in texts)
            case TextAnd():
                return all(self._matches(part, texts) for part in query.queries)
            case TextOr():
                return any(self._matches(part, texts) for part in query.queries)
            case TextNot():
                return not self._matches(query.query, texts)


class _TermMatcher:
    def __init__(self, term: TextTerm) -> None:
        self._pattern = re.compile(_GAP.join(map(_ignore_case, term.words)))
        words = term.match != "part"
        self._begins = [words and _is_letter(piece[0]) for piece in term.words]
        self._ends = [words and _is_letter(piece[-1]) for piece in term.words]
        if term.match == "prefix":
            self._ends[-1] = False

    def find_ranges(self, text: str, *, overlapping: bool = False) -> Iterator[TextRange]:
        position = 0
        while match := self._pattern.search(text, position):
            is_whole_word = self._is_whole_word(match, text)
            if is_whole_word:
                yield match.span()
            position = match.end() if is_whole_word and not overlapping else match.start() + 1

    def _is_whole_word(self, match: re.Match[str], text: str) -> bool:
        """Whether the match begins and ends at word boundaries, with no other word between two words of the term."""
        gaps = range(1, len(self._begins))
        begins = [match.start(), *(match.end(gap) for gap in gaps)]
        ends = [*(match.start(gap) for gap in gaps), match.end()]
        return not (
            any(
                begin and position and _is_word_character(text[position - 1])
                for begin, position in zip(self._begins, begins, strict=True)
            )
            or any(
                end and position < len(text) and _is_word_character(text[position])
                for end, position in zip(self._ends, ends, strict=True)
            )
            or any(_is_word_character(sign) for gap in gaps for sign in match[gap])
        )


class _NearMatcher:
    """Matcher of texts with terms near to each other."""

    def __init__(self, query: TextNear) -> None:
        self._finders = [_TermMatcher(term) for term in query.terms]
        self._distance = query.distance

    def find_ranges(self, text: str) -> Iterator[TextRange]:
        """Yield the occurrences of terms that are near to an occurrence of each other term."""
        terms = [list(finder.find_ranges(text, overlapping=True)) for finder in self._finders]
        if not all(terms):
            return
        words = [match.span() for match in re.finditer(_WORD, text)]
        begins, ends = [begin for begin, _ in words], [end for _, end in words]
        # The numbers of the first and last word of each occurrence; of punctuation, those of its neighbors.
        firsts = [[bisect_right(ends, begin) for begin, _ in term] for term in terms]
        lasts = [[bisect_left(begins, end) - 1 for _, end in term] for term in terms]
        yielded = [0] * len(terms)
        for start in sorted({first for numbers in firsts for first in numbers}):
            near = [
                (bisect_left(last, start - self._distance - 1), bisect_right(first, start))
                for first, last in zip(firsts, lasts, strict=True)
            ]
            if all(begin < end for begin, end in near):
                for number, (begin, end) in enumerate(near):
                    yield from terms[number][max(begin, yielded[number]) : end]
                    yielded[number] = end


def _list_operands(query: TextQuery, *, negated: bool = True) -> Iterator[TextTerm | TextNear]:
    """Yield the terms and groups of near terms; without ``negated``, only those outside of NOT."""
    match query:
        case TextTerm() | TextNear():
            yield query
        case TextAnd() | TextOr():
            for part in query.queries:
                yield from _list_operands(part, negated=negated)
        case TextNot() if negated:
            yield from _list_operands(query.query)


def _is_letter(sign: str) -> bool:
    """Whether a word with this first or last sign needs a word boundary there."""
    return re.fullmatch(rf"(?!{UNSPACED})[^\W_]|[{_MARKS}]", sign) is not None


@lru_cache(maxsize=4096)
def _is_word_character(sign: str) -> bool:
    """Whether a sign is part of the adjacent word."""
    return sign.isalnum() or (not sign.isascii() and re.match(_FURTHER, sign) is not None)


def _ignore_case(text: str) -> str:
    return "".join(
        f"[{sign.lower()}{sign.upper()}]" if sign.isascii() and sign.isalpha() else re.escape(sign)
        for sign in text
    )
