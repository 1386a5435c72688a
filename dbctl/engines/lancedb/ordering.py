"""Sort rows, which the library cannot do: select sort expressions for each row, and sort the row IDs in memory."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from dbctl.engines.contract.database import Condition, InSubquery, Order, Where
from dbctl.engines.lancedb.catalog import Catalog
from dbctl.engines.lancedb.rows import MIN_MILLISECONDS, ROW_ID, RowReader, fold_case
from dbctl.engines.lancedb.values import decoded_type, type_family

if TYPE_CHECKING:
    import pyarrow as pa

    Column: TypeAlias = pa.Array | pa.ChunkedArray


class Term(NamedTuple):
    """One term of an ordering."""

    expressions: Sequence[str]  #: selected for each row
    sort_values: Callable[[Sequence[Column]], Column]  #: computes the sort values from the expressions
    descending: bool = False


def sort_row_ids(rows: RowReader, table: str, order_by: Sequence[Order], where: Sequence[Where]) -> list[int]:
    """Return the IDs of the rows that meet all conditions; equal rows are sorted by key, then in stored order.

    Raises:
        SchemaMismatchError: a column does not exist.
    """
    key = [Order([name]) for name in rows.catalog.primary_key(table)]
    terms = [_term(rows, table, order) for order in (*order_by, *key)]
    expressions = {
        f"c{index}_{part}": expression
        for index, term in enumerate(terms)
        for part, expression in enumerate(term.expressions)
    }
    with rows.catalog.translate_errors():
        batch = rows.scan(table, expressions or {"c": "1"}, where).read_all()
        if any(order.random for order in order_by):
            row_ids = batch.column(ROW_ID).to_pylist()
            random.shuffle(row_ids)
            return list(row_ids)
        return _sort(batch, terms)


def _sort(batch: pa.Table, terms: Sequence[Term]) -> list[int]:
    import pyarrow as pa
    import pyarrow.compute as pc

    columns, keys = {ROW_ID: batch.column(ROW_ID)}, []
    for index, term in enumerate(terms):
        values = term.sort_values([batch.column(f"c{index}_{part}") for part in range(len(term.expressions))])
        # null is last in both directions
        columns |= {f"s{index}": values, f"n{index}": pc.is_null(values).cast(pa.int8())}
        direction = "descending" if term.descending else "ascending"
        keys += [(f"n{index}", "ascending"), (f"s{index}", direction)]
    order = pc.sort_indices(pa.table(columns), sort_keys=[*keys, (ROW_ID, "ascending")])
    return list(columns[ROW_ID].take(order).to_pylist())


def _term(rows: RowReader, table: str, order: Order) -> Term:
    if order.random:
        return Term([], lambda _parts: None)
    if order.through:
        return _linked_term(rows, table, order, order.through)
    parts = [_column_term(rows.catalog, table, name, order) for name in order.columns]

    def sort_values(columns: Sequence[Column]) -> Column:
        import pyarrow.compute as pc

        remaining: Iterator[Column] = iter(columns)
        values = [part.sort_values([next(remaining) for _ in part.expressions]) for part in parts]
        return values[0] if len(values) == 1 else pc.coalesce(*(_empty_to_null(value) for value in values))

    return Term(
        [expression for part in parts for expression in part.expressions], sort_values, order.descending
    )


def _column_term(catalog: Catalog, table: str, name: str, order: Order) -> Term:
    column = catalog.column_expression(table, name)
    column_family = type_family(catalog.column_type(table, name))
    if order.time and column_family == "text":
        expressions = [f"try_cast({column} as timestamp)", f"try_cast({column} as bigint)", column]
        return Term(expressions, _parse_times)
    if order.time:
        return Term([column], _numeric_times)
    if order.nocase and column_family == "text":
        return Term([fold_case(column)], _plain_values)
    return Term([column], _plain_values)


def _plain_values(parts: Sequence[Column]) -> Column:
    import pyarrow as pa

    (values,) = parts
    if pa.types.is_boolean(values.type):
        return values.cast(pa.int8())
    return values.cast(pa.string() if pa.types.is_nested(values.type) else decoded_type(values.type))


def _parse_times(parts: Sequence[Column]) -> Column:
    """Return the milliseconds of text times: ISO dates, or 9 to 14 digits."""
    import pyarrow as pa
    import pyarrow.compute as pc

    timestamp, digits, texts = parts
    is_date = pc.match_substring_regex(texts, "^[0-9]{4}-[0-9]{2}-")
    is_number = pc.match_substring_regex(texts, "^[0-9]{9,14}$")
    date_milliseconds = pc.if_else(
        is_date, timestamp.cast(pa.timestamp("ms"), safe=False).cast(pa.int64()), None
    )
    return pc.coalesce(date_milliseconds, pc.if_else(is_number, _to_milliseconds(digits), None))


def _numeric_times(parts: Sequence[Column]) -> Column:
    import pyarrow as pa

    (numbers,) = parts
    if pa.types.is_temporal(numbers.type):
        return numbers
    return _to_milliseconds(numbers)


def _to_milliseconds(numbers: Column) -> Column:
    import pyarrow.compute as pc

    return pc.if_else(pc.less(pc.abs(numbers), MIN_MILLISECONDS), pc.multiply(numbers, 1000), numbers)


def _empty_to_null(values: Column) -> Column:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pc.equal(values, ""), None, values) if pa.types.is_string(values.type) else values


def _linked_term(rows: RowReader, table: str, order: Order, link: InSubquery) -> Term:
    """Return the term that sorts rows by the smallest value among their linked rows, without null."""
    linked_order = Order(order.columns, time=order.time, nocase=order.nocase)
    conditions = [Condition(name, "!=", None) for name in order.columns] if len(order.columns) == 1 else []
    row_ids = sort_row_ids(rows, link.table, [linked_order], [*link.where, *conditions])
    ranks: dict[object, int] = {}
    for rank, (key,) in enumerate(rows.read_by_id(link.table, [link.target_columns[0]], row_ids)):
        ranks.setdefault(key, rank)

    def sort_values(parts: Sequence[Column]) -> Column:
        import pyarrow as pa

        return pa.array([ranks.get(value) for value in parts[0].to_pylist()], pa.int64())

    return Term([rows.catalog.column_expression(table, link.columns[0])], sort_values, order.descending)
