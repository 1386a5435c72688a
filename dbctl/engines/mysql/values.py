"""Column types of MySQL and MariaDB: literals, values of columns, and values as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import c_float
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache, partial
from math import isfinite
from typing import TYPE_CHECKING
from uuid import UUID

from pymysql.constants import FIELD_TYPE
from pymysql.converters import conversions

from dbctl.engines.contract.database import Column, Query, Table
from dbctl.engines.contract.streaming import NewColumn
from dbctl.engines.mysql.statements import LEXER
from dbctl.engines.parsing.lexer import Fragment, Token, split_parameters
from dbctl.engines.servers.database import ServerCodec
from dbctl.engines.servers.values import (
    CLOCK,
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
from dbctl.engines.sql.catalog import Row, is_storable, quote_literal
from dbctl.errors.usage import ValueInvalidError

if TYPE_CHECKING:
    from dbctl.engines.mysql.database import MySQLDatabase
    from dbctl.engines.mysql.session import Session


def _parse_time(text: str) -> object:
    """Parse a time of the session, whose zone is UTC; columns have no zone."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:  # 0000-00-00, or a day past the end of the month
        return text


#: Other types are converted by the driver: text as text, bytes as bytes, whole numbers as int. The driver would return a date
#: as ``date`` but a date that Python lacks, such as 0000-00-00, as text, and a time as a duration, without its form.
CONVERTERS = {
    **conversions,
    FIELD_TYPE.BIT: lambda data: int.from_bytes(data, "big"),
    FIELD_TYPE.DATE: str,
    FIELD_TYPE.DATETIME: _parse_time,
    FIELD_TYPE.DECIMAL: codec.parse_number,
    FIELD_TYPE.NEWDECIMAL: codec.parse_number,
    FIELD_TYPE.TIME: str,
    FIELD_TYPE.TIMESTAMP: _parse_time,
}


#: A set without values.
EMPTY_SET = "(select null from dual where false)"


def bind_parameters(sql: str, parameters: Mapping[str, object], *, escapes: bool) -> str:
    """Return a statement with its ``:name`` parameters replaced by literals.

    The driver would do that, too, but with backslashes, which are characters in most sessions of dbctl, and only in place of
    ``%s``, so that every other percent sign had to be doubled.

    In the statement a backslash is a character; ``escapes``: in the session it begins an escape.

    Raises:
        KeyError: a parameter is missing.
        ValueInvalidError: no database can store a value.
    """
    return "".join(
        _format_piece(fragment, parameters) if fragment.name else fragment.text
        for fragment in _split_statement(sql, escapes=escapes)
    )


@lru_cache(maxsize=64)
def _split_statement(sql: str, *, escapes: bool) -> Sequence[Fragment]:
    token_stream = LEXER.tokenize(sql)
    return split_parameters([_escape(token) for token in token_stream] if escapes else list(token_stream))


def _escape(token: Token) -> Token:
    return token._replace(text=token.text.replace("\\", "\\\\")) if token.kind == "text" else token


def _format_piece(fragment: Fragment, parameters: Mapping[str, object]) -> str:
    value = parameters[fragment.name]
    if fragment.operator not in ("in", "not in"):
        return format_literal(value)
    if not isinstance(value, list | tuple):
        return f"{fragment.operator} {format_literal(value)}"
    operand = f"({', '.join(map(format_literal, value))})" if value else EMPTY_SET
    return f"{fragment.operator} {operand}"


def format_literal(value: object) -> str:
    """Return ``value`` as an SQL literal.

    Raises:
        ValueInvalidError: no database can store it.
    """
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, float) and value == 0:
        return f"({value}e0)"  # a decimal literal has no sign of zero
    text = encode_value(value) or ""
    if isinstance(value, bool | int | float | Decimal):
        return f"({text})" if text.startswith("-") else text
    if "\\" in text or "\0" in text:
        return f"_utf8mb4 x'{text.encode().hex()}'"
    return quote_literal(text)


def escape_pattern(name: str) -> str:
    """Return the name of a database for GRANT on all its objects, where ``_`` and ``%`` would stand for other characters."""
    return name.replace("_", "\\_").replace("%", "\\%")


def encode_value(value: object) -> str | None:
    """Return the text that a server reads as ``value``, for a column of any type.

    Raises:
        ValueInvalidError: no database can store it.
    """
    return format_value(value, _WRITERS)


def _encode_text(value: str) -> str:
    if not is_storable(value.replace("\0", "")):
        raise ValueInvalidError(name="text", value=ascii(value[:40]), reason="it is not valid UTF-8")
    return value


def _encode_float(value: float) -> str:
    if not isfinite(value):
        raise _unstorable_error(value)
    return repr(value)


def _unstorable_error(number: object) -> ValueInvalidError:
    return ValueInvalidError(name="number", value=str(number), reason="no column can store it")


def _encode_time(value: datetime) -> str:
    # columns have no zone, so all times are sent in UTC
    timestamp = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    return timestamp.isoformat(" ")


def _encode_decimal(value: Decimal) -> str:
    """Return all digits: a literal with an exponent is a float."""
    if not value.is_finite():
        raise _unstorable_error(value)
    return f"{value:f}" if abs(value.adjusted()) <= MAX_DIGITS else str(value)


_WRITERS: Formatters = {
    str: _encode_text,
    bool: lambda value: "1" if value else "0",
    int: format_integer,
    float: _encode_float,
    datetime: _encode_time,
    date: str,
    Decimal: _encode_decimal,
    UUID: str,
}


KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(["char", "varchar", "tinytext", "text", "mediumtext", "longtext"], "text"),
    **dict.fromkeys(["tinyint", "smallint", "mediumint", "int", "bigint", "year", "bit"], "integer"),
    **dict.fromkeys(["decimal", "float", "double"], "number"),
    **dict.fromkeys(["binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "vector"], "bytes"),
    **dict.fromkeys(["datetime", "timestamp"], "timestamp"),
    "date": "date",
    "uuid": "uuid",
    "enum": "enum",
}
#: Upper limits of whole numbers in columns of a kind.
LIMITS: Mapping[Kind, int] = {"integer": 1 << 64, "number": 10**65}
#: The character sets that can store every text.
UNICODE_CHARSETS = frozenset({"utf8mb4", "utf16", "utf32"})

#: Times that a server may store and Python cannot parse.
UNPARSED_TIMES = re.compile(rf"[0-9]{{4}}-(?:0[0-9]|1[0-2])-(?:[0-2][0-9]|3[01])(?:[ T]{CLOCK})?")
_LABELS = re.compile(r"'(?:[^']|'')*'|[^']+")
SHAPE = re.compile(r"(?:MULTI)?(?:POINT|LINESTRING|POLYGON)|GEOM(?:ETRY)?COLLECTION|GEOMETRY")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_MEANING = {"0": "\0", "n": "\n", "r": "\r", "Z": "\x1a"}
TRUE, FALSE = frozenset({"t", "true", "y", "yes", "on"}), frozenset({"f", "false", "n", "no", "off"})


class MySQLColumn(ServerColumn, frozen=True, kw_only=True):
    charset: str = ""
    collation: str = ""
    auto_increment: bool = False  #: AUTO_INCREMENT


class MySQLTable(Table, frozen=True, kw_only=True):
    storage_engine: str = ""  #: InnoDB, MyISAM…; empty for a view
    transactional: bool = True


def normalize_type(declared: str) -> str:
    """Return a type of the catalog in upper case, except for the labels of an enum."""
    return _LABELS.sub(lambda match: match[0] if match[0].startswith("'") else match[0].upper(), declared)


def parse_labels(declared: str) -> list[str]:
    """Return the labels of an enum; in the catalog a backslash escapes, in every mode of the session."""
    texts = [text[1:-1].replace("''", "'") for text in _LABELS.findall(declared) if text.startswith("'")]
    return list(map(unescape, texts))


def unescape(text: str) -> str:
    """Return the content of a text in which a backslash escapes the next sign."""
    return _ESCAPED.sub(lambda match: _MEANING.get(match[1], match[1]), text)


def is_binary(column: Column) -> bool:
    """Whether values arrive as bytes: also points and other shapes."""
    return kind_of(column) == "bytes" or bool(SHAPE.fullmatch(column.type))


def charset_of(column: Column) -> str:
    """Return the character set of a column; empty if it stores no text."""
    return column.charset if isinstance(column, MySQLColumn) else ""


def comparable_value(column: Column, value: object) -> object:
    """Return ``value`` for a comparison with ``column``; None if no row can have it.

    Raises:
        ValueInvalidError: no database can store it.
    """
    kind = kind_of(column)
    if isinstance(value, str) and kind == "bytes":  # some apps store all text as bytes
        return value.encode(errors="surrogatepass")
    if isinstance(value, bytes) or kind == "bytes":
        return value if isinstance(value, bytes) and is_binary(column) else None
    if isinstance(value, int) and abs(value) < LIMITS.get(kind, 0):
        return Decimal(value)
    text = encode_value(value)
    return _COMPARE[kind](text, column) if text is not None and kind in _COMPARE else text


def _compare_number(text: str, column: Column) -> Decimal | None:
    word = text.strip().lower()
    if word in TRUE | FALSE and kind_of(column) == "integer":
        return Decimal(word in TRUE)
    try:
        number = Decimal(text) if text.isascii() else Decimal("NaN")
    except InvalidOperation:
        return None
    # the largest and the smallest numbers are those of DOUBLE; the server refuses a larger literal, and reads a smaller one as 0
    is_stored = number.is_finite() and isfinite(float(number)) and bool(float(number)) == bool(number)
    if is_stored and is_single(column):
        return round_single(number)
    return number if is_stored else None


def _compare_uuid(text: str, _column: Column) -> str | None:
    try:
        return str(UUID(text))
    except ValueError:
        return None


_COMPARE: Mapping[Kind, Callable[[str, Column], object]] = {
    "integer": _compare_number,
    "number": _compare_number,
    "uuid": _compare_uuid,
    "enum": lambda text, column: text if text in column.labels else None,
    **dict.fromkeys(TIMES, lambda text, _: parse_time(text) or (UNPARSED_TIMES.fullmatch(text) and text)),
}


def encode_for_column(column: Column, value: object) -> object:
    """Return ``value`` for a statement that stores it in ``column``.

    Raises:
        ValueInvalidError: the column cannot store such a value.
    """
    kind = kind_of(column)
    if isinstance(value, bytes) and kind not in ("bytes", "other"):
        raise ValueInvalidError(
            name=column.name, value="(bytes)", reason=f"the column has type {column.type.lower()}"
        )
    if isinstance(value, str) and kind in TIMES and (timestamp := parse_time(value)):
        return timestamp  # the server rejects a zone, or drops it
    return value


#: The bits of integer types, by the first word of the type.
BITS = {"TINYINT": 8, "SMALLINT": 16, "MEDIUMINT": 24, "INT": 32, "BIGINT": 64}
_TYPE = re.compile(r"([A-Z]+)(?:\((\d+)\))?")


#: Functions that read the text of a value, by the driver's number of its type, where ``select`` has another form to show.
EXACT = dict.fromkeys([FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP], str)


class MySQLCodec(ServerCodec):
    _db: MySQLDatabase
    kinds_of_bytes = frozenset({"bytes", "other"})  # such as points

    def read(self, query: Query) -> list[Row]:
        with keep_exact_values(self._db.connection.session):
            return self._db.connection.fetch(*self._db.select_statement(query, exact_expression))

    def create_parser(self, column: Column) -> codec.Parser:
        if column.type == "JSON":
            return codec.json_parser(column)
        make = _PARSERS.get(kind_of(column), _create_other_parser)
        return codec.precise_parser(column, make(column), digits=0)

    def format_item(self, column: Column, value: object) -> str | None:
        if isinstance(value, list | dict):
            return codec.encode_json(value) if kind_of(column) in ("text", "other") else None
        return str(int(value)) if isinstance(value, bool) else str(value)

    def find_name_problem(self, name: str) -> str:
        if len(name) > MAX_NAME_LENGTH:
            return f"it has more than {MAX_NAME_LENGTH} characters"
        is_storable = all(character <= "\uffff" for character in name)
        return "" if is_storable else "MySQL and MariaDB store no characters beyond U+FFFF in names"

    def define_column(self, column: NewColumn) -> Column:
        if reason := self.find_name_problem(column.name):
            raise ValueInvalidError(name="name of a column", value=column.name, reason=reason)
        declared, kind = _NEW_TYPES.get(column.kind, _NEW_TEXT)
        fits = column.digits + column.scale <= MAX_DIGITS and column.scale <= MAX_SCALE
        if column.kind == "decimal" and fits:
            declared, kind = f"DECIMAL({column.digits + column.scale},{column.scale})", "number"
        if column.is_key and declared in ("LONGTEXT", "LONGBLOB"):
            if column.length > MAX_KEY_LENGTH:
                reason = f"a key has at most {MAX_KEY_LENGTH} characters, and this one has {column.length}"
                raise ValueInvalidError(name="key", value=column.name, reason=reason)
            declared = f"VAR{'CHAR' if declared == 'LONGTEXT' else 'BINARY'}({MAX_KEY_LENGTH})"
        # as on other engines, equal texts are those with equal characters
        charset, collation = ("utf8mb4", "utf8mb4_bin") if kind == "text" else ("", "")
        return MySQLColumn(
            name=column.name,
            type=declared,
            kind=kind,
            nullable=not column.is_key,
            required=column.is_key,
            is_primary_key=column.is_key,
            charset=charset,
            collation=collation,
        )


#: Limits of the server: characters of a name, digits of a decimal, and digits after its point.
MAX_NAME_LENGTH, MAX_DIGITS, MAX_SCALE = 64, 65, 30
#: Characters of a key: 3,072 bytes, of which each of utf8mb4 needs four.
MAX_KEY_LENGTH = 768
_NEW_TEXT: tuple[str, Kind] = ("LONGTEXT", "text")
_NEW_TYPES: Mapping[str, tuple[str, Kind]] = {
    "integer": ("BIGINT", "integer"),
    "float": ("DOUBLE", "number"),
    "boolean": ("TINYINT(1)", "boolean"),
    "json": ("JSON", "other"),
    "bytes": ("LONGBLOB", "bytes"),
}


@contextmanager
def keep_exact_values(session: Session) -> Iterator[None]:
    """Read exact values in this context: times remain the text of the server."""
    decoders = session.decoders
    session.decoders = {**decoders, **EXACT}
    try:
        yield
    finally:
        session.decoders = decoders


def is_single(column: Column) -> bool:
    """Whether a column has numbers of single precision."""
    return column.type.startswith("FLOAT")


def exact_expression(column: Column, name: str) -> str:
    """Return SQL for a column with every digit: the server prints six of a FLOAT."""
    return f"({name} * 1e0)" if is_single(column) else name


def shorten_single(value: object) -> object:
    """Return the shortest number that a FLOAT stores as ``value``, a number that a FLOAT has: 0.1 for 0.10000000149011612."""
    if not isinstance(value, float):
        return value
    numbers = (float(f"{value:.{digits}g}") for digits in range(6, 10))
    return next((number for number in numbers if c_float(number).value == value), value)


def exact_reader(column: Column) -> Callable[[bytes], object]:
    r"""Return the function that reads the text of an exact value, of bytes as ``\x`` and hexadecimal digits."""
    if is_binary(column):
        return lambda text: bytes.fromhex(text[2:].decode())
    if kind_of(column) == "integer":
        return int
    if kind_of(column) == "number":
        return lambda text: codec.parse_number(text.decode())
    return lambda text: text.decode("utf-8", "surrogateescape")


def _create_integer_parser(column: Column) -> codec.Parser:
    match = _TYPE.match(column.type)
    name, width = (match[1], match[2]) if match else ("", None)
    if name == "BIT":
        return _as_number(codec.integer_parser(column, 0, (1 << int(width or 1)) - 1), Decimal)
    bits = BITS.get(name, 64)
    if "UNSIGNED" in column.type:
        return _as_number(codec.integer_parser(column, 0, (1 << bits) - 1), Decimal)
    return _as_number(codec.integer_parser(column, -(1 << (bits - 1)), (1 << (bits - 1)) - 1), int)


def _create_number_parser(column: Column) -> codec.Parser:
    is_real = column.type.startswith(("FLOAT", "DOUBLE"))  # a decimal literal has no sign of zero
    return _as_number(codec.number_parser(column, finite=True), float if is_real else Decimal)


def _as_number(read: codec.Parser, kind: Callable[[str], object]) -> codec.Parser:
    """Return a reader that converts the text of a number to ``kind``: as text, the server would round it."""
    return lambda text: kind(str(read(text)).strip())


def _create_other_parser(column: Column) -> codec.Parser:
    parse_text, parse_bytes = codec.text_parser(column, nul=True), codec.bytes_parser(column)
    # points and other types arrive as bytes
    return lambda text: parse_bytes(text) if text.startswith(codec.SHOWN_BYTES) else parse_text(text)


_PARSERS: Mapping[Kind, Callable[[Column], codec.Parser]] = {
    "text": partial(codec.text_parser, nul=True),
    "integer": _create_integer_parser,
    "number": _create_number_parser,
    "uuid": codec.uuid_parser,
    "enum": codec.label_parser,
    "timestamp": partial(codec.time_parser, extra_pattern=UNPARSED_TIMES),
    "date": partial(codec.time_parser, extra_pattern=UNPARSED_TIMES),
    "bytes": codec.bytes_parser,
}
