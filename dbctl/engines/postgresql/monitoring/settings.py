"""Settings of a server beside what they should be."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import cast

from dbctl.engines.contract import Tuning
from dbctl.engines.postgresql.dialect import PostgreSQLDialect
from dbctl.engines.sql import literal

SETTINGS = """select name, setting, coalesce(unit, ''), vartype, context, pending_restart, current_setting(name)
from pg_catalog.pg_settings where name = any(:names)"""
#: What one of each unit is: bytes, or milliseconds.
SIZES = {"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
TIMES = {"us": 0.001, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_AMOUNT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")
_YES, _NO = ("on", "true", "yes", "1"), ("off", "false", "no", "0")


class PostgreSQLTuning(PostgreSQLDialect):
    """Capability.ADVISE, what it tells of settings."""

    def tuned(self, wanted: Mapping[str, str]) -> Sequence[Tuning]:
        rows = {str(row[0]): row for row in self._fetch(SETTINGS, {"names": list(wanted)})}
        found = []
        for name, text in wanted.items():
            _, setting, unit, kind, context, waiting, shown = rows.get(name, (None,) * 7)
            found.append(
                Tuning(
                    name=name,
                    wanted=text,
                    actual=cast("str | None", shown),
                    fits=name in rows and _fits(str(setting), str(unit), str(kind), text),
                    waiting=bool(waiting),
                    restart=context == "postmaster",
                    change=f"ALTER SYSTEM SET {name} = {literal(text)};",
                )
            )
        return found


def _fits(setting: str, unit: str, kind: str, wanted: str) -> bool:
    """Whether a setting is what is wanted: a number or a size at least so large, anything else the same."""
    if kind == "bool":
        return (setting.lower() in _YES) == (wanted.lower() in _YES)
    if kind == "real":
        return _number(setting) == _number(wanted)
    if kind == "integer":
        actual, least = _amount(setting, unit), _amount(wanted, unit)
        if actual is None or least is None:
            return setting == wanted
        return actual == least if unit in TIMES else actual >= least
    return setting.lower() == wanted.lower()


def _amount(text: str, base: str) -> float | None:
    """Return bytes, milliseconds or a plain number; what has no unit is in that of the setting, such as ``8kB``."""
    found, of = _AMOUNT.fullmatch(text), _AMOUNT.fullmatch(base if base[:1].isdigit() else f"1{base}")
    if found is None or of is None:  # -1 is none: it stands for what the server chooses
        return None
    units = {**SIZES, **TIMES, "": 1}
    if found[2] not in units or of[2] not in units:
        return None
    factor = units[found[2]] if found[2] else float(of[1]) * units[of[2]]
    return float(found[1]) * factor


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
