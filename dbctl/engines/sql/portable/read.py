"""What the readers of portable schemas share: declared types, and the types that constraints imply."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from dbctl.engines.contract.portable import (
    LogicalKind,
    LogicalType,
    Omission,
    PortableColumn,
    PortableTable,
)
from dbctl.engines.contract.schema import Schema
from dbctl.engines.contract.writer import WRITE_LOCK

#: ``TIMESTAMP(3) WITH TIME ZONE``: name, arguments, further words.
_DECLARED = re.compile(r"\s*([^()]*?)\s*(?:\(([^()]*)\)\s*([^()]*?))?\s*")
#: The fields that the arguments of a type set.
_ARGUMENTS: Mapping[LogicalKind, Sequence[str]] = {
    "text": ("length",),
    "bytes": ("length",),
    "decimal": ("digits", "scale"),
    "time": ("fraction",),
    "timestamp": ("fraction",),
    "bits": ("bits",),
}
#: Checks that a logical type implies, with the name of the column as {}.
_JSON_CHECK = r"\(*json_valid\({0}\)( or {0} is null)?\)*"
_BOOLEAN_CHECK = r"\(*{0} in \(0, ?1\)( or {0} is null)?\)*"
#: A default that no boolean has.
_LARGE_NUMBER = re.compile(r"'?(?!0+\b|1\b)\d+'?")
_QUOTES = re.compile(r'["`]')


def parse_declared(declared: str, types: Mapping[str, LogicalType]) -> LogicalType | None:
    """Return the logical type of a declared one by a table of types; None if the table lacks it.

    The table contains names in upper case without arguments, or with them if they change the meaning (``TINYINT(1)``).
    """
    declared = declared.upper()
    if declared in types:
        return types[declared]
    match = _DECLARED.fullmatch(declared)
    if match is None:
        return None
    name = f"{match[1]} {match[3] or ''}".strip()
    logical = types.get(name)
    arguments = [int(text) for text in (match[2] or "").split(",") if text.strip().isdecimal()]
    if logical is None or not arguments:
        return logical
    fields = zip(_ARGUMENTS.get(logical.kind, ()), arguments, strict=False)
    return msgspec.structs.replace(logical, **dict(fields))


def interpret_constraints(table: PortableTable) -> PortableTable:
    """Return a table with the types that checks and defaults imply, without the checks that the types imply."""
    checks, columns = dict.fromkeys(table.checks), list[PortableColumn]()
    for column in table.columns:
        patterns = {"text": _JSON_CHECK, "any": _JSON_CHECK, "json": _JSON_CHECK, "boolean": _BOOLEAN_CHECK}
        pattern = patterns.get(column.type.kind, "(?!)").format(re.escape(column.name.lower()))
        implied = [check for check in checks if re.fullmatch(pattern, _QUOTES.sub("", check).lower())]
        for check in implied:
            del checks[check]
        logical = column.type
        if implied and logical.kind in ("text", "any"):
            logical = LogicalType(kind="json")
        elif logical.kind == "boolean" and _LARGE_NUMBER.fullmatch(column.default):
            logical = LogicalType(kind="integer")
        columns.append(msgspec.structs.replace(column, type=logical))
    return msgspec.structs.replace(table, columns=columns, checks=list(checks))


def list_triggers(schema: Schema) -> Iterator[Omission]:
    """Yield the triggers of a schema, which no derived schema contains."""
    for code in schema.codes:
        if code.kind == "trigger" and not code.name.startswith(WRITE_LOCK):
            reason = "triggers have to be written again"
            yield Omission(kind="trigger", name=code.name, table=code.table, reason=reason)


def split_generated(text: str) -> tuple[str, bool]:
    """Return the expression of ``SchemaColumn.generated``, and whether its value is stored."""
    expression, _, kind = text.rpartition(" ")
    return expression, kind == "stored"


def strip_parentheses(text: str) -> str:
    """Return an expression without parentheses around all of it."""
    while text.startswith("(") and text.endswith(")"):
        depth = 0
        for position, sign in enumerate(text):
            depth += {"(": 1, ")": -1}.get(sign, 0)
            if not depth and position < len(text) - 1:
                return text
        text = text[1:-1].strip()
    return text
