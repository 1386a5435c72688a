"""The readers of engines that are not yet composed of parts; remove it with the last of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from dbctl.engines.contract import (
    AllOf,
    AnyOf,
    Column,
    Condition,
    InSubquery,
    KeysetCursor,
    Not,
    Order,
    PartOwner,
    ReferenceCount,
    Table,
    Where,
)
from dbctl.engines.sql.query_builder import expand_keyset
from dbctl.engines.sql.statement import NO_LIMIT, Row, Statement, ident
from dbctl.errors import SchemaMismatchError

if TYPE_CHECKING:
    from dbctl.engines.contract import TextMatch


class SqlReader(PartOwner, ABC):
    """The reading part of the contract in SQL; each engine adds execution and its dialect."""

    target: str
    random = "random()"  #: SQL for a random number

    @abstractmethod
    def tables(self) -> Mapping[str, Table]: ...

    @abstractmethod
    def _fetch(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        """Run one reading statement and return all its rows."""

    @abstractmethod
    def _fetch_within(
        self, sql: str, parameters: Mapping[str, object], timeout: timedelta
    ) -> list[Row] | None:
        """Run ``_fetch``, or return None after a time limit."""

    # Parameters: the SQL of a value, and the column of the value.

    @abstractmethod
    def _roughly_before(self, value: str, column: Column, timestamp: datetime, statement: Statement) -> str:
        """Return SQL that can use an index and is true for all rows with a time before ``timestamp``, and few others."""

    @abstractmethod
    def _to_milliseconds(self, value: str, column: Column) -> str:
        """Return SQL that reads a stored time of any form as milliseconds since 1970; NULL if it is not a time."""

    @abstractmethod
    def _fold_case(self, value: str, column: Column) -> str:
        """Return SQL that sorts ``value`` case-insensitively."""

    @abstractmethod
    def _text_test(self, value: str, column: Column, op: str, statement: Statement, text: str) -> str:
        """Return SQL for the case-insensitive operators ``same``, ``contains`` and ``starts``."""

    @abstractmethod
    def _is_among(self, value: str, column: Column, statement: Statement, values: Sequence[object]) -> str:
        """Return SQL for membership in ``values``, with the whole set as one parameter."""

    @abstractmethod
    def _is_text(self, column: Column) -> bool:
        """Whether a column may contain text."""

    @abstractmethod
    def _text_position(self, value: str, column: Column, statement: Statement, text: str) -> str:
        """Return SQL for the position of a text in ``value``, from 1."""

    def _contains(self, value: str, column: Column, statement: Statement, text: str) -> str:
        """Return SQL for "``value`` contains ``text``"."""
        return self._text_test(value, column, "contains", statement, text)

    def _comparison(self, value: str, column: Column, op: str, statement: Statement, operand: object) -> str:
        """Return SQL for a comparison with an operand that is neither None nor a sequence."""
        if isinstance(operand, datetime):
            return f"{self._to_milliseconds(value, column)} {op} {statement.bind(round(operand.timestamp() * 1000))}"
        return f"{value} {op} {statement.bind(operand)}"

    def _equal_operands(
        self,
        value: str,
        column: Column,  # noqa: ARG002 - some engines compare only values of one type
        other: str,
        other_column: Column,  # noqa: ARG002 - some engines compare only values of one type
    ) -> tuple[str, str]:
        """Return SQL for two values in a form in which they can be compared."""
        return value, other

    def _group_expression(self, value: str, column: Column) -> str:  # noqa: ARG002 - used by overrides
        """Return SQL for GROUP BY, equal for equal values."""
        return value

    def _as_text(self, value: str, column: Column) -> str:  # noqa: ARG002 - used by overrides
        """Return SQL for ``value`` as text."""
        return value

    def _sort_expression(self, value: str, column: Column) -> str:  # noqa: ARG002 - used by overrides
        """Return SQL that sorts ``value``, texts by their bytes."""
        return value

    def _min_operand(self, value: str, column: Column) -> str:  # noqa: ARG002 - used by overrides
        """Return SQL that can be an operand of ``min``."""
        return value

    def _first_nonempty(self, operands: Sequence[tuple[str, Column]]) -> str:
        """Return SQL for the first operand that is neither NULL nor empty, sorted by its bytes."""
        return f"coalesce({', '.join(f'nullif({value}, {chr(39) * 2})' for value, _ in operands)})"

    def _sort_time(self, value: str, column: Column) -> str:
        """Return SQL that sorts ``value`` as a time."""
        return self._to_milliseconds(value, column)

    def select(
        self,
        table: str,
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        order_by: Sequence[Order] = (),
        limit: int | None = None,
        offset: int = 0,
        for_update: bool = False,
    ) -> list[Row]:
        statement = Statement(table)
        sql = self._build_select(statement, table, columns, where, order_by, limit, offset)
        return self._fetch(sql + self._lock_clause(table) if for_update else sql, statement.parameters)

    def _lock_clause(self, table: str) -> str:  # noqa: ARG002 - used by overrides
        """Return the clause that locks the rows of ``t0``; empty if the transaction locks them anyway."""
        return ""

    def count(self, table: str, where: Sequence[Where] = ()) -> int:
        statement = Statement(table)
        sql = f"select count(*) from {self._quote_table(table)} t0{self._where_clause(statement, table, where, 't0')}"  # noqa: S608 - names are checked and quoted
        return int(str(self._fetch(sql, statement.parameters)[0][0]))

    def exists(self, table: str, where: Sequence[Where] = (), *, timeout: timedelta) -> bool | None:
        statement = Statement(table)
        condition = self._where_clause(statement, table, where, "t0")
        match where:
            case [Condition(column=column, op="<" | "<=", value=datetime() as timestamp)]:
                value, column_definition = (
                    self._quote_column(table, column, "t0"),
                    self._require_column(table, column),
                )
                condition += f" and {self._roughly_before(value, column_definition, timestamp, statement)}"
        sql = f"select 1 from {self._quote_table(table)} t0{condition} limit 1"  # noqa: S608 - names are checked and quoted
        rows = self._fetch_within(sql, statement.parameters, timeout)
        return None if rows is None else bool(rows)

    def count_by(self, table: str, column: str, where: Sequence[Where] = ()) -> dict[object, int]:
        statement = Statement(table)
        name = self._quote_column(table, column, "t0")
        group = self._group_expression(name, self._require_column(table, column))
        condition = self._where_clause(statement, table, where, "t0")
        sql = f"select {group}, count(*) from {self._quote_table(table)} t0{condition} group by {group}"  # noqa: S608 - names are quoted
        return {value: int(str(count)) for value, count in self._fetch(sql, statement.parameters)}

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        return self._fetch(sql, parameters)

    def text_columns(self, table: str) -> Sequence[str]:
        columns = self._require_table(table).columns.values()
        return [column.name for column in columns if self._is_text(column)]

    def scan_text(
        self, table: str, columns: Sequence[str], word: str, *, limit: int, timeout: timedelta
    ) -> Sequence[TextMatch] | None:
        from dbctl.engines.contract import CHARACTERS_AFTER, CHARACTERS_BEFORE

        statement, key = Statement(table), self._primary_key(table)
        tests, excerpts = [], []
        for name in columns:
            value, column = self._quote_column(table, name, "t0"), self._require_column(table, name)
            test = self._contains(value, column, statement, word)
            position = self._text_position(value, column, statement, word)
            begin = f"(case when {position} > {CHARACTERS_BEFORE} then {position} - {CHARACTERS_BEFORE} else 1 end)"
            length = CHARACTERS_BEFORE + len(word) + CHARACTERS_AFTER
            excerpts.append(
                f"case when {test} then substr({self._as_text(value, column)}, {begin}, {length}) end"
            )
            tests.append(test)
        selected = ", ".join([*(self._quote_column(table, name, "t0") for name in key), *excerpts])
        sql = f"select {selected} from {self._quote_table(table)} t0 where {' or '.join(tests)} limit {statement.bind(limit)}"  # noqa: S608 - names are checked and quoted
        rows = self._fetch_within(sql, statement.parameters, timeout)
        return None if rows is None else [_read_match(row, len(key), columns) for row in rows]

    # SQL ---------------------------------------------------------------------------------------------------

    def _build_select(
        self,
        statement: Statement,
        table: str,
        columns: Sequence[str],
        where: Sequence[Where],
        order_by: Sequence[Order],
        limit: int | None,
        offset: int,
    ) -> str:
        names = ", ".join(self._quote_column(table, column, "t0") for column in columns)
        sql = f"select {names} from {self._quote_table(table)} t0{self._where_clause(statement, table, where, 't0')}"  # noqa: S608 - names are quoted
        if terms := self._order_terms(statement, table, order_by):
            sql += " order by " + ", ".join(terms)
        return sql + self._limit_clause(statement, limit, offset)

    def _order_terms(self, statement: Statement, table: str, order_by: Sequence[Order]) -> list[str]:
        """Return the sort terms for rows of ``t0``, ending with the key, so that the order is stable."""
        terms = [term for order in order_by for term in self._build_order(statement, table, order, "t0")]
        terms += [
            self._sort_expression(self._quote_column(table, key, "t0"), self._require_column(table, key))
            for key in self._primary_key(table)
        ]
        return list(dict.fromkeys(terms))

    @staticmethod
    def _limit_clause(statement: Statement, limit: int | None, offset: int) -> str:
        """Return LIMIT and OFFSET of a SELECT."""
        sql = ""
        if limit is not None or offset:
            sql = f" limit {statement.bind(NO_LIMIT if limit is None else limit)}"
        if offset:
            sql += f" offset {statement.bind(offset)}"
        return sql

    def _primary_key(self, table: str) -> list[str]:
        return [
            column.name for column in self._require_table(table).columns.values() if column.is_primary_key
        ]

    def _require_table(self, table: str) -> Table:
        result = self.tables().get(table)
        if result is None:
            raise SchemaMismatchError(target=self.target, missing=f"table {table}", purpose="this command")
        return result

    def _quote_table(self, table: str) -> str:
        return ident(self._require_table(table).name)

    def _require_column(self, table: str, column: str) -> Column:
        result = self._require_table(table).columns.get(column)
        if result is None:
            raise SchemaMismatchError(
                target=self.target, missing=f"column {table}.{column}", purpose="this command"
            )
        return result

    def _quote_column(self, table: str, column: str, alias: str) -> str:
        name = ident(self._require_column(table, column).name)
        return f"{alias}.{name}" if alias else name

    def _where_clause(self, statement: Statement, table: str, where: Sequence[Where], alias: str) -> str:
        parts = [self._build_condition(statement, table, condition, alias) for condition in where]
        return " where " + " and ".join(parts) if parts else ""

    def _build_condition(self, statement: Statement, table: str, where: Where, alias: str) -> str:
        match where:
            case Condition():
                return self._build_comparison(statement, table, where, alias)
            case InSubquery():
                return self._build_subquery(statement, table, where, alias)
            case ReferenceCount():
                inner = statement.add_alias(where.table)
                link = self._join_condition(
                    where.table, where.referring_column, inner, table, where.column, alias
                )
                count_sql = f"select count(*) from {self._quote_table(where.table)} {inner} where {link}"  # noqa: S608 - names are quoted
                return f"({count_sql}) {where.op} {statement.bind(where.count)}"
            case AnyOf() | AllOf():
                word, empty_result = (" or ", "1 = 0") if isinstance(where, AnyOf) else (" and ", "1 = 1")
                parts = [
                    self._build_condition(statement, table, condition, alias)
                    for condition in where.conditions
                ]
                return f"({word.join(parts)})" if parts else empty_result
            case Not():
                return f"({self._build_condition(statement, table, where.condition, alias)}) is not true"
            case KeysetCursor():
                return self._build_condition(statement, table, expand_keyset(where), alias)

    def _build_subquery(self, statement: Statement, table: str, where: InSubquery, alias: str) -> str:
        inner = statement.add_alias(where.table)
        pairs = [
            self._comparable_pair(table, column, alias, where.table, to, inner)
            for column, to in zip(where.columns, where.target_columns, strict=True)
        ]
        left, right = (", ".join(side) for side in zip(*pairs, strict=True))
        condition = self._where_clause(statement, where.table, where.where, inner)
        if len(where.columns) > 1:
            left = f"({left})"
        return f"{left} in (select {right} from {self._quote_table(where.table)} {inner}{condition})"  # noqa: S608 - names are quoted

    def _comparable_pair(
        self, table: str, column: str, alias: str, other: str, to: str, inner: str
    ) -> tuple[str, str]:
        """Return a column of ``table`` and one of ``other`` in comparable form."""
        return self._equal_operands(
            self._quote_column(table, column, alias),
            self._require_column(table, column),
            self._quote_column(other, to, inner),
            self._require_column(other, to),
        )

    def _join_condition(self, table: str, column: str, alias: str, other: str, to: str, inner: str) -> str:
        return " = ".join(self._comparable_pair(table, column, alias, other, to, inner))

    def _build_comparison(self, statement: Statement, table: str, condition: Condition, alias: str) -> str:
        value, column = (
            self._quote_column(table, condition.column, alias),
            self._require_column(table, condition.column),
        )
        op, operand = condition.op, condition.value
        if operand is None and op in ("=", "!="):
            return f"{value} is {'not ' if op == '!=' else ''}null"
        if op == "in":
            if not isinstance(operand, Sequence) or isinstance(operand, str):
                raise TypeError("op 'in' requires a sequence")
            return self._is_among(value, column, statement, operand)
        if op == "element":
            padded = f"(';' || replace({self._as_text(value, column)}, '; ', ';') || ';')"
            search_text = f";{str(operand).strip().replace('; ', ';')};"
            return self._text_test(padded, column, "contains", statement, search_text)
        if op in ("same", "contains", "starts"):
            return self._text_test(value, column, op, statement, str(operand))
        return self._comparison(value, column, op, statement, operand)

    def _build_order(self, statement: Statement, table: str, order: Order, alias: str) -> Iterator[str]:
        if order.random:
            yield self.random
            return
        owner_table, inner = (
            (order.through.table, statement.add_alias(order.through.table))
            if order.through
            else (table, alias)
        )
        operands = [
            (self._quote_column(owner_table, name, inner), self._require_column(owner_table, name))
            for name in order.columns
        ]
        value, column = operands[0]
        if order.time:
            times = [self._to_milliseconds(*operand) for operand in operands]
            value = self._sort_time(value, column) if len(operands) == 1 else f"coalesce({', '.join(times)})"
        elif len(operands) > 1:
            value = self._first_nonempty(operands)
        if order.through:
            link = order.through
            inside = self._where_clause(statement, link.table, link.where, inner)
            join = self._join_condition(
                link.table, link.target_columns[0], inner, table, link.columns[0], alias
            )
            smallest = value if order.time or len(operands) > 1 else self._min_operand(value, column)
            value = (
                f"(select min({smallest}) from {self._quote_table(link.table)} {inner}"  # noqa: S608 - names are quoted
                f"{inside}{' and' if inside else ' where'} {join})"
            )
        # With several columns, the value is NULL if all are empty.
        unknown = order.time or order.through or len(operands) > 1
        if unknown or column.nullable:
            yield f"({value} is null)"
        if order.nocase and not order.time:
            value = self._fold_case(value, column)
        elif not order.time and len(operands) == 1:
            value = self._sort_expression(value, column)
        yield f"{value}{' desc' if order.descending else ''}"


def _read_match(row: Row, key_count: int, columns: Sequence[str]) -> TextMatch:
    from dbctl.engines.contract import TextMatch

    pairs = zip(columns, row[key_count:], strict=True)
    return TextMatch(row[:key_count], {name: str(excerpt) for name, excerpt in pairs if excerpt is not None})
