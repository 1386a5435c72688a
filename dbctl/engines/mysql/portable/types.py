"""Types of MySQL and MariaDB as logical types, and the types that tables of other engines get."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dbctl.engines.contract.portable import LogicalKind, LogicalType
from dbctl.engines.sql.catalog import quote_literal
from dbctl.engines.sql.portable.read import parse_declared

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
        # MariaDB shows negative zero as 0
        f"{name}{words}": LogicalType(kind="real", bits=bits, keeps_zero_sign=False)
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
    "JSON": LogicalType(kind="json", json_form="float"),  # MariaDB has text with a check
    "UUID": LogicalType(kind="uuid"),
    **dict.fromkeys(["INET4", "INET6"], LogicalType(kind="text", length=39)),
}
#: Bytes of a character in utf8mb4.
CHARACTER_BYTES = 4
#: Texts up to this length are VARCHAR, because the sizes of all columns of a table have a limit.
LONGEST_VARCHAR = 2000
_LONGEST_CHAR = 255
_MAX_DIGITS, _MAX_SCALE = 65, 38
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


def write_type(logical: LogicalType) -> str:
    """Return the type for values of a logical type, in lower case except for labels."""
    write = _WRITERS.get(logical.kind)
    return write(logical) if write else _NAMES[logical.kind]


def _write_integer(logical: LogicalType) -> str:
    name = next(name for name, bits in _INTEGERS.items() if bits >= logical.bits).lower()
    return f"{name} unsigned" if logical.is_unsigned else name


def _write_decimal(logical: LogicalType) -> str:
    digits, scale = (logical.digits, logical.scale) if logical.digits else (_MAX_DIGITS, 30)
    return f"decimal({min(digits, _MAX_DIGITS)},{min(scale, _MAX_SCALE)})"


def _write_time(logical: LogicalType) -> str:
    name = "datetime" if logical.kind == "timestamp" else "time"
    return f"{name}({logical.fraction})" if logical.fraction else name


def _write_labels(logical: LogicalType) -> str:
    return f"{logical.kind}({', '.join(map(quote_literal, logical.labels))})"


def _write_text(logical: LogicalType) -> str:
    if logical.length is None:
        return _smallest("text", logical.max_bytes)
    if logical.length > LONGEST_VARCHAR:
        return _smallest("text", logical.length * CHARACTER_BYTES)
    is_char = logical.is_fixed and logical.length <= _LONGEST_CHAR
    return f"{'char' if is_char else 'varchar'}({logical.length})"


def _write_bytes(logical: LogicalType) -> str:
    if logical.length is None or logical.length > LONGEST_VARCHAR:
        return _smallest("blob", logical.length)
    is_binary = logical.is_fixed and logical.length <= _LONGEST_CHAR
    return f"{'binary' if is_binary else 'varbinary'}({logical.length})"


def _smallest(kind: str, size: int | None) -> str:
    """Return the smallest long type for a number of bytes; TINYTEXT is as large as a short VARCHAR."""
    beginnings = [
        name
        for name, largest in _SIZES.items()
        if name != "TINY" and largest and size is not None and size <= largest
    ]
    return f"{(beginnings or ['LONG'])[0]}{kind}".lower()


_WRITERS: Mapping[LogicalKind, Callable[[LogicalType], str]] = {
    "integer": _write_integer,
    "decimal": _write_decimal,
    "text": _write_text,
    "bytes": _write_bytes,
    "time": _write_time,
    "timestamp": _write_time,
    "enum": _write_labels,
    "set": _write_labels,
}
