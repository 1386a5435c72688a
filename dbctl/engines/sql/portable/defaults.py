"""Defaults of columns, independent of engines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Literal, TypeAlias

from dbctl.engines.contract import LogicalKind
from dbctl.engines.sql.portable.read import strip_parentheses
from dbctl.model import Struct

if TYPE_CHECKING:
    from sqlglot import exp

_NOW = re.compile(
    r"current_timestamp(\(\d*\))?|localtimestamp(\(\d*\))?|utc_timestamp(\(\d*\))?|sysdate(\(\d*\))?"
    r"|(now|clock_timestamp|statement_timestamp|transaction_timestamp)\(\d*\)"
    r"|datetime\('now'(,'subsec(ond)?')?\)|strftime\('[^']*','now'\)|unixepoch\(('now'(,'subsec(ond)?')?)?\)"
    r"|timezone\('utc'(::text)?,now\(\)\)|\(?(now\(\)|current_timestamp)\)?attimezone'utc'(::text)?"
)
_TODAY = re.compile(r"current_date(\(\))?|curdate\(\)|date\('now'\)|(now\(\)|'now'(::text)?)::date")
_UUID = re.compile(r"(gen_random_uuid|uuid_generate_v[14]|uuid)\(\)")
_CAST = re.compile(r"cast\((.*)as\w+(\(\d+(,\d+)?\))?\)")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")


DefaultKind: TypeAlias = Literal["text", "number", "bytes", "now", "today", "uuid", "expression"]
_FUNCTIONS: Mapping[DefaultKind, re.Pattern[str]] = {"now": _NOW, "today": _TODAY, "uuid": _UUID}


class PortableDefault(Struct, frozen=True, kw_only=True):
    kind: DefaultKind
    value: str = ""  #: bytes: hexadecimal digits


def read_default(sql: str, dialect: str) -> PortableDefault | None:
    """Return a default; None if it is NULL."""
    plain = _normalize(sql)
    for kind, pattern in _FUNCTIONS.items():
        if pattern.fullmatch(plain):
            return PortableDefault(kind=kind)
    return _read_literal(sql, dialect)


def _normalize(sql: str) -> str:
    """Return SQL in lower case without spaces, outer parentheses, and casts."""
    plain, previous = "".join(sql.lower().split()), ""
    while plain != previous:
        previous = plain
        plain = strip_parentheses(plain)
        if match := _CAST.fullmatch(plain):
            plain = match[1]
    return plain


def _read_literal(sql: str, dialect: str) -> PortableDefault | None:
    import sqlglot
    from sqlglot import exp

    try:
        query = sqlglot.parse_one(f"select {sql}", dialect=dialect)
    except (sqlglot.errors.SqlglotError, RecursionError):
        return PortableDefault(kind="expression", value=sql)
    tree = query.selects[0] if isinstance(query, exp.Query) and query.selects else query
    while isinstance(tree, exp.Paren | exp.Cast | exp.Introducer | exp.Alias):
        tree = tree.expression if isinstance(tree, exp.Introducer) else tree.this
    is_negative = isinstance(tree, exp.Neg)
    if is_negative:
        tree = tree.this.unnest()
    match tree:
        case exp.Null():
            return None
        case exp.Literal() if tree.is_string and not is_negative:
            return PortableDefault(kind="text", value=tree.name)
        case exp.Literal() if not tree.is_string:
            return PortableDefault(kind="number", value=f"-{tree.name}" if is_negative else tree.name)
        case exp.Boolean():
            return PortableDefault(kind="number", value="1" if tree.this else "0")
        case exp.HexString():
            return PortableDefault(kind="bytes", value=_hexadecimal(tree))
        case exp.BitString():
            return PortableDefault(kind="number", value=str(int(tree.name, 2)))
        case _:
            return PortableDefault(kind="expression", value=sql)


def _hexadecimal(tree: exp.HexString) -> str:
    return str(tree.name).removeprefix("0x").lower()


def fits_kind(default: PortableDefault, kind: LogicalKind) -> bool:
    """Whether a literal is a value of a kind."""
    try:
        match kind:
            case "boolean":
                return default.value.lower() in ("0", "1", "true", "false", "t", "f")
            case "integer":
                return bool(re.fullmatch(r"[-+]?\d+", default.value))
            case "decimal" | "real":
                return bool(_NUMBER.fullmatch(default.value))
            case "timestamp":
                return bool(datetime.fromisoformat(default.value))
            case "date":
                return bool(date.fromisoformat(default.value))
            case "time":
                return time.fromisoformat(default.value) is not None
            case "bytes":
                return default.kind in ("bytes", "text")
            case _:
                return default.kind != "bytes"
    except ValueError:
        return False


