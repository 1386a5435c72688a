"""Find columns of SQLite, which may have values of any type, that another engine cannot store."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from dbctl.engines.sqlite.connection import UNDECODABLE
from dbctl.engines.sqlite.values import find_affinity
from dbctl.extensions.transfer.engines.sqlite.values import LOSES_DIGITS, register_functions
from dbctl.extensions.transfer.portable.contract import (
    ColumnPair,
    LogicalKind,
    LogicalType,
    StorageLimits,
    ValueChange,
    exchange_kind,
)
from dbctl.extensions.transfer.portable.read import (
    EXPONENT_DIGITS,
    FLOAT_DIGITS,
    MAX_TERMS,
    ValueScreen,
    limit_integer,
    match_labels,
)
from dbctl.model import split_batches

if TYPE_CHECKING:
    from dbctl.engines.sqlite.connection import SQLiteConnection


_UUID = "-".join("[0-9a-f]" * digits for digits in (8, 4, 4, 4, 12))
_LARGEST_FLOAT = 1.7976931348623157e308
#: A day of the calendar, after 28 computed again: without a modifier SQLite returns any day up to 31.
_IS_DAY = (
    "(substr({0}, 9, 2) <= '28' or substr({0}, 1, 10) is date({0}, '+0 days')) and substr({0}, 1, 4) > '0000'"
)
#: A time that is valid, with the form of lines, and a fraction or not; the most frequent form is compared first.
_TIMESTAMP = (
    f"case when {{0}} is datetime({{0}}) then {_IS_DAY} and substr({{0}}, 12, 2) < '24'"
    " when typeof({0}) = 'integer' then {0} between 1 and 99999999999999"
    f" when length({{0}}) between 21 and {{{{}}}} then substr({{0}}, 1, 19) is datetime(substr({{0}}, 1, 19)) and {_IS_DAY}"
    " and substr({0}, 12, 2) < '24' and substr({0}, 20) glob '.[0-9]*' and substr({0}, 21) not glob '*[^0-9]*' else false end"
)
#: Columns of one result; SQLite has a limit of 2000.
_MAX_RESULTS = 1000
_IS_TEXT = "typeof({0}) = 'text'"
_SINGLE_BITS, _WHOLE_BITS, _SECONDS_LENGTH = 32, 64, 19


class SQLiteValueScreen(ValueScreen):
    length, size = "length({0})", "length(cast({0} as blob))"
    _connection: SQLiteConnection

    def find_suspects(
        self, table: str, pairs: Sequence[ColumnPair], limits: StorageLimits
    ) -> Collection[str]:
        suspects = set(super().find_suspects(table, pairs, limits))
        texts = [
            pair.column
            for pair in pairs
            if pair.destination_type.kind in ("text", "enum", "json") and pair.column not in suspects
        ]
        for part in split_batches(texts, MAX_TERMS) if not limits.stores_invalid_text else ():
            if not self._are_valid(table, part, limits):
                suspects.update(part)
        return suspects

    def count_changes(
        self, table: str, pairs: Sequence[ColumnPair], limits: StorageLimits
    ) -> Sequence[ValueChange]:
        conditions = [
            (pair.column, change, condition.format(self._catalog.quote_column(table, pair.column, "")))
            for pair in pairs
            for change, condition in _list_changes(pair, limits)
        ]
        register_functions(self._connection.driver)
        counts, numbers = [f"count(case when {condition} then 1 end)" for _, _, condition in conditions], []
        for part in split_batches(counts, _MAX_RESULTS):
            sql = f"select {', '.join(part)} from {self._catalog.quote_table(table)}"
            ((*values,),) = self._connection.fetch(sql)
            numbers += values
        return [
            ValueChange(table=table, column=column, rows=int(str(rows)), change=change)
            for (column, change, _), rows in zip(conditions, numbers, strict=True)
            if rows
        ]

    def _are_valid(self, table: str, columns: Sequence[str], limits: StorageLimits) -> bool:
        """Whether texts are valid UTF-8, which the driver finds as it decodes each row, without refused NUL characters."""
        names = (self._catalog.quote_column(table, column, "") for column in columns)
        row = " || ".join(f"coalesce({name}, '')" for name in names)
        driver = self._connection.driver
        text_factory = driver.text_factory
        driver.text_factory = str
        try:
            rows = driver.execute(f"select {row} from {self._catalog.quote_table(table)}")
            nul_count = sum("\0" in text for (text,) in rows)
        except sqlite3.OperationalError as error:
            if UNDECODABLE in str(error):
                return False
            raise self._connection.translate(error) from error
        finally:
            driver.text_factory = text_factory
        return not nul_count or limits.stores_nul

    def find_condition(self, pair: ColumnPair, limits: StorageLimits) -> str | None:
        find = _CONDITIONS.get(pair.destination_type.kind)
        if find is not None:
            return find(pair.destination_type, limits)
        if pair.destination_type.charset or pair.destination_type.is_fixed:
            return None
        return " and ".join([_IS_TEXT, *self.limit_length(pair.destination_type)])


def _list_changes(pair: ColumnPair, limits: StorageLimits) -> Iterator[tuple[str, str]]:
    """Yield changes of values in words, each with the SQL that is true for them, with the column as {0}."""
    kind = exchange_kind(pair)
    if kind == "bytes":
        yield "text and numbers become bytes", "typeof({0}) not in ('blob', 'null')"
    elif kind != "uuid" or not limits.enforces_types:  # servers store both forms of a UUID as the same value
        yield "bytes become text", "typeof({0}) = 'blob'"
    if kind in ("timestamp", "date"):
        yield "digits after the microsecond are removed", LOSES_DIGITS
    has_no_affinity = not limits.enforces_types and find_affinity(pair.destination) == "BLOB"
    if has_no_affinity and kind in ("text", "any"):
        yield "numbers become text", "typeof({0}) in ('integer', 'real')"


def _check_integer(logical: LogicalType, limits: StorageLimits) -> str:
    del limits
    is_whole = logical.bits == _WHOLE_BITS and not logical.is_unsigned
    return "typeof({0}) = 'integer'" + ("" if is_whole else f" and {limit_integer(logical)}")


def _check_decimal(logical: LogicalType, limits: StorageLimits) -> str:
    is_integer = "typeof({0}) = 'integer'"
    if logical.digits is None or limits.exact_digits is not None:
        return is_integer
    largest = f"1e{logical.digits - logical.scale}"
    return f"{is_integer} and {{0}} > -{largest} and {{0}} < {largest}"  # abs() of the smallest integer is an error


def _check_real(logical: LogicalType, limits: StorageLimits) -> str | None:
    del limits
    if logical.bits == _SINGLE_BITS:
        return None
    return (
        f"typeof({{0}}) in ('integer', 'real') and {{0}} between -{_LARGEST_FLOAT!r} and {_LARGEST_FLOAT!r}"
    )


def _check_bytes(logical: LogicalType, limits: StorageLimits) -> str:
    del limits
    length = "" if logical.length is None else f" and length({{0}}) <= {logical.length}"
    return f"typeof({{0}}) = 'blob'{length}"


def _check_timestamp(logical: LogicalType, limits: StorageLimits) -> str:
    condition = _TIMESTAMP.replace("{{}}", str(_SECONDS_LENGTH + 1 + logical.fraction))
    if logical.has_zone and limits.zoned_years:
        first, last = limits.zoned_years
        return f"{condition} and {_IS_TEXT} and substr({{0}}, 1, 4) between '{first}' and '{last}'"
    return condition


def _check_uuid(logical: LogicalType, limits: StorageLimits) -> str:
    del logical
    condition = f"typeof({{0}}) = 'text' and {{0}} glob '{_UUID}'"
    return condition if limits.stores_all_uuids else f"{condition} and substr({{0}}, 15, 1) < '8'"


def _check_json(logical: LogicalType, limits: StorageLimits) -> str:
    condition = _IS_TEXT + " and json_valid({0}) and {0} not glob '*\\u[dD][89abAB]*'"
    if limits.json_levels is not None:
        signs = "length({0}) - length(replace(replace({0}, '[', ''), '{{', ''))"
        condition += f" and {signs} <= {limits.json_levels}"
    if logical.json_form == "text":
        return condition
    digits = "[0-9]" * EXPONENT_DIGITS[logical.json_form]
    condition += f" and {{0}} not glob '*[0-9][eE]{digits}*' and {{0}} not glob '*[0-9][eE][-+]{digits}*'"
    if logical.json_form == "float":
        condition += f" and {{0}} not glob '*{'[0-9]' * FLOAT_DIGITS}*'"
    return condition if limits.stores_nul else f"{condition} and instr({{0}}, '\\u0000') = 0"


_CONDITIONS: Mapping[LogicalKind, Callable[[LogicalType, StorageLimits], str | None]] = {
    "integer": _check_integer,
    "boolean": lambda _logical, _limits: "typeof({0}) = 'integer' and {0} in (0, 1)",
    "decimal": _check_decimal,
    "real": _check_real,
    "bytes": _check_bytes,
    "timestamp": _check_timestamp,
    "date": lambda _logical, _limits: f"{{0}} is date({{0}}) and {_IS_DAY}",
    "time": lambda _logical, _limits: "{0} is time({0}) and substr({0}, 1, 2) < '24'",
    "uuid": _check_uuid,
    "json": _check_json,
    "enum": lambda logical, _limits: match_labels(logical),
    "set": lambda _logical, _limits: None,
    "any": lambda _logical, _limits: "",
}
