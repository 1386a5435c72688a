"""Conditions of the contract as predicates of the library: no joins, no subqueries, no CASE, no parameters."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import eq, ge, gt, le, lt
from string import ascii_lowercase, ascii_uppercase
from typing import TYPE_CHECKING

from dbctl.engines.contract import AllOf, AnyOf, Behind, Column, Condition, Linked, Not, Table, Where, Within
from dbctl.engines.lancedb.values import EVERY, NONE, family, ident, literal, refuse, text
from dbctl.errors import SchemaLacksError

if TYPE_CHECKING:
    import pyarrow as pa

    from dbctl.engines.lancedb.query.ordering import Sorted

Row = tuple[object, ...]

COMPARES = {"=": eq, "<": lt, "<=": le, ">": gt, ">=": ge}
#: Numbers below it are seconds: as milliseconds they would all lie before March 1973.
SECONDS = 100_000_000_000


class Filters:
    """The half of the contract that asks."""

    target: str

    @abstractmethod
    def tables(self) -> Mapping[str, Table]: ...

    @abstractmethod
    def _arrow(self, table: str) -> pa.Schema:
        """Return the schema of a table as the library tells it."""

    @abstractmethod
    def _read(self, table: str, columns: Sequence[str], where: Sequence[Where]) -> list[Row]:
        """Return rows in any order."""

    def _checked(self, table: str) -> Table:
        found = self.tables().get(table)
        if found is None:
            raise SchemaLacksError(target=self.target, what=f"table {table}", purpose="this command")
        return found

    def _described(self, table: str, column: str) -> Column:
        found = self._checked(table).columns.get(column)
        if found is None:
            raise SchemaLacksError(
                target=self.target, what=f"column {table}.{column}", purpose="this command"
            )
        return found

    @abstractmethod
    def ranked(self, table: str, sorting: Sorted, column: str, where: Sequence[Where]) -> list[object]:
        """Return the values of a column in an order of rows, those without a value to sort by left out."""

    def named(self, table: str, column: str) -> str:
        """Return a column as an expression."""
        return ident(self._described(table, column).name)

    def kind(self, table: str, column: str) -> pa.DataType:
        """Return the type of a column."""
        return self._arrow(table).field(self._described(table, column).name).type

    def key(self, table: str) -> list[str]:
        """Return the columns that tell rows apart."""
        return [column.name for column in self._checked(table).columns.values() if column.key]

    def predicate(self, table: str, where: Sequence[Where]) -> str | None:
        """Return what all of ``where`` say together; None: nothing."""
        parts = [self._test(table, one) for one in where]
        return " and ".join(f"({part})" for part in parts) or None

    def _test(self, table: str, where: Where) -> str:
        match where:
            case Condition():
                return self._compare(table, where)
            case Within():
                return self._within(table, where)
            case Linked():
                return self._linked(table, where)
            case AnyOf() | AllOf():
                word, of_none = (" or ", NONE) if isinstance(where, AnyOf) else (" and ", EVERY)
                return word.join(f"({self._test(table, one)})" for one in where.among) or of_none
            case Not():
                return f"({self._test(table, where.where)}) is not true"
            case Behind():
                return self._test(table, _behind(where))

    def _compare(self, table: str, where: Condition) -> str:
        name, kind = self.named(table, where.column), self.kind(table, where.column)
        op, wanted = where.op, where.value
        if op == "in":
            if not isinstance(wanted, Sequence) or isinstance(wanted, str):
                raise TypeError("op 'in' takes a sequence")
            return self._among(name, kind, wanted)
        if op in ("same", "contains", "starts", "element"):
            return _text_test(name if family(kind) == "text" else f"cast({name} as string)", op, str(wanted))
        if wanted is None:
            return f"{name} is null" if op == "=" else f"{name} is not null" if op == "!=" else NONE
        return _comparison(name, kind, op, wanted)

    def _among(self, name: str, kind: pa.DataType, among: Sequence[object]) -> str:
        written = [one for one in (literal(value, kind) for value in among) if one is not None]
        return f"{name} in ({', '.join(dict.fromkeys(written))})" if written else NONE

    def _within(self, table: str, where: Within) -> str:
        rows = dict.fromkeys(self._read(where.table, where.to, where.where))
        if len(where.columns) == 1:
            column = where.columns[0]
            return self._among(
                self.named(table, column),
                self.kind(table, column),
                [one for (one,) in rows if one is not None],
            )
        return self._test(
            table,
            AnyOf([same_row(where.columns, row) for row in rows if None not in row]),
        )

    def _linked(self, table: str, where: Linked) -> str:
        numbers = Counter(value for (value,) in self._read(where.table, [where.to], ()) if value is not None)
        holds = COMPARES[where.op]
        name, kind = self.named(table, where.column), self.kind(table, where.column)
        if not holds(0, where.number):
            return self._among(
                name, kind, [one for one, found in numbers.items() if holds(found, where.number)]
            )
        others = self._among(
            name, kind, [one for one, found in numbers.items() if not holds(found, where.number)]
        )
        return f"({others}) is not true"


def _comparison(name: str, kind: pa.DataType, op: str, wanted: object) -> str:
    if isinstance(wanted, datetime) and family(kind) != "time":
        return _times(name, kind, op, round(wanted.timestamp() * 1000))
    written = literal(wanted, kind)
    if written is not None:
        return f"{name} {op} {written}"
    if isinstance(wanted, float) and family(kind) == "whole":
        return f"cast({name} as double) {op} {wanted!r}"
    return f"{name} is not null" if op == "!=" else NONE


def same_row(columns: Sequence[str], row: Sequence[object]) -> Where:
    """Return the condition that columns hold the values of a row."""
    return AllOf([Condition(name, "=", value) for name, value in zip(columns, row, strict=True)])


def _behind(where: Behind) -> Where:
    column, value = where.key[0], where.values[0]
    larger = Condition(column, ">", value)
    if len(where.key) == 1:
        return larger
    rest = Behind(where.key[1:], where.values[1:])
    return AnyOf([larger, AllOf([Condition(column, "=", value), rest])])


def folded(value: str) -> str:
    """Return an expression that is the same whatever the case of ASCII letters."""
    return f"translate({value}, '{ascii_uppercase}', '{ascii_lowercase}')"


def _low(value: str) -> str:
    return value.translate(str.maketrans(ascii_uppercase, ascii_lowercase))


def _text_test(value: str, op: str, wanted: str) -> str:
    refuse(wanted)
    sought = _low(wanted)
    if op == "element":
        parted = f"concat(';', replace({folded(value)}, '; ', ';'), ';')"
        return f"strpos({parted}, {text(f';{sought.strip().replace(chr(59) + chr(32), chr(59))};')}) > 0"
    if op == "same":
        return f"{folded(value)} = {text(sought)}"
    if not sought:
        return f"{value} is not null"
    if op == "starts":
        return f"starts_with({folded(value)}, {text(sought)})"
    return f"strpos({folded(value)}, {text(sought)}) > 0"


def _times(name: str, kind: pa.DataType, op: str, milliseconds: int) -> str:
    """Compare a stored time of whatever form with a moment; rows that hold none are not met."""
    if family(kind) == "text":
        moment = f"to_timestamp_millis({milliseconds})"
        return (
            f"(regexp_like({name}, '^[0-9]{{4}}-[0-9]{{2}}-') and try_cast({name} as timestamp) {op} {moment})"
            f" or (regexp_like({name}, '^[0-9]{{9,11}}$') and try_cast({name} as bigint) * 1000 {op} {milliseconds})"
            f" or (regexp_like({name}, '^[0-9]{{12,14}}$') and try_cast({name} as bigint) {op} {milliseconds})"
        )
    if family(kind) not in {"whole", "fraction"}:
        return NONE
    number = f"cast({name} as double)"
    small = f"abs({number}) < {SECONDS}.0"
    return (
        f"({small} and {number} * 1000.0 {op} {milliseconds}.0)"
        f" or (not ({small}) and {number} {op} {milliseconds}.0)"
    )
