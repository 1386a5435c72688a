r"""Statements of dumps: meta-commands of psql are rejected, roles and tablespaces that a server lacks are replaced.

psql executes a meta-command wherever a backslash occurs outside of quotes: ``\!`` starts a shell, ``\connect`` opens
another database. Only ``\restrict`` is allowed, which newer programs write and which disables all others. The scanner
follows the rules of psql's own scanner, and rejects text that is ambiguous under them.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator

from dbctl.engines.contract.dumps import Dump
from dbctl.engines.postgresql.dump_programs import unquote_name
from dbctl.engines.postgresql.session import Session
from dbctl.engines.sql.catalog import ident
from dbctl.model import format_count

#: Maximum bytes of a token: of a string, or the body of a function.
MAX_TOKEN_BYTES = 1 << 28
_TOKEN = re.compile(
    rb"""
      (?P<space> [\s]+ | --[^\n\r]*[\n\r] | \\(?:un)?restrict\ [A-Za-z0-9]+\n)
    | (?P<partial> --[^\n\r]*\Z | \$[A-Za-z0-9_\x80-\xff]*\Z | \\u?n?r?[restict]*(?:\ [A-Za-z0-9]*)?\Z)
    | (?P<comment> /\*)
    | (?P<two> [0-9][eE]')
    | (?P<escaped> [eE]')
    | (?P<plain> (?:[bBxXnN]|[uU]&)?')
    | (?P<name> (?:[uU]&)?")
    | (?P<dollar> \$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$)
    | (?P<word> [A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*)
    | (?P<sign> .)
    """,
    re.VERBOSE | re.DOTALL,
)
_DOUBLED = re.compile(rb"(?:[^']|'')*'(?!')")
_ESCAPED = re.compile(rb"(?:[^'\\]|\\.|'')*'(?!')", re.DOTALL)
_NAME = re.compile(rb'(?:[^"]|"")*"(?!")')
_COMMENT = re.compile(rb"/\*|\*/")
#: A backslash before a quote: whether the string ends depends on a setting that a dump may change.
_AMBIGUOUS = re.compile(rb"\\'")
#: The form in which pg_dump writes rows.
_COPY = re.compile(
    rb"COPY\s(?:[^\s.\"();']+|\"(?:[^\"]|\"\")*\")(?:\.(?:[^\s.\"();']+|\"(?:[^\"]|\"\")*\"))?\s*"
    rb"(?:\((?:[^()\"';]|\"(?:[^\"]|\"\")*\")*\)\s)?\s*FROM\sstdin;",
    re.IGNORECASE,
)
#: Invalid escapes in rows. pg_dump writes only the listed ones, and no psql meta-command with external effects begins
#: with one of them.
_BAD_ESCAPE = re.compile(rb"\\(?![bfnrtvN])")


class PsqlCommandError(ValueError):
    """The text contains a psql meta-command, or may contain one; the message describes it."""


class PsqlScanner:
    """Scanner of text, block by block; blocks may end anywhere."""

    trusts_strings = False  #: whether no statement changes what a backslash means in a string

    def __init__(self) -> None:
        self._text, self._position = b"", 0
        self._in_rows = False
        self.copies = 0  #: COPY statements that were read
        self._begin_statement()

    def _begin_statement(self) -> None:
        self._statement_text = b""  #: the beginning of the statement, long enough for any COPY
        self._words = list[bytes]()
        self._parentheses = self._bodies = 0

    def feed(self, block: bytes) -> None:
        """Scan the next block.

        Raises:
            PsqlCommandError: the text contains a meta-command, or may contain one.
        """
        self._text, self._position = self._text[self._position :] + block, 0
        while self._scan_rows() if self._in_rows else self._scan_token(last=False):
            pass
        if len(self._text) - self._position > MAX_TOKEN_BYTES:
            raise PsqlCommandError("a string without an end")

    def finish(self) -> None:
        """Scan the remaining text; raises as ``feed``."""
        self._text += b"\n"
        while not self._in_rows and self._position < len(self._text) and self._scan_token(last=True):
            pass

    def _scan_rows(self) -> bool:
        """Skip rows; return whether they have ended."""
        text = self._text[self._position :]
        begin, end = _find_end_of_rows(text)
        complete = begin if end else text.rfind(b"\n") + 1
        escaped = text[:complete].replace(b"\\\\", b"")
        if bad := _BAD_ESCAPE.search(escaped):
            raise PsqlCommandError(
                f"rows with an invalid escape ({_decode(escaped[bad.start() : bad.start() + 20])}"
            )
        self._position += end or complete
        self._in_rows = not end
        return bool(end)

    def _scan_token(self, *, last: bool) -> bool:
        """Scan one token; return whether it was complete."""
        match = _TOKEN.match(self._text, self._position)
        # A token at the end may continue in the next block; a sign may be the first of two.
        if match is None or (not last and len(self._text) - match.end() < 3):  # noqa: PLR2004 - the longest opening
            return False
        kind, token = match.lastgroup, match.group()
        end = match.end()
        if kind == "partial" and not last:
            return False
        if kind not in ("space", "word", "sign", "partial"):
            token_end = self._find_end(kind or "", token, match.end())
            if token_end < 0:
                if last:
                    raise PsqlCommandError("a string without an end")
                return False
            end = token_end
        elif kind == "word":
            self._scan_word(token.lower())
        elif kind == "sign" or (token.startswith(b"\\") and kind == "partial"):
            self._scan_sign(token[:1])
        if kind != "comment" and not (
            kind == "space" and (not self._statement_text or token.startswith(b"--"))
        ):
            self._statement_text += (
                self._text[self._position : end] if len(self._statement_text) < MAX_TOKEN_BYTES >> 12 else b""
            )
        self._position = end
        if token == b";" and not (self._parentheses or self._bodies):
            self._end_statement()
        return True

    def _find_end(self, kind: str, opening: bytes, begin: int) -> int:
        """Return where a token ends; -1 if the end is not in the text."""
        text = self._text
        if kind == "comment":
            return self._find_comment_end(begin)
        if kind == "dollar":
            position = text.find(opening, begin)
            return position + len(opening) if position >= 0 else -1
        if kind == "two":
            raise PsqlCommandError(f"{_decode(opening)}, which is ambiguous")
        pattern = {"escaped": _ESCAPED, "plain": _DOUBLED, "name": _NAME}[kind]
        match = pattern.match(text, begin)
        if match is None or match.end() >= len(text):  # it may be doubled in the next block
            return -1
        if kind == "plain" and not self.trusts_strings and _AMBIGUOUS.search(text, begin, match.end()):
            raise PsqlCommandError(
                "a string with a backslash before a quote, which is ambiguous (use a dump without --inserts)"
            )
        return match.end()

    def _find_comment_end(self, begin: int) -> int:
        depth = 1
        for match in _COMMENT.finditer(self._text, begin):
            depth += 1 if match.group() == b"/*" else -1
            if not depth:
                return match.end()
        return -1

    def _scan_word(self, word: bytes) -> None:
        if len(self._words) < 4:  # noqa: PLR2004 - create or replace function
            self._words.append(word)
        words = [previous for previous in self._words if previous not in (b"or", b"replace")]
        if (
            words[:1] == [b"create"]
            and words[1:2] in ([b"function"], [b"procedure"])
            and not self._parentheses
        ):
            # In the body of such a function, a semicolon does not end the statement.
            if word == b"begin":
                self._bodies += 1
            elif word == b"case":
                self._bodies += self._bodies > 0
            elif word == b"end":
                self._bodies -= self._bodies > 0

    def _scan_sign(self, sign: bytes) -> None:
        if sign == b"\\":
            line = self._text[self._position :].partition(b"\n")[0][:40]
            raise PsqlCommandError(f"a psql meta-command ({_decode(line)})")
        if sign == b"(":
            self._parentheses += 1
        elif sign == b")":
            self._parentheses -= self._parentheses > 0

    def _end_statement(self) -> None:
        if self._words[:1] == [b"copy"]:
            if not _COPY.fullmatch(self._statement_text):
                raise PsqlCommandError(
                    f"rows in a form that pg_dump does not write ({_decode(self._statement_text[:60])})"
                )
            # The rows begin with the next line.
            line_end = self._text.find(b"\n", self._position)
            if line_end < 0 or self._text[self._position : line_end].strip():
                raise PsqlCommandError("rows on the line of their COPY statement")
            self._position, self._in_rows = line_end + 1, True
            self.copies += 1
        self._begin_statement()


def _find_end_of_rows(text: bytes) -> tuple[int, int]:
    """Return the beginning and the end of the line that ends rows; 0 and 0 if it is missing."""
    for line in (b"\\.\n", b"\\.\r\n"):
        if text.startswith(line):
            return 0, len(line)
    matches = [
        (position + 1, position + 1 + len(line))
        for line in (b"\\.\n", b"\\.\r\n")
        if (position := text.find(b"\n" + line)) >= 0
    ]
    return min(matches, default=(0, 0))


def _decode(text: bytes) -> str:
    return text.decode(errors="replace").strip()


#: A name as pg_dump writes it.
NAME = rb'(?:[A-Za-z_\x80-\xff][\w$\x80-\xff]*|"(?:[^"]|"")*")'


class StatementFilter(PsqlScanner, ABC):
    def __init__(self) -> None:
        self._pending, self._finished_text = list[bytes](), b""
        self._output = list[bytes]()
        super().__init__()

    @abstractmethod
    def describe_changes(self) -> Iterable[str]:
        """Return a sentence about each kind of change."""

    @abstractmethod
    def change_statement(self, statement: bytes, text: bytes) -> bytes:
        """Return what replaces the text of a statement; ``statement`` is its beginning without comments."""

    def _scan_rows(self) -> bool:
        begin = self._position
        text, ended = self._text, super()._scan_rows()
        self._output.append(text[begin : self._position])
        return ended

    def _scan_token(self, *, last: bool) -> bool:
        begin, self._finished_text = self._position, b""
        if not super()._scan_token(last=last):
            return False
        token = self._text[begin : self._position]
        if self._finished_text:
            self._output.append(self.change_statement(self._finished_text, b"".join([*self._pending, token])))
            self._pending = []
        elif self._statement_text:
            self._pending.append(token)
        else:  # a blank or a comment before a statement
            self._output.append(token)
        return True

    def _end_statement(self) -> None:
        self._finished_text = self._statement_text
        super()._end_statement()

    def filter(self, blocks: Iterable[bytes], remarks: list[str]) -> Iterator[bytes]:
        """Yield the changed text; ``remarks`` gets what the user should know about the changes."""
        for block in blocks:
            self.feed(block)
            yield b"".join(self._output)
            self._output = []
        self.finish()
        yield b"".join([*self._output, *self._pending])
        remarks.extend(self.describe_changes())


_NAMES = NAME + rb"(?:\s*,\s*" + NAME + rb")*"
#: Statements of pg_dump that name roles, each with the text between the names.
_ROLE_STATEMENTS = [
    re.compile(pattern, re.DOTALL)
    for pattern in (
        rb"(ALTER\s+DEFAULT\s+PRIVILEGES\s+FOR\s+ROLE\s+)("
        + NAME
        + rb")(\s.*\s(?:TO|FROM)\s+)("
        + NAME
        + rb")"
        rb"((?:\s+WITH\s+GRANT\s+OPTION)?\s*;)",
        rb"(ALTER\s.*\sOWNER\s+TO\s+)(" + NAME + rb")(\s*;)",
        rb"(GRANT\s.*\sTO\s+)(" + NAME + rb")((?:\s+WITH\s+GRANT\s+OPTION)?\s*;)",
        rb"(REVOKE\s.*\sFROM\s+)(" + NAME + rb")(\s*;)",
        rb"(SET\s+SESSION\s+AUTHORIZATION\s+)(" + NAME + rb")(\s*;)",
        rb"(CREATE\s+USER\s+MAPPING\s+FOR\s+)(" + NAME + rb")(\s+SERVER\s.*)",
        rb"(CREATE\s+POLICY\s+"
        + NAME
        + rb"\s+ON\s.*?\sTO\s+)("
        + _NAMES
        + rb")(\s+(?:USING|WITH\s+CHECK)\s.*|\s*;)",
    )
]
#: Words in the place of a role.
_PUBLIC = (b"PUBLIC", b"DEFAULT")


class RoleFilter(StatementFilter):
    """Filter that replaces roles in a dump of dbctl, and removes statements about missing ones."""

    trusts_strings = True

    def __init__(self, resolve: Callable[[str], str | None]) -> None:
        """Replace each role by the one that ``resolve`` returns; None: statements about it are left out."""
        self._resolve = resolve
        self._omitted = Counter[str]()  #: statements by role
        super().__init__()

    def describe_changes(self) -> Iterable[str]:
        return [
            f"role {role} is missing: {format_count(count, 'statement')} about its ownership and grants left out"
            for role, count in self._omitted.items()
        ]

    def change_statement(self, statement: bytes, text: bytes) -> bytes:
        match = next(filter(None, (pattern.fullmatch(statement) for pattern in _ROLE_STATEMENTS)), None)
        if match is None:
            return text
        # Text and names alternate.
        parts = [
            part if index % 2 == 0 else self._replace_names(part) for index, part in enumerate(match.groups())
        ]
        if not all(parts):  # a policy for missing roles, or a grant to one
            return b""
        changed = b"".join(parts)
        return text if changed == statement else changed

    def _replace_names(self, names: bytes) -> bytes:
        """Return the roles that replace those of a list; empty: none."""
        remaining = list[bytes]()
        for name in re.findall(NAME, names):
            role = unquote_name(name)
            replacement = role if name.upper() in _PUBLIC else self._resolve(role)
            if replacement is None:
                self._omitted[role] += 1
            else:
                remaining.append(name if replacement == role else ident(replacement).encode())
        return b", ".join(remaining)


#: Of tables, indexes and materialized views.
_USED = """select coalesce(jsonb_agg(distinct t.spcname), '[]')::text from pg_catalog.pg_class c
join pg_catalog.pg_tablespace t on t.oid = c.reltablespace where c.oid >= 16384"""
_DEFAULT = """select t.spcname::text from pg_catalog.pg_database d
join pg_catalog.pg_tablespace t on t.oid = d.dattablespace where d.datname = $1"""
_EXISTING = "select spcname::text from pg_catalog.pg_tablespace"
_SETTING = re.compile(rb"SET default_tablespace = (.+?);?", re.DOTALL)


class _TablespaceFilter(StatementFilter):
    """Filter that replaces missing tablespaces by the default one of the database, and does not name that one.

    A server refuses partitioned tables in the default tablespace if a setting names it.
    """

    trusts_strings = True

    def __init__(self, existing: Collection[str], default: str) -> None:
        self._existing, self._default, self._missing = existing, default, dict[str, None]()
        super().__init__()

    def describe_changes(self) -> Iterable[str]:
        return map(describe_missing, self._missing)

    def change_statement(self, statement: bytes, text: bytes) -> bytes:
        match = _SETTING.fullmatch(statement)
        name = unquote_name(match[1]) if match and match[1] != b"''" else ""
        if not name or (name in self._existing and name != self._default):
            return text
        if name != self._default:
            self._missing[name] = None
        return b"SET default_tablespace = '';"


def read_tablespaces(session: Session) -> str:
    """Return the tablespaces of the objects of a database, as JSON for a manifest."""
    ((names,),) = session.run(_USED)
    return str(names)


def find_missing(session: Session, dump: Dump) -> list[str]:
    """Return the tablespaces of a dump that a server lacks; that of the database first."""
    names = [dump.metadata.get("tablespace", ""), *json.loads(dump.metadata.get("tablespaces", "[]"))]
    existing = _read_existing(session)
    return [name for name in dict.fromkeys(filter(None, names)) if name not in existing]


def make_filter(
    session: Session,
    dump: Dump,
    database: str,
    remarks: list[str],
    change: Callable[[Iterator[bytes]], Iterator[bytes]],
) -> Callable[[Iterator[bytes]], Iterator[bytes]]:
    """Return a function that adapts the tablespaces in the text of a dump to ``database``, and then applies ``change``.

    ``remarks`` gets a sentence about each missing one.
    """
    ((default,),) = session.run(_DEFAULT, database)
    named = json.loads(dump.metadata.get("tablespaces", "null"))
    # an older backup does not list its tablespaces
    if named is not None and default not in named and not find_missing(session, dump):
        return change
    tablespaces = _TablespaceFilter(_read_existing(session), str(default))
    return lambda blocks: change(tablespaces.filter(blocks, remarks))


def describe_missing(name: str) -> str:
    return f"the server lacks tablespace {name}: its objects are in the default tablespace"


def _read_existing(session: Session) -> set[str]:
    return {str(name) for (name,) in session.run(_EXISTING)}
