"""Words that were perhaps meant by one that is not known."""

from __future__ import annotations

from collections.abc import Collection


def nearest(word: str, known: Collection[str]) -> list[str]:
    """Return what of ``known`` is like ``word``, whose case does not count; the nearest first."""
    from difflib import get_close_matches

    folded = {name.casefold(): name for name in known}
    return [folded[key] for key in get_close_matches(word.casefold(), folded)]


def hint(word: str, known: Collection[str]) -> str:
    """Return a sentence that names them, to be put behind another; empty where nothing is near."""
    suggestions = nearest(word, known)
    return f" Near: {', '.join(suggestions)}." if suggestions else ""


def question(word: str, known: Collection[str]) -> str:
    """Return a question after them, to be put behind a word; empty where nothing is near."""
    suggestions = nearest(word, known)
    return f" (did you mean {' or '.join(suggestions)}?)" if suggestions else ""
