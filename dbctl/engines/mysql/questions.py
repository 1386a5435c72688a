"""Whether a statement that a person or a profile wrote is a question, and nothing else."""

from __future__ import annotations

from dbctl.engines.mysql.tokens import tokens

#: What a question begins with.
ASKING = ("select", "with", "values", "table", "show", "explain", "describe", "desc", "(")
#: What makes more of one: it writes, writes a file on the server, or takes locks.
BEYOND = frozenset(
    {"insert", "update", "delete", "replace", "outfile", "dumpfile", "call", "load", "analyze", "lock"}
)
#: Functions that one of those words may be, where a bracket follows it.
FUNCTIONS = frozenset({"insert", "replace"})


def why_no_question(sql: str) -> str:
    """Return why a statement is none, or nothing.

    A read-only transaction refuses what writes rows, but neither files nor, inside one that writes, anything at all.
    """
    held = [token for token in tokens(sql) if token.kind not in ("space", "comment")]
    first = held[0].text.lower() if held else ""
    if first not in ASKING:
        return f"{first.upper() or 'nothing'} is no question"
    for at, token in enumerate(held):
        word = token.text.lower()
        if token.text in ("/*!", "/*M!"):
            return "it holds a comment that servers run"
        if token.kind == "end" and at < len(held) - 1:
            return "it holds several statements"
        if token.kind != "word" or word not in BEYOND:
            continue
        following = held[at + 1].text if at + 1 < len(held) else ""
        before = held[at - 1].text.lower() if at else ""
        if (
            (word in FUNCTIONS and following == "(")
            or before == "."
            or (word == "update" and before == "for")
        ):
            continue
        if first == "show" or (first in ("explain", "describe", "desc") and word != "analyze"):
            continue  # it tells of such a statement
        return f"a question with {word.upper()} in it does more than ask"
    return ""
