"""Compile conditions of the contract to predicates of the library, which has no joins, subqueries, CASE or parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from operator import eq, ge, gt, le, lt
from string import ascii_lowercase, ascii_uppercase
from typing import TYPE_CHECKING

from dbctl.engines.contract import (
    AllOf,
    AnyOf,
    Condition,
    InSubquery,
    KeysetCursor,
    Not,
    ReferenceCount,
    Where,
)
from dbctl.engines.lancedb.catalog import Catalog
from dbctl.engines.lancedb.values import (
    MATCH_ALL,
    MATCH_NONE,
    Row,
    quote_text,
    refuse_unstorable,
    to_literal,
    type_family,
)

if TYPE_CHECKING:
    import pyarrow as pa

OPERATORS = {"=": eq, "<": lt, "<=": le, ">": gt, ">=": ge}
#: Smaller numbers are seconds: as milliseconds they would be before March 1973.
MIN_MILLISECONDS = 100_000_000_000


class PredicateCompiler:
    """Compiles conditions on the tables of a catalog."""

    def __init__(
        self, catalog: Catalog, read_rows: Callable[[str, Sequence[str], Sequence[Where]], list[Row]]
    ) -> None:
        """Store the catalog.

        Args:
            catalog: the tables.
            read_rows: returns the values of columns of a table, of the rows that meet all conditions, for subqueries.
        """
        self._catalog, self._read_rows = catalog, read_rows

    def predicate(self, table: str, where: Sequence[Where]) -> str | None:
        """Return the conjunction of the conditions, or None without conditions."""
        return self._join(table, where, " and ") or None

    def _join(self, table: str, conditions: Sequence[Where], operator: str) -> str:
        return operator.join(f"({self._compile(table, condition)})" for condition in conditions)

    def _compile(self, table: str, where: Where) -> str:
        match where:
            case Condition():
                return self._compare(table, where)
            case InSubquery():
                return self._in_subquery(table, where)
            case ReferenceCount():
                return self._reference_count(table, where)
            case AnyOf() | AllOf():
                is_any = isinstance(where, AnyOf)
                joined = self._join(table, where.conditions, " or " if is_any else " and ")
                return joined or (MATCH_NONE if is_any else MATCH_ALL)
            case Not():
                return f"({self._compile(table, where.condition)}) is not true"
            case KeysetCursor():
                return self._compile(table, _after_cursor(where))

    def _compare(self, table: str, where: Condition) -> str:
        name, column_type = self._resolve(table, where.column)
        op, value = where.op, where.value
        if op == "in":
            if not isinstance(value, Sequence) or isinstance(value, str):
                raise TypeError("op 'in' takes a sequence")
            return self._in_list(name, column_type, value)
        if op in ("same", "contains", "starts", "element"):
            text = name if type_family(column_type) == "text" else f"cast({name} as string)"
            return _text_test(text, op, str(value))
        if value is None:
            return f"{name} is null" if op == "=" else f"{name} is not null" if op == "!=" else MATCH_NONE
        return _compare_value(name, column_type, op, value)

    def _resolve(self, table: str, column: str) -> tuple[str, pa.DataType]:
        """Return a column as an expression, and its type."""
        return self._catalog.column_expression(table, column), self._catalog.column_type(table, column)

    def _in_list(self, name: str, column_type: pa.DataType, values: Sequence[object]) -> str:
        literals = [text for text in (to_literal(value, column_type) for value in values) if text is not None]
        return f"{name} in ({', '.join(dict.fromkeys(literals))})" if literals else MATCH_NONE

    def _in_subquery(self, table: str, where: InSubquery) -> str:
        rows = dict.fromkeys(self._read_rows(where.table, where.target_columns, where.where))
        if len(where.columns) == 1:
            name, column_type = self._resolve(table, where.columns[0])
            return self._in_list(name, column_type, [value for (value,) in rows if value is not None])
        alternatives = [matches_row(where.columns, row) for row in rows if None not in row]
        return self._compile(table, AnyOf(alternatives))

    def _reference_count(self, table: str, where: ReferenceCount) -> str:
        rows = self._read_rows(where.table, [where.referring_column], ())
        counts = Counter(value for (value,) in rows if value is not None)
        is_match = OPERATORS[where.op]
        includes_zero = is_match(0, where.count)  # rows without references match, too: list the others
        listed = [key for key, count in counts.items() if is_match(count, where.count) != includes_zero]
        predicate = self._in_list(*self._resolve(table, where.column), listed)
        return f"({predicate}) is not true" if includes_zero else predicate


def _compare_value(name: str, column_type: pa.DataType, op: str, operand: object) -> str:
    if isinstance(operand, datetime) and type_family(column_type) != "time":
        return _compare_time(name, column_type, op, round(operand.timestamp() * 1000))
    operand_literal = to_literal(operand, column_type)
    if operand_literal is not None:
        return f"{name} {op} {operand_literal}"
    if isinstance(operand, float) and type_family(column_type) == "integer":
        return f"cast({name} as double) {op} {operand!r}"
    return f"{name} is not null" if op == "!=" else MATCH_NONE


def matches_row(columns: Sequence[str], row: Sequence[object]) -> Where:
    """Return the condition that the columns have the values of a row."""
    return AllOf([Condition(name, "=", value) for name, value in zip(columns, row, strict=True)])


def _after_cursor(where: KeysetCursor) -> Where:
    column, value = where.key[0], where.values[0]
    larger = Condition(column, ">", value)
    if len(where.key) == 1:
        return larger
    next_cursor = KeysetCursor(where.key[1:], where.values[1:])
    return AnyOf([larger, AllOf([Condition(column, "=", value), next_cursor])])


def fold_case(value: str) -> str:
    """Return an expression with ASCII letters in lower case."""
    return f"translate({value}, '{ascii_uppercase}', '{ascii_lowercase}')"


def _lower_ascii(value: str) -> str:
    return value.translate(str.maketrans(ascii_uppercase, ascii_lowercase))


def _text_test(value: str, op: str, operand: str) -> str:
    refuse_unstorable(operand)
    folded_operand = _lower_ascii(operand)
    if op == "element":
        elements = f"concat(';', replace({fold_case(value)}, '; ', ';'), ';')"
        return f"strpos({elements}, {quote_text(f';{folded_operand.strip().replace(chr(59) + chr(32), chr(59))};')}) > 0"
    if op == "same":
        return f"{fold_case(value)} = {quote_text(folded_operand)}"
    if not folded_operand:
        return f"{value} is not null"
    if op == "starts":
        return f"starts_with({fold_case(value)}, {quote_text(folded_operand)})"
    return f"strpos({fold_case(value)}, {quote_text(folded_operand)}) > 0"


def _compare_time(name: str, column_type: pa.DataType, op: str, milliseconds: int) -> str:
    """Return a predicate that compares a stored time of any form; rows without a valid time do not match."""
    if type_family(column_type) == "text":
        timestamp = f"to_timestamp_millis({milliseconds})"
        return (
            f"(regexp_like({name}, '^[0-9]{{4}}-[0-9]{{2}}-') and try_cast({name} as timestamp) {op} {timestamp})"
            f" or (regexp_like({name}, '^[0-9]{{9,11}}$') and try_cast({name} as bigint) * 1000 {op} {milliseconds})"
            f" or (regexp_like({name}, '^[0-9]{{12,14}}$') and try_cast({name} as bigint) {op} {milliseconds})"
        )
    if type_family(column_type) not in {"integer", "float"}:
        return MATCH_NONE
    number = f"cast({name} as double)"
    is_seconds = f"abs({number}) < {MIN_MILLISECONDS}.0"
    return (
        f"({is_seconds} and {number} * 1000.0 {op} {milliseconds}.0)"
        f" or (not ({is_seconds}) and {number} {op} {milliseconds}.0)"
    )
