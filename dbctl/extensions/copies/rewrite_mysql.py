"""Rewrite a private database of MySQL or MariaDB."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from dbctl.engines.contract.database import Column
from dbctl.engines.mysql.connection import MySQLConnection
from dbctl.engines.mysql.database import MySQLWriter
from dbctl.engines.mysql.stored_code import TRIGGERS, encode_statements, list_names, read_definition
from dbctl.engines.mysql.values import is_binary
from dbctl.engines.servers.values import kind_of
from dbctl.engines.sql.catalog import ident
from dbctl.extensions.copies.contract import refuse_orphans
from dbctl.extensions.copies.pseudonyms import DIGITS
from dbctl.extensions.copies.rewrite_servers import ServerRewriter
from dbctl.extensions.copies.rules import TableRule
from dbctl.extensions.copies.section import Kind

#: Columns that a change of their row sets to the current time.
RENEWED = """select column_name from information_schema.columns
where table_schema = database() and table_name = :table and lower(extra) like '%on update%'"""
#: Tables that retain the rows before each change.
VERSIONED = "select table_name from information_schema.tables where table_schema = database() and table_type = 'SYSTEM VERSIONED'"
ESCAPES = str.maketrans(
    {"\0": "\\0", "\n": "\\n", "\r": "\\r", "\\": "\\\\", "'": "\\'", '"': '\\"', "\x1a": "\\Z"}
)


class MySQLRewriter(ServerRewriter):
    _db: MySQLWriter
    _connection: MySQLConnection

    def find_unreadable(self) -> Sequence[str]:
        return ()

    def encode(self, value: object) -> bytes:
        if isinstance(value, bytes):
            return value.hex().upper().encode()
        return str(value).translate(ESCAPES).encode("utf-8", "surrogateescape")

    @contextmanager
    def without_triggers(self) -> Iterator[None]:
        session = self._connection.session
        with self._connection.translate_errors("show create trigger"):
            names = list_names(session, TRIGGERS, session.database)
            triggers = [read_definition(session, "trigger", name) for name in names]
        for name in names:
            self._connection.run(f"drop trigger {ident(name)}")
        yield
        for trigger in triggers:
            for statement in encode_statements(session, trigger.statements):
                self._connection.execute_text(statement)
        self._connection.apply_settings()

    @contextmanager
    def _suspend(self, tables: Mapping[str, TableRule]) -> Iterator[None]:
        self._connection.run("set session foreign_key_checks = 0")
        with refuse_orphans(self._db):
            yield
        versioned = [str(name) for (name,) in self._connection.fetch(VERSIONED) if name in tables]
        for name in versioned:
            self._connection.run(f"delete history from {ident(name)}")
        self._connection.run("set session foreign_key_checks = 1")

    def _quote_own_rows(self, table: str) -> str:
        return self._catalog.quote_table(table)

    def _assign_unchanged(self, table: str) -> Sequence[str]:
        return [
            f"{ident(str(name))} = {ident(str(name))}"
            for (name,) in self._connection.fetch(RENEWED, {"table": table})
        ]

    def _is_text(self, column: Column) -> bool:
        return kind_of(column) in ("text", "bytes")

    def _read_text(self, column: Column, name: str) -> str:
        del column
        return f"convert({name} using utf8mb4)"

    def _read_raw(self, column: Column, name: str, text: str) -> str:
        is_whole = is_binary(column) and text == self._read_text(column, name)
        return name if is_whole else f"cast({text} as binary)"

    def _digest(self, kind: Kind, raw: str) -> str:
        return f"sha2(concat(:outer, unhex(sha2(concat(:inner, :kind_{kind}, {raw}), 256))), 256)"

    def _replace_letters(self, digest: str) -> str:
        for letter, digit in DIGITS.items():
            digest = f"replace({digest}, '{chr(letter)}', '{chr(int(digit))}')"
        return digest

    def _insert(self, text: str, place: int, joint: str) -> str:
        return f"insert({text}, {place}, 0, '{joint}')"

    def _is_ascii(self, text: str) -> str:
        return f"octet_length({text}) = char_length({text})"

    def _differs(self, text: str, other: str) -> str:
        return f"cast({text} as binary) <> cast({other} as binary)"

    def _lower(self, text: str) -> str:
        return f"lower({text})"

    def _cast(self, column: Column, text: str) -> str:
        return f"cast({text} as binary)" if is_binary(column) else text

    def _shift(self, column: Column, name: str, days: int) -> str | None:
        if kind_of(column) not in ("timestamp", "date"):
            return None
        return f"coalesce({name} - interval {days} day, {name})"
