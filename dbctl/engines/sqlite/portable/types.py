"""Declared types of SQLite as logical types, and the types that tables of other engines get."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dbctl.engines.contract.portable import LogicalKind, LogicalType, PortableColumn
from dbctl.engines.sql.portable.read import parse_declared
from dbctl.engines.sqlite.values import find_affinity

_TEXT, _BYTES, _REAL = (LogicalType(kind="text"), LogicalType(kind="bytes"), LogicalType(kind="real"))
#: A column of this affinity stores a whole number as an integer, which has no negative zero.
_REAL_COLUMN = LogicalType(kind="real", keeps_zero_sign=False)
_INTEGER, _ANY, _DECIMAL = (
    LogicalType(kind="integer"),
    LogicalType(kind="any"),
    LogicalType(kind="decimal"),
)
#: Declared types whose meaning is more than their affinity. Integers of every size are stored with 64 bits.
TYPES: Mapping[str, LogicalType] = {
    **dict.fromkeys(["BOOLEAN", "BOOL", "TINYINT(1)"], LogicalType(kind="boolean")),
    **dict.fromkeys(
        ["VARCHAR", "CHARACTER VARYING", "NVARCHAR", "VARYING CHARACTER", "NATIVE CHARACTER"], _TEXT
    ),
    **dict.fromkeys(["CHAR", "CHARACTER", "NCHAR"], _TEXT),
    **dict.fromkeys(["DECIMAL", "NUMERIC"], _DECIMAL),
    **dict.fromkeys(["DATETIME", "TIMESTAMP", "TIMESTAMP WITHOUT TIME ZONE"], LogicalType(kind="timestamp")),
    **dict.fromkeys(
        ["TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE"], LogicalType(kind="timestamp", has_zone=True)
    ),
    "DATE": LogicalType(kind="date"),
    "TIME": LogicalType(kind="time"),
    # with these names, a column converts text that is a number
    **dict.fromkeys(["JSON", "JSONB"], LogicalType(kind="json", converts_numbers=True)),
    **dict.fromkeys(["UUID", "GUID"], LogicalType(kind="uuid")),
    **dict.fromkeys(["BINARY", "VARBINARY"], _BYTES),
}
_AFFINITIES: Mapping[str, LogicalType] = {
    "INTEGER": _INTEGER,
    "TEXT": _TEXT,
    "BLOB": _BYTES,
    "REAL": _REAL_COLUMN,
    "NUMERIC": _ANY,
}
#: The types of columns by kind. They have the affinity that stores the values unchanged; arguments are kept as a hint.
NAMES: Mapping[LogicalKind, str] = {
    "boolean": "BOOLEAN",
    "integer": "INTEGER",
    "decimal": "DECIMAL",
    "real": "REAL",
    "text": "TEXT",
    "enum": "TEXT",
    "set": "TEXT",
    "json": "TEXT",
    "array": "TEXT",
    "bits": "TEXT",
    "other": "TEXT",
    "bytes": "BLOB",
    "date": "DATE",
    "time": "TIME",
    "timestamp": "DATETIME",
    "uuid": "UUID",
    "any": "",
}


def read_type(declared: str) -> LogicalType:
    """Return the logical type of a declared type."""
    if not declared:
        return _ANY
    return parse_declared(declared, TYPES) or _AFFINITIES[find_affinity(declared)]


def observe_type(column: PortableColumn, classes: Collection[tuple[str, bool]]) -> LogicalType:
    """Return the type of a column that allows any value.

    Args:
        column: the column.
        classes: storage classes of its values, each with whether the value has 16 bytes.
    """
    names = {name for name, _ in classes}
    if names == {"blob"}:
        is_uuid = "uuid" in column.name.lower() and all(has_size for _, has_size in classes)
        return LogicalType(kind="uuid") if is_uuid else _BYTES
    if column.type.kind == "decimal":
        return column.type if names <= {"integer", "real"} else _ANY
    observed = {"integer": _INTEGER, "real": _REAL, "text": _TEXT}
    return observed[names.pop()] if len(names) == 1 else _REAL if names == {"integer", "real"} else _ANY


def write_type(logical: LogicalType) -> str:
    """Return the declared type for values of a logical type."""
    if logical.kind == "decimal" and logical.digits:
        return f"DECIMAL({logical.digits},{logical.scale})"
    if logical.kind == "text" and logical.length:
        return f"{'CHAR' if logical.is_fixed else 'VARCHAR'}({logical.length})"
    if logical.kind == "timestamp" and logical.has_zone:
        return "TIMESTAMPTZ"
    return NAMES[logical.kind]
