r"""The lexer of MySQL and MariaDB, and the queries of users that only read.

The mode is that of dbctl's sessions: ``"`` quotes names, ``\`` is a character; see ``bind_parameters``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise

from dbctl.engines.parsing.lexer import Lexer, Token, TokenPattern
from dbctl.engines.parsing.statements import unquote_name

#: ``--`` begins a comment only before a space. The content of comments that servers run (``/*!``) is part of the statement.
LEXER = Lexer(
    [
        TokenPattern("text", "'[^']*", "'"),
        TokenPattern("name", '"[^"]*', '"'),
        TokenPattern("name", "`[^`]*", "`"),
        TokenPattern("comment", r"--(?=\s|\Z)[^\n]*"),
        TokenPattern("comment", r"#[^\n]*"),
        TokenPattern("comment", r"/\*(?!M?!).*?", r"\*/"),
        TokenPattern("space", r"\s+"),
        TokenPattern("word", r"@{0,2}\w[\w$]*"),
        TokenPattern("parameter", r":[^\W\d]\w*"),
        TokenPattern("end", ";"),
        TokenPattern("sign", r"/\*M?!|\*/|."),
    ]
)


def split_variants(sql: str) -> list[list[Token]]:
    """Return a statement as read by servers that run the content of comments (``/*!40000 … */``), and by others.

    The result has one item if there is no such comment, or nothing else.
    """
    with_comments: list[Token] = []
    without_comments: list[Token] = []
    in_comment = after_opening = False
    for token in LEXER.tokenize(sql):
        if token.kind == "sign" and len(token.text) > 1:
            in_comment = after_opening = token.text != "*/"
            continue
        # The first word inside begins with the oldest version that runs it.
        stripped = token._replace(text=token.text.lstrip("0123456789")) if after_opening else token
        after_opening = False
        if stripped.text:
            with_comments.append(stripped)
            without_comments += [] if in_comment else [stripped]
    has_content = any(token.kind not in ("space", "comment", "end") for token in without_comments)
    return (
        [with_comments, without_comments]
        if has_content and without_comments != with_comments
        else [with_comments]
    )


#: The first words of queries.
QUERY_WORDS = ("select", "with", "values", "table", "show", "explain", "describe", "desc", "(")
#: Words of statements that do more than read: they write, access files of the server, or acquire or release locks, including
#: that of dbctl.
WRITING_WORDS = frozenset(
    (
        "analyze call delete dumpfile get_lock insert load load_file lock outfile release_all_locks release_lock "
        "replace update"
    ).split()
)
#: Words that are functions if a bracket follows.
WRITING_FUNCTIONS = frozenset({"insert", "replace"})

#: Functions with external effects: on files of the server, its locks and logs, and programs.
EXTERNAL_FUNCTIONS = frozenset(
    (
        "binlog_gtid_pos get_lock load_file master_gtid_wait master_pos_wait release_all_locks release_lock "
        "source_pos_wait sys_eval sys_exec sys_get sys_set wait_for_executed_gtid_set"
    ).split()
)


#: Functions that the server does not ship.
STORED_FUNCTIONS = """select lower(routine_name) from information_schema.routines
where routine_type <> 'PROCEDURE' and routine_schema not in ('mysql', 'sys', 'information_schema', 'performance_schema')"""
#: Views with their statements.
VIEWS = """select lower(table_name), view_definition from information_schema.views
where table_schema not in ('mysql', 'sys', 'information_schema', 'performance_schema')"""
#: Where the server stores password hashes, and samples of column values.
SERVER_SECRETS = {
    "column_stats": ["min_value", "max_value", "histogram"],
    "column_statistics": ["histogram"],
    "global_priv": ["priv"],
    "servers": ["password"],
    "user": ["authentication_string", "password"],
}
SYSTEM = frozenset({"mysql", "information_schema"})
#: Words that follow the ``*`` for all columns.
AFTER_STAR = frozenset("except from group having intersect into limit order procedure union where".split())


def find_rejection(sql: str) -> str:
    """Return why a statement is not a query, or an empty text.

    A read-only transaction rejects writes to tables but not to files, and inside a writing transaction it rejects nothing.
    """
    significant = LEXER.read_significant(sql)
    first = significant[0].text.lower() if significant else ""
    if first not in QUERY_WORDS:
        return f"{first.upper() or 'an empty statement'} is not a query"
    for position, token in enumerate(significant):
        word = token.text.lower()
        if token.text in ("/*!", "/*M!"):
            return "it contains a comment that servers run"
        if token.kind == "end" and position < len(significant) - 1:
            return "it contains several statements"
        if token.kind != "word" or word not in WRITING_WORDS:
            continue
        following = significant[position + 1].text if position + 1 < len(significant) else ""
        before = significant[position - 1].text.lower() if position else ""
        if (
            (word in WRITING_FUNCTIONS and following == "(")
            or before == "."
            or (word == "update" and before == "for")
        ):
            continue
        if first == "show" or (first in ("explain", "describe", "desc") and word != "analyze"):
            continue  # it only describes such a statement
        return f"a query with {word.upper()} does more than read"
    return ""


def find_secret(sql: str, hidden: Mapping[str, Collection[str]]) -> str:
    """Return the first hidden column that a query names, or selects by ``*``; or an empty text.

    The server does not report which columns a statement reads, so every occurrence of a name is treated as a read.
    """
    if not hidden:
        return ""
    significant = LEXER.read_significant(sql)
    first = significant[0].text.lower() if significant else ""
    words = [_read_name(token) for token in significant if token.kind in ("word", "name")]
    if words[:2] == ["show", "grants"] or words[:3] == ["show", "create", "user"]:
        return "a password hash of the server"
    selects_all = first not in ("show", "describe", "desc") and any(
        _selects_all(significant, position) or (token.kind == "word" and token.text.lower() == "table")
        for position, token in enumerate(significant)
    )
    columns = {column.lower() for columns in hidden.values() for column in columns}
    server_secrets = SERVER_SECRETS if SYSTEM.intersection(words) else {}
    columns.update(name for table, names in server_secrets.items() if table in words for name in names)
    for table, names in (*server_secrets.items(), *hidden.items()):
        if selects_all and table.lower() in words:
            return f"{table}.{next(iter(names))}"
    return next((word for word in words if word in columns), "")


def _selects_all(significant: Sequence[Token], position: int) -> bool:
    """Return whether a ``*`` selects all columns: a multiplication has a second operand."""
    if significant[position].text != "*" or (position and significant[position - 1].text == "("):
        return False
    if position and significant[position - 1].text == ".":
        return True
    following = significant[position + 1] if position + 1 < len(significant) else None
    return following is None or following.text.lower() in AFTER_STAR or following.text in (",", ")", ";")


def _read_name(token: Token) -> str:
    return (unquote_name(token.text) if token.kind == "name" else token.text).lower()


def find_external_call(sql: str) -> str:
    """Return the first function with external effects that a query calls; or an empty text."""
    return next((name for name in _list_calls(sql) if name in EXTERNAL_FUNCTIONS), "")


def find_stored_function(sql: str, functions: Collection[str], views: Mapping[str, str]) -> str:
    """Return the first stored function that a query calls, also by the views that it reads; or an empty text.

    Args:
        sql: the query.
        functions: the names of stored functions and packages, in lower case.
        views: the statement of each view by its name in lower case; empty if the user may not read it.
    """
    waiting, seen = [sql], set[str]()
    while functions and waiting:
        statement = waiting.pop()
        if name := next((name for name in _list_calls(statement) if name in functions), ""):
            return name
        words = {_read_name(token) for token in LEXER.read_significant(statement)}
        for view in words.intersection(views) - seen:
            seen.add(view)
            definition = views[view]
            if not definition:
                return f"of the view {view}"
            waiting.append(definition)
    return ""


def _list_calls(sql: str) -> Iterator[str]:
    """Yield the names that a bracket follows, and those before a dot, which may be packages, in lower case."""
    significant = LEXER.read_significant(sql)
    for token, following in pairwise(significant):
        if token.kind in ("word", "name") and following.text in ("(", "."):
            yield _read_name(token)
