"""One row of a search, whole, with all that belongs to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from dbctl.engines.contract import Condition, Order, Where, Within
from dbctl.errors import RowMissingError
from dbctl.model import Row, Value
from dbctl.profiles.model import Detail, DetailShape
from dbctl.services.app import App, hidden, mask
from dbctl.services.search.compiler import Compiler, lacking, links, present
from dbctl.services.search.query_values import checked
from dbctl.services.search.search import named, told


class Whole(Value, frozen=True, kw_only=True):
    """One row with all that belongs to it, under the app's own names."""

    extra: Row


def one(app: App, name: str, key: str) -> Whole:
    """Return the row with this id, or the one that took its place, with its details; secrets are masked.

    Raises:
        RowMissingError: there is none.
    """
    search = named(app, name)
    compiler = Compiler(app.profile, search, app.reader(search.database))
    row = _row(compiler, checked(key, "id"))
    details = {detail.name: _detail(compiler, detail, row) for detail in search.detail}
    made = {fact: _made(alternatives, row, details) for fact, alternatives in search.made.items()}
    shown = mask(row, hidden(app, search.database, compiler.db, [search.table]).get(search.table, ()))
    return Whole(extra={**told(search, shown), **made, **details})


def _row(compiler: Compiler, key: str) -> dict[str, object]:
    """Return the row with this id, whole, following those that took the place of others."""
    search, db = compiler.search, compiler.db
    columns = list(compiler.tables[search.table].columns)
    moved = search.moved
    rows = db.select(search.table, columns, [Condition(search.id, "=", key)], limit=1)
    followed = [key]
    while not rows and moved and moved.table in compiler.tables:
        found = db.select(moved.table, [moved.new], [Condition(moved.old, "=", followed[-1])], limit=1)
        if not found or str(found[0][0]) in followed:
            break
        followed.append(str(found[0][0]))
        rows = db.select(search.table, columns, [Condition(search.id, "=", followed[-1])], limit=1)
    if not rows:
        raise RowMissingError(what=search.name, id=key, target=db.target)
    return dict(zip(columns, rows[0], strict=True))


def _detail(compiler: Compiler, detail: Detail, row: Row) -> list[object]:
    shape = _shape(compiler, detail.shape or [detail])
    if shape is None:
        return []
    if not shape.path:
        lists = present(compiler.tables, compiler.search.table, shape.lists)
        text = next((str(row[name]) for name in lists if row[name]), "")
        return [part.strip() for part in text.split(";") if part.strip()]
    path = links(shape.path)
    if row[path[0].column] is None:  # a link that leads nowhere
        return []
    where: Where = Condition(path[0].to, "=", row[path[0].column])
    for before, link in pairwise(path):
        where = Within((link.to,), before.table, (link.column,), (where,))
    columns = present(compiler.tables, path[-1].table, shape.columns)
    times = compiler.search.times
    order = [
        Order((plain := name.removeprefix("-"),), descending=name.startswith("-"), time=plain in times)
        for name in shape.order
    ]
    rows = compiler.db.select(path[-1].table, columns, [where], order_by=order)
    if len(shape.columns) == 1:
        return [value for (value,) in rows]
    return [told(compiler.search, dict(zip(columns, values, strict=True))) for values in rows]


def _shape(compiler: Compiler, shapes: Sequence[DetailShape]) -> DetailShape | None:
    """Return the first shape of a detail that the live schema has."""
    table = compiler.search.table
    for shape in shapes:
        path = links(shape.path)
        end = path[-1].table if path else table
        columns = [*shape.columns, *(name.removeprefix("-") for name in shape.order), *shape.lists]
        found = present(compiler.tables, end, shape.columns if path else shape.lists)
        if (
            found
            and next(lacking(compiler.tables, table, [], path), None) is None
            and next(lacking(compiler.tables, end, columns, []), None) is None
        ):
            return shape
    return None


def _made(alternatives: Sequence[str], row: Row, details: Mapping[str, Sequence[object]]) -> str | None:
    """Return the first alternative whose first field is there."""
    for alternative in alternatives:
        values = [_field(field, row, details) for field in alternative.split()]
        if values[0]:
            return " ".join(value for value in values if value)
    return None


def _field(field: str, row: Row, details: Mapping[str, Sequence[object]]) -> str:
    detail, _, column = field.rpartition(".")
    first = next(iter(details[detail]), {}) if detail else row
    value = first.get(column) if isinstance(first, Mapping) else first
    return "" if value is None else str(value)
