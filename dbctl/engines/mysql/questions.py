"""Whether a statement that a person or a profile wrote is a question, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dbctl.engines.mysql.tokens import tokens

#: What a question begins with.
ASKING = ("select", "with", "values", "table", "show", "explain", "describe", "desc", "(")
#: What makes more of one: it writes, writes or reads a file on the server, or takes locks, or gives them back: also that
#: of dbctl itself.
BEYOND = frozenset(
    [
        "analyze",
        "call",
        "delete",
        "dumpfile",
        "get_lock",
        "insert",
        "load",
        "load_file",
        "lock",
        "outfile",
        "release_all_locks",
        "release_lock",
        "replace",
        "update",
    ]
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


def secret_named(sql: str, hidden: Mapping[str, Collection[str]]) -> str:
    """Return the first of the hidden columns, by table, that a question names, or takes along with all others; or nothing.

    A server tells of no statement which columns it reads, so names count wherever they stand.
    """
    held = [token for token in tokens(sql) if token.kind not in ("space", "comment")]
    words = [_plain(token.text) for token in held if token.kind in ("word", "name")]
    whole = held[:1] and held[0].text.lower() == "table"
    for at, token in enumerate(held):
        before = held[at - 1].text.lower() if at else ""
        if token.text == "*" and before in ("select", "distinct", "all", ",", "."):
            whole = True
    columns = {column.lower() for columns in hidden.values() for column in columns}
    for table, names in hidden.items():
        if whole and table.lower() in words:
            return f"{table}.{next(iter(names))}"
    return next((word for word in words if word in columns), "")


def _plain(text: str) -> str:
    quote = text[0]
    return (text[1:-1].replace(quote * 2, quote) if quote in '"`' else text).lower()
