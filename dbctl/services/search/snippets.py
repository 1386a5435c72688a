"""The piece of a text in which words were found, with each of them between marks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from dbctl.services.search.text_match import TextMatcher

#: What is put before and behind each word that was found.
Marks: TypeAlias = tuple[str, str]
#: Characters of context around a match.
BEFORE, WHOLE = 40, 120


def around(texts: Sequence[object], matcher: TextMatcher, marks: Marks) -> str | None:
    """Return a piece of the first of ``texts`` in which a term is found; None where it is in none."""
    for text in texts:
        if isinstance(text, str) and (places := matcher.places(text)):
            first, behind = places[0]
            begin = max(0, first - BEFORE)
            end = min(len(text), max(begin + WHOLE, behind))
            parts, at = ["… "] if begin else [], begin
            for place in (place for place in places if place[1] <= end):
                parts += [text[at : place[0]], marks[0], text[place[0] : place[1]], marks[1]]
                at = place[1]
            return " ".join("".join([*parts, text[at:end], " …" * (end < len(text))]).split())
    return None


def plain(text: object) -> object:
    """Return the texts of a JSON array of blocks; what is none, or holds none, as it is."""
    if not (isinstance(text, str) and text.lstrip().startswith("[")):
        return text
    import json

    try:
        blocks = json.loads(text)
    except (ValueError, RecursionError):
        return text
    texts = [block.get("text") if isinstance(block, dict) else block for block in blocks]
    return " ".join(part for part in texts if isinstance(part, str)) or text
