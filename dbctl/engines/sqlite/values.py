"""Exact values of SQLite, parsers of text for its columns, parameters of queries, and times, for which SQLite has no type."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, cast

from dbctl.engines.contract.database import Column, Query
from dbctl.engines.contract.streaming import NewColumn, TimeFormCount, TimeForms, ValueCodec
from dbctl.engines.sql import codec
from dbctl.engines.sql.catalog import Row, ident
from dbctl.engines.sqlite.database import SQLitePart
from dbctl.errors.usage import ValueInvalidError

if TYPE_CHECKING:
    from dbctl.engines.sqlite.write_connection import WriteConnection


#: Words in a declared type by the affinity that they select; the first match is used.
AFFINITIES = {
    "INTEGER": ("INT",),
    "TEXT": ("CHAR", "CLOB", "TEXT"),
    "BLOB": ("BLOB",),
    "REAL": ("REAL", "FLOA", "DOUB"),
}
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,18})", re.ASCII)
#: A text of which SQLite stores the number in columns of numbers, rounded if it has too many digits; and one of a whole number.
_NUMBER = re.compile(r"[ \t-\r]*[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?[ \t-\r]*", re.ASCII)
_INTEGER = re.compile(r"[ \t-\r]*[-+]?[0-9]+[ \t-\r]*", re.ASCII)
_FRACTION = re.compile(r"-?(?:[0-9]+\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|Infinity)", re.ASCII)
_FRACTIONS = re.compile(r"REAL|FLOA|DOUB|NUMERIC|DECIMAL")
_SMALLEST, _LARGEST = -(1 << 63), (1 << 63) - 1


class RawText(bytes):
    """The bytes of a text that is not valid UTF-8; SQLite stores it, but the driver can only pass it as bytes."""


def find_affinity(declared: str) -> str:
    """Return the affinity of a declared type by the documented rules of SQLite, in their order."""
    for name, words in AFFINITIES.items():
        if any(word in declared.upper() for word in words):
            return name
    return "NUMERIC" if declared else "BLOB"


def _find_conversion(column: Column) -> str:
    """Return the affinity by which values are read for a column: a STRICT table converts none of ``ANY``, others convert them when written."""
    return "BLOB" if column.type == "ANY" else find_affinity(column.type)


class SQLiteCodec(SQLitePart, ValueCodec):
    """The part ``ValueCodec``: SQLite stores any value in any column, so a value has its type, and not the column."""

    def read(self, query: Query) -> list[Row]:
        return self._db.read_rows(query)

    def csv_parser(self, table: str, column: str) -> Callable[[str, bool], object]:
        definition = self._catalog.require_column(table, column)
        kind = _find_conversion(definition)
        bytes_forms = codec.SHOWN_BYTES if kind == "BLOB" or definition.is_binary else "\\x"

        def parse(text: str, is_unquoted: bool) -> object:  # noqa: FBT001 - called for every cell
            if is_unquoted and text.startswith(bytes_forms):
                return _parse_bytes(column, text)
            value = _parse_number(text) if is_unquoted and kind != "TEXT" else text
            if isinstance(value, int) and kind != "REAL":
                return value
            if isinstance(value, float) and (
                math.isinf(value) or (kind == "BLOB" and _find_exact_float(text) is not None)
            ):
                return value
            return _parse_text(definition, kind, text)

        return parse

    def text_parser(self, table: str, column: str) -> codec.Parser:
        definition = self._catalog.require_column(table, column)
        parse = self.csv_parser(table, column)
        is_number = not re.search("CHAR|TEXT|CLOB", definition.type)

        def parse_declared(text: str) -> object:
            value = parse(text, is_number)
            if reason := _find_violation(definition.type, text, value):
                codec.refuse(definition, text, reason)
            return value

        return parse_declared

    def json_parser(self, table: str, column: str) -> Callable[[object], object]:
        definition = self._catalog.require_column(table, column)
        kind = _find_conversion(definition)

        def parse(value: object) -> object:
            if isinstance(value, str):
                return _parse_text(definition, kind, value)
            if isinstance(value, bool):
                return int(value)
            if isinstance(value, Decimal) and kind == "TEXT":
                return str(value)  # SQLite would write 15 digits
            if isinstance(value, Decimal) and abs(value) == codec.INFINITE:
                return float(value)
            if isinstance(value, int | Decimal):
                # the text of a ``Decimal`` may lack the exponent that made it a float
                return _parse_exact(definition, "REAL" if isinstance(value, Decimal) else kind, str(value))
            if isinstance(value, list | dict):
                raise ValueInvalidError(name=column, value="(a list)", reason="write JSON as a text")
            return value

        return parse

    def define_column(self, column: NewColumn) -> Column:
        kind = column.kind
        if kind == "decimal":  # the only numbers with a fraction are 64-bit floats
            kind = "float" if column.fits_float else "text"
        return Column(
            name=column.name,
            type=_NEW_TYPES.get(kind, "TEXT"),
            nullable=not column.is_key,
            required=column.is_key,
            is_primary_key=column.is_key,
        )

    def find_name_problem(self, name: str) -> str:
        return "SQLite reserves sqlite_ at the beginning" if name.lower().startswith("sqlite_") else ""

    def find_name_conflict(self, name: str) -> str:
        sql = "select 1 from sqlite_master where type = 'index' and name = :name collate nocase"
        return "an index" if self._db.connection.run(sql, {"name": name}) else ""


_NEW_TYPES = {"integer": "INTEGER", "boolean": "INTEGER", "float": "REAL", "bytes": "BLOB"}


def _find_violation(declared: str, text: str, value: object) -> str:
    """Return why a text, parsed as ``value``, is none of a declared type, which SQLite would store nevertheless; empty: it is one."""
    if "JSON" in declared:
        try:
            json.loads(text, parse_constant=codec.refuse_constant)
        except (ValueError, RecursionError) as error:
            return f"it is not JSON: {error}"
    elif "INT" in declared:
        return "" if isinstance(value, int) else "it is not an integer"
    elif _FRACTIONS.match(declared) and not (isinstance(value, float) or _NUMBER.fullmatch(text)):
        return "it is not a number"
    return ""


def parse_parameter(value: object) -> object:
    """Return a query parameter of a user: the number if the text is a number, otherwise the value itself."""
    return _parse_number(value) if isinstance(value, str) else value


def _parse_number(text: str) -> object:
    if _WHOLE.fullmatch(text) and text != "-0":
        integer = int(text)
        return integer if _SMALLEST <= integer <= _LARGEST else text
    if _FRACTION.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) or text.endswith("Infinity") else text
    return text


def _parse_bytes(column: str, text: str) -> bytes:
    try:
        return codec.parse_bytes(text)
    except ValueError:
        reason = "\\x needs two hexadecimal digits per byte; quote the cell to make it a text"
        raise ValueInvalidError(name=column, value=ascii(text[:40]), reason=reason) from None


def _parse_exact(column: Column, kind: str, text: str) -> int | float:
    """Return the number of a text, for a column with the affinity ``kind``, unless a digit would be lost.

    Raises:
        ValueInvalidError: SQLite would store another number.
    """
    if kind != "REAL" and _INTEGER.fullmatch(text):
        # Python converts no text of more than 4,300 digits
        integer = int(text) if len(text) < 100 else _LARGEST + 1  # noqa: PLR2004
        if not _SMALLEST <= integer <= _LARGEST:
            codec.refuse(column, text, "it has more than 64 bits")
        return integer
    if (number := _find_exact_float(text)) is None:
        codec.refuse(column, text, "a number of 64 bits has fewer digits, or a smaller exponent")
    return number


def _find_exact_float(text: str) -> float | None:
    """Return the float of a number if, written with as many digits, it is the same number."""
    try:
        exact = Decimal(text.strip())
    except InvalidOperation:  # the exponent has too many digits
        return None
    number = float(text)
    if not math.isfinite(number):
        return None
    digits = len(exact.as_tuple().digits)
    # the shortest text of a number that is as near to two texts may be the other one: 2 ** -24 is 5.960464477539063e-08
    texts = (f"{number:.{digits - 1}e}", repr(number))
    return number if exact in map(Decimal, texts) else None


def _parse_text(column: Column, kind: str, text: str) -> object:
    """Return the number that a column with the affinity ``kind`` stores for a text, otherwise the text, or its bytes if some are not UTF-8."""
    if kind not in ("TEXT", "BLOB") and _NUMBER.fullmatch(text):
        return _parse_exact(column, kind, text)
    if codec.is_encodable(text):
        return text
    try:
        return RawText(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        reason = "it is not valid UTF-8"
        raise ValueInvalidError(name=column.name, value=ascii(text[:40]), reason=reason) from None


DAY = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
#: The form of a value, NULL if it is not a time or is zero, as ``find_time_form`` returns it for one value;
#: the same forms as in ``SQLiteDialect.to_milliseconds``, without plain dates.
_FORM = f"""case
when typeof({{0}}) in ('integer', 'real') then
    case when {{0}} = 0 then null when {{0}} between -99999999999 and 99999999999 then 'epoch-s' else 'epoch-ms' end
when {{0}} glob '{DAY}T*Z' then 'iso-ms'
when {{0}} glob '{DAY}T*' then 'iso-without-z'
when {{0}} glob '{DAY} *' then 'sqlite-time'
when length({{0}}) between 9 and 14 and {{0}} not glob '*[^0-9]*' then
    case when length({{0}}) < 12 then 'epoch-s' when length({{0}}) < 14 then 'epoch-ms' else 'compact' end
end"""


class SQLiteTimes(SQLitePart, TimeForms):
    def count_time_forms(self, table: str, column: str) -> Sequence[TimeFormCount]:
        key = self._catalog.primary_key(table)
        value = self._catalog.quote_column(table, column, "")
        key_columns = "".join(f", {ident(name)}" for name in key)
        # With min(), SQLite takes the other columns from the row with the smallest value.
        sql = (
            f"select {_FORM.format(value)} as form, count(*), min({value}){key_columns} from {ident(table)}"
            " group by form having form is not null order by 2 desc, 1"
        )
        return [
            TimeFormCount(
                form=str(form), rows=int(str(rows)), example=smallest, key=dict(zip(key, values, strict=True))
            )
            for form, rows, smallest, *values in self._connection.fetch(sql)
        ]

    def rewrite_times(self, table: str, column: str, form: str, convert: Callable[[object], object]) -> int:
        writer = cast("WriteConnection", self._connection)
        # ``convert`` of sqlite-utils would use the function of the first column for all columns
        writer.database.register_function(convert, deterministic=True, replace=True, name="dbctl_time")
        name = self._catalog.quote_column(table, column, "")
        clause = self._catalog.tables()[table].resolution_clause
        sql = (
            f"update{clause} {self._catalog.quote_table(table)} set {name} = dbctl_time({name})"
            f" where {_FORM.format(name)} <> :form"
        )
        return writer.execute_write(sql, {"form": form})
