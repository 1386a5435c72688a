"""Suggestions for misspelled names ("did you mean")."""

from __future__ import annotations

from collections.abc import Collection


def find_similar(word: str, known: Collection[str]) -> list[str]:
    """Return the names in ``known`` that resemble ``word``, without regard to case; the most similar first."""
    from difflib import get_close_matches

    names_by_folded = {name.casefold(): name for name in known}
    return [names_by_folded[key] for key in get_close_matches(word.casefold(), names_by_folded)]


def suggest_sentence(word: str, known: Collection[str]) -> str:
    """Return a sentence with similar names, to append to a message; empty if there are none."""
    suggestions = find_similar(word, known)
    return f" Did you mean {' or '.join(suggestions)}?" if suggestions else ""


def suggest_question(word: str, known: Collection[str]) -> str:
    """Return a question with similar names, to append to a word; empty if there are none."""
    suggestions = find_similar(word, known)
    return f" (did you mean {' or '.join(suggestions)}?)" if suggestions else ""
