"""Tablespaces of a dump that a server lacks: what is in them is restored into the default one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator

from dbctl.engines.contract.dumps import Dump
from dbctl.engines.postgresql.backup.dump_scanner import unquote_name
from dbctl.engines.postgresql.backup.foreign.statements import StatementFilter
from dbctl.engines.postgresql.connection.session import Session

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
