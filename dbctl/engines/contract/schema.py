"""Contract: the schema as a value, and scripts that change it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol

from dbctl.model import Struct

#: The version of the form; part of the fingerprint, so that fingerprints of different forms differ.
FINGERPRINT_FORMAT = "dbctl.schema/1"

#: The name, or the beginning of the names, of the triggers and functions by which a transfer makes tables refuse writes.
WRITE_LOCK = "dbctl_transfer_lock"


class SchemaColumn(Struct, frozen=True, kw_only=True):
    name: str
    type: str  #: as declared, upper case
    storage: str  #: the engine's storage class of that type: types of the same class behave in the same way
    nullable: bool
    default: str | None = None
    collation: str = ""  #: empty: the engine's default
    generated: str = ""  #: the expression that computes it, followed by ``stored`` or ``virtual``


class SchemaIndex(Struct, frozen=True, kw_only=True):
    """One index, including the index of a UNIQUE constraint."""

    name: str  #: empty: a name that the engine generated for a constraint
    columns: Sequence[str]  #: columns or expressions, followed by a collation or ``desc``, if any
    unique: bool
    where: str = ""  #: the condition of a partial index


class SchemaReference(Struct, frozen=True, kw_only=True):
    """One foreign key, as defined in the table that contains it."""

    columns: Sequence[str]
    table: str
    to: Sequence[str]
    on_update: str
    on_delete: str
    deferred: bool = False  #: whether it is checked at the end of the transaction only


class SchemaTable(Struct, frozen=True, kw_only=True):
    """One table. Columns and keys are in their declared order; other sequences are sorted."""

    name: str
    columns: Sequence[SchemaColumn]
    key: Sequence[str]
    indexes: Sequence[SchemaIndex]
    references: Sequence[SchemaReference]
    checks: Sequence[str]
    options: Sequence[str]  #: further options in the engine's words: ``autoincrement``, ``using fts5(…)``


class SchemaCode(Struct, frozen=True, kw_only=True):
    """One view or trigger, or another object with a definition of its own."""

    kind: Literal["view", "trigger", "partition", "rule", "statistics"]
    name: str
    table: str = ""  #: the table that it belongs to; empty for a view
    text: str


class Schema(Struct, frozen=True, kw_only=True):
    """The complete schema of a database, without internal objects of the engine.

    Texts (defaults, checks, expressions, codes) are normalized, so that spaces, comments, quotes around names
    and the case of keywords make no difference; names of constraints are left out. Tables, and codes of a kind, are
    sorted by name.
    """

    tables: Sequence[SchemaTable]
    codes: Sequence[SchemaCode]


def strip_collation(column: str) -> str:
    """Return a column of an index or of a primary key without its collation and direction."""
    return re.sub(r"(?: collate \S+)?(?: desc)?(?: nulls not distinct)?$", "", column)


def collapse_spaces(text: str) -> str:
    """Return the text of a view or a trigger with normalized spaces."""
    return " ".join(text.split()).removesuffix(";")


def fingerprint(schema: Schema) -> str:
    """Return SHA-256 over a schema, hexadecimal; equal values mean equal schemas.

    It does not change when the file is rewritten, when tables and indexes are created in another order, or when the
    same statements are formatted differently. The order of columns matters: ``insert`` without names depends on it.
    """
    import hashlib
    import json

    import msgspec

    values = [FINGERPRINT_FORMAT, msgspec.to_builtins(schema)]
    return hashlib.sha256(json.dumps(values, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


class SchemaReader(ABC):
    """The part that describes the schema."""

    @abstractmethod
    def schema(self) -> Schema:
        """Return the complete live schema, from one snapshot."""

    def fingerprint(self) -> str:
        """Return the fingerprint of the live schema: SHA-256, hexadecimal."""
        return fingerprint(self.schema())

    @abstractmethod
    def comments(self, table: str) -> Mapping[str, str]:
        """Return the comments on the columns of a table by column, and the comment on the table under an empty name."""


class Script(Struct, frozen=True, kw_only=True):
    """One direction of a migration."""

    statements: Sequence[tuple[int, str]]  #: each with its line number
    outside_transaction: bool = False  #: the statements run one by one, without a transaction


class LintFinding(Struct, frozen=True):
    """A risk of running a statement on a database in use."""

    line: int  #: the first line of the statement; 0: the script as a whole
    code: str
    message: str


class StatementEffect(Struct, frozen=True, kw_only=True):
    """The tables and rows that one statement may delete."""

    may_delete_rows: bool  #: it may delete rows
    is_destructive: bool = False  #: it deletes rows, or drops a table, a column or another object with data
    dropped_tables: Sequence[str] = ()  #: the tables that it drops, without schema
    emptied_tables: Sequence[str] = ()  #: the tables from which it deletes rows
    session_only: bool = False  #: it only changes a setting of the session
    temporary_names: Sequence[str] = ()  #: the objects that it creates for its session


class ScriptDialect(Hashable, Protocol):
    """The SQL dialect of an engine's scripts; requires no connection."""

    def split(self, text: str, *, outside_transaction: bool = False) -> Sequence[tuple[int, str]]:
        """Split a script into statements, each with its first line (from 1).

        Each statement begins at its first word, without preceding comments. The last one may lack its semicolon.

        Raises:
            ValueError: the text ends inside a statement, a string or a comment, or contains a statement that cannot run
                in ``ScriptRunner.schema_transaction`` (or ``outside_transaction``). The message contains the line.
        """

    def effect(self, sql: str) -> StatementEffect:
        """Return what one statement may delete, determined from its text only."""

    def comments(self, text: str) -> Sequence[tuple[int, str]]:
        """Return the comments on separate lines (``-- text``), each with its line (from 1) and without dashes.

        Comments inside a string, another comment, parentheses, or the body of a trigger or function are not included.
        """

    def lint(self, scripts: Iterable[Script]) -> Iterator[Sequence[LintFinding]]:
        """Yield the findings of each script, in the order in which the scripts run.

        Objects that earlier scripts create are taken into account. The services define the severity of each code.
        """


class ScriptRunner(ABC):
    """The part of a writer that runs scripts which change the schema."""

    script_dialect: ScriptDialect
    #: Whether a failed ``schema_transaction`` is rolled back. If not, each statement is committed separately, and
    #: only the changes after the last statement, such as the row in the ledger, are part of the final transaction.
    transactional_ddl: bool

    @property
    def lock_attempts(self) -> int:
        """How many attempts at a ``schema_transaction`` with short waits are useful when a lock is not available."""
        return 1

    @abstractmethod
    def schema_transaction(self, *, short_waits: bool = False) -> AbstractContextManager[None]:
        """A transaction for statements that change the schema; foreign keys are checked at its end only.

        With ``short_waits`` it waits for each lock only briefly, so that sessions in the lock's queue are not blocked for long.

        Raises:
            ConstraintError: the script creates orphaned rows; its changes were rolled back as far as possible.
        """

    @abstractmethod
    def outside_transaction(self) -> AbstractContextManager[None]:
        """A context for statements outside a transaction, each of which is committed separately.

        Session settings last until the end of the context. Between two statements ``transaction`` may be used.
        """

    @abstractmethod
    def run_statement(self, sql: str) -> None:
        """Run one statement of a script in ``schema_transaction`` or ``outside_transaction``; transaction control is rejected."""

    def restore_session(self) -> None:
        """Set the settings of the session again that a script may have changed, such as the schema of unqualified names."""

    def use_own_settings(self) -> None:
        """Use the settings of dbctl instead of those of a script until the end of the open transaction."""

    def run_definitions(self, statements: Sequence[str]) -> None:
        """Run statements that create objects, in ``schema_transaction``, as the engine shows them: with settings of the session before them."""
        for sql in statements:
            self.run_statement(sql)

    @abstractmethod
    def insert(self, table: str, values: Mapping[str, object]) -> None:
        """Insert a row that records a script, in the transaction of the caller."""

    @abstractmethod
    def drop_statements(self) -> Sequence[str]:
        """Return the statements that drop everything in the database's schemas, for ``schema_transaction``.

        Raises:
            ConstraintError: an object in another schema depends on an object to drop.
        """

    def may_have_deleted(self, table: str) -> bool:
        """Return whether this transaction may have deleted the rows that ``table`` lost since it began; if unknown, True.

        On a server, where other sessions may delete rows concurrently, the engine may know that this transaction did not
        delete them.
        """
        return True

    def find_unreverted_tables(self, sql: str) -> Sequence[str]:
        """Return the tables without transactions in which ``sql`` may have written rows before it failed; usually none."""
        return ()

    def cleanup_statements(self, sql: str) -> Sequence[str]:
        """Return the statements that remove what a failed ``sql`` left outside a transaction; usually empty."""
        return ()


class TableChange(Struct, frozen=True, kw_only=True):
    """Changes of the columns and foreign keys of one table; columns have the names that they have before the change."""

    table: str
    renamed: Mapping[str, str] = {}  #: columns and their new names
    dropped: Sequence[str] = ()
    types: Mapping[str, str] = {}  #: the declared type of each column that gets another one
    nullable: Mapping[str, bool] = {}
    #: a number, a text, or an expression in parentheses; ``null`` removes the default
    defaults: Mapping[str, str] = {}
    added_keys: Mapping[str, tuple[str, str]] = {}  #: the table and column to which each column refers
    dropped_keys: Sequence[str] = ()  #: columns whose foreign keys are removed

    @property
    def columns(self) -> Sequence[str]:
        """The columns of the table that it changes."""
        groups = (self.renamed, self.dropped, self.types, self.nullable, self.defaults)
        return [name for group in (*groups, self.added_keys, self.dropped_keys) for name in group]

    def after_renaming(self) -> TableChange:
        """Return the other changes, with the new names of renamed columns."""
        names = {**{name: name for name in self.columns}, **self.renamed}
        return TableChange(
            table=self.table,
            dropped=[names[name] for name in self.dropped],
            types={names[name]: declared for name, declared in self.types.items()},
            nullable={names[name]: nullable for name, nullable in self.nullable.items()},
            defaults={names[name]: default for name, default in self.defaults.items()},
            added_keys={names[name]: target for name, target in self.added_keys.items()},
            dropped_keys=[names[name] for name in self.dropped_keys],
        )


class RebuildScript(Struct, frozen=True, kw_only=True):
    """Statements that change a table, with their effect on a copy of the schema."""

    statements: Sequence[str]  #: without semicolons at their ends
    before: Schema  #: with renamed columns
    after: Schema


class TableRebuilder(ABC):
    """The part of an engine whose ALTER TABLE cannot change columns, so that a table is replaced by a new one."""

    @abstractmethod
    def write_rebuild(self, change: TableChange, suffix: str) -> RebuildScript:
        """Write the script that changes a table, and run it on a copy of the schema; the database is only read.

        The name of the new table ends with ``suffix`` until it replaces the old one.

        Raises:
            TableMissingError, ColumnMissingError: the table or a column does not exist.
            NotSupportedError: it is not an ordinary table.
            QueryFailedError: the table cannot be rebuilt with these changes.
        """
