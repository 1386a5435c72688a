"""Build SELECT statements from conditions and orders, over the SQL expressions in which engines differ."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from dbctl.engines.contract.database import (
    AllOf,
    AnyOf,
    Column,
    Condition,
    InSubquery,
    Not,
    Order,
    Query,
    ReferenceCount,
    ShiftedTime,
    Where,
)
from dbctl.engines.sql.catalog import NO_LIMIT, Catalog, Statement, ident
from dbctl.model import split_batches

#: Terms that are joined without parentheses: SQLite limits the depth of a condition, which is the number of its terms.
MAX_TERMS = 100


class Dialect(ABC):
    """The SQL of an engine for values of columns; it needs no connection.

    ``value`` is the SQL of a value, ``column`` the column of the value.
    """

    random = "random()"  #: SQL for a random number
    native_types: frozenset[str] = frozenset()  #: as in ``Readable.native_types``

    @abstractmethod
    def roughly_before(self, value: str, column: Column, timestamp: datetime, statement: Statement) -> str:
        """Return SQL that can use an index and is true for all rows with a time before ``timestamp``, and few others."""

    def _roughly_before_text(self, value: str, timestamp: datetime, statement: Statement) -> str:
        """As ``roughly_before``, for text in any zone; numeric text for 2001 to 2033 sorts before the days of this century.

        Times without separators sort after the others of their year.
        """
        limit = (timestamp + timedelta(days=2)).date()
        day, year, compact = map(statement.bind, (f"{limit}", f"{limit:%Y}0", f"{limit:%Y%m%d}"))
        return f"({value} < {day} or ({value} >= {year} and {value} < {compact}))"

    @abstractmethod
    def to_milliseconds(self, value: str, column: Column) -> str:
        """Return SQL that reads a stored time of any form as milliseconds since 1970; NULL if it is not a time."""

    @abstractmethod
    def fold_case(self, value: str, column: Column) -> str:
        """Return SQL that sorts ``value`` case-insensitively."""

    @abstractmethod
    def text_test(self, value: str, column: Column, op: str, statement: Statement, text: str) -> str:
        """Return SQL for the case-insensitive operators ``same``, ``contains`` and ``starts``."""

    @abstractmethod
    def is_among(self, value: str, column: Column, statement: Statement, values: Sequence[object]) -> str:
        """Return SQL for membership in ``values``, with the whole set as one parameter."""

    @abstractmethod
    def is_text(self, column: Column) -> bool:
        """Whether a column may contain text."""

    @abstractmethod
    def text_position(self, value: str, column: Column, statement: Statement, text: str) -> str:
        """Return SQL for the position of a text in ``value``, from 1."""

    def cut_text(self, text: str, begin: str, length: int) -> str:
        """Return SQL for the part of a text from the position ``begin``, of at most ``length`` characters."""
        return f"substr({text}, {begin}, {length})"

    def contains(self, value: str, column: Column, statement: Statement, text: str) -> str:
        """Return SQL for "``value`` contains ``text``"."""
        return self.text_test(value, column, "contains", statement, text)

    def compare(self, value: str, column: Column, op: str, statement: Statement, operand: object) -> str:
        """Return SQL for a comparison with an operand that is neither None nor a sequence."""
        if isinstance(operand, datetime):
            return f"{self.to_milliseconds(value, column)} {op} {statement.bind(round(operand.timestamp() * 1000))}"
        return f"{value} {op} {self.bind(statement, column, operand)}"

    def bind(self, statement: Statement, column: Column, value: object) -> str:
        """Return SQL for a value that a column stores."""
        return statement.bind(value)

    def is_null(self, value: str, column: Column) -> str:
        return f"{value} is null"

    def is_identical(self, value: str, column: Column, statement: Statement, operand: object) -> str:
        """Return SQL for "storing ``operand``, which is not None, would change nothing"."""
        return self.compare(value, column, "=", statement, operand)

    def equal_operands(self, value: str, column: Column, other: str, other_column: Column) -> tuple[str, str]:
        """Return SQL for two values in a form in which they can be compared."""
        return value, other

    def group_expression(self, value: str, column: Column) -> str:
        """Return SQL for GROUP BY, equal for equal values."""
        return value

    def as_text(self, value: str, column: Column) -> str:
        return value

    def sort_expression(self, value: str, column: Column) -> str:
        """Return SQL that sorts ``value``, texts by their bytes."""
        return value

    def min_operand(self, value: str, column: Column) -> str:
        """Return SQL for the argument of min()."""
        return self.sort_expression(value, column)

    def first_nonempty(self, operands: Sequence[tuple[str, Column]]) -> str:
        """Return SQL for the first operand that is neither NULL nor empty, sorted by its bytes."""
        return f"coalesce({', '.join(f'nullif({value}, {chr(39) * 2})' for value, _ in operands)})"

    def sort_time(self, value: str, column: Column) -> str:
        return self.to_milliseconds(value, column)

    @abstractmethod
    def shift_time(self, value: str, column: Column, shift: ShiftedTime, target: Column) -> str:
        """Return SQL for a time that is moved by an interval, in the form that the column ``target`` stores."""


class QueryBuilder:
    """Builder of statements over the live tables of a database; it runs nothing."""

    def __init__(self, catalog: Catalog, dialect: Dialect) -> None:
        self._catalog, self._dialect = catalog, dialect

    def select(
        self, statement: Statement, query: Query, express: Callable[[Column, str], str] | None = None
    ) -> str:
        """Return a SELECT of rows ``t0``, in the order of the key unless ``order_by`` is set."""
        table = query.table
        operands = (self._operand(table, column, "t0") for column in query.columns)
        names = ", ".join(express(column, name) if express else name for name, column in operands)
        only = "only " if query.only and self._catalog.tables()[table].is_inherited else ""
        sql = f"select {names} from {only}{self._catalog.quote_table(table)} t0{self.where_clause(statement, table, query.where, 't0')}"
        if terms := self.order_terms(statement, table, query.order_by):
            sql += " order by " + ", ".join(terms)
        return sql + self.limit_clause(statement, query)

    def exists(self, statement: Statement, table: str, where: Sequence[Where]) -> str:
        """Return a SELECT of one row if any meets all conditions."""
        condition = self.where_clause(statement, table, where)
        for item in where:
            match item:
                case Condition(column=column, op="<" | "<=", value=datetime() as timestamp):
                    value, live = self._operand(table, column, "t0")
                    condition += f" and {self._dialect.roughly_before(value, live, timestamp, statement)}"
        return f"select 1 from {self._catalog.quote_table(table)} t0{condition} limit 1"

    def count_by(self, statement: Statement, table: str, column: str, where: Sequence[Where]) -> str:
        """Return a SELECT of each value of ``column`` and the number of its rows."""
        group = self._dialect.group_expression(*self._operand(table, column, "t0"))
        condition = self.where_clause(statement, table, where)
        return (
            f"select {group}, count(*) from {self._catalog.quote_table(table)} t0{condition} group by {group}"
        )

    def order_terms(
        self, statement: Statement, table: str, order_by: Sequence[Order], *, has_key: bool = True
    ) -> list[str]:
        """Return the sort terms for rows of ``t0``; with ``has_key`` they end with the key, so that the order is stable."""
        terms = [term for order in order_by for term in self._order(statement, table, order, "t0")]
        keys = self._catalog.require_table(table).primary_key if has_key else ()
        terms += [self._dialect.sort_expression(*self._operand(table, key, "t0")) for key in keys]
        return list(dict.fromkeys(terms))

    @staticmethod
    def limit_clause(statement: Statement, query: Query) -> str:
        sql = ""
        if query.limit is not None or query.offset:
            sql = f" limit {statement.bind(NO_LIMIT if query.limit is None else query.limit)}"
        if query.offset:
            sql += f" offset {statement.bind(query.offset)}"
        return sql

    def where_clause(
        self, statement: Statement, table: str, where: Sequence[Where], alias: str = "t0"
    ) -> str:
        """Return WHERE for the rows ``alias`` of ``table`` that meet all conditions; empty without any."""
        parts = [self.condition(statement, table, condition, alias) for condition in where]
        return " where " + " and ".join(parts) if parts else ""

    def new_value(self, statement: Statement, table: str, name: str, value: object) -> str:
        """Return SQL for the new value of a column of rows ``t0``."""
        column = self._catalog.require_column(table, name)
        if isinstance(value, ShiftedTime):
            return self._dialect.shift_time(*self._operand(table, value.column, "t0"), value, column)
        return self._dialect.bind(statement, column, value)

    def condition(self, statement: Statement, table: str, where: Where, alias: str = "t0") -> str:
        """Return SQL for one condition on the rows ``alias`` of ``table``."""
        match where:
            case Condition():
                return self._comparison(statement, table, where, alias)
            case InSubquery():
                return self._subquery(statement, table, where, alias)
            case ReferenceCount():
                inner = statement.add_alias(where.table)
                link = self._join_condition(
                    where.table, where.referring_column, inner, table, where.column, alias
                )
                count_sql = (
                    f"select count(*) from {self._catalog.quote_table(where.table)} {inner} where {link}"
                )
                return f"({count_sql}) {where.op} {statement.bind(where.count)}"
            case AnyOf() | AllOf():
                word, empty_result = (" or ", "1 = 0") if isinstance(where, AnyOf) else (" and ", "1 = 1")
                parts = [self.condition(statement, table, condition, alias) for condition in where.conditions]
                while len(parts) > MAX_TERMS:
                    parts = [f"({word.join(batch)})" for batch in split_batches(parts, MAX_TERMS)]
                return f"({word.join(parts)})" if parts else empty_result
            case Not():
                return f"({self.condition(statement, table, where.condition, alias)}) is not true"

    def _subquery(self, statement: Statement, table: str, where: InSubquery, alias: str) -> str:
        inner = statement.add_alias(where.table)
        pairs = [
            self._comparable_pair(table, column, alias, where.table, to, inner)
            for column, to in zip(where.columns, where.target_columns, strict=True)
        ]
        left, right = (", ".join(side) for side in zip(*pairs, strict=True))
        condition = self.where_clause(statement, where.table, where.where, inner)
        if len(where.columns) > 1:
            left = f"({left})"
        return f"{left} in (select {right} from {self._catalog.quote_table(where.table)} {inner}{condition})"

    def _comparable_pair(
        self, table: str, column: str, alias: str, other: str, to: str, inner: str
    ) -> tuple[str, str]:
        """Return a column of ``table`` and one of ``other`` in comparable form."""
        return self._dialect.equal_operands(
            *self._operand(table, column, alias), *self._operand(other, to, inner)
        )

    def _operand(self, table: str, column: str, alias: str) -> tuple[str, Column]:
        """Return the SQL of a column, and its definition."""
        live = self._catalog.require_column(table, column)
        return f"{alias}.{ident(live.name)}", live

    def _join_condition(self, table: str, column: str, alias: str, other: str, to: str, inner: str) -> str:
        return " = ".join(self._comparable_pair(table, column, alias, other, to, inner))

    def _comparison(self, statement: Statement, table: str, condition: Condition, alias: str) -> str:
        value, column = self._operand(table, condition.column, alias)
        op, operand = condition.op, condition.value
        if operand is None and op in ("=", "!=", "identical"):
            return f"{value} is not null" if op == "!=" else self._dialect.is_null(value, column)
        if op == "identical":
            return self._dialect.is_identical(value, column, statement, operand)
        if op == "in":
            if not isinstance(operand, Sequence) or isinstance(operand, str):
                raise TypeError("op 'in' requires a sequence")
            return self._dialect.is_among(value, column, statement, operand)
        if op == "element":
            padded = f"(';' || replace({self._dialect.as_text(value, column)}, '; ', ';') || ';')"
            search_text = f";{str(operand).strip().replace('; ', ';')};"
            return self._dialect.text_test(padded, column, "contains", statement, search_text)
        if op in ("same", "contains", "starts"):
            return self._dialect.text_test(value, column, op, statement, str(operand))
        return self._dialect.compare(value, column, op, statement, operand)

    def _order(self, statement: Statement, table: str, order: Order, alias: str) -> Iterator[str]:
        if order.random:
            yield self._dialect.random
            return
        owner_table, inner = (
            (order.through.table, statement.add_alias(order.through.table))
            if order.through
            else (table, alias)
        )
        operands = [self._operand(owner_table, name, inner) for name in order.columns]
        value, column = operands[0]
        if order.time:
            times = [self._dialect.to_milliseconds(*operand) for operand in operands]
            value = (
                self._dialect.sort_time(value, column)
                if len(operands) == 1
                else f"coalesce({', '.join(times)})"
            )
        elif len(operands) > 1:
            value = self._dialect.first_nonempty(operands)
        if order.through:
            link = order.through
            inside = self.where_clause(statement, link.table, link.where, inner)
            join = self._join_condition(
                link.table, link.target_columns[0], inner, table, link.columns[0], alias
            )
            smallest = value if order.time or len(operands) > 1 else self._dialect.min_operand(value, column)
            value = (
                f"(select min({smallest}) from {self._catalog.quote_table(link.table)} {inner}"
                f"{inside}{' and' if inside else ' where'} {join})"
            )
        # With several columns, the value is NULL if all are empty.
        unknown = order.time or order.through or len(operands) > 1
        if unknown or column.nullable:
            yield f"({value} is null)"
        if order.nocase and not order.time:
            value = self._dialect.fold_case(value, column)
        elif not order.time and len(operands) == 1:
            value = self._dialect.sort_expression(value, column)
        yield f"{value}{' desc' if order.descending else ''}"


#: Keys of ``match_rows`` in a query: SQLite limits the depth of conditions.
KEYS_PER_QUERY = 200


def match_rows(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Where:
    """Return the condition that the columns have the values of one of the rows, with as few terms as possible.

    A single column must not be NULL.
    """
    if len(columns) == 1:
        return Condition(columns[0], "in", [value for (value,) in rows])
    # equal values of several types, such as text and bytes, are not the same value of a column
    known = [(row, [(type(value), repr(value)) for value in row]) for row in rows]
    counts = [len({keys[index] for _, keys in known}) for index in range(len(columns))]
    *first, last = sorted(range(len(columns)), key=counts.__getitem__)
    groups = dict[tuple[object, ...], list[Sequence[object]]]()
    for row, keys in known:
        groups.setdefault((row[last] is None, *(keys[index] for index in first)), []).append(row)
    return AnyOf(
        [
            AllOf(
                [
                    *(Condition(columns[index], "=", members[0][index]) for index in first),
                    Condition(columns[last], "=", members[0][last])
                    if len(members) == 1 or members[0][last] is None
                    else Condition(columns[last], "in", [row[last] for row in members]),
                ]
            )
            for members in groups.values()
        ]
    )
