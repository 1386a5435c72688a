"""The product and version of a server, and its SQL."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Literal

from dbctl.engines.contract.database import Column, ShiftedTime
from dbctl.engines.mysql.values import (
    UNICODE_CHARSETS,
    MySQLColumn,
    charset_of,
    comparable_value,
    encode_for_column,
    encode_value,
    parse_labels,
)
from dbctl.engines.servers.values import MILLISECOND, NO_ROW, TIMES, ServerDialect, kind_of
from dbctl.engines.sql.catalog import Statement, escape_like, lower_ascii
from dbctl.errors.usage import NotSupportedError
from dbctl.model import Struct, TimeForm

#: The oldest versions with all required features.
OLDEST = {"MySQL": (8, 0, 17), "MariaDB": (10, 6, 0)}
#: Since this version, one right of MySQL allows any existing definer, and a second one missing definers.
SET_ANY_DEFINER_VERSION = (8, 2, 0)
#: Since this version, MariaDB has the type UUID.
UUID_VERSION = (10, 7, 0)
#: Since this version, MySQL stores libraries of JavaScript and other languages in a database.
LIBRARIES_VERSION = (9, 2, 0)
#: The sessions of a server. In the information schema of MySQL, the list fails while any session runs a statement with a character
#: outside of the basic plane, such as an emoji; in the performance schema, it is empty if that is disabled. MariaDB skips the comment.
PROCESSES = """(select * from information_schema.processlist /*!80022 where not @@performance_schema union all
  select id, user, host, db, command, time, state, info from performance_schema.processlist where @@performance_schema */)"""
_VERSION = re.compile(r"(?:5\.5\.5-)?(\d+)\.(\d+)\.(\d+)")


class Server(Struct, frozen=True, kw_only=True):
    """Product and version of a server, and its features."""

    product: Literal["MySQL", "MariaDB"]
    version: tuple[int, int, int]
    version_text: str  #: as the server reports it, without the prefix that MariaDB sends to replicas
    #: whether the dump program would not write everything with the settings of sessions of this account
    limits_programs: bool = False
    #: whether the server may begin sessions of this account with statements of its own, such as ``SET NAMES`` (``init_connect``)
    begins_sessions: bool = False

    @property
    def exact_collation(self) -> str:
        """The collation by code points in which trailing spaces are significant."""
        return "utf8mb4_nopad_bin" if self.product == "MariaDB" else "utf8mb4_0900_bin"

    @property
    def is_mariadb(self) -> bool:
        return self.product == "MariaDB"

    @property
    def time_limit(self) -> str:
        """The setting that limits the time of a statement: of MariaDB in seconds, of MySQL in milliseconds, for SELECT only."""
        return "max_statement_time" if self.is_mariadb else "max_execution_time"

    def needs_relay(self, *, in_container: bool) -> bool:
        """Whether the dump program must connect through dbctl to have its settings; in a container, only if rows would be lost."""
        return self.limits_programs or (self.begins_sessions and not in_container)

    @property
    def backslash_escapes(self) -> bool:
        """Whether a backslash in a string begins an escape, in every session of dbctl.

        MySQL stores generated columns, defaults and checks as text with such escapes, pushes conditions into derived tables
        as such text, and parses both in the mode of the session. Without escapes, a table with a quote in such an expression
        would not open, and one with a backslash would compute another value, also for the app.
        """
        return not self.is_mariadb

    @property
    def has_libraries(self) -> bool:
        """Whether ``CREATE LIBRARY`` exists."""
        return not self.is_mariadb and self.version >= LIBRARIES_VERSION

    @property
    def has_uuid_type(self) -> bool:
        return self.is_mariadb and self.version >= UUID_VERSION

    @property
    def definer_privilege(self) -> str:
        """The right to create objects with another definer."""
        if self.is_mariadb:
            return "SET USER"
        return "SET_USER_ID" if self.version < SET_ANY_DEFINER_VERSION else "SET_ANY_DEFINER"


def parse_server(text: str, target: str) -> Server:
    """Parse the version that a server reports.

    Raises:
        NotSupportedError: it is older than the oldest supported version.
    """
    product: Literal["MySQL", "MariaDB"] = "MariaDB" if "mariadb" in text.lower() else "MySQL"
    match = _VERSION.match(text)
    version = (int(match[1]), int(match[2]), int(match[3])) if match else (0, 0, 0)
    if version < OLDEST[product]:
        oldest_versions = " and ".join(
            f"{name} {'.'.join(map(str, oldest))}" for name, oldest in OLDEST.items()
        )
        raise NotSupportedError(
            feature=f"opening {target}",
            subject=f"{product} {text}",
            hint=f"dbctl supports {oldest_versions}, and later versions.",
        )
    return Server(product=product, version=version, version_text=text.removeprefix("5.5.5-"))


#: A timestamp in each form of a time, from {0}, its milliseconds since 1970.
_TIMESTAMP = "date_add(timestamp '1970-01-01 00:00:00.000', interval ({0}) * 1000 microsecond)"
TIME_FORMATS: Mapping[TimeForm, str] = {
    "iso-ms": f"concat(left(date_format({_TIMESTAMP}, '%Y-%m-%dT%H:%i:%s.%f'), 23), 'Z')",
    "sqlite-time": f"date_format({_TIMESTAMP}, '%Y-%m-%d %H:%i:%s')",
    "epoch-ms": "({0})",
    "epoch-s": "({0}) div 1000",
}

#: A date, then optionally a time of day with fraction and zone. A day past the end of the month is a day of the next
#: month, as in SQLite; the expressions below accept every text that matches.
_DATE = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_CLOCK = "[T ]+([01][0-9]|2[0-4]):[0-5][0-9](:[0-5][0-9]([.][0-9]{1,9})?[0-9]*)?"
_ZONE = "[[:space:]]*([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)?[[:space:]]*"
_ISO = f"^[[:space:]]*(?!0000){_DATE}({_CLOCK})?{_ZONE}$"
_DAY = f"regexp_substr({{0}}, '{_DATE}')"
#: The text after the day; only there a sign belongs to a zone.
_AFTER_DAY = f"regexp_replace({{0}}, '^[[:space:]]*{_DATE}', '')"
_TIME = f"trim(leading 'T' from trim(regexp_substr({_AFTER_DAY}, '^{_CLOCK}')))"
_OFFSET = f"replace(trim(regexp_substr({_AFTER_DAY}, '[+-][0-9]{{2}}(:?[0-9]{{2}})?[[:space:]]*$')), ':', '')"


def _number_at(text: str, position: int, length: str = "") -> str:
    """Return SQL for a number at a position of a text; 0 if the text is shorter."""
    return f"coalesce(nullif(substr({text}, {position}{length}), ''), '0')"


_OF_ISO = (
    f"(to_days(concat(left({_DAY}, 7), '-01')) + {_number_at(_DAY, 9, ', 2')} - 719529) * 86400000"
    f" + {_number_at(_TIME, 1, ', 2')} * 3600000 + {_number_at(_TIME, 4, ', 2')} * 60000"
    f" + round(cast({_number_at(_TIME, 7)} as decimal(12, 9)) * 1000)"
    f" - (case when {_OFFSET} like '-%' then -1 else 1 end)"
    f" * ({_number_at(_OFFSET, 2, ', 2')} * 3600000 + {_number_at(_OFFSET, 4, ', 2')} * 60000)"
)
#: A time without separators.
_COMPACT = "^(?!0000)[0-9]{4}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-4])[0-5][0-9][0-5][0-9]$"
_OF_COMPACT = (
    "(to_days(concat(left({0}, 6), '01')) + substr({0}, 7, 2) - 719529) * 86400000"
    " + substr({0}, 9, 2) * 3600000 + substr({0}, 11, 2) * 60000 + substr({0}, 13, 2) * 1000"
)
_OF_TEXT = (
    f"case when {{0}} regexp '{_ISO}' then cast({_OF_ISO} as signed)"
    " when {0} regexp '^[0-9]{9,11}$' then cast({0} as signed) * 1000"
    " when {0} regexp '^[0-9]{12,13}$' then cast({0} as signed)"
    f" when {{0}} regexp '{_COMPACT}' then cast({_OF_COMPACT} as signed) end"
)
#: Numbers below 10^11 are seconds: as milliseconds they would all be before March 1973.
_OF_INTEGER = (
    "case when {0} between -99999999999 and 99999999999 then {0} * 1000"
    " when {0} <= 9223372036854775807 then cast({0} as signed) end"
)
_OF_NUMBER = (
    "case when abs({0}) < 100000000000 then cast(round({0} * 1000) as signed)"
    " when abs({0}) < 9000000000000000000 then cast(round({0}) as signed) end"
)
_OF_TIME = "cast(floor(timestampdiff(microsecond, timestamp '1970-01-01 00:00:00', {0}) / 1000) as signed)"


class MySQLDialect(ServerDialect):
    native_types = frozenset({"time", "uuid", "enum"})
    random = "rand()"

    def __init__(self, get_server: Callable[[], Server]) -> None:
        """Create the dialect of the server that ``get_server`` returns for each statement."""
        self._get_server = get_server

    # Comparisons -----------------------------------------------------------------------------------------------

    def exact_text(self, value: str) -> str:
        """Return SQL for ``value`` as text that compares, sorts and groups by code points, including trailing spaces.

        By default, servers use collations in which ``é`` equals ``E``, and ``a`` equals ``a`` with a trailing space.
        """
        return f"convert({value} using utf8mb4) collate {self._get_server().exact_collation}"

    def compare(self, value: str, column: Column, op: str, statement: Statement, operand: object) -> str:
        kind = kind_of(column)
        if isinstance(operand, datetime) and kind not in TIMES:
            return super().compare(value, column, op, statement, operand)
        comparable = comparable_value(column, operand)
        if comparable is None:  # no row has it, so all values differ
            return f"{value} is not null" if op == "!=" else NO_ROW
        if isinstance(comparable, datetime):
            return f"{value} {op} timestamp {statement.bind(comparable)}"
        placeholder = statement.bind(comparable)
        if kind in ("text", "other") and not isinstance(comparable, bytes):
            exact = f"{self.exact_text(value)} {op} {placeholder}"
            return (
                f"({value} = {placeholder} and {exact})"
                if op == "=" and _is_indexable(column, comparable)
                else exact
            )
        if kind == "enum" and op not in ("=", "!="):
            return f"{self.exact_text(value)} {op} {placeholder}"
        return f"{value} {op} {placeholder}"

    def is_null(self, value: str, column: Column) -> str:
        if column.nullable or kind_of(column) not in TIMES:
            return super().is_null(value, column)
        return f"{value} <=> null"  # in a column that is NOT NULL, IS NULL finds zero dates

    def is_identical(self, value: str, column: Column, statement: Statement, operand: object) -> str:
        if kind_of(column) in TIMES or column.type.startswith(("TIME", "INET")):  # with several spellings
            return f"{value} = {statement.bind(encode_for_column(column, operand))}"
        if isinstance(operand, str) and column.type.startswith("SET("):
            return f"{value} = {statement.bind(_sort_members(column, operand))}"
        if isinstance(operand, str) and column.type.startswith("CHAR("):
            operand = operand.rstrip(" ")  # the server returns none of them
        if isinstance(operand, bytes) and column.type.startswith("BINARY("):
            operand = operand.ljust(int(column.type[7:-1]), b"\0")  # as the server stores it
        return self.compare(value, column, "=", statement, operand)

    def is_among(self, value: str, column: Column, statement: Statement, values: Sequence[object]) -> str:
        kind = kind_of(column)
        comparables = [
            comparable for item in values if (comparable := comparable_value(column, item)) is not None
        ]
        if kind in TIMES:
            tests = [self.compare(value, column, "=", statement, comparable) for comparable in comparables]
            return f"({' or '.join(tests)})" if tests else NO_ROW
        if not comparables:
            return NO_ROW
        placeholder = statement.bind(comparables)
        if kind not in ("text", "other"):
            return f"{value} in {placeholder}"
        exact = f"{self.exact_text(value)} in {placeholder}"
        is_indexable = all(_is_indexable(column, comparable) for comparable in comparables)
        return f"({value} in {placeholder} and {exact})" if is_indexable else exact

    def text_test(self, value: str, column: Column, op: str, statement: Statement, text: str) -> str:
        low = lower_ascii(encode_value(text) or "")
        folded = self.fold_case(value, column)
        if op == "same":
            exact = f"{folded} = cast({statement.bind(low)} as binary)"
            if not (_is_indexable(column, low) and _is_case_insensitive(column)):
                return exact
            return f"({value} = {statement.bind(text)} and {exact})"
        pattern = escape_like(low)
        place = statement.bind(f"{pattern}%" if op == "starts" else f"%{pattern}%")
        return f"{folded} like cast({place} as binary) escape '!'"

    def is_text(self, column: Column) -> bool:
        return (
            kind_of(column) in ("text", "enum", "uuid") or bool(charset_of(column)) or column.type == "JSON"
        )

    def text_position(self, value: str, column: Column, statement: Statement, text: str) -> str:
        # Positions in the folded text count bytes.
        folded, low = self.fold_case(value, column), statement.bind(lower_ascii(encode_value(text) or ""))
        before = f"left({folded}, locate(cast({low} as binary), {folded}) - 1)"
        return f"(char_length(convert({before} using utf8mb4)) + 1)"

    def equal_operands(self, value: str, column: Column, other: str, other_column: Column) -> tuple[str, str]:
        kinds = {kind_of(column), kind_of(other_column)}
        numbers = kinds <= {"integer", "number"}
        if numbers or (
            len(kinds) == 1 and "other" not in kinds and _collation(column) == _collation(other_column)
        ):
            return value, other  # also text: foreign keys of the server compare it in this way
        return self.exact_text(value), self.exact_text(other)

    def group_expression(self, value: str, column: Column) -> str:
        return self.exact_text(value) if kind_of(column) in ("text", "other") else value

    def as_text(self, value: str, column: Column) -> str:
        return value if kind_of(column) == "text" else f"convert({value} using utf8mb4)"

    def bind(self, statement: Statement, column: Column, value: object) -> str:
        return statement.bind(encode_for_column(column, value))

    def fold_case(self, value: str, column: Column) -> str:
        """Return SQL that folds ASCII letters only: the Hebrew character set accepts any bytes, and has no other letter cases."""
        raw = value if kind_of(column) == "bytes" else f"cast(convert({value} using utf8mb4) as binary)"
        return f"cast(lower(convert({raw} using hebrew)) as binary)"

    def sort_expression(self, value: str, column: Column) -> str:
        return value if kind_of(column) in ("integer", "number", "bytes", *TIMES) else self.exact_text(value)

    def first_nonempty(self, operands: Sequence[tuple[str, Column]]) -> str:
        texts = ", ".join(f"nullif({self.exact_text(value)}, '')" for value, _ in operands)
        return f"coalesce({texts})"

    # Times -----------------------------------------------------------------------------------------------------

    def to_milliseconds(self, value: str, column: Column) -> str:
        match kind_of(column):
            case "timestamp" | "date":
                return _OF_TIME.format(value)
            case "integer":
                return _OF_INTEGER.format(value)
            case "number":
                return _OF_NUMBER.format(value)
            case "bytes":  # MediaWiki; the character set accepts any bytes
                return _OF_TEXT.replace("{0}", f"convert({value} using latin1)")
            case _:
                return _OF_TEXT.replace("{0}", self.exact_text(value))

    def shift_time(self, value: str, column: Column, shift: ShiftedTime, target: Column) -> str:
        milliseconds = f"{self.to_milliseconds(value, column)} + {shift.offset // MILLISECOND}"
        if kind_of(target) in TIMES:
            return _TIMESTAMP.format(milliseconds)
        return TIME_FORMATS[shift.form].replace("{0}", milliseconds)


def _collation(column: Column) -> str:
    return column.collation if isinstance(column, MySQLColumn) else ""


def _is_indexable(column: Column, value: object) -> bool:
    """Return whether the column's own comparison finds ``value`` by an index; it may also find unequal rows."""
    charset = charset_of(column)
    return bool(charset) and (
        charset in UNICODE_CHARSETS or (isinstance(value, str) and value.isascii() and "\0" not in value)
    )


def _is_case_insensitive(column: Column) -> bool:
    """Return whether the column's own comparison ignores the case of all ASCII letters; Turkish has two letters i."""
    name = _collation(column)
    return name.endswith("_ci") and "turkish" not in name


def _sort_members(column: Column, text: str) -> str:
    """Return the members of a value of a SET in the order in which the server stores them, each once."""
    labels = [label.casefold() for label in parse_labels(column.type)]
    members = dict.fromkeys(text.split(","))
    return ",".join(sorted(members, key=lambda member: [*labels, member.casefold()].index(member.casefold())))


def parse_time_sql(value: str, exact: str) -> str:
    """Return SQL for a time that may be text with a zone, which no server parses."""
    milliseconds = _OF_TEXT.replace("{0}", exact)
    return f"case when {exact} regexp 'T|Z|[+]|:[0-9.]+-' then {_TIMESTAMP.format(milliseconds)} else {value} end"
