"""What every SQL engine has in common: conditions and orders become SQL here, and names are quoted only here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from math import isnan
from typing import TYPE_CHECKING

from dbctl.engines.contract import (
    AllOf,
    AnyOf,
    Behind,
    Column,
    Condition,
    Linked,
    Merge,
    Not,
    Order,
    Table,
    Where,
    Within,
)
from dbctl.errors import SchemaLacksError, ValueInvalidError

if TYPE_CHECKING:
    from dbctl.engines.contract import Hit

Row = tuple[object, ...]

#: A limit that is none, where an offset wants one before it.
EVERY_ROW = (1 << 63) - 1


def is_storable(text: str) -> bool:
    """Whether every database takes ``text``: no NUL and no lone surrogate is in it."""
    return "\0" not in text and (text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text))


def ident(name: str) -> str:
    """Quote ``name`` as an identifier of standard SQL; any text but NUL and lone surrogates can be one."""
    if not is_storable(name):
        raise ValueInvalidError(what="name", value=ascii(name), reason="no database can hold it")
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as one that stands in a statement which a person is to run; what dbctl runs has parameters."""
    return "'" + text.replace("'", "''") + "'"


def like_literal(text: str) -> str:
    """Escape ``text`` for LIKE … ESCAPE '!', so that it stands for itself."""
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def columns_of(select: str) -> str:
    """Return SQL that asks for all columns of ``select``, so that it can be nothing but one statement that reads."""
    return f"select * from ({select.strip()}) q"  # noqa: S608 - the profile's own


def counted_columns(select: str, number: int) -> str:
    """Return SQL for the rows of ``select``, which fails unless it has ``number`` columns."""
    names = ", ".join(f"c{at}" for at in range(number))
    return f"with the_statement ({names}) as ({select.strip()}) select * from the_statement"  # noqa: S608 - the profile's own


def merged(columns: Mapping[str, Merge], old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """Return SQL for what each column of a row that is there already becomes, by name; nothing for those that stay."""
    return {
        name: new[name] if becomes == "replace" else f"coalesce({old[name]}, 0) + coalesce({new[name]}, 0)"
        for name, becomes in columns.items()
        if becomes != "keep"
    }


def on_conflict(names: Mapping[str, str], columns: Mapping[str, Merge]) -> str:
    """Return what a merge does with a row that is there already, which it calls ``t0``; ``names`` are quoted."""
    old, new = ({name: f"{of}.{quoted}" for name, quoted in names.items()} for of in ("t0", "excluded"))
    sets = [f"{names[name]} = {value}" for name, value in merged(columns, old, new).items()]
    return f"update set {', '.join(sets)}" if sets else "nothing"


def _behind(where: Behind) -> Where:
    """Return it as comparisons, of which the outermost lets an index find where to begin."""
    column, value = where.key[0], where.values[0]
    larger = Condition(column, ">", value)
    if len(where.key) == 1:
        return larger
    rest = Behind(where.key[1:], where.values[1:])
    return AllOf([Condition(column, ">=", value), AnyOf([larger, rest])])


class Statement:
    """SQL that grows beside its parameters; ``:p0``, ``:p1``… in the order they were added."""

    def __init__(self, table: str = "") -> None:
        self.parameters: dict[str, object] = {}
        self.aliases = {"t0": table}  #: and the table that each stands for; the statement is about the first

    def bind(self, value: object) -> str:
        """Add a parameter and return its place holder.

        Raises:
            ValueInvalidError: it is NaN, which databases would keep as NULL.
        """
        if isinstance(value, float) and isnan(value):
            raise ValueInvalidError(what="number", value="NaN", reason="no database keeps it")
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return f":{name}"

    def alias(self, table: str) -> str:
        """Return an alias for ``table`` that was not used before in this statement."""
        name = f"t{len(self.aliases)}"
        self.aliases[name] = table
        return name


class SqlReader(ABC):
    """The reading half of the contract over SQL; an engine adds how it runs a statement and its few dialects."""

    target: str
    random = "random()"  #: SQL for a number that is another one each time

    @abstractmethod
    def tables(self) -> Mapping[str, Table]: ...

    @abstractmethod
    def _fetch(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        """Run one reading statement and return all its rows."""

    @abstractmethod
    def _briefly(self, sql: str, parameters: Mapping[str, object], within: timedelta) -> list[Row] | None:
        """Do as ``_fetch``, but give up after a time and return None."""

    # Each takes the SQL of a value and the column that it comes from.

    @abstractmethod
    def _nearly_before(self, value: str, column: Column, moment: datetime, statement: Statement) -> str:
        """Return SQL that an index of ``column`` answers, true for every row whose time lies before, and few others."""

    @abstractmethod
    def _milliseconds(self, value: str, column: Column) -> str:
        """Return SQL that reads a stored time, whatever its form, as milliseconds since 1970; NULL where it is none."""

    @abstractmethod
    def _folded(self, value: str, column: Column) -> str:
        """Return SQL that sorts ``value`` without regard to case."""

    @abstractmethod
    def _text_test(self, value: str, column: Column, op: str, statement: Statement, text: str) -> str:
        """Return SQL for ``same``, ``contains`` and ``starts``, without regard to case."""

    @abstractmethod
    def _among(self, value: str, column: Column, statement: Statement, among: Sequence[object]) -> str:
        """Return SQL for "is one of ``among``", the whole set as one parameter."""

    @abstractmethod
    def _is_text(self, column: Column) -> bool:
        """Whether a column may hold text."""

    @abstractmethod
    def _found_at(self, value: str, column: Column, statement: Statement, text: str) -> str:
        """Return SQL for where in ``value`` the text begins that ``_text_test`` says it contains, from 1."""

    def _contains(self, value: str, column: Column, statement: Statement, text: str) -> str:
        """Return SQL for a text that another stands in."""
        return self._text_test(value, column, "contains", statement, text)

    def _comparison(self, value: str, column: Column, op: str, statement: Statement, wanted: object) -> str:
        """Return SQL that compares with a value that is neither None nor a sequence."""
        if isinstance(wanted, datetime):
            return (
                f"{self._milliseconds(value, column)} {op} {statement.bind(round(wanted.timestamp() * 1000))}"
            )
        return f"{value} {op} {statement.bind(wanted)}"

    def _equal(self, value: str, column: Column, other: str, other_column: Column) -> tuple[str, str]:  # noqa: ARG002 - for engines that compare only what has one type
        """Return SQL for two values in the form in which they can be compared with each other."""
        return value, other

    def _grouped(self, value: str, column: Column) -> str:  # noqa: ARG002 - as above
        """Return SQL by which equal values are counted together."""
        return value

    def _text(self, value: str, column: Column) -> str:  # noqa: ARG002 - as above
        """Return SQL for ``value`` as text."""
        return value

    def _sorted(self, value: str, column: Column) -> str:  # noqa: ARG002 - as above
        """Return SQL that sorts ``value``, text by its bytes."""
        return value

    def _comparable(self, value: str, column: Column) -> str:  # noqa: ARG002 - as above
        """Return SQL of which the smallest value can be told."""
        return value

    def _first_told(self, among: Sequence[tuple[str, Column]]) -> str:
        """Return SQL for the first value that is neither NULL nor empty; it sorts by its bytes."""
        return f"coalesce({', '.join(f'nullif({value}, {chr(39) * 2})' for value, _ in among)})"

    def _moment(self, value: str, column: Column) -> str:
        """Return SQL that sorts ``value`` as a time."""
        return self._milliseconds(value, column)

    def select(
        self,
        table: str,
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        order_by: Sequence[Order] = (),
        limit: int | None = None,
        offset: int = 0,
        hold: bool = False,
    ) -> list[Row]:
        statement = Statement(table)
        sql = self._select_sql(statement, table, columns, where, order_by, limit, offset)
        return self._fetch(sql + self._holding(table) if hold else sql, statement.parameters)

    def _holding(self, table: str) -> str:  # noqa: ARG002 - as above
        """Return what ends a SELECT that holds the rows of ``t0``; nothing where the transaction does."""
        return ""

    def count(self, table: str, where: Sequence[Where] = ()) -> int:
        statement = Statement(table)
        sql = f"select count(*) from {self._table(table)} t0{self._where(statement, table, where, 't0')}"  # noqa: S608 - names are checked and quoted
        return int(str(self._fetch(sql, statement.parameters)[0][0]))

    def has(self, table: str, where: Sequence[Where] = (), *, within: timedelta) -> bool | None:
        statement = Statement(table)
        condition = self._where(statement, table, where, "t0")
        match where:
            case [Condition(column=column, op="<" | "<=", value=datetime() as moment)]:
                value, told = self._column(table, column, "t0"), self._described(table, column)
                condition += f" and {self._nearly_before(value, told, moment, statement)}"
        sql = f"select 1 from {self._table(table)} t0{condition} limit 1"  # noqa: S608 - names are checked and quoted
        rows = self._briefly(sql, statement.parameters, within)
        return None if rows is None else bool(rows)

    def tally(self, table: str, column: str, where: Sequence[Where] = ()) -> dict[object, int]:
        statement = Statement(table)
        name = self._column(table, column, "t0")
        told = self._grouped(name, self._described(table, column))
        condition = self._where(statement, table, where, "t0")
        sql = f"select {told}, count(*) from {self._table(table)} t0{condition} group by {told}"  # noqa: S608 - as above
        return {value: int(str(number)) for value, number in self._fetch(sql, statement.parameters)}

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        return self._fetch(sql, parameters)

    def texts(self, table: str) -> Sequence[str]:
        columns = self._checked(table).columns.values()
        return [column.name for column in columns if self._is_text(column)]

    def hits(
        self, table: str, columns: Sequence[str], word: str, *, limit: int, within: timedelta
    ) -> Sequence[Hit] | None:
        from dbctl.engines.contract import BEFORE, BEHIND

        statement, key = Statement(table), self._key(table)
        tests, pieces = [], []
        for name in columns:
            value, column = self._column(table, name, "t0"), self._described(table, name)
            test = self._contains(value, column, statement, word)
            place = self._found_at(value, column, statement, word)
            begin = f"(case when {place} > {BEFORE} then {place} - {BEFORE} else 1 end)"
            length = BEFORE + len(word) + BEHIND
            pieces.append(f"case when {test} then substr({self._text(value, column)}, {begin}, {length}) end")
            tests.append(test)
        told = ", ".join([*(self._column(table, name, "t0") for name in key), *pieces])
        sql = f"select {told} from {self._table(table)} t0 where {' or '.join(tests)} limit {statement.bind(limit)}"  # noqa: S608 - names are checked and quoted
        rows = self._briefly(sql, statement.parameters, within)
        return None if rows is None else [_hit(row, len(key), columns) for row in rows]

    # Building SQL ------------------------------------------------------------------------------------------

    def _select_sql(
        self,
        statement: Statement,
        table: str,
        columns: Sequence[str],
        where: Sequence[Where],
        order_by: Sequence[Order],
        limit: int | None,
        offset: int,
    ) -> str:
        names = ", ".join(self._column(table, column, "t0") for column in columns)
        sql = f"select {names} from {self._table(table)} t0{self._where(statement, table, where, 't0')}"  # noqa: S608 - as above
        if terms := self._ordering(statement, table, order_by):
            sql += " order by " + ", ".join(terms)
        return sql + self._part(statement, limit, offset)

    def _ordering(self, statement: Statement, table: str, order_by: Sequence[Order]) -> list[str]:
        """Return by what rows of ``t0`` are sorted: at last by their key, so that equal rows come in a stable order."""
        terms = [term for order in order_by for term in self._order(statement, table, order, "t0")]
        terms += [
            self._sorted(self._column(table, key, "t0"), self._described(table, key))
            for key in self._key(table)
        ]
        return list(dict.fromkeys(terms))

    @staticmethod
    def _part(statement: Statement, limit: int | None, offset: int) -> str:
        """Return what ends a SELECT of which a part is wanted."""
        sql = ""
        if limit is not None or offset:
            sql = f" limit {statement.bind(EVERY_ROW if limit is None else limit)}"
        if offset:
            sql += f" offset {statement.bind(offset)}"
        return sql

    def _key(self, table: str) -> list[str]:
        return [column.name for column in self._checked(table).columns.values() if column.key]

    def _checked(self, table: str) -> Table:
        found = self.tables().get(table)
        if found is None:
            raise SchemaLacksError(target=self.target, what=f"table {table}", purpose="this command")
        return found

    def _table(self, table: str) -> str:
        return ident(self._checked(table).name)

    def _described(self, table: str, column: str) -> Column:
        found = self._checked(table).columns.get(column)
        if found is None:
            raise SchemaLacksError(
                target=self.target, what=f"column {table}.{column}", purpose="this command"
            )
        return found

    def _column(self, table: str, column: str, alias: str) -> str:
        name = ident(self._described(table, column).name)
        return f"{alias}.{name}" if alias else name

    def _where(self, statement: Statement, table: str, where: Sequence[Where], alias: str) -> str:
        parts = [self._test(statement, table, one, alias) for one in where]
        return " where " + " and ".join(parts) if parts else ""

    def _test(self, statement: Statement, table: str, where: Where, alias: str) -> str:
        match where:
            case Condition():
                return self._compare(statement, table, where, alias)
            case Within():
                return self._within(statement, table, where, alias)
            case Linked():
                inner = statement.alias(where.table)
                link = self._link(where.table, where.to, inner, table, where.column, alias)
                pointing = f"select count(*) from {self._table(where.table)} {inner} where {link}"  # noqa: S608 - as above
                return f"({pointing}) {where.op} {statement.bind(where.number)}"
            case AnyOf() | AllOf():
                word, of_none = (" or ", "1 = 0") if isinstance(where, AnyOf) else (" and ", "1 = 1")
                parts = [self._test(statement, table, one, alias) for one in where.among]
                return f"({word.join(parts)})" if parts else of_none
            case Not():
                return f"({self._test(statement, table, where.where, alias)}) is not true"
            case Behind():
                return self._test(statement, table, _behind(where), alias)

    def _within(self, statement: Statement, table: str, where: Within, alias: str) -> str:
        inner = statement.alias(where.table)
        pairs = [
            self._pair(table, column, alias, where.table, to, inner)
            for column, to in zip(where.columns, where.to, strict=True)
        ]
        left, right = (", ".join(side) for side in zip(*pairs, strict=True))
        condition = self._where(statement, where.table, where.where, inner)
        if len(where.columns) > 1:
            left = f"({left})"
        return f"{left} in (select {right} from {self._table(where.table)} {inner}{condition})"  # noqa: S608 - as above

    def _pair(self, table: str, column: str, alias: str, other: str, to: str, inner: str) -> tuple[str, str]:
        """Return a column of ``table`` and one of ``other`` as they can be compared."""
        return self._equal(
            self._column(table, column, alias),
            self._described(table, column),
            self._column(other, to, inner),
            self._described(other, to),
        )

    def _link(self, table: str, column: str, alias: str, other: str, to: str, inner: str) -> str:
        return " = ".join(self._pair(table, column, alias, other, to, inner))

    def _compare(self, statement: Statement, table: str, condition: Condition, alias: str) -> str:
        value, column = self._column(table, condition.column, alias), self._described(table, condition.column)
        op, wanted = condition.op, condition.value
        if wanted is None and op in ("=", "!="):
            return f"{value} is {'not ' if op == '!=' else ''}null"
        if op == "in":
            if not isinstance(wanted, Sequence) or isinstance(wanted, str):
                raise TypeError("op 'in' takes a sequence")
            return self._among(value, column, statement, wanted)
        if op == "element":
            parted = f"(';' || replace({self._text(value, column)}, '; ', ';') || ';')"
            sought = f";{str(wanted).strip().replace('; ', ';')};"
            return self._text_test(parted, column, "contains", statement, sought)
        if op in ("same", "contains", "starts"):
            return self._text_test(value, column, op, statement, str(wanted))
        return self._comparison(value, column, op, statement, wanted)

    def _order(self, statement: Statement, table: str, order: Order, alias: str) -> Iterator[str]:
        if order.random:
            yield self.random
            return
        owner, inner = (
            (order.through.table, statement.alias(order.through.table)) if order.through else (table, alias)
        )
        named = [(self._column(owner, name, inner), self._described(owner, name)) for name in order.columns]
        value, column = named[0]
        if order.time:
            times = [self._milliseconds(*one) for one in named]
            value = self._moment(value, column) if len(named) == 1 else f"coalesce({', '.join(times)})"
        elif len(named) > 1:
            value = self._first_told(named)
        if order.through:
            link = order.through
            inside = self._where(statement, link.table, link.where, inner)
            here = self._link(link.table, link.to[0], inner, table, link.columns[0], alias)
            least = value if order.time or len(named) > 1 else self._comparable(value, column)
            value = (
                f"(select min({least}) from {self._table(link.table)} {inner}"  # noqa: S608 - as above
                f"{inside}{' and' if inside else ' where'} {here})"
            )
        unknown = order.time or order.through or len(named) > 1  # several are all NULL when all are empty
        if unknown or column.nullable:
            yield f"({value} is null)"
        if order.nocase and not order.time:
            value = self._folded(value, column)
        elif not order.time and len(named) == 1:
            value = self._sorted(value, column)
        yield f"{value}{' desc' if order.descending else ''}"


def _hit(row: Row, keys: int, columns: Sequence[str]) -> Hit:
    from dbctl.engines.contract import Hit

    found = zip(columns, row[keys:], strict=True)
    return Hit(row[:keys], {name: str(piece) for name, piece in found if piece is not None})
