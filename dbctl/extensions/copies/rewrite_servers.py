"""Rewrite a private database on a server: pseudonyms in SQL, one statement per table; what SQL does not express in Python."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any

import msgspec

from dbctl import signals
from dbctl.engines import registry
from dbctl.engines.contract.database import Column, Condition
from dbctl.engines.contract.schema import Schema
from dbctl.engines.servers.connection import ServerConnection
from dbctl.engines.servers.database import ServerWriter
from dbctl.engines.sql.catalog import quote_literal
from dbctl.errors.base import Remedy
from dbctl.errors.connection import ConstraintError
from dbctl.errors.usage import ValueInvalidError
from dbctl.extensions.copies.contract import Rewriter, create_violation
from dbctl.extensions.copies.errors import CopyUnreadableError
from dbctl.extensions.copies.pseudonyms import (
    CASELESS,
    GROUP,
    SHAPES,
    UNUSABLE,
    Pseudonyms,
    is_plain,
    read_length,
)
from dbctl.extensions.copies.rules import ColumnRule, TableRule
from dbctl.extensions.copies.section import Kind
from dbctl.services.app.change import require_row_count

#: Words in the comments and settings of every dump.
DUMP_WORDS = (
    b"PostgreSQL MariaDB MySQL database dump complete from version Host localhost debian-linux-gnu x86_64 Table structure Dumping data"
    b" default utf8 session search_path statement_timeout"
)
#: Why rows cannot be rewritten one by one.
UNEQUAL = "it has no primary key, and rows whose values are not equal to themselves"
INHERITED = "other tables inherit from it, and SQL does not compute the new values of all its columns"


class ServerRewriter(Rewriter):
    """The part ``Rewriter`` of databases on servers."""

    _connection: ServerConnection[Any]

    def __init__(self, db: ServerWriter) -> None:
        self._db, self._catalog = db, db.catalog
        self._connection = db.connection
        self._parameters = dict[str, object]()

    # What engines do differently ----------------------------------------------------------------------------------

    @abstractmethod
    def _suspend(self, tables: Mapping[str, TableRule]) -> AbstractContextManager[None]:
        """Switch the foreign keys of tables off, and on again at the end, when they are checked."""

    @abstractmethod
    def _is_text(self, column: Column) -> bool:
        """Return whether SQL computes the pseudonyms of a column: one of texts, or of bytes."""

    @abstractmethod
    def _read_text(self, column: Column, name: str) -> str:
        """Return SQL for the value of a column as text; ``name`` is SQL."""

    @abstractmethod
    def _read_raw(self, column: Column, name: str, text: str) -> str:
        """Return SQL for the value of a column, or of the SQL ``text``, as bytes."""

    @abstractmethod
    def _digest(self, kind: Kind, raw: str) -> str:
        """Return SQL for the digest of bytes, in hexadecimal; see ``Pseudonyms.digest``."""

    @abstractmethod
    def _replace_letters(self, digest: str) -> str:
        """Return SQL for a digest whose letters are digits."""

    @abstractmethod
    def _insert(self, text: str, place: int, joint: str) -> str:
        """Return SQL for a text into which ``joint`` is inserted before the character ``place``, from 1."""

    @abstractmethod
    def _is_ascii(self, text: str) -> str: ...
    @abstractmethod
    def _differs(self, text: str, other: str) -> str:
        """Return SQL for whether two texts differ in any byte."""

    @abstractmethod
    def _lower(self, text: str) -> str: ...
    @abstractmethod
    def _cast(self, column: Column, text: str) -> str:
        """Return SQL for a text as a value of a column."""

    @abstractmethod
    def _shift(self, column: Column, name: str, days: int) -> str | None:
        """Return SQL for an earlier time; None: the column has another type."""

    @abstractmethod
    def _assign_unchanged(self, table: str) -> Sequence[str]:
        """Return assignments that keep what an update changes by itself, such as a time."""

    @abstractmethod
    def _quote_own_rows(self, table: str) -> str:
        """Return SQL for a table without the rows of tables that inherit from it."""

    # Rewriting ----------------------------------------------------------------------------------------------------

    def rewrite(self, tables: Mapping[str, TableRule], pseudonyms: Pseudonyms) -> Sequence[str]:
        self._parameters.update(inner=pseudonyms.inner, outer=pseudonyms.outer)
        changed = {name: rule for name, rule in tables.items() if rule}
        omitted = self.list_omitted(self._db, tables)
        with self._suspend(changed):
            for name, rule in changed.items():
                signals.raise_if_interrupted()
                if rule == "empty":
                    self._connection.execute_write(f"truncate table {self._quote_own_rows(name)}")
                else:
                    with self._db.transaction():
                        for where in omitted.get(name, ()):
                            self._db.delete(name, where)
                    with self._report_violations(name, list(rule)):
                        self._update(name, rule, pseudonyms)
        return ()

    def _update(self, table: str, rules: Mapping[str, ColumnRule], pseudonyms: Pseudonyms) -> None:
        live, expressions = self._catalog.require_table(table), dict[str, str]()
        for name, rule in rules.items():
            sql = self._express(table, live.columns[name], rule, pseudonyms)
            if sql is not None:
                expressions[name] = sql
        if others := {name: rule for name, rule in rules.items() if name not in expressions}:
            if live.is_inherited:
                raise self._create_row_error(table, INHERITED)
            # before the statement, which may change the columns that select their rules
            self._update_rows(table, others, pseudonyms)
        if expressions:
            sets = [
                f"{self._catalog.quote_column(table, name, '')} = {sql}" for name, sql in expressions.items()
            ]
            own = self._quote_own_rows(table)
            ((rows,),) = self._connection.fetch(f"select count(*) from {own}")
            sql = f"update {own} set {', '.join([*sets, *self._assign_unchanged(table)])}"
            changed = self._connection.execute_write(sql, self._parameters)
            require_row_count(changed, int(str(rows)), self._db)

    def _update_rows(self, table: str, rules: Mapping[str, ColumnRule], pseudonyms: Pseudonyms) -> None:
        """Rewrite documents, parts of values, and columns of other types; memory does not grow with the table."""
        live = self._catalog.require_table(table)
        selectors = dict.fromkeys(name for rule in rules.values() for name in rule.by)
        # without a key, all old values identify rows, which all get the same new ones
        key = live.primary_key or list(dict.fromkeys([*rules, *selectors]))
        columns = list(dict.fromkeys([*key, *selectors, *rules]))
        rewrites = {name: pseudonyms.rewrite(table, live.columns[name], rule) for name, rule in rules.items()}
        engine, changed = registry.load_engine(self._connection.url.engine), set[tuple[str, ...]]()
        with (
            closing(
                engine.open_for_reading(
                    self._connection.url, self._db.target, timeout=self._connection.timeout
                )
            ) as reader,
            self._db.transaction(),
        ):
            if reader.streams is None:
                raise RuntimeError("a server streams rows")
            with reader.streams.stream(table, columns) as stream:
                for batch in stream.batches:
                    signals.raise_if_interrupted()
                    for row in batch:
                        values = dict(zip(columns, row, strict=True))
                        new = {
                            name: rewrite(values[name], *(values[column] for column in rules[name].by))
                            for name, rewrite in rewrites.items()
                        }
                        if changes := {name: value for name, value in new.items() if value != values[name]}:
                            old = tuple(str(values[name]) for name in key)
                            where = [Condition(name, "=", values[name]) for name in key]
                            # equal rows of a table without a key are all changed by the first of them
                            if not self._db.update(table, changes, where) and old not in changed:
                                raise self._create_row_error(table, UNEQUAL)
                            if not live.primary_key:
                                changed.add(old)

    def _create_row_error(self, table: str, reason: str) -> CopyUnreadableError:
        return CopyUnreadableError(
            target=self._db.target,
            objects=table,
            reason=reason,
            hint=Remedy("Leave its rows out with: `copy --to NAME=ADDRESS --anonymise --empty TABLE`"),
        )

    @contextmanager
    def _report_violations(self, table: str, columns: Sequence[str]) -> Iterator[None]:
        """Raise the error about new values that violate a constraint, or that the type of a column lacks."""
        try:
            yield
        except (ConstraintError, ValueInvalidError) as error:
            paths = [f"{table}.{name}" for name in columns]
            raise create_violation(self._db, paths, error.context.get("reason", error)) from error

    # Expressions --------------------------------------------------------------------------------------------------

    def _express(self, table: str, column: Column, rule: ColumnRule, pseudonyms: Pseudonyms) -> str | None:
        """Return SQL for the new value of a column; None: it is computed in Python."""
        name = self._catalog.quote_column(table, column.name, "")
        if not is_plain(rule):
            return None
        if rule.kind == "null" and column.nullable:
            return "null"
        if rule.kind == "date":
            return self._shift(column, name, pseudonyms.shift)
        if rule.kind == "number" or not self._is_text(column):
            return None
        text = self._read_text(column, name)
        if rule.kind == "null":
            new = "''"
        elif rule.kind == "password":
            new = quote_literal(pseudonyms.hashes.get((table, column.name), UNUSABLE))
        else:
            new = self._express_pseudonym(rule.kind, column, name, text)
        is_empty = f"{name} is null or octet_length({name}) = 0"
        # both results in the same character set, which MySQL requires
        return f"case when {is_empty} then {self._cast(column, text)} else {self._cast(column, new)} end"

    def _express_pseudonym(self, kind: Kind, column: Column, name: str, text: str) -> str:
        lower = f"case when {self._is_ascii(text)} then {self._lower(text)} else {text} end"
        raw = self._read_raw(column, name, lower if kind in CASELESS else text)
        self._parameters[f"kind_{kind}"] = kind.encode() + b"\0"
        digest = self._digest(kind, raw)
        if kind == "ip":
            return self._express_address(digest, text)
        shape = SHAPES[kind].fit(read_length(column))
        body = (
            f"left({self._replace_letters(digest) if shape.is_numeric else digest}, {GROUP * shape.groups})"
        )
        for group in range(shape.groups - 1, 0, -1):
            body = self._insert(body, GROUP * group + 1, shape.joint)
        prefix = quote_literal(shape.prefix)
        if kind in CASELESS and shape.prefix:
            has_capitals = f"{self._is_ascii(text)} and {self._differs(text, self._lower(text))}"
            prefix = f"case when {has_capitals} then {quote_literal(shape.prefix.upper())} else {prefix} end"
        return f"concat({prefix}, left({body}, {shape.length}), {quote_literal(shape.suffix)})"

    def _express_address(self, digest: str, text: str) -> str:
        long = f"left({digest}, 24)"
        for place in range(21, 1, -4):
            long = self._insert(long, place, ":")
        short = f"left({self._replace_letters(digest)}, 7)"
        for place in (6, 4, 2):
            short = self._insert(short, place, ".1")
        return f"case when position(':' in {text}) > 0 then concat('2001:db8:', {long}) else concat('24', {short}) end"

    def read_schema(self) -> Iterator[bytes]:
        schema: Schema | None = self._db.schema_reader.schema() if self._db.schema_reader else None
        yield DUMP_WORDS
        yield msgspec.json.encode(schema)
