"""Snippets: the part of a text around a match, with marks around each match."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from dbctl.services.search.text_match import TextMatcher

#: Text before and after each match.
Marks: TypeAlias = tuple[str, str]
#: Characters before the first match; minimum length of a snippet, unless the text is shorter.
CONTEXT_BEFORE, SNIPPET_LENGTH = 40, 120


def create_snippet(texts: Sequence[object], matcher: TextMatcher, marks: Marks) -> str | None:
    """Return a snippet of the first text with a match, or None."""
    for text in texts:
        if isinstance(text, str) and (ranges := matcher.find_ranges(text)):
            match_start, match_end = ranges[0]
            begin = max(0, match_start - CONTEXT_BEFORE)
            end = min(len(text), max(begin + SNIPPET_LENGTH, match_end))
            parts, position = ["… "] if begin else [], begin
            for match_range in (match_range for match_range in ranges if match_range[1] <= end):
                parts += [
                    text[position : match_range[0]],
                    marks[0],
                    text[match_range[0] : match_range[1]],
                    marks[1],
                ]
                position = match_range[1]
            return " ".join("".join([*parts, text[position:end], " …" * (end < len(text))]).split())
    return None


def extract_block_texts(text: object) -> object:
    """Return the texts of a JSON array of blocks; any other value is returned unchanged."""
    if not (isinstance(text, str) and text.lstrip().startswith("[")):
        return text
    import json

    try:
        blocks = json.loads(text)
    except (ValueError, RecursionError):
        return text
    texts = [block.get("text") if isinstance(block, dict) else block for block in blocks]
    return " ".join(part for part in texts if isinstance(part, str)) or text
