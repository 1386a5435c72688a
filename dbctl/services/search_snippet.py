"""The piece of a text in which words were found, with each of them between marks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

from dbctl.engines.fulltext import BEGIN, END

#: What is put before and behind each word that was found.
Marks: TypeAlias = tuple[str, str]
#: How many characters stand around what was found.
BEFORE, WHOLE = 40, 120


def shown(snippet: object, words: Sequence[str], marks: Marks) -> object:
    """Return a snippet of an index with ``marks`` in place of the engine's own, or around ``words`` where it has none."""
    if not isinstance(snippet, str):
        return snippet
    if BEGIN in snippet:
        return snippet.replace(BEGIN, marks[0]).replace(END, marks[1])
    return _marked(snippet, words, marks)


def around(texts: Sequence[object], words: Sequence[str], marks: Marks) -> str | None:
    """Return a piece of the first of ``texts`` that has one of ``words``; None where none has."""
    wanted = _pattern(words)
    for text in texts:
        found = wanted.search(text) if isinstance(text, str) and words else None
        if found and isinstance(text, str):
            begin = max(0, found.start() - BEFORE)
            piece = text[begin : max(begin + WHOLE, found.end())]
            whole = ("… " if begin else "") + piece + (" …" if begin + len(piece) < len(text) else "")
            return _marked(" ".join(whole.split()), words, marks)
    return None


def plain(text: object) -> object:
    """Return the texts of a JSON array of blocks; what is none, or holds none, as it is."""
    if not (isinstance(text, str) and text.lstrip().startswith("[")):
        return text
    import json  # noqa: PLC0415 - slow to import, and few apps keep texts so

    try:
        blocks = json.loads(text)
    except (ValueError, RecursionError):
        return text
    texts = [block.get("text") if isinstance(block, dict) else block for block in blocks]
    return " ".join(one for one in texts if isinstance(one, str)) or text


def _marked(text: str, words: Sequence[str], marks: Marks) -> str:
    if not (any(marks) and words):
        return text
    return _pattern(words).sub(lambda found: f"{marks[0]}{found[0]}{marks[1]}", text)


def _pattern(words: Sequence[str]) -> re.Pattern[str]:
    longest_first = sorted((word for word in words if word), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)
