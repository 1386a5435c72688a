"""SQL that only PostgreSQL understands, and values without loss."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from dbctl.engines.contract.database import Column, Query, ShiftedTime
from dbctl.engines.contract.streaming import NewColumn
from dbctl.engines.postgresql.values import (
    ADDRESS,
    CASTS,
    FALSE,
    HOST_MASK,
    PADDED,
    TRUE,
    UNDECLARED,
    PostgreSQLColumn,
    RawText,
    base_type,
    comparable_value,
    encode_for_column,
    encode_value,
    format_array,
    is_extreme_time,
)
from dbctl.engines.servers.database import ServerCodec
from dbctl.engines.servers.values import CLOCK, MILLISECOND, NO_ROW, TIMES, Kind, ServerDialect, kind_of
from dbctl.engines.sql import codec
from dbctl.engines.sql.catalog import Row, Statement, escape_like, is_storable, lower_ascii
from dbctl.errors.usage import ValueInvalidError
from dbctl.model import TimeForm

if TYPE_CHECKING:
    from dbctl.engines.postgresql.database import PostgreSQLDatabase


#: Integers of fewer than eight bytes, and the first number that is too large.
_NARROW_INTEGERS: Mapping[str, int] = {'"pg_catalog"."int2"': 1 << 15, '"pg_catalog"."int4"': 1 << 31}
#: Milliseconds since 1970 in each form of a time; whole numbers, so that rounding loses none.
TIME_FORMATS: Mapping[TimeForm, str] = {
    "iso-ms": """to_char({0}, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')""",
    "sqlite-time": "to_char({0}, 'YYYY-MM-DD HH24:MI:SS')",
    "epoch-ms": "({1})",
    "epoch-s": "({1}) / 1000",
}

#: A date, then optionally a time of day with fraction and zone. A day past the end of the month is a day of the next
#: month, as in SQLite; the expressions below accept every text that matches.
_ISO = (
    r"^\s*((?!0000)\d{{4}}-(?:0[1-9]|1[0-2]))-(0[1-9]|[12]\d|3[01])"
    r"(?:[T ]+([01]\d|2[0-4]):([0-5]\d)(?::([0-5]\d(?:\.\d{{1,9}})?)\d*)?)?"
    r"\s*(?:[Zz]|([+-])(\d\d)(?::?(\d\d))?)?\s*$"
)
_OF_ISO = (
    "((d[1] || '-01')::date - date '1970-01-01' + d[2]::int8 - 1) * 86400000"
    " + coalesce(d[3]::int8, 0) * 3600000 + coalesce(d[4]::int8, 0) * 60000"
    " + round(coalesce(d[5], '0')::numeric * 1000)::int8"
    " - coalesce(d[6] || '1', '0')::int8 * (coalesce(d[7]::int8, 0) * 3600000 + coalesce(d[8]::int8, 0) * 60000)"
)
_OF_DIGITS = "when {0} ~ '^[0-9]{{9,11}}$' then {0}::int8 * 1000 when {0} ~ '^[0-9]{{12,13}}$' then {0}::int8"
#: A text, with separators if it is a time without them.
_SEPARATED = (
    r"case when length({0}) = 14"
    r" then regexp_replace({0}, '^(\d{{4}})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)$', '\1-\2-\3 \4:\5:\6') else {0} end"
)
_OF_TEXT = (
    f"(select case when d is not null then {_OF_ISO} {_OF_DIGITS} end"
    f" from regexp_match({_SEPARATED}, '{_ISO}') d)"
)
#: Numbers below 10^11 are seconds: as milliseconds they would all be before March 1973.
_OF_INTEGER = "case when {0} between -99999999999 and 99999999999 then {0}::int8 * 1000 else {0} end"
_OF_NUMBER = (
    "case when abs({0}) < 100000000000 then round({0} * 1000)::int8"
    " when abs({0}) < 9000000000000000000 then round({0})::int8 end"
)


#: Types whose values have several texts in a column of a fixed scale or length.
PADDED_TYPES = [f'"pg_catalog"."{name}"' for name in ("numeric", "_numeric", "_bpchar")]


class PostgreSQLDialect(ServerDialect):
    native_types = frozenset({"time", "boolean", "uuid", "enum"})

    # Comparisons -----------------------------------------------------------------------------------------------

    def compare(self, value: str, column: Column, op: str, statement: Statement, operand: object) -> str:
        kind = kind_of(column)
        if isinstance(operand, datetime) and kind not in TIMES:
            return super().compare(value, column, op, statement, operand)
        comparable = comparable_value(column, operand)
        if comparable is None:  # no row has it, so all values differ
            return f"{value} is not null" if op == "!=" else NO_ROW
        if kind in TIMES and not is_extreme_time(comparable.text):
            time_type = "timestamptz" if kind == "timestamptz" else "timestamp"
            return f"{value} {op} cast({statement.bind(comparable.text)} as {time_type})"
        placeholder = f"cast({statement.bind(comparable.text)} as {comparable.type})"
        if op in ("=", "!="):
            return f"{value if kind != 'other' else self.as_text(value, column)} {op} {placeholder}"
        if kind in ("enum", "other", "text"):
            return f"{self.sort_expression(value, column)} {op} {statement.bind(comparable.text)}"
        return f"{value} {op} {placeholder}"

    def is_identical(self, value: str, column: Column, statement: Statement, operand: object) -> str:
        if kind_of(column) in ("integer", "boolean", "uuid", "enum", "bytes"):
            return self.compare(value, column, "=", statement, operand)
        text, base = statement.bind(encode_value(operand)), base_type(column)
        # of a fixed scale or length, also below a domain: the server adds zeros or spaces
        if base in PADDED_TYPES and column.type not in ("NUMERIC", "NUMERIC[]"):
            return f"{value} = cast({text} as {base})"
        declared = column.type if column.type.startswith("INTERVAL") else base  # the server rounds it
        return f'{value}::text collate "C" = cast({text} as {declared})::text'

    def is_among(self, value: str, column: Column, statement: Statement, values: Sequence[object]) -> str:
        kind = kind_of(column)
        comparables = [comparable for item in values if (comparable := comparable_value(column, item))]
        if kind in TIMES:
            times = (comparable.text for comparable in comparables)
            operands = [text if is_extreme_time(text) else datetime.fromisoformat(text) for text in times]
            tests = [self.compare(value, column, "=", statement, operand) for operand in operands]
            return f"({' or '.join(tests)})" if tests else NO_ROW
        texts = [
            comparable.text for comparable in comparables if kind != "integer" or comparable.type == "int8"
        ]
        array_type = (
            column.base
            if kind == "enum" and isinstance(column, PostgreSQLColumn)
            else CASTS.get(kind, "text")
        )
        if kind == "bytes":
            array_type = "bytea"
        if base_type(column) == PADDED:
            array_type = PADDED
        if limit := _NARROW_INTEGERS.get(base_type(column)):
            # The server hashes a list only if it has the type of the column: 200,000 values of another type are compared one by one.
            array_type = base_type(column)
            texts = [text for text in texts if -limit <= int(text) < limit]
        left = self.as_text(value, column) if kind == "other" else value
        return f"{left} = any(cast({statement.bind(format_array(texts))} as {array_type}[]))"

    def text_test(self, value: str, column: Column, op: str, statement: Statement, text: str) -> str:
        if "\0" in text and is_storable(text.replace("\0", "")):
            return NO_ROW
        low = lower_ascii(encode_value(text) or "")
        folded = self.fold_case(value, column)
        if op == "same":
            return f"{folded} = {statement.bind(low)}"
        pattern = escape_like(low)
        return (
            f"{folded} like {statement.bind(f'{pattern}%' if op == 'starts' else f'%{pattern}%')} escape '!'"
        )

    def is_text(self, column: Column) -> bool:
        return kind_of(column) in ("text", "enum", "uuid", "other")

    def text_position(self, value: str, column: Column, statement: Statement, text: str) -> str:
        return f"strpos({self.fold_case(value, column)}, {statement.bind(lower_ascii(encode_value(text) or ''))})"

    def equal_operands(self, value: str, column: Column, other: str, other_column: Column) -> tuple[str, str]:
        kinds = {kind_of(column), kind_of(other_column)}
        bases = {operand.base for operand in (column, other_column) if isinstance(operand, PostgreSQLColumn)}
        if len(bases) == 1 or kinds <= {"integer", "number"} or kinds == {"text"}:
            return value, other
        return self.as_text(value, column), self.as_text(other, other_column)

    def group_expression(self, value: str, column: Column) -> str:
        return self.as_text(value, column) if kind_of(column) == "other" else value

    def as_text(self, value: str, column: Column) -> str:
        if base_type(column) == ADDRESS:  # the value may be text already, so ``abbrev`` would not do
            return rf"regexp_replace({value}::text, '{HOST_MASK}', '\1')"
        return value if kind_of(column) == "text" else f"{value}::text"

    def bind(self, statement: Statement, column: Column, value: object) -> str:
        return statement.bind(encode_for_column(column, value))

    def fold_case(self, value: str, column: Column) -> str:
        return f'lower({self.as_text(value, column)} collate "C")'  # only ASCII letters

    def sort_expression(self, value: str, column: Column) -> str:
        if kind_of(column) in ("integer", "number", "boolean", "uuid", *TIMES):
            return value
        return f'{self.as_text(value, column)} collate "C"'

    def min_operand(self, value: str, column: Column) -> str:
        if kind_of(column) in ("boolean", "uuid"):  # these types have no min()
            return self.as_text(value, column)
        return super().min_operand(value, column)

    def first_nonempty(self, operands: Sequence[tuple[str, Column]]) -> str:
        texts = ", ".join(f"""nullif({self.as_text(*operand)} collate "C", '')""" for operand in operands)
        return f"coalesce({texts})"

    # Times -----------------------------------------------------------------------------------------------------

    def to_milliseconds(self, value: str, column: Column) -> str:
        match kind_of(column):
            case "timestamptz" | "timestamp" | "date":
                return f"case when isfinite({value}) then floor(extract(epoch from {value}) * 1000)::int8 end"
            case "integer":
                return _OF_INTEGER.format(value)
            case "number":
                return _OF_NUMBER.format(value)
            case _:
                return _OF_TEXT.format(self.as_text(value, column))

    def shift_time(self, value: str, column: Column, shift: ShiftedTime, target: Column) -> str:
        milliseconds = f"{self.to_milliseconds(value, column)} + {shift.offset // MILLISECOND}"
        timestamp = f"(timestamp 'epoch' + ({milliseconds}) * interval '1 millisecond')"
        if kind_of(target) == "timestamptz":
            return f"{timestamp} at time zone 'UTC'"
        if kind_of(target) in TIMES:
            return timestamp
        return TIME_FORMATS[shift.form].format(timestamp, milliseconds)


#: The bits of integer types, without the sign.
BITS = {"SMALLINT": 15, "INTEGER": 31, "BIGINT": 63}
#: Times that PostgreSQL writes and Python cannot parse.
UNPARSED_TIMES = re.compile(
    rf"-?infinity|(?=[0-9]{{5}}|.* BC)[0-9]{{4,}}-(?:0[1-9]|1[0-2])-(?:[0-2][0-9]|3[01])(?: {CLOCK}(?:[+-][0-9:]+)?)?(?: BC)?"
)


def _parse_raw_text(column: Column, text: str) -> RawText:
    """Return a text with bytes that are not UTF-8; the server checks its length."""
    try:
        if "\0" in text:
            codec.refuse(column, text, "it contains a NUL")
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        codec.refuse(column, text, "it is not valid UTF-8")
    return RawText(text)


#: Objects that share their names with tables: other relations, and types, since each table has a type.
NAME_CONFLICTS = """select case c.relkind when 'i' then 'an index' when 'I' then 'an index' when 'S' then 'a sequence' else 'a type' end
from pg_catalog.pg_class c where c.relname = :name and c.relkind in ('i', 'I', 'S', 'c')
  and c.relnamespace = current_schema()::regnamespace
union all select 'a type' from pg_catalog.pg_type t where t.typname = :name and t.typrelid = 0
  and t.typnamespace = current_schema()::regnamespace"""


class PostgreSQLCodec(ServerCodec):
    """The part ``ValueCodec``: the text of the server, whose settings are those of the session."""

    _db: PostgreSQLDatabase

    def read(self, query: Query) -> list[Row]:
        readers = [
            exact_reader(self._catalog.require_column(query.table, column)) for column in query.columns
        ]
        return [
            tuple(
                value if read is None or value is None else read(value)
                for read, value in zip(readers, row, strict=True)
            )
            for row in self._db.connection.fetch_texts(*self._db.select_statement(query))
        ]

    def create_parser(self, column: Column) -> codec.Parser:
        return codec.precise_parser(column, self._create_parser(column), digits=6)

    def _create_parser(self, column: Column) -> codec.Parser:
        make = _PARSERS.get(kind_of(column))
        if make is not None:
            return make(column)
        if column.type.endswith("[]"):
            return self._create_array_parser(column)
        parse = codec.json_parser(column) if _is_json(column) else codec.text_parser(column)
        if self._db.connection.session.settings.get("client_encoding") != UNDECLARED:
            return parse
        return lambda text: parse(text) if codec.is_encodable(text) else _parse_raw_text(column, text)

    def _create_array_parser(self, column: Column) -> codec.Parser:
        """Return a parser for arrays in the form of the server, and as a list of JSON, the form that results have."""
        parse_text = codec.text_parser(column)

        def read(text: str) -> object:
            try:
                value = codec.decode_json(text) if text.startswith("[") else None
            except (msgspec.DecodeError, UnicodeEncodeError):  # an array with bounds begins with [, too
                value = None
            return parse_text(text if value is None else self.format_item(column, value) or text)

        return read

    def format_item(self, column: Column, value: object) -> str | None:
        if _is_json(column):
            return codec.encode_json(value)
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int | Decimal):
            return str(value)
        if isinstance(value, list) and column.type.endswith("[]"):
            return format_array([_format_element(column, item) for item in value])
        return None

    def find_name_problem(self, name: str) -> str:
        from dbctl.engines.postgresql.session import MAX_NAME_BYTES

        # the server would truncate it silently
        return f"it has more than {MAX_NAME_BYTES} bytes" if len(name.encode()) > MAX_NAME_BYTES else ""

    def find_name_conflict(self, name: str) -> str:
        rows = self._db.connection.fetch(NAME_CONFLICTS, {"name": name})
        return str(rows[0][0]) if rows else ""

    def define_column(self, column: NewColumn) -> Column:
        reason = self.find_name_problem(column.name)
        if column.name in SYSTEM_COLUMNS:
            reason = "each table of PostgreSQL has a system column of this name"
        if reason:
            raise ValueInvalidError(name="name of a column", value=column.name, reason=reason)
        return Column(
            name=column.name,
            type=_NEW_TYPES[column.kind],
            nullable=not column.is_key,
            required=column.is_key,
            is_primary_key=column.is_key,
        )


SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
_NEW_TYPES = {
    "integer": "BIGINT",
    "decimal": "NUMERIC",
    "float": "DOUBLE PRECISION",
    "boolean": "BOOLEAN",
    "json": "JSONB",
    "bytes": "BYTEA",
    "text": "TEXT",
}


def exact_reader(column: Column) -> Callable[[str], object] | None:
    """Return the function that reads the server's text of a value exactly; None if it remains text."""
    return _EXACT_READERS.get(kind_of(column))


_EXACT_READERS: Mapping[Kind, Callable[[str], object]] = {
    "integer": int,
    "number": codec.parse_number,
    "boolean": "t".__eq__,
    "bytes": lambda text: bytes.fromhex(text[2:]),
}


def _format_element(column: Column, value: object) -> object:
    if isinstance(value, list):
        return [_format_element(column, item) for item in value]
    if isinstance(value, bool) and column.type.startswith("BOOLEAN"):
        return "t" if value else "f"  # as the server writes it
    if column.is_binary:
        with suppress(ValueError):
            return codec.from_json(value)
    return codec.encode_json(value) if isinstance(value, dict | bool) else value


def _is_json(column: Column) -> bool:
    return column.type in ("JSON", "JSONB")


def _create_integer_parser(column: Column) -> codec.Parser:
    end = 1 << BITS.get(column.type, 63)
    return codec.integer_parser(column, -end, end - 1)


_PARSERS: Mapping[Kind, Callable[[Column], codec.Parser]] = {
    "integer": _create_integer_parser,
    "number": partial(codec.number_parser, finite=False),
    "boolean": partial(codec.boolean_parser, words=TRUE | FALSE),
    "uuid": codec.uuid_parser,
    "enum": codec.label_parser,
    "timestamptz": partial(codec.time_parser, extra_pattern=UNPARSED_TIMES),
    "timestamp": partial(codec.time_parser, extra_pattern=UNPARSED_TIMES),
    "date": partial(codec.time_parser, extra_pattern=UNPARSED_TIMES),
    "bytes": codec.bytes_parser,
}
