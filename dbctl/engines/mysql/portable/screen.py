"""Find values of MySQL and MariaDB that another engine cannot store."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dbctl.engines.contract.portable import ColumnPair, LogicalKind, LogicalType, StorageLimits
from dbctl.engines.sql.portable.read import (
    SqlValueScreen,
    limit_decimal,
    limit_integer,
    match_labels,
    match_large_numbers,
)

_SINGLE_BITS, _FIRST_YEAR, _LARGEST_HOUR = 32, 1, 838
#: A day of the calendar; the server also stores days without year, month or day.
_IS_DAY = "{0} >= '0001-01-01' and month({0}) > 0 and dayofmonth({0}) > 0"


class MySQLValueScreen(SqlValueScreen):
    length, size = "char_length({0})", "length(convert({0} using utf8mb4))"

    def find_condition(self, pair: ColumnPair, limits: StorageLimits) -> str | None:
        source, destination = pair.source_type, pair.destination_type
        if destination.kind in ("text", "any", "other"):
            is_special = destination.charset or destination.is_fixed or source.kind == "bytes"
            return None if is_special else _check_text(limits, *self.limit_length(destination))
        if source.kind != destination.kind:
            return None
        find = _CONDITIONS.get(source.kind)
        return find(source, destination, limits) if find else None


def _check_text(limits: StorageLimits, *conditions: str) -> str:
    texts = [] if limits.stores_nul else ["instr({0}, char(0)) = 0"]
    return " and ".join([*texts, *conditions])


def _check_integer(source: LogicalType, destination: LogicalType, limits: StorageLimits) -> str:
    del limits
    bits = source.bits + source.is_unsigned
    is_wider = bits <= destination.bits and not destination.is_unsigned
    return "" if is_wider else limit_integer(destination)


def _check_decimal(source: LogicalType, destination: LogicalType, limits: StorageLimits) -> str | None:
    return None if limits.exact_digits is not None else limit_decimal(source, destination)


def _check_real(source: LogicalType, destination: LogicalType, limits: StorageLimits) -> str | None:
    del limits
    return None if destination.bits == _SINGLE_BITS < source.bits else ""


def _check_time(source: LogicalType, destination: LogicalType, limits: StorageLimits) -> str | None:
    if destination.fraction < source.fraction:
        return None
    if source.kind == "time":
        return "" if limits.max_hours >= _LARGEST_HOUR else "{0} >= '00:00:00' and {0} < '24:00:00'"
    first, last = (limits.zoned_years if destination.has_zone else None) or limits.years
    years = "" if first <= _FIRST_YEAR else f" and year({{0}}) between {first} and {last}"
    return _IS_DAY + years


def _check_bytes(source: LogicalType, destination: LogicalType, limits: StorageLimits) -> str:
    del source, limits
    return "" if destination.length is None else f"length({{0}}) <= {destination.length}"


def _check_json(source: LogicalType, destination: LogicalType, limits: StorageLimits) -> str:
    if destination.json_form == "text":
        return ""
    conditions = [] if limits.stores_nul else ["instr({0}, concat(char(92), 'u0000')) = 0"]
    if source.json_form == "text":  # MariaDB also accepts a point without a digit after it
        numbers = f"{match_large_numbers(destination.json_form)}|[0-9][.]([^0-9]|$)"
        conditions.append(f"{{0}} not regexp '{numbers}'")
    return " and ".join(conditions)


_CONDITIONS: Mapping[LogicalKind, Callable[[LogicalType, LogicalType, StorageLimits], str | None]] = {
    "boolean": lambda _source, _destination, _limits: "{0} in (0, 1)",
    "integer": _check_integer,
    "decimal": _check_decimal,
    "real": _check_real,
    "date": _check_time,
    "time": _check_time,
    "timestamp": _check_time,
    "bytes": _check_bytes,
    "json": _check_json,
    "uuid": lambda _source, _destination, _limits: "",
    "enum": lambda _source, destination, _limits: match_labels(destination),
}
