"""Sort rows by expressions: select their values for each row, and sort the row IDs in memory.

The library sorts only by stored columns, neither by expressions nor by the row ID.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from dbctl.engines.contract.database import Condition, InSubquery, Order, Where
from dbctl.errors.usage import NotSupportedError
from dbctl.extensions.lancedb.catalog import Catalog
from dbctl.extensions.lancedb.rows import ROW_ID, RowReader, express_milliseconds, fold_case
from dbctl.extensions.lancedb.values import decoded_type, type_family

if TYPE_CHECKING:
    import pyarrow as pa


class Term(NamedTuple):
    expression: str  #: selected for each row
    descending: bool
    ranks: Mapping[object, int] | None = None  #: by value of the expression; None: sort by the value itself


def sort_row_ids(rows: RowReader, table: str, order_by: Sequence[Order], where: Sequence[Where]) -> list[int]:
    """Return the IDs of the rows that meet all conditions; equal rows are sorted by key, then in stored order.

    Raises:
        SchemaMismatchError: a column does not exist.
    """
    is_random = any(order.random for order in order_by)
    key = [Order([name]) for name in rows.catalog.primary_key(table)]
    terms = [] if is_random else [_term(rows, table, order) for order in (*order_by, *key)]
    expressions = {f"c{index}": term.expression for index, term in enumerate(terms)}
    with rows.catalog.translate_errors():
        batch = rows.scan(table, expressions or {"c": "1"}, where).read_all()
        if is_random:
            row_ids = list(batch.column(ROW_ID).to_pylist())
            random.shuffle(row_ids)
            return row_ids
        return _sort(batch, terms)


def _sort(batch: pa.Table, terms: Sequence[Term]) -> list[int]:
    import pyarrow as pa
    import pyarrow.compute as pc

    columns, keys = {ROW_ID: batch.column(ROW_ID)}, []
    for index, term in enumerate(terms):
        values = _sort_values(batch.column(f"c{index}"), term.ranks)
        # null is last in both directions
        columns |= {f"s{index}": values, f"n{index}": pc.is_null(values).cast(pa.int8())}
        direction = "descending" if term.descending else "ascending"
        keys += [(f"n{index}", "ascending"), (f"s{index}", direction)]
    order = pc.sort_indices(pa.table(columns), sort_keys=[*keys, (ROW_ID, "ascending")])
    return list(columns[ROW_ID].take(order).to_pylist())


def _sort_values(values: pa.ChunkedArray, ranks: Mapping[object, int] | None) -> pa.Array | pa.ChunkedArray:
    """Return the values, or their ranks, in a type that can be sorted."""
    import pyarrow as pa

    if ranks is not None:
        return pa.array([ranks.get(value) for value in values.to_pylist()], pa.int64())
    plain = values.cast(decoded_type(values.type))
    if pa.types.is_boolean(plain.type):
        return plain.cast(pa.int8())
    if pa.types.is_float16(plain.type):
        return plain.cast(pa.float32())
    return plain.cast(pa.large_string()) if type_family(plain.type) == "text" else plain


def _term(rows: RowReader, table: str, order: Order) -> Term:
    if order.through:
        return _linked_term(rows, table, order, order.through)
    expressions = [_express(rows.catalog, table, name, order) for name in order.columns]
    has_several = len(expressions) > 1
    return Term(f"coalesce({', '.join(expressions)})" if has_several else expressions[0], order.descending)


def _express(catalog: Catalog, table: str, name: str, order: Order) -> str:
    column, column_type = catalog.column_expression(table, name), catalog.column_type(table, name)
    column_family = type_family(column_type)
    if column_family in {"vector", "nested"}:
        raise NotSupportedError(
            feature=f"sorting by {name}, of type {column_type}",
            subject="LanceDB",
            hint="Sort by another column.",
        )
    if order.time and column_family in {"text", "integer", "float"}:
        return express_milliseconds(column, column_type)
    if column_family != "text":
        return column
    text = fold_case(column) if order.nocase else column
    return f"nullif({text}, '')" if len(order.columns) > 1 else text


def _linked_term(rows: RowReader, table: str, order: Order, link: InSubquery) -> Term:
    """Return the term that sorts rows by the smallest value among their linked rows, without null."""
    linked_order = Order(order.columns, time=order.time, nocase=order.nocase)
    conditions = [Condition(name, "!=", None) for name in order.columns] if len(order.columns) == 1 else []
    row_ids = sort_row_ids(rows, link.table, [linked_order], [*link.where, *conditions])
    ranks: dict[object, int] = {}
    for rank, (key,) in enumerate(rows.read_by_id(link.table, [link.target_columns[0]], row_ids)):
        ranks.setdefault(key, rank)
    return Term(rows.catalog.column_expression(table, link.columns[0]), order.descending, ranks)
