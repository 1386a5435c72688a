"""Server settings compared with recommended values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import cast

from dbctl.engines.contract.monitoring import SettingComparison
from dbctl.engines.postgresql.connection.connection import PostgreSQLConnection
from dbctl.engines.sql.catalog import quote_literal

SETTINGS = """select name, setting, coalesce(unit, ''), vartype, context, pending_restart, current_setting(name)
from pg_catalog.pg_settings where name = any(:names)"""
#: The value of each unit in bytes or milliseconds.
SIZES = {"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
TIMES = {"us": 0.001, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_AMOUNT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")
_YES, _NO = ("on", "true", "yes", "1"), ("off", "false", "no", "0")


def compare_settings(
    connection: PostgreSQLConnection, required: Mapping[str, str]
) -> Sequence[SettingComparison]:
    """Compare settings of the server with required values, as ``Advisor.compare_settings`` describes."""
    rows = {str(row[0]): row for row in connection.fetch(SETTINGS, {"names": list(required)})}
    comparisons = []
    for name, required_value in required.items():
        _, setting, unit, kind, context, is_pending, current = rows.get(name, (None,) * 7)
        comparisons.append(
            SettingComparison(
                name=name,
                required=required_value,
                actual=cast("str | None", current),
                is_sufficient=name in rows
                and _is_satisfied(str(setting), str(unit), str(kind), required_value),
                is_pending=bool(is_pending),
                requires_restart=context == "postmaster",
                statement=f"ALTER SYSTEM SET {name} = {quote_literal(required_value)};",
            )
        )
    return comparisons


def _is_satisfied(setting: str, unit: str, kind: str, required: str) -> bool:
    """Return whether a setting satisfies a requirement: sizes and numbers are minimums, other values must be equal."""
    if kind == "bool":
        return (setting.lower() in _YES) == (required.lower() in _YES)
    if kind == "real":
        return _parse_number(setting) == _parse_number(required)
    if kind == "integer":
        actual, minimum = _parse_amount(setting, unit), _parse_amount(required, unit)
        if actual is None or minimum is None:
            return setting == required
        return actual == minimum if unit in TIMES else actual >= minimum
    return setting.lower() == required.lower()


def _parse_amount(text: str, base: str) -> float | None:
    """Return bytes, milliseconds or a plain number; without a unit, ``base`` is the unit, such as ``8kB``."""
    match, base_match = _AMOUNT.fullmatch(text), _AMOUNT.fullmatch(base if base[:1].isdigit() else f"1{base}")
    if match is None or base_match is None:  # -1 means that the server chooses
        return None
    units = {**SIZES, **TIMES, "": 1}
    if match[2] not in units or base_match[2] not in units:
        return None
    factor = units[match[2]] if match[2] else float(base_match[1]) * units[base_match[2]]
    return float(match[1]) * factor


def _parse_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
