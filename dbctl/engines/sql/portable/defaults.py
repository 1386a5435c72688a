"""Defaults of columns, independent of engines."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Literal, TypeAlias

from dbctl.engines.contract.portable import LogicalKind
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


def read_default(sql: str, dialect: str, kind: LogicalKind) -> PortableDefault | None:
    """Return the default of a column of a kind; None if it is NULL."""
    plain = _normalize(sql)
    for function, pattern in _FUNCTIONS.items():
        if pattern.fullmatch(plain):
            return PortableDefault(kind=function)
    default = _read_literal(sql, dialect)
    if default is None or default.kind != "text" or kind != "bytes":
        return default
    is_escaped = dialect == "postgres" and default.value.startswith("\\x")
    digits = default.value[2:] if is_escaped else default.value.encode().hex()
    return PortableDefault(kind="bytes", value=digits)


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

    expression = PortableDefault(kind="expression", value=sql)
    try:
        query = sqlglot.parse_one(f"select {sql}", dialect=dialect)
    except (sqlglot.errors.SqlglotError, RecursionError):
        return expression
    tree = query.selects[0] if isinstance(query, exp.Query) and query.selects else query
    while isinstance(tree, exp.Paren | exp.Cast | exp.Introducer | exp.Alias):
        tree = tree.expression if isinstance(tree, exp.Introducer) else tree.this
    sign = "-" if isinstance(tree, exp.Neg) else ""
    if sign:
        tree = tree.this.unnest()
    if isinstance(tree, exp.Null):
        return None
    if isinstance(tree, exp.Literal):
        return PortableDefault(kind="text" if tree.is_string else "number", value=sign + tree.name)
    read = _LITERALS.get(type(tree).__name__)
    return read(tree) if read else expression


_LITERALS: Mapping[str, Callable[[exp.Expr], PortableDefault]] = {
    "Boolean": lambda tree: PortableDefault(kind="number", value="1" if tree.this else "0"),
    "HexString": lambda tree: PortableDefault(kind="bytes", value=tree.name.removeprefix("0x").lower()),
    "BitString": lambda tree: PortableDefault(kind="number", value=str(int(tree.name, 2))),
}


def fits_kind(default: PortableDefault, kind: LogicalKind) -> bool:
    """Whether a literal is a value of a kind."""
    if kind == "bytes" or default.kind == "bytes":
        return kind == default.kind
    try:
        return bool(_PARSERS[kind](default.value)) if kind in _PARSERS else True
    except ValueError:
        return False


_PARSERS: Mapping[LogicalKind, Callable[[str], object]] = {
    "boolean": re.compile(r"[01]|true|false|t|f", re.IGNORECASE).fullmatch,
    "integer": re.compile(r"[-+]?\d+").fullmatch,
    "decimal": _NUMBER.fullmatch,
    "real": _NUMBER.fullmatch,
    "timestamp": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": lambda value: [time.fromisoformat(value)],
}
