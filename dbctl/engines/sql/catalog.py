"""Tables and columns as they are in the database, their quoted names, and statements that are built with parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from itertools import count
from math import isnan
from typing import Protocol

from dbctl.engines.contract.database import Column, MergeRule, Reference, Table
from dbctl.errors.usage import SchemaMismatchError, ValueInvalidError

Row = tuple[object, ...]
BoundQuery = tuple[str, Mapping[str, object]]  #: a reading statement and its parameters

#: A LIMIT without effect, because OFFSET requires a LIMIT.
NO_LIMIT = (1 << 63) - 1


def is_storable(text: str) -> bool:
    """Whether every database can store ``text``: it contains neither NUL nor lone surrogates."""
    return "\0" not in text and (text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text))


def ident(name: str) -> str:
    """Quote ``name`` as an identifier of standard SQL; it must not contain NUL or lone surrogates."""
    if not is_storable(name):
        raise ValueInvalidError(name="name", value=ascii(name), reason="no database can store it")
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """Return a text as a literal, in which a backslash is a character; where possible, statements have parameters instead."""
    return "'" + text.replace("'", "''") + "'"


def lower_ascii(text: str) -> str:
    """Return ``text`` with only its ASCII letters in lower case."""
    if text.isascii():
        return text.lower()
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


def escape_like(text: str) -> str:
    """Escape ``text`` for LIKE … ESCAPE '!', so that it has no wildcards."""
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def select_all_from(select: str) -> str:
    """Return SQL for all columns of ``select``, which fails unless it is a single reading statement."""
    return f"select * from ({select.strip()}) q"


def require_column_count(select: str, count: int) -> str:
    """Return SQL for the rows of ``select``, which fails unless it has ``count`` columns."""
    names = ", ".join(f"c{index}" for index in range(count))
    return f"with the_statement ({names}) as ({select.strip()}) select * from the_statement"


def merge_expressions(
    columns: Mapping[str, MergeRule], old: Mapping[str, str], new: Mapping[str, str]
) -> dict[str, str]:
    """Return SQL for the new value of each changed column of an existing row, by name."""
    return {
        name: new[name] if merge == "replace" else f"coalesce({old[name]}, 0) + coalesce({new[name]}, 0)"
        for name, merge in columns.items()
        if merge != "keep"
    }


def conflict_clause(names: Mapping[str, str], columns: Mapping[str, MergeRule]) -> str:
    """Return the conflict action of a merge, with ``t0`` for the existing row; ``names`` are quoted."""
    old, new = (
        {name: f"{source}.{quoted}" for name, quoted in names.items()} for source in ("t0", "excluded")
    )
    sets = [f"{names[name]} = {value}" for name, value in merge_expressions(columns, old, new).items()]
    return f"update set {', '.join(sets)}" if sets else "nothing"


class Statement:
    """Parameters of a statement, ``:p0``, ``:p1``… in order, and its table aliases."""

    def __init__(self, table: str = "") -> None:
        self.parameters: dict[str, object] = {}
        self.aliases = {"t0": table}  #: table by alias; the first is the main table

    def bind(self, value: object) -> str:
        """Add a parameter and return its placeholder.

        Raises:
            ValueInvalidError: the value is NaN, which databases would store as NULL.
        """
        if isinstance(value, float) and isnan(value):
            raise ValueInvalidError(name="number", value="NaN", reason="no database can store it")
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return f":{name}"

    def add_alias(self, table: str) -> str:
        """Return a new alias for ``table``, which is not the name of the main table either."""
        used = {*self.aliases, self.aliases["t0"].lower()}
        name = next(name for number in count(1) if (name := f"t{number}") not in used)
        self.aliases[name] = table
        return name


class Connection(Protocol):
    """Runs the statements of a database, and translates the errors of its driver."""

    target: str  #: ``app/database``, for messages
    on_change: list[Callable[[], None]]  #: called when the tables of the connection may have changed

    @property
    def memo(self) -> dict[object, object] | None: ...  #: as in ``Readable``

    def fetch(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        """Run one reading statement and return all its rows."""

    def fetch_within(
        self, timeout: timedelta, sql: str, parameters: Mapping[str, object]
    ) -> list[Row] | None:
        """Run one reading statement and return all its rows; None after a time limit."""

    def close(self) -> None:
        """Close the connection; further calls do nothing."""


class LiveTables(ABC):
    """The live tables of a database, read on first use."""

    target: str  #: ``app/database``, for messages
    _tables: Mapping[str, Table] | None = None

    @abstractmethod
    def _read_tables(self) -> Mapping[str, Table]:
        """Read the tables and views of the database."""

    def tables(self) -> Mapping[str, Table]:
        if self._tables is None:
            self._tables = self._read_tables()
        return self._tables

    def base_tables(self) -> list[str]:
        """Return the names of the tables that are not views."""
        return [name for name, table in self.tables().items() if not table.is_view]

    def forget(self) -> None:
        """Read the tables again on next use, because a statement or another session may have changed them."""
        self._tables = None

    def primary_key(self, table: str) -> list[str]:
        """Return the columns of the primary key, in the order of the table; empty without one."""
        return self.require_table(table).primary_key

    def require_table(self, table: str) -> Table:
        """Return a live table or view.

        Raises:
            SchemaMismatchError: it does not exist.
        """
        result = self.tables().get(table)
        if result is None:
            raise SchemaMismatchError(target=self.target, missing=f"table {table}", purpose="this command")
        return result

    def require_column(self, table: str, column: str) -> Column:
        """Return a column of a live table.

        Raises:
            SchemaMismatchError: it does not exist.
        """
        result = self.require_table(table).columns.get(column)
        if result is None:
            raise SchemaMismatchError(
                target=self.target, missing=f"column {table}.{column}", purpose="this command"
            )
        return result


class Catalog(LiveTables):
    """The live tables of a database with SQL."""

    _references: Mapping[str, Sequence[Reference]] | None = None

    def __init__(self, connection: Connection) -> None:
        self.target, self.connection = connection.target, connection
        connection.on_change.append(self.forget)

    @abstractmethod
    def _read_references(self) -> Mapping[str, Sequence[Reference]]:
        """Read the foreign keys between live tables, by the table to which they refer."""

    def references(self, table: str) -> Sequence[Reference]:
        """Return the foreign keys that refer to ``table``."""
        name = self.require_table(table).name
        if self._references is None:
            # of all tables at once: on a server each query takes a message there and back
            self._references = self._read_references()
        return self._references.get(name, [])

    def forget(self) -> None:
        super().forget()
        self._references = None

    def quote_table(self, table: str) -> str:
        return ident(self.require_table(table).name)

    def quote_column(self, table: str, column: str, alias: str) -> str:
        """Return the name of a live column in SQL, after ``alias`` and a point unless it is empty."""
        name = ident(self.require_column(table, column).name)
        return f"{alias}.{name}" if alias else name
