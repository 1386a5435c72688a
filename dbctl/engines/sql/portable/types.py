"""Declared types of a catalog as logical types, from a table of each engine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from dbctl.engines.contract import LogicalKind, LogicalType

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
