"""What the readers of portable schemas share."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from dbctl.engines.contract import LogicalType, Omission, PortableColumn, PortableTable, Schema

#: Checks that a logical type implies, with the name of the column as {}.
_JSON_CHECK = r"\(*json_valid\({0}\)( or {0} is null)?\)*"
_BOOLEAN_CHECK = r"\(*{0} in \(0, ?1\)( or {0} is null)?\)*"
#: A default that no boolean has.
_LARGE_NUMBER = re.compile(r"'?(?!0+\b|1\b)\d+'?")
_QUOTES = re.compile(r'["`]')


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
        if code.kind == "trigger":
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
