"""Types of MySQL and MariaDB as logical types, and the types that tables of other engines get."""

from __future__ import annotations

from collections.abc import Mapping

from dbctl.engines.contract import LogicalKind, LogicalType
from dbctl.engines.sql.portable import parse_declared

_INTEGERS = {"TINYINT": 8, "SMALLINT": 16, "MEDIUMINT": 24, "INT": 32, "BIGINT": 64}
#: Sizes of text and bytes; the names of both types have the same beginnings.
_SIZES = {"TINY": (1 << 8) - 1, "": (1 << 16) - 1, "MEDIUM": (1 << 24) - 1, "LONG": None}
_REALS = {"FLOAT": 32, "DOUBLE": 64}
TYPES: Mapping[str, LogicalType] = {
    "TINYINT(1)": LogicalType(kind="boolean"),
    **{name: LogicalType(kind="integer", bits=bits) for name, bits in _INTEGERS.items()},
    **{
        f"{name} {words}": LogicalType(kind="integer", bits=bits, is_unsigned=True)
        for name, bits in _INTEGERS.items()
        for words in ("UNSIGNED", "UNSIGNED ZEROFILL")
    },
    "YEAR": LogicalType(kind="integer", bits=16),
    "BIT(1)": LogicalType(kind="boolean"),
    "BIT": LogicalType(kind="integer", is_unsigned=True),
    **dict.fromkeys(
        ["DECIMAL", "DECIMAL UNSIGNED", "DECIMAL UNSIGNED ZEROFILL"], LogicalType(kind="decimal", digits=10)
    ),
    **{
        f"{name}{words}": LogicalType(kind="real", bits=bits)
        for name, bits in _REALS.items()
        for words in ("", " UNSIGNED")
    },
    "CHAR": LogicalType(kind="text", length=1),
    "VARCHAR": LogicalType(kind="text"),
    **{f"{name}TEXT": LogicalType(kind="text", max_bytes=size) for name, size in _SIZES.items()},
    "BINARY": LogicalType(kind="bytes", length=1, is_fixed=True),
    "VARBINARY": LogicalType(kind="bytes"),
    **{f"{name}BLOB": LogicalType(kind="bytes", length=size) for name, size in _SIZES.items()},
    "DATE": LogicalType(kind="date"),
    "TIME": LogicalType(kind="time", fraction=0),
    "DATETIME": LogicalType(kind="timestamp", fraction=0),
    "TIMESTAMP": LogicalType(kind="timestamp", fraction=0, has_zone=True),
    "JSON": LogicalType(kind="json"),
    "UUID": LogicalType(kind="uuid"),
    **dict.fromkeys(["INET4", "INET6"], LogicalType(kind="text", length=39)),
}
_NAMES: Mapping[LogicalKind, str] = {
    "boolean": "tinyint(1)",
    "array": "longtext",
    "any": "longtext",
    "other": "longtext",
    "bits": "varchar(255)",
    "real": "double",
    "date": "date",
    "json": "json",
    "uuid": "char(36)",
}


def read_type(declared: str, labels: list[str]) -> LogicalType:
    """Return the logical type of a type of the catalog, in upper case except for its labels."""
    if declared.startswith("ENUM("):
        return LogicalType(kind="enum", labels=labels)
    if declared.startswith("SET("):
        return LogicalType(kind="set", labels=labels)
    return parse_declared(declared, TYPES) or LogicalType(kind="other", name=declared)
