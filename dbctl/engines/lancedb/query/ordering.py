"""The order of rows, which the library cannot give: their places are sorted here, by what is told of each beside it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from dbctl.engines.contract import Order, Within
from dbctl.engines.lancedb.values import decoded, family

if TYPE_CHECKING:
    import pyarrow as pa

    from dbctl.engines.lancedb.query.predicates import Filters

    Column: TypeAlias = pa.Array | pa.ChunkedArray

#: What the library calls the place of a row.
ROW = "_rowid"


class Term(NamedTuple):
    """One term of an ordering."""

    expressions: Sequence[str]  #: what is told of each row
    value: Callable[[Sequence[Column]], Column]  #: what is sorted, of that
    descending: bool = False


class Sorted:
    """One ordering of one table; equal rows go by key, and where there is none, as they are stored."""

    def __init__(self, reader: Filters, table: str, order_by: Sequence[Order]) -> None:
        """Look the columns up.

        Raises:
            SchemaLacksError: there is no such column.
        """
        key = [Order([name]) for name in reader.key(table)]
        self._terms = [_term(reader, table, order) for order in (*order_by, *key)]
        self.columns = [order.columns[0] for order in order_by if len(order.columns) == 1]
        self._random = any(order.random for order in order_by)

    def projection(self) -> dict[str, str]:
        """Return what has to be told of each row, by a name of its own."""
        return {
            f"c{at}_{part}": expression
            for at, term in enumerate(self._terms)
            for part, expression in enumerate(term.expressions)
        } or {"c": "1"}

    def places(self, found: pa.Table) -> list[int]:
        """Return the places of rows, sorted; ``found`` has the columns of ``projection``."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self._random:
            places = found.column(ROW).to_pylist()
            random.shuffle(places)
            return list(places)
        columns, keys = {ROW: found.column(ROW)}, []
        for at, term in enumerate(self._terms):
            parts = [found.column(f"c{at}_{part}") for part in range(len(term.expressions))]
            columns[f"s{at}"] = term.value(parts)
            columns[f"n{at}"] = pc.is_null(columns[f"s{at}"]).cast(pa.int8())  # last whichever the direction
            keys += [(f"n{at}", "ascending"), (f"s{at}", "descending" if term.descending else "ascending")]
        table = pa.table(columns)
        order = pc.sort_indices(table, sort_keys=[*keys, (ROW, "ascending")])
        return list(table.column(ROW).take(order).to_pylist())


def _term(reader: Filters, table: str, order: Order) -> Term:
    if order.random:
        return Term([], lambda _parts: None)
    if order.through:
        return _linked(reader, table, order, order.through)
    parts = [_part(reader, table, name, order) for name in order.columns]

    def first(told: Sequence[Column]) -> Column:
        import pyarrow.compute as pc

        rest: Iterator[Column] = iter(told)
        found = [part.value([next(rest) for _ in part.expressions]) for part in parts]
        return found[0] if len(found) == 1 else pc.coalesce(*(_none_for_empty(one) for one in found))

    return Term([one for part in parts for one in part.expressions], first, order.descending)


def _part(reader: Filters, table: str, name: str, order: Order) -> Term:
    from dbctl.engines.lancedb.query.predicates import folded

    column, kind = reader.named(table, name), family(reader.kind(table, name))
    if order.time and kind == "text":
        told = [f"try_cast({column} as timestamp)", f"try_cast({column} as bigint)", column]
        return Term(told, _read_time)
    if order.time:
        return Term([column], _counted_time)
    if order.nocase and kind == "text":
        return Term([folded(column)], _plain)
    return Term([column], _plain)


def _plain(parts: Sequence[Column]) -> Column:
    import pyarrow as pa

    (told,) = parts
    if pa.types.is_boolean(told.type):
        return told.cast(pa.int8())
    return told.cast(pa.string() if pa.types.is_nested(told.type) else decoded(told.type))


def _read_time(parts: Sequence[Column]) -> Column:
    """Return milliseconds of times that are text: what begins like a date is one, and long rows of digits are numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    moment, digits, written = parts
    dated = pc.match_substring_regex(written, "^[0-9]{4}-[0-9]{2}-")
    numbered = pc.match_substring_regex(written, "^[0-9]{9,14}$")
    as_date = pc.if_else(dated, moment.cast(pa.timestamp("ms"), safe=False).cast(pa.int64()), None)
    return pc.coalesce(as_date, pc.if_else(numbered, _milliseconds(digits), None))


def _counted_time(parts: Sequence[Column]) -> Column:
    import pyarrow as pa

    (told,) = parts
    if pa.types.is_temporal(told.type):
        return told
    return _milliseconds(told)


def _milliseconds(numbers: Column) -> Column:
    import pyarrow.compute as pc

    from dbctl.engines.lancedb.query.predicates import SECONDS

    return pc.if_else(pc.less(pc.abs(numbers), SECONDS), pc.multiply(numbers, 1000), numbers)


def _none_for_empty(told: Column) -> Column:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pc.equal(told, ""), None, told) if pa.types.is_string(told.type) else told


def _linked(reader: Filters, table: str, order: Order, link: Within) -> Term:
    """Return the term that sorts rows by the smallest value of what is linked to each."""
    owner = Sorted(reader, link.table, [Order(order.columns, time=order.time, nocase=order.nocase)])
    ranks: dict[object, int] = {}
    for rank, one in enumerate(reader.ranked(link.table, owner, link.to[0], link.where)):
        ranks.setdefault(one, rank)

    def ranked(parts: Sequence[Column]) -> Column:
        import pyarrow as pa

        return pa.array([ranks.get(value) for value in parts[0].to_pylist()], pa.int64())

    return Term([reader.named(table, link.columns[0])], ranked, order.descending)
