"""Values in statements and results, and their forms in columns."""

from __future__ import annotations

import re
from calendar import isleap
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from math import isfinite, isnan
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from psycopg import adapters
from psycopg.adapt import Buffer, Loader
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import StrDumperUnknown, TextLoader

from dbctl.engines.contract.database import Column, is_document_type
from dbctl.engines.parsing.lexer import Fragment, split_parameters
from dbctl.engines.postgresql.statements import LEXER
from dbctl.engines.servers.values import (
    LARGEST,
    SMALLEST,
    TIMES,
    Formatters,
    Kind,
    ServerColumn,
    format_integer,
    format_value,
    kind_of,
    parse_time,
    round_single,
)
from dbctl.engines.sql import codec
from dbctl.engines.sql.catalog import is_storable
from dbctl.errors.usage import ValueInvalidError

if TYPE_CHECKING:
    from psycopg import Connection


#: A parameter that the statement does not use: without any, the driver would send several statements in one text.
UNUSED_PARAMETER = 0


def bind_parameters(sql: str, parameters: Mapping[str, object]) -> tuple[str, list[object]]:
    """Return a statement with ``$1``, ``$2``…, and their values.

    Each use of a parameter gets a separate number, so that the server infers its type from the context: the same value can
    be compared with a uuid and with a text. ``in :set`` becomes ``= any`` if the value is a list.

    Raises:
        KeyError: a parameter is missing.
        ValueInvalidError: no database can store a value.
    """
    values: list[object] = []
    sent = []
    for text, name, operator in _split_statement(sql):
        if not name:
            sent.append(text)
            continue
        value = parameters[name]
        values.append(_encode_parameter(value))
        placeholder = f"${len(values)}"
        if operator == "is":
            placeholder = f"cast({placeholder} as text)"  # the context determines no type
        elif operator and isinstance(value, list | tuple):
            placeholder = f"<> all({placeholder})" if operator == "not in" else f"= any({placeholder})"
        elif operator:
            placeholder = f"{operator} {placeholder}"
        sent.append(placeholder)
    return "".join(sent), values


class RawText(str):
    """A text with bytes that are not UTF-8 (``surrogateescape``), for a database that declares no encoding."""

    __slots__ = ()


def encode_statement(sql: str) -> bytes:
    """Encode a statement for the driver.

    Raises:
        ValueInvalidError: it is not valid UTF-8.
    """
    try:
        return sql.encode()
    except UnicodeEncodeError:
        raise ValueInvalidError(name="statement", value="given", reason="it is not valid UTF-8") from None


@lru_cache(maxsize=64)
def _split_statement(sql: str) -> Sequence[Fragment]:
    return split_parameters(list(LEXER.tokenize(sql)))


def _encode_parameter(value: object) -> object:
    """Return what the driver sends for a value whose type follows from the statement or from the value."""
    if value is None or isinstance(value, bool | bytes):
        return value
    if isinstance(value, int | float):
        encode_value(value)
        return value
    return encode_value(value)


def encode_value(value: object) -> str | None:
    """Return the text that PostgreSQL reads as ``value``, for a column of any type.

    Raises:
        ValueInvalidError: no database can store it.
    """
    return format_value(value, _WRITERS)


def _encode_text(value: str) -> str:
    if not (isinstance(value, RawText) or is_storable(value)):
        reason = "no database can store a NUL" if "\0" in value else "it is not valid UTF-8"
        raise ValueInvalidError(name="text", value=ascii(value[:40]), reason=reason)
    return value


def _encode_float(value: float) -> str:
    if isnan(value):
        raise ValueInvalidError(name="number", value="NaN", reason="no database can store it")
    return repr(value) if isfinite(value) else "Infinity" if value > 0 else "-Infinity"


def _encode_time(value: datetime) -> str:
    # a column without a zone would drop the zone, so all times are sent in UTC
    return (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)).isoformat(" ")


_UNQUOTED = re.compile(r'[^ \t-\r{}",\\]+')


def format_array(values: Sequence[object]) -> str:
    return "{" + ",".join(map(_format_element, values)) + "}"


def _format_element(value: object) -> str:
    if isinstance(value, list | tuple):
        return format_array(value)
    text = encode_value(value)
    if text is None:
        return "NULL"
    if _UNQUOTED.fullmatch(text) and text.upper() != "NULL":
        return text  # as the server writes it, since arrays are compared as texts
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_WRITERS: Formatters = {
    str: _encode_text,
    bool: lambda value: "1" if value else "0",  # valid for booleans and numbers
    int: format_integer,
    float: _encode_float,
    datetime: _encode_time,
    date: str,
    Decimal: str,
    UUID: str,
    bytes: lambda value: "\\x" + value.hex(),
    list: format_array,
    tuple: format_array,
}


NON_TEXT_TYPES = frozenset({"int2", "int4", "int8", "oid", "float4", "float8", "bool", "bytea"})
#: Types that the driver converts; all others are returned as the server's text.
PLAIN_TYPES = NON_TEXT_TYPES | {"text", "varchar", "name", "bpchar", '"char"'}
#: The encoding of a database that declares none, and stores any bytes.
UNDECLARED = "SQL_ASCII"


class _NumberLoader(Loader):
    def load(self, data: Buffer) -> object:
        return codec.parse_number(bytes(data).decode())


class _TimeLoader(Loader):
    """Loader of a time with or without zone; the zone of the session is UTC."""

    def load(self, data: Buffer) -> object:
        text = bytes(data).decode()
        try:
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        except ValueError:  # infinity, or a year that Python does not support
            return text


class _LenientTextLoader(Loader):
    """Loader of text from a database that declares no encoding."""

    def load(self, data: Buffer) -> str:
        return bytes(data).decode("utf-8", "surrogateescape")


class _RawTextDumper(StrDumperUnknown):
    """Dumper of text for a database that declares no encoding."""

    def dump(self, obj: str) -> Buffer:
        return obj.encode("utf-8", "surrogateescape")


def register_plain_types(connection: Connection[tuple[object, ...]]) -> None:
    """Register loaders and dumpers for plain values."""
    local_adapters = connection.adapters
    undeclared = connection.info.parameter_status("server_encoding") == UNDECLARED
    for known in adapters.types:
        if undeclared and known.name not in NON_TEXT_TYPES:
            local_adapters.register_loader(known.oid, _LenientTextLoader)
        elif known.name not in PLAIN_TYPES:
            local_adapters.register_loader(known.oid, TextLoader)
    if undeclared:
        local_adapters.register_loader(0, _LenientTextLoader)  # of the values of COPY, otherwise bytes
        local_adapters.register_dumper(RawText, _RawTextDumper)
    local_adapters.register_loader("numeric", _NumberLoader)
    local_adapters.register_loader("timestamptz", _TimeLoader)
    local_adapters.register_loader("timestamp", _TimeLoader)
    local_adapters.register_dumper(int, Int8Dumper)


KINDS: Mapping[str, Kind] = {
    "text": "text",
    "varchar": "text",
    "int2": "integer",
    "int4": "integer",
    "int8": "integer",
    "numeric": "number",
    "float4": "number",
    "float8": "number",
    "bool": "boolean",
    "uuid": "uuid",
    "timestamptz": "timestamptz",
    "timestamp": "timestamp",
    "date": "date",
    "bytea": "bytes",
}
#: The type to which a parameter is cast, so that a value out of range compares instead of failing.
CASTS: Mapping[Kind, str] = {
    "text": "text",
    "integer": "int8",
    "number": "numeric",
    "boolean": "bool",
    "uuid": "uuid",
}

TRUE: frozenset[str] = frozenset({"t", "true", "y", "yes", "on", "1"})
FALSE: frozenset[str] = frozenset({"f", "false", "n", "no", "off", "0"})
_EXTREME_TIME = re.compile(
    r"(?P<infinity>-?infinity)|(?P<year>\d{4,6})-(?P<day>\d\d-\d\d)"
    r"(?P<clock> \d\d:\d\d:\d\d(?:\.\d{1,6})?(?:\+00)?)?(?P<era> BC)?",
    re.ASCII,
)
#: The type of single precision, as ``base_type`` returns it.
SINGLE = '"pg_catalog"."float4"'
#: The type of texts that the server fills with spaces, and compares without these; any other type of text keeps its own.
PADDED = '"pg_catalog"."bpchar"'
_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,40}\s*", re.ASCII)


class PostgreSQLColumn(ServerColumn, frozen=True, kw_only=True):
    base: str  #: the type without length and domain, quoted for a cast
    #: the name in SQL of the sequence that numbers new rows, although the column has no default; empty: there is none
    sequence: str = ""

    @property
    def is_document(self) -> bool:
        return is_document_type(self.base.rpartition(".")[2].strip('"').upper())


class ComparableValue(NamedTuple):
    """A value in the form that a column can store, or that can at least be compared with it."""

    text: str
    type: str


def base_type(column: Column) -> str:
    """Return the type of a column for a cast that truncates nothing; the length is checked afterwards."""
    return column.base if isinstance(column, PostgreSQLColumn) else column.type


#: The type of addresses, and the mask of a single one, which the server writes in a text but not in a result; the first group remains.
ADDRESS, HOST_MASK = '"pg_catalog"."inet"', "^([^:]*)/32$|/128$"


def comparable_value(column: Column, value: object) -> ComparableValue | None:
    """Return ``value`` for a comparison with ``column``; None if no row can have it.

    Raises:
        ValueInvalidError: no database can store it.
    """
    if isinstance(value, str) and "\0" in value and is_storable(value.replace("\0", "")):
        return None
    text, kind = encode_value(value), kind_of(column)
    if text is None or isinstance(value, bytes) != (kind == "bytes"):
        return None
    if kind == "enum" and isinstance(column, PostgreSQLColumn):
        return ComparableValue(text, column.base) if text in column.labels else None
    if base_type(column) == ADDRESS:
        text = re.sub(HOST_MASK, r"\1", text)
    comparable = _COMPARE.get(kind, _compare_text)(text, kind)
    if comparable and base_type(column) == PADDED:
        return ComparableValue(comparable.text.rstrip(" "), PADDED)
    if comparable and comparable.type == "numeric" and base_type(column) == SINGLE:
        return comparable._replace(text=str(round_single(Decimal(comparable.text))))
    return comparable


def _compare_text(text: str, kind: Kind) -> ComparableValue:
    return ComparableValue(text, "bytea" if kind == "bytes" else "text")


def _compare_boolean(text: str, _kind: Kind) -> ComparableValue | None:
    word = text.strip().lower()
    return ComparableValue(word, "bool") if word in TRUE | FALSE else None


def _compare_time(text: str, kind: Kind) -> ComparableValue | None:
    timestamp = parse_time(text)
    if timestamp is not None:
        return ComparableValue(encode_value(timestamp) or "", kind)
    return ComparableValue(text, kind) if is_extreme_time(text) else None


def is_extreme_time(text: str) -> bool:
    """Whether a text is a time as the server writes it that Python cannot represent: infinite, or far from our era."""
    match = _EXTREME_TIME.fullmatch(text)
    if match is None or match["infinity"]:
        return match is not None
    year = 1 - int(match["year"]) if match["era"] else int(match["year"])
    if not -4711 <= year <= 294_275:  # noqa: PLR2004 - years of a timestamp; a date has more
        return False
    try:
        datetime.fromisoformat(f"{2000 if isleap(year) else 2001}-{match['day']}{match['clock'] or ''}")
    except ValueError:
        return False
    return True


def _compare_number(text: str, kind: Kind) -> ComparableValue | None:
    if kind == "integer" and _INTEGER.fullmatch(text) and SMALLEST <= int(text) <= LARGEST:
        return ComparableValue(str(int(text)), "int8")
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    if number.is_nan():
        return ComparableValue("NaN", "numeric") if kind == "number" else None
    if abs(number.adjusted()) > 1000:  # noqa: PLR2004 - digits; real numbers have fewer
        return None
    if kind == "integer" and number == number.to_integral_value() and SMALLEST <= number <= LARGEST:
        return ComparableValue(str(int(number)), "int8")
    return ComparableValue(str(number), "numeric")


def _compare_uuid(text: str, _kind: Kind) -> ComparableValue | None:
    try:
        return ComparableValue(str(UUID(text)), "uuid")
    except ValueError:
        return None


_COMPARE: Mapping[Kind, Callable[[str, Kind], ComparableValue | None]] = {
    "integer": _compare_number,
    "number": _compare_number,
    "boolean": _compare_boolean,
    "uuid": _compare_uuid,
    **dict.fromkeys(TIMES, _compare_time),
}


def encode_for_column(column: Column, value: object) -> str | None:
    """Return the text to store for ``value`` in ``column``.

    Raises:
        ValueInvalidError: the column cannot store such a value.
    """
    if isinstance(value, bytes) and kind_of(column) != "bytes":
        raise ValueInvalidError(
            name=column.name, value="(bytes)", reason=f"the column has type {column.type.lower()}"
        )
    return encode_value(value)
