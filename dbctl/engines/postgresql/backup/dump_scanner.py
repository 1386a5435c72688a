"""What the text of a dump tells while it passes by: the rows of each table, and whether it came to its end."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping

#: The last words of a whole dump.
END = b"\n-- PostgreSQL database dump complete\n"
_NAME = rb'(?:[^\s."()]+|"(?:[^"]|"")*")'
_COPY = re.compile(
    rb"\nCOPY (" + _NAME + rb")\.(" + _NAME + rb') (?:\((?:[^()"]|"(?:[^"]|"")*")*\))? FROM stdin;(?=\n)'
)
#: What stands before rows; without it, such a line belongs to a text.
_BEFORE = re.compile(rb"; Type: TABLE DATA; [^\n]*\n--\n\n\Z")
#: Bytes of what has passed that may be needed to understand what comes, and the longest line that begins rows.
LOOK_BACK, LONGEST_LINE = 4096, 1 << 20


class Reading:
    """A dump that is read, block by block, however the blocks are cut."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], int] = {}  #: by schema and table
        self._text = b"\n"
        self._table: tuple[str, str] | None = None  #: whose rows are passing by
        self._seen = 0  #: how much of ``_text`` needs no second look

    def feed(self, block: bytes) -> None:
        """Read on."""
        self._text += block
        while self._rows() if self._table else self._words():
            pass

    def _words(self) -> bool:
        """Look for the next table; return whether its rows begin."""
        text = self._text
        at = text.find(b"\nCOPY ", self._seen)
        while at >= 0:
            if _BEFORE.search(text, max(0, at - LOOK_BACK), at + 1):
                found = _COPY.match(text, at)
                if found:
                    self._table = _plain(found[1]), _plain(found[2])
                    self.rows[self._table] = 0
                    self._text, self._seen = text[found.end() :], 0
                    return True
                if len(text) - at < LONGEST_LINE:  # it may go on in the next block
                    self._seen = at
                    return False
            at = text.find(b"\nCOPY ", at + 1)
        self._text = text[-LOOK_BACK:]
        self._seen = max(0, len(self._text) - len(b"\nCOPY "))
        return False

    def _rows(self) -> bool:
        """Count rows; return whether they have ended."""
        if self._table is None:
            raise RuntimeError("rows of no table")
        end = self._text.find(b"\n\\.\n")
        cut = end if end >= 0 else max(0, len(self._text) - 3)
        self.rows[self._table] += self._text.count(b"\n", 0, cut)
        self._text = self._text[cut:]
        if end >= 0:
            self._table = None
            self._text, self._seen = self._text[3:], 0
        return end >= 0

    @property
    def whole(self) -> bool:
        """Whether it came to its end."""
        return self._table is None and END in self._text


def told(rows: Mapping[tuple[str, str], int], path: str) -> dict[str, int]:
    """Return the rows by table as the app calls them: what its search path finds needs no schema before it.

    Args:
        rows: by schema and table.
        path: the schemas of the search path, in their order, as JSON.
    """
    schemas = list[str](json.loads(path or "[]"))
    found = dict[str, tuple[int, str, int]]()
    for schema, table in rows:
        at = schemas.index(schema) if schema in schemas else len(schemas)
        hidden = at == len(schemas) or any((one, table) in rows for one in schemas[:at])
        found[f"{schema}.{table}" if hidden else table] = (at, table, rows[schema, table])
    return {name: found[name][2] for name in sorted(found, key=lambda one: (found[one], one))}


def into_schemas(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Let a dump make only those schemas that are not there; such statements come before everything else."""
    held, blocks = b"", iter(blocks)
    for block in blocks:
        held += block
        # Behind them and the extensions comes something that begins otherwise, at the latest the end of the dump.
        if _OTHER.search(held) or len(held) > LONGEST_LINE:
            break
    yield _SCHEMA.sub(unless_there, _COMMENT.sub(b"", held))
    yield from blocks


def for_server(blocks: Iterable[bytes], version: int) -> Iterator[bytes]:
    """Leave out of a dump where it begins and ends a transaction, and what a server of that version does not know.

    A program writes what servers of its own version know, also where the dump is of an older one.

    Raises:
        ValueError: it begins a transaction, and does not end it where it ends itself.
    """
    held, blocks = b"", iter(blocks)
    for block in blocks:
        held += block
        if _HEAD_ENDS.search(held) or len(held) > LONGEST_LINE:
            break
    for name, since in _LATER.items():
        if version < since:
            held = held.replace(b"\nSET " + name + b" = 0;\n", b"\n", 1)
    head, begun, held = held.partition(b"\nBEGIN;\n")
    if not begun or not _HEAD_ENDS.search(held):
        yield head + begun + held
        yield from blocks
        return
    yield head + b"\n"
    for block in blocks:
        yield held[:-LOOK_BACK]
        held = held[-LOOK_BACK:] + block
    text, ended, end = held.rpartition(b"\nCOMMIT;\n\n--" + END)
    if END in held and not ended:
        raise ValueError("a transaction that does not end")
    yield text + (b"\n--" + END if ended else b"") + end


def unless_there(found: re.Match[bytes]) -> bytes:
    """Return a statement that creates a schema, the first group of a match, where it is missing."""
    # With IF NOT EXISTS it would want the right to create schemas even where nothing is to be created.
    name = found[1].replace(b"'", b"''")
    return (
        b"do $dbctl$ begin if to_regnamespace(E'" + name.replace(b"\\", b"\\\\") + b"') is null then "
        b"create schema " + found[1] + b"; end if; end $dbctl$;\n"
    )


#: What the head sets, by the version that brought it.
_LATER = {b"transaction_timeout": 17}
_HEAD_ENDS = re.compile(rb"\nSET client_min_messages = [^\n]*\n")
_SCHEMA = re.compile(rb"(?<=\n)CREATE SCHEMA (" + _NAME + rb");\n")
#: What every new database says of it, and what an extension that stays says of itself; only their owners may, and to say
#: it again changes nothing.
_COMMENT = re.compile(
    rb"(?<=\n)COMMENT ON (?:SCHEMA public IS 'standard public schema'|EXTENSION "
    + _NAME
    + rb" IS '(?:[^']|'')*');\n"
)
_OTHER = re.compile(
    rb"\n(?:CREATE (?!SCHEMA |EXTENSION )|COPY |-- PostgreSQL database dump complete)[^\n]*\n"
)


def _plain(name: bytes) -> str:
    text = name.decode(errors="surrogateescape")
    return text[1:-1].replace('""', '"') if text.startswith('"') else text
