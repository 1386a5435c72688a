"""Filters of the statements of a dump: by roles, and by tablespaces."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator

from dbctl.engines.contract.dumps import Dump
from dbctl.engines.postgresql.dump_programs import unquote_name
from dbctl.engines.postgresql.foreign.psql_commands import PsqlScanner
from dbctl.engines.postgresql.session import Session
from dbctl.engines.sql.catalog import ident
from dbctl.model import format_count

#: A name as pg_dump writes it.
NAME = rb'(?:[A-Za-z_\x80-\xff][\w$\x80-\xff]*|"(?:[^"]|"")*")'


class StatementFilter(PsqlScanner, ABC):
    """Filter of the text of a dump."""

    def __init__(self) -> None:
        self._pending, self._finished_text = list[bytes](), b""
        self.output = list[bytes]()
        super().__init__()

    @abstractmethod
    def change_statement(self, statement: bytes, text: bytes) -> bytes:
        """Return what replaces the text of a statement; ``statement`` is its beginning without comments."""

    def _scan_rows(self) -> bool:
        begin = self._position
        text, ended = self._text, super()._scan_rows()
        self.output.append(text[begin : self._position])
        return ended

    def _scan_token(self, *, last: bool) -> bool:
        begin, self._finished_text = self._position, b""
        if not super()._scan_token(last=last):
            return False
        token = self._text[begin : self._position]
        if self._finished_text:
            self.output.append(self.change_statement(self._finished_text, b"".join([*self._pending, token])))
            self._pending = []
        elif self._statement_text:
            self._pending.append(token)
        else:  # a blank or a comment before a statement
            self.output.append(token)
        return True

    def _end_statement(self) -> None:
        self._finished_text = self._statement_text
        super()._end_statement()

    def take_output(self) -> bytes:
        """Return the filtered text since the last call."""
        text = b"".join(self.output)
        self.output = []
        return text

    def take_remaining(self) -> bytes:
        """Return the filtered text that remains at the end."""
        self.finish()
        return b"".join([*self.output, *self._pending])


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


class _RoleFilter(StatementFilter):
    """Filter that replaces roles, and removes statements about missing ones."""

    trusts_strings = True

    def __init__(self, resolve: Callable[[str], str | None]) -> None:
        self._resolve = resolve
        self.omitted = Counter[str]()  #: statements by role
        super().__init__()

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
                self.omitted[role] += 1
            else:
                remaining.append(name if replacement == role else ident(replacement).encode())
        return b", ".join(remaining)


def make_role_filter(
    resolve: Callable[[str], str | None],
    remarks: list[str],
    change: Callable[[Iterator[bytes]], Iterator[bytes]] = iter,
) -> Callable[[Iterator[bytes]], Iterator[bytes]]:
    """Return a function that replaces the roles in a dump of dbctl, and then applies ``change``.

    ``resolve`` returns the role that takes the place of another one, or None: statements about it are left out. ``remarks``
    gets a sentence about each role that was left out.
    """

    def pass_on(blocks: Iterable[bytes]) -> Iterator[bytes]:
        statements = _RoleFilter(resolve)
        for block in blocks:
            statements.feed(block)
            yield statements.take_output()
        yield statements.take_remaining()
        remarks.extend(
            f"role {role} is missing: {format_count(count, 'statement')} about its ownership and grants left out"
            for role, count in statements.omitted.items()
        )

    return lambda blocks: change(pass_on(blocks))


#: Of tables, indexes and materialized views.
_USED = b"""select coalesce(jsonb_agg(distinct t.spcname), '[]')::text from pg_catalog.pg_class c
join pg_catalog.pg_tablespace t on t.oid = c.reltablespace where c.oid >= 16384"""
_EXISTING = b"select spcname::text from pg_catalog.pg_tablespace"
_SETTING = re.compile(rb"SET default_tablespace = (.+?);?", re.DOTALL)


class _TablespaceFilter(StatementFilter):
    """Filter that replaces missing tablespaces by the default one."""

    trusts_strings = True

    def __init__(self, existing: Collection[str]) -> None:
        self._existing, self.missing = existing, dict[str, None]()
        super().__init__()

    def change_statement(self, statement: bytes, text: bytes) -> bytes:
        match = _SETTING.fullmatch(statement)
        name = unquote_name(match[1]) if match and match[1] != b"''" else ""
        if not name or name in self._existing:
            return text
        self.missing[name] = None
        return b"SET default_tablespace = '';"


def read_tablespaces(session: Session) -> str:
    """Return the tablespaces of the objects of a database, as JSON for a manifest."""
    ((names,),) = session.execute(_USED).fetchall()
    return str(names)


def find_missing(session: Session, dump: Dump) -> list[str]:
    """Return the tablespaces of a dump that a server lacks; that of the database first."""
    names = [dump.metadata.get("tablespace", ""), *json.loads(dump.metadata.get("tablespaces", "[]"))]
    existing = _read_existing(session)
    return [name for name in dict.fromkeys(filter(None, names)) if name not in existing]


def make_filter(
    session: Session, dump: Dump, remarks: list[str], change: Callable[[Iterator[bytes]], Iterator[bytes]]
) -> Callable[[Iterator[bytes]], Iterator[bytes]]:
    """Return a function that replaces missing tablespaces in the text of a dump, and then applies ``change``.

    ``remarks`` gets a sentence about each of them.
    """
    # an older backup does not list its tablespaces
    if "tablespaces" in dump.metadata and not find_missing(session, dump):
        return change
    existing = _read_existing(session)

    def pass_on(blocks: Iterator[bytes]) -> Iterator[bytes]:
        statements = _TablespaceFilter(existing)
        for block in blocks:
            statements.feed(block)
            yield statements.take_output()
        yield statements.take_remaining()
        remarks.extend(map(describe_missing, statements.missing))

    return lambda blocks: change(pass_on(blocks))


def describe_missing(name: str) -> str:
    return f"the server lacks tablespace {name}: its objects are in the default tablespace"


def _read_existing(session: Session) -> set[str]:
    return {str(name) for (name,) in session.execute(_EXISTING).fetchall()}
