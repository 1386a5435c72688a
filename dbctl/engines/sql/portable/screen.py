"""Find columns that may have values that another engine cannot store, by conditions in SQL."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import ClassVar

from dbctl.engines.contract.portable import (
    ColumnPair,
    JsonForm,
    LogicalKind,
    LogicalType,
    StorageLimits,
    ValueChange,
    exchange_kind,
)
from dbctl.engines.sql.database import SqlDatabase
from dbctl.engines.sql.statement import quote_literal

#: Kinds that engines without strict types limit, too.
LIMITED = frozenset[LogicalKind]({"integer", "decimal", "real", "enum"})
#: Digits of an exponent of JSON that may be too large, and digits of a number that may be too large for a float.
EXPONENT_DIGITS: Mapping[JsonForm, int] = {"exact": 4, "float": 3}
FLOAT_DIGITS = 300
ZERO_SIGN = "the sign of zero is removed"
#: Terms of one expression: SQLite refuses expressions of more than 1000 levels.
MAX_TERMS = 400


class SqlValueScreen(ABC):
    """The part ``ValueScreen``; a class of each engine writes the conditions."""

    length: ClassVar[str]  #: SQL for the number of characters
    size: ClassVar[str]  #: SQL for the number of bytes

    def __init__(self, db: SqlDatabase) -> None:
        self._connection, self._catalog = db.connection, db.catalog

    @abstractmethod
    def find_condition(self, pair: ColumnPair, limits: StorageLimits) -> str | None:
        """Return SQL that is true for values that can be stored, with the column as {0}; false or true otherwise.

        None means that SQL cannot decide it, and an empty text that every value can be stored.
        """

    def find_suspects(
        self, table: str, pairs: Sequence[ColumnPair], limits: StorageLimits
    ) -> Collection[str]:
        conditions, suspects = dict[str, str](), set[str]()
        for pair in pairs:
            if pair.destination_type.converts_numbers:
                suspects.add(pair.column)
                continue
            name = self._catalog.quote_column(table, pair.column, "")
            is_limited = limits.enforces_types or pair.destination_type.kind in LIMITED
            condition = self.find_condition(pair, limits) if is_limited else ""
            if condition is None:
                suspects.add(pair.column)
            elif condition and pair.is_nullable:
                conditions[pair.column] = f"({name} is null or ({condition.format(name)}))"
            elif condition or not pair.is_nullable:
                conditions[pair.column] = f"({name} is not null and ({condition.format(name) or '1 = 1'}))"
        if conditions and not self._are_true(table, conditions.values()):
            suspects |= {
                column for column, condition in conditions.items() if not self._are_true(table, [condition])
            }
        return suspects

    def count_changes(
        self,
        table: str,
        pairs: Sequence[ColumnPair],
        limits: StorageLimits,  # noqa: ARG002 - used by an override
    ) -> Sequence[ValueChange]:
        # columns with strict types have only values that lines carry unchanged, except for the sign of zero
        columns = [pair.column for pair in pairs if exchange_kind(pair) == "real-unsigned"]
        quoted = self._catalog.quote_table(table)
        changes = list[ValueChange]()
        for column in columns:
            name = self._catalog.quote_column(table, column, "")
            sql = f"select count(*) from {quoted} where {name} = 0 and concat({name}, '') like '-%'"
            ((rows,),) = self._connection.fetch(sql)
            if rows:
                changes.append(ValueChange(table=table, column=column, rows=int(str(rows)), change=ZERO_SIGN))
        return changes

    def _are_true(self, table: str, conditions: Collection[str]) -> bool:
        return all(
            self._is_true(table, " and ".join(part)) for part in split_parts(list(conditions), MAX_TERMS)
        )

    def _is_true(self, table: str, condition: str) -> bool:
        # a condition may be NULL, and then its negation, too
        refused = f"case when {condition} then false else true end"
        sql = f"select 1 from {self._catalog.quote_table(table)} where {refused} limit 1"
        return not self._connection.fetch(sql)

    def limit_length(self, logical: LogicalType) -> Iterator[str]:
        """Yield the conditions of a text of a limited length."""
        if logical.length is not None:
            yield f"{self.length} <= {logical.length}"
        if logical.max_bytes is not None:
            yield f"{self.size} <= {logical.max_bytes}"


def split_parts(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Yield consecutive parts of at most ``size`` items."""
    return (items[start : start + size] for start in range(0, len(items), size))


def limit_integer(logical: LogicalType) -> str:
    """Return the condition of an integer."""
    bits = logical.bits - (not logical.is_unsigned)
    smallest = 0 if logical.is_unsigned else -(1 << bits)
    return f"{{0}} between {smallest} and {(1 << bits) - 1}"


def match_large_numbers(form: JsonForm) -> str:
    """Return a regular expression of servers for JSON with numbers that a column of this form may refuse."""
    exponent = f"[0-9][eE][-+]?[0-9]{{{{{EXPONENT_DIGITS[form]}}}}}"
    return exponent if form == "exact" else f"{exponent}|[0-9]{{{{{FLOAT_DIGITS}}}}}"


def match_labels(logical: LogicalType) -> str:
    """Return the condition of a label."""
    labels = ", ".join(map(quote_literal, logical.labels))
    return (
        f"{{0}} in ({labels})".replace("{0}", "\0").replace("{", "{{").replace("}", "}}").replace("\0", "{0}")
    )


def limit_decimal(source: LogicalType, destination: LogicalType) -> str | None:
    """Return the condition of a decimal that another decimal can store; None if SQL cannot decide it."""
    if destination.digits is None:
        return ""
    if source.digits is None or source.scale > destination.scale:
        return None
    whole = destination.digits - destination.scale
    return "" if source.digits - source.scale <= whole else f"abs({{0}}) < 1e{whole}"
