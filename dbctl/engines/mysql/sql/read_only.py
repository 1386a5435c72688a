"""Whether a statement that a person or a profile wrote is a question, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

from dbctl.engines.mysql.sql.lexer import tokens
from dbctl.engines.parsing import Token

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

#: Functions that reach out of the tables: files of the server, its locks and its logs, and programs.
REACHING = frozenset(
    [
        "binlog_gtid_pos",
        "get_lock",
        "load_file",
        "master_gtid_wait",
        "master_pos_wait",
        "release_all_locks",
        "release_lock",
        "source_pos_wait",
        "sys_eval",
        "sys_exec",
        "sys_get",
        "sys_set",
        "wait_for_executed_gtid_set",
    ]
)


#: Where the server keeps hashes of its own, and samples of the values of all columns.
SERVER = {
    "column_stats": ["min_value", "max_value", "histogram"],
    "column_statistics": ["histogram"],
    "global_priv": ["priv"],
    "servers": ["password"],
    "user": ["authentication_string", "password"],
}
SYSTEM = frozenset({"mysql", "information_schema"})
#: Words that follow the ``*`` of all columns.
BEHIND_ALL = frozenset(
    [
        "except",
        "from",
        "group",
        "having",
        "intersect",
        "into",
        "limit",
        "order",
        "procedure",
        "union",
        "where",
    ]
)


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
    if not hidden:
        return ""
    held = [token for token in tokens(sql) if token.kind not in ("space", "comment")]
    first = held[0].text.lower() if held else ""
    words = [_plain(token.text) for token in held if token.kind in ("word", "name")]
    if words[:2] == ["show", "grants"] or words[:3] == ["show", "create", "user"]:
        return "the hash of a password of the server"
    whole = first not in ("show", "describe", "desc") and any(
        _takes_all(held, at) or (token.kind == "word" and token.text.lower() == "table")
        for at, token in enumerate(held)
    )
    columns = {column.lower() for columns in hidden.values() for column in columns}
    server = SERVER if SYSTEM.intersection(words) else {}
    columns.update(name for table, names in server.items() if table in words for name in names)
    for table, names in (*server.items(), *hidden.items()):
        if whole and table.lower() in words:
            return f"{table}.{next(iter(names))}"
    return next((word for word in words if word in columns), "")


def _takes_all(held: Sequence[Token], at: int) -> bool:
    """Whether a ``*`` stands for all columns: it multiplies where something to multiply with follows."""
    if held[at].text != "*" or (at and held[at - 1].text == "("):
        return False
    if at and held[at - 1].text == ".":
        return True
    after = held[at + 1] if at + 1 < len(held) else None
    return after is None or after.text.lower() in BEHIND_ALL or after.text in (",", ")", ";")


def _plain(text: str) -> str:
    quote = text[0]
    return (text[1:-1].replace(quote * 2, quote) if quote in '"`' else text).lower()


def reaching(sql: str) -> str:
    """Return the first function that a question calls and that does more than read tables; or nothing."""
    held = [token for token in tokens(sql) if token.kind not in ("space", "comment")]
    called = (
        _plain(token.text)
        for token, after in pairwise(held)
        if token.kind in ("word", "name") and after.text == "("
    )
    return next((name for name in called if name in REACHING), "")
