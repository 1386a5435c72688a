"""Suggestions for misspelled names ("did you mean")."""

from __future__ import annotations

from collections.abc import Collection

#: Names that are compared; of more, only those that begin or end as the misspelled one.
MAX_COMPARED = 2000


def find_similar(name: str, known: Collection[str]) -> list[str]:
    """Return up to three names in ``known`` that are almost ``name``, without regard to case; otherwise the most similar name."""
    from difflib import get_close_matches

    prefix = "--" if name.startswith("--") else ""  # it would make all options similar
    folded = name.casefold().removeprefix(prefix)
    names_by_folded = {other.casefold().removeprefix(prefix): other for other in known if other != name}
    if len(names_by_folded) > MAX_COMPARED:
        ends = folded[:2], folded[-2:]
        alike = [other for other in names_by_folded if other.startswith(ends[0]) or other.endswith(ends[1])]
        names_by_folded = {other: names_by_folded[other] for other in alike[:MAX_COMPARED]}
    similar = get_close_matches(folded, names_by_folded, cutoff=0.75) or get_close_matches(
        folded, names_by_folded, n=1
    )
    return [names_by_folded[other] for other in similar]


def suggest_sentence(name: str, known: Collection[str]) -> str:
    """Return a question with similar names as a sentence; empty if there are none."""
    similar = " or ".join(map(repr, find_similar(name, known)))
    return f"Did you mean {similar}?" if similar else ""


def suggest_question(name: str, known: Collection[str]) -> str:
    """Return a question with similar names, to append to a word; empty if there are none."""
    similar = " or ".join(map(repr, find_similar(name, known)))
    return f" (did you mean {similar}?)" if similar else ""
