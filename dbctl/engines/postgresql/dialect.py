"""How PostgreSQL says what the contract asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from dbctl.engines.contract import Column, Later, TimeForm
from dbctl.engines.postgresql.catalog import PostgreSQLCatalogue
from dbctl.engines.postgresql.types import CASTS, TIMES, PostgreSQLColumn, array, fitting, kind_of, stored
from dbctl.engines.servers import MILLISECOND, compared, lower, nearly_before
from dbctl.engines.sql import Statement, is_storable, like_literal

NO_ROW = "1 = 0"

#: Milliseconds since 1970 as each form of a time writes them; whole numbers, so that no rounding loses one.
FORMS: Mapping[TimeForm, str] = {
    "iso-ms": """to_char({0}, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')""",
    "sqlite-time": "to_char({0}, 'YYYY-MM-DD HH24:MI:SS')",
    "epoch-ms": "({1})",
    "epoch-s": "({1}) / 1000",
}

#: A date, then perhaps a time of day with its fraction and its zone. A day that the month does not have is one of the
#: next month, as SQLite reads it; nothing that matches can fail below.
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
_OF_DIGITS = "when {0} ~ '^[0-9]{{9,11}}$' then {0}::int8 * 1000 when {0} ~ '^[0-9]{{12,14}}$' then {0}::int8"
_OF_TEXT = (
    f"(select case when d is not null then {_OF_ISO} {_OF_DIGITS} end from regexp_match({{0}}, '{_ISO}') d)"  # noqa: S608 - what is put in is checked and quoted
)
#: Numbers below 10^11 are seconds: as milliseconds they would all lie before March 1973.
_OF_INTEGER = "case when {0} between -99999999999 and 99999999999 then {0}::int8 * 1000 else {0} end"
_OF_NUMBER = (
    "case when abs({0}) < 100000000000 then round({0} * 1000)::int8"
    " when abs({0}) < 9000000000000000000 then round({0})::int8 end"
)


class PostgreSQLDialect(PostgreSQLCatalogue):
    """The reading half of the contract, for whatever holds the connection."""

    natives = frozenset({"time", "boolean", "uuid", "enum"})

    # Values and how they compare -------------------------------------------------------------------------------

    def _comparison(self, value: str, column: Column, op: str, statement: Statement, wanted: object) -> str:
        kind = kind_of(column)
        if isinstance(wanted, datetime) and kind not in TIMES:
            return super()._comparison(value, column, op, statement, wanted)
        found = fitting(column, wanted)
        if found is None:  # no row holds it, so every row that holds anything differs
            return f"{value} is not null" if op == "!=" else NO_ROW
        if kind in TIMES:
            of = "timestamptz" if kind == "timestamptz" else "timestamp"
            return compared(
                value,
                op,
                datetime.fromisoformat(found.text),
                lambda moment: f"cast({statement.bind(stored(moment))} as {of})",
            )
        place = f"cast({statement.bind(found.text)} as {found.type})"
        if op in ("=", "!="):
            return f"{value if kind != 'other' else self._text(value, column)} {op} {place}"
        if kind in ("enum", "other", "text"):
            return f"{self._sorted(value, column)} {op} {statement.bind(found.text)}"
        return f"{value} {op} {place}"

    def _among(self, value: str, column: Column, statement: Statement, among: Sequence[object]) -> str:
        kind = kind_of(column)
        found = [fitting(column, one) for one in among]
        if kind in TIMES:
            moments = [datetime.fromisoformat(one.text) for one in found if one]
            tests = [self._comparison(value, column, "=", statement, one) for one in moments]
            return f"({' or '.join(tests)})" if tests else NO_ROW
        kept = [one.text for one in found if one and (kind != "integer" or one.type == "int8")]
        of = (
            column.base
            if kind == "enum" and isinstance(column, PostgreSQLColumn)
            else CASTS.get(kind, "text")
        )
        if kind == "bytes":
            of = "bytea"
        left = self._text(value, column) if kind == "other" else value
        return f"{left} = any(cast({statement.bind(array(kept))} as {of}[]))"

    def _text_test(self, value: str, column: Column, op: str, statement: Statement, text: str) -> str:
        if "\0" in text and is_storable(text.replace("\0", "")):
            return NO_ROW
        low = lower(stored(text) or "")
        folded = self._folded(value, column)
        if op == "same":
            return f"{folded} = {statement.bind(low)}"
        pattern = like_literal(low)
        return (
            f"{folded} like {statement.bind(f'{pattern}%' if op == 'starts' else f'%{pattern}%')} escape '!'"
        )

    def _is_text(self, column: Column) -> bool:
        return kind_of(column) in ("text", "enum", "uuid", "other")

    def _found_at(self, value: str, column: Column, statement: Statement, text: str) -> str:
        return f"strpos({self._folded(value, column)}, {statement.bind(lower(stored(text) or ''))})"

    def _equal(self, value: str, column: Column, other: str, other_column: Column) -> tuple[str, str]:
        kinds = {kind_of(column), kind_of(other_column)}
        bases = {one.base for one in (column, other_column) if isinstance(one, PostgreSQLColumn)}
        if len(bases) == 1 or kinds <= {"integer", "number"} or kinds == {"text"}:
            return value, other
        return self._text(value, column), self._text(other, other_column)

    def _grouped(self, value: str, column: Column) -> str:
        return self._text(value, column) if kind_of(column) == "other" else value

    def _text(self, value: str, column: Column) -> str:
        return value if kind_of(column) == "text" else f"{value}::text"

    def _folded(self, value: str, column: Column) -> str:
        return f'lower({self._text(value, column)} collate "C")'  # of ASCII letters alone

    def _sorted(self, value: str, column: Column) -> str:
        if kind_of(column) in ("integer", "number", "boolean", "uuid", *TIMES):
            return value
        return f'{self._text(value, column)} collate "C"'

    def _comparable(self, value: str, column: Column) -> str:
        if kind_of(column) in ("boolean", "uuid"):  # a server tells no smallest one
            return self._text(value, column)
        return self._sorted(value, column)

    def _first_told(self, among: Sequence[tuple[str, Column]]) -> str:
        told = ", ".join(f"""nullif({self._text(*one)} collate "C", '')""" for one in among)
        return f"coalesce({told})"

    # Times -----------------------------------------------------------------------------------------------------

    def _milliseconds(self, value: str, column: Column) -> str:
        match kind_of(column):
            case "timestamptz" | "timestamp" | "date":
                return f"case when isfinite({value}) then floor(extract(epoch from {value}) * 1000)::int8 end"
            case "integer":
                return _OF_INTEGER.format(value)
            case "number":
                return _OF_NUMBER.format(value)
            case _:
                return _OF_TEXT.format(self._text(value, column))

    def _nearly_before(self, value: str, column: Column, moment: datetime, statement: Statement) -> str:
        return nearly_before(value, kind_of(column), moment, statement)

    def _moment(self, value: str, column: Column) -> str:
        return value if kind_of(column) in TIMES else super()._moment(value, column)

    def _later(self, value: str, column: Column, later: Later, target: Column) -> str:
        """Return SQL for a time that is moved on, as ``target`` holds it."""
        milliseconds = f"{self._milliseconds(value, column)} + {later.by // MILLISECOND}"
        moment = f"(timestamp 'epoch' + ({milliseconds}) * interval '1 millisecond')"
        if kind_of(target) == "timestamptz":
            return f"{moment} at time zone 'UTC'"
        if kind_of(target) in TIMES:
            return moment
        return FORMS[later.form].format(moment, milliseconds)
