"""Triggers by which tables refuse writes, and the proof that tables accept them."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import ClassVar, Literal
from uuid import uuid4

from dbctl.engines.contract.database import Condition, InSubquery, Not, Order, Query, Writable
from dbctl.engines.contract.schema import WRITE_LOCK, SchemaReference
from dbctl.engines.sql.catalog import ident
from dbctl.engines.sql.database import SqlPart
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import ConstraintError, PrivilegeMissingError, ReadOnlyError, RowSkippedError
from dbctl.extensions.transfer.portable.contract import (
    PortableColumn,
    PortableIndex,
    PortableSchemas,
    PortableTable,
    require,
    require_scripts,
)
from dbctl.model import Struct

#: What a refused writer reads; a server allows 128 characters.
WRITE_LOCK_MESSAGE = "moved to another address by dbctl; to write here again: dbctl transfer switch --unlock"
#: The writes that a table refuses, each by a trigger.
EVENTS = ("insert", "update", "delete")


class WriteLock(SqlPart):
    """The part that makes all tables refuse the writes of every session, also of later ones, until ``unlock``."""

    exceptions: ClassVar[str]  #: writes that it does not refuse, in words
    #: SQL that returns the names of the triggers of locked tables, and the tables
    triggers: ClassVar[str] = ""
    refusal: ClassVar[str] = ""  #: SQL of the body of a trigger

    def _lock_statements(self) -> Sequence[str]:
        """Return the statements that lock the tables that are not locked."""
        existing = {str(name) for name, _ in self._connection.fetch(self.triggers)}
        return [
            f"create trigger {ident(name)} before {event} on {ident(table)} {self.refusal}"
            for table in self._list_tables()
            for event in EVENTS
            if (name := self._name_trigger(event, table)) not in existing
        ]

    def _list_tables(self) -> Sequence[str]:
        return self._catalog.base_tables()

    def _name_trigger(self, event: str, table: str) -> str:
        """Return the name of a trigger, which is unique in the database."""
        return f"{WRITE_LOCK}_{event}_{table}"

    def list_locked(self) -> Sequence[str]:
        """Return the tables that refuse writes."""
        return sorted({str(table) for _, table in self._connection.fetch(self.triggers)})

    def _unlock_statements(self) -> Sequence[str]:
        return [f"drop trigger {ident(str(name))}" for name, _ in self._connection.fetch(self.triggers)]

    def lock(self) -> None:
        """Make all tables refuse writes, after the transactions that write to them have ended.

        On a server without transactions for schemas, an error leaves a part of the tables locked.

        Raises:
            BusyError: a session was writing until the timeout.
            ConcurrentChangeError: a session that was writing waited for this one.
            PrivilegeMissingError: this user may not create triggers.
        """
        self._run(self._lock_statements())

    def unlock(self) -> None:
        """Let all tables accept writes again; raises as ``lock``."""
        self._run(self._unlock_statements())

    def _run(self, statements: Sequence[str]) -> None:
        scripts = require_scripts(self._db)
        with scripts.schema_transaction():
            for sql in statements:
                scripts.run_statement(sql)


_DIGITS = 16


class _UndoneError(Exception):
    """Rolls a transaction back."""


class WriteProof(Struct, frozen=True, kw_only=True):
    """Whether a table with generated keys accepts new rows."""

    table: str
    #: ``accepted``: a row was inserted and deleted; ``refused``; ``unknown``: no row could be tried
    outcome: Literal["accepted", "refused", "unknown"]
    reason: str = ""


class WriteProofs:
    """The part that finds out whether tables accept new rows."""

    def __init__(self, db: Writable) -> None:
        self._db = db

    def try_writes(self) -> Sequence[WriteProof]:
        """Insert a copy of the newest row into each table with generated keys, delete it, and roll both back.

        The copy has a generated key and other values in unique columns. Triggers run. The number of an AUTO_INCREMENT column
        remains used.
        """
        schema = require(self._db, PortableSchemas).read_portable()
        # properties that no portable schema has may refuse a copy of a row
        special = {part.table for part in schema.omissions if part.kind in ("constraint", "trigger", "rule")}
        return [
            self._try_table(table, key.name, is_special=table.name in special)
            for table in schema.tables
            for key in [column for column in table.columns if column.is_automatic][:1]
        ]

    def _try_table(self, table: PortableTable, key: str, *, is_special: bool) -> WriteProof:
        name = table.name
        changed: dict[str, object] = {}
        try:
            for columns in _list_unique(table):
                if key in columns or changed.keys() & columns:
                    continue
                value = next(self._list_new_values(table, columns), None)
                if not value:
                    reason = f"values of {', '.join(sorted(columns))} must be unique"
                    return WriteProof(table=name, outcome="unknown", reason=reason)
                changed |= [value]
            if reason := self._try_copy(table, key, changed):
                return WriteProof(table=name, outcome="unknown", reason=reason)
            return WriteProof(table=name, outcome="accepted")
        except DbctlError as error:
            is_refusal = isinstance(error, PrivilegeMissingError | ReadOnlyError) or (
                isinstance(error, ConstraintError) and not changed and not is_special
            )
            outcome: Literal["refused", "unknown"] = "refused" if is_refusal else "unknown"
            return WriteProof(table=name, outcome=outcome, reason=str(error.context.get("reason") or error))

    def _try_copy(self, table: PortableTable, key: str, changed: Mapping[str, object]) -> str:
        """Insert a copy of the newest row, delete it, and roll both back; return why no row could be tried, empty if it was."""
        name = table.name
        columns = [each.name for each in table.columns if not each.generated and not each.is_automatic]
        if not columns:
            return "it has no other column than its key"
        newest = Query(name, columns, order_by=[Order([key], descending=True)], limit=1)
        rows = self._db.codec.read(newest)
        if not rows:
            return "it is empty"
        values = {
            column: None if value is None else self._db.codec.json_parser(name, column)(value)
            for column, value in zip(columns, rows[0], strict=True)
        }
        with self.rolled_back_transaction([name]):
            try:
                number = self._db.insert(name, {**values, **changed}, returning=key)
            except RowSkippedError:
                return "it ignores new rows"
            self._check_constraints()  # those of a deleted row are not checked later
            self._db.delete(name, [Condition(key, "=", number)])
        return ""

    @contextmanager
    def rolled_back_transaction(self, tables: Iterable[str]) -> Iterator[None]:
        """Run a block in a transaction that ends with a rollback, after the deferred constraints of the server were checked.

        Sequences of ``tables`` keep their numbers; an AUTO_INCREMENT column skips those that were used.

        Raises:
            ConstraintError: a deferred constraint refuses the rows.
            PrivilegeMissingError: a sequence belongs to another role.
        """
        with suppress(_UndoneError), self._db.transaction():
            self._keep_sequences(tables)
            yield
            self._check_constraints()
            raise _UndoneError

    def _keep_sequences(self, tables: Iterable[str]) -> None:
        """Make the numbers of sequences part of the transaction, if the engine has sequences."""

    def _check_constraints(self) -> None:
        """Check deferred constraints now, if the server has them."""

    def _list_new_values(self, table: PortableTable, names: Collection[str]) -> Iterator[tuple[str, object]]:
        """Yield columns whose value can change, and another value; the best first."""
        referring = {name for reference in table.references for name in reference.columns}
        columns = [column for column in table.columns if column.name in names and not column.generated]
        for kind in ("text", "integer", "uuid"):
            for column in columns:
                if column.type.kind == kind and column.name not in referring:
                    yield column.name, self._create_value(table.name, column)
        yield from ((column.name, None) for column in columns if column.is_nullable)
        for reference in table.references:
            if len(reference.columns) == 1 and reference.columns[0] in names:
                yield reference.columns[0], self._find_other(table.name, reference)

    def _find_other(self, table: str, reference: SchemaReference) -> object:
        """Return the key of a row to which no row of the table refers; None if there is none."""
        is_used = InSubquery(reference.to, table, reference.columns)
        rows = self._db.select(reference.table, reference.to, [Not(is_used)], limit=1)
        return rows[0][0] if rows else None

    def _create_value(self, table: str, column: PortableColumn) -> object:
        if column.type.kind == "integer":
            largest = [Order([column.name], descending=True)]
            rows = self._db.select(table, [column.name], order_by=largest, limit=1)
            return int(str(rows[0][0] or 0)) + 1 if rows else None
        if column.type.kind == "uuid":
            return str(uuid4())
        return secrets.token_hex(_DIGITS)[: column.type.length or None]


def _list_unique(table: PortableTable) -> Iterator[Collection[str]]:
    """Yield the columns of each unique index, also of its expressions."""
    if table.key:
        yield set(table.key)
    names = {column.name.lower(): column.name for column in table.columns}
    for index in table.indexes:
        if index.is_unique:
            yield _list_columns(index, names)


def _list_columns(index: PortableIndex, names: Mapping[str, str]) -> Collection[str]:
    words = {word.lower() for term in index.terms for word in re.findall(r"\w+", term.expression)}
    return {term.column for term in index.terms if term.column} | {
        names[word] for word in words & names.keys()
    }
