"""Types of PostgreSQL as logical types, and the types that tables of other engines get."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dbctl.extensions.transfer.portable.contract import LogicalKind, LogicalType
from dbctl.extensions.transfer.portable.read import parse_declared

_TEXT = LogicalType(kind="text")
TYPES: Mapping[str, LogicalType] = {
    "BOOLEAN": LogicalType(kind="boolean"),
    "SMALLINT": LogicalType(kind="integer", bits=16),
    "INTEGER": LogicalType(kind="integer", bits=32),
    "BIGINT": LogicalType(kind="integer"),
    "OID": LogicalType(kind="integer", bits=32, is_unsigned=True),
    "NUMERIC": LogicalType(kind="decimal"),
    "REAL": LogicalType(kind="real", bits=32),
    "DOUBLE PRECISION": LogicalType(kind="real"),
    **dict.fromkeys(["TEXT", "CITEXT", "CHARACTER VARYING", "XML"], _TEXT),
    "CHARACTER": LogicalType(kind="text", length=1, is_fixed=True),
    **dict.fromkeys(["NAME", '"CHAR"'], LogicalType(kind="text", length=63)),
    **dict.fromkeys(["INET", "CIDR"], LogicalType(kind="text", length=43)),
    **dict.fromkeys(["MACADDR", "MACADDR8"], LogicalType(kind="text", length=23)),
    "BYTEA": LogicalType(kind="bytes"),
    "DATE": LogicalType(kind="date"),
    "TIME WITHOUT TIME ZONE": LogicalType(kind="time"),
    "TIMESTAMP WITHOUT TIME ZONE": LogicalType(kind="timestamp"),
    "TIMESTAMP WITH TIME ZONE": LogicalType(kind="timestamp", has_zone=True),
    "JSON": LogicalType(kind="json"),
    "JSONB": LogicalType(kind="json", json_form="exact"),
    "UUID": LogicalType(kind="uuid"),
    "BIT": LogicalType(kind="bits", bits=1, is_fixed=True),
    "BIT VARYING": LogicalType(kind="bits", bits=0),
}
#: Types that the database maintains, or for which no other engine has an equivalent.
IGNORES_CASE = frozenset({"CITEXT"})

#: The types of columns by kind, without arguments.
NAMES: Mapping[LogicalKind, str] = {
    "boolean": "boolean",
    "text": "text",
    "enum": "text",
    "set": "text",
    "array": "text",
    "any": "text",
    "other": "text",
    "bytes": "bytea",
    "date": "date",
    "json": "jsonb",
    "uuid": "uuid",
}
_LARGEST_FRACTION, _SINGLE_BITS = 6, 32
_INTEGERS = {"smallint": 16, "integer": 32}


def read_type(declared: str) -> LogicalType:
    """Return the logical type of a type of the catalog, in upper case."""
    if declared.endswith("[]"):
        return LogicalType(kind="array", name=declared)
    return parse_declared(declared, TYPES) or LogicalType(kind="other", name=declared)


def write_type(logical: LogicalType) -> str:
    """Return the type for values of a logical type, as the catalog names it."""
    write = _WRITERS.get(logical.kind)
    return write(logical) if write else NAMES[logical.kind]


def _write_integer(logical: LogicalType) -> str:
    # the largest unsigned numbers of 64 bits do not fit; a key of type numeric would be slow, and is not numbered
    bits = logical.bits + logical.is_unsigned
    return next((name for name, size in _INTEGERS.items() if bits <= size), "bigint")


def _write_text(logical: LogicalType) -> str:
    if not logical.length:
        return "text"
    return f"character{'' if logical.is_fixed else ' varying'}({logical.length})"


def _write_timestamp(logical: LogicalType) -> str:
    return f"timestamp{_fraction(logical)} {'with' if logical.has_zone else 'without'} time zone"


def _fraction(logical: LogicalType) -> str:
    return f"({logical.fraction})" if logical.fraction < _LARGEST_FRACTION else ""


_WRITERS: Mapping[LogicalKind, Callable[[LogicalType], str]] = {
    "integer": _write_integer,
    "decimal": lambda logical: f"numeric({logical.digits},{logical.scale})" if logical.digits else "numeric",
    "real": lambda logical: "real" if logical.bits == _SINGLE_BITS else "double precision",
    "text": _write_text,
    "time": lambda logical: f"time{_fraction(logical)} without time zone",
    "timestamp": _write_timestamp,
    "bits": lambda logical: f"bit({logical.bits})" if logical.is_fixed else "bit varying",
}
