"""Read a schema in the form that each engine can derive, and find values that another engine cannot store."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import chain, count
from typing import Any, ClassVar, TypeAlias

import msgspec

from dbctl.engines.contract.schema import WRITE_LOCK, Schema, SchemaReference
from dbctl.engines.sql.catalog import quote_literal
from dbctl.engines.sql.database import SqlPart
from dbctl.extensions.transfer.portable.contract import (
    ColumnPair,
    JsonForm,
    LogicalKind,
    LogicalType,
    Omission,
    PortableColumn,
    PortableTable,
    StorageLimits,
    ValueChange,
    exchange_kind,
)
from dbctl.model import split_batches

#: ``TIMESTAMP(3) WITH TIME ZONE``: name, arguments, further words.
_DECLARED = re.compile(r"\s*([^()]*?)\s*(?:\(([^()]*)\)\s*([^()]*?))?\s*")
#: The fields that the arguments of a type set.
_ARGUMENTS: Mapping[LogicalKind, Sequence[str]] = {
    "text": ("length",),
    "bytes": ("length",),
    "decimal": ("digits", "scale"),
    "time": ("fraction",),
    "timestamp": ("fraction",),
    "bits": ("bits",),
}
#: Checks that a logical type implies, with the name of the column as {}.
_JSON_CHECK = r"\(*json_valid\({0}\)( or {0} is null)?\)*"
_BOOLEAN_CHECK = r"\(*{0} in \(0, ?1\)( or {0} is null)?\)*"
#: A default that no boolean has.
_LARGE_NUMBER = re.compile(r"'?(?!0+\b|1\b)\d+'?")
_QUOTES = re.compile(r'["`]')


def parse_declared(declared: str, types: Mapping[str, LogicalType]) -> LogicalType | None:
    """Return the logical type of a declared one by a table of types; None if the table lacks it.

    The table contains names in upper case without arguments, or with them if they change the meaning (``TINYINT(1)``).
    """
    declared = declared.upper()
    if declared in types:
        return types[declared]
    match = _DECLARED.fullmatch(declared)
    if match is None:
        return None
    name = f"{match[1]} {match[3] or ''}".strip()
    logical = types.get(name)
    arguments = [int(text) for text in (match[2] or "").split(",") if text.strip().isdecimal()]
    if logical is None or not arguments:
        return logical
    fields = zip(_ARGUMENTS.get(logical.kind, ()), arguments, strict=False)
    return msgspec.structs.replace(logical, **dict(fields))


def interpret_constraints(table: PortableTable) -> PortableTable:
    """Return a table with the types that checks and defaults imply, without the checks that the types imply."""
    checks, columns = dict.fromkeys(table.checks), list[PortableColumn]()
    for column in table.columns:
        patterns = {"text": _JSON_CHECK, "any": _JSON_CHECK, "json": _JSON_CHECK, "boolean": _BOOLEAN_CHECK}
        pattern = patterns.get(column.type.kind, "(?!)").format(re.escape(column.name.lower()))
        implied = [check for check in checks if re.fullmatch(pattern, _QUOTES.sub("", check).lower())]
        for check in implied:
            del checks[check]
        logical = column.type
        if implied and logical.kind in ("text", "any"):
            logical = LogicalType(kind="json")
        elif logical.kind == "boolean" and _LARGE_NUMBER.fullmatch(column.default):
            logical = LogicalType(kind="integer")
        columns.append(msgspec.structs.replace(column, type=logical))
    return msgspec.structs.replace(table, columns=columns, checks=list(checks))


def list_omissions(schema: Schema, views: Iterable[Mapping[str, Any]] = ()) -> Iterator[Omission]:
    """Yield what no schema derived from that of a server contains: triggers, partitions, and the "properties" of views."""
    for table in schema.tables:
        for option in table.options:
            if option.startswith("partition by "):
                reason = "it becomes one table"
                yield Omission(kind="partitions", name=option, table=table.name, reason=reason)
    for view in views:
        if view["properties"]:
            reason = f"its properties are left out: {view['properties'].strip()}"
            yield Omission(kind="view", name=view["name"], reason=reason)
    for code in schema.codes:
        if code.kind == "trigger" and not code.name.startswith(WRITE_LOCK):
            reason = "triggers have to be written again"
            yield Omission(kind="trigger", name=code.name, table=code.table, reason=reason)


def simplify_actions(reference: SchemaReference) -> SchemaReference:
    """Return a foreign key without RESTRICT: MySQL treats it like NO ACTION, and MariaDB reports only one of both."""
    update, delete = (
        "NO ACTION" if action == "RESTRICT" else action
        for action in (reference.on_update, reference.on_delete)
    )
    return msgspec.structs.replace(reference, on_update=update, on_delete=delete)


def split_generated(text: str) -> tuple[str, bool]:
    """Return the expression of ``SchemaColumn.generated``, and whether its value is stored."""
    expression, _, kind = text.rpartition(" ")
    return expression, kind == "stored"


def strip_parentheses(text: str) -> str:
    """Return an expression without parentheses around all of it."""
    while text.startswith("(") and text.endswith(")"):
        depth = 0
        for position, sign in enumerate(text):
            depth += {"(": 1, ")": -1}.get(sign, 0)
            if not depth and position < len(text) - 1:
                return text
        text = text[1:-1].strip()
    return text


def find_distinguished(
    table: PortableTable, folded: Collection[str], *, ignores_accents: bool
) -> Mapping[str, Sequence[str]]:
    """Return what comparisons distinguish in the derived table, but not in the source: ``case`` and ``accents``, with the columns.

    ``table`` is that of the source. The columns ``folded`` ignore case in the derived table, and, with ``ignores_accents``, accents.
    """
    names = {
        "case": [
            column.name for column in table.columns if column.ignores_case and column.name not in folded
        ],
        "accents": [
            column.name
            for column in table.columns
            if column.ignores_accents and not (ignores_accents and column.name in folded)
        ],
    }
    return {word: columns for word, columns in names.items() if columns}


#: Characters of the digest at the end of a shortened name.
_DIGEST_LENGTH = 8


class IndexNames:
    """The names that are in use."""

    def __init__(
        self, names: Iterable[str], *, max_size: int, size_of: Callable[[str], int], ignores_case: bool
    ) -> None:
        """Begin with ``names``; ``max_size`` is in the unit of ``size_of``."""
        self._max_size, self._size_of, self._ignores_case = max_size, size_of, ignores_case
        self._used = set(map(self._fold, names))

    def create(self, table: str, base: str, *, is_global: bool) -> str:
        """Return a name like ``base`` that no other index has: of the schema, or only of the table."""
        scope = "" if is_global else f"{table}\0"
        numbered = (f"{table}_{base}_{number}" for number in count(2))
        candidates = map(self.shorten, chain([base, f"{table}_{base}"], numbered))
        name = next(name for name in candidates if self._fold(scope + name) not in self._used)
        self._used.add(self._fold(scope + name))
        return name

    def shorten(self, name: str) -> str:
        """Return a name that is short enough; different names remain different."""
        if self._size_of(name) <= self._max_size:
            return name
        digest = sha256(name.encode()).hexdigest()[:_DIGEST_LENGTH]
        start = name.encode()[: self._max_size - _DIGEST_LENGTH - 1].decode(errors="ignore")
        return f"{start}_{digest}"

    def _fold(self, name: str) -> str:
        return name.lower() if self._ignores_case else name


#: Kinds that engines without strict types limit, too.
LIMITED = frozenset[LogicalKind]({"integer", "decimal", "real", "enum"})
#: Digits of an exponent of JSON that may be too large, and digits of a number that may be too large for a float.
EXPONENT_DIGITS: Mapping[JsonForm, int] = {"exact": 4, "float": 3}
FLOAT_DIGITS = 300
ZERO_SIGN = "the sign of zero is removed"
#: Terms of one expression: SQLite refuses expressions of more than 1000 levels.
MAX_TERMS = 400


class ValueScreen(SqlPart, ABC):
    """The part that finds out, with few statements, which columns have values that another engine may not store, or changes.

    A class of each engine writes the conditions.
    """

    length: ClassVar[str]  #: SQL for the number of characters
    size: ClassVar[str]  #: SQL for the number of bytes

    @abstractmethod
    def find_condition(self, pair: ColumnPair, limits: StorageLimits) -> str | None:
        """Return SQL that is true for values that can be stored, with the column as {0}; false or true otherwise.

        None means that SQL cannot decide it, and an empty text that every value can be stored.
        """

    def find_suspects(
        self, table: str, pairs: Sequence[ColumnPair], limits: StorageLimits
    ) -> Collection[str]:
        """Return the columns of a table that may have values that the destination cannot store unchanged."""
        conditions, suspects = dict[str, str](), set[str]()
        for pair in pairs:
            if pair.destination_type.converts_numbers or pair.destination_type.is_interval:
                suspects.add(pair.column)
                continue
            name = self._catalog.quote_column(table, pair.column, "")
            is_limited = limits.enforces_types or pair.destination_type.kind in LIMITED
            condition = self.find_condition(pair, limits) if is_limited else ""
            if condition is None:
                suspects.add(pair.column)
            elif condition and pair.is_nullable:
                conditions[pair.column] = f"({name} is null or ({condition.format(name)}))"
            elif condition or not pair.is_nullable:
                conditions[pair.column] = f"({name} is not null and ({condition.format(name) or '1 = 1'}))"
        if conditions and not self._are_true(table, conditions.values()):
            suspects |= {
                column for column, condition in conditions.items() if not self._are_true(table, [condition])
            }
        return suspects

    def count_changes(
        self,
        table: str,
        pairs: Sequence[ColumnPair],
        limits: StorageLimits,  # noqa: ARG002 - used by an override
    ) -> Sequence[ValueChange]:
        """Return the values of a table that the destination stores, but changes; arguments as ``find_suspects``."""
        # columns with strict types have only values that lines carry unchanged, except for the sign of zero
        columns = [pair.column for pair in pairs if exchange_kind(pair) == "real-unsigned"]
        quoted = self._catalog.quote_table(table)
        changes = list[ValueChange]()
        for column in columns:
            name = self._catalog.quote_column(table, column, "")
            sql = f"select count(*) from {quoted} where {name} = 0 and concat({name}, '') like '-%'"
            ((rows,),) = self._connection.fetch(sql)
            if rows:
                changes.append(ValueChange(table=table, column=column, rows=int(str(rows)), change=ZERO_SIGN))
        return changes

    def _are_true(self, table: str, conditions: Collection[str]) -> bool:
        return all(self._is_true(table, " and ".join(part)) for part in split_batches(conditions, MAX_TERMS))

    def _is_true(self, table: str, condition: str) -> bool:
        # a condition may be NULL, and then its negation, too
        refused = f"case when {condition} then false else true end"
        sql = f"select 1 from {self._catalog.quote_table(table)} where {refused} limit 1"
        return not self._connection.fetch(sql)

    def limit_length(self, logical: LogicalType) -> Iterator[str]:
        """Yield the conditions of a text of a limited length."""
        if logical.length is not None:
            yield f"{self.length} <= {logical.length}"
        if logical.max_bytes is not None:
            yield f"{self.size} <= {logical.max_bytes}"


#: Returns a condition as ``ValueScreen.find_condition``, by the types of the source and of the destination.
FindCondition: TypeAlias = Callable[[LogicalType, LogicalType, StorageLimits], str | None]


class ServerValueScreen(ValueScreen):
    """The part ``ValueScreen`` of a server, whose columns have only values of their types."""

    conditions: Mapping[LogicalKind, FindCondition]  #: by kind; of other kinds SQL decides nothing
    has_no_nul: ClassVar[str] = (
        ""  #: SQL that is true for texts without NUL characters; empty: there are no others
    )

    def find_condition(self, pair: ColumnPair, limits: StorageLimits) -> str | None:
        source, destination = pair.source_type, pair.destination_type
        if destination.kind in ("text", "any", "other"):
            is_special = destination.charset or destination.is_fixed or source.kind == "bytes"
            texts = [] if limits.stores_nul or not self.has_no_nul else [self.has_no_nul]
            return None if is_special else " and ".join([*texts, *self.limit_length(destination)])
        find = self.conditions.get(source.kind) if source.kind == destination.kind else None
        return find(source, destination, limits) if find else None


def check_integer(source: LogicalType, destination: LogicalType, limits: StorageLimits) -> str:
    """Return the condition of an integer of a server."""
    del limits
    is_wider = source.bits + source.is_unsigned <= destination.bits and not destination.is_unsigned
    return "" if is_wider else limit_integer(destination)


def check_bytes(source: LogicalType, destination: LogicalType, limits: StorageLimits) -> str:
    """Return the condition of bytes of a server."""
    del source, limits
    return "" if destination.length is None else f"octet_length({{0}}) <= {destination.length}"


def limit_integer(logical: LogicalType) -> str:
    bits = logical.bits - (not logical.is_unsigned)
    smallest = 0 if logical.is_unsigned else -(1 << bits)
    return f"{{0}} between {smallest} and {(1 << bits) - 1}"


def match_large_numbers(form: JsonForm) -> str:
    """Return a regular expression of servers for JSON with numbers that a column of this form may refuse."""
    exponent = f"[0-9][eE][-+]?[0-9]{{{{{EXPONENT_DIGITS[form]}}}}}"
    if form == "exact":
        return exponent
    hundreds, further = divmod(FLOAT_DIGITS, 100)  # PostgreSQL repeats nothing more than 255 times
    return f"{exponent}|([0-9]{{{{100}}}}){{{{{hundreds}}}}}[0-9]{{{{{further}}}}}"


def match_labels(logical: LogicalType) -> str:
    labels = ", ".join(map(quote_literal, logical.labels))
    return (
        f"{{0}} in ({labels})".replace("{0}", "\0").replace("{", "{{").replace("}", "}}").replace("\0", "{0}")
    )


def limit_decimal(source: LogicalType, destination: LogicalType) -> str | None:
    """Return the condition of a decimal that another decimal can store; None if SQL cannot decide it."""
    if destination.digits is None:
        return ""
    if source.digits is None or source.scale > destination.scale:
        return None
    whole = destination.digits - destination.scale
    return "" if source.digits - source.scale <= whole else f"abs({{0}}) < 1e{whole}"
