"""Which rows of a JSON file meet conditions, and their order."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from operator import eq, ge, gt, le, lt, ne
from typing import Any

from msgspec import field

from dbctl.engines.contract.database import (
    AllOf,
    AnyOf,
    Condition,
    InSubquery,
    Not,
    Order,
    Query,
    ReferenceCount,
    Where,
)
from dbctl.engines.sql.catalog import lower_ascii
from dbctl.engines.sql.codec import is_encodable
from dbctl.errors.usage import SchemaMismatchError, ValueInvalidError
from dbctl.model import Struct
from dbctl.profiles.codecs import read_time

JsonRow = dict[str, object]
Test = Callable[[JsonRow], bool]

#: The operators that compare two values that are not NULL.
COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge, "identical": eq,
}  # fmt: skip
#: The operators that compare texts, whose ASCII letters are in lower case.
TEXT_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "same": eq,
    "contains": lambda stored, word: word in stored,
    "starts": lambda stored, word: stored.startswith(word),
    "element": lambda stored, word: word.strip() in (part.strip() for part in stored.split(";")),
}


class ToyColumn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A column of a table in the file."""

    type: str = "text"
    key: bool = False  #: part of the primary key; a new row gets the next number if its only key is null
    required: bool = False
    default: object = None


class ToyTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table in the file."""

    columns: Mapping[str, ToyColumn]
    rows: list[JsonRow] = field(default_factory=list)

    @property
    def key(self) -> list[str]:
        """The columns of the primary key."""
        return [name for name, column in self.columns.items() if column.key]


class Content:
    """The tables of a file, and queries of them."""

    def __init__(self, tables: Mapping[str, ToyTable], target: str) -> None:
        self.tables, self.target = tables, target

    def find_table(self, name: str, columns: Sequence[str] = ()) -> ToyTable:
        """Return a table that has some columns.

        Raises:
            SchemaMismatchError: the table or a column does not exist.
        """
        table = self.tables.get(name)
        if table is None:
            raise SchemaMismatchError(target=self.target, missing=f"table {name}", purpose="this")
        for column in columns:
            if column not in table.columns:
                raise SchemaMismatchError(
                    target=self.target, missing=f"column {name}.{column}", purpose="this"
                )
        return table

    def read(self, query: Query) -> list[JsonRow]:
        """Return the rows of a query, with all columns."""
        table = self.find_table(query.table, query.columns)
        rows = self.find_rows(query.table, query.where)
        for order in reversed([*query.order_by, *(Order([name]) for name in table.key)]):
            self._sort(rows, query.table, order)
        end = None if query.limit is None else query.offset + query.limit
        return rows[query.offset : end]

    def find_rows(self, table: str, where: Sequence[Where]) -> list[JsonRow]:
        """Return the rows that meet all conditions, in stored order."""
        test = self.create_test(table, AllOf(where))
        return [row for row in self.find_table(table).rows if test(row)]

    def create_test(self, table: str, where: Where) -> Test:
        """Return the function that tests a row of a table."""
        match where:
            case AllOf(conditions):
                tests = [self.create_test(table, condition) for condition in conditions]
                return lambda row: all(test(row) for test in tests)
            case AnyOf(conditions):
                tests = [self.create_test(table, condition) for condition in conditions]
                return lambda row: any(test(row) for test in tests)
            case Not(condition):
                test = self.create_test(table, condition)
                return lambda row: not test(row)
            case InSubquery(columns, other, targets, conditions):
                self.find_table(table, columns)
                linked = {tuple(row[name] for name in targets) for row in self.find_rows(other, conditions)}
                linked = {key for key in linked if None not in key}
                return lambda row: tuple(row[name] for name in columns) in linked
            case ReferenceCount(column, other, referring, op, count):
                counts = Counter(row[referring] for row in self.find_table(other, [referring]).rows)
                return lambda row: COMPARISONS[op](0 if row[column] is None else counts[row[column]], count)
            case Condition(column, op, value):
                self.find_table(table, [column])
                return _create_comparison(column, op, value)

    def _sort(self, rows: list[JsonRow], table: str, order: Order) -> None:
        """Sort rows by one term; null is last in both directions, and equal rows retain their order."""
        if order.random:
            random.shuffle(rows)
            return
        values: Mapping[int, object]
        if link := order.through:
            self.find_table(link.table, order.columns)
            smallest = dict[tuple[object, ...], object]()
            for row in self.find_rows(link.table, link.where):
                key, value = tuple(row[name] for name in link.target_columns), _read_term(row, order)
                if value is not None and (key not in smallest or value < smallest[key]):  # type: ignore[operator]
                    smallest[key] = value
            values = {id(row): smallest.get(tuple(row[name] for name in link.columns)) for row in rows}
        else:
            self.find_table(table, order.columns)
            values = {id(row): _read_term(row, order) for row in rows}
        present = [row for row in rows if values[id(row)] is not None]
        present.sort(key=lambda row: values[id(row)], reverse=order.descending)  # type: ignore[arg-type,return-value]
        rows[:] = [*present, *(row for row in rows if values[id(row)] is None)]


def check_value(name: str, value: object) -> None:
    """Refuse a value that the file cannot store, or that no row has.

    Raises:
        ValueInvalidError: with the reason.
    """
    reason = ""
    if isinstance(value, str):
        reason = "" if is_encodable(value) else "it is not valid UTF-8"
    elif isinstance(value, int):
        reason = "" if -(2**63) <= value < 2**63 else "it has more than 64 bits"
    elif isinstance(value, float):
        reason = "it is NaN" if math.isnan(value) else ""
    elif value is not None:
        reason = f"it is of the type {type(value).__name__}"
    if reason:
        raise ValueInvalidError(name=name, value=ascii(value), reason=reason)


def _create_comparison(column: str, op: str, value: object) -> Test:
    if op == "in":
        values = list(value)  # type: ignore[call-overload] # a sequence
        for member in values:
            check_value(column, member)
        return lambda row: row[column] is not None and row[column] in values
    if value is None:
        return lambda row: (row[column] is None) is (op != "!=")
    if isinstance(value, datetime):
        compare_times = COMPARISONS[op]
        return lambda row: (time := read_time(row[column])) is not None and compare_times(time, value)
    check_value(column, value)
    if op in TEXT_TESTS:
        word, test_text = lower_ascii(str(value)), TEXT_TESTS[op]
        return lambda row: row[column] is not None and test_text(lower_ascii(str(row[column])), word)
    compare = COMPARISONS[op]
    is_text = isinstance(value, str)
    return lambda row: (
        row[column] is not None and isinstance(row[column], str) is is_text and compare(row[column], value)
    )


def _read_term(row: JsonRow, order: Order) -> object:
    """Return the value by which a term sorts a row: that of the first column that is neither null nor empty."""
    for name in order.columns:
        value = row[name]
        if order.time:
            value = read_time(value)
        if value is not None and (value != "" or len(order.columns) == 1):
            return lower_ascii(value) if order.nocase and isinstance(value, str) else value
    return None
