"""How MySQL and MariaDB say what the contract asks for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime

from dbctl.engines.contract import Column, Later, TimeForm
from dbctl.engines.mysql.catalog import MySQLCatalogue
from dbctl.engines.mysql.session import Server
from dbctl.engines.mysql.types import TIMES, WIDE, MySQLColumn, charset_of, fitting, kind_of, stored
from dbctl.engines.servers import MILLISECOND, compared, lower, nearly_before
from dbctl.engines.sql import Statement, like_literal

NO_ROW = "1 = 0"

#: A moment as each form of a time writes it: what it is from {0}, its milliseconds since 1970.
_MOMENT = "date_add(timestamp '1970-01-01 00:00:00.000', interval ({0}) * 1000 microsecond)"
FORMS: Mapping[TimeForm, str] = {
    "iso-ms": f"concat(left(date_format({_MOMENT}, '%Y-%m-%dT%H:%i:%s.%f'), 23), 'Z')",
    "sqlite-time": f"date_format({_MOMENT}, '%Y-%m-%d %H:%i:%s')",
    "epoch-ms": "({0})",
    "epoch-s": "({0}) div 1000",
}

#: A date, then perhaps a time of day with its fraction and its zone. A day that the month does not have is one of the
#: next month, as SQLite reads it; nothing that matches can fail below.
_DATE = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_CLOCK = "[T ]+([01][0-9]|2[0-4]):[0-5][0-9](:[0-5][0-9]([.][0-9]{1,9})?[0-9]*)?"
_ZONE = "[[:space:]]*([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)?[[:space:]]*"
_ISO = f"^[[:space:]]*(?!0000){_DATE}({_CLOCK})?{_ZONE}$"
_DAY = f"regexp_substr({{0}}, '{_DATE}')"
#: What stands behind the day; only there a sign belongs to a zone.
_REST = f"regexp_replace({{0}}, '^[[:space:]]*{_DATE}', '')"
_TIME = f"trim(leading 'T' from trim(regexp_substr({_REST}, '^{_CLOCK}')))"
_OFFSET = f"replace(trim(regexp_substr({_REST}, '[+-][0-9]{{2}}(:?[0-9]{{2}})?[[:space:]]*$')), ':', '')"


def _part(text: str, at: int, length: str = "") -> str:
    """Return SQL for a number that stands somewhere in a text; 0 where the text ends before."""
    return f"coalesce(nullif(substr({text}, {at}{length}), ''), '0')"


_OF_ISO = (
    f"(to_days(concat(left({_DAY}, 7), '-01')) + {_part(_DAY, 9, ', 2')} - 719529) * 86400000"
    f" + {_part(_TIME, 1, ', 2')} * 3600000 + {_part(_TIME, 4, ', 2')} * 60000"
    f" + round(cast({_part(_TIME, 7)} as decimal(12, 9)) * 1000)"
    f" - (case when {_OFFSET} like '-%' then -1 else 1 end)"
    f" * ({_part(_OFFSET, 2, ', 2')} * 3600000 + {_part(_OFFSET, 4, ', 2')} * 60000)"
)
_OF_TEXT = (
    f"case when {{0}} regexp '{_ISO}' then cast({_OF_ISO} as signed)"
    " when {0} regexp '^[0-9]{9,11}$' then cast({0} as signed) * 1000"
    " when {0} regexp '^[0-9]{12,14}$' then cast({0} as signed) end"
)
#: Numbers below 10^11 are seconds: as milliseconds they would all lie before March 1973.
_OF_INTEGER = (
    "case when {0} between -99999999999 and 99999999999 then {0} * 1000"
    " when {0} <= 9223372036854775807 then cast({0} as signed) end"
)
_OF_NUMBER = (
    "case when abs({0}) < 100000000000 then cast(round({0} * 1000) as signed)"
    " when abs({0}) < 9000000000000000000 then cast(round({0}) as signed) end"
)
_OF_TIME = "cast(floor(timestampdiff(microsecond, timestamp '1970-01-01 00:00:00', {0}) / 1000) as signed)"


class MySQLDialect(MySQLCatalogue):
    """The reading half of the contract, for whatever holds the connection."""

    natives = frozenset({"time", "uuid", "enum"})
    random = "rand()"

    @property
    @abstractmethod
    def server(self) -> Server:
        """What answers."""

    # Values and how they compare -------------------------------------------------------------------------------

    def _exact(self, value: str) -> str:
        """Return SQL for ``value`` as a text that compares, sorts and groups by its code points, blanks at its end too.

        The collations that servers begin with take ``é`` for ``E``, and ``a`` with a blank behind for ``a``.
        """
        return f"convert({value} using utf8mb4) collate {self.server.exact}"

    def _comparison(self, value: str, column: Column, op: str, statement: Statement, wanted: object) -> str:
        kind = kind_of(column)
        if isinstance(wanted, datetime) and kind not in TIMES:
            return super()._comparison(value, column, op, statement, wanted)
        found = fitting(column, wanted)
        if found is None:  # no row holds it, so every row that holds anything differs
            return f"{value} is not null" if op == "!=" else NO_ROW
        if isinstance(found, datetime):
            return compared(value, op, found, lambda moment: f"timestamp {statement.bind(moment)}")
        place = statement.bind(found)
        if kind in ("text", "other"):
            exact = f"{self._exact(value)} {op} {place}"
            return f"({value} = {place} and {exact})" if op == "=" and _indexed(column, found) else exact
        if kind == "enum" and op not in ("=", "!="):
            return f"{self._exact(value)} {op} {place}"
        return f"{value} {op} {place}"

    def _among(self, value: str, column: Column, statement: Statement, among: Sequence[object]) -> str:
        kind = kind_of(column)
        found = [one for one in (fitting(column, one) for one in among) if one is not None]
        if kind in TIMES:
            tests = [self._comparison(value, column, "=", statement, one) for one in found]
            return f"({' or '.join(tests)})" if tests else NO_ROW
        if not found:
            return NO_ROW
        place = statement.bind(found)
        if kind not in ("text", "other"):
            return f"{value} in {place}"
        exact = f"{self._exact(value)} in {place}"
        return f"({value} in {place} and {exact})" if all(_indexed(column, one) for one in found) else exact

    def _text_test(self, value: str, column: Column, op: str, statement: Statement, text: str) -> str:
        low = lower(stored(text) or "")
        folded = self._folded(value, column)
        if op == "same":
            exact = f"{folded} = cast({statement.bind(low)} as binary)"
            if not (_indexed(column, low) and _folds(column)):
                return exact
            return f"({value} = {statement.bind(text)} and {exact})"
        pattern = like_literal(low)
        place = statement.bind(f"{pattern}%" if op == "starts" else f"%{pattern}%")
        return f"{folded} like cast({place} as binary) escape '!'"

    def _is_text(self, column: Column) -> bool:
        return (
            kind_of(column) in ("text", "enum", "uuid") or bool(charset_of(column)) or column.type == "JSON"
        )

    def _found_at(self, value: str, column: Column, statement: Statement, text: str) -> str:
        # Places in what is folded are those of bytes.
        folded, low = self._folded(value, column), statement.bind(lower(stored(text) or ""))
        before = f"left({folded}, locate(cast({low} as binary), {folded}) - 1)"
        return f"(char_length(convert({before} using utf8mb4)) + 1)"

    def _equal(self, value: str, column: Column, other: str, other_column: Column) -> tuple[str, str]:
        kinds = {kind_of(column), kind_of(other_column)}
        numbers = kinds <= {"integer", "number"}
        if numbers or (
            len(kinds) == 1 and "other" not in kinds and _collation(column) == _collation(other_column)
        ):
            return value, other  # text, too: the server's own foreign keys compare it so
        return self._exact(value), self._exact(other)

    def _grouped(self, value: str, column: Column) -> str:
        return self._exact(value) if kind_of(column) in ("text", "other") else value

    def _text(self, value: str, column: Column) -> str:
        return value if kind_of(column) == "text" else f"convert({value} using utf8mb4)"

    def _folded(self, value: str, column: Column) -> str:
        """Of ASCII letters alone: among the character sets that take any bytes, Hebrew has no case of its own."""
        told = value if kind_of(column) == "bytes" else f"cast(convert({value} using utf8mb4) as binary)"
        return f"cast(lower(convert({told} using hebrew)) as binary)"

    def _sorted(self, value: str, column: Column) -> str:
        return value if kind_of(column) in ("integer", "number", "bytes", *TIMES) else self._exact(value)

    def _comparable(self, value: str, column: Column) -> str:
        return self._sorted(value, column)

    def _first_told(self, among: Sequence[tuple[str, Column]]) -> str:
        told = ", ".join(f"nullif({self._exact(value)}, '')" for value, _ in among)
        return f"coalesce({told})"

    # Times -----------------------------------------------------------------------------------------------------

    def _milliseconds(self, value: str, column: Column) -> str:
        match kind_of(column):
            case "time" | "date":
                return _OF_TIME.format(value)
            case "integer":
                return _OF_INTEGER.format(value)
            case "number":
                return _OF_NUMBER.format(value)
            case "bytes":
                return "null"
            case _:
                return _OF_TEXT.replace("{0}", self._exact(value))

    def _nearly_before(self, value: str, column: Column, moment: datetime, statement: Statement) -> str:
        return nearly_before(value, kind_of(column), moment, statement)

    def _moment(self, value: str, column: Column) -> str:
        return value if kind_of(column) in TIMES else super()._moment(value, column)

    def _later(self, value: str, column: Column, later: Later, target: Column) -> str:
        """Return SQL for a time that is moved on, as ``target`` holds it."""
        milliseconds = f"{self._milliseconds(value, column)} + {later.by // MILLISECOND}"
        if kind_of(target) in TIMES:
            return _MOMENT.format(milliseconds)
        return FORMS[later.form].replace("{0}", milliseconds)


def _collation(column: Column) -> str:
    return column.collation if isinstance(column, MySQLColumn) else ""


def _indexed(column: Column, value: object) -> bool:
    """Whether the column's own comparison takes ``value``; it finds what is equal, and by an index, and other rows too."""
    charset = charset_of(column)
    return bool(charset) and (
        charset in WIDE or (isinstance(value, str) and value.isascii() and "\0" not in value)
    )


def _folds(column: Column) -> bool:
    """Whether the column's own comparison takes the two cases of every ASCII letter for one; Turkish has two letters i."""
    name = _collation(column)
    return name.endswith("_ci") and "turkish" not in name


def moment_of_text(value: str, exact: str) -> str:
    """Return SQL for a time that may be text with a zone, which no server reads."""
    milliseconds = _OF_TEXT.replace("{0}", exact)
    return (
        f"case when {exact} regexp 'T|Z|[+]|:[0-9.]+-' then {_MOMENT.format(milliseconds)} else {value} end"
    )
