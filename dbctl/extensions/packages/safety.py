"""What an installed profile must not contain: statements that change something, or functions that reach beyond the database."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

#: A key of a profile, and the reason why it is refused.
Unsafe: TypeAlias = tuple[Sequence[str | int], str]

#: Keys with a query, at any depth.
_QUERIES = frozenset({"sql", "select"})
#: Functions and types of queries; a function that reads files, runs programs or changes the server is not among them.
_FUNCTIONS = frozenset(
    "abs avg cast ceil ceiling char char_length coalesce concat count current_date date datetime date_trunc decimal extract floor"
    " from_unixtime greatest group_concat hex ifnull iif instr json_array_length json_each json_extract json_object json_type json_unquote"
    " json_valid julianday least left length lower ltrim max min mod now nullif numeric position printf replace right round rtrim"
    " split_part strftime string_agg strpos substr substring sum timestampdiff to_char to_timestamp total trim unix_timestamp unixepoch"
    " upper varchar".split()
)  # fmt: skip
#: Words before a parenthesis that are no functions.
_SYNTAX = frozenset(
    "all and any as between by case distinct else except exists filter from having in inner intersect join left like limit not offset"
    " on or over partition right select some then union using values when where".split()
)  # fmt: skip
#: Words that make a query write, lock, or leave the database.
_FORBIDDEN = frozenset(
    "alter analyze attach begin call commit copy create delete detach do drop dumpfile execute explain grant handler insert into"
    " listen load lock merge notify outfile pragma procedure reindex release returning revoke rollback savepoint set truncate update"
    " use vacuum".split()
)  # fmt: skip
#: Settings of SQLite files that apps use; others could execute or disclose something.
_PRAGMAS = frozenset(
    {
        "auto_vacuum",
        "busy_timeout",
        "cache_size",
        "encoding",
        "foreign_keys",
        "journal_mode",
        "journal_size_limit",
    }
    | {"mmap_size", "page_size", "synchronous", "temp_store", "wal_autocheckpoint"}
)
_PRAGMA_VALUE = re.compile(r"[A-Za-z0-9_-]{1,32}")
#: Subscripts of arrays, which are in SQLite names of digits, but no functions.
_SUBSCRIPT = re.compile(r"(?<=[\w)\]\"])\s*\[\d*:?\d+\]")
#: Comments, further statements, variables, and quotes of single engines.
_UNSUPPORTED = re.compile(r"/\*|--|[;#$@\[]")
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`")
_WORD = re.compile(r"[A-Za-z_]\w*|\"")


def find_unsafe(values: Mapping[str, object]) -> Iterator[Unsafe]:
    """Yield the keys of a profile, as TOML values, that could run something, or change rows without a command about them."""
    yield from _find_queries(values, ())
    databases = values.get("databases")
    for name, section in databases.items() if isinstance(databases, dict) else ():
        for key in ("pragmas", "create"):
            for pragma, value in section.get(key, {}).items():
                if pragma.lower() not in _PRAGMAS or not _PRAGMA_VALUE.fullmatch(str(value)):
                    yield ("databases", name, key, pragma), "this pragma is not allowed"


def _find_queries(value: object, path: tuple[str | int, ...]) -> Iterator[Unsafe]:
    if isinstance(value, dict):
        for key, item in value.items():
            place = (*path, key)
            texts = item.values() if isinstance(item, dict) else [item]  # perhaps one for each engine
            if key in _QUERIES:
                yield from ((place, reason) for text in texts if (reason := find_query_problem(str(text))))
            elif key == "earlier" and "migrations" in path:
                yield place, "it contains statements of migrations"
            elif key == "create" and isinstance(item, (str, dict)) and path[:-1] != ("databases",):
                # the table of a ledger; that of a database are pragmas
                yield from ((place, reason) for text in texts if (reason := find_table_problem(str(text))))
            else:
                yield from _find_queries(item, place)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _find_queries(item, (*path, index))


def find_query_problem(sql: str) -> str:
    """Return why a text is not a single query that only reads tables; empty: it is one."""
    if not sql.strip():
        return ""
    text, reason = _strip(sql)
    words = [word.lower() for word in _WORD.findall(text)]
    if reason or words[:1] not in (["select"], ["with"]):
        return reason or "it is no query: it does not begin with SELECT or WITH"
    return _find_word_problem(text, words)


def find_table_problem(sql: str) -> str:
    """Return why a text is not a single CREATE TABLE without a query; empty: it is one."""
    text, reason = _strip(sql)
    words = [word.lower() for word in _WORD.findall(text)]
    if reason or words[:2] != ["create", "table"]:
        return reason or "it is no CREATE TABLE"
    if "select" in words:
        return "it contains a query"
    return next((f"it contains {word.upper()}" for word in words[1:] if word in _FORBIDDEN - {"set"}), "")


def _strip(sql: str) -> tuple[str, str]:
    """Return a text with a quote in place of each quoted name, and without literals, and why it is refused; empty: it is not."""
    if "\\" in sql:
        return "", "it contains a backslash, which only some engines read as an escape"
    text = _QUOTED.sub(lambda match: " " if match[0][0] == "'" else ' " ', sql.strip().removesuffix(";"))
    text = _SUBSCRIPT.sub(" ", text)
    if match := _UNSUPPORTED.search(text):
        return text, f"it contains {match[0]!r}, which may hide or separate statements"
    return text, "it has an unfinished quote" if "'" in text or "`" in text else ""


def _find_word_problem(text: str, words: Sequence[str]) -> str:
    for word in words:
        if word in _FORBIDDEN:
            return f"it contains {word.upper()}"
    for match in re.finditer(r"([\w\"]+)\s*\(", text):
        name = match[1].lower()
        if name not in _FUNCTIONS | _SYNTAX or text[: match.start()].rstrip().endswith("."):
            return f"the function {name} is not among those that only compute values"
    if re.search(r"\bfor\s+(update|share|no\s+key|key)\b", text, re.IGNORECASE):
        return "it locks rows"
    if re.search(r"\bnext\s+value\s+for\b", text, re.IGNORECASE):
        return "it changes a sequence"
    return ""
