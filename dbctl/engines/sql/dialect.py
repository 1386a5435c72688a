"""The SQL expressions in which engines differ."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime

from dbctl.engines.contract.database import Column, ShiftedTime
from dbctl.engines.sql.catalog import Statement


class Dialect(ABC):
    """The SQL of an engine for values of columns; it needs no connection.

    ``value`` is the SQL of a value, ``column`` the column of the value.
    """

    random = "random()"  #: SQL for a random number
    native_types: frozenset[str] = frozenset()  #: as in ``Readable.native_types``

    @abstractmethod
    def roughly_before(self, value: str, column: Column, timestamp: datetime, statement: Statement) -> str:
        """Return SQL that can use an index and is true for all rows with a time before ``timestamp``, and few others."""

    @abstractmethod
    def to_milliseconds(self, value: str, column: Column) -> str:
        """Return SQL that reads a stored time of any form as milliseconds since 1970; NULL if it is not a time."""

    @abstractmethod
    def fold_case(self, value: str, column: Column) -> str:
        """Return SQL that sorts ``value`` case-insensitively."""

    @abstractmethod
    def text_test(self, value: str, column: Column, op: str, statement: Statement, text: str) -> str:
        """Return SQL for the case-insensitive operators ``same``, ``contains`` and ``starts``."""

    @abstractmethod
    def is_among(self, value: str, column: Column, statement: Statement, values: Sequence[object]) -> str:
        """Return SQL for membership in ``values``, with the whole set as one parameter."""

    @abstractmethod
    def is_text(self, column: Column) -> bool:
        """Whether a column may contain text."""

    @abstractmethod
    def text_position(self, value: str, column: Column, statement: Statement, text: str) -> str:
        """Return SQL for the position of a text in ``value``, from 1."""

    def contains(self, value: str, column: Column, statement: Statement, text: str) -> str:
        """Return SQL for "``value`` contains ``text``"."""
        return self.text_test(value, column, "contains", statement, text)

    def compare(self, value: str, column: Column, op: str, statement: Statement, operand: object) -> str:
        """Return SQL for a comparison with an operand that is neither None nor a sequence."""
        if isinstance(operand, datetime):
            return f"{self.to_milliseconds(value, column)} {op} {statement.bind(round(operand.timestamp() * 1000))}"
        return f"{value} {op} {statement.bind(operand)}"

    def equal_operands(self, value: str, column: Column, other: str, other_column: Column) -> tuple[str, str]:
        """Return SQL for two values in a form in which they can be compared."""
        return value, other

    def group_expression(self, value: str, column: Column) -> str:
        """Return SQL for GROUP BY, equal for equal values."""
        return value

    def as_text(self, value: str, column: Column) -> str:
        return value

    def sort_expression(self, value: str, column: Column) -> str:
        """Return SQL that sorts ``value``, texts by their bytes."""
        return value

    def min_operand(self, value: str, column: Column) -> str:
        return value

    def first_nonempty(self, operands: Sequence[tuple[str, Column]]) -> str:
        """Return SQL for the first operand that is neither NULL nor empty, sorted by its bytes."""
        return f"coalesce({', '.join(f'nullif({value}, {chr(39) * 2})' for value, _ in operands)})"

    def sort_time(self, value: str, column: Column) -> str:
        return self.to_milliseconds(value, column)

    @abstractmethod
    def shift_time(self, value: str, column: Column, shift: ShiftedTime, target: Column) -> str:
        """Return SQL for a time that is moved by an interval, in the form that the column ``target`` stores."""
