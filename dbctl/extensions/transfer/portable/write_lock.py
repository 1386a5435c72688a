"""Triggers by which tables refuse writes, and the proof that tables accept them."""

from __future__ import annotations

import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, ClassVar, Literal
from uuid import uuid4

from dbctl.engines.contract.database import Writable, require_supported
from dbctl.engines.contract.schema import SchemaReference
from dbctl.engines.sql.catalog import ident, quote_literal
from dbctl.engines.sql.database import SqlPart
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import ConstraintError, PrivilegeMissingError, ReadOnlyError
from dbctl.extensions.transfer.portable.contract import (
    PortableColumn,
    PortableIndex,
    PortableSchemas,
    PortableTable,
)
from dbctl.model import Struct

if TYPE_CHECKING:
    from dbctl.engines.sql.catalog import Catalog


#: What a refused writer reads; a server allows 128 characters.
WRITE_LOCK_MESSAGE = "moved to another address by dbctl; to write here again: dbctl transfer switch --unlock"
#: The writes that a table refuses, each by a trigger.
EVENTS = ("insert", "update", "delete")


class WriteLock(SqlPart, ABC):
    """The part that makes all tables refuse the writes of every session, also of later ones, until ``unlock``."""

    exceptions: ClassVar[str]  #: writes that it does not refuse, in words
    triggers: ClassVar[str] = (
        ""  #: SQL that returns the names of the triggers of locked tables, and the tables
    )

    @abstractmethod
    def _lock_statements(self) -> Sequence[str]:
        """Return the statements that lock the tables that are not locked."""

    def list_locked(self) -> Sequence[str]:
        """Return the tables that refuse writes."""
        return sorted({str(table) for _, table in self._connection.fetch(self.triggers)})

    def _unlock_statements(self) -> Sequence[str]:
        """Return the statements that unlock all tables."""
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
        scripts = require_supported(self._db, self._db.scripts, "the lock of a transfer", "")
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


class WriteProofs(ABC):
    """The part that finds out whether tables accept new rows."""

    def __init__(self, db: Writable, catalog: Catalog) -> None:
        self._db, self._catalog = db, catalog

    @abstractmethod
    def _insert(self, table: str, sql: str, key: str) -> int | None:
        """Insert a row, and return its ``key``, a name in SQL; None if the statement inserted none."""

    @abstractmethod
    def _delete(self, sql: str) -> None:
        """Delete a row."""

    def try_writes(self) -> Sequence[WriteProof]:
        """Insert a copy of the newest row into each table with generated keys, delete it, and roll both back.

        The copy has a generated key and other values in unique columns. Triggers run. The number of an AUTO_INCREMENT column
        remains used.
        """
        schemas = self._db.extension_part(PortableSchemas)
        schema = require_supported(self._db, schemas, "a transfer", "").read_portable()
        # properties that no portable schema has may refuse a copy of a row
        special = {part.table for part in schema.omissions if part.kind in ("constraint", "trigger", "rule")}
        return [
            self._try_table(table, key.name, is_special=table.name in special)
            for table in schema.tables
            for key in [column for column in table.columns if column.is_automatic][:1]
        ]

    def _try_table(self, table: PortableTable, key: str, *, is_special: bool) -> WriteProof:
        name = table.name
        changed: dict[str, str] = {}
        for columns in _list_unique(table):
            if key in columns or changed.keys() & columns:
                continue
            values = dict(self._list_new_values(table, columns))
            if not values:
                reason = f"values of {', '.join(sorted(columns))} must be unique"
                return WriteProof(table=name, outcome="unknown", reason=reason)
            changed |= dict([next(iter(values.items()))])
        quoted = self._catalog.quote_table(name)
        copied = {
            self._quote(name, column.name): changed.get(column.name, self._quote(name, column.name))
            for column in table.columns
            if not column.generated and not column.is_automatic
        }
        place = self._quote(name, key)
        sql = f"insert into {quoted} ({', '.join(copied)}) select {', '.join(copied.values())} from {quoted} order by {place} desc limit 1"
        if not copied:
            return WriteProof(table=name, outcome="unknown", reason="it has no other column than its key")
        try:
            if self._try_row(name, sql, place):
                return WriteProof(table=name, outcome="accepted")
            return WriteProof(table=name, outcome="unknown", reason="it is empty")
        except DbctlError as error:
            is_refusal = isinstance(error, PrivilegeMissingError | ReadOnlyError) or (
                isinstance(error, ConstraintError) and not changed and not is_special
            )
            outcome: Literal["refused", "unknown"] = "refused" if is_refusal else "unknown"
            return WriteProof(table=name, outcome=outcome, reason=str(error.context.get("reason") or error))

    def _try_row(self, table: str, sql: str, key: str) -> bool:
        """Insert a row, delete it, and roll both back; return whether there was a row."""
        number = None
        with self.rolled_back_transaction([table]):
            number = self._insert(table, sql, key)
            if number is not None:
                self._check_constraints()  # those of a deleted row are not checked later
                self._delete(f"delete from {self._catalog.quote_table(table)} where {key} = {number:d}")
        return number is not None

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

    def _keep_sequences(self, tables: Iterable[str]) -> None:  # noqa: B027 - not all engines have any
        """Make the numbers of sequences part of the transaction, if the engine has sequences."""

    def _check_constraints(self) -> None:  # noqa: B027 - not all engines have any
        """Check deferred constraints now, if the server has them."""

    def _quote(self, table: str, column: str) -> str:
        return self._catalog.quote_column(table, column, "")

    def _list_new_values(self, table: PortableTable, names: Collection[str]) -> Iterator[tuple[str, str]]:
        """Yield columns whose value can change, and SQL for another value; the best first."""
        referring = {name for reference in table.references for name in reference.columns}
        columns = [column for column in table.columns if column.name in names and not column.generated]
        for kind in ("text", "integer", "uuid"):
            for column in columns:
                if column.type.kind == kind and column.name not in referring:
                    yield column.name, self._new_value(table.name, column)
        yield from ((column.name, "null") for column in columns if column.is_nullable)
        for reference in table.references:
            if len(reference.columns) == 1 and reference.columns[0] in names:
                yield reference.columns[0], self._other_reference(table.name, reference)

    def _other_reference(self, table: str, reference: SchemaReference) -> str:
        """Return SQL for a row to which no row of the table refers; NULL if there is none."""
        (column,), (key,) = reference.columns, reference.to
        used = f"select {self._quote(table, column)} from {self._catalog.quote_table(table)} where {self._quote(table, column)} is not null"
        place = self._quote(reference.table, key)
        return f"(select {place} from {self._catalog.quote_table(reference.table)} where {place} not in ({used}) limit 1)"

    def _new_value(self, table: str, column: PortableColumn) -> str:
        if column.type.kind == "integer":
            return (
                f"(select max({self._quote(table, column.name)}) + 1 from {self._catalog.quote_table(table)})"
            )
        if column.type.kind == "uuid":
            return quote_literal(str(uuid4()))
        return quote_literal(secrets.token_hex(_DIGITS)[: column.type.length or None])


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
