"""Find values of PostgreSQL that another engine cannot store."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dbctl.extensions.transfer.portable.contract import ColumnPair, LogicalKind, LogicalType, StorageLimits
from dbctl.extensions.transfer.portable.read import (
    SqlValueScreen,
    limit_decimal,
    limit_integer,
    match_labels,
    match_large_numbers,
)

_SINGLE_BITS = 32


class PostgreSQLValueScreen(SqlValueScreen):
    length, size = "char_length(({0})::text)", "octet_length(({0})::text)"

    def find_condition(self, pair: ColumnPair, limits: StorageLimits) -> str | None:
        source, destination = pair.source_type, pair.destination_type
        if destination.kind in ("text", "any", "other"):
            is_special = destination.charset or destination.is_fixed or source.kind == "bytes"
            return None if is_special else " and ".join(self.limit_length(destination))
        if source.kind != destination.kind:
            return None
        find = _CONDITIONS.get(source.kind)
        return find(source, destination, limits) if find else None


def _check_integer(source: LogicalType, destination: LogicalType, limits: StorageLimits) -> str:
    del limits
    return (
        "" if source.bits <= destination.bits and not destination.is_unsigned else limit_integer(destination)
    )


def _check_decimal(source: LogicalType, destination: LogicalType, limits: StorageLimits) -> str | None:
    if limits.exact_digits is not None:
        return None
    condition = limit_decimal(source, destination)
    if limits.stores_nan or condition is None:
        return condition
    return " and ".join(filter(None, ["{0} <> 'NaN'", condition]))


def _check_real(source: LogicalType, destination: LogicalType, limits: StorageLimits) -> str | None:
    if destination.bits == _SINGLE_BITS < source.bits:
        return None
    refused = [] if limits.stores_nan else ["'NaN'"]
    refused += [] if limits.stores_infinity else ["'Infinity'", "'-Infinity'"]
    return f"{{0}} not in ({', '.join(refused)})" if refused else ""


def _check_time(source: LogicalType, destination: LogicalType, limits: StorageLimits) -> str | None:
    if destination.fraction < source.fraction:
        return None
    if source.kind == "time":
        return "{0} < '24:00'"
    first, last = (limits.zoned_years if destination.has_zone else None) or limits.years
    return f"{{0}} >= '{first:04}-01-01' and {{0}} < '{last}-12-31'"


def _check_bytes(source: LogicalType, destination: LogicalType, limits: StorageLimits) -> str:
    del source, limits
    return "" if destination.length is None else f"octet_length({{0}}) <= {destination.length}"


def _check_json(source: LogicalType, destination: LogicalType, limits: StorageLimits) -> str | None:
    if source.json_form == "text" != destination.json_form:
        return None
    conditions = list[str]()
    if limits.json_levels is not None:
        signs = "translate(({0})::text, '[{{', '')"
        conditions.append(f"length(({{0}})::text) - length({signs}) <= {limits.json_levels}")
    if destination.json_form == "float":
        conditions.append(f"({{0}})::text !~ '{match_large_numbers('float')}'")
    if source.json_form == "text":  # half of a surrogate pair is part of a text, which other servers refuse
        conditions.append(r"({0})::text !~ '\\u[dD][89abAB]'")
    return " and ".join(conditions)


def _accept(_source: LogicalType, _destination: LogicalType, _limits: StorageLimits) -> str:
    return ""


_CONDITIONS: Mapping[LogicalKind, Callable[[LogicalType, LogicalType, StorageLimits], str | None]] = {
    "integer": _check_integer,
    "decimal": _check_decimal,
    "real": _check_real,
    "date": _check_time,
    "time": _check_time,
    "timestamp": _check_time,
    "bytes": _check_bytes,
    "boolean": _accept,
    "uuid": lambda _source, _destination, limits: (
        "" if limits.stores_all_uuids else "({0})::text ~ '^.{{14}}[0-7]|^.{{19}}[89a-f]'"
    ),
    "json": _check_json,
    "enum": lambda _source, destination, _limits: match_labels(destination).replace("{0}", "({0})::text"),
}
